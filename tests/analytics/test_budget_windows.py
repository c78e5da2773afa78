"""The window of a budget's period: made once, by whoever looks first, with what the period had cost until then."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from analytics.models import Budget, BudgetDuration, BudgetScope, BudgetWindow, UsageRecord
from analytics.services.budgets import budget_window_open
from tests.factories import (
    NOON,
    BudgetFactory,
    ModelAliasFactory,
    PersonaFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
    mark_hour,
)

USD = 10**9


def record(**fields: Any) -> UsageRecord:
    made: UsageRecord = UsageRecordFactory(**fields)
    mark_hour(made.started_at)
    return made


@pytest.mark.django_db
def test_a_window_is_made_once_for_each_period() -> None:
    budget = BudgetFactory(created_at=NOON, budget_duration=BudgetDuration.DAY)
    today = budget_window_open(budget=budget, now=NOON)
    assert budget_window_open(budget=budget, now=NOON + timedelta(hours=11)) == today
    tomorrow = budget_window_open(budget=budget, now=NOON + timedelta(hours=12))
    assert (today.starts_at, today.ends_before) == (datetime(2026, 3, 10, tzinfo=UTC), tomorrow.starts_at)
    assert (today.ceiling_nano, today.opening_nano, today.spent_nano, today.leased_nano) == (100 * USD, 0, 0, 0)
    assert BudgetWindow.objects.count() == 2


@pytest.mark.django_db
def test_a_window_begins_at_midnight_where_the_budget_is() -> None:
    budget = BudgetFactory(created_at=NOON, budget_duration=BudgetDuration.DAY, time_zone="Asia/Kathmandu")
    window = budget_window_open(budget=budget, now=NOON)
    assert window.starts_at == datetime(2026, 3, 9, 18, 15, tzinfo=UTC)


@pytest.mark.django_db
def test_a_total_has_a_window_without_end() -> None:
    window = budget_window_open(budget=BudgetFactory(created_at=NOON, budget_duration="total"), now=NOON)
    assert window.ends_before is None


@pytest.mark.django_db
def test_what_the_period_had_cost_before_is_the_opening() -> None:
    key = VirtualKeyFactory()
    first = record(key=key, at=NOON - timedelta(days=9), cost_nano=3 * USD)
    record(key=key, at=NOON - timedelta(minutes=1), cost_nano=2 * USD)
    record(key=key, at=NOON - timedelta(days=10), cost_nano=50 * USD)  # last month
    record(key=key, cost_nano=None)
    record(cost_nano=70 * USD)  # another team
    UsageAdjustmentFactory(request_id=first.request_id, started_at=first.started_at, delta_nano=-USD)
    window = budget_window_open(budget=BudgetFactory(team=key.team, created_at=NOON), now=NOON)
    assert window.opening_nano == 4 * USD


@pytest.mark.django_db
def test_a_limit_that_is_spent_already_has_a_ceiling_where_it_stands() -> None:
    key = VirtualKeyFactory()
    record(key=key, cost_nano=3 * USD)
    budget = BudgetFactory(team=key.team, max_budget=Decimal("2.50"), created_at=NOON)
    assert budget_window_open(budget=budget, now=NOON).ceiling_nano == 3 * USD


@pytest.mark.django_db
@pytest.mark.parametrize("scope", BudgetScope.values)
def test_the_opening_is_of_what_the_budget_is_for(scope: str) -> None:
    key, persona, alias = VirtualKeyFactory(), PersonaFactory(), ModelAliasFactory()
    record(key=key, persona=persona.slug, requested_model=alias.name, cost_nano=USD)
    record(key=VirtualKeyFactory(), persona="another", requested_model="another", cost_nano=9 * USD)
    subject = {"team": key.team, "key": key, "persona": persona, "alias": alias}[scope]
    budget = BudgetFactory(scope=scope, **{"team": None, scope: subject}, created_at=NOON)
    assert budget_window_open(budget=budget, now=NOON).opening_nano == USD


@pytest.mark.django_db
def test_a_limit_lowered_meanwhile_is_the_one_that_counts() -> None:
    budget = BudgetFactory(max_budget=Decimal(100), created_at=NOON)
    Budget.objects.filter(pk=budget.pk).update(max_budget=Decimal(5))
    assert budget_window_open(budget=budget, now=NOON).ceiling_nano == 5 * USD


@pytest.mark.django_db(transaction=True)
def test_processes_that_look_at_once_make_one_window_and_keep_their_transactions() -> None:
    budget = BudgetFactory(created_at=NOON)
    found: list[int] = []
    ready = threading.Barrier(6)

    def look() -> None:
        ready.wait()
        with transaction.atomic():
            window = budget_window_open(budget=budget, now=NOON)
            found.append(BudgetWindow.objects.get(pk=window.pk).pk)  # the transaction is still good for more
        connection.close()

    lookers = [threading.Thread(target=look) for _ in range(6)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert len(found) == 6
    assert len(set(found)) == BudgetWindow.objects.count() == 1


@pytest.mark.django_db
def test_a_window_that_is_there_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    budget = BudgetFactory(created_at=NOON)
    budget_window_open(budget=budget, now=NOON)
    with django_assert_num_queries(1):
        budget_window_open(budget=budget, now=NOON)
