"""What tokens cost: exact integer money inside (nano-USD), `Decimal` USD at the edges.

A rate is nano-USD per million tokens. A sum is rounded up once, to the whole nano-USD, so that no request is billed
below what it cost. An unknown rate makes the cost unknown (`None`), never 0, where it is needed.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation, localcontext
from typing import Any

from providers.domain.answer import Usage
from providers.domain.types import Price, PriceTier

_PER = 1_000_000  # tokens that a rate is for
_NANO_DIGITS = 9
_MOST_USD = 10**8  # per million tokens: what the columns of a price hold


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of a bill. `tokens` is None for the fee per request; `rate_usd` is USD per million tokens, or that fee.

    `rate_usd` and `cost_nano` are None when the rate is unknown.
    """

    label: str
    tokens: int | None
    rate_usd: Decimal | None
    cost_nano: int | None


def cost_nano(usage: Usage, price: Price) -> int | None:
    """The exact cost, rounded up; None when a bucket that has tokens has no known rate."""
    total = price.per_request * _PER
    for _, tokens, rate in _buckets(usage, rates_for(price, usage.all_input_tokens)):
        if not tokens:
            continue
        if rate is None:
            return None
        total += tokens * rate
    return _round_up(total)


def bound_nano(input_tokens: int, output_tokens: int, price: Price) -> int | None:
    """The most that a request of at most so many tokens can cost, in whichever tier and bucket it ends up.

    None when a rate that it may need is unknown.
    """
    most = 0
    reachable = _reachable(input_tokens, price) if price.tiers else ((price, input_tokens),)
    for rates, inputs in reachable:
        if (inputs and rates.input is None) or (output_tokens and rates.output is None):
            return None
        most = max(most, inputs * _dearest_input(rates) + output_tokens * (rates.output or 0))
    return _round_up(price.per_request * _PER + most)


def most_output_tokens(nano: int, input_tokens: int, price: Price, *, most: int) -> int:
    """The longest answer, up to `most`, whose `bound_nano` is within `nano`; 0 when none is, or a rate is unknown."""
    for rates, inputs in _reachable(input_tokens, price):
        if (inputs and rates.input is None) or rates.output is None:
            return 0
        left = (nano - price.per_request) * _PER - inputs * _dearest_input(rates)
        if left < 0:
            return 0
        if rates.output:
            most = min(most, left // rates.output)
    return most


def cost_lines(usage: Usage, price: Price) -> list[CostLine]:
    """The bill by bucket, empty buckets left out. Lines are rounded so that they add up to `cost_nano` exactly."""
    lines: list[CostLine] = []
    exact = billed = 0
    rates = rates_for(price, usage.all_input_tokens)
    tier = f", above {rates.above:,} tokens in" if isinstance(rates, PriceTier) else ""
    for name, tokens, rate in _buckets(usage, rates):
        if not tokens:
            continue
        label = f"{name}{tier}"
        if rate is None:
            lines.append(CostLine(label, tokens, None, None))
            continue
        exact += tokens * rate
        lines.append(CostLine(label, tokens, usd(rate), _round_up(exact) - billed))
        billed = _round_up(exact)
    if price.per_request:
        lines.append(CostLine("Request", None, usd(price.per_request), price.per_request))
    return lines


def rates_for(price: Price, input_tokens: int) -> Price | PriceTier:
    """The rates of a request with so many input tokens in all buckets together: its dearest tier, or the price's own.

    The whole request is billed at them, the output and the tokens below the threshold too. Source: OpenAI, model pages
    of GPT-5.4 and later: "prompts with >272K input tokens are priced at 2x input and 1.5x output for the full request"
    (2026-09); Google, "Gemini Developer API pricing": "prompts > 200k tokens" (2026-11), and "Vertex AI pricing": "all
    tokens (input and output) are charged at long context rates"; Anthropic, "Claude Haiku 5.5": "for prompts over
    100,000 tokens" (2026-10).
    """
    for tier in reversed(price.tiers):
        if input_tokens > tier.above:
            return tier
    return price


def usd(nano: int) -> Decimal:
    """Nano-USD as USD, exactly."""
    with localcontext(prec=100):
        return Decimal(nano).scaleb(-_NANO_DIGITS)


def rate_from_usd(usd_per_million: Decimal | None) -> int | None:
    """USD per million tokens as a rate; what is finer than a nano-USD is rounded up.

    :raises ValueError: below zero, or not a number.
    """
    if usd_per_million is None:
        return None
    if not usd_per_million.is_finite() or usd_per_million < 0:
        raise ValueError(f"not a price: {usd_per_million}")
    with localcontext(prec=100):
        return int(usd_per_million.scaleb(_NANO_DIGITS).to_integral_value(ROUND_CEILING))


# A tier as a price row keeps it: tokens, then decimal texts in USD per million or null.
TIER_RATES = ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "cache_write_1h_usd")
TIER_FIELDS = ("above", *TIER_RATES)


def tier_from_row(row: dict[str, Any]) -> PriceTier:
    """One checked tier of a price row."""
    rates = (None if row.get(name) is None else Decimal(row[name]) for name in TIER_RATES)
    return PriceTier(row["above"], *map(rate_from_usd, rates))


def complaint_about_tiers(rows: object) -> str:
    """What is wrong with the tiers of a price row, in words for people; empty when nothing is."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "Tiers are a list of lines."
    last = 0
    for row in rows:
        above = row.get("above")
        if unknown := sorted(row.keys() - set(TIER_FIELDS)):
            return f"A tier has no “{unknown[0]}”."
        if not isinstance(above, int) or isinstance(above, bool) or above < 1:
            return "Say above how many input tokens a tier begins: a whole number, at least 1."
        if above <= last:
            return f"Tiers go up: {above:,} comes after {last:,}."
        for name in TIER_RATES:
            if not _is_rate(row.get(name)):
                return f"Above {above:,} tokens: “{row[name]}” is no price. Give USD per 1M tokens, or leave it empty."
        last = above
    return ""


def _is_rate(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and 0 <= Decimal(value) < _MOST_USD
    except InvalidOperation:  # no number, or NaN
        return False


def price_snapshot(price: Price) -> dict[str, Any]:
    """The rates as JSON values, for a record that must outlive the price row. What few prices have is left out."""
    snapshot = {
        "id": price.id,
        "input": price.input,
        "output": price.output,
        "cache_read": price.cache_read,
        "cache_write": price.cache_write,
        "per_request": price.per_request,
    }
    if price.cache_write_1h is not None:
        snapshot["cache_write_1h"] = price.cache_write_1h
    return snapshot if not price.tiers else snapshot | {"tiers": [asdict(tier) for tier in price.tiers]}


def price_from_snapshot(snapshot: dict[str, Any]) -> Price:
    """The inverse of `price_snapshot`, for showing or re-rating an old record."""
    tiers = tuple(PriceTier(**tier) for tier in snapshot.get("tiers", ()))
    return Price(**{**snapshot, "tiers": tiers})


def _buckets(usage: Usage, rates: Price | PriceTier) -> tuple[tuple[str, int, int | None], ...]:
    """Name, tokens and rate of every bucket."""
    cache_read = rates.input if rates.cache_read is None else rates.cache_read
    cache_write = rates.input if rates.cache_write is None else rates.cache_write
    cache_write_1h = cache_write if rates.cache_write_1h is None else rates.cache_write_1h
    for_an_hour = min(usage.cache_creation_1h_input_tokens, usage.cache_creation_input_tokens)
    return (
        ("Input", usage.input_tokens, rates.input),
        ("Cache read", usage.cache_read_input_tokens, cache_read),
        ("Cache write", usage.cache_creation_input_tokens - for_an_hour, cache_write),
        ("Cache write for 1 hour", for_an_hour, cache_write_1h),
        ("Output", usage.output_tokens, rates.output),
    )


def _reachable(input_tokens: int, price: Price) -> Iterator[tuple[Price | PriceTier, int]]:
    """The rates that a request of at most so many input tokens may be billed at, with the most of them at each."""
    rates: Price | PriceTier = price
    for tier in price.tiers:
        yield rates, min(input_tokens, tier.above)
        if input_tokens <= tier.above:
            return
        rates = tier
    yield rates, input_tokens


def _dearest_input(rates: Price | PriceTier) -> int:
    return max(rates.input or 0, rates.cache_read or 0, rates.cache_write or 0, rates.cache_write_1h or 0)


def _round_up(millionths: int) -> int:
    return -(-millionths // _PER)
