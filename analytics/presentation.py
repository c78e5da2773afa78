"""How figures read on a page: money, tokens, times, shares, always with their unit. Pure: values in, text out.

`UNKNOWN` stands where there is nothing to show, never a 0 that was not measured.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

UNKNOWN = "–"
UNPRICED = "unpriced"
NANO = Decimal(1_000_000_000)
NBSP = "\N{NO-BREAK SPACE}"
CENT = Decimal("0.01")


def usd(nano: int) -> Decimal:
    return Decimal(nano) / NANO


def money(nano: int | None) -> str:
    """Nano-USD as dollars: two decimals, four below a cent. None is a price that nobody knows."""
    if nano is None:
        return UNPRICED
    amount, sign = abs(usd(nano)), "−" if nano < 0 else ""
    if 0 < amount < Decimal("0.00005"):
        return f"{sign}<$0.0001"
    places = Decimal("0.0001") if 0 < amount < CENT else CENT
    return f"{sign}${amount.quantize(places, ROUND_HALF_EVEN):,}"


def exact_money(nano: int | None) -> str:
    """All nine decimals that are kept, so that the lines of a bill stand under each other."""
    return UNPRICED if nano is None else f"{'−' if nano < 0 else ''}${abs(usd(nano)):,.9f}"


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def tokens(value: int | None) -> str:
    """Three significant digits at least: 812, 35.7 k, 35.7 M, 1.2 B."""
    if value is None:
        return UNKNOWN
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        # 999,950 would round to 1,000.0 k
        if value >= size * 0.99995 and value >= 1000:
            return f"{value / size:,.1f}{NBSP}{unit}"
    return str(value)


def duration(ms: float | None) -> str:
    """Milliseconds below a second, then seconds, then minutes and seconds."""
    if ms is None:
        return UNKNOWN
    if ms < 10:
        return f"{ms:.1f}{NBSP}ms"
    if ms < 999.5:
        return f"{ms:.0f}{NBSP}ms"
    if ms < 59_995:
        return f"{ms / 1000:.2f}{NBSP}s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes}{NBSP}min {seconds}{NBSP}s"


def percent(share: float | None) -> str:
    """A share of one: 0.0283 is 2.8 %. What is not zero never reads as zero, and what is not all never as 100 %."""
    if share is None:
        return UNKNOWN
    value = share * 100
    if 0 < value < 0.1:
        return f"<0.1{NBSP}%"
    if 99.9 < value < 100:
        return f">99.9{NBSP}%"
    return f"{value:.0f}{NBSP}%" if value in {0, 100} or value >= 1000 else f"{value:.1f}{NBSP}%"


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def elapsed(then: datetime | None, now: datetime) -> str:
    """How long ago, in the one unit that matters; a moment in the future (two clocks) reads as now."""
    if then is None:
        return "never"
    seconds = int((now - then).total_seconds())
    if seconds < 5:
        return "just now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size}{NBSP}{unit} ago"
    return f"{seconds}{NBSP}s ago"


Tone = Literal["", "worse", "better"]
NOTABLE = 0.05  # a smaller relative change gets no colour


@dataclass(frozen=True, slots=True)
class Change:
    """Against the period before. `tone` is worse or better where that can be said, else empty."""

    text: str
    tone: Tone = ""


def change(now: float | None, before: float | None, *, less_is_better: bool | None = None) -> Change | None:
    """The relative change; None when there is nothing to compare with."""
    if now is None or not before:
        return None
    relative = (now - before) / before
    if abs(relative) < 0.0005:
        return Change("unchanged")
    is_notable = less_is_better is not None and abs(relative) >= NOTABLE
    return Change(_signed(relative, percent(abs(relative))), _tone(relative, less_is_better) if is_notable else "")


def change_of_share(now: float, before: float) -> Change:
    """The change of an error rate, in percentage points: a percentage of a percentage misleads."""
    points = (now - before) * 100
    if abs(points) < 0.05:
        return Change("unchanged")
    return Change(_signed(points, f"{abs(points):.1f}{NBSP}pp"), _tone(points, True) if abs(points) >= 0.5 else "")


def _signed(value: float, text: str) -> str:
    return f"{'+' if value > 0 else '−'}{text}"


def _tone(difference: float, less_is_better: bool | None) -> Tone:
    return "better" if (difference < 0) is less_is_better else "worse"
