"""The geometry of a stacked bar chart, drawn as SVG by its template: no script, follows the theme, prints.

Widths are percentages of the plot, heights are pixels, so that a plot of any width stays sharp. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

PLOT_HEIGHT = 260
MAX_SERIES = 8
MAX_LABELS = 12


@dataclass(frozen=True, slots=True)
class Slot:
    """A place on the time axis: `key` is what its values are found by, `label` is short, `title` is for the tooltip."""

    key: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Series:
    """`tone` is 1 to MAX_SERIES, the colour; `key` is what the values are found by."""

    key: str
    label: str
    tone: int
    total: float


@dataclass(frozen=True, slots=True)
class Segment:
    series: Series
    value: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """`x` and `width` are the bar's, `middle` the label's place, all in percent. `label` is empty when left out.

    `values` are those of the legend's series, zeros too.
    """

    title: str
    label: str
    is_minor_label: bool
    x: float
    width: float
    middle: float
    slot: float
    slot_width: float
    total: float
    values: tuple[float, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    value: float
    y: float


@dataclass(frozen=True, slots=True)
class StackedBars:
    columns: tuple[Column, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[Series, ...]
    step: float
    height: int = PLOT_HEIGHT


def nice_step(top: float, steps: int = 5) -> float:
    """The 1, 2, 2.5 or 5 times a power of ten that divides 0..top into about `steps` parts."""
    rough = top / steps
    power = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.9999)


def stacked_bars(
    slots: Sequence[Slot], values: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]
) -> StackedBars:
    """A bar per slot, a segment per series of `values` (series -> slot -> value), the greatest series at the bottom.

    `titles` names the series. What does not fit into MAX_SERIES colours is summed up as "Others".
    """
    series, merged = _series(values, titles)
    stacks = [tuple(merged[one.key].get(slot.key, 0.0) for one in series) for slot in slots]
    greatest = max(map(sum, stacks), default=0.0)
    step = nice_step(greatest) if greatest > 0 else 1.0
    top = step * max(1, ceil(greatest / step - 1e-9))
    columns = tuple(
        _column(slot, index, len(slots), stack, tuple(_segments(series, stack, top)))
        for index, (slot, stack) in enumerate(zip(slots, stacks, strict=True))
    )
    ticks = tuple(Tick(step * n, round(PLOT_HEIGHT * (1 - step * n / top), 2)) for n in range(round(top / step) + 1))
    return StackedBars(columns, ticks, tuple(series), step)


def _column(slot: Slot, index: int, count: int, values: tuple[float, ...], segments: tuple[Segment, ...]) -> Column:
    width = 100 / count
    every = max(1, ceil(count / MAX_LABELS))
    from_last = count - 1 - index  # the last slot always has its label
    return Column(
        title=slot.title,
        label=slot.label if from_last % every == 0 else "",
        is_minor_label=from_last % (every * 3) != 0,
        x=round(width * (index + 0.16), 3),
        width=round(width * 0.68, 3),
        middle=round(width * (index + 0.5), 3),
        slot=round(width * index, 3),
        slot_width=round(width, 3),
        total=sum(values),
        values=values,
        segments=segments,
    )


def _series(
    values: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]
) -> tuple[list[Series], dict[str, Mapping[str, float]]]:
    ranked = sorted(values, key=lambda key: (-sum(values[key].values()), titles[key]))
    kept = ranked if len(ranked) <= MAX_SERIES else ranked[: MAX_SERIES - 1]
    merged: dict[str, Mapping[str, float]] = {key: values[key] for key in kept}
    series = [Series(key, titles[key], tone, sum(values[key].values())) for tone, key in enumerate(kept, 1)]
    if rest := ranked[len(kept) :]:
        others: dict[str, float] = {}
        for key in rest:
            for name, value in values[key].items():
                others[name] = others.get(name, 0.0) + value
        merged["others"] = others
        series.append(Series("others", f"{len(rest)} others", MAX_SERIES, sum(others.values())))
    return series, merged


def _segments(series: Sequence[Series], values: Sequence[float], top: float) -> list[Segment]:
    segments, base = [], 0.0
    for one, value in zip(series, values, strict=True):
        if value <= 0:
            continue
        upper = PLOT_HEIGHT * (1 - (base + value) / top)
        lower = PLOT_HEIGHT * (1 - base / top)
        gap = 1.0 if base and lower - upper > 3 else 0.0  # a hairline between neighbours, never instead of a value
        segments.append(Segment(one, value, round(upper, 2), round(lower - upper - gap, 2)))
        base += value
    return segments
