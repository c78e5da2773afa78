"""Budgets: what was spent of them, and one alert per threshold and window."""

from datetime import timedelta
from decimal import Decimal

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.models import BudgetAlert, BudgetDuration, DirtyDay
from analytics.selectors import budgets_with_spend
from analytics.services import budgets_check, rollups_refresh
from routing.models import VirtualKey
from tests.factories import NOON, BudgetFactory, UsageRecordFactory, VirtualKeyFactory

DOLLAR = 1_000_000_000
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def spend(key: VirtualKey, dollars: float, *, days_ago: int = 0) -> None:
    at = NOON - days_ago * DAY
    UsageRecordFactory.create(key=key, at=at, cost_nano=round(dollars * DOLLAR))
    DirtyDay.objects.get_or_create(day=at.date())


def test_each_window_counts_its_own_days(key: VirtualKey) -> None:
    created = NOON - 20 * DAY
    for duration in BudgetDuration:
        BudgetFactory.create(team=key.team, budget_duration=duration, created_at=created)
    for days_ago, dollars in ((0, 1), (1, 2), (9, 4), (10, 8), (20, 16), (21, 32)):
        spend(key, dollars, days_ago=days_ago)
    spend(VirtualKeyFactory.create(), 1000)
    rollups_refresh()
    spend(key, 0.5)

    states = {one.budget.budget_duration: one for one in budgets_with_spend(team_ids=None, now=NOON)}

    # NOON is the 10th of March: 9 days ago is the 1st.
    assert {name: state.spent_nano / DOLLAR for name, state in states.items()} == {"1d": 1.5, "1mo": 7.5, "total": 31.5}
    assert states["1mo"].share == 0.075
    assert states["1mo"].limit_nano == 100 * DOLLAR
    assert states["total"].ends_before is None


def test_budgets_are_those_of_the_teams_that_may_be_seen(key: VirtualKey) -> None:
    own = BudgetFactory.create(team=key.team)
    BudgetFactory.create()
    BudgetFactory.create(team=key.team, budget_duration=BudgetDuration.DAY, is_active=False)

    assert [state.budget for state in budgets_with_spend(team_ids=[key.team_id], now=NOON)] == [own]
    assert budgets_with_spend(team_ids=[], now=NOON) == []


def test_requests_of_unknown_price_are_told_beside_the_spend(key: VirtualKey) -> None:
    BudgetFactory.create(team=key.team)
    UsageRecordFactory.create(key=key, cost_nano=None)
    DirtyDay.objects.create(day=NOON.date())

    [state] = budgets_with_spend(team_ids=None, now=NOON)

    assert (state.spent_nano, state.unpriced) == (0, 1)


def test_the_number_of_queries_is_the_same_for_any_number_of_budgets(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(4):
        key = VirtualKeyFactory.create()
        BudgetFactory.create(team=key.team)
        BudgetFactory.create(team=key.team, budget_duration=BudgetDuration.TOTAL, created_at=NOON - 9 * DAY)
        spend(key, 1)

    with django_assert_max_num_queries(4):
        assert len(budgets_with_spend(team_ids=None, now=NOON)) == 8


def test_an_alert_opens_once_per_threshold_and_again_in_the_next_window(key: VirtualKey) -> None:
    BudgetFactory.create(team=key.team, max_budget=Decimal("10"), budget_duration=BudgetDuration.DAY)
    opened = []
    for dollars in (4.99, 0.01, 3, 0, 5):
        spend(key, dollars)
        opened.append([alert.threshold for alert in budgets_check(now=NOON)])
    tomorrow = [alert.threshold for alert in budgets_check(now=NOON + DAY)]
    UsageRecordFactory.create(key=key, at=NOON + DAY, cost_nano=5 * DOLLAR)
    DirtyDay.objects.create(day=(NOON + DAY).date())

    assert opened == [[], [50], [80], [], [100]]
    assert tomorrow == []
    assert [alert.threshold for alert in budgets_check(now=NOON + DAY)] == [50]
    assert BudgetAlert.objects.get(threshold=80).spent_nano == 8 * DOLLAR


def test_a_jump_opens_every_threshold_that_it_passed(key: VirtualKey, caplog: pytest.LogCaptureFixture) -> None:
    BudgetFactory.create(team=key.team, max_budget=Decimal("10"))
    spend(key, 11)

    assert [alert.threshold for alert in budgets_check(now=NOON)] == [50, 80, 100]
    assert caplog.text.count("has reached") == 3
    assert key.team.name in caplog.text
