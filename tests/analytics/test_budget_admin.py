"""Budgets in the admin: what is refused, what a list finds, what the cells say, and what the buttons do."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from analytics.models import Budget, BudgetDuration, BudgetLease, BudgetMode, BudgetWindow
from analytics.services.budgets import GONE_AFTER, budget_window_open
from providers.admin.pages import change_url, list_url
from tests.admin_pages import errors_of, page_of, queries_of, submit, submit_new
from tests.factories import (
    BudgetFactory,
    BudgetLeaseFactory,
    ModelAliasFactory,
    PersonaFactory,
    TeamFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    key_budget,
    mark_hour,
)

pytestmark = pytest.mark.django_db
ADD = "/admin/analytics/budget/add/"
USD = 10**9


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def window() -> BudgetWindow:
    """Of this month: $100, $40 spent, $20 leased by one gateway."""
    now = timezone.now()
    opened = budget_window_open(budget=BudgetFactory(team__name="Search"), now=now)
    BudgetWindow.objects.filter(pk=opened.pk).update(spent_nano=40 * USD, leased_nano=20 * USD)
    BudgetLeaseFactory(window=opened, owner="gateway-seven", amount_nano=20 * USD, held_nano=3 * USD)
    opened.refresh_from_db()
    return opened


@pytest.fixture
def onlooker(client: Client) -> Client:
    """May see budgets, and nothing else."""
    person = UserFactory(is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_budget"))
    client.force_login(person)
    return client


# --- the form -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"team": ""}, "Choose the team it is for."),
        ({"team": "999999"}, "Select a valid choice"),
        ({"scope": "key"}, "Choose the key it is for."),
        ({"scope": "persona"}, "Choose the persona it is for."),
        ({"scope": "alias"}, "Choose the model alias it is for."),
        ({"scope": "planet"}, "Select a valid choice"),
        ({"max_budget": ""}, "This field is required"),
        ({"max_budget": "-0.01"}, "greater than or equal to 0"),
        ({"max_budget": "0.001"}, "no more than 2 decimal places"),
        ({"max_budget": "12345678901.00"}, "no more than 12 digits in total"),
        ({"max_budget": "NaN"}, "Enter a number"),
        ({"soft_budget": "10.01"}, "Warn at no more than the budget itself."),
        ({"soft_budget": "0"}, "greater than or equal to 0.01"),
        ({"budget_duration": "1w"}, "Select a valid choice"),
        ({"time_zone": "Mars/Base"}, "“Mars/Base” is no time zone. Use a name such as UTC or Europe/Berlin."),
        ({"time_zone": ""}, "This field is required"),
        ({"mode": "lenient"}, "Select a valid choice"),
    ],
)
def test_a_budget_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    answer = submit_new(admin_client, ADD, **{"team": TeamFactory().pk, "max_budget": "10"} | fields)
    assert said in errors_of(answer)
    assert "Constraint" not in errors_of(answer)
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("scope", "make"),
    [("team", TeamFactory), ("key", VirtualKeyFactory), ("persona", PersonaFactory), ("alias", ModelAliasFactory)],
)
def test_a_budget_is_for_what_was_chosen_and_nothing_beside_it(
    admin_client: Client, scope: str, make: Callable[[], Any]
) -> None:
    subject = make()
    fields = {"team": TeamFactory().pk, scope: subject.pk}  # a team chosen before another scope was
    assert submit_new(admin_client, ADD, scope=scope, max_budget="0", **fields).status_code == 302
    budget = Budget.objects.get()
    assert budget.subject == subject
    assert [getattr(budget, other) for other in ("team", "key", "persona", "alias")].count(None) == 3


def test_one_subject_has_one_budget_in_force_per_period(admin_client: Client) -> None:
    budget = BudgetFactory(team__name="Search", max_budget=Decimal(1500))
    answer = submit_new(admin_client, ADD, team=budget.team.pk, max_budget="10")
    assert "Search has a budget per calendar month already: $1,500.00. Change that one." in errors_of(answer)
    assert submit_new(admin_client, ADD, team=budget.team.pk, max_budget="1", budget_duration="1d").status_code == 302
    assert submit_new(admin_client, ADD, team=budget.team.pk, max_budget="1", is_active="").status_code == 302


def test_the_second_of_two_cannot_be_switched_on(admin_client: Client) -> None:
    budget = BudgetFactory(team__name="Search")
    second = BudgetFactory(team=budget.team, is_active=False)
    assert "Search has a budget per calendar month" in errors_of(
        submit(admin_client, change_url(second), is_active="on")
    )
    other = BudgetFactory(is_active=False)
    chosen = {"action": "switch_on", "_selected_action": [second.pk, other.pk]}
    said = admin_client.post(list_url(Budget), chosen, follow=True).content.decode()
    assert "Search has a budget per calendar month already" in said
    assert "1 switched on." in said
    assert set(Budget.objects.filter(is_active=True)) == {budget, other}
    admin_client.post(list_url(Budget), chosen | {"action": "switch_off"})
    assert list(Budget.objects.filter(is_active=True)) == [budget]


def test_what_would_change_the_past_stays_as_it_was_created(admin_client: Client) -> None:
    budget = BudgetFactory()
    other = TeamFactory()
    wanted = {"scope": "key", "team": other.pk, "budget_duration": "1d", "time_zone": "Asia/Tokyo"}
    submit(admin_client, change_url(budget), max_budget="55", mode=BudgetMode.SOFT, **wanted)
    changed = Budget.objects.get()
    assert (changed.scope, changed.team, changed.budget_duration, changed.time_zone) == (
        "team",
        budget.team,
        "1mo",
        "UTC",
    )
    assert (changed.max_budget, changed.mode) == (Decimal(55), "soft")


def test_a_changed_limit_is_in_force_at_once_and_in_the_history(
    admin_client: Client, admin_user: User, window: BudgetWindow
) -> None:
    submit(admin_client, change_url(window.budget), max_budget="70")
    window.refresh_from_db()
    assert window.ceiling_nano == 70 * USD
    line = Budget.history.filter(id=window.budget_id).latest()
    assert (line.max_budget, line.history_user) == (Decimal(70), admin_user)


# --- the list -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spent", "tone", "text"),
    [(0, "meter ", "$0.00 of $100.00 (0"), (79, "meter ", "(79.0"), (80, "meter warn", "(80.0"),
     (100, "meter bad", "(100"),
     (250, "meter bad", "$250.00 of $100.00 (250.0")],
)  # fmt: skip
def test_the_bar_of_a_budget_changes_its_tone_where_alerts_open(
    admin_client: Client, spent: int, tone: str, text: str
) -> None:
    key, now = VirtualKeyFactory(), timezone.now()
    BudgetFactory(team=key.team)
    UsageRecordFactory(key=key, at=now, cost_nano=spent * USD)
    mark_hour(now)
    page = text_of(admin_client, list_url(Budget))
    assert f'class="{tone}"' in page
    assert text in page


def test_the_list_says_what_is_held_and_what_remains(admin_client: Client, window: BudgetWindow) -> None:
    page = text_of(admin_client, list_url(Budget))
    assert "$20.00 held" in page
    assert '<span class="cell-number">$40.00</span>' in page
    assert 'x="40.00%" width="20.00%"' in page


@pytest.mark.parametrize(
    ("query", "found"),
    [("q=search", "Search"), ("q=nightly", "nightly"), ("q=analyst", "Analyst"), ("q=swift", "swift-1"),
     ("scope__in=key", "nightly"), ("mode__in=shadow", "Analyst"), ("budget_duration__in=1d", "swift-1")],
)  # fmt: skip
def test_a_budget_is_found_by_its_subject_and_by_what_it_is_like(admin_client: Client, query: str, found: str) -> None:
    BudgetFactory(team__name="Search")
    key_budget(VirtualKeyFactory(name="nightly job", team__name="Reports"))
    BudgetFactory(scope="persona", team=None, persona=PersonaFactory(slug="analyst"), mode=BudgetMode.SHADOW)
    BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory(name="swift-1"), budget_duration=BudgetDuration.DAY)
    page: Any = admin_client.get(f"{list_url(Budget)}?{query}")
    [budget] = page.context["cl"].result_list
    assert found in str(budget.subject)


def test_budgets_of_every_kind_take_as_many_queries_as_one_of_each(admin_client: Client) -> None:
    def make() -> None:
        now = timezone.now()
        budgets = [
            BudgetFactory(),
            key_budget(VirtualKeyFactory()),
            BudgetFactory(scope="persona", team=None, persona=PersonaFactory()),
            BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory()),
        ]
        for budget in budgets[:2]:
            budget_window_open(budget=budget, now=now)

    make()
    admin_client.get(list_url(Budget))
    once = queries_of(admin_client, list_url(Budget))
    for _ in range(4):
        make()
    assert queries_of(admin_client, list_url(Budget)) == once


def test_a_budget_that_is_off_shows_no_spend_in_the_list_and_says_so_on_its_page(admin_client: Client) -> None:
    budget = BudgetFactory(is_active=False)
    assert "cell-bar" not in text_of(admin_client, list_url(Budget))
    assert "Off: refuses and warns of nothing" in text_of(admin_client, change_url(budget))


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_says_what_is_spent_held_and_left_and_who_holds_it(admin_client: Client, window: BudgetWindow) -> None:
    BudgetWindow.objects.filter(pk=window.pk).update(would_refuse=1234, overrun_nano=2 * USD)
    page = text_of(admin_client, change_url(window.budget))
    for figure in ("$40.00</dd>", "$20.00</dd>", "$100.00</dd>", "1,234</strong> requests would have been refused"):
        assert figure in page
    assert "<strong>$2.00</strong> of it no lease covered" in page
    assert "gateway-seven" in page
    assert "$3.00" in page
    assert "Write off" not in page
    assert "Data as of" in page


def test_a_new_budget_counts_what_was_spent_before_it(admin_client: Client) -> None:
    now = timezone.now()
    record = UsageRecordFactory(at=now, cost_nano=4 * USD)
    mark_hour(now)
    submit_new(admin_client, ADD, team=record.team.pk, max_budget="5")
    page = text_of(admin_client, change_url(Budget.objects.get()))
    assert "$4.00</dd>" in page
    assert 'class="meter warn"' in page


def test_periods_before_are_listed(admin_client: Client, window: BudgetWindow) -> None:
    assert "None yet: this is the first period" in text_of(admin_client, change_url(window.budget))
    month = window.starts_at - timedelta(days=1)
    before = budget_window_open(budget=window.budget, now=month)
    BudgetWindow.objects.filter(pk=before.pk).update(opening_nano=USD, spent_nano=11 * USD)
    assert "$12.00</td>" in text_of(admin_client, change_url(window.budget))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("duration", BudgetDuration.values)
def test_every_kind_of_period_has_its_page(admin_client: Client, duration: str, zone: str) -> None:
    now = timezone.now()
    record = UsageRecordFactory(at=now, cost_nano=USD)
    mark_hour(now)
    budget = BudgetFactory(
        team=record.team, budget_duration=duration, time_zone=zone, created_at=now - timedelta(days=100)
    )
    page = text_of(admin_client, change_url(budget))
    assert ("Never starts again" in page) is (duration == "total")
    assert "$1.00 so far</title>" in page


# --- steering -----------------------------------------------------------------------------------------------------


def test_raising_asks_how_much_and_why_and_keeps_both(
    admin_client: Client, admin_user: User, window: BudgetWindow
) -> None:
    url = page_of(window.budget, "raise")
    assert "$40.00 of $100.00 per calendar month are spent, $20.00 are held" in text_of(admin_client, url)
    said = admin_client.post(url, {"amount": "50.25", "reason": "Launch week"}, follow=True).content.decode()
    assert "The limit is $150.25 now." in said
    line = Budget.history.filter(id=window.budget_id).latest()
    assert (line.history_user, line.history_change_reason) == (admin_user, "Launch week")
    assert "Launch week" in text_of(admin_client, page_of(window.budget, "history"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": "0", "reason": "x"}, "greater than or equal to 0.01"),
        ({"amount": "-5", "reason": "x"}, "greater than or equal to 0.01"),
        ({"amount": "lots", "reason": "x"}, "Enter a number"),
        ({"amount": "9999999999.99", "reason": "x"}, "no more than 12 digits in total"),
        ({"amount": "5", "reason": ""}, "This field is required"),
        ({"amount": "5", "reason": "x" * 101}, "at most 100 characters"),
    ],
)
def test_a_raise_is_refused_in_words(
    admin_client: Client, window: BudgetWindow, fields: dict[str, str], said: str
) -> None:
    answer = admin_client.post(page_of(window.budget, "raise"), fields)
    assert said in answer.content.decode()
    assert Budget.objects.get().max_budget == 100


def test_recalling_asks_first_and_then_the_gateways(admin_client: Client, window: BudgetWindow) -> None:
    url = page_of(window.budget, "recall")
    assert "set $20.00 aside" in text_of(admin_client, url)
    window.refresh_from_db()
    assert window.wanted_at is None
    assert "1 gateways are asked" in admin_client.post(url, follow=True).content.decode()
    window.refresh_from_db()
    assert window.wanted_at is not None


def test_nothing_is_offered_for_recall_where_nothing_is_leased(admin_client: Client, window: BudgetWindow) -> None:
    assert "Recall idle leases" in text_of(admin_client, change_url(window.budget))
    BudgetLease.objects.all().delete()
    assert "Recall idle leases" not in text_of(admin_client, change_url(window.budget))


def test_the_lease_of_a_gateway_that_is_gone_can_be_written_off(admin_client: Client, window: BudgetWindow) -> None:
    lease = BudgetLease.objects.get()
    BudgetLease.objects.update(renewed_at=timezone.now() - GONE_AFTER)
    url = page_of(window.budget, f"leases/{lease.pk}/write-off")
    assert url in text_of(admin_client, change_url(window.budget))
    assert "all $20.00 count as spent" in text_of(admin_client, url)
    assert "This field is required" in admin_client.post(url, {"reason": ""}).content.decode()
    said = admin_client.post(url, {"reason": "Machine burnt"}, follow=True).content.decode()
    assert "$20.00 of gateway-seven count as spent." in said
    window.refresh_from_db()
    assert (window.opening_nano, window.leased_nano) == (20 * USD, 0)
    assert "Machine burnt" in text_of(admin_client, page_of(window.budget, "history"))
    assert "has ended meanwhile" in admin_client.post(url, {"reason": "again"}, follow=True).content.decode()


def test_a_gateway_that_lives_is_not_written_off(admin_client: Client, window: BudgetWindow) -> None:
    url = page_of(window.budget, f"leases/{BudgetLease.objects.get().pk}/write-off")
    assert "sign of life" in admin_client.post(url, {"reason": "x"}, follow=True).content.decode()
    assert BudgetLease.objects.exists()


def test_a_lease_is_found_below_its_own_budget_only(admin_client: Client, window: BudgetWindow) -> None:
    BudgetLease.objects.update(renewed_at=timezone.now() - GONE_AFTER)
    url = page_of(BudgetFactory(), f"leases/{BudgetLease.objects.get().pk}/write-off")
    assert "has ended meanwhile" in admin_client.post(url, {"reason": "x"}, follow=True).content.decode()
    assert BudgetLease.objects.exists()


def test_who_may_only_look_sees_the_page_and_steers_nothing(onlooker: Client, window: BudgetWindow) -> None:
    BudgetLease.objects.update(renewed_at=timezone.now() - GONE_AFTER)
    page = text_of(onlooker, change_url(window.budget))
    assert "gateway-seven" in page
    for word in ("Write off", "Raise", "Recall idle leases"):
        assert word not in page
    lease = BudgetLease.objects.get()
    for name in ("raise", "recall", f"leases/{lease.pk}/write-off"):
        answer = onlooker.post(page_of(window.budget, name), {"amount": "5", "reason": "mine"})
        assert answer.status_code in {403, 404}
    assert Budget.objects.get().max_budget == 100
    window.refresh_from_db()
    assert (window.wanted_at, window.opening_nano) == (None, 0)


def test_a_deleted_budget_leaves_a_line_in_the_history(admin_client: Client, window: BudgetWindow) -> None:
    assert admin_client.post(page_of(window.budget, "delete"), {"post": "yes"}).status_code == 302
    assert not BudgetWindow.objects.exists()
    assert Budget.history.filter(history_type="-").count() == 1
