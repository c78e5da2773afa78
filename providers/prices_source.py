"""Dated vendor prices out of the genai-prices package: the one place that knows it.

Only the data of the installed version is read; the package's background updater is never started, so a price changes
when the package is upgraded and at no other time. Long-context tiers are left out: the base rate is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)  # "always": where the list knows no beginning


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens; None is unknown, 0 is free."""

    input_usd: Decimal | None
    output_usd: Decimal | None
    cache_read_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class DatedRates:
    effective_from: datetime
    rates: Rates


PriceList = Callable[[str, str], list[DatedRates]]


def listed_prices(prices_id: str, model: str) -> list[DatedRates]:
    """What the vendor `prices_id` asks for `model`, oldest first, later dates included; empty when not known."""
    vendor = next((provider for provider in get_snapshot().providers if provider.id == prices_id), None)
    listed = vendor.find_model(model) if vendor else None
    if listed is None:
        return []
    if isinstance(listed.prices, ModelPrice):
        dated = {EPOCH: _rates(listed.prices)}
    else:
        # The first condition holds before all others; off-peak hours (no date) cannot be told apart later: left out.
        dated = {EPOCH: _rates(listed.prices[0].prices)} if listed.prices else {}
        for price in listed.prices[1:]:
            if isinstance(price.constraint, StartDateConstraint):
                dated[datetime.combine(price.constraint.start_date, time(), UTC)] = _rates(price.prices)
    return _changes(dated)


def _changes(dated: dict[datetime, Rates]) -> list[DatedRates]:
    """In order, without the dates at which none of our rates moved, and nothing when nothing is known."""
    found: list[DatedRates] = []
    last = Rates(None, None)
    for start, rates in sorted(dated.items()):
        if rates != last:
            found.append(DatedRates(start, rates))
        last = rates
    return found


def _rates(price: ModelPrice) -> Rates:
    def usd(unit: str) -> Decimal | None:
        value = getattr(price, unit, None)
        base = value.base if isinstance(value, TieredPrices) else value
        return base if isinstance(base, Decimal) else None

    return Rates(usd("input_mtok"), usd("output_mtok"), usd("cache_read_mtok"), usd("cache_write_mtok"))
