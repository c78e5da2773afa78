"""Budgets, written: the window of a period, what a changed limit does to it, and what people steer by hand.

Whoever changes a budget and its window does it in this order, so that nobody waits in a circle: the budget's row
first, then the window's, then its leases. Who opens several windows in one transaction goes by the budgets' ids.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Greatest

from analytics.domain.budgets import Span, span_of, window_id
from analytics.models import Budget, BudgetLease, BudgetWindow
from analytics.selectors.subjects import spent_within
from routing.services import config_revision_bump

GONE_AFTER: Final = timedelta(minutes=15)  # without a sign of life, a gateway may be given up
NANO_PER_USD: Final = 10**9
REASON_LENGTH: Final = 100  # of simple-history's column


def budget_window_open(*, budget: Budget, now: datetime) -> BudgetWindow:
    """The window of `budget` that `now` lies in, made if nobody has needed it before. Safe to call from many processes,
    also inside a transaction: a race ends with one window, not with an error.

    What the subject's requests of this period have cost until then is the window's `opening`. Usually that is nothing;
    not so if the budget was created or switched on in the middle of a period. A record that charges a window is stored
    after the window, so nothing counts twice.
    """
    span = span_of(budget.budget_duration, time_zone=budget.time_zone, created_at=budget.created_at, now=now)
    found = BudgetWindow.objects.filter(pk=window_id(budget.pk, span.starts_at)).first()
    return found or _window_made(budget, span)


@transaction.atomic
def _window_made(budget: Budget, span: Span) -> BudgetWindow:
    """The lock keeps a limit that is lowered right now from being overlooked."""
    limit_nano = Budget.objects.select_for_update(of=("self",)).get(pk=budget.pk).limit_nano
    number = window_id(budget.pk, span.starts_at)
    opening_nano = spent_within(budget, span)
    window = BudgetWindow(
        id=number,
        budget=budget,
        starts_at=span.starts_at,
        ends_before=span.ends_before,
        ceiling_nano=max(limit_nano, opening_nano),
        opening_nano=opening_nano,
    )
    BudgetWindow.objects.bulk_create([window], ignore_conflicts=True)
    return BudgetWindow.objects.get(pk=number)


@transaction.atomic
def budget_align(*, budget: Budget, now: datetime) -> None:
    """Have the current window follow a changed limit and the gateways hear of it; in the change's own transaction.

    A lowered limit takes back nothing that is spent or held. But nothing more is granted, and what the gateways do not
    need comes back within seconds.
    """
    limit_nano = budget.limit_nano if budget.is_active else 0
    committed = F("opening_nano") + F("spent_nano") - F("overrun_nano") + F("leased_nano")
    _current_window(budget, now).update(
        ceiling_nano=Greatest(Value(limit_nano), committed),
        wanted_at=Case(When(ceiling_nano__gt=limit_nano, then=Value(now)), default=F("wanted_at")),
    )
    config_revision_bump()


@transaction.atomic
def budget_limit_set(*, budget: Budget, limit: Decimal, by: User | None, reason: str) -> None:
    """Another limit (USD) for `budget`, whose row is locked: for this period and the following ones. The history says
    who, when and why. Raises go through `budget_raises.py`."""
    budget.max_budget = limit
    budget._history_user = by  # type: ignore[attr-defined]  # simple-history looks for them
    budget._change_reason = reason[:REASON_LENGTH]  # type: ignore[attr-defined]
    budget.save(update_fields=["max_budget"])


@transaction.atomic
def budget_recall(*, budget: Budget, by: User | None, now: datetime) -> int:
    """Ask the gateways for what they lease of the current window and do not need; how many have a lease.

    They answer within seconds. What is held for requests under way stays until those are settled.
    """
    windows = _current_window(budget, now)
    windows.update(wanted_at=now)
    _note(budget, by, "Recalled idle leases")
    return BudgetLease.objects.filter(window__in=windows).count()


@transaction.atomic
def lease_write_off(*, lease: BudgetLease, by: User | None, reason: str, now: datetime) -> int:
    """End the lease of a gateway that is gone for good, disk and all; the nano-USD that count as spent from now on.

    Nobody can know any more what it spent, so all of the lease is taken for spent: it moves to the window's `opening`,
    which is what no record names. Should its journal turn up after all, its records count besides, as overrun.

    :raises ValidationError: it was renewed not long ago, or has ended meanwhile.
    """
    window = BudgetWindow.objects.select_for_update().get(pk=lease.window_id)
    found = BudgetLease.objects.filter(pk=lease.pk, renewed_at__lte=now - GONE_AFTER).first()
    if found is None:
        raise ValidationError("This gateway gave a sign of life within 15 minutes, or its lease has ended by itself.")
    found.delete()
    BudgetWindow.objects.filter(pk=window.pk).update(
        opening_nano=F("opening_nano") + found.amount_nano, leased_nano=F("leased_nano") - found.amount_nano
    )
    _note(window.budget, by, f"Wrote off ${Decimal(found.amount_nano) / NANO_PER_USD:.6f}: {reason}")
    return found.amount_nano


def _current_window(budget: Budget, now: datetime) -> QuerySet[BudgetWindow]:
    is_open = Q(ends_before=None) | Q(ends_before__gt=now)
    return BudgetWindow.objects.filter(is_open, budget=budget, starts_at__lte=now)


def _note(budget: Budget, by: User | None, what: str) -> None:
    """A line in the budget's history about something that is not a column of it."""
    text = what[:REASON_LENGTH]
    Budget.history.bulk_history_create([budget], update=True, default_user=by, default_change_reason=text)
