"""The first page of the admin, figure by figure, and the sidebar beside it."""

from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings

from analytics.domain.rollup import DayRange
from analytics.domain.series import SpendRow, Totals
from analytics.models import AlertState, Severity
from analytics.services.rollups import rollup_rebuild
from providers.models import Health
from routerplatform.admin_index import ALERTS_SHOWN, DAYS_SHOWN, alert_rows, cards_of, chart_of, provider_rows
from routerplatform.navigation import SIDEBAR, environment
from tests.factories import AlertFactory, BudgetFactory, ProviderFactory, TeamFactory, UsageRecordFactory

NBSP = "\N{NO-BREAK SPACE}"


def totals(**fields: Any) -> Totals:
    return Totals(**{"p50_ms": None, "p95_ms": None} | fields)


def cards(**fields: Any) -> dict[str, Any]:
    return {card.title: card for card in cards_of(totals(**fields))}


# --- cards --------------------------------------------------------------------------------------------------------


def test_a_platform_without_requests_claims_nothing() -> None:
    found = cards()
    assert [card.figure for card in found.values()] == ["$0.00", "0", "0", "–", "–"]
    assert all(card.change is None for card in found.values())
    assert found["Time to answer"].note == "median; 95 % within –"


@pytest.mark.parametrize(
    ("unpriced", "note"),
    [(0, "every request has its price"), (1, "1 request of unknown price"), (1500, "1,500 requests of unknown price")],
)
def test_the_spend_says_what_it_could_not_count(unpriced: int, note: str) -> None:
    assert cards(requests=2000, unpriced=unpriced, cost_nano=10**9)["Spend"].note == note


def test_each_card_has_its_figure_and_what_it_is_made_of() -> None:
    found = cards(
        requests=3000, errors=30, cost_nano=12_340_000_000, input_tokens=1000, cache_read_input_tokens=200,
        cache_creation_input_tokens=34, output_tokens=766, p50_ms=812.0, p95_ms=2_500.0,
    )  # fmt: skip
    assert found["Spend"].figure == "$12.34"
    assert (found["Requests"].figure, found["Requests"].note) == ("3,000", "100 a day")
    assert (found["Tokens"].figure, found["Tokens"].note) == (f"2.0{NBSP}k", f"1.2{NBSP}k in, 766 out")
    assert found["Errors"].figure == f"1.0{NBSP}%"
    assert (found["Time to answer"].figure, found["Time to answer"].note) == (
        f"812{NBSP}ms", f"median; 95 % within 2.50{NBSP}s",
    )  # fmt: skip


def test_more_money_is_neither_good_nor_bad_but_more_errors_and_slower_answers_are() -> None:
    before = totals(requests=100, errors=10, cost_nano=10, p50_ms=100.0)
    found = cards(requests=100, errors=20, cost_nano=20, p50_ms=50.0, previous=before)
    tones = {title: card.change.tone for title, card in found.items() if card.change}
    assert tones == {"Spend": "", "Requests": "", "Errors": "worse", "Time to answer": "better"}


# --- chart --------------------------------------------------------------------------------------------------------


def test_the_chart_is_in_dollars_with_a_bar_for_every_day() -> None:
    days = DayRange(date(2024, 2, 28), date(2024, 3, 1))
    rows = [
        SpendRow(day=date(2024, 2, 29), team_id=1, team_name="Search", cost_nano=2_500_000_000),
        SpendRow(day=date(2024, 2, 29), team_id=2, team_name="Checkout", cost_nano=500_000_000),
        SpendRow(day=date(2024, 3, 1), team_id=1, team_name="Search", cost_nano=1_000_000_000),
    ]
    made = chart_of(rows, days)
    assert [(column.title, column.total) for column in made.columns] == [
        ("28 February", 0.0),
        ("29 February", 3.0),
        ("1 March", 1.0),
    ]
    assert [(series.label, series.total) for series in made.legend] == [("Search", 3.5), ("Checkout", 0.5)]


# --- providers and alerts -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_worst_provider_comes_first_and_those_that_are_off_not_at_all() -> None:
    for health in (Health.HEALTHY, Health.UNKNOWN, Health.DOWN, Health.DEGRADED):
        ProviderFactory(name=health.value, health=health)
    ProviderFactory(health=Health.DOWN, is_active=False)
    rows = provider_rows(timezone.now())
    assert [row["state"].provider for row in rows] == ["down", "degraded", "unknown", "healthy"]
    assert {row["errors"] for row in rows} == {"–"}
    assert {row["checked"] for row in rows} == {"never"}


@pytest.mark.django_db
def test_the_latest_open_alerts_are_shown_and_only_those_of_the_teams_to_be_seen() -> None:
    now = timezone.now()
    budget = BudgetFactory()
    for number in range(ALERTS_SHOWN + 2):
        AlertFactory(budget=budget, threshold=str(number), opened_at=now - timedelta(hours=number))
    AlertFactory(threshold="99", state=AlertState.ACKNOWLEDGED)
    assert [row["alert"].threshold for row in alert_rows(None)] == [str(n) for n in range(ALERTS_SHOWN)]
    AlertFactory(budget=budget, threshold="old", opened_at=now - timedelta(days=9), severity=Severity.CRITICAL)
    assert alert_rows(None)[0]["alert"].threshold == "old"
    assert len(alert_rows([budget.team_id])) == ALERTS_SHOWN
    assert alert_rows([TeamFactory().pk]) == alert_rows([]) == []


@pytest.mark.django_db
def test_a_provider_of_a_kind_that_is_no_more_is_shown_and_breaks_nothing(admin_client: Client) -> None:
    """A kind is a row of the code: an older database may name one that is gone."""
    provider = ProviderFactory(label="Left over", kind="discontinued")
    for url in (
        "/admin/",
        "/admin/providers/provider/",
        f"/admin/providers/provider/{provider.pk}/change/",
        "/dashboards/",
        "/dashboards/providers/",
    ):
        response = admin_client.get(url)
        assert response.status_code == 200, url
        if url != "/dashboards/":
            assert "Left over" in response.content.decode()


@pytest.mark.django_db
def test_figures_are_of_the_last_thirty_days_and_today_is_one_of_them(admin_client: Client) -> None:
    now = timezone.now()
    inside = now - timedelta(days=DAYS_SHOWN - 1)
    for at, cost in ((now, 1), (inside, 2), (inside - timedelta(days=1), 4)):
        UsageRecordFactory(at=at, cost_nano=cost * 10**9)
        rollup_rebuild(day=at.date())
    response: Any = admin_client.get("/admin/")
    assert response.context["cards"][0].figure == "$3.00"
    assert len(response.context["chart"].columns) == DAYS_SHOWN


# --- the sidebar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tone"),
    [("Production", "danger"), ("prod-eu", "danger"), ("Staging", "warning"), ("Demo data", "warning")],
)
def test_production_is_named_in_red(settings: Settings, name: str, tone: str) -> None:
    settings.ENVIRONMENT = name
    assert environment(RequestFactory().get("/admin/")) == [name, tone]


@pytest.mark.django_db
def test_every_link_of_the_sidebar_leads_somewhere(admin_client: Client) -> None:
    links = [str(item["link"]) for group in SIDEBAR for item in group["items"]]
    assert len(links) == len(set(links))
    assert {link: admin_client.get(link).status_code for link in links} == dict.fromkeys(links, 200)
