"""The ledger's own check: what must add up, added up."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Max, Min, Q, Sum
from django.db.models.functions import Coalesce

from analytics.domain.rollup import ONE_DAY, ONE_HOUR, DayRange, Stretch, Sums, cut, day_begins
from analytics.models import (
    BudgetLease,
    BudgetWindow,
    HourlyRollup,
    LedgerCheck,
    UsageRecord,
    UsageRollup,
    UsageState,
)
from analytics.selectors.charges import charges_by_window
from analytics.selectors.sums import (
    added,
    consistent_read,
    daily_of,
    daily_sums,
    dirty_hours,
    hourly_of,
    hourly_sums,
    raw_sums,
    records_dropped_before,
    records_of,
)

HourSums = dict[tuple[Any, ...], Sums]  # by (hour, team id)
EXAMPLES = 5
LEASE_STALE_AFTER = timedelta(minutes=15)
CHECKS_KEPT = timedelta(days=90)
DIFFERENCES_KEPT = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that must not be. Of a sum, `stated` is what the ledger says and `proven` what its records add up to;
    both are None for something that is broken in itself."""

    what: str
    where: str
    stated: int | None = None
    proven: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """`warnings` are no differences: a lease that nobody renews comes back when its journal is adopted."""

    days: DayRange | None
    records: int
    dirty_hours: int
    windows: int
    differences: tuple[Difference, ...] = ()
    warnings: tuple[Difference, ...] = ()


def ledger_verify(*, now: datetime, first: date | None = None, last: date | None = None) -> LedgerReport:
    """`ledger_check`, with its result kept for the admin for 90 days."""
    begun = time.monotonic()
    report = ledger_check(now=now, first=first, last=last)
    LedgerCheck.objects.create(
        at=now,
        first=report.days.first if report.days else None,
        last=report.days.last if report.days else None,
        duration_ms=round((time.monotonic() - begun) * 1000),
        records=report.records,
        windows=report.windows,
        dirty_hours=report.dirty_hours,
        difference_count=len(report.differences),
        differences=[asdict(one) for one in report.differences[:DIFFERENCES_KEPT]],
        warnings=[asdict(one) for one in report.warnings[:DIFFERENCES_KEPT]],
    )
    LedgerCheck.objects.filter(at__lt=now - CHECKS_KEPT).delete()
    if report.differences:
        logger.error(
            "the ledger is not in order: %d differences, first %s", len(report.differences), report.differences[0]
        )
    return report


def ledger_check(*, now: datetime, first: date | None = None, last: date | None = None) -> LedgerReport:
    """Prove all that must add up, as it is at one moment. It reads every record of the range (by default of all).

    Rollups are compared where they are clean, budget windows where the range has all that was charged to them.
    """
    with consistent_read():
        dropped_before = records_dropped_before()
        days = _range_of_everything(first, last)
        leases = tuple(_stale_leases(now))
        windows = _windows(first, last, dropped_before)
        if days is None:
            return LedgerReport(None, 0, 0, len(windows), tuple(_wrong_windows(windows, {})), leases)
        dirty = set(dirty_hours(days))
        kept = cut(days, [Stretch(days.begins_at, dropped_before)] if dropped_before else [])
        records = raw_sums("hour", "team_id", team_ids=None, ranges=kept)
        by_hour = hourly_sums("hour", "team_id", rollups=hourly_of([days]))
        by_day = daily_sums("day", "team_id", rollups=daily_of([days]))
        broken = list(_broken_records(kept))
        charges = charges_by_window(begins_at=days.begins_at, ends_before=days.ends_before) if windows else {}
    dropped = {group: sums for group, sums in by_hour.items() if dropped_before and group[0] < dropped_before}
    proven = records | dropped
    differences = (
        *_unequal(by_hour, proven, dirty),
        *_unequal(by_day, _by_day(proven), {hour.date() for hour in dirty}),
        *broken,
        *_wrong_windows(windows, charges),
    )
    count = sum(sums.requests for sums in records.values())
    return LedgerReport(days, count, len(dirty), len(windows), differences, leases)


def _range_of_everything(first: date | None, last: date | None) -> DayRange | None:
    moments = UsageRecord.objects.aggregate(first=Min("started_at"), last=Max("started_at"))
    rolled = UsageRollup.objects.aggregate(first=Min("day"), last=Max("day"))
    hours = HourlyRollup.objects.aggregate(first=Min("hour"), last=Max("hour"))
    found = [*rolled.values(), *(moment and moment.date() for moment in (*moments.values(), *hours.values()))]
    days = [day for day in found if day]
    return DayRange(first or min(days), last or max(days)) if days else None


def _by_day(by_hour: HourSums) -> dict[tuple[Any, ...], Sums]:
    return added(*({(hour.date(), team_id): sums} for (hour, team_id), sums in by_hour.items()))


def _unequal(
    stated: dict[tuple[Any, ...], Sums], proven: dict[tuple[Any, ...], Sums], dirty: Collection[Any]
) -> Iterable[Difference]:
    """What rollups say and records do not, by (hour or day, team id); not of those that are `dirty`."""
    for bucket, team_id in sorted(stated.keys() | proven.keys()):
        if bucket in dirty:
            continue
        where = f"{bucket:%Y-%m-%d %H:%M}" if isinstance(bucket, datetime) else f"{bucket}"
        said, true = (sums.get((bucket, team_id), Sums()).values() for sums in (stated, proven))
        yield from (
            Difference(name, f"{where} team {team_id}", said[name], true[name])
            for name in said
            if said[name] != true[name]
        )


def _broken_records(kept: Collection[Stretch]) -> Iterable[Difference]:
    rules = {
        "state that does not exist": ~Q(state__in=UsageState.values),
        "finished before it started": Q(finished_at__lt=F("started_at")),
        "released, and yet it cost something": Q(state=UsageState.RELEASED, cost_nano__gt=0),
        "settled without a status": Q(state=UsageState.SETTLED, http_status=0),
    }
    for what, rule in rules.items():
        found = records_of(kept).filter(rule).values_list("request_id", flat=True)
        yield from (Difference(what, f"request {request_id}") for request_id in found[:EXAMPLES])
    # With partitions, the key of the table is id and time together.
    again = records_of(kept).order_by().values("request_id").annotate(times=Count("pk")).filter(times__gt=1)
    for row in again[:EXAMPLES]:
        yield Difference("id that is there more than once", f"request {row['request_id']}", row["times"], 1)


def _windows(first: date | None, last: date | None, dropped_before: datetime | None) -> list[dict[str, Any]]:
    """The windows of which all charges are in the range and were not dropped, with the sums of their leases.

    A request that came in right before a window began may be charged to it, hence the hour.
    """
    rows = BudgetWindow.objects.annotate(leases_nano=Coalesce(Sum("leases__amount_nano"), 0))
    bounds = [moment for moment in (first and day_begins(first), dropped_before) if moment]
    if bounds:
        rows = rows.filter(starts_at__gte=max(bounds) + ONE_HOUR)
    if last:
        rows = rows.filter(ends_before__lte=day_begins(last + ONE_DAY))
    return [dict(row) for row in rows.order_by("pk").values()]


def _wrong_windows(windows: Iterable[dict[str, Any]], charges: Mapping[int, int]) -> Iterable[Difference]:
    for row in windows:
        where = f"budget {row['budget_id']} from {row['starts_at']:%Y-%m-%d %H:%M}"
        covered = row["opening_nano"] + row["spent_nano"] - row["overrun_nano"] + row["leased_nano"]
        for what, stated, proven in (
            ("spent of a budget", row["spent_nano"], charges.get(row["id"], 0)),
            ("leased of a budget", row["leased_nano"], row["leases_nano"]),
            ("committed of a budget, above its ceiling", covered, min(covered, row["ceiling_nano"])),
        ):
            if stated != proven:
                yield Difference(what, where, stated, proven)


def _stale_leases(now: datetime) -> Iterable[Difference]:
    stale = BudgetLease.objects.filter(renewed_at__lt=now - LEASE_STALE_AFTER).order_by("renewed_at")
    for lease in stale.values("owner", "window__budget_id", "amount_nano", "renewed_at"):
        where = (
            f"{lease['owner']}, budget {lease['window__budget_id']}, silent since {lease['renewed_at']:%Y-%m-%d %H:%M}"
        )
        yield Difference("stale lease", where, lease["amount_nano"])
