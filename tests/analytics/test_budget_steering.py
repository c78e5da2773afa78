"""What people do to a budget: change its limit, raise it, recall leases, give up a gateway that is gone."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import F
from django.utils import timezone

from analytics.models import Budget, BudgetDuration, BudgetLease, BudgetWindow
from analytics.services.budget_raises import budget_raise
from analytics.services.budgets import (
    GONE_AFTER,
    budget_align,
    budget_recall,
    budget_window_open,
    lease_write_off,
)
from routing.models import ConfigRevision
from tests.factories import NOON, BudgetFactory, BudgetLeaseFactory, BudgetWindowFactory, UserFactory

USD = 10**9

pytestmark = pytest.mark.django_db


@pytest.fixture
def window() -> BudgetWindow:
    """Of this very month: what a saved budget does, it does now. $100, of which 40 are spent and 20 leased."""
    now = timezone.now()
    opened = budget_window_open(budget=BudgetFactory(created_at=now - timedelta(days=400)), now=now)
    BudgetWindow.objects.filter(pk=opened.pk).update(spent_nano=40 * USD, leased_nano=20 * USD)
    opened.refresh_from_db()
    return opened


@pytest.fixture
def person() -> User:
    made: User = UserFactory()
    return made


def limit_of(window: BudgetWindow, usd: int) -> BudgetWindow:
    budget = Budget.objects.get(pk=window.budget_id)
    budget.max_budget = Decimal(usd)
    budget.save(update_fields=["max_budget"])
    return BudgetWindow.objects.get(pk=window.pk)


def revision() -> int:
    return ConfigRevision.objects.filter(pk=1).values_list("revision", flat=True).first() or 0


# --- a changed limit ----------------------------------------------------------------------------------------------


def test_a_raised_limit_is_the_windows_ceiling_at_once(window: BudgetWindow) -> None:
    changed = limit_of(window, 250)
    assert (changed.ceiling_nano, changed.wanted_at) == (250 * USD, None)


def test_a_lowered_limit_asks_for_what_is_leased(window: BudgetWindow) -> None:
    before = timezone.now()
    changed = limit_of(window, 70)
    assert changed.ceiling_nano == 70 * USD
    assert changed.wanted_at is not None
    assert changed.wanted_at >= before


def test_a_limit_below_what_is_committed_takes_nothing_back(window: BudgetWindow) -> None:
    BudgetWindow.objects.filter(pk=window.pk).update(opening_nano=5 * USD, overrun_nano=2 * USD)
    assert limit_of(window, 10).ceiling_nano == (5 + 40 - 2 + 20) * USD
    BudgetWindow.objects.filter(pk=window.pk).update(leased_nano=0)
    assert limit_of(window, 9).ceiling_nano == (5 + 40 - 2) * USD


def test_a_budget_that_is_switched_off_calls_its_leases_back(window: BudgetWindow) -> None:
    budget = window.budget
    budget.is_active = False
    budget.save(update_fields=["is_active"])
    window.refresh_from_db()
    assert window.ceiling_nano == 60 * USD
    assert window.wanted_at is not None
    budget.is_active = True
    budget.save(update_fields=["is_active"])
    window.refresh_from_db()
    assert window.ceiling_nano == 100 * USD


def test_windows_of_other_periods_and_budgets_stay_as_they_are() -> None:
    budget = BudgetFactory(budget_duration=BudgetDuration.DAY, created_at=NOON - timedelta(days=9))
    past, current, other = (
        budget_window_open(budget=budget, now=NOON - timedelta(days=1)),
        budget_window_open(budget=budget, now=NOON),
        BudgetWindowFactory(),
    )
    Budget.objects.filter(pk=budget.pk).update(max_budget=F("max_budget") + 1)
    budget.refresh_from_db()
    budget_align(budget=budget, now=NOON)
    ceilings = dict(BudgetWindow.objects.values_list("pk", "ceiling_nano"))
    assert ceilings == {past.pk: 100 * USD, current.pk: 101 * USD, other.pk: 100 * USD}


def save(budget: Budget) -> None:
    budget.save(update_fields=["mode"])


def delete(budget: Budget) -> None:
    budget.delete()


@pytest.mark.parametrize("change", [save, delete])
def test_gateways_hear_of_every_change(change: Callable[[Budget], None]) -> None:
    before_any = revision()
    budget = BudgetFactory()
    made = revision()
    change(budget)
    assert before_any < made < revision()


# --- raise --------------------------------------------------------------------------------------------------------


def test_raising_adds_to_the_limit_that_is_in_force_and_says_who_and_why(window: BudgetWindow, person: User) -> None:
    stale = Budget.objects.get(pk=window.budget_id)
    limit_of(window, 120)
    raised = budget_raise(budget=stale, amount=Decimal("30.50"), by=person, reason="Launch week")
    window.refresh_from_db()
    assert (raised.amount_to, window.ceiling_nano) == (Decimal("150.50"), 150_500_000_000)
    line = Budget.history.filter(id=stale.pk).latest()
    assert (line.history_user, line.history_change_reason, line.max_budget) == (
        person,
        "Launch week",
        Decimal("150.50"),
    )


@pytest.mark.parametrize("amount", ["0", "-1", "9999999999.99"])
def test_a_budget_is_not_raised_by_nothing_or_beyond_its_column(amount: str, person: User) -> None:
    budget = BudgetFactory()
    with pytest.raises(ValidationError):
        budget_raise(budget=budget, amount=Decimal(amount), by=person, reason="why")
    budget.refresh_from_db()
    assert budget.max_budget == 100


# --- recall -------------------------------------------------------------------------------------------------------


def test_a_recall_asks_every_gateway_and_moves_no_money(window: BudgetWindow, person: User) -> None:
    for amount in (5, 15):
        BudgetLeaseFactory(window=window, amount_nano=amount * USD)
    now = timezone.now()
    assert budget_recall(budget=window.budget, by=person, now=now) == 2
    window.refresh_from_db()
    assert (window.wanted_at, window.leased_nano) == (now, 20 * USD)
    line = Budget.history.filter(id=window.budget_id).latest()
    assert (line.history_user, line.history_change_reason) == (person, "Recalled idle leases")


def test_where_nothing_was_ever_leased_a_recall_finds_nobody(person: User) -> None:
    assert budget_recall(budget=BudgetFactory(), by=person, now=NOON) == 0


# --- write off ----------------------------------------------------------------------------------------------------


def test_the_lease_of_a_lost_gateway_counts_as_spent(window: BudgetWindow, person: User) -> None:
    lost = BudgetLeaseFactory(window=window, amount_nano=7 * USD, renewed_at=NOON - GONE_AFTER)
    alive = BudgetLeaseFactory(window=window, amount_nano=13 * USD, renewed_at=NOON)
    assert lease_write_off(lease=lost, by=person, reason="Disk lost", now=NOON) == 7 * USD
    window.refresh_from_db()
    assert (window.opening_nano, window.spent_nano, window.leased_nano) == (7 * USD, 40 * USD, 13 * USD)
    assert list(BudgetLease.objects.all()) == [alive]
    line = Budget.history.filter(id=window.budget_id).latest()
    assert (line.history_user, line.history_change_reason) == (person, "Wrote off $7.000000: Disk lost")


def test_a_gateway_that_was_heard_of_lately_is_not_given_up(window: BudgetWindow, person: User) -> None:
    shown = BudgetLeaseFactory(window=window, amount_nano=20 * USD, renewed_at=NOON - GONE_AFTER)
    BudgetLease.objects.update(renewed_at=NOON - GONE_AFTER + timedelta(seconds=1))  # it came back while we looked
    with pytest.raises(ValidationError, match="sign of life"):
        lease_write_off(lease=shown, by=person, reason="Disk lost", now=NOON)
    window.refresh_from_db()
    assert (window.opening_nano, window.leased_nano) == (0, 20 * USD)


def test_a_lease_is_written_off_once(window: BudgetWindow, person: User) -> None:
    lost = BudgetLeaseFactory(window=window, amount_nano=7 * USD, renewed_at=NOON - GONE_AFTER)
    again = BudgetLease.objects.get(pk=lost.pk)
    lease_write_off(lease=lost, by=person, reason="Disk lost", now=NOON)
    with pytest.raises(ValidationError):
        lease_write_off(lease=again, by=person, reason="Disk lost", now=NOON)
    window.refresh_from_db()
    assert window.opening_nano == 7 * USD
