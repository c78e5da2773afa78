"""Rollups: recomputed from the records, never wrong for a moment, whoever writes meanwhile."""

import json
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F

from analytics.domain.rollup import Sums
from analytics.models import DirtyDay, UsageRecord, UsageRollup, UsageState
from analytics.selectors.sums import consistent_read
from analytics.services import ROLLUP_LOCK, ledger_check, rollup_recompute, rollups_refresh
from routing.models import VirtualKey
from tests.factories import NOON, DirtyDayFactory, UsageRecordFactory, UsageRollupFactory, VirtualKeyFactory

TODAY = NOON.date()
on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def use(key: VirtualKey, **kwargs: Any) -> None:
    """A record, and the mark that comes with it."""
    mark(UsageRecordFactory.create(key=key, **kwargs))


def mark(record: UsageRecord) -> None:
    day = record.started_at.date()
    _, is_new = DirtyDay.objects.get_or_create(day=day)
    if not is_new:
        DirtyDay.objects.filter(day=day).update(marks=F("marks") + 1)


def test_a_dirty_day_is_recomputed_and_clean(key: VirtualKey) -> None:
    for cost_nano in (100, 20, None):
        use(key, cost_nano=cost_nano, input_tokens=10, cache_read_input_tokens=3, output_tokens=2, latency_ms=250)
    use(key, model="other", cost_nano=0, state=UsageState.RELEASED, error_code="upstream_failed")

    [done] = rollups_refresh()

    assert (done.rows, done.is_clean, done.after.requests, done.before) == (2, True, 4, Sums())
    assert not DirtyDay.objects.exists()
    rollup = UsageRollup.objects.get(model="model")
    assert (rollup.day, rollup.team_name, rollup.requests, rollup.errors, rollup.unpriced) == (
        TODAY,
        key.team.name,
        3,
        0,
        1,
    )
    assert (rollup.cost_nano, rollup.input_tokens, rollup.cache_read_input_tokens, rollup.output_tokens) == (
        120,
        30,
        9,
        6,
    )
    assert rollup.latency_ms_sum == 750
    assert UsageRollup.objects.get(model="other").errors == 1


def test_a_day_ends_at_midnight_utc(key: VirtualKey) -> None:
    midnight = NOON.replace(hour=0)
    for at in (midnight - timedelta(microseconds=1), midnight, midnight + timedelta(days=1, microseconds=-1)):
        use(key, at=at)

    rollups_refresh()

    assert dict(UsageRollup.objects.values_list("day", "requests")) == {TODAY - timedelta(days=1): 1, TODAY: 2}


def test_recomputing_again_changes_nothing_and_replaces_what_was_wrong(key: VirtualKey) -> None:
    use(key)
    UsageRollupFactory.create(key=key, persona="long gone")

    rollups_refresh()
    first = list(UsageRollup.objects.values_list("persona", "requests", "cost_nano"))
    rollup_recompute(day=TODAY)

    assert first == [("", 1, 10_000_000)] == list(UsageRollup.objects.values_list("persona", "requests", "cost_nano"))
    assert rollups_refresh() == []


def test_a_renamed_team_and_key_stay_one_row(key: VirtualKey) -> None:
    use(key, team_name="Old name")
    use(key, team_name="Newer name", key_name="renamed")

    rollups_refresh()

    assert UsageRollup.objects.get().requests == 2


@on_postgres
def test_a_day_that_another_process_recomputes_is_left_to_it(key: VirtualKey) -> None:
    use(key)
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [ROLLUP_LOCK, TODAY.toordinal()])
        assert rollups_refresh() == []
        assert DirtyDay.objects.exists()
        other.rollback()
        assert len(rollups_refresh()) == 1
    finally:
        other.close()


@on_postgres
@pytest.mark.django_db(transaction=True)
def test_no_mark_is_lost_while_records_come_in_and_two_workers_recompute(key: VirtualKey) -> None:
    done = threading.Event()

    def ship() -> None:
        try:
            for _ in range(40):
                with transaction.atomic():
                    use(key)
        finally:
            connection.close()

    def recompute() -> None:
        try:
            while not done.is_set():
                rollups_refresh()
        finally:
            connection.close()

    DirtyDayFactory.create(day=TODAY)  # so that get_or_create cannot race in the test itself
    shippers = [threading.Thread(target=ship) for _ in range(2)]
    workers = [threading.Thread(target=recompute) for _ in range(2)]
    for thread in (*shippers, *workers):
        thread.start()
    for thread in shippers:
        thread.join()
    done.set()
    for thread in workers:
        thread.join()
    assert ledger_check().differences == ()  # whatever is clean now is right
    rollups_refresh()

    report = ledger_check()
    assert (report.differences, report.dirty_days, report.records) == ((), 0, 80)
    assert UsageRollup.objects.get().requests == 80


@on_postgres
@pytest.mark.django_db(transaction=True)
def test_a_consistent_read_does_not_see_what_is_written_meanwhile(key: VirtualKey) -> None:
    def write() -> None:
        use(key)
        connection.close()

    with consistent_read():
        before = UsageRecord.objects.count()
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        inside = UsageRecord.objects.count()

    assert (before, inside, UsageRecord.objects.count()) == (0, 0, 1)


def fail_in_a_nested_read() -> None:
    with consistent_read(), consistent_read():
        UsageRecord.objects.get()


@pytest.mark.django_db(transaction=True)
def test_consistent_reads_may_be_nested_and_end_after_an_error(key: VirtualKey) -> None:
    with pytest.raises(UsageRecord.DoesNotExist):
        fail_in_a_nested_read()

    use(key)
    with consistent_read():
        assert UsageRecord.objects.count() == 1


def run(*argv: str) -> str:
    out = StringIO()
    call_command("rollup_costs", *argv, stdout=out)
    return out.getvalue()


def test_the_command_recomputes_a_range_that_nobody_marked(key: VirtualKey) -> None:
    for days in (0, 1, 2):
        UsageRecordFactory.create(key=key, at=NOON - timedelta(days=days))
    yesterday = TODAY - timedelta(days=1)

    text = run("--from", f"{yesterday}", "--to", f"{TODAY}")

    assert sorted(UsageRollup.objects.values_list("day", flat=True)) == [yesterday, TODAY]
    assert f"{TODAY}: $0.0100, 1 requests, 1 rows, was $0.0000 and 0 requests" in text


def test_the_command_can_say_what_it_would_do_in_json(key: VirtualKey) -> None:
    use(key)

    line = json.loads(run("--from", f"{TODAY}", "--to", f"{TODAY}", "--dry-run", "--json"))

    assert (line["day"], line["before"]["requests"], line["after"]["requests"]) == (f"{TODAY}", 0, 1)
    assert not UsageRollup.objects.exists()
    assert DirtyDay.objects.exists()


def test_the_command_refuses_a_range_that_ends_before_it_begins() -> None:
    with pytest.raises(CommandError, match="before") as error:
        run("--from", "2026-03-02", "--to", "2026-03-01")

    assert error.value.returncode == 2
