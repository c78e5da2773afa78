"""The ledger's own check finds what is wrong, and nothing where nothing is."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from analytics.models import DirtyDay, UsageRecord, UsageRollup, UsageState
from analytics.services import ledger_check, rollups_refresh
from tests.factories import NOON, UsageRecordFactory, UsageRollupFactory

TODAY = NOON.date()

pytestmark = pytest.mark.django_db


@pytest.fixture
def clean() -> UsageRecord:
    """Two records of a day, rolled up."""
    record = UsageRecordFactory.create()
    UsageRecordFactory.create(key=record.key, model="other")
    DirtyDay.objects.create(day=TODAY)
    rollups_refresh()
    return record


def test_a_ledger_that_was_never_used_is_in_order() -> None:
    assert ledger_check().differences == ()


def test_a_clean_ledger_is_in_order(clean: UsageRecord) -> None:
    report = ledger_check()

    assert (report.differences, report.records, report.dirty_days) == ((), 2, 0)


@pytest.mark.parametrize("what", ["cost_nano", "requests", "errors", "unpriced", "output_tokens"])
def test_a_rollup_that_says_something_else_is_found(clean: UsageRecord, what: str) -> None:
    UsageRollup.objects.filter(model="other").update(**{what: 77})

    [difference] = ledger_check().differences

    assert (difference.what, difference.where) == (what, f"{TODAY} team {clean.team_id}")
    assert difference.rollup != difference.records


def test_two_errors_that_cancel_out_between_teams_are_found(clean: UsageRecord) -> None:
    UsageRollup.objects.filter(model="other").update(cost_nano=0)
    stranger = UsageRecordFactory.create(cost_nano=1)
    UsageRollupFactory.create(key=stranger.key, cost_nano=10_000_001, requests=1, input_tokens=1000, output_tokens=200)

    assert [one.what for one in ledger_check().differences] == ["cost_nano", "cost_nano"]


def test_records_without_a_rollup_and_a_rollup_without_records_are_found(clean: UsageRecord) -> None:
    UsageRecordFactory.create(at=NOON - timedelta(days=1))
    UsageRollupFactory.create(day=TODAY - timedelta(days=2), cost_nano=0)

    found = {(one.where[:10], one.what): (one.rollup, one.records) for one in ledger_check().differences}

    assert found[f"{TODAY - timedelta(days=1)}", "requests"] == (0, 1)
    assert found[f"{TODAY - timedelta(days=2)}", "requests"] == (10, 0)


def test_a_dirty_day_may_differ(clean: UsageRecord) -> None:
    UsageRecordFactory.create(key=clean.key)
    DirtyDay.objects.create(day=TODAY)

    report = ledger_check()

    assert (report.differences, report.dirty_days) == ((), 1)


def test_only_the_range_is_looked_at(clean: UsageRecord) -> None:
    UsageRecordFactory.create(at=NOON - timedelta(days=9))

    assert ledger_check(first=TODAY).differences == ()
    assert ledger_check(last=TODAY - timedelta(days=1)).differences != ()


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ({"state": "open"}, "state that does not exist"),
        ({"finished_at": NOON - timedelta(seconds=1)}, "finished before it started"),
        ({"state": UsageState.RELEASED, "cost_nano": 1}, "released, and yet it cost something"),
        ({"http_status": 0}, "settled without a status"),
    ],
)
def test_a_record_that_cannot_be_is_found(broken: dict[str, Any], what: str) -> None:
    record = UsageRecordFactory.create(**broken)
    DirtyDay.objects.create(day=TODAY)

    [difference] = ledger_check().differences

    assert (difference.what, difference.where) == (what, str(record.pk))


def run(*argv: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("ledger_verify", *argv, stdout=out)
    except CommandError as error:
        return out.getvalue(), error.returncode
    return out.getvalue(), 0


def test_the_command_says_so_and_ends_with_1_when_anything_differs(clean: UsageRecord) -> None:
    assert run() == (f"2 records from {TODAY} to {TODAY}, 0 days waiting for their rollup: in order\n", 0)
    UsageRollup.objects.filter(model="other").update(requests=3)

    text, code = run()
    line, json_code = run("--json")

    assert (code, json_code) == (1, 1)
    assert f"{TODAY} team {clean.team_id}: requests is 4 in the rollup, 2 in the records" in text
    assert json.loads(line)["differences"] == [
        {"what": "requests", "where": f"{TODAY} team {clean.team_id}", "rollup": 4, "records": 2}
    ]


def test_the_command_names_broken_records_and_says_when_there_are_none() -> None:
    assert run() == ("No usage yet.\n", 0)
    record = UsageRecordFactory.create(state="open")
    DirtyDay.objects.create(day=TODAY)

    assert f"request {record.pk}: state that does not exist" in run()[0]
