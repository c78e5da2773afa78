"""When a budget will be spent: the middle of three paces, and no answer where there is too little to go by."""

from datetime import timedelta
from typing import Any

import pytest

from analytics.domain.budgets import Span
from analytics.domain.forecast import Forecast, budget_forecast
from tests.factories import NOON

DAY = timedelta(days=1)
TEN_DAYS_IN = Span(NOON - 10 * DAY, NOON + 20 * DAY)


def forecast(**fields: Any) -> Forecast | None:
    given = {
        "spent_nano": 1000, "limit_nano": 2000, "span": TEN_DAYS_IN, "now": NOON, "recent": (100, 100),
    }  # fmt: skip
    return budget_forecast(**(given | fields))


def test_a_steady_pace_is_carried_on() -> None:
    assert forecast() == Forecast(pace_nano=100, runs_out_at=NOON + 10 * DAY, at_end_nano=3000)


def test_what_lasts_for_the_period_does_not_run_out_in_it() -> None:
    assert forecast(limit_nano=3001) == Forecast(pace_nano=100, runs_out_at=None, at_end_nano=3000)


def test_the_first_moment_of_the_next_period_is_not_in_this_one() -> None:
    found = forecast(limit_nano=3000)
    assert found is not None
    assert found.runs_out_at is None


@pytest.mark.parametrize(
    ("fields", "pace"),
    [
        ({"recent": (100_000, 100)}, 100),  # one busy day
        ({"recent": (0, 100)}, 100),  # one idle day
        ({"recent": (400, 200)}, 200),  # it has become busier for good
        ({"spent_nano": 0, "recent": (300, 100)}, 100),
        ({"recent": ()}, 100),  # the period alone
        ({"recent": (200,)}, 150),  # of two, what is between them
    ],
)
def test_no_single_figure_carries_the_forecast_away(fields: dict[str, Any], pace: int) -> None:
    found = forecast(**fields)
    assert found is not None
    assert found.pace_nano == pace


def test_the_first_minutes_of_a_period_say_nothing_about_the_rest() -> None:
    just_begun = Span(NOON - timedelta(minutes=59), NOON + DAY)
    known = forecast(span=just_begun, recent=())
    assert known is None
    later = Span(NOON - timedelta(hours=1), NOON + DAY)
    assert forecast(span=later, recent=()) is not None


def test_without_use_there_is_no_forecast() -> None:
    assert forecast(spent_nano=0, recent=(0, 0)) is None
    assert forecast(spent_nano=500, recent=(0, 0)) is None


def test_what_is_spent_already_runs_out_now() -> None:
    for spent in (2000, 9000):
        found = forecast(spent_nano=spent)
        assert found is not None
        assert found.runs_out_at == NOON


@pytest.mark.parametrize(("limit", "days"), [(1000 + 100 * 366, 366), (1000 + 100 * 367, None), (10**18, None)])
def test_a_total_is_looked_at_a_year_ahead(limit: int, days: int | None) -> None:
    found = forecast(span=Span(NOON - 10 * DAY, None), limit_nano=limit)
    assert found is not None
    assert found.runs_out_at == (None if days is None else NOON + days * DAY)
    assert found.at_end_nano is None
