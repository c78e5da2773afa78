"""Rollups: recomputed from the records, never incremented.

An hour is made of its records and a day of its hours, in one transaction. While an hour is dirty its rollups are not
read, so a recomputation may stop at any point, and two of them may meet.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Sum
from django.db.models.functions import TruncHour

from analytics.domain.rollup import DIMENSIONS, ONE_HOUR, SUM_NAMES, DayRange, Sums, joined
from analytics.models import DirtyHour, HourlyRollup, UsageRollup
from analytics.selectors.sums import (
    DIRTY,
    RECORD_SUMS,
    ROLLUP_SUMS,
    added,
    adjustment_sums,
    consistent_read,
    daily_of,
    daily_sums,
    dirty_hours,
    hourly_of,
    raw_sums,
    records_dropped_before,
    records_of,
)

ROLLUP_LOCK = 0x52_4F_4C_4C  # the class of our advisory locks; the day is the other half
ROWS_PER_INSERT = 500


@dataclass(frozen=True, slots=True)
class Recomputed:
    """`is_clean` False: records came in meanwhile, an hour stays dirty. `before` and `after` are the day's sums."""

    day: date
    hours: int
    rows: int
    before: Sums
    after: Sums
    is_clean: bool


def hours_mark(*, hours: Iterable[datetime]) -> None:
    """Say that the records of these hours changed, in the transaction that changes them."""
    wanted = sorted(set(hours))  # in a fixed order, so that two processes cannot wait for each other
    table = DirtyHour._meta.db_table
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (hour, marks) VALUES (%s, 1) "  # noqa: S608 - a model's table name
            f"ON CONFLICT (hour) DO UPDATE SET marks = {table}.marks + 1",
            [(connection.ops.adapt_datetimefield_value(hour),) for hour in wanted],
        )


def rollups_refresh() -> list[Recomputed]:
    """Recompute the dirty hours of every day, a transaction each. Days that another process is at are left to it."""
    kept_from = records_dropped_before()
    days = sorted({hour.date() for hour in dirty_hours() if kept_from is None or hour >= kept_from})
    return [done for day in days if (done := rollup_recompute(day=day))]


def rollup_rebuild(*, day: date) -> Recomputed | None:
    """Make a whole day again, also what nobody marked. Until that is done its records themselves are read."""
    hours_mark(hours=_hours_kept(day))
    return rollup_recompute(day=day)


def rollup_recompute(*, day: date) -> Recomputed | None:
    """Make the dirty hours of a day again, and the day from all its hours; None if another process is at it.

    Marks are read before records, so figures may be newer than the marks say, never older. Nothing that the shipper
    writes is locked until the last statements, and on SQLite only they take the write lock. Hours whose records were
    dropped keep what they have.
    """
    with _claimed(day) as is_ours:
        if not is_ours:
            return None
        with consistent_read():
            marks = _marks(day)
            rows = list(_hour_rows(marks))
        with transaction.atomic():
            return _store(day, marks, rows)


def rollup_preview(*, day: date) -> Recomputed:
    """What `rollup_rebuild` would do."""
    days = DayRange(day, day)
    with consistent_read():
        before = daily_sums("day", rollups=daily_of([days]))
        after = raw_sums(*DIMENSIONS, team_ids=None, ranges=[days])
    total = added(*({(day,): sums} for sums in after.values()))
    return Recomputed(day, 24, len(after), _of_day(before), _of_day(total), is_clean=True)


@contextmanager
def _claimed(day: date) -> Iterator[bool]:
    """Whether nobody else recomputes `day` until the block ends. On SQLite two may; the later one finds that out."""
    if connection.vendor != "postgresql":
        yield True
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [ROLLUP_LOCK, day.toordinal()])
        yield bool(cursor.fetchone()[0])


def _hours_kept(day: date) -> list[datetime]:
    """The hours of a day whose records were not dropped."""
    kept_from, begins_at = records_dropped_before(), DayRange(day, day).begins_at
    hours = [begins_at + n * ONE_HOUR for n in range(24)]
    return [hour for hour in hours if kept_from is None or hour >= kept_from]


def _marks(day: date) -> dict[datetime, int]:
    """The dirty hours of a day, each with how often it was marked."""
    dirty = DirtyHour.objects.filter(DIRTY, hour__in=_hours_kept(day))
    return dict(dirty.values_list("hour", "marks"))


def _hour_rows(marks: Mapping[datetime, int]) -> Iterable[HourlyRollup]:
    stretches, names = joined(marks), ("hour", *DIMENSIONS)
    records = records_of(stretches).annotate(hour=TruncHour("started_at", tzinfo=UTC)).values(*names)
    sums = {**RECORD_SUMS, "sum_latency_ms_sum": Sum("latency_ms"), "sum_team_name": Max("team_name")}
    corrections = adjustment_sums(*names, team_ids=None, ranges=stretches)
    for row in records.annotate(**sums).order_by():
        values = _without_prefix(row)
        for name, value in corrections.get(tuple(row[name] for name in names), Sums()).values().items():
            values[name] += value
        yield HourlyRollup(**values)


def _store(day: date, marks: Mapping[datetime, int], rows: list[HourlyRollup]) -> Recomputed:
    """Replace what is older than these figures, and the day if anything was."""
    days = DayRange(day, day)
    before = after = _of_day(daily_sums("day", rollups=daily_of([days])))
    rolled_up = dict(DirtyHour.objects.filter(hour__in=marks).values_list("hour", "rolled_up"))
    ours = {hour: count for hour, count in marks.items() if rolled_up[hour] < count}
    if ours:
        HourlyRollup.objects.filter(hour__in=ours).delete()
        HourlyRollup.objects.bulk_create([row for row in rows if row.hour in ours], batch_size=ROWS_PER_INSERT)
        day_rows = list(_day_rows(days))
        daily_of([days]).delete()
        UsageRollup.objects.bulk_create(day_rows, batch_size=ROWS_PER_INSERT)
        after = reduce(Sums.plus, (_sums_of(row) for row in day_rows), Sums())
    for hour, count in sorted(ours.items()):
        DirtyHour.objects.filter(hour=hour).update(rolled_up=count)
    return Recomputed(day, len(ours), daily_of([days]).count(), before, after, is_clean=not _marks(day))


def _day_rows(days: DayRange) -> Iterable[UsageRollup]:
    sums = {**ROLLUP_SUMS, "sum_latency_ms_sum": Sum("latency_ms_sum"), "sum_team_name": Max("team_name")}
    for row in hourly_of([days]).values(*DIMENSIONS).annotate(**sums).order_by():
        yield UsageRollup(day=days.first, **_without_prefix(row))


def _sums_of(row: UsageRollup) -> Sums:
    return Sums(**{name: getattr(row, name) for name in SUM_NAMES})


def _without_prefix(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("sum_"): 0 if value is None else value for name, value in row.items()}


def _of_day(sums: dict[tuple[Any, ...], Sums]) -> Sums:
    return next(iter(sums.values()), Sums())
