"""Budgets and alerts in the admin: what is refused, what a list finds, and what the cells say."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.models import Budget, BudgetAlert, DirtyDay, UsageRecord, UsageState
from providers.admin.pages import change_url, list_url
from tests.admin_pages import errors_of, page_of, submit_new
from tests.factories import (
    NOON,
    BudgetAlertFactory,
    BudgetFactory,
    TeamFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db
ADD = "/admin/analytics/budget/add/"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"team": ""}, "This field is required"),
        ({"team": "999999"}, "Select a valid choice"),
        ({"max_budget": ""}, "This field is required"),
        ({"max_budget": "0"}, "greater than or equal to 0.01"),
        ({"max_budget": "-5"}, "greater than or equal to 0.01"),
        ({"max_budget": "0.001"}, "no more than 2 decimal places"),
        ({"max_budget": "12345678901.00"}, "no more than 12 digits in total"),
        ({"max_budget": "NaN"}, "Enter a number"),
        ({"max_budget": "ten"}, "Enter a number"),
        ({"budget_duration": "1w"}, "Select a valid choice"),
    ],
)
def test_a_budget_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    answer = submit_new(admin_client, ADD, **{"team": TeamFactory().pk, "max_budget": "10"} | fields)
    assert said in errors_of(answer)
    assert not Budget.objects.exists()


def test_a_team_has_one_budget_of_a_kind(admin_client: Client) -> None:
    budget = BudgetFactory()
    answer = submit_new(admin_client, ADD, team=budget.team.pk, max_budget="10")
    assert "Budget with this Team and Per already exists" in errors_of(answer)
    assert submit_new(admin_client, ADD, team=budget.team.pk, max_budget="1", budget_duration="1d").status_code == 302


def test_a_new_budget_counts_what_was_spent_before_it(admin_client: Client) -> None:
    now = timezone.now()
    record = UsageRecordFactory(at=now, cost_nano=4 * 10**9)
    DirtyDay.objects.create(day=now.date())
    submit_new(admin_client, ADD, team=record.team.pk, max_budget="5")
    page = admin_client.get(change_url(Budget.objects.get())).content.decode()
    assert "$4.00 of $5.00 (80.0" in page
    assert "bar-warn" in page


@pytest.mark.parametrize(
    ("spent", "tone", "text"),
    [(0, "good", "$0.00 of $100.00 (0"), (79, "good", "(79.0"), (80, "warn", "(80.0"), (100, "bad", "(100"),
     (250, "bad", "$250.00 of $100.00 (250.0")],
)  # fmt: skip
def test_the_cell_of_a_budget_changes_its_tone_where_alerts_open(
    admin_client: Client, spent: int, tone: str, text: str
) -> None:
    now = timezone.now()
    key = VirtualKeyFactory()
    BudgetFactory(team=key.team, max_budget=Decimal(100))
    if spent:
        UsageRecordFactory(key=key, at=now, cost_nano=spent * 10**9)
        DirtyDay.objects.create(day=now.date())
    page = admin_client.get(list_url(Budget)).content.decode()
    assert f"bar-{tone}" in page
    assert text in page


def test_a_budget_that_is_off_shows_no_spend(admin_client: Client) -> None:
    budget = BudgetFactory(is_active=False)
    assert "cell-bar" not in admin_client.get(list_url(Budget)).content.decode()
    assert "cell-bar" not in admin_client.get(change_url(budget)).content.decode()


def test_a_deleted_budget_takes_its_alerts_along(admin_client: Client) -> None:
    alert = BudgetAlertFactory()
    assert admin_client.post(page_of(alert.budget, "delete"), {"post": "yes"}).status_code == 302
    assert not BudgetAlert.objects.exists()
    assert Budget.history.filter(history_type="-").count() == 1


# --- alerts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "thresholds"), [("yes", {50, 80}), ("no", {100}), ("", {50, 80, 100})])
def test_alerts_are_found_by_what_was_done_about_them(admin_client: Client, state: str, thresholds: set[int]) -> None:
    budget = BudgetFactory()
    for threshold in (50, 80, 100):
        at = timezone.now() if threshold == 100 else None
        BudgetAlertFactory(budget=budget, threshold=threshold, acknowledged_at=at)
    page: Any = admin_client.get(list_url(BudgetAlert), {"open": state} if state else {})
    assert {alert.threshold for alert in page.context["cl"].result_list} == thresholds


def test_an_alert_says_what_was_passed_when_and_of_which_budget(admin_client: Client) -> None:
    alert = BudgetAlertFactory(budget__max_budget=Decimal("1234.50"), spent_nano=990 * 10**9)
    page = admin_client.get(change_url(alert)).content.decode()
    assert "80 %" in page
    assert "$990.00" in page
    assert "$1,234.50 per calendar month, from 1 Mar 2026" in page


def test_acknowledging_twice_keeps_the_first_time(admin_client: Client) -> None:
    earlier = timezone.now() - timedelta(days=1)
    alert = BudgetAlertFactory(acknowledged_at=earlier)
    chosen = {"action": "acknowledge", "_selected_action": [alert.pk]}
    assert "0 acknowledged" in admin_client.post(list_url(BudgetAlert), chosen, follow=True).content.decode()
    alert.refresh_from_db()
    assert alert.acknowledged_at == earlier


# --- usage records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [(UsageState.SETTLED, "", "Answered"), (UsageState.SETTLED, "upstream_failed", "Broke off"),
     (UsageState.CANCELLED, "client_closed_request", "Cancelled"), (UsageState.RELEASED, "upstream_failed", "Failed"),
     (UsageState.EXPIRED, "gateway_stopped", "In doubt"), ("lost", "", "lost")],
)  # fmt: skip
def test_the_list_says_how_a_request_ended(admin_client: Client, state: str, error: str, said: str) -> None:
    UsageRecordFactory(state=state, error_code=error)
    assert f"{said}" in admin_client.get(list_url(UsageRecord)).content.decode().partition("<tbody")[2]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"started_at_from": "2026-03-10"}, {"noon", "late"}),
        ({"started_at_to": "2026-03-10"}, {"early", "noon", "late"}),
        ({"started_at_from": "2026-03-10", "started_at_to": "2026-03-10"}, {"noon", "late"}),
        ({"started_at_to": "2026-03-09"}, {"early"}),
        ({"started_at_from": "2026-03-11"}, set()),
        ({"started_at_from": "", "started_at_to": ""}, {"early", "noon", "late"}),
    ],
)
def test_days_are_utc_days_and_both_are_included(admin_client: Client, query: dict[str, str], found: set[str]) -> None:
    midnight = NOON.replace(hour=0)
    moments = {"early": -timedelta(microseconds=1), "noon": timedelta(hours=12), "late": timedelta(hours=23.99)}
    for name, offset in moments.items():
        UsageRecordFactory(at=midnight + offset, key_name=name)
    page: Any = admin_client.get(list_url(UsageRecord), query)
    assert {record.key_name for record in page.context["cl"].result_list} == found


def test_the_page_of_a_record_tells_the_tokens_apart(admin_client: Client) -> None:
    record = UsageRecordFactory(
        input_tokens=1200, cache_read_input_tokens=300, cache_creation_input_tokens=0, output_tokens=45,
        reasoning_tokens=5, price=None, attempts=[],
    )  # fmt: skip
    page = admin_client.get(change_url(record)).content.decode()
    assert "1,200 input, 300 read from cache, 45 output (5 of it reasoning)" in page
    none = UsageRecordFactory(input_tokens=0, output_tokens=0)
    assert ">none<" in admin_client.get(change_url(none)).content.decode().replace("\n", "").replace(" ", "")
