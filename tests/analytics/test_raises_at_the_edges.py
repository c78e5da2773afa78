"""Raises of budgets where it is close: amounts, lengths, people, budgets that changed, and what pages say."""

from decimal import Decimal
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from pytest_django import Settings

from analytics.admin.raises import LINES_SHOWN, raise_lines, state_label
from analytics.models import Budget, BudgetRaise
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
from providers.admin.pages import change_url, list_url
from tests.admin_pages import page_of
from tests.factories import BudgetFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


@pytest.fixture
def at_once(settings: Settings) -> None:
    settings.POLICY_REVIEW = False


@pytest.fixture
def budget() -> Budget:
    made: Budget = BudgetFactory(team=TeamFactory(name="Search"), max_budget=Decimal(100))
    return made


def person(*permissions: str, **columns: object) -> User:
    made: User = UserFactory(**{"is_staff": True} | columns)
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return made


@pytest.fixture
def author() -> User:
    return person("change_budget", "view_budget", username="ada")


@pytest.fixture
def approver() -> User:
    return person("approve_budgetraise", "view_budget", "view_budgetraise", username="bob")


def signed_in(someone: User) -> Client:
    client = Client()
    client.force_login(someone)
    return client


def asked(budget: Budget, by: User | None, usd: str = "150", reason: str = "Launch week") -> BudgetRaise:
    return raise_propose(budget=budget, amount_to=Decimal(usd), by=by, reason=reason)


def limit(budget: Budget) -> Decimal:
    return Budget.objects.get(pk=budget.pk).max_budget


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


# --- amounts and lengths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("usd", "is_raise"), [("99.99", False), ("100.00", False), ("100.01", True), ("1e2", False)])
def test_a_cent_more_is_a_raise_and_the_same_is_none(
    review: None, budget: Budget, author: User, usd: str, is_raise: bool
) -> None:
    if is_raise:
        assert asked(budget, author, usd).amount_to == Decimal(usd)
        return
    with pytest.raises(ValidationError, match="Raise it by more than nothing"):
        asked(budget, author, usd)


@pytest.mark.parametrize("usd", ["NaN", "Infinity", "-Infinity", "-5", "0", "0.001", "9999999999.99"])
def test_an_amount_to_add_that_makes_no_sense_is_refused_in_words(
    at_once: None, budget: Budget, author: User, usd: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        budget_raise(budget=budget, amount=Decimal(usd), by=author, reason="x")
    assert refused.value.messages[0]
    assert limit(budget) == 100
    assert not BudgetRaise.objects.exists()


def test_a_long_reason_is_kept_with_the_raise_and_shortened_in_the_history(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author, reason="because " * 35)
    raise_apply(raised=raised, by=approver, note="n" * 300)
    stored = BudgetRaise.objects.get()
    assert (len(stored.reason), len(stored.review_note)) == (280, 300)
    line = Budget.history.filter(id=budget.pk).latest()
    assert len(line.history_change_reason) == 100
    assert line.history_change_reason.startswith("asked by ada: because")


def test_a_raise_by_the_platform_itself_has_no_author_and_anybody_may_take_it_back(
    review: None, budget: Budget, approver: User
) -> None:
    raised = asked(budget, None)
    assert (raised.author, may_decide(raised, approver)) == (None, True)
    raise_withdraw(raised=raised, by=approver)
    stored = BudgetRaise.objects.get()
    assert (stored.state, stored.reviewer, limit(budget)) == ("withdrawn", approver, 100)


def test_the_database_too_lets_one_raise_of_a_budget_wait(review: None, budget: Budget, author: User) -> None:
    asked(budget, author)
    with pytest.raises(IntegrityError), transaction.atomic():
        BudgetRaise.objects.create(budget=budget, amount_from=100, amount_to=200, author=author)


def test_raises_of_other_budgets_do_not_wait_for_each_other(review: None, budget: Budget, author: User) -> None:
    other = BudgetFactory(max_budget=Decimal(5))
    first, second = asked(budget, author), asked(other, author, "6")
    assert (raise_open(budget), raise_open(other)) == (first, second)


# --- a budget that changes meanwhile --------------------------------------------------------------------------------


def test_a_budget_that_went_back_to_what_it_was_can_be_raised_as_asked(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    for amount in (80, 100):
        Budget.objects.filter(pk=budget.pk).update(max_budget=amount)
    raised = BudgetRaise.objects.get()
    assert not is_stale(raised)
    raise_apply(raised=raised, by=approver)
    assert limit(budget) == 150


def test_a_raise_of_long_ago_that_was_decided_is_never_outdated(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raise_apply(raised=asked(budget, author), by=approver)
    Budget.objects.update(max_budget=7)
    stored = BudgetRaise.objects.select_related("budget").get()
    assert not is_stale(stored)
    assert "Applied" in state_label(stored)


def test_raises_go_with_their_budget(review: None, budget: Budget, author: User) -> None:
    asked(budget, author)
    budget.delete()
    assert not BudgetRaise.objects.exists()


def test_a_reviewer_who_is_gone_leaves_the_decision(review: None, budget: Budget, author: User, approver: User) -> None:
    raise_reject(raised=asked(budget, author), by=approver, note="no")
    approver.delete()
    stored = BudgetRaise.objects.get()
    with pytest.raises(ValidationError) as refused:
        raise_apply(raised=stored, by=person("approve_budgetraise"))
    assert refused.value.messages == ["This raise is rejected already."]


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "sees", "decides"),
    [
        ((), False, False),
        (("view_budget",), False, False),
        (("view_budgetraise",), True, False),
        (("change_budget",), True, False),
        (("approve_budgetraise",), True, True),
    ],
)
def test_who_sees_raises_and_who_decides(
    review: None, budget: Budget, author: User, permissions: tuple[str, ...], sees: bool, decides: bool
) -> None:
    raised = asked(budget, author)
    client = signed_in(person(*permissions))
    assert client.get(list_url(BudgetRaise)).status_code == (200 if sees else 403)
    assert client.get(change_url(raised)).status_code == (200 if sees else 403)
    for name in ("approve", "reject"):
        assert (client.get(page_of(raised, name)).status_code == 200) is decides
    assert client.get(page_of(raised, "withdraw")).status_code in {403, 404}
    assert (limit(budget), BudgetRaise.objects.get().state) == (100, "review")


def test_people_without_staff_are_sent_to_sign_in(review: None, budget: Budget, author: User) -> None:
    raised = asked(budget, author)
    client = signed_in(person("approve_budgetraise", is_staff=False))
    for url in (list_url(BudgetRaise), change_url(raised), page_of(raised, "approve")):
        assert client.get(url).status_code == 302
    assert client.post(page_of(raised, "approve")).status_code == 302
    assert limit(budget) == 100


def test_looking_at_the_question_decides_nothing(review: None, budget: Budget, author: User, approver: User) -> None:
    raised = asked(budget, author)
    client = signed_in(approver)
    for name in ("approve", "reject"):
        assert "Launch week" in text_of(client, page_of(raised, name))
    assert BudgetRaise.objects.get().state == "review"


@pytest.mark.parametrize("number", ["999", "none", str(10**30)])
def test_a_raise_that_does_not_exist_is_not_found(review: None, approver: User, number: str) -> None:
    client = signed_in(approver)
    for name in ("approve", "reject", "withdraw"):
        assert client.get(f"/admin/analytics/budgetraise/{number}/{name}/").status_code in {403, 404}


@pytest.mark.parametrize("name", ["approve", "reject"])
def test_a_note_that_is_too_long_is_refused_and_nothing_is_decided(
    review: None, budget: Budget, author: User, approver: User, name: str
) -> None:
    raised = asked(budget, author)
    answer = signed_in(approver).post(page_of(raised, name), {"note": "n" * 301})
    assert "at most 300 characters" in answer.content.decode()
    assert (limit(budget), BudgetRaise.objects.get().state) == (100, "review")


def test_the_second_of_two_approvers_is_told_who_was_first(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    other = signed_in(person("approve_budgetraise", username="eve"))
    signed_in(approver).post(page_of(raised, "approve"), {"note": ""})
    said = other.post(page_of(raised, "approve"), {"note": ""}, follow=True).content.decode()
    assert "This raise is applied already by bob." in unescape(said)
    assert limit(budget) == 150


def test_a_withdrawn_raise_can_not_be_approved_by_a_page_that_was_open(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author)
    raise_withdraw(raised=raised, by=author)
    said = signed_in(approver).post(page_of(raised, "approve"), {"note": ""}, follow=True).content.decode()
    assert "This raise is withdrawn already by ada." in unescape(said)
    assert limit(budget) == 100


# --- what the pages say ---------------------------------------------------------------------------------------------


def test_amounts_have_their_unit_on_every_page(review: None, author: User, approver: User) -> None:
    big = BudgetFactory(team=TeamFactory(name="Big"), max_budget=Decimal("1234.50"))
    raised = asked(big, author, "20000")
    client = signed_in(approver)
    for url in (list_url(BudgetRaise), change_url(raised)):
        assert "$1,234.50 → $20,000.00" in text_of(client, url)
    question = text_of(client, page_of(raised, "approve"))
    assert "from $1,234.50 to $20,000.00" in question


def test_what_people_write_is_never_markup(review: None, budget: Budget, author: User, approver: User) -> None:
    raised = asked(budget, author, reason="<script>alert(1)</script>")
    client = signed_in(approver)
    for url in (list_url(BudgetRaise), change_url(raised), page_of(raised, "approve"), page_of(raised, "reject")):
        assert "<script>alert(1)" not in client.get(url).content.decode()
    client.post(page_of(raised, "reject"), {"note": "<b>no</b>"})
    assert "<b>no</b>" not in client.get(change_url(raised)).content.decode()


def test_nobody_known_stands_for_people_who_are_gone(
    review: None, budget: Budget, author: User, approver: User
) -> None:
    raised = asked(budget, author, reason="")
    raise_reject(raised=raised, by=approver, note="no")
    author.delete()
    approver.delete()
    chief = signed_in(person(is_superuser=True))
    assert text_of(chief, change_url(raised)).count("nobody known") == 2


def test_without_raises_the_list_and_the_budget_say_so(review: None, admin_client: Client, budget: Budget) -> None:
    assert raise_lines(budget) == []
    assert admin_client.get(list_url(BudgetRaise)).status_code == 200
    assert admin_client.get(change_url(budget)).status_code == 200


def test_a_budget_shows_its_latest_raises_only_and_no_other_budgets(
    at_once: None, budget: Budget, author: User
) -> None:
    other = BudgetFactory(max_budget=Decimal(1))
    budget_raise(budget=other, amount=Decimal(1), by=author, reason="other")
    for number in range(LINES_SHOWN + 2):
        budget_raise(budget=budget, amount=Decimal(1), by=author, reason=f"raise {number}")
    shown = [line.raised.reason for line in raise_lines(budget)]
    assert shown == [f"raise {number}" for number in range(LINES_SHOWN + 1, 1, -1)]
