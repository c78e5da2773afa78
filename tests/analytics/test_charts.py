"""The geometry of the stacked bars: nothing is lost, nothing overlaps, and every value is on the axis."""

from itertools import pairwise
from math import isclose

import pytest

from analytics.charts import MAX_LABELS, MAX_SERIES, PLOT_HEIGHT, Slot, StackedBars, nice_step, stacked_bars


def slots(count: int) -> list[Slot]:
    return [Slot(str(n), f"{n}.", f"day {n}") for n in range(count)]


def chart(values: dict[str, dict[str, float]], count: int = 3) -> StackedBars:
    return stacked_bars(slots(count), values, {key: key.title() for key in values})


@pytest.mark.parametrize(
    ("top", "step"),
    [
        (5, 1),
        (1, 0.2),
        (10, 2),
        (12, 2.5),
        (25, 5),
        (26, 10),
        (0.3, 0.1),
        (999, 200),
        (1000, 200),
        (1001, 250),
        (7e9, 2e9),
    ],
)
def test_a_step_is_a_round_figure(top: float, step: float) -> None:
    assert isclose(nice_step(top), step)


@pytest.mark.parametrize("top", [1, 3, 7, 9.99, 10.01, 123_456_789, 5e-9, 1e18])
def test_the_axis_ends_above_the_greatest_value_by_less_than_a_step(top: float) -> None:
    made = chart({"a": {"0": top}})
    last = made.ticks[-1].value
    assert top <= last * (1 + 1e-9)
    assert last - top < made.step
    assert 2 <= len(made.ticks) <= 7
    assert (made.ticks[0].y, made.ticks[-1].y) == (PLOT_HEIGHT, 0)


@pytest.mark.parametrize("count", [1, 2, 24, 30, 31, 366])
def test_bars_stand_side_by_side_from_edge_to_edge(count: int) -> None:
    columns = chart({"a": {"0": 1.0}}, count).columns
    assert len(columns) == count
    for column in columns:
        assert column.slot < column.x < column.middle < column.x + column.width
        assert column.x + column.width < column.slot + column.slot_width + 0.01
    assert all(left.x + left.width < right.x for left, right in pairwise(columns))
    assert abs(columns[-1].slot + columns[-1].slot_width - 100) < 0.2
    labels = [column for column in columns if column.label]
    assert len(labels) <= MAX_LABELS
    assert columns[-1].label == f"{count - 1}."


def test_segments_touch_and_add_up_to_their_column() -> None:
    made = chart({"a": {"0": 3.0, "1": 1.0}, "b": {"0": 2.0}, "c": {"0": 1.0, "2": 0.0}})
    first, second, third = made.columns
    assert [segment.series.key for segment in first.segments] == ["a", "b", "c"]
    assert first.total == sum(segment.value for segment in first.segments) == 6.0
    for lower, upper in pairwise(first.segments):
        assert upper.y + upper.height <= lower.y + 0.01
        assert lower.y - (upper.y + upper.height) <= 1.01
    assert (second.total, third.total, third.segments) == (1.0, 0.0, ())


def test_colours_go_by_size_and_then_by_name() -> None:
    made = chart({"zoe": {"0": 5.0}, "bea": {"0": 2.0}, "ann": {"1": 2.0}})
    assert [(one.label, one.tone, one.total) for one in made.legend] == [
        ("Zoe", 1, 5.0),
        ("Ann", 2, 2.0),
        ("Bea", 3, 2.0),
    ]


@pytest.mark.parametrize("count", [1, MAX_SERIES, MAX_SERIES + 1, 40])
def test_nothing_is_lost_however_many_there_are(count: int) -> None:
    made = chart({f"team {n}": {"0": float(n + 1)} for n in range(count)})
    assert len(made.legend) == min(count, MAX_SERIES)
    assert sum(one.total for one in made.legend) == made.columns[0].total == count * (count + 1) / 2
    assert {one.tone for one in made.legend} == set(range(1, min(count, MAX_SERIES) + 1))
    others = [one for one in made.legend if one.key == "others"]
    assert [one.label for one in others] == ([f"{count - MAX_SERIES + 1} others"] if count > MAX_SERIES else [])


def test_a_value_of_a_slot_that_is_not_shown_is_on_no_bar() -> None:
    made = chart({"a": {"0": 1.0, "99": 50.0}})
    assert [column.total for column in made.columns] == [1.0, 0.0, 0.0]


def test_nothing_at_all_is_an_axis_without_bars() -> None:
    made = chart({})
    assert made.legend == ()
    assert [column.segments for column in made.columns] == [(), (), ()]
    assert [tick.value for tick in made.ticks] == [0.0, 1.0]


def test_what_has_no_price_yet_is_in_the_legend_and_not_on_a_bar() -> None:
    made = chart({"a": {"0": 0.0}})
    assert [one.label for one in made.legend] == ["A"]
    assert made.columns[0].segments == ()
