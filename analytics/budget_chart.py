"""The geometry of a budget's chart: what was spent by each day (or hour), and how far from the limit that is. Pure.

As in `charts`: widths are percentages of the plot, heights are pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from analytics.charts import MAX_LABELS, Slot, Tick, nice_step

HEIGHT = 220


@dataclass(frozen=True, slots=True)
class Bar:
    """`before` is what was spent until the slot began, `spent` within it; both are None in the future."""

    slot: Slot
    label: str
    is_minor_label: bool
    x: float
    width: float
    middle: float
    before: int | None
    spent: int | None
    spent_y: float
    spent_height: float
    before_y: float
    before_height: float

    @property
    def so_far(self) -> int:
        return (self.before or 0) + (self.spent or 0)


@dataclass(frozen=True, slots=True)
class BudgetChart:
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    limit_y: float
    step: float
    height: int = HEIGHT


def budget_chart(slots: Sequence[Slot], spent: Mapping[str, int], *, before: int, limit: int, past: int) -> BudgetChart:
    """A bar for each of the first `past` slots, growing from `before` on, with a line at `limit` (nano-USD)."""
    total = before + sum(spent.get(slot.key, 0) for slot in slots[:past])
    highest = max(total, limit) / 1e9 or 1.0
    step = nice_step(highest)
    top = step * ceil(highest / step - 1e-9)
    bars = []
    for index, slot in enumerate(slots):
        value = spent.get(slot.key, 0)
        bars.append(_bar(slot, index, len(slots), value if index < past else None, before, top))
        before += value
    ticks = tuple(Tick(step * n * 1e9, _y(step * n, top)) for n in range(round(top / step) + 1))
    return BudgetChart(tuple(bars), ticks, _y(limit / 1e9, top), step * 1e9)


def _bar(slot: Slot, index: int, count: int, spent: int | None, before: int, top: float) -> Bar:
    width = 100 / count
    every = ceil(count / MAX_LABELS)
    base, until = _y(before / 1e9, top), _y((before + (spent or 0)) / 1e9, top)
    return Bar(
        slot=slot,
        label=slot.label if index % every == 0 else "",
        is_minor_label=index % (every * 3) != 0,
        x=round(width * (index + 0.12), 3),
        width=round(width * 0.76, 3),
        middle=round(width * (index + 0.5), 3),
        before=None if spent is None else before,
        spent=spent,
        spent_y=until,
        spent_height=round(base - until, 2),
        before_y=base,
        before_height=0.0 if spent is None else round(HEIGHT - base, 2),
    )


def _y(value: float, top: float) -> float:
    return round(HEIGHT * (1 - value / top), 2)
