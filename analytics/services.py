"""Keep the derived figures true: rollups, budget alerts, providers judged by their traffic, the ledger's own check."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Max, Min, Q, Sum

from analytics.domain.alerts import thresholds_passed
from analytics.domain.rollup import DIMENSIONS, DayRange, Sums
from analytics.models import BudgetAlert, DirtyDay, UsageRecord, UsageRollup, UsageState
from analytics.selectors.budgets import BudgetState, budgets_with_spend
from analytics.selectors.sums import RECORD_SUMS, consistent_read, record_sums, records_of, rollup_sums
from providers.domain.errors import FailureKind
from providers.domain.health import Traffic, judge_traffic, traffic_note
from providers.health_checks import health_record
from providers.models import Provider

FAILURES = frozenset(FailureKind)
TRAFFIC_WINDOW = timedelta(minutes=5)
TRAFFIC_SAMPLE = 2_000  # records; the latest ones say enough about now
ROLLUP_LOCK = 0x52_4F_4C_4C  # the class of our advisory locks; the day is the other half
EXAMPLES = 5

logger = logging.getLogger(__name__)


# --- rollups --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recomputed:
    """`is_clean` False: records came in meanwhile, the day stays marked. `before` and `after` are the rollup's sums."""

    day: date
    rows: int
    before: Sums
    after: Sums
    is_clean: bool


def rollups_refresh() -> list[Recomputed]:
    """Recompute every dirty day, a transaction each. Days that another process is at are left to it."""
    days = list(DirtyDay.objects.order_by("day").values_list("day", flat=True))
    return [done for day in days if (done := rollup_recompute(day=day))]


@transaction.atomic
def rollup_recompute(*, day: date) -> Recomputed | None:
    """Replace a day's rollup by what its records say and clear its mark; None if another process is at it.

    The mark is cleared only if it is still the one that was read first: one made meanwhile survives. Its row is not
    locked before that, so the shipper, which makes marks, never waits for the sums of a long day.
    """
    if not _day_claimed(day):
        return None
    marks = DirtyDay.objects.filter(day=day).values_list("marks", flat=True).first()
    before = _of_day(rollup_sums("day", days=DayRange(day, day)))
    rows = _rollup_rows(day)
    UsageRollup.objects.filter(day=day).delete()
    UsageRollup.objects.bulk_create(rows, batch_size=500)
    cleared, _ = DirtyDay.objects.filter(day=day, marks=marks or 0).delete()
    after = _of_day(rollup_sums("day", days=DayRange(day, day)))
    return Recomputed(day, len(rows), before, after, is_clean=marks is None or cleared == 1)


def rollup_preview(*, day: date) -> Recomputed:
    """What `rollup_recompute` would do."""
    with consistent_read():
        before = _of_day(rollup_sums("day", days=DayRange(day, day)))
        rows = _rollup_rows(day)
        after = _of_day(record_sums("day", records=records_of([DayRange(day, day)])))
    return Recomputed(day, len(rows), before, after, is_clean=True)


def _day_claimed(day: date) -> bool:
    """Whether this transaction is the only one that recomputes `day`, until it ends. SQLite has one writer anyway."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [ROLLUP_LOCK, day.toordinal()])
        return bool(cursor.fetchone()[0])


def _rollup_rows(day: date) -> list[UsageRollup]:
    sums = {**RECORD_SUMS, "sum_latency_ms_sum": Sum("latency_ms"), "sum_team_name": Max("team_name")}
    grouped = records_of([DayRange(day, day)]).values(*DIMENSIONS).annotate(**sums).order_by()
    return [
        UsageRollup(
            day=day, **{name.removeprefix("sum_"): 0 if value is None else value for name, value in row.items()}
        )
        for row in grouped
    ]


def _of_day(sums: dict[tuple[Any, ...], Sums]) -> Sums:
    return next(iter(sums.values()), Sums())


# --- budgets --------------------------------------------------------------------------------------------------------


def budgets_check(*, now: datetime) -> list[BudgetAlert]:
    """Open an alert for each threshold that a budget has reached in its window, once; returns the new ones."""
    states = budgets_with_spend(team_ids=None, now=now)
    return [alert for state in states for alert in _open_alerts(state, now)]


def _open_alerts(state: BudgetState, now: datetime) -> Iterable[BudgetAlert]:
    for threshold in thresholds_passed(spent_nano=state.spent_nano, limit_nano=state.limit_nano):
        alert, is_new = BudgetAlert.objects.get_or_create(
            budget=state.budget,
            window_start=state.begins_at,
            threshold=threshold,
            defaults={"spent_nano": state.spent_nano, "opened_at": now},
        )
        if is_new:
            logger.warning(
                "the budget %s has reached %d %%: %d of %d nano-USD since %s",
                state.budget,
                threshold,
                state.spent_nano,
                state.limit_nano,
                state.begins_at.isoformat(),
            )
            yield alert


# --- providers judged by their traffic ------------------------------------------------------------------------------


def providers_judge(*, now: datetime) -> int:
    """Record the health of every provider that had enough attempts in the last 5 minutes; returns how many.

    Two runs at once may record the same verdict twice, which changes nothing.
    """
    traffic = _recent_traffic(now)
    judged = 0
    for provider in Provider.objects.filter(name__in=traffic, is_active=True):
        health = judge_traffic(traffic[provider.name])
        if health is not None:
            note = traffic_note(traffic[provider.name])
            health_record(provider=provider, health=health, note=note, latency_ms=None, is_passive=True, now=now)
            judged += 1
    return judged


def _recent_traffic(now: datetime) -> dict[str, Traffic]:
    records = UsageRecord.objects.filter(started_at__gt=now - TRAFFIC_WINDOW, started_at__lte=now)
    failures: dict[str, list[str]] = defaultdict(list)
    for attempts in records.order_by("-started_at").values_list("attempts", flat=True)[:TRAFFIC_SAMPLE]:
        for attempt in attempts:
            failure = attempt.get("failure", "")
            if not failure or failure in FAILURES:  # a caller who left says nothing about the provider
                failures[attempt["provider"]].append(failure)
    return {provider: Traffic(tuple(found)) for provider, found in failures.items()}


# --- the ledger's own check -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that must not be. `rollup` and `records` are the two figures of a sum, None for a broken record."""

    what: str
    where: str
    rollup: int | None = None
    records: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerReport:
    days: DayRange | None
    records: int
    dirty_days: int
    differences: tuple[Difference, ...]


def ledger_check(*, first: date | None = None, last: date | None = None) -> LedgerReport:
    """Compare rollups with records on every clean day of a range (by default of all), and look for broken records.

    It reads every record of the range. That no id is there twice is a promise of the primary key.
    """
    with consistent_read():
        days = _range_of_everything(first, last)
        if days is None:
            return LedgerReport(None, 0, 0, ())
        dirty = set(DirtyDay.objects.filter(day__range=(days.first, days.last)).values_list("day", flat=True))
        rollups = rollup_sums("day", "team_id", days=days)
        records = record_sums("day", "team_id", records=records_of([days]))
        broken = list(_broken_records(days))
    count = sum(sums.requests for sums in records.values())
    unequal = _unequal(rollups, records, dirty)
    return LedgerReport(days, count, len(dirty), (*unequal, *broken))


def _range_of_everything(first: date | None, last: date | None) -> DayRange | None:
    moments = UsageRecord.objects.aggregate(first=Min("started_at"), last=Max("started_at"))
    rolled = UsageRollup.objects.aggregate(first=Min("day"), last=Max("day"))
    firsts = [moments["first"].date()] if moments["first"] else []
    lasts = [moments["last"].date()] if moments["last"] else []
    firsts += [rolled["first"]] if rolled["first"] else []
    lasts += [rolled["last"]] if rolled["last"] else []
    if not firsts:
        return None
    return DayRange(first or min(firsts), last or max(lasts))


def _unequal(
    rollups: dict[tuple[Any, ...], Sums], records: dict[tuple[Any, ...], Sums], dirty: set[date]
) -> Iterable[Difference]:
    for day, team_id in sorted(rollups.keys() | records.keys()):
        if day in dirty:
            continue
        rolled, raw = (sums.get((day, team_id), Sums()).values() for sums in (rollups, records))
        for name in rolled:
            if rolled[name] != raw[name]:
                yield Difference(name, f"{day} team {team_id}", rolled[name], raw[name])


def _broken_records(days: DayRange) -> Iterable[Difference]:
    rules = {
        "state that does not exist": ~Q(state__in=UsageState.values),
        "finished before it started": Q(finished_at__lt=F("started_at")),
        "released, and yet it cost something": Q(state=UsageState.RELEASED, cost_nano__gt=0),
        "settled without a status": Q(state=UsageState.SETTLED, http_status=0),
    }
    for what, rule in rules.items():
        found = records_of([days]).filter(rule).values_list("request_id", flat=True)
        yield from (Difference(what, str(request_id)) for request_id in found[:EXAMPLES])
