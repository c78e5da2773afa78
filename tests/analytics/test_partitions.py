"""Usage records by the month: partitions on PostgreSQL, ways there and back, and what happens to old ones."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from pytest_django import Settings

from analytics import tasks
from analytics.domain.rollup import DayRange, Sums, hour_of
from analytics.models import HourlyRollup, UsageAdjustment, UsageRecord, UsageRetention, UsageRollup
from analytics.selectors import request_detail
from analytics.selectors.requests import with_id
from analytics.selectors.sums import FAILED, dirty_hours, usage_sums
from analytics.services.partitions import partitions_prepare, usage_retain
from analytics.services.rollups import rollup_rebuild, rollups_refresh
from analytics.services.verification import ledger_check
from routerplatform.gateway.ids import new_request_id
from routing.models import VirtualKey
from tests.factories import NOON, UsageAdjustmentFactory, UsageRecordFactory, VirtualKeyFactory, mark_hour

on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no partitions")
LONG_AGO = datetime(1999, 5, 5, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def partition_of(record: UsageRecord) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM analytics_usagerecord WHERE request_id = %s", [record.pk])
        [(name,)] = cursor.fetchall()
    return str(name).removeprefix("analytics_usagerecord_")


def use(key: VirtualKey, at: datetime, **kwargs: Any) -> UsageRecord:
    record = UsageRecordFactory.create(key=key, at=at, **kwargs)
    mark_hour(at)
    return record


# --- partitions ---------------------------------------------------------------------------------------------------


@on_postgres
def test_a_record_of_an_odd_time_is_kept_and_moves_when_its_month_gets_a_partition(key: VirtualKey) -> None:
    odd, next_year = use(key, LONG_AGO), use(key, NOON.replace(year=2031))
    assert {partition_of(odd), partition_of(next_year)} == {"default"}

    created = partitions_prepare(now=NOON.replace(year=2030, month=12))

    assert created == [f"analytics_usagerecord_{month}" for month in ("2030_12", "2031_01", "2031_02")]
    assert partitions_prepare(now=NOON.replace(year=2031, month=1)) == ["analytics_usagerecord_2031_03"]
    assert partition_of(next_year) == "2031_03"
    assert partition_of(odd) == "default"
    assert UsageRecord.objects.count() == 2


@on_postgres
def test_a_month_begins_and_ends_at_midnight_utc(key: VirtualKey) -> None:
    partitions_prepare(now=NOON.replace(year=2030, month=12))
    midnight = datetime(2031, 1, 1, tzinfo=UTC)

    assert partition_of(use(key, midnight - timedelta(microseconds=1))) == "2030_12"
    assert partition_of(use(key, midnight)) == "2031_01"


@on_postgres
def test_a_new_partition_has_the_rules_and_indexes_of_the_table(key: VirtualKey) -> None:
    partitions_prepare(now=NOON.replace(year=2030, month=12))
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'analytics_usagerecord_2030_12'")
        definitions = "\n".join(definition for (definition,) in cursor.fetchall())

    assert definitions.count("CREATE") == len(UsageRecord._meta.indexes) + 3  # the key, and two foreign keys
    assert "UNIQUE INDEX" in definitions
    assert "(request_id, started_at)" in definitions
    with pytest.raises(IntegrityError, match="usage_cost_not_negative"):
        use(key, NOON.replace(year=2030, month=12), cost_nano=-1)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has partitions")
def test_sqlite_needs_none() -> None:
    assert partitions_prepare(now=NOON) == []


@on_postgres
def test_a_request_is_looked_for_in_the_partitions_of_its_time_only(key: VirtualKey) -> None:
    now = timezone.now()
    partitions_prepare(now=now)
    record = UsageRecordFactory.create(key=key, request_id=UUID(new_request_id()), at=now)

    plan = with_id(UsageRecord.objects.all(), record.pk).explain()
    found = set(re.findall(r"analytics_usagerecord_([0-9_]{7}|default)\b", plan))

    assert request_detail(request_id=record.pk, team_ids=None) == record
    assert partition_of(record) in found
    assert len(found) <= 2  # on the first and the last day of a month it may have been in another


def test_a_request_with_an_id_without_a_time_is_found_too(key: VirtualKey) -> None:
    record = use(key, NOON)

    assert request_detail(request_id=record.pk, team_ids=[key.team_id]) == record


@on_postgres
@pytest.mark.parametrize("filters", [{"team_id": 1}, {"key_id": 1}, {"provider": "vendor"}, {}, {"errors_only": True}])
def test_a_list_is_read_along_an_index_of_each_partition(filters: dict[str, Any]) -> None:
    rows = UsageRecord.objects.filter(FAILED) if filters.pop("errors_only", False) else UsageRecord.objects
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # a table of nothing is read as a whole otherwise
        cursor.execute("SET LOCAL enable_sort = off")
    plan = rows.filter(started_at__lt=NOON, **filters).order_by("-started_at", "-request_id")[:50].explain()

    assert "Seq Scan" not in plan
    assert "Index" in plan


# --- there and back -----------------------------------------------------------------------------------------------


@pytest.fixture
def migrated() -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Migrates analytics to a name and tells the usage records then; afterwards everything is as it was."""

    def go(name: str) -> list[dict[str, Any]]:
        state = MigrationExecutor(connection).migrate([("analytics", name)])
        return list(state.apps.get_model("analytics", "UsageRecord").objects.order_by("pk").values())

    yield go
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def is_partitioned() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'analytics_usagerecord'")
        [(kind,)] = cursor.fetchall()
    return bool(kind == "p")


def shape() -> tuple[set[str], set[str]]:
    """The indexes and checks of the table."""
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, "analytics_usagerecord")
    return (
        {name for name, one in constraints.items() if one["index"]},
        {name for name, one in constraints.items() if one["check"]},
    )


@pytest.mark.django_db(transaction=True)
def test_the_migration_keeps_every_record_there_and_back(
    key: VirtualKey, migrated: Callable[[str], list[dict[str, Any]]]
) -> None:
    moments = (LONG_AGO, NOON, NOON + timedelta(days=31), timezone.now(), NOON.replace(year=2090))
    for moment in moments:
        use(key, moment, decision={"why": f"{moment}"}, charges={"1": 2})
    rollups_refresh()
    rows = migrated("0003_hourly_rollups")
    before = shape()

    assert [row["started_at"] for row in migrated("0002_hard_budgets")] == [row["started_at"] for row in rows]
    assert connection.vendor == "sqlite" or not is_partitioned()
    assert before[0] - shape()[0] == {"usage_unpriced_latest"}

    assert migrated("0003_hourly_rollups") == rows
    assert len(rows) == len(moments)
    assert shape() == before
    assert connection.vendor == "sqlite" or is_partitioned()
    assert set(dirty_hours()) == {hour_of(moment) for moment in moments}  # so that sums are right from the beginning


@pytest.mark.django_db(transaction=True)
def test_what_is_dirty_stays_so_on_the_way_back(
    key: VirtualKey, migrated: Callable[[str], list[dict[str, Any]]]
) -> None:
    use(key, NOON)
    rollups_refresh()
    use(key, NOON - timedelta(days=1))

    migrated("0002_hard_budgets")

    with connection.cursor() as cursor:
        cursor.execute("SELECT day FROM analytics_dirtyday")
        assert [str(day) for (day,) in cursor.fetchall()] == [str(NOON.date() - timedelta(days=1))]


# --- retention ----------------------------------------------------------------------------------------------------


def spent(since: datetime) -> dict[tuple[Any, ...], Sums]:
    return usage_sums("day", "team_id", team_ids=None, days=DayRange(since.date(), NOON.date()))


@pytest.fixture
def old(key: VirtualKey) -> datetime:
    """The first of three months with requests, the last of which is March 2026; the first has two days of them."""
    begin = NOON.replace(month=1)
    partitions_prepare(now=begin)
    for moment in (begin, begin + timedelta(days=1), NOON.replace(month=2), NOON):
        record = use(key, moment)
        UsageAdjustmentFactory.create(request_id=record.pk, started_at=moment)
    return begin


def test_old_months_are_dropped_and_their_sums_stay(old: datetime) -> None:
    before = spent(old)

    assert usage_retain(now=NOON, months=1) == 2

    assert [record.started_at.month for record in UsageRecord.objects.all()] == [3, 2]
    assert [one.started_at.month for one in UsageAdjustment.objects.order_by("started_at")] == [2, 3]
    assert spent(old) == before
    assert ledger_check(now=NOON).differences == ()
    kept = UsageRetention.objects.get()
    assert (kept.before, kept.records) == (datetime(2026, 2, 1, tzinfo=UTC), 2)


def test_a_second_run_drops_nothing_and_a_later_one_the_next_month(old: datetime) -> None:
    before = spent(old)

    dropped = [usage_retain(now=now, months=1) for now in (NOON, NOON, NOON + timedelta(days=31))]

    assert dropped == [2, 0, 1]
    assert spent(old) == before


def test_without_a_limit_everything_is_kept(old: datetime) -> None:
    assert usage_retain(now=NOON.replace(year=2090), months=0) == 0
    assert UsageRecord.objects.count() == 4


def test_rollups_of_dropped_months_cannot_be_recomputed_to_nothing(old: datetime) -> None:
    usage_retain(now=NOON, months=1)
    before = spent(old)
    mark_hour(old)

    rollup_rebuild(day=old.date())
    rollups_refresh()

    assert spent(old) == before
    assert UsageRollup.objects.filter(day=old.date()).exists()
    assert HourlyRollup.objects.filter(hour=old).exists()


def test_what_comes_in_after_its_month_was_dropped_is_counted_on_top_and_stays(old: datetime, key: VirtualKey) -> None:
    usage_retain(now=NOON, months=1)
    before = spent(old)[old.date(), key.team_id]

    use(key, old, cost_nano=7)

    assert spent(old)[old.date(), key.team_id] == before.plus(
        Sums(requests=1, cost_nano=7, input_tokens=1000, output_tokens=200)
    )
    assert usage_retain(now=NOON + timedelta(days=31), months=1) == 1
    assert spent(old)[old.date(), key.team_id].cost_nano == before.cost_nano + 7
    assert ledger_check(now=NOON).differences == ()


@on_postgres
def test_a_dropped_month_is_a_dropped_table_and_what_lay_elsewhere_goes_too(old: datetime, key: VirtualKey) -> None:
    use(key, LONG_AGO.replace(year=2010))
    partitions = [partition_of(record) for record in UsageRecord.objects.order_by("started_at")]
    assert partitions[:3] == ["default", "2026_01", "2026_01"]

    assert usage_retain(now=NOON, months=1) == 3

    with connection.cursor() as cursor:
        assert "analytics_usagerecord_2026_01" not in connection.introspection.table_names(cursor)


def test_the_daily_task_keeps_what_the_setting_says(old: datetime, settings: Settings) -> None:
    settings.USAGE_RETENTION_MONTHS = 0
    assert tasks.keep_usage() == 0
    settings.USAGE_RETENTION_MONTHS = 12
    assert tasks.keep_usage() == (4 if timezone.now() > NOON.replace(year=2027, month=4, day=1) else 0)
