"""Raises of budgets: at once where nobody has to review them, by a second person where the setting wants that."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test import Client
from pytest_django import Settings

from analytics.models import Budget, BudgetRaise, RaiseState
from analytics.services.budget_raises import (
    budget_raise,
    is_stale,
    may_decide,
    raise_apply,
    raise_open,
    raise_propose,
    raise_reject,
    raise_withdraw,
)
from analytics.services.budgets import budget_window_open
from providers.admin.pages import change_url, list_url
from tests.admin_pages import errors_of, page_of, queries_of, submit
from tests.factories import NOON, BudgetFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


@pytest.fixture
def at_once(settings: Settings) -> None:
    settings.POLICY_REVIEW = False


@pytest.fixture
def budget() -> Budget:
    made: Budget = BudgetFactory(team__name="Search", max_budget=Decimal(100))
    return made


def person(*permissions: str, **options: Any) -> User:
    made: User = UserFactory(is_staff=True, **options)
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return made


def signed_in(someone: User) -> Client:
    client = Client()
    client.force_login(someone)
    return client


@pytest.fixture
def author() -> User:
    return person("change_budget", "view_budget", username="ada")


@pytest.fixture
def approver() -> User:
    return person("approve_budgetraise", "view_budget", "view_budgetraise", username="bob")


def asked(budget: Budget, by: User, usd: str = "150") -> BudgetRaise:
    return raise_propose(budget=budget, amount_to=Decimal(usd), by=by, reason="Launch week")


def limit(budget: Budget) -> Decimal:
    return Budget.objects.get(pk=budget.pk).max_budget


# --- at once --------------------------------------------------------------------------------------------------------


def test_without_review_a_raise_is_applied_at_once_and_on_record(at_once: None, budget: Budget, author: User) -> None:
    window = budget_window_open(budget=budget, now=NOON)
    raised = budget_raise(budget=budget, amount=Decimal("20.50"), by=author, reason="Launch week")
    assert (limit(budget), raised.state) == (Decimal("120.50"), RaiseState.APPLIED)
    stored = BudgetRaise.objects.get()
    assert (stored.amount_from, stored.amount_to) == (Decimal(100), Decimal("120.50"))
    assert (stored.author, stored.reviewer, stored.reason) == (author, author, "Launch week")
    assert stored.reviewed_at is not None
    line = Budget.history.filter(id=budget.pk).latest()
    assert (line.history_user, line.history_change_reason) == (author, "Launch week")
    window.refresh_from_db()


def test_two_raises_at_once_add_up(at_once: None, budget: Budget, author: User) -> None:
    stale = Budget.objects.get(pk=budget.pk)
    budget_raise(budget=budget, amount=Decimal(10), by=author, reason="a")
    budget_raise(budget=stale, amount=Decimal(5), by=author, reason="b")
    assert limit(budget) == 115
    assert [(one.amount_from, one.amount_to) for one in BudgetRaise.objects.order_by("pk")] == [(100, 110), (110, 115)]


@pytest.mark.parametrize("amount", ["100", "99.99", "0"])
def test_what_is_no_raise_is_refused(review: None, budget: Budget, author: User, amount: str) -> None:
    with pytest.raises(ValidationError, match="more than nothing"):
        asked(budget, author, amount)
    assert not BudgetRaise.objects.exists()


@pytest.mark.parametrize("amount", ["99999999999.00", "NaN", "120.001"])
def test_an_amount_that_no_budget_can_have_is_refused(review: None, budget: Budget, author: User, amount: str) -> None:
    with pytest.raises(ValidationError):
        asked(budget, author, amount)
    assert not BudgetRaise.objects.exists()


# --- with review ----------------------------------------------------------------------------------------------------


def test_under_review_nothing_changes_until_somebody_else_approves(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    assert (raised.state, limit(budget), raise_open(budget)) == (RaiseState.REVIEW, 100, raised)
    done = raise_apply(raised=raised, by=approver, note="Agreed")
    assert (done.state, done.reviewer, done.review_note, limit(budget)) == ("applied", approver, "Agreed", 150)
    assert raise_open(budget) is None
    line = Budget.history.filter(id=budget.pk).latest()
    assert (line.history_user, line.history_change_reason) == (approver, "asked by ada: Launch week")


def test_nobody_approves_their_own_raise_not_even_a_superuser(review: None, budget: Budget) -> None:
    chief = UserFactory(is_superuser=True, is_staff=True)
    raised = asked(budget, chief)
    assert not may_decide(raised, chief)
    with pytest.raises(ValidationError, match="Somebody else has to approve"):
        raise_apply(raised=raised, by=chief)
    assert limit(budget) == 100


def test_when_the_review_is_switched_off_meanwhile_its_author_may_apply_it(
    review: None, settings: Settings, budget: Budget
) -> None:
    chief = UserFactory(is_superuser=True, is_staff=True)
    raised = asked(budget, chief)
    settings.POLICY_REVIEW = False
    assert may_decide(raised, chief)
    raise_apply(raised=raised, by=chief)
    assert limit(budget) == 150


def test_one_raise_of_a_budget_waits_at_a_time(review: None, budget: Budget, author: User, approver: User) -> None:
    first = asked(budget, author)
    with pytest.raises(ValidationError, match=r"A raise to \$150\.00 waits for approval"):
        asked(budget, approver, "170")
    raise_withdraw(raised=first, by=author)
    assert asked(budget, author, "170").state == RaiseState.REVIEW


def test_a_raise_is_outdated_once_the_amount_has_changed(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    budget.max_budget = Decimal(80)
    budget.save(update_fields=["max_budget"])
    raised.refresh_from_db()
    assert is_stale(raised)
    with pytest.raises(ValidationError, match=r"The budget is \$80\.00 by now"):
        raise_apply(raised=raised, by=approver)
    assert limit(budget) == 80
    raise_reject(raised=raised, by=approver, note="Outdated")
    raised.refresh_from_db()
    assert not is_stale(raised)


@pytest.mark.parametrize("state", [RaiseState.APPLIED, RaiseState.REJECTED, RaiseState.WITHDRAWN])
def test_what_is_decided_stays_decided(
    review: None, budget: Budget, author: User, approver: User, state: RaiseState
) -> None:
    raised = asked(budget, author)
    match state:
        case RaiseState.APPLIED:
            raise_apply(raised=raised, by=approver)
        case RaiseState.REJECTED:
            raise_reject(raised=raised, by=approver, note="Too much")
        case _:
            raise_withdraw(raised=raised, by=author)
    before = limit(budget)
    for again in (
        lambda: raise_apply(raised=raised, by=approver),
        lambda: raise_reject(raised=raised, by=approver, note="x"),
        lambda: raise_withdraw(raised=raised, by=author),
    ):
        with pytest.raises(ValidationError, match=f"This raise is {state.label.lower()} already"):
            again()
    assert limit(budget) == before


def test_a_rejection_needs_a_note_and_a_withdrawal_its_author(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    with pytest.raises(ValidationError, match="Say why"):
        raise_reject(raised=raised, by=approver, note="  ")
    with pytest.raises(ValidationError, match="Only who has asked"):
        raise_withdraw(raised=raised, by=approver)
    assert raise_open(budget) == raised


def test_a_raise_whose_author_is_gone_can_be_decided(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    author.delete()
    raise_apply(raised=raised, by=approver)
    assert limit(budget) == 150


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time anyway")
def test_of_two_approvers_at_the_same_time_one_is_told(review: None, budget: Budget, author: User) -> None:
    raised = asked(budget, author)
    people = [person("approve_budgetraise") for _ in range(4)]
    start, outcomes = threading.Barrier(len(people)), []

    def approve(by: User) -> None:
        start.wait()
        try:
            raise_apply(raised=raised, by=by)
            outcomes.append("")
        except ValidationError as error:
            outcomes.append(error.messages[0])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=approve, args=(by,)) for by in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("") == 1
    assert all("is applied already" in said for said in outcomes if said)
    assert limit(budget) == 150
    assert Budget.history.filter(id=budget.pk, max_budget=150).count() == 1


# --- the pages ------------------------------------------------------------------------------------------------------


def test_the_raise_button_asks_for_one_and_the_page_says_that_it_waits(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    ada, url = signed_in(author), page_of(budget, "raise")
    page = ada.get(url).content.decode()
    assert "Somebody else has to approve the raise" in page
    assert "Ask for the raise" in page
    said = ada.post(url, {"amount": "25", "reason": "Launch week"}, follow=True).content.decode()
    assert "The raise to $125.00 waits for approval by somebody else." in said
    assert limit(budget) == 100
    raised = BudgetRaise.objects.get()
    assert change_url(raised) in said
    assert "waits for approval" in ada.get(change_url(budget)).content.decode()
    again = ada.post(url, {"amount": "5", "reason": "more"}).content.decode()
    assert "A raise to $125.00 waits for approval. Withdraw it first" in again


def test_the_form_saves_what_else_was_edited_and_asks_for_the_amount(
    review: None, admin_client: Client, budget: Budget
) -> None:
    answer = submit(admin_client, change_url(budget), max_budget="250.00", soft_budget="60", mode="soft")
    assert answer.status_code == 302
    changed = Budget.objects.get()
    assert (changed.max_budget, changed.soft_budget, changed.mode) == (100, 60, "soft")
    raised = BudgetRaise.objects.get()
    assert (raised.state, raised.amount_from, raised.amount_to) == ("review", 100, 250)
    again = submit(admin_client, change_url(budget), max_budget="300")
    assert "A raise to $250.00 waits for approval already." in errors_of(again)


def test_a_warning_above_the_limit_in_force_waits_for_the_raise(
    review: None, admin_client: Client, budget: Budget
) -> None:
    answer = submit(admin_client, change_url(budget), max_budget="250.00", soft_budget="200")
    assert "Warn at no more than $100.00: that is the budget until the raise is approved." in errors_of(answer)
    assert not BudgetRaise.objects.exists()


def test_lowering_is_immediate_and_no_raise(review: None, admin_client: Client, budget: Budget) -> None:
    assert submit(admin_client, change_url(budget), max_budget="40").status_code == 302
    assert (limit(budget), BudgetRaise.objects.count()) == (40, 0)


def test_without_review_the_form_raises_at_once_and_keeps_who_did(
    at_once: None, admin_client: Client, admin_user: User, budget: Budget
) -> None:
    assert submit(admin_client, change_url(budget), max_budget="130", mode="soft").status_code == 302
    raised = BudgetRaise.objects.get()
    assert (limit(budget), raised.state, raised.author, raised.reviewer) == (130, "applied", admin_user, admin_user)
    page = admin_client.get(change_url(budget)).content.decode()
    assert "Raises" in page
    assert "$130.00" in page


def test_somebody_else_approves_on_the_raises_page(review: None, budget: Budget, author: User, approver: User) -> None:
    raised = asked(budget, author)
    bob = signed_in(approver)
    page = bob.get(change_url(raised)).content.decode()
    assert page_of(raised, "approve") in page
    assert page_of(raised, "withdraw") not in page
    question = bob.get(page_of(raised, "approve")).content.decode()
    assert "Approve the raise of Search from $100.00 to $150.00?" in question
    assert "Launch week" in question
    assert limit(budget) == 100
    said = bob.post(page_of(raised, "approve"), {"note": "Fine"}, follow=True).content.decode()
    assert "The limit is $150.00 now." in said
    assert (limit(budget), BudgetRaise.objects.get().review_note) == (150, "Fine")
    late = bob.post(page_of(raised, "reject"), {"note": "no"}, follow=True).content.decode()
    assert "This raise is applied already by bob" in late


def test_the_author_sees_the_raise_and_can_only_withdraw_it(review: None, budget: Budget) -> None:
    both = person("change_budget", "view_budget", "approve_budgetraise")
    raised = asked(budget, both)
    client = signed_in(both)
    page = client.get(change_url(raised)).content.decode()
    assert page_of(raised, "withdraw") in page
    for name in ("approve", "reject"):
        assert page_of(raised, name) not in page
        assert client.post(page_of(raised, name), {"note": "mine"}).status_code in {403, 404}
    assert "Withdraw the raise" in client.get(page_of(raised, "withdraw")).content.decode()
    assert "Withdrawn." in client.post(page_of(raised, "withdraw"), follow=True).content.decode()
    assert (limit(budget), BudgetRaise.objects.get().state) == (100, "withdrawn")


def test_a_rejection_is_explained(review: None, budget: Budget, author: User, approver: User) -> None:
    raised = asked(budget, author)
    bob = signed_in(approver)
    assert "This field is required" in bob.post(page_of(raised, "reject"), {"note": ""}).content.decode()
    bob.post(page_of(raised, "reject"), {"note": "Too much for March"})
    page = signed_in(author).get(change_url(raised)).content.decode()
    assert "Too much for March" in page
    assert (limit(budget), BudgetRaise.objects.get().state) == (100, "rejected")


def test_an_outdated_raise_has_no_button_to_approve(review: None, budget: Budget, author: User, approver: User) -> None:
    raised = asked(budget, author)
    Budget.objects.update(max_budget=Decimal(90))
    bob = signed_in(approver)
    page = bob.get(change_url(raised)).content.decode()
    assert "Outdated" in page
    assert page_of(raised, "approve") not in page
    said = bob.post(page_of(raised, "approve"), {"note": ""}, follow=True).content.decode()
    assert "The budget is $90.00 by now" in said


@pytest.mark.parametrize("permissions", [(), ("view_budget",), ("view_budgetraise",), ("change_budget",)])
def test_without_the_permission_nobody_approves(
    review: None, budget: Budget, author: User, permissions: tuple[str, ...]
) -> None:
    raised = asked(budget, author)
    client = signed_in(person(*permissions))
    for name in ("approve", "reject", "withdraw"):
        assert client.post(page_of(raised, name), {"note": "mine"}).status_code in {403, 404}
    assert (limit(budget), BudgetRaise.objects.get().state) == (100, "review")


def test_open_raises_are_counted_in_the_sidebar(review: None, admin_client: Client, author: User) -> None:
    def badge() -> list[Any]:
        navigation = admin_client.get("/admin/").context["sidebar_navigation"]
        return [
            item.get("badge") for group in navigation for item in group["items"] if item["title"] == "Budget raises"
        ]

    assert badge() == [None]
    for _ in range(2):
        asked(BudgetFactory(max_budget=Decimal(100)), author)
    assert badge() == [2]


def test_the_list_takes_no_query_per_row_and_filters_by_state(
    review: None, admin_client: Client, author: User, approver: User
) -> None:
    first = asked(BudgetFactory(max_budget=Decimal(100), team__name="First"), author)
    raise_apply(raised=first, by=approver)
    few = queries_of(admin_client, list_url(BudgetRaise))
    for number in range(5):
        asked(BudgetFactory(max_budget=Decimal(100), team__name=f"Team {number}"), author)
    assert queries_of(admin_client, list_url(BudgetRaise)) == few
    page = admin_client.get(list_url(BudgetRaise, "state__exact=review")).content.decode()
    assert "Team 3" in page
    assert admin_client.get(list_url(BudgetRaise, "q=First")).content.decode().count("$150.00") == 1


@pytest.mark.parametrize("edit", [lambda client, url: client.get(url + "?x=1"), lambda client, url: client.post(url)])
def test_a_raise_is_not_edited_by_hand(
    review: None, admin_client: Client, budget: Budget, author: User, edit: Callable[[Client, str], Any]
) -> None:
    raised = asked(budget, author)
    assert edit(admin_client, change_url(raised)).status_code in {200, 403}
    assert admin_client.get("/admin/analytics/budgetraise/add/").status_code == 403
    assert admin_client.post(page_of(raised, "delete"), {"post": "yes"}).status_code == 403
    assert BudgetRaise.objects.get().state == "review"
