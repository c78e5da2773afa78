"""Dated vendor prices out of the genai-prices package: the one place that knows it.

Only the data of the installed version is read; the package's background updater is never started, so a price changes
when the package is upgraded and at no other time. Its tiers are ours: above a number of input tokens, all buckets
together, the whole request is billed at other rates (genai-prices 0.2, `TieredPrices`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices

_UNITS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")  # as in `Rates`
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)  # "always": where the list knows no beginning


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens; None is unknown, 0 is free."""

    input_usd: Decimal | None
    output_usd: Decimal | None
    cache_read_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None
    cache_write_1h_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a model costs: `tiers` has the rates of longer prompts, each with what the prompt is above, in order."""

    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()


@dataclass(frozen=True, slots=True)
class DatedTerms:
    effective_from: datetime
    terms: Terms


PriceList = Callable[[str, str], list[DatedTerms]]


def listed_prices(prices_id: str, model: str) -> list[DatedTerms]:
    """What the vendor `prices_id` asks for `model`, oldest first, later dates included; empty when not known."""
    vendor = next((provider for provider in get_snapshot().providers if provider.id == prices_id), None)
    listed = vendor.find_model(model) if vendor else None
    if listed is None:
        return []
    if isinstance(listed.prices, ModelPrice):
        dated = {EPOCH: _terms(listed.prices)}
    else:
        # The first condition holds before all others; off-peak hours (no date) cannot be told apart later: left out.
        dated = {EPOCH: _terms(listed.prices[0].prices)} if listed.prices else {}
        for price in listed.prices[1:]:
            if isinstance(price.constraint, StartDateConstraint):
                dated[datetime.combine(price.constraint.start_date, time(), UTC)] = _terms(price.prices)
    return _changes(dated)


def listed_context_window(prices_id: str, model: str) -> int | None:
    """Tokens of prompt and answer together, as the price list has it; None when not known."""
    vendor = next((provider for provider in get_snapshot().providers if provider.id == prices_id), None)
    listed = vendor.find_model(model) if vendor else None
    return listed.context_window if listed else None


def _changes(dated: dict[datetime, Terms]) -> list[DatedTerms]:
    """In order, without the dates at which none of our rates moved, and nothing when nothing is known."""
    found: list[DatedTerms] = []
    last = Terms(Rates(None, None))
    for start, terms in sorted(dated.items()):
        if terms != last:
            found.append(DatedTerms(start, terms))
        last = terms
    return found


def _terms(price: ModelPrice) -> Terms:
    values = [getattr(price, unit, None) for unit in _UNITS]
    starts = {tier.start for value in values if isinstance(value, TieredPrices) for tier in value.tiers}
    tiers = ((start, Rates(*(_usd(value, start) for value in values))) for start in sorted(starts))
    return Terms(Rates(*(_usd(value, 0) for value in values)), tuple(tiers))


def _usd(value: object, above: int) -> Decimal | None:
    """A rate of the prompts longer than `above`; one without tiers is the same for all."""
    if isinstance(value, TieredPrices):
        value = next((tier.price for tier in reversed(value.tiers) if tier.start <= above), value.base)
    return value if isinstance(value, Decimal) else None
