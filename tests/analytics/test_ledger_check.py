"""The ledger's own check finds what is wrong, and nothing where nothing is."""

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from analytics.models import (
    BudgetWindow,
    HourlyRollup,
    LedgerCheck,
    UsageAdjustment,
    UsageRecord,
    UsageRetention,
    UsageRollup,
    UsageState,
)
from analytics.services.rollups import rollups_refresh
from analytics.services.verification import CHECKS_KEPT, LedgerReport, ledger_check, ledger_verify
from tests.factories import (
    NOON,
    BudgetLeaseFactory,
    BudgetWindowFactory,
    HourlyRollupFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    UsageRollupFactory,
    mark_hour,
)

TODAY = NOON.date()

pytestmark = pytest.mark.django_db


@pytest.fixture
def clean() -> UsageRecord:
    """Two records of a day, rolled up."""
    record = UsageRecordFactory.create()
    UsageRecordFactory.create(key=record.key, model="other")
    mark_hour(NOON)
    rollups_refresh()
    return record


def check(**days: Any) -> LedgerReport:
    return ledger_check(now=NOON, **days)


def said(report: LedgerReport) -> list[tuple[str, str, int | None, int | None]]:
    return [(one.what, one.where, one.stated, one.proven) for one in report.differences]


def test_a_ledger_that_was_never_used_is_in_order() -> None:
    assert check() == LedgerReport(None, 0, 0, 0)


def test_a_clean_ledger_is_in_order(clean: UsageRecord) -> None:
    report = check()

    assert (report.differences, report.warnings, report.records, report.dirty_hours) == ((), (), 2, 0)


def test_it_takes_as_many_queries_for_many_records_as_for_few(
    clean: UsageRecord, django_assert_num_queries: Any
) -> None:
    BudgetWindowFactory.create()
    with django_assert_num_queries(18):
        check()
    for hours in range(30):
        UsageRecordFactory.create(at=NOON - timedelta(hours=3 * hours))
        BudgetWindowFactory.create()
        mark_hour(NOON - timedelta(hours=3 * hours))
    rollups_refresh()
    with django_assert_num_queries(18):
        check()


# --- rollups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["cost_nano", "requests", "errors", "unpriced", "output_tokens"])
def test_an_hour_that_says_something_else_is_found(clean: UsageRecord, what: str) -> None:
    HourlyRollup.objects.filter(model="other").update(**{what: 77})

    [difference] = check().differences

    assert (difference.what, difference.where) == (what, f"{TODAY} 12:00 team {clean.team_id}")
    assert difference.stated != difference.proven


@pytest.mark.parametrize("what", ["cost_nano", "requests", "unpriced"])
def test_a_day_that_says_something_else_is_found(clean: UsageRecord, what: str) -> None:
    UsageRollup.objects.filter(model="other").update(**{what: 77})

    [difference] = check().differences

    assert (difference.what, difference.where) == (what, f"{TODAY} team {clean.team_id}")
    assert difference.stated != difference.proven


def test_two_errors_that_cancel_out_between_teams_are_found(clean: UsageRecord) -> None:
    UsageRollup.objects.filter(model="other").update(cost_nano=0)
    stranger = UsageRecordFactory.create(at=NOON - timedelta(days=1))
    mark_hour(stranger.started_at)
    rollups_refresh()
    UsageRollup.objects.filter(team=stranger.team).update(cost_nano=20_000_000)

    assert [one.what for one in check().differences] == ["cost_nano", "cost_nano"]


def test_records_without_a_rollup_and_a_rollup_without_records_are_found(clean: UsageRecord) -> None:
    UsageRecordFactory.create(at=NOON - timedelta(days=1))
    UsageRollupFactory.create(day=TODAY - timedelta(days=2), cost_nano=0)
    HourlyRollupFactory.create(hour=NOON - timedelta(days=2), cost_nano=0)

    found = {(where.partition(" team")[0], what): (stated, proven) for what, where, stated, proven in said(check())}

    assert found[f"{TODAY - timedelta(days=1)} 12:00", "requests"] == (0, 1)
    assert found[f"{TODAY - timedelta(days=1)}", "requests"] == (0, 1)
    assert found[f"{TODAY - timedelta(days=2)} 12:00", "requests"] == (10, 0)
    assert found[f"{TODAY - timedelta(days=2)}", "requests"] == (10, 0)


def test_a_dirty_hour_and_its_day_may_differ_and_other_hours_of_the_day_may_not(clean: UsageRecord) -> None:
    UsageRecordFactory.create(key=clean.key)
    mark_hour(NOON)
    assert (check().differences, check().dirty_hours) == ((), 1)

    UsageRecordFactory.create(key=clean.key, at=NOON - timedelta(hours=1))

    assert {where for _, where, _, _ in said(check())} == {f"{TODAY} 11:00 team {clean.team_id}"}


def test_corrections_are_part_of_what_is_proven(clean: UsageRecord) -> None:
    UsageAdjustmentFactory.create(request_id=clean.pk, delta_nano=-4)

    assert [(stated, proven) for _, _, stated, proven in said(check())] == [(20_000_000, 19_999_996)] * 2


def test_only_the_range_is_looked_at(clean: UsageRecord) -> None:
    UsageRecordFactory.create(at=NOON - timedelta(days=9))

    assert check(first=TODAY).differences == ()
    assert check(last=TODAY - timedelta(days=1)).differences != ()


def test_a_month_that_was_dropped_is_no_difference_but_a_day_that_is_not_its_hours_is(clean: UsageRecord) -> None:
    UsageRecord.objects.all().delete()
    UsageRetention.objects.create(before=NOON + timedelta(hours=1))
    assert said(check()) == []

    UsageRollup.objects.filter(model="other").update(requests=5)

    assert said(check()) == [("requests", f"{TODAY} team {clean.team_id}", 6, 2)]


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def window() -> BudgetWindow:
    """A window that was charged 50 for a record, 7 less by its correction, and is leased 20 by two processes."""
    window = BudgetWindowFactory.create(spent_nano=43, leased_nano=20)
    record = UsageRecordFactory.create(charges={str(window.pk): 50, "12345": 99})
    UsageAdjustmentFactory.create(request_id=record.pk, charges={str(window.pk): -7})
    UsageRecordFactory.create(charges=None)
    BudgetLeaseFactory.create(window=window, owner="a", amount_nano=15, renewed_at=NOON)
    BudgetLeaseFactory.create(window=window, owner="b", amount_nano=5, renewed_at=NOON)
    mark_hour(NOON)
    return window


def where_of(window: BudgetWindow) -> str:
    return f"budget {window.budget_id} from 2026-03-01 00:00"


def test_a_window_that_was_charged_what_its_records_say_is_in_order(window: BudgetWindow) -> None:
    assert (check().differences, check().windows) == ((), 1)


def test_a_window_that_was_charged_something_else_is_found(window: BudgetWindow) -> None:
    BudgetWindow.objects.update(spent_nano=44)

    assert said(check()) == [("spent of a budget", where_of(window), 44, 43)]


def test_charges_without_a_correction_are_found(window: BudgetWindow) -> None:
    UsageAdjustment.objects.all().delete()

    assert said(check()) == [("spent of a budget", where_of(window), 43, 50)]


def test_a_lease_that_its_window_does_not_know_is_found(window: BudgetWindow) -> None:
    BudgetLeaseFactory.create(window=window, owner="c", amount_nano=1, renewed_at=NOON)

    assert said(check()) == [("leased of a budget", where_of(window), 20, 21)]


@pytest.fixture
def unguarded() -> Iterator[None]:
    """The database itself lets no window pass its ceiling, unless it is told to."""
    is_sqlite = connection.vendor == "sqlite"
    drop = "ALTER TABLE analytics_budgetwindow DROP CONSTRAINT budget_window_within_its_ceiling"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON" if is_sqlite else drop)
        yield
        if is_sqlite:
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


@pytest.mark.usefixtures("unguarded")
def test_a_window_above_its_ceiling_is_found_and_an_overrun_is_none(window: BudgetWindow) -> None:
    BudgetWindow.objects.update(ceiling_nano=62)
    assert said(check()) == [("committed of a budget, above its ceiling", where_of(window), 63, 62)]

    BudgetWindow.objects.update(overrun_nano=1)

    assert said(check()) == []


def test_windows_of_which_the_range_has_only_a_part_are_not_judged(window: BudgetWindow) -> None:
    BudgetWindow.objects.update(spent_nano=1)

    assert check(first=TODAY).windows == 0
    assert check(last=TODAY).windows == 0
    assert [what for what, *_ in said(check(first=TODAY.replace(month=2)))] == ["spent of a budget"]
    UsageRetention.objects.create(before=NOON.replace(day=1, hour=0))
    assert check().windows == 0


def test_a_lease_that_nobody_renews_is_a_warning_and_no_difference(window: BudgetWindow) -> None:
    window.leases.filter(owner="b").update(renewed_at=NOON - timedelta(minutes=15, seconds=1))

    report = check()

    assert report.differences == ()
    [warning] = report.warnings
    assert (warning.what, warning.where, warning.stated) == (
        "stale lease",
        f"b, budget {window.budget_id}, silent since 2026-03-10 11:44",
        5,
    )


# --- records ------------------------------------------------------------------------------------------------------


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
    mark_hour(NOON)

    [difference] = check().differences

    assert (difference.what, difference.where) == (what, f"request {record.pk}")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's key is the id alone")
def test_an_id_that_is_there_twice_is_found() -> None:
    record = UsageRecordFactory.create()
    UsageRecordFactory.create(request_id=record.pk, key=record.key, at=NOON + timedelta(days=40))
    for moment in (NOON, NOON + timedelta(days=40)):
        mark_hour(moment)

    assert said(check()) == [("id that is there more than once", f"request {record.pk}", 2, 1)]


# --- kept, and told -----------------------------------------------------------------------------------------------


def test_the_result_is_kept_for_a_while(clean: UsageRecord, caplog: pytest.LogCaptureFixture) -> None:
    LedgerCheck.objects.create(at=NOON - CHECKS_KEPT - timedelta(seconds=1), duration_ms=1, records=0)
    UsageRollup.objects.filter(model="other").update(requests=3)

    ledger_verify(now=NOON, first=TODAY)

    [kept] = LedgerCheck.objects.all()
    assert (kept.at, kept.first, kept.last, kept.records, kept.difference_count) == (NOON, TODAY, TODAY, 2, 1)
    assert kept.differences == [
        {"what": "requests", "where": f"{TODAY} team {clean.team_id}", "stated": 4, "proven": 2}
    ]
    assert "the ledger is not in order: 1 differences" in caplog.text


def run(*argv: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("ledger_verify", *argv, stdout=out)
    except CommandError as error:
        return out.getvalue(), error.returncode
    return out.getvalue(), 0


def test_the_command_ends_with_1_and_a_table_when_anything_differs(clean: UsageRecord) -> None:
    nothing = f"2 records from {TODAY} to {TODAY}, 0 budget windows, 0 hours waiting for their rollup"
    assert run() == (f"{nothing}: in order\n", 0)
    UsageRollup.objects.filter(model="other").update(requests=3)

    text, code = run()
    line, json_code = run("--json")

    assert (code, json_code) == (1, 1)
    where = f"{TODAY} team {clean.team_id}"
    assert text.splitlines() == [
        f"what      {'where':<{len(where)}}  stated  proven",
        f"requests  {where}       4       2",
        f"{nothing}: NOT in order",
    ]
    assert json.loads(line)["differences"] == [{"what": "requests", "where": where, "stated": 4, "proven": 2}]
    assert LedgerCheck.objects.count() == 3


def test_the_command_names_broken_records_and_says_when_there_are_none() -> None:
    assert run() == ("No usage yet, 0 budget windows: in order\n", 0)
    record = UsageRecordFactory.create(state="open")
    mark_hour(NOON)

    assert f"request {record.pk}" in run()[0]


def test_the_command_warns_of_stale_leases_and_ends_with_0() -> None:
    BudgetLeaseFactory.create(window=BudgetWindowFactory.create(leased_nano=10**9), renewed_at=NOON)

    text, code = run()

    assert (code, text.partition(",")[0].startswith("warning: stale lease: ")) == (0, True)
