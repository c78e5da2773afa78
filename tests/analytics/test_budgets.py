"""Budgets beside what was spent of them: from their windows, from the records without one, and for whom to see."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.models import BudgetDuration, BudgetScope
from analytics.selectors import BudgetState, budgets_with_spend
from analytics.services.budgets import budget_window_open
from analytics.services.rollups import rollups_refresh
from routing.models import VirtualKey
from tests.factories import (
    NOON,
    BudgetFactory,
    BudgetLeaseFactory,
    BudgetWindowFactory,
    ModelAliasFactory,
    PersonaFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
    key_budget,
    mark_hour,
)

USD = 1_000_000_000
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def spend(key: VirtualKey, dollars: float, *, at: datetime = NOON, **fields: Any) -> None:
    UsageRecordFactory.create(key=key, at=at, cost_nano=round(dollars * USD), **fields)
    mark_hour(at)


def only_state(now: datetime = NOON) -> BudgetState:
    [state] = budgets_with_spend(team_ids=None, now=now)
    return state


# --- from a window ------------------------------------------------------------------------------------------------


def test_the_window_says_what_is_spent_held_and_remaining() -> None:
    window = BudgetWindowFactory(
        opening_nano=5 * USD, spent_nano=20 * USD, overrun_nano=USD, leased_nano=10 * USD, would_refuse=3
    )
    BudgetLeaseFactory(window=window, amount_nano=4 * USD, held_nano=3 * USD, renewed_at=NOON - timedelta(seconds=2))
    BudgetLeaseFactory(window=window, amount_nano=6 * USD, renewed_at=NOON - timedelta(seconds=9))
    state = only_state()
    assert (state.spent_nano, state.leased_nano, state.remaining_nano) == (25 * USD, 10 * USD, 65 * USD)
    assert (state.held_nano, state.overrun_nano, state.would_refuse) == (3 * USD, USD, 3)
    assert state.as_of == NOON - timedelta(seconds=9)
    assert (state.share, state.window_id) == (0.25, window.pk)


def test_a_window_of_another_period_is_not_this_ones() -> None:
    BudgetWindowFactory(spent_nano=20 * USD)
    state = only_state(now=NOON.replace(month=4))
    assert (state.spent_nano, state.window_id, state.as_of) == (0, None, NOON.replace(month=4))


def test_more_than_the_limit_leaves_nothing_and_no_less() -> None:
    BudgetWindowFactory(spent_nano=101 * USD, overrun_nano=101 * USD)
    assert only_state().remaining_nano == 0


def test_a_budget_of_nothing_is_all_spent() -> None:
    BudgetFactory(max_budget=Decimal(0))
    assert (only_state().share, only_state().remaining_nano) == (1.0, 0)


# --- from the records ---------------------------------------------------------------------------------------------


def test_each_period_counts_its_own_time(key: VirtualKey) -> None:
    for duration in BudgetDuration:
        BudgetFactory(team=key.team, budget_duration=duration, created_at=NOON - 20 * DAY)
    for days_ago, dollars in ((0, 1), (1, 2), (6, 4), (9, 8), (10, 16), (20, 32), (21, 64)):
        spend(key, dollars, at=NOON - days_ago * DAY)
    spend(VirtualKeyFactory(), 1000)
    rollups_refresh()
    spend(key, 0.5)
    states = {state.budget.budget_duration: state for state in budgets_with_spend(team_ids=None, now=NOON)}
    # NOON is the 10th of March; the budgets are from the 18th of February, so their third week began on the 4th.
    assert {name: state.spent_nano / USD for name, state in states.items()} == {
        "1d": 1.5, "7d": 7.5, "30d": 63.5, "1mo": 15.5, "total": 63.5,
    }  # fmt: skip
    assert states["total"].ends_before is None


def test_a_day_is_the_day_of_the_budgets_time_zone(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, budget_duration=BudgetDuration.DAY, time_zone="Asia/Kathmandu", created_at=NOON - DAY)
    midnight = datetime(2026, 3, 9, 18, 15, tzinfo=UTC)
    spend(key, 1, at=midnight)
    spend(key, 2, at=midnight - timedelta(seconds=1))
    state = only_state()
    assert (state.spent_nano, state.begins_at, state.ends_before) == (USD, midnight, midnight + DAY)


@pytest.mark.parametrize("scope", BudgetScope.values)
def test_only_what_the_budget_is_for_counts(scope: str, key: VirtualKey) -> None:
    subject = {"team": key.team, "key": key, "persona": PersonaFactory(slug="analyst"), "alias": ModelAliasFactory()}
    BudgetFactory(scope=scope, **{"team": None, scope: subject[scope]})
    spend(key, 1, persona="analyst", requested_model=subject["alias"].name)
    UsageAdjustmentFactory(started_at=NOON, request_id=key.usage.get().request_id, delta_nano=USD)
    spend(VirtualKeyFactory(), 4, persona="another", requested_model="auto")
    assert only_state().spent_nano == 2 * USD


def test_a_window_opened_later_says_the_same_as_the_records_did(key: VirtualKey) -> None:
    budget = BudgetFactory(team=key.team)
    spend(key, 7)
    before = only_state()
    budget_window_open(budget=budget, now=NOON)
    assert (only_state().spent_nano, only_state().remaining_nano) == (before.spent_nano, before.remaining_nano)


def test_requests_of_unknown_price_are_told_beside_the_spend(key: VirtualKey) -> None:
    BudgetFactory(team=key.team)
    unpriced = [UsageRecordFactory(key=key, at=at, cost_nano=None) for at in (NOON, NOON, NOON - 10 * DAY)]
    for record in unpriced:
        mark_hour(record.started_at)
    UsageAdjustmentFactory(request_id=unpriced[0].request_id, started_at=NOON, delta_nano=USD, was_unpriced=True)
    state = only_state()
    assert (state.spent_nano, state.unpriced) == (USD, 1)


# --- whose --------------------------------------------------------------------------------------------------------


def test_budgets_are_those_of_the_teams_that_may_be_seen_and_of_their_keys(key: VirtualKey) -> None:
    own, of_key = BudgetFactory(team=key.team), key_budget(key)
    BudgetFactory()
    key_budget(VirtualKeyFactory())
    BudgetFactory(scope="persona", team=None, persona=PersonaFactory())
    BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory())
    BudgetFactory(team=key.team, budget_duration=BudgetDuration.DAY, is_active=False)
    assert [state.budget for state in budgets_with_spend(team_ids=[key.team_id], now=NOON)] == [own, of_key]
    assert budgets_with_spend(team_ids=[], now=NOON) == []
    scopes = [state.budget.scope for state in budgets_with_spend(team_ids=None, now=NOON)]
    assert scopes == ["team", "team", "key", "key", "persona", "alias"]


# --- queries ------------------------------------------------------------------------------------------------------


def budgets_without_windows(key: VirtualKey) -> None:
    BudgetFactory(team=key.team)


def budgets_with_windows(key: VirtualKey) -> None:
    window = BudgetWindowFactory(budget__team=key.team, leased_nano=USD)
    BudgetLeaseFactory(window=window)
    BudgetWindowFactory(budget=key_budget(key))


@pytest.mark.parametrize("make", [budgets_without_windows, budgets_with_windows])
def test_many_budgets_take_as_many_queries_as_one(make: Callable[[VirtualKey], None]) -> None:
    counts = []
    for more in (1, 7):
        for _ in range(more):
            key = VirtualKeyFactory()
            make(key)
            spend(key, 1)
        with CaptureQueriesContext(connection) as queries:
            states = budgets_with_spend(team_ids=None, now=NOON)
            assert all(str(state.budget) for state in states)
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- forecasts ----------------------------------------------------------------------------------------------------


def test_a_forecast_knows_the_last_days_and_the_last_week(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal(100))
    for days_ago in range(9):
        spend(key, 4, at=(NOON - days_ago * DAY).replace(hour=0, minute=1))
    midnight = NOON.replace(hour=0) + DAY  # the day of NOON has just ended
    state = only_state(now=midnight)
    assert state.recent == (4 * USD, 4 * USD)
    found = state.forecast(midnight)
    assert found is not None
    assert found.pace_nano == 4 * USD
    assert found.runs_out_at == midnight + 16 * DAY  # 64 of 100 dollars are left


def test_the_pace_of_an_unfinished_day_is_not_taken_for_a_whole_ones(key: VirtualKey) -> None:
    BudgetFactory(team=key.team)
    spend(key, 3, at=NOON - timedelta(hours=1))
    since_yesterday, since_a_week = only_state().recent
    assert (since_yesterday, round(since_a_week)) == (2 * USD, round(3 * USD / 7.5))
