"""The one place that adds up usage: rollups of hours and days that are clean, and the records of all others."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection, transaction
from django.db.models import Aggregate, Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDate, TruncHour

from analytics.domain.rollup import ONE_HOUR, SUM_NAMES, DayRange, Sources, Stretch, Sums, sources_of
from analytics.models import (
    DirtyHour,
    HourlyRollup,
    UsageAdjustment,
    UsageRecord,
    UsageRetention,
    UsageRollup,
    UsageState,
)

# A request that its caller gave up is no error; one that broke after its first bytes is, though it was billed.
FAILED = ~Q(state=UsageState.CANCELLED) & (~Q(state=UsageState.SETTLED) | ~Q(error_code=""))
ANSWERED = Q(state=UsageState.SETTLED, error_code="")
DIRTY = Q(marks__gt=F("rolled_up"))
TIMES = {"hour", "day"}  # what sums may be grouped by besides columns of a record
_COUNTED: dict[str, Aggregate] = {
    "requests": Count("pk"),
    "errors": Count("pk", filter=FAILED),
    "unpriced": Count("pk", filter=Q(cost_nano=None)),
}
# Aliases carry a prefix: an annotation may not have the name of a field.
RECORD_SUMS = {f"sum_{name}": _COUNTED.get(name) or Sum(name) for name in SUM_NAMES}
ROLLUP_SUMS = {f"sum_{name}": Sum(name) for name in SUM_NAMES}


@contextmanager
def consistent_read() -> Iterator[None]:
    """Let all reads of the block see the database at one moment, without keeping anybody from writing.

    Inside a transaction it does nothing: that transaction decides then.
    """
    with connection.cursor() as cursor:
        if connection.in_atomic_block:
            yield
        elif connection.vendor == "postgresql":
            with transaction.atomic():
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield
        elif connection.connection.in_transaction:  # a block around this one
            yield
        else:
            cursor.execute("BEGIN DEFERRED")  # `atomic` would take SQLite's only write lock (BEGIN IMMEDIATE)
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")


def usage_sums(*group: str, team_ids: Collection[int] | None, days: DayRange | Stretch) -> dict[tuple[Any, ...], Sums]:
    """Sums over `days` for each combination of `group` (`hour`, `day`, rollup.DIMENSIONS), exact at one moment.

    `group` is not empty. `team_ids` None is all teams; an empty collection is none. At most six queries.
    """
    with consistent_read():
        sources = _sources(days, by_hour="hour" in group)
        parts = []
        if sources.days:
            parts.append(daily_sums(*group, rollups=of_teams(daily_of(sources.days), team_ids)))
        if sources.hours:
            parts.append(hourly_sums(*group, rollups=of_teams(hourly_of(sources.hours), team_ids)))
        if sources.records:
            parts.append(raw_sums(*group, team_ids=team_ids, ranges=sources.records))
    return added(*parts)


def _sources(span: DayRange | Stretch, *, by_hour: bool) -> Sources:
    return sources_of(span, dirty=dirty_hours(span), dropped_before=records_dropped_before(), by_hour=by_hour)


def dirty_hours(span: DayRange | Stretch | None = None) -> list[datetime]:
    """The hours of a stretch (or of all time) whose rollup is out of date, the oldest first."""
    found = DirtyHour.objects.filter(DIRTY).order_by("hour")
    if span:
        found = found.filter(hour__gt=span.begins_at - ONE_HOUR, hour__lt=span.ends_before)
    return list(found.values_list("hour", flat=True))


def records_dropped_before() -> datetime | None:
    """Where the records that are kept begin; None when none were ever dropped."""
    return UsageRetention.objects.order_by("-before").values_list("before", flat=True).first()


def raw_sums(
    *group: str, team_ids: Collection[int] | None, ranges: Collection[DayRange | Stretch]
) -> dict[tuple[Any, ...], Sums]:
    """Sums over the records themselves with their corrections, by `group`. Two queries."""
    records = record_sums(*group, records=of_teams(records_of(ranges), team_ids))
    return added(records, adjustment_sums(*group, team_ids=team_ids, ranges=ranges))


def record_sums(*group: str, records: "QuerySet[UsageRecord]") -> dict[tuple[Any, ...], Sums]:
    """Sums over records without their corrections, by `group`. A record belongs to when it came in."""
    return _grouped(_dated(records, "started_at", group).values(*group).annotate(**RECORD_SUMS), group)


def adjustment_sums(
    *group: str, team_ids: Collection[int] | None, ranges: Collection[DayRange | Stretch]
) -> dict[tuple[Any, ...], Sums]:
    """What corrections add to the sums of their records: cost, and requests that are unpriced no longer (negative)."""
    rows = _dated(of_teams(adjustments_of(ranges), team_ids), "started_at", group)
    rows = rows.annotate(**{name: _of_record(name) for name in group if name not in TIMES | {"team_id"}})
    priced = Count("request_id", filter=Q(was_unpriced=True), distinct=True)
    return {
        tuple(row[name] for name in group): Sums(cost_nano=row["cost"], unpriced=-row["priced"])
        for row in rows.values(*group).annotate(cost=Sum("delta_nano"), priced=priced).order_by()
    }


def daily_sums(*group: str, rollups: "QuerySet[UsageRollup]") -> dict[tuple[Any, ...], Sums]:
    return _grouped(rollups.values(*group).annotate(**ROLLUP_SUMS), group)


def hourly_sums(*group: str, rollups: "QuerySet[HourlyRollup]") -> dict[tuple[Any, ...], Sums]:
    rollups = rollups.annotate(day=TruncDate("hour", tzinfo=UTC)) if "day" in group else rollups
    return _grouped(rollups.values(*group).annotate(**ROLLUP_SUMS), group)


def added(*parts: dict[tuple[Any, ...], Sums]) -> dict[tuple[Any, ...], Sums]:
    found: dict[tuple[Any, ...], Sums] = {}
    for part in parts:
        for values, sums in part.items():
            found[values] = found[values].plus(sums) if values in found else sums
    return found


def records_of(ranges: Collection[DayRange | Stretch]) -> "QuerySet[UsageRecord]":
    """The records of these stretches, found by the index on their time. None without any."""
    return UsageRecord.objects.filter(_within("started_at", ranges)) if ranges else UsageRecord.objects.none()


def adjustments_of(ranges: Collection[DayRange | Stretch]) -> "QuerySet[UsageAdjustment]":
    """The corrections of records of these stretches, with the `team_id` of their record, which has to be there."""
    all_of_them = UsageAdjustment.objects
    rows = all_of_them.filter(_within("started_at", ranges)) if ranges else all_of_them.none()
    return rows.annotate(team_id=_of_record("team_id")).exclude(team_id=None)


def _of_record(name: str) -> Subquery:
    # Its time is the record's too: with it, PostgreSQL looks into one partition only.
    record = UsageRecord.objects.filter(request_id=OuterRef("request_id"), started_at=OuterRef("started_at"))
    return Subquery(record.order_by().values(name)[:1])


def hourly_of(ranges: Collection[DayRange | Stretch]) -> "QuerySet[HourlyRollup]":
    return HourlyRollup.objects.filter(_within("hour", ranges)) if ranges else HourlyRollup.objects.none()


def daily_of(ranges: Collection[DayRange]) -> "QuerySet[UsageRollup]":
    within = (Q(day__range=(one.first, one.last)) for one in ranges)
    return UsageRollup.objects.filter(reduce(or_, within)) if ranges else UsageRollup.objects.none()


def _within(column: str, ranges: Collection[DayRange | Stretch]) -> Q:
    return reduce(or_, (Q(**{f"{column}__gte": one.begins_at, f"{column}__lt": one.ends_before}) for one in ranges))


def _dated(rows: Any, column: str, group: tuple[str, ...]) -> Any:
    """With the `hour` and `day` that `group` asks for."""
    wanted = {"hour": TruncHour(column, tzinfo=UTC), "day": TruncDate(column, tzinfo=UTC)}
    return rows.annotate(**{name: wanted[name] for name in group if name in wanted})


def of_teams(rows: QuerySet[Any], team_ids: Collection[int] | None) -> QuerySet[Any]:
    return rows if team_ids is None else rows.filter(team_id__in=list(team_ids))


def _grouped(rows: QuerySet[Any], group: tuple[str, ...]) -> dict[tuple[Any, ...], Sums]:
    return {
        tuple(row[name] for name in group): Sums(**{name: int(row[f"sum_{name}"] or 0) for name in SUM_NAMES})
        for row in rows.order_by()
    }
