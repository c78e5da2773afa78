"""The request log by its address: every filter alone and all of them together, pages by position, and its CSV."""

import csv
import uuid
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.models import UsageRecord, UsageSource, UsageState
from analytics.request_page import CSV_FIELDS, all_records, position_of, position_text
from analytics.selectors import RequestFilters
from routing.models import VirtualKey
from tests import factories as make

pytestmark = pytest.mark.django_db
LOG = "/dashboards/requests/"
DAY = datetime(2026, 2, 28, tzinfo=UTC)


def ids_of(response: Any) -> list[str]:
    assert response.status_code == 200
    return [str(record.request_id) for record in response.context["records"]]


def rows_of(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(response.getvalue().decode())))


@pytest.fixture
def key(db: None) -> VirtualKey:
    made: VirtualKey = make.VirtualKeyFactory(team=make.TeamFactory(name="Search", slug="search"), name="app")
    return made


ASKED = {
    "range": "custom",
    "from": "2026-02-28",
    "to": "2026-02-28",
    "team": "search",
    "persona": "analyst",
    "policy": "thrifty",
    "provider": "acme",
    "model": "swift-1",
    "state": "released",
    "errors": "1",
}
FIELDS: dict[str, Any] = {
    "at": DAY + timedelta(hours=12),
    "persona": "analyst",
    "policy": "thrifty",
    "provider": "acme",
    "model": "swift-1",
    "state": UsageState.RELEASED,
    "error_code": "upstream_failed",
    "cost_nano": 0,
}
OTHERS: dict[str, dict[str, Any]] = {
    "the day before": {"at": DAY - timedelta(microseconds=1)},
    "the day after": {"at": DAY + timedelta(days=1)},
    "another persona": {"persona": "chatbot"},
    "no persona": {"persona": ""},
    "another policy": {"policy": "lavish"},
    "another provider": {"provider": "beta"},
    "another model": {"model": "sage-1"},
    "cancelled": {"state": UsageState.CANCELLED},
    "answered": {"state": UsageState.SETTLED, "error_code": ""},
    "expired": {"state": UsageState.EXPIRED},
}


def test_all_filters_together_find_exactly_the_request_that_fits_all(admin_client: Client, key: VirtualKey) -> None:
    wanted = make.UsageRecordFactory(key=key, **FIELDS)
    for fields in OTHERS.values():
        make.UsageRecordFactory(key=key, **FIELDS | fields)
    make.UsageRecordFactory(key=make.VirtualKeyFactory(team=key.team), **FIELDS)
    make.UsageRecordFactory(**FIELDS)
    query = ASKED | {"key": str(key.pk)}
    assert ids_of(admin_client.get(LOG, query)) == [str(wanted.request_id)]
    exported = rows_of(admin_client.get(LOG, query | {"format": "csv"}))
    assert [row["request_id"] for row in exported] == [str(wanted.request_id)]


@pytest.mark.parametrize("left_out", sorted(set(ASKED) - {"from", "to", "range", "errors"}))
def test_a_filter_that_is_taken_out_lets_in_what_it_kept_out(
    admin_client: Client, key: VirtualKey, left_out: str
) -> None:
    other_team = make.VirtualKeyFactory()
    wanted = {str(make.UsageRecordFactory(key=key, **FIELDS).request_id)}
    differing: dict[str, dict[str, Any]] = {
        "team": {"key": other_team},
        "persona": OTHERS["another persona"],
        "policy": OTHERS["another policy"],
        "provider": OTHERS["another provider"],
        "model": OTHERS["another model"],
        "state": OTHERS["expired"],
    }
    extra = {
        name: str(make.UsageRecordFactory(**{"key": key} | FIELDS | fields).request_id)
        for name, fields in differing.items()
    }
    query = {name: value for name, value in ASKED.items() if name != left_out}
    assert set(ids_of(admin_client.get(LOG, query))) == wanted | {extra[left_out]}


@pytest.mark.parametrize(
    ("hours", "inside"), [(-1, False), (0, True), (23, True), (24, False), (-24 * 365, False), (48, False)]
)
def test_a_range_of_one_day_is_that_utc_day(admin_client: Client, key: VirtualKey, hours: int, inside: bool) -> None:
    record = make.UsageRecordFactory(key=key, at=DAY + timedelta(hours=hours))
    found = ids_of(admin_client.get(LOG, {"range": "custom", "from": "2026-02-28", "to": "2026-02-28"}))
    assert (str(record.request_id) in found) is inside


def test_filters_that_are_in_force_are_shown_as_chosen(admin_client: Client, key: VirtualKey) -> None:
    """Also a name that is configured no more, and the policy, which the spend page's table leads here with."""
    make.UsageRecordFactory(key=key, **FIELDS)
    text = unescape(admin_client.get(LOG, ASKED | {"key": str(key.pk)}).content.decode())
    for shown in ("analyst", "swift-1", "acme", "Search: app", "thrifty", "Failed, nothing billed"):
        assert f" selected>{shown}</option>" in text, shown
    assert 'name="errors" value="1" data-submit checked' in text


def test_changing_one_filter_keeps_the_days(admin_client: Client, key: VirtualKey) -> None:
    text = admin_client.get(LOG, ASKED).content.decode()
    assert '<input type="hidden" name="from" value="2026-02-28">' in text
    assert '<input type="hidden" name="to" value="2026-02-28">' in text


# --- pages by position --------------------------------------------------------------------------------------------


def test_pages_of_requests_of_one_moment_hold_each_of_them_once(admin_client: Client, key: VirtualKey) -> None:
    """A burst: the time alone cannot tell where a page ends."""
    at = timezone.now().replace(microsecond=0)
    made = {str(make.UsageRecordFactory(key=key, at=at).request_id) for _ in range(111)}
    seen: list[str] = []
    before = ""
    for _ in range(3):
        response: Any = admin_client.get(LOG, {"before": before})
        seen += ids_of(response)
        before = response.context["older"]
    assert before == ""
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


def test_a_position_in_another_time_zone_is_the_same_moment(admin_client: Client, key: VirtualKey) -> None:
    record = make.UsageRecordFactory(key=key, at=DAY)
    younger = uuid.UUID(int=record.request_id.int + 1)
    for text in (f"2026-02-28T02:00:00+02:00_{younger}", f"2026-02-27T19:00:00-05:00_{younger}"):
        assert ids_of(admin_client.get(LOG, {"before": text})) == [str(record.request_id)]
    assert ids_of(admin_client.get(LOG, {"before": f"2026-02-28T01:59:59+02:00_{younger}"})) == []


def test_a_position_is_read_as_it_was_written() -> None:
    position = (DAY + timedelta(microseconds=7), uuid.UUID(int=5))
    assert position_of(position_text(position)) == position
    assert position_text(None) == ""


def test_the_last_page_says_that_it_is_the_last_and_leads_back(admin_client: Client, key: VirtualKey) -> None:
    for n in range(51):
        make.UsageRecordFactory(key=key, at=DAY + timedelta(seconds=n))
    first: Any = admin_client.get(LOG)
    assert b"Older" in first.content
    assert b"Latest<" not in first.content
    last = admin_client.get(LOG, {"before": first.context["older"]}).content
    assert b"These are the oldest." in last
    assert b"Latest<" in last


def test_newer_leads_back_page_by_page_and_ends_at_a_whole_page_of_the_latest(
    admin_client: Client, key: VirtualKey
) -> None:
    for n in range(120):
        make.UsageRecordFactory(key=key, at=DAY + timedelta(seconds=n))
    first: Any = admin_client.get(LOG, {"team": "search"})
    second: Any = admin_client.get(LOG, {"team": "search", "before": first.context["older"]})
    third: Any = admin_client.get(LOG, {"team": "search", "before": second.context["older"]})
    assert b"Newer<" not in first.content
    assert b"Newer<" in second.content
    newer: Any = admin_client.get(LOG, {"team": "search", "after": third.context["newer"]})
    assert ids_of(newer) == ids_of(second)
    last: Any = admin_client.get(LOG, {"team": "search", "after": newer.context["newer"]})
    assert (last.status_code, last["location"]) == (302, f"{LOG}?team=search")


def test_filters_offer_a_member_only_the_names_of_own_teams(client: Client, key: VirtualKey) -> None:
    person = make.UserFactory()
    make.MembershipFactory(team=key.team, user=person)
    make.mark_day(DAY.date())
    make.UsageRecordFactory(key=key, **FIELDS)
    make.UsageRecordFactory(at=DAY, persona="merger", policy="merger", provider="merger", model="merger")
    make.PersonaFactory(slug="layoffs")
    make.DeploymentFactory()
    client.force_login(person)
    choices = client.get(LOG).context["choices"]
    offered = (choices["personas"], choices["policies"], choices["providers"], choices["models"])
    assert offered == (["analyst"], ["thrifty"], ["acme"], ["swift-1"])


def test_the_way_to_older_requests_keeps_the_filters(admin_client: Client, key: VirtualKey) -> None:
    for n in range(51):
        make.UsageRecordFactory(key=key, at=DAY + timedelta(seconds=n), model="swift-1")
    text = unescape(admin_client.get(LOG, {"model": "swift-1", "team": "search"}).content.decode())
    link = next(part for part in text.split('"') if "before=" in part and "format" not in part)
    assert "model=swift-1" in link
    assert "team=search" in link


# --- CSV ----------------------------------------------------------------------------------------------------------


def test_a_row_of_the_csv_is_the_record_field_by_field(admin_client: Client, key: VirtualKey) -> None:
    record = make.UsageRecordFactory(
        key=key, at=DAY, ttft_ms=None, reasoning_tokens=7, usage_source=UsageSource.COUNTED, cost_nano=None
    )
    [row] = rows_of(admin_client.get(LOG, {"format": "csv"}))
    assert tuple(row) == CSV_FIELDS
    assert row["request_id"] == str(record.request_id)
    assert row["started_at"] == "2026-02-28T00:00:00.000+00:00"
    assert (row["cost_nano"], row["ttft_ms"]) == ("", "")
    assert (row["reasoning_tokens"], row["usage_source"], row["latency_ms"]) == ("7", "counted", "800.0")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", '=HYPERLINK("http://x")', "\n=1"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_text_of_the_csv_is_a_formula(admin_client: Client, formula: str) -> None:
    key = make.VirtualKeyFactory(team=make.TeamFactory(name=formula), name=formula)
    names = ("persona", "policy", "requested_model", "deployment", "model", "error_code", "provider")
    make.UsageRecordFactory(key=key, at=timezone.now(), **dict.fromkeys(names, formula))
    for path in (LOG, "/dashboards/", "/dashboards/?by=key", "/dashboards/?by=model", "/dashboards/?by=persona"):
        answer: Any = admin_client.get(path, {"format": "csv", "by": path.partition("by=")[2] or "team"})
        cells = [cell for row in csv.reader(StringIO(answer.getvalue().decode(), newline="")) for cell in row]
        assert not [cell for cell in cells if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_commas_quotes_and_lines_survive_the_csv(admin_client: Client) -> None:
    name = 'Acme, "Search"\nteam — ünï'
    make.UsageRecordFactory(key=make.VirtualKeyFactory(team=make.TeamFactory(name=name)))
    assert rows_of(admin_client.get(LOG, {"format": "csv"}))[0]["team_name"] == name


def test_a_download_has_a_name_and_is_not_kept_by_anybody(admin_client: Client) -> None:
    for path, name in ((LOG, "requests-"), ("/dashboards/?range=today", "spend-by-team-")):
        answer = admin_client.get(path, {"format": "csv"})
        assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="{name}')
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "no-store" in answer.headers["Cache-Control"]


def test_the_csv_goes_beyond_one_page_and_holds_each_record_once(admin_client: Client, key: VirtualKey) -> None:
    template = make.UsageRecordFactory.build(key=key, team=key.team, at=DAY)
    rows = []
    for n in range(1_050):
        record = UsageRecord(**{field.name: getattr(template, field.name) for field in UsageRecord._meta.fields})
        record.request_id = uuid.UUID(int=n + 1)
        rows.append(record)
    UsageRecord.objects.bulk_create(rows)
    found = list(all_records(team_ids=None, filters=RequestFilters()))
    assert len(found) == len({record.pk for record in found}) == 1_050


def test_an_empty_log_has_a_csv_of_its_columns_only(admin_client: Client) -> None:
    answer: Any = admin_client.get(LOG, {"format": "csv"})
    assert answer.getvalue().decode().strip() == ",".join(CSV_FIELDS)
