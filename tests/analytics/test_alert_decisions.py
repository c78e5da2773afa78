"""When people are told, decided over figures alone: every rule at its edges."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from analytics.domain.alerts import (
    PARAMETERS,
    error_rate,
    forecast_counts,
    hours_before,
    parameter_problem,
    retry_after_s,
    spend_anomaly,
    thresholds_passed,
)

USD = 10**9
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
FIRST, APRIL = NOON.replace(day=1, hour=0), NOON.replace(month=4, day=1, hour=0)
PERCENTS = [50, 80, 100]


@pytest.mark.parametrize(
    ("spent", "limit", "passed"),
    [
        (0, 100, ()),
        (49, 100, ()),
        (50, 100, (50,)),
        (799, 1000, (50,)),
        (8, 10, (50, 80)),
        (10**18 - 1, 10**18, (50, 80)),
        (10**18, 10**18, (50, 80, 100)),
        (5000, 10, (50, 80, 100)),
        (1, 3, ()),
        (2, 3, (50,)),
        (0, 0, ()),
        (5, 0, ()),
    ],
)
def test_a_threshold_is_passed_exactly_when_it_is_reached(spent: int, limit: int, passed: tuple[int, ...]) -> None:
    assert thresholds_passed(spent_nano=spent, limit_nano=limit, percents=PERCENTS) == passed


@pytest.mark.parametrize(
    ("hours", "spent", "counts"), [(5.9, 50, False), (6, 50, True), (6, 19, False), (6, 20, True), (100, 0, False)]
)
def test_a_forecast_needs_hours_of_data_and_some_spend(hours: float, spent: int, counts: bool) -> None:
    parameters = {"after_hours": 6, "from_percent": 20}
    now = FIRST + timedelta(hours=hours)
    found = forecast_counts(spent_nano=spent, limit_nano=100, begins_at=FIRST, now=now, parameters=parameters)
    assert found is counts


ANOMALY = {"deviations": 5, "minimum_usd": 5, "weeks": 4}
STEADY = [10 * USD, 11 * USD, 9 * USD, 10 * USD, 12 * USD, 8 * USD]


@pytest.mark.parametrize(
    ("spent_usd", "history", "is_told"),
    [
        (17, STEADY, False),  # 10 + 5 x 1.48 x 1 = 17.4
        (18, STEADY, True),
        (4.99, [0] * 8, False),  # new spend, but less than the least that is told
        (5.01, [0] * 8, True),
        (14, [10 * USD] * 8, False),  # all alike: a tenth of it counts as its spread
        (15.01, [10 * USD] * 8, True),
        (1000, STEADY[:3], False),  # three weeks are too few
        (1000, [], False),
        (18, [*STEADY, 5000 * USD], True),  # one strange week does not hide the next
        (0, STEADY, False),
    ],
)
def test_spend_is_unusual_far_above_the_median_only(spent_usd: float, history: list[int], is_told: bool) -> None:
    found = spend_anomaly(int(spent_usd * USD), history, ANOMALY)
    assert (found is not None) is is_told


def test_an_anomaly_says_what_had_been_usual() -> None:
    found = spend_anomaly(100 * USD, STEADY, ANOMALY)
    assert found is not None
    assert found.usual_nano == 10 * USD
    assert found.limit_nano == pytest.approx(17.413 * USD)


def test_the_same_hour_of_the_week_is_looked_at_for_eight_weeks() -> None:
    hours = hours_before(NOON)
    assert len(hours) == 8
    assert hours[0] == NOON - timedelta(days=7)
    assert {(hour.weekday(), hour.hour) for hour in hours} == {(NOON.weekday(), 12)}


@pytest.mark.parametrize(
    ("attempts", "failed", "found"),
    [
        (19, 19, None),  # too few to tell
        (20, 5, False),  # 25 %: not above, and not over either
        (20, 6, True),
        (20, 4, None),  # 20 %: over
        (100, 21, False),
        (1000, 0, None),
    ],
)
def test_an_error_rate_opens_above_its_threshold_and_is_over_well_below(
    attempts: int, failed: int, found: bool | None
) -> None:
    rate = error_rate(attempts=attempts, failed=failed, parameters={"percent": 25, "attempts": 20})
    assert (rate.opens if rate else None) is found


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [(1, 11.25, 18.75), (2, 22.5, 37.5), (5, 180, 300), (11, 5400, 9000), (99, 5400, 9000)],
)
def test_pauses_double_up_to_two_hours_and_are_never_all_the_same(attempts: int, least: float, most: float) -> None:
    assert (retry_after_s(attempts, 0.0), retry_after_s(attempts, 1.0)) == (least, most)


def test_a_day_of_tries_is_some_twenty() -> None:
    total, tries = 0.0, 0
    while total < 24 * 3600:
        tries += 1
        total += retry_after_s(tries, 0.5)
    assert 15 <= tries <= 25


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("error_rate", "percent", 25, ""),
        ("error_rate", "percent", 0, "from 1 to 99"),
        ("error_rate", "percent", 100, "from 1 to 99"),
        ("error_rate", "percent", math.nan, "from 1 to 99"),
        ("error_rate", "percent", "25", "numbers only"),
        ("error_rate", "percent", True, "numbers only"),
        ("error_rate", "percent", None, "numbers only"),
        ("error_rate", "patience", 1, "no parameter"),
        ("no_such_rule", "percent", 1, "no parameter"),
        ("spend_anomaly", "minimum_usd", 0.005, "from 0.01"),
        ("budget_threshold", "percents", [50, 80, 100], ""),
        ("budget_threshold", "percents", [], "at least one"),
        ("budget_threshold", "percents", 50, "at least one"),
        ("budget_threshold", "percents", [80, 50], "the smallest first"),
        ("budget_threshold", "percents", [50, 50], "each once"),
        ("budget_threshold", "percents", [50.5], "whole numbers"),
        ("budget_threshold", "percents", [0, 50], "from 1 to 1,000"),
    ],
)
def test_a_parameter_is_refused_in_words(kind: str, name: str, value: object, said: str) -> None:
    problem = parameter_problem(kind, name, value)
    assert said in problem
    assert bool(problem) is bool(said)


def test_every_default_is_a_value_that_would_be_taken() -> None:
    problems = [
        parameter_problem(kind, name, parameter.default)
        for kind, parameters in PARAMETERS.items()
        for name, parameter in parameters.items()
    ]
    assert len(problems) >= 10
    assert set(problems) == {""}
