"""Where usage records are kept, and for how long. On PostgreSQL a month is a partition of the table."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from analytics.domain.months import month_of
from analytics.domain.rollup import ONE_HOUR, Stretch
from analytics.models import DirtyHour, HourlyRollup, UsageAdjustment, UsageRecord, UsageRetention
from analytics.selectors.sums import DIRTY, records_dropped_before, records_of
from analytics.services.rollups import rollup_recompute

TABLE = UsageRecord._meta.db_table
DEFAULT_PARTITION = f"{TABLE}_default"  # what no month takes, so that an odd time never loses a record
MONTHS_AHEAD = 2
THE_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def partitions_prepare(*, now: datetime) -> list[str]:
    """Create the partitions of this month and the next ones that are not there; their names. None on SQLite."""
    if connection.vendor != "postgresql":
        return []
    months = [month_of(now, later=later) for later in range(MONTHS_AHEAD + 1)]
    present = set(_partitions())
    return [name for month in months if (name := partition_name(month)) not in present and _create(name, month)]


def usage_retain(*, now: datetime, months: int) -> int:
    """Drop the records that are older than so many whole months before this one (0: keep all); how many those were.

    Their rollups stay. Nothing is dropped while a rollup of it is out of date and cannot be recomputed.
    """
    if not months:
        return 0
    old = Stretch(records_dropped_before() or THE_BEGINNING, month_of(now, later=-months).begins_at)
    if old.ends_before <= old.begins_at:
        return 0
    for day in sorted({hour.date() for hour in _waiting(old)}):
        rollup_recompute(day=day)
    return _drop_partitions(old) if connection.vendor == "postgresql" else _drop_by_hour(old)


def partition_name(month: Stretch) -> str:
    return f"{TABLE}_{month.begins_at:%Y_%m}"


def _waiting(old: Stretch) -> list[datetime]:
    """The hours of a stretch whose records are still needed."""
    dirty = DirtyHour.objects.filter(DIRTY, hour__gte=old.begins_at, hour__lt=old.ends_before)
    return list(dirty.order_by("hour").values_list("hour", flat=True))


def _adjustments_drop(stretch: Stretch) -> None:
    UsageAdjustment.objects.filter(started_at__gte=stretch.begins_at, started_at__lt=stretch.ends_before).delete()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


def _partitions() -> dict[str, datetime]:
    """The months that have a partition: when each ends, by the partition's name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = %s::regclass AND child.relname ~ %s",
            [TABLE, f"^{TABLE}_[0-9]{{4}}_[0-9]{{2}}$"],
        )
        names = [name for (name,) in cursor.fetchall()]
    begins = {name: datetime.strptime(f"{name[-7:]}_01+0000", "%Y_%m_%d%z") for name in names}
    return {name: month_of(begins_at).ends_before for name, begins_at in begins.items()}


@contextmanager
def _table_alone() -> Iterator[CursorWrapper]:
    """A short transaction that has the table to itself; it gives up when that is not possible within seconds.

    All at once, because a lock that grows could wait for a writer that waits for us.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '3s'")
        cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        yield cursor


def _create(name: str, month: Stretch) -> bool:
    """With the records of the month that went into the default partition. False if somebody else was faster."""
    bounds = [month.begins_at.isoformat(), month.ends_before.isoformat()]
    with _table_alone() as cursor:
        if name in _partitions():
            return False
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT_PARTITION} WHERE started_at >= %s AND started_at < %s RETURNING *) "  # noqa: S608 - names of ours
            f"INSERT INTO {name} SELECT * FROM moved",
            bounds,
        )
        cursor.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
        )
    return True


def _drop_partitions(old: Stretch) -> int:
    dropped = [name for name, ends_before in _partitions().items() if ends_before <= old.ends_before]
    count = records_of([old]).count()
    with _table_alone() as cursor:
        if _waiting(old):
            return 0
        for name in dropped:
            cursor.execute(f"DROP TABLE {name}")
        records_of([old]).delete()  # what lay in the default partition
        _adjustments_drop(old)
        UsageRetention.objects.create(before=old.ends_before, records=count)
    return count


# --- SQLite -------------------------------------------------------------------------------------------------------


def _drop_by_hour(old: Stretch) -> int:
    """An hour at a time, so that gateways can write in between; what is dropped already is so for good."""
    hours = HourlyRollup.objects.filter(hour__gte=old.begins_at, hour__lt=old.ends_before)
    ends = [hour + ONE_HOUR for hour in hours.order_by("hour").values_list("hour", flat=True).distinct()]
    run = UsageRetention(before=old.begins_at)
    begins_at = old.begins_at
    for ends_before in (*ends, old.ends_before):
        with transaction.atomic():
            part = Stretch(begins_at, ends_before)
            if _waiting(part):
                break
            run.records += records_of([part]).delete()[0]
            run.before = begins_at = ends_before
            _adjustments_drop(part)
            run.save()
    return run.records
