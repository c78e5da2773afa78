"""Raises of budgets: asked for, approved by somebody else where the setting wants that, and on record in any case.

With `POLICY_REVIEW` a raise waits until a second person has approved it; without, it is applied at once and its author
stands as its reviewer. Lowering a budget is no raise and takes effect at once.

Whoever changes a budget and its raise locks the budget's row first, then the raise's.
"""

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from analytics.models import Budget, BudgetRaise, RaiseState
from analytics.services.budgets import budget_limit_set


def raise_open(budget: Budget) -> BudgetRaise | None:
    """The raise of this budget that waits for approval; there is one at most."""
    found = BudgetRaise.objects.filter(budget=budget, state=RaiseState.REVIEW)
    return found.select_related("author").first()


def is_stale(raised: BudgetRaise) -> bool:
    """Whether the budget's amount is another one by now than the raise was asked for with. `budget` is to be fresh."""
    return raised.state == RaiseState.REVIEW and raised.budget.max_budget != raised.amount_from


def may_decide(raised: BudgetRaise, person: User) -> bool:
    """Whether `person` may approve or reject it: with the permission, and under review not one's own."""
    is_own = raised.author_id == person.pk
    return person.has_perm("analytics.approve_budgetraise") and not (settings.POLICY_REVIEW and is_own)


@transaction.atomic
def budget_raise(*, budget: Budget, amount: Decimal, by: User | None, reason: str) -> BudgetRaise:
    """Ask for `amount` USD more than the limit that is in force; as `raise_propose`."""
    return raise_propose(budget=budget, amount_to=_locked(budget.pk).max_budget + amount, by=by, reason=reason)


@transaction.atomic
def raise_propose(*, budget: Budget, amount_to: Decimal, by: User | None, reason: str) -> BudgetRaise:
    """Ask for the limit `amount_to` (USD), for this period and the following ones; applied at once without review.

    :raises ValidationError: that is no raise, or too long a number, or another raise waits for approval.
    """
    locked = _locked(budget.pk)
    amount: Decimal = Budget._meta.get_field("max_budget").clean(amount_to, locked)
    if amount <= locked.max_budget:
        raise ValidationError("Raise it by more than nothing. To lower a budget, edit it.")
    if (waiting := raise_open(locked)) and settings.POLICY_REVIEW:
        raise ValidationError(
            f"A raise to ${waiting.amount_to:,} waits for approval. Withdraw it first, or have it decided."
        )
    asked = BudgetRaise(
        budget=locked, amount_from=locked.max_budget, amount_to=amount, reason=reason, author=by,
    )  # fmt: skip
    if settings.POLICY_REVIEW:
        asked.save()
    else:
        _apply(asked, locked, by=by, note="", now=timezone.now())
    return asked


@transaction.atomic
def raise_apply(*, raised: BudgetRaise, by: User, note: str = "") -> BudgetRaise:
    """Approve a raise and give the budget its new limit. Of two people who do it at once, one is told so.

    :raises ValidationError: it is decided already, it is one's own, or the budget's amount has changed meanwhile.
    """
    budget, waiting = _waiting(raised)
    if settings.POLICY_REVIEW and waiting.author_id == by.pk:
        raise ValidationError("Somebody else has to approve what you have asked for.")
    if budget.max_budget != waiting.amount_from:
        raise ValidationError(
            f"The budget is ${budget.max_budget:,} by now; the raise was asked for when it was "
            f"${waiting.amount_from:,}. Reject it, and ask for another one."
        )
    _apply(waiting, budget, by=by, note=note, now=timezone.now())
    return waiting


@transaction.atomic
def raise_reject(*, raised: BudgetRaise, by: User, note: str) -> BudgetRaise:
    """The budget stays as it is; `note` says why.

    :raises ValidationError: without a note, or it is decided already.
    """
    if not note.strip():
        raise ValidationError("Say why, for whoever has asked for it.")
    _, waiting = _waiting(raised)
    return _decided(waiting, RaiseState.REJECTED, by=by, note=note, now=timezone.now())


@transaction.atomic
def raise_withdraw(*, raised: BudgetRaise, by: User) -> BudgetRaise:
    """Take back what one has asked for.

    :raises ValidationError: it is somebody else's, or decided already.
    """
    _, waiting = _waiting(raised)
    if waiting.author_id not in {by.pk, None}:
        raise ValidationError("Only who has asked for it can withdraw it; others reject it.")
    return _decided(waiting, RaiseState.WITHDRAWN, by=by, note="", now=timezone.now())


def _locked(budget_id: int) -> Budget:
    return Budget.objects.select_for_update(of=("self",)).get(pk=budget_id)


def _waiting(raised: BudgetRaise) -> tuple[Budget, BudgetRaise]:
    """Both rows, locked and as they are now.

    :raises ValidationError: nobody has to decide on it any more.
    """
    budget = _locked(raised.budget_id)
    found = BudgetRaise.objects.select_for_update(of=("self",)).select_related("reviewer").get(pk=raised.pk)
    if found.state != RaiseState.REVIEW:
        who = f" by {found.reviewer}" if found.reviewer else ""
        raise ValidationError(f"This raise is {found.get_state_display().lower()} already{who}.")
    return budget, found


def _apply(raised: BudgetRaise, budget: Budget, *, by: User | None, note: str, now: datetime) -> None:
    """Give the budget its new limit; its history names who approved it, and who had asked."""
    asked_by = f"asked by {raised.author}: " if raised.author and raised.author != by else ""
    budget_limit_set(budget=budget, limit=raised.amount_to, by=by, reason=f"{asked_by}{raised.reason}")
    _decided(raised, RaiseState.APPLIED, by=by, note=note, now=now)


def _decided(raised: BudgetRaise, state: RaiseState, *, by: User | None, note: str, now: datetime) -> BudgetRaise:
    raised.state, raised.reviewer, raised.reviewed_at, raised.review_note = state, by, now, note
    raised.save()
    return raised
