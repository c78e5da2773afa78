"""The spend page by its address: days, teams, tables, colours, comparisons, and what has no price."""

import csv
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.domain.rollup import DayRange
from analytics.domain.series import SpendShare, Totals
from analytics.models import UsageState
from analytics.periods import Period
from analytics.services.rollups import rollup_rebuild
from analytics.sight import Sight
from analytics.spend_page import SORTS, changes, day_chart, dimension_of, lines, sort_of
from routing.models import Team, VirtualKey
from tests import factories as make

pytestmark = pytest.mark.django_db
SPEND = "/dashboards/"


def used(key: VirtualKey, **fields: Any) -> Any:
    at = fields.pop("at", timezone.now() - timedelta(seconds=1))
    make.mark_hour(at)
    return make.UsageRecordFactory(key=key, at=at, **fields)


def key_of(name: str) -> VirtualKey:
    made: VirtualKey = make.VirtualKeyFactory(team=make.TeamFactory(name=name, slug=name.lower()))
    return made


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def rows_of(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(response.getvalue().decode())))


def share(value: int | str, **sums: int) -> SpendShare:
    return SpendShare(value=value, label=f"team {value}", share=0.0, **sums)


# --- days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "inside"),
    [
        (datetime(2024, 2, 28, 23, 59, 59, 999_999, UTC), False),
        (datetime(2024, 2, 29, 0, 0, tzinfo=UTC), True),
        (datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC), True),
        (datetime(2024, 3, 1, 0, 0, tzinfo=UTC), False),
    ],
)
@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_a_leap_day_is_a_day_of_its_own(admin_client: Client, at: datetime, inside: bool, is_rolled_up: bool) -> None:
    used(key_of("Search"), at=at, cost_nano=3_000_000_000)
    if is_rolled_up:
        rollup_rebuild(day=at.date())
    query = {"range": "custom", "from": "2024-02-29", "to": "2024-02-29"}
    assert ("$3.00" in text_of(admin_client.get(SPEND, query))) is inside
    exported = rows_of(admin_client.get(SPEND, query | {"format": "csv"}))
    assert [row["cost_usd"] for row in exported] == (["3.000000000"] if inside else [])


def test_a_range_over_a_months_end_adds_up_both_months(admin_client: Client) -> None:
    key = key_of("Search")
    for day in (date(2026, 1, 31), date(2026, 2, 1)):
        used(key, at=datetime(day.year, day.month, day.day, 12, tzinfo=UTC), cost_nano=1_000_000_000)
    query = {"range": "custom", "from": "2026-01-31", "to": "2026-02-01"}
    page = text_of(admin_client.get(SPEND, query))
    assert "31 Jan 2026 to 1 Feb 2026" in page
    assert "$2.00" in page
    assert [row["day"] for row in rows_of(admin_client.get(SPEND, query | {"format": "csv"}))] == [
        "2026-01-31",
        "2026-02-01",
    ]


@pytest.mark.parametrize(
    ("query", "note"),
    [
        ({"range": "yesterday"}, "There is no range called “yesterday”"),
        ({"range": "custom", "from": "2026-02-30", "to": "2026-03-01"}, "Both dates are needed, as YYYY-MM-DD"),
        ({"range": "custom", "from": "2020-01-01", "to": "2026-03-01"}, "Shown are the last 366 days"),
    ],
)
def test_a_range_that_cannot_be_is_read_as_another_and_says_so(
    admin_client: Client, query: dict[str, str], note: str
) -> None:
    used(key_of("Search"))
    assert note in text_of(admin_client.get(SPEND, query))


def test_dates_the_wrong_way_round_are_turned(admin_client: Client) -> None:
    used(key_of("Search"))
    page = text_of(admin_client.get(SPEND, {"range": "custom", "from": "2026-03-09", "to": "2026-03-01"}))
    assert "1 Mar 2026 to 9 Mar 2026" in page


def test_a_day_that_has_only_begun_is_compared_with_nothing(admin_client: Client) -> None:
    key, now = key_of("Search"), timezone.now()
    used(key, at=now, cost_nano=1_000_000_000)
    used(key, at=now - timedelta(days=1), cost_nano=9_000_000_000)
    response: Any = admin_client.get(SPEND, {"range": "today"})
    assert response.context["totals"].previous is None
    assert response.context["changes"].spend is None
    assert "so far; not compared" in text_of(response)
    week: Any = admin_client.get(SPEND, {"range": "7d"})
    assert week.context["totals"].previous is not None
    assert "so far" not in text_of(week)


def test_the_chart_is_there_in_numbers_too(admin_client: Client) -> None:
    first, second = key_of("Search"), key_of("Checkout")
    for key, at, cost in (
        (first, datetime(2026, 3, 1, 9, tzinfo=UTC), 3_000_000_000),
        (first, datetime(2026, 3, 3, 9, tzinfo=UTC), 1_000_000_000),
        (second, datetime(2026, 3, 3, 9, tzinfo=UTC), 500_000_000),
    ):
        used(key, at=at, cost_nano=cost)
    query = {"range": "custom", "from": "2026-03-01", "to": "2026-03-04"}
    table = text_of(admin_client.get(SPEND, query)).partition('class="numbers"')[2].partition("</table>")[0]
    cells = [re.findall(r">([^<>]+)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    assert cells == [
        ["Day, UTC", "Search", "Checkout", "Total (USD)"],
        ["Sunday, 1 Mar", "$3.00", "$0.00", "$3.00"],
        ["Tuesday, 3 Mar", "$1.00", "$0.50", "$1.50"],
    ]


# --- what has no price --------------------------------------------------------------------------------------------


def test_a_team_whose_requests_all_have_no_price_has_no_sum(admin_client: Client) -> None:
    unknown, mixed = key_of("Unknown"), key_of("Mixed")
    used(unknown, cost_nano=None)
    used(mixed, cost_nano=2_000_000_000)
    used(mixed, cost_nano=None)
    response: Any = admin_client.get(SPEND)
    table = text_of(response).partition('id="table"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    first, second = table.split("</tr>")[:2]
    assert "$2.00" in first
    assert "+ 1 unpriced" in first
    assert '<span class="soft">unpriced</span>' in second
    assert "$" not in second
    assert response.context["totals"].unpriced == 2
    exported = {row["team"]: row for row in rows_of(admin_client.get(SPEND, {"format": "csv"}))}
    assert (exported["Unknown"]["cost_usd"], exported["Unknown"]["unpriced"]) == ("", "1")
    assert (exported["Mixed"]["cost_usd"], exported["Mixed"]["unpriced"]) == ("2.000000000", "1")


@pytest.mark.parametrize("by", ["model", "persona", "key", "provider", "policy"])
def test_an_unknown_price_stays_unknown_in_every_table(admin_client: Client, by: str) -> None:
    used(key_of("Search"), cost_nano=None, persona="analyst", policy="thrifty")
    page = text_of(admin_client.get(SPEND, {"by": by}))
    assert '<span class="soft">unpriced</span>' in page.partition("<tbody>")[2]
    [row] = rows_of(admin_client.get(SPEND, {"by": by, "format": "csv"}))
    assert row["cost_usd"] == ""


def test_a_request_that_cost_nothing_is_not_unknown(admin_client: Client) -> None:
    used(key_of("Search"), cost_nano=0, state=UsageState.RELEASED, error_code="upstream_failed")
    page = text_of(admin_client.get(SPEND))
    assert "unpriced" not in page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert rows_of(admin_client.get(SPEND, {"format": "csv"}))[0]["cost_usd"] == "0.000000000"


def test_the_log_the_detail_and_the_admin_call_it_unpriced_too(admin_client: Client) -> None:
    record = used(key_of("Search"), cost_nano=None)
    for url in (
        "/dashboards/requests/",
        f"/dashboards/requests/{record.pk}/",
        "/admin/analytics/usagerecord/",
        f"/admin/analytics/usagerecord/{record.pk}/change/",
    ):
        assert "unpriced" in text_of(admin_client.get(url)), url
    assert "1 request of unknown price" in text_of(admin_client.get("/admin/"))


def test_a_budget_says_how_many_requests_it_could_not_count(admin_client: Client) -> None:
    key = key_of("Search")
    make.BudgetFactory(team=key.team)
    used(key, cost_nano=None)
    used(key, cost_nano=None)
    assert "2 requests of unknown price are not in it" in text_of(admin_client.get(SPEND))
    assert "2 of unknown price not in it" in text_of(admin_client.get("/admin/analytics/budget/"))


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", [f"{sign}{name}" for name in SORTS for sign in ("", "-")])
def test_every_column_sorts_both_ways(admin_client: Client, sort: str) -> None:
    for number, name in enumerate(("Anna", "Berta", "Clara")):
        key = key_of(name)
        for _ in range(number + 1):
            used(key, cost_nano=10**9, input_tokens=10, output_tokens=10, error_code="x")
    response: Any = admin_client.get(SPEND, {"sort": sort})
    shown = [line.row.label for line in response.context["lines"]]
    assert shown == (["Clara", "Berta", "Anna"] if sort.startswith("-") else ["Anna", "Berta", "Clara"])
    order = "descending" if sort.startswith("-") else "ascending"
    assert text_of(response).count(f'aria-sort="{order}"') == 1


@pytest.mark.parametrize(("asked", "read"), [("cost", "cost"), ("--cost", "-cost"), ("x", "-cost"), ("-", "-cost")])
def test_an_order_is_a_known_column(asked: str, read: str) -> None:
    assert sort_of({"sort": asked}) == read


@pytest.mark.parametrize(("asked", "read"), [("model", "model"), ("team_id", "team"), ("", "team"), ("Model", "team")])
def test_a_table_is_a_known_one(asked: str, read: str) -> None:
    assert dimension_of({"by": asked}) == read


def test_a_team_has_the_colour_in_the_table_that_it_has_in_the_chart(admin_client: Client) -> None:
    """Also teams that spent the same, which the chart puts in the order of their names."""
    for name, requests in (("Anna", 1), ("Berta", 4), ("Clara", 2)):
        key = key_of(name)
        for _ in range(requests):
            used(key, cost_nano=12 * 10**9 // requests)
    response: Any = admin_client.get(SPEND)
    in_chart = {series.label: series.tone for series in response.context["chart"].legend}
    in_table = {line.row.label: line.tone for line in response.context["lines"]}
    assert in_table == in_chart == {"Anna": 1, "Berta": 2, "Clara": 3}


def test_teams_beyond_the_eighth_share_the_last_colour(admin_client: Client) -> None:
    for number in range(10):
        used(key_of(f"Team{number}"), cost_nano=(10 - number) * 10**9)
    response: Any = admin_client.get(SPEND)
    assert [line.tone for line in response.context["lines"]] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert "3 others" in text_of(response)


def test_a_line_leads_to_what_is_behind_it_with_the_same_days_and_team() -> None:
    team = Team(pk=7, name="Search", slug="search")
    days = DayRange(date(2026, 3, 1), date(2026, 3, 9))
    empty = day_chart([], days)
    cases = [
        ("team", share(7), None, "/dashboards/?range=custom&from=2026-03-01&to=2026-03-09&team=search&by=model"),
        ("team", share(8), None, ""),  # a team that one may not see, or that is gone
        ("model", share("swift 1"), team, "/dashboards/requests/?range=custom&from=2026-03-01&to=2026-03-09"
         "&team=search&model=swift+1"),
        ("persona", share(""), None, ""),  # “none” is nothing to look for
    ]  # fmt: skip
    for by, row, chosen, href in cases:
        sight, period = Sight((team,), chosen, None), Period("custom", days)
        [line] = lines([row], by=by, sort="-cost", chart=empty, sight=sight, period=period)  # type: ignore[arg-type]
        assert line.href == href


def test_an_error_share_is_of_the_rows_own_requests() -> None:
    days = DayRange(date(2026, 3, 1), date(2026, 3, 1))
    rows = [share(1, requests=4, errors=1), share(2)]
    found = lines(
        rows, by="team", sort="-requests", chart=day_chart([], days), sight=Sight((), None, None),
        period=Period("today", days),
    )  # fmt: skip
    assert [line.error_share for line in found] == [0.25, None]


# --- against the period before ------------------------------------------------------------------------------------


def totals(**fields: Any) -> Totals:
    return Totals(**{"p50_ms": None, "p95_ms": None} | fields)


def test_nothing_before_is_nothing_to_compare_with() -> None:
    for before in (None, totals()):
        found = changes(totals(requests=5, cost_nano=5, previous=before))
        assert (found.spend, found.requests, found.errors, found.p50) == (None, None, None, None)


def test_each_figure_is_compared_in_its_own_way() -> None:
    before = totals(requests=100, errors=1, cost_nano=10, input_tokens=100, p50_ms=1000.0)
    found = changes(totals(requests=50, errors=2, cost_nano=15, input_tokens=100, p50_ms=500.0, previous=before))
    texts = [one.text.replace("\N{NO-BREAK SPACE}", " ") if one else None
             for one in (found.spend, found.requests, found.tokens, found.errors, found.p50)]  # fmt: skip
    assert texts == ["+50.0 %", "−50.0 %", "unchanged", "+3.0 pp", "−50.0 %"]
    assert [found.errors and found.errors.tone, found.p50 and found.p50.tone] == ["worse", "better"]


# --- budgets beside it --------------------------------------------------------------------------------------------


def test_only_budgets_of_teams_that_one_may_see_are_shown(client: Client) -> None:
    mine, other = key_of("Mine"), key_of("Checkout")
    for key in (mine, other):
        make.BudgetFactory(team=key.team)
        used(key)
    client.force_login(make.MembershipFactory(team=mine.team).user)
    response: Any = client.get(SPEND)
    assert [line.state.budget.team.name for line in response.context["budgets"]] == ["Mine"]
    assert other.team.slug not in text_of(response)


def test_a_budget_that_is_switched_off_is_not_shown(admin_client: Client) -> None:
    key = key_of("Search")
    make.BudgetFactory(team=key.team, is_active=False)
    used(key)
    assert "No budget is set" in text_of(admin_client.get(SPEND))
