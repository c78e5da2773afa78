"""The chart of a budget: bars that grow towards the limit, and nothing where the future is."""

import pytest

from analytics.budget_chart import HEIGHT, BudgetChart, budget_chart
from analytics.charts import Slot

USD = 10**9


def chart(
    spent: list[int], *, before: int = 0, limit: int = 10, past: int | None = None, slots: int = 0
) -> BudgetChart:
    places = [Slot(str(n), f"label {n}", f"title {n}") for n in range(slots or len(spent))]
    values = {str(n): value * USD for n, value in enumerate(spent)}
    return budget_chart(
        places, values, before=before * USD, limit=limit * USD, past=len(spent) if past is None else past
    )


def test_each_bar_stands_on_what_was_spent_before_it() -> None:
    bars = chart([2, 0, 3], before=1).bars
    assert [(bar.before, bar.spent, bar.so_far) for bar in bars] == [
        (1 * USD, 2 * USD, 3 * USD), (3 * USD, 0, 3 * USD), (3 * USD, 3 * USD, 6 * USD),
    ]  # fmt: skip
    for bar in bars:
        assert bar.spent_y + bar.spent_height == pytest.approx(bar.before_y)
        assert bar.before_y + bar.before_height == pytest.approx(HEIGHT)


def test_the_limit_is_within_the_plot_whether_it_is_passed_or_far_away() -> None:
    far, passed = chart([1], limit=1000), chart([30], limit=10)
    assert far.limit_y == 0
    assert far.bars[0].spent_height == pytest.approx(HEIGHT / 1000, abs=0.01)
    assert 0 < passed.limit_y < HEIGHT
    assert passed.bars[0].spent_y >= 0


def test_the_future_is_empty_and_keeps_its_place() -> None:
    bars = chart([1, 1], past=2, slots=4).bars
    assert [bar.spent for bar in bars] == [USD, USD, None, None]
    assert bars[3].before_height == bars[3].spent_height == 0
    assert [bar.middle for bar in bars] == [12.5, 37.5, 62.5, 87.5]


def test_nothing_of_nothing_has_an_axis_all_the_same() -> None:
    empty = chart([0], limit=0)
    assert empty.limit_y == HEIGHT
    assert empty.ticks[0].value == 0
    assert empty.ticks[-1].y == 0


def test_of_many_slots_some_are_labelled() -> None:
    labels = [bar.label for bar in chart([1] * 31).bars if bar.label]
    assert labels[:3] == ["label 0", "label 3", "label 6"]
    assert len(labels) <= 12
