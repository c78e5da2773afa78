"""Rollups: recomputed from the records, never wrong for a moment, whoever writes meanwhile."""

import json
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from analytics.domain.rollup import DayRange, Stretch, Sums
from analytics.models import HourlyRollup, UsageRecord, UsageRetention, UsageRollup, UsageState
from analytics.selectors.sums import consistent_read, dirty_hours, usage_sums
from analytics.services.rollups import (
    ROLLUP_LOCK,
    _hour_rows,
    _marks,
    _store,
    rollup_rebuild,
    rollups_refresh,
)
from analytics.services.verification import ledger_check
from routing.models import VirtualKey
from tests.factories import (
    NOON,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    UsageRollupFactory,
    VirtualKeyFactory,
    mark_hour,
)

TODAY = NOON.date()
on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def use(key: VirtualKey, **kwargs: Any) -> UsageRecord:
    """A record, and the mark that comes with it."""
    record = UsageRecordFactory.create(key=key, **kwargs)
    mark_hour(record.started_at)
    return record


def correct(record: UsageRecord, delta_nano: int, **kwargs: Any) -> None:
    """A correction of a record's cost, and the mark that comes with it."""
    UsageAdjustmentFactory.create(request_id=record.pk, started_at=record.started_at, delta_nano=delta_nano, **kwargs)
    mark_hour(record.started_at)


def totals() -> dict[tuple[Any, ...], Sums]:
    return usage_sums("day", team_ids=None, days=DayRange(TODAY, TODAY))


def test_a_dirty_hour_and_its_day_are_recomputed_and_clean(key: VirtualKey) -> None:
    for cost_nano in (100, 20, None):
        use(key, cost_nano=cost_nano, input_tokens=10, cache_read_input_tokens=3, output_tokens=2, latency_ms=250)
    use(key, model="other", cost_nano=0, state=UsageState.RELEASED, error_code="upstream_failed")

    [done] = rollups_refresh()

    assert (done.hours, done.rows, done.is_clean, done.after.requests, done.before) == (1, 2, True, 4, Sums())
    assert not dirty_hours()
    assert dict(HourlyRollup.objects.values_list("model", "requests")) == {"model": 3, "other": 1}
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
    HourlyRollup.objects.update(requests=9)
    rollup_rebuild(day=TODAY)

    assert first == [("", 1, 10_000_000)] == list(UsageRollup.objects.values_list("persona", "requests", "cost_nano"))
    assert rollups_refresh() == []


def test_a_renamed_team_and_key_stay_one_row(key: VirtualKey) -> None:
    use(key, team_name="Old name")
    use(key, team_name="Newer name", key_name="renamed")

    rollups_refresh()

    assert UsageRollup.objects.get().requests == 2


def test_a_day_is_made_of_all_its_hours_though_one_alone_was_dirty(key: VirtualKey) -> None:
    for hours in (1, 2, 3):
        use(key, at=NOON - timedelta(hours=hours))
    rollups_refresh()
    use(key, at=NOON - timedelta(hours=2), latency_ms=50)

    [done] = rollups_refresh()

    assert (done.hours, done.rows, done.before.requests, done.after.requests) == (1, 1, 3, 4)
    assert sorted(HourlyRollup.objects.values_list("requests", flat=True)) == [1, 1, 2]
    assert UsageRollup.objects.get().latency_ms_sum == 3 * 800 + 50


def test_an_hour_that_lost_its_records_leaves_its_day(key: VirtualKey) -> None:
    record = use(key)
    use(key, at=NOON - timedelta(hours=2))
    rollups_refresh()
    record.delete()
    mark_hour(NOON)

    rollups_refresh()

    assert (UsageRollup.objects.get().requests, HourlyRollup.objects.count()) == (1, 1)


# --- corrections --------------------------------------------------------------------------------------------------


def test_a_correction_counts_before_and_after_the_rollup_under_the_names_of_its_record(key: VirtualKey) -> None:
    dear = use(key, model="dear", cost_nano=100)
    use(key, model="cheap", cost_nano=5)
    correct(dear, -30)
    correct(dear, +1)

    raw = usage_sums("model", team_ids=[key.team_id], days=DayRange(TODAY, TODAY))
    rollups_refresh()

    assert {model: sums.cost_nano for (model,), sums in raw.items()} == {"dear": 71, "cheap": 5}
    assert usage_sums("model", team_ids=[key.team_id], days=DayRange(TODAY, TODAY)) == raw
    assert dict(HourlyRollup.objects.values_list("model", "cost_nano")) == {"dear": 71, "cheap": 5}


def test_a_record_that_was_priced_later_is_unpriced_no_longer_however_often_it_was_corrected(key: VirtualKey) -> None:
    record = use(key, cost_nano=None)
    use(key, cost_nano=None)
    correct(record, 40, was_unpriced=True)
    correct(record, 2, was_unpriced=True)

    [raw] = totals().values()
    rollups_refresh()

    assert (raw.requests, raw.unpriced, raw.cost_nano) == (2, 1, 42)
    assert totals() == {(TODAY,): raw}


def test_a_correction_without_its_record_counts_nowhere(key: VirtualKey) -> None:
    record = use(key)
    correct(record, 5)
    UsageAdjustmentFactory.create(started_at=NOON, delta_nano=1000)

    raw = totals()
    rollups_refresh()

    assert {sums.cost_nano for sums in raw.values()} == {10_000_005}
    assert totals() == raw


def test_corrections_of_strangers_are_not_seen(key: VirtualKey) -> None:
    record = use(key)
    correct(use(VirtualKeyFactory.create()), 7)
    correct(record, 3)

    own = usage_sums("key_id", team_ids=[key.team_id], days=DayRange(TODAY, TODAY))

    assert {group: sums.cost_nano for group, sums in own.items()} == {(key.pk,): 10_000_003}


# --- reading ------------------------------------------------------------------------------------------------------


def test_sums_by_hour_are_the_same_from_records_and_rollups(key: VirtualKey) -> None:
    for minutes in (0, 59, 60, 61, 26 * 60):
        use(key, at=NOON + timedelta(minutes=minutes), cost_nano=minutes)
    span = Stretch(NOON, NOON + timedelta(hours=27))

    raw = usage_sums("hour", "team_id", team_ids=None, days=span)
    rollups_refresh()
    use(key, at=NOON + timedelta(minutes=30), cost_nano=1)
    mixed = usage_sums("hour", "team_id", team_ids=None, days=span)

    assert {hour: sums.cost_nano for (hour, _), sums in raw.items()} == {
        NOON: 59,
        NOON + timedelta(hours=1): 121,
        NOON + timedelta(hours=26): 1560,
    }
    assert {hour: sums.cost_nano for (hour, _), sums in mixed.items()}[NOON] == 60


def test_a_span_may_begin_and_end_within_an_hour(key: VirtualKey) -> None:
    for minutes in (0, 29, 30, 90, 149, 150):
        use(key, at=NOON + timedelta(minutes=minutes), cost_nano=minutes)
    rollups_refresh()

    span = Stretch(NOON + timedelta(minutes=30), NOON + timedelta(minutes=150))
    [found] = usage_sums("team_id", team_ids=None, days=span).values()

    assert (found.requests, found.cost_nano) == (3, 30 + 90 + 149)


def test_many_scattered_dirty_hours_are_read_exactly_with_as_many_queries_as_one(
    key: VirtualKey, django_assert_max_num_queries: Any
) -> None:
    for number in range(130):
        use(key, at=NOON - timedelta(hours=2 * number), cost_nano=1)
        if number % 2:
            rollups_refresh()
    for number in range(0, 260, 2):  # 130 stretches, more than a query asks for one by one
        mark_hour(NOON - timedelta(hours=number))

    with django_assert_max_num_queries(6):
        found = usage_sums("team_id", team_ids=None, days=DayRange(TODAY - timedelta(days=12), TODAY))

    assert [sums.cost_nano for sums in found.values()] == [130]


# --- several at once ----------------------------------------------------------------------------------------------


def test_figures_that_are_older_than_those_that_are_there_are_not_stored(key: VirtualKey) -> None:
    use(key)
    stale = _marks(TODAY)
    old_rows = list(_hour_rows(stale))
    use(key)
    rollups_refresh()

    done = _store(TODAY, stale, old_rows)

    assert (done.hours, done.after.requests, done.is_clean) == (0, 2, True)


def test_a_mark_that_comes_while_an_hour_is_recomputed_keeps_it_dirty(key: VirtualKey) -> None:
    use(key)
    marks = _marks(TODAY)
    rows = list(_hour_rows(marks))
    use(key)

    done = _store(TODAY, marks, rows)

    assert (done.after.requests, done.is_clean) == (1, False)
    assert [sums.requests for sums in totals().values()] == [2]


@on_postgres
def test_a_day_that_another_process_recomputes_is_left_to_it(key: VirtualKey) -> None:
    use(key)
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [ROLLUP_LOCK, TODAY.toordinal()])
        assert rollups_refresh() == []
        assert dirty_hours()
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

    shippers = [threading.Thread(target=ship) for _ in range(2)]
    workers = [threading.Thread(target=recompute) for _ in range(2)]
    for thread in (*shippers, *workers):
        thread.start()
    for thread in shippers:
        thread.join()
    done.set()
    for thread in workers:
        thread.join()
    assert ledger_check(now=NOON).differences == ()  # whatever is clean now is right
    rollups_refresh()

    report = ledger_check(now=NOON)
    assert (report.differences, report.dirty_hours, report.records) == ((), 0, 80)
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

    said = json.loads(run("--from", f"{TODAY}", "--to", f"{TODAY}", "--dry-run", "--json"))

    assert said["dry_run"] is True
    [line] = said["days"]
    assert (line["day"], line["before"]["requests"], line["after"]["requests"]) == (f"{TODAY}", 0, 1)
    assert not UsageRollup.objects.exists()
    assert dirty_hours()


def test_the_command_refuses_a_range_that_ends_before_it_begins() -> None:
    with pytest.raises(CommandError, match="before") as error:
        run("--from", "2026-03-02", "--to", "2026-03-01")

    assert error.value.returncode == 2


def test_days_whose_records_were_dropped_stay_as_they_are(key: VirtualKey) -> None:
    UsageRetention.objects.create(before=NOON.replace(day=1, hour=0))
    february = TODAY.replace(month=2)
    UsageRollupFactory.create(key=key, day=february)

    with pytest.raises(CommandError, match="the records before 2026-03-01 were dropped"):
        run("--from", f"{february}", "--to", f"{TODAY}")
    rollup_rebuild(day=february)

    assert UsageRollup.objects.get().requests == 10
