"""The one place that adds up usage: rollups for days that are clean, the records themselves for days that are not."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection, transaction
from django.db.models import Aggregate, Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from analytics.domain.rollup import SUM_NAMES, DayRange, Sums, stretches
from analytics.models import DirtyDay, UsageRecord, UsageRollup, UsageState

# A request that its caller gave up is no error; one that broke after its first bytes is, though it was billed.
FAILED = ~Q(state=UsageState.CANCELLED) & (~Q(state=UsageState.SETTLED) | ~Q(error_code=""))
ANSWERED = Q(state=UsageState.SETTLED, error_code="")
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


def usage_sums(*group: str, team_ids: Collection[int] | None, days: DayRange) -> dict[tuple[Any, ...], Sums]:
    """Sums over `days` for each combination of `group` (of `day` and rollup.DIMENSIONS), exact at one moment.

    `group` is not empty. `team_ids` None is all teams; an empty collection is none. At most three queries.
    """
    with consistent_read():
        dirty = DirtyDay.objects.filter(day__range=(days.first, days.last)).values_list("day", flat=True)
        unclean = list(dirty)
        rollups = UsageRollup.objects.filter(day__range=(days.first, days.last)).exclude(day__in=unclean)
        found = _grouped(of_teams(rollups, team_ids).values(*group).annotate(**ROLLUP_SUMS), group)
        if unclean:
            records = record_sums(*group, records=of_teams(records_of(stretches(unclean)), team_ids))
            for values, sums in records.items():
                found[values] = found[values].plus(sums) if values in found else sums
    return found


def record_sums(*group: str, records: "QuerySet[UsageRecord]") -> dict[tuple[Any, ...], Sums]:
    """Sums over the records themselves, by `group`. A record's day is the UTC day on which the request came in."""
    if "day" in group:
        records = records.annotate(day=TruncDate("started_at", tzinfo=UTC))
    return _grouped(records.values(*group).annotate(**RECORD_SUMS), group)


def rollup_sums(*group: str, days: DayRange) -> dict[tuple[Any, ...], Sums]:
    """Sums over the rollups alone, by `group`."""
    rollups = UsageRollup.objects.filter(day__range=(days.first, days.last))
    return _grouped(rollups.values(*group).annotate(**ROLLUP_SUMS), group)


def records_of(ranges: Collection[DayRange]) -> "QuerySet[UsageRecord]":
    """The records of these days, found by the index on their time. None without ranges."""
    if not ranges:
        return UsageRecord.objects.none()
    within = [Q(started_at__gte=one.begins_at, started_at__lt=one.ends_before) for one in ranges]
    return UsageRecord.objects.filter(reduce(or_, within))


def of_teams(rows: QuerySet[Any], team_ids: Collection[int] | None) -> QuerySet[Any]:
    return rows if team_ids is None else rows.filter(team_id__in=list(team_ids))


def _grouped(rows: QuerySet[Any], group: tuple[str, ...]) -> dict[tuple[Any, ...], Sums]:
    return {
        tuple(row[name] for name in group): Sums(**{name: int(row[f"sum_{name}"] or 0) for name in SUM_NAMES})
        for row in rows.order_by()
    }
