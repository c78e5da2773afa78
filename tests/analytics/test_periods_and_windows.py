"""Calendar corners: leap days, ends of months and years, ranges of presets, and the windows of budgets."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from analytics.domain.budgets import span_of
from analytics.domain.rollup import DayRange
from analytics.models import BudgetDuration
from analytics.periods import LONGEST_DAYS, PRESETS, period_of, preset
from analytics.selectors import budgets_with_spend
from tests.factories import BudgetFactory, UsageRecordFactory, VirtualKeyFactory, mark_hour

CREATED = datetime(2024, 1, 31, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "today", "first", "last"),
    [
        ("today", date(2024, 2, 29), date(2024, 2, 29), date(2024, 2, 29)),
        ("7d", date(2024, 3, 1), date(2024, 2, 24), date(2024, 3, 1)),
        ("30d", date(2024, 3, 1), date(2024, 2, 1), date(2024, 3, 1)),
        ("30d", date(2023, 3, 1), date(2023, 1, 31), date(2023, 3, 1)),
        ("30d", date(2026, 1, 1), date(2025, 12, 3), date(2026, 1, 1)),
        ("mtd", date(2024, 2, 29), date(2024, 2, 1), date(2024, 2, 29)),
        ("mtd", date(2026, 1, 1), date(2026, 1, 1), date(2026, 1, 1)),
    ],
)
def test_a_preset_ends_today(name: str, today: date, first: date, last: date) -> None:
    assert preset(name, today) == DayRange(first, last)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("today", [date(2024, 2, 29), date(2025, 12, 31), date(2026, 1, 1), date(2026, 3, 1)])
def test_every_preset_has_at_least_today(name: str, today: date) -> None:
    period = period_of({"range": name}, today=today)
    assert (period.name, period.note, period.days.last) == (name, "", today)
    assert period.length >= 1
    assert period.is_one_day is (period.days.first == period.days.last)


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ({"from": "2024-02-29", "to": "2024-02-29"}, date(2024, 2, 29), date(2024, 2, 29)),
        ({"from": "2024-03-01", "to": "2024-02-28"}, date(2024, 2, 28), date(2024, 3, 1)),
        ({"from": "2024-01-01", "to": "2024-12-31"}, date(2024, 1, 1), date(2024, 12, 31)),
        ({"from": "2000-01-01", "to": "2000-01-02"}, date(2000, 1, 1), date(2000, 1, 2)),
    ],
)
def test_own_days_are_taken_as_they_are(query: dict[str, str], first: date, last: date) -> None:
    period = period_of({"range": "custom"} | query, today=date(2026, 3, 10))
    assert (period.days, period.note) == (DayRange(first, last), "")


@pytest.mark.parametrize(
    ("first", "last"),
    [("2023-02-29", "2023-03-01"), ("1999-12-31", "2026-01-01"), ("2026-01-01", "2101-01-01"), ("", ""), ("x", "y")],
)
def test_days_that_do_not_exist_or_lie_too_far_fall_back_with_a_note(first: str, last: str) -> None:
    period = period_of({"range": "custom", "from": first, "to": last}, today=date(2026, 3, 10))
    assert (period.name, period.length) == ("30d", 30)
    assert "Both dates are needed" in period.note


def test_a_leap_year_fits_whole_and_a_day_more_is_cut() -> None:
    whole = period_of({"range": "custom", "from": "2024-01-01", "to": "2024-12-31"}, today=date(2026, 3, 10))
    assert (whole.length, whole.note) == (LONGEST_DAYS, "")
    longer = period_of({"range": "custom", "from": "2023-12-31", "to": "2024-12-31"}, today=date(2026, 3, 10))
    assert (longer.days.first, longer.length) == (date(2024, 1, 1), LONGEST_DAYS)


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        (date(2024, 2, 29), date(2024, 2, 29), DayRange(date(2024, 2, 28), date(2024, 2, 28))),
        (date(2024, 3, 1), date(2024, 3, 31), DayRange(date(2024, 1, 30), date(2024, 2, 29))),
        (date(2026, 1, 1), date(2026, 1, 7), DayRange(date(2025, 12, 25), date(2025, 12, 31))),
    ],
)
def test_the_days_before_touch_and_are_as_many(first: date, last: date, before: DayRange) -> None:
    assert DayRange(first, last).previous() == before


@pytest.mark.parametrize(
    ("duration", "now", "begins", "ends"),
    [
        ("1d", datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC), date(2024, 2, 29), date(2024, 3, 1)),
        ("1d", datetime(2024, 3, 1, tzinfo=UTC), date(2024, 3, 1), date(2024, 3, 2)),
        ("1d", datetime(2025, 12, 31, 12, tzinfo=UTC), date(2025, 12, 31), date(2026, 1, 1)),
        ("1mo", datetime(2024, 2, 29, 23, 59, tzinfo=UTC), date(2024, 2, 1), date(2024, 3, 1)),
        ("1mo", datetime(2023, 2, 28, 23, 59, tzinfo=UTC), date(2023, 2, 1), date(2023, 3, 1)),
        ("1mo", datetime(2025, 12, 31, 23, 59, tzinfo=UTC), date(2025, 12, 1), date(2026, 1, 1)),
        ("1mo", datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), date(2026, 2, 1)),
        ("1mo", datetime(2026, 11, 30, tzinfo=UTC), date(2026, 11, 1), date(2026, 12, 1)),
        ("total", datetime(2026, 1, 1, tzinfo=UTC), CREATED.date(), None),
    ],
)
def test_a_budgets_window_is_whole_and_has_no_gap(
    duration: str, now: datetime, begins: date, ends: date | None
) -> None:
    span = span_of(duration, time_zone="UTC", created_at=CREATED, now=now)
    end = span.ends_before
    assert (span.starts_at.date(), end.date() if end else None) == (begins, ends)
    assert span.starts_at == datetime(begins.year, begins.month, begins.day, tzinfo=UTC)
    assert span.contains(now)
    if end:
        assert not span.contains(end)
        assert span_of(duration, time_zone="UTC", created_at=CREATED, now=end).starts_at == end
        assert span_of(duration, time_zone="UTC", created_at=CREATED, now=end - timedelta(microseconds=1)) == span


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("duration", "now", "spent"),
    [
        (BudgetDuration.MONTH, datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), 7),  # 1 of the first, 2 + 4 of the 29th
        (BudgetDuration.MONTH, datetime(2024, 3, 1, tzinfo=UTC), 8),
        (BudgetDuration.DAY, datetime(2024, 2, 29, 12, tzinfo=UTC), 6),
        (BudgetDuration.DAY, datetime(2024, 3, 1, 0, 0, 1, tzinfo=UTC), 8),
        (BudgetDuration.TOTAL, datetime(2024, 3, 1, tzinfo=UTC), 31),
    ],
)
def test_a_budget_counts_the_requests_that_came_in_within_its_window(
    duration: BudgetDuration, now: datetime, spent: int
) -> None:
    """Costs are 1, 2, 4 .. dollars, so that the sum says which requests are in it."""
    key = VirtualKeyFactory()
    moments = [
        datetime(2024, 2, 1, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
        CREATED,
        CREATED - timedelta(days=1),
    ]
    for number, at in enumerate(moments):
        UsageRecordFactory(key=key, at=at, cost_nano=2**number * 10**9)
        mark_hour(at)
    BudgetFactory(team=key.team, budget_duration=duration, max_budget=Decimal(100), created_at=CREATED)
    [state] = budgets_with_spend(team_ids=None, now=now)
    assert state.spent_nano == spent * 10**9
    assert state.limit_nano == 100 * 10**9
