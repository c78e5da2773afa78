"""`ledger_status`, `ledger_verify` and `rollup_costs` as a person types them, right and wrong."""

import json
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from analytics.models import UsageRollup, UsageState
from analytics.selectors.sums import dirty_hours
from analytics.services.rollups import rollup_rebuild
from tests.factories import UsageRecordFactory, VirtualKeyFactory, mark_day

pytestmark = pytest.mark.django_db
LEAP_DAY = date(2024, 2, 29)


def said(name: str, *options: str) -> str:
    output = StringIO()
    call_command(name, *options, stdout=output, stderr=StringIO())
    return output.getvalue()


def refused(name: str, *options: str) -> str:
    with pytest.raises(CommandError) as caught:
        said(name, *options)
    return str(caught.value)


def on(day: date, **fields: Any) -> Any:
    return UsageRecordFactory(at=datetime(day.year, day.month, day.day, 12, tzinfo=UTC), **fields)


NOT_DAYS = ["2026-02-30", "2023-02-29", "yesterday", "2026-13-01", "01.03.2026", "", "2026-03-01T00:00", "-1"]


@pytest.mark.parametrize("name", ["rollup_costs", "ledger_verify"])
@pytest.mark.parametrize("day", NOT_DAYS)
def test_what_is_no_day_is_refused_by_name(name: str, day: str) -> None:
    for first, last in ((day, "2026-03-01"), ("2026-03-01", day)):
        complaint = refused(name, f"--from={first}", f"--to={last}")
        assert "is not a day: write it as YYYY-MM-DD" in complaint
        assert day in complaint


@pytest.mark.parametrize("name", ["rollup_costs", "ledger_verify"])
def test_a_range_that_ends_before_it_begins_is_refused(name: str) -> None:
    assert "--to is before --from" in refused(name, "--from=2026-03-02", "--to=2026-03-01")


@pytest.mark.parametrize("name", ["rollup_costs", "ledger_verify"])
@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "1999-12-31", "2101-01-01"])
def test_days_of_another_age_are_refused(name: str, day: str) -> None:
    assert "does not lie between 2000 and 2100" in refused(name, f"--from={day}", f"--to={day}")


@pytest.mark.parametrize("options", [[], ["--from=2026-03-01"], ["--to=2026-03-01"]])
def test_recomputing_needs_both_ends(options: list[str]) -> None:
    assert "required" in refused("rollup_costs", *options)


# --- rollup_costs -------------------------------------------------------------------------------------------------


def test_a_leap_day_is_recomputed_and_told() -> None:
    key = VirtualKeyFactory()
    on(LEAP_DAY, key=key, cost_nano=1_500_000_000)
    on(LEAP_DAY, key=key, cost_nano=None)
    lines = said("rollup_costs", "--from=2024-02-28", "--to=2024-03-01").splitlines()
    assert lines == [
        "2024-02-28: $0.0000, 0 requests, 0 rows",
        "2024-02-29: $1.5000, 2 requests, 1 rows, was $0.0000 and 0 requests",
        "2024-03-01: $0.0000, 0 requests, 0 rows",
    ]
    assert UsageRollup.objects.get().unpriced == 1


def test_a_dry_run_tells_and_writes_nothing() -> None:
    on(LEAP_DAY)
    mark_day(LEAP_DAY)
    text = said("rollup_costs", "--from=2024-02-29", "--to=2024-02-29", "--dry-run")
    assert "1 requests" in text
    assert not UsageRollup.objects.exists()
    assert dirty_hours()


def test_recomputing_twice_says_that_nothing_changed() -> None:
    on(LEAP_DAY)
    options = ("--from=2024-02-29", "--to=2024-02-29")
    assert "was $0.0000" in said("rollup_costs", *options)
    assert "was" not in said("rollup_costs", *options)


def test_json_is_one_object_with_a_row_for_each_day() -> None:
    on(LEAP_DAY, cost_nano=7)
    told = json.loads(said("rollup_costs", "--from=2024-02-29", "--to=2024-03-01", "--json"))
    first, second = told["days"]
    assert (first["day"], first["rows"], first["before"]["cost_nano"], first["after"]["cost_nano"]) == (
        "2024-02-29", 1, 0, 7,
    )  # fmt: skip
    assert (second["rows"], second["is_clean"]) == (0, True)


# --- ledger_verify ------------------------------------------------------------------------------------------------


def test_a_platform_without_usage_says_so_in_both_languages() -> None:
    assert "No usage yet, 0 budget windows: in order" in said("ledger_verify")
    assert json.loads(said("ledger_verify", "--json")) == {
        "from": None, "to": None, "records": 0, "windows": 0, "dirty_hours": 0, "differences": [], "warnings": [],
    }  # fmt: skip


def test_one_open_end_reaches_to_the_end_of_the_usage() -> None:
    for day in (LEAP_DAY, LEAP_DAY + timedelta(days=1)):
        on(day)
        rollup_rebuild(day=day)
    assert "1 records from 2024-03-01 to 2024-03-01" in said("ledger_verify", "--from=2024-03-01")
    assert "1 records from 2024-02-29 to 2024-02-29" in said("ledger_verify", "--to=2024-02-29")
    assert "2 records from 2024-02-29 to 2024-03-01" in said("ledger_verify")
    assert "0 hours waiting for their rollup: in order" in said("ledger_verify")


def test_days_after_the_last_usage_are_in_order() -> None:
    on(LEAP_DAY)
    rollup_rebuild(day=LEAP_DAY)
    assert "0 records" in said("ledger_verify", "--from=2024-06-01", "--to=2024-06-02")
    assert "in order" in said("ledger_verify", "--from=2024-06-01")


def test_a_difference_names_day_team_and_both_figures() -> None:
    record = on(LEAP_DAY, cost_nano=5)
    rollup_rebuild(day=LEAP_DAY)
    UsageRollup.objects.update(cost_nano=4)
    output = StringIO()
    with pytest.raises(CommandError, match=r"1 difference$"):
        call_command("ledger_verify", stdout=output)
    found = [line.split() for line in output.getvalue().splitlines()]
    assert ["cost_nano", "2024-02-29", "team", f"{record.team_id}", "4", "5"] in found
    assert "NOT in order" in output.getvalue()


def test_broken_records_are_named_by_their_request() -> None:
    broken = {
        on(LEAP_DAY, state="lost"): "state that does not exist",
        on(LEAP_DAY, finished_at=datetime(2020, 1, 1, tzinfo=UTC)): "finished before it started",
        on(LEAP_DAY, state=UsageState.RELEASED, cost_nano=1): "released, and yet it cost something",
        on(LEAP_DAY, http_status=0): "settled without a status",
    }
    rollup_rebuild(day=LEAP_DAY)
    output = StringIO()
    with pytest.raises(CommandError, match="4 differences"):
        call_command("ledger_verify", "--json", stdout=output)
    found = {row["where"]: row["what"] for row in json.loads(output.getvalue())["differences"]}
    assert found == {f"request {record.request_id}": what for record, what in broken.items()}


def test_a_record_that_cannot_be_is_still_shown_to_who_looks_for_it(admin_client: Any) -> None:
    record = on(LEAP_DAY, state="lost", usage_source="guess")
    for url in (
        "/admin/analytics/usagerecord/",
        f"/admin/analytics/usagerecord/{record.pk}/change/",
        "/dashboards/requests/",
        f"/dashboards/requests/{record.pk}/",
    ):
        response = admin_client.get(url)
        assert response.status_code == 200, url
        assert "lost" in response.content.decode(), url


# --- ledger_status ------------------------------------------------------------------------------------------------


def test_a_folder_that_was_never_made_is_an_empty_one(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path / "not" / "there"
    assert "none: no gateway runs here" in said("ledger_status")
    assert json.loads(said("ledger_status", "--json"))["journals"] == []
    assert not settings.JOURNAL_DIR.exists()


def test_what_was_adopted_counts_for_a_day(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path
    now = timezone.now()
    for state, hours, code in (
        (UsageState.EXPIRED, 1, "gateway_stopped"),
        (UsageState.RELEASED, 2, "gateway_stopped"),
        (UsageState.EXPIRED, 25, "gateway_stopped"),
        (UsageState.RELEASED, 1, "upstream_failed"),
    ):
        UsageRecordFactory(at=now - timedelta(hours=hours), state=state, error_code=code, cost_nano=0)
    told = json.loads(said("ledger_status", "--json"))
    assert (told["expired"], told["released"]) == (1, 1)
    assert "1 billed at their bound, 1 never sent" in said("ledger_status")


def test_files_that_are_no_journal_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path
    (tmp_path / "README").write_text("notes")
    (tmp_path / "rejected").mkdir()
    assert json.loads(said("ledger_status", "--json"))["rejected"] == 0
    assert (tmp_path / "README").read_text() == "notes"


@pytest.mark.parametrize("name", ["ledger_status", "ledger_verify", "rollup_costs", "catalogue_load", "demo_data"])
def test_an_option_that_does_not_exist_is_refused(name: str) -> None:
    assert "--frobnicate" in refused(name, "--from=2026-03-01", "--to=2026-03-01", "--frobnicate")
