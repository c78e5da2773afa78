"""What tokens cost: exact integer money inside (nano-USD), `Decimal` USD at the edges.

A rate is nano-USD per million tokens. A sum is rounded up once, to the whole nano-USD, so that no request is billed
below what it cost. An unknown rate makes the cost unknown (`None`), never 0.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any

from providers.domain.types import Price, Usage

_PER = 1_000_000  # tokens that a rate is for
_NANO_DIGITS = 9


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
    for _, tokens, rate in _buckets(usage, price):
        if not tokens:
            continue
        if rate is None:
            return None
        total += tokens * rate
    return _round_up(total)


def bound_nano(input_tokens: int, output_tokens: int, price: Price) -> int | None:
    """The most that such a request can cost: all input at the dearest input rate. None when a rate is unknown."""
    if (input_tokens and price.input is None) or (output_tokens and price.output is None):
        return None
    dearest = max(price.input or 0, price.cache_read or 0, price.cache_write or 0)
    return _round_up(price.per_request * _PER + input_tokens * dearest + output_tokens * (price.output or 0))


def cost_lines(usage: Usage, price: Price) -> list[CostLine]:
    """The bill by bucket, empty buckets left out. Lines are rounded so that they add up to `cost_nano` exactly."""
    lines: list[CostLine] = []
    exact = billed = 0
    for label, tokens, rate in _buckets(usage, price):
        if not tokens:
            continue
        if rate is None:
            lines.append(CostLine(label, tokens, None, None))
            continue
        exact += tokens * rate
        lines.append(CostLine(label, tokens, usd(rate), _round_up(exact) - billed))
        billed = _round_up(exact)
    if price.per_request:
        lines.append(CostLine("Request", None, usd(price.per_request), price.per_request))
    return lines


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


def price_snapshot(price: Price) -> dict[str, Any]:
    """The rates as JSON values, for a record that must outlive the price row."""
    return {
        "id": price.id,
        "input": price.input,
        "output": price.output,
        "cache_read": price.cache_read,
        "cache_write": price.cache_write,
        "per_request": price.per_request,
    }


def price_from_snapshot(snapshot: dict[str, Any]) -> Price:
    """The inverse of `price_snapshot`, for showing or re-rating an old record."""
    return Price(**snapshot)


def _buckets(usage: Usage, price: Price) -> tuple[tuple[str, int, int | None], ...]:
    """Label, tokens and rate of every bucket. Where a vendor has no cache rates, its cache costs what input costs."""
    cache_read = price.input if price.cache_read is None else price.cache_read
    cache_write = price.input if price.cache_write is None else price.cache_write
    return (
        ("Input", usage.input_tokens, price.input),
        ("Cache read", usage.cache_read_input_tokens, cache_read),
        ("Cache write", usage.cache_creation_input_tokens, cache_write),
        ("Output", usage.output_tokens, price.output),
    )


def _round_up(millionths: int) -> int:
    return -(-millionths // _PER)
