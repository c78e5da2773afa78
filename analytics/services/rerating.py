"""Re-rating: what requests would have cost at the prices in force at their time, as the price book stands now.

A record is never edited. What it cost too much or too little is added beside it, once: the rule is the difference to
the record and all its corrections so far, so a run that is repeated, or resumed after it was stopped, adds nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Greatest

from analytics.domain.rerating import Correction, Rated, alias_of, broken_nano, corrected, is_beyond_knowing
from analytics.domain.rollup import hour_of
from analytics.models import BudgetScope, BudgetWindow, UsageAdjustment, UsageRecord, UsageSource
from analytics.services.rollups import hours_mark
from providers.domain.answer import Usage
from providers.domain.pricing import price_snapshot
from providers.models import Price
from providers.selectors import PriceBook, price_book, price_of

RERATE_LOCK = 0x52_41_54_45  # of all runs on a PostgreSQL, one works on a batch at a time
BATCH = 500  # records in memory, and in one transaction
RATED_SOURCES = (UsageSource.PROVIDER, UsageSource.COUNTED, UsageSource.BOUND)
REASON_LENGTH = 200


@dataclass(frozen=True, slots=True)
class RerateScope:
    """Which requests: those that came in from `since` to before `until`; of one model, one deployment
    (“provider/model”), or those that this price row is in force for. Empty and None: all."""

    since: datetime
    until: datetime
    model: str = ""
    deployment: str = ""
    price_id: int | None = None

    @classmethod
    def of_price(cls, price: Price, *, since: datetime, until: datetime) -> "RerateScope":
        """What the price row is in force for."""
        model = price.model.name if price.model else ""
        deployment = str(price.deployment) if price.deployment else ""
        return cls(max(since, price.effective_from), until, model, deployment, price.pk)


@dataclass(slots=True)
class RerateRow:
    """What changes for a model and team. `newly_priced` of the requests had no known cost before."""

    requests: int = 0
    newly_priced: int = 0
    before_nano: int = 0
    delta_nano: int = 0


@dataclass(slots=True)
class RerateReport:
    """`rows` are by (model, team). `unpriced`: requests whose price is not known even now. `unknowable`: their records
    do not say what was billed. Both stay as they are."""

    batch: UUID
    is_dry_run: bool
    looked_at: int = 0
    unpriced: int = 0
    unknowable: int = 0
    rows: defaultdict[tuple[str, str], RerateRow] = field(default_factory=lambda: defaultdict(RerateRow))

    @property
    def requests(self) -> int:
        return sum(row.requests for row in self.rows.values())

    @property
    def delta_nano(self) -> int:
        return sum(row.delta_nano for row in self.rows.values())


Progress = Callable[[RerateReport, datetime], None]  # the report so far, and the time of the last request looked at


def usage_rerate(
    *,
    scope: RerateScope,
    reason: str,
    by: User | None = None,
    dry_run: bool = False,
    on_progress: Progress = lambda report, at: None,
    batch_size: int = BATCH,
) -> RerateReport:
    """Correct the cost of the requests of `scope`, a batch at a time, each whole or not at all.

    May be stopped at any time and run again, also by two at once. Hours are marked for their rollups and budget windows
    charged in the same transaction. With `dry_run` it only tells.

    :raises ValidationError: there is no reason, or it is too long.
    """
    if not dry_run and not 0 < len(reason.strip()) <= REASON_LENGTH:
        raise ValidationError(f"Say why, in at most {REASON_LENGTH} characters: it stands beside every correction.")
    book, report = price_book(), RerateReport(uuid4(), dry_run)
    for records in _batches(scope, batch_size):
        with nullcontext() if dry_run else transaction.atomic():
            if not dry_run:
                _wait_for_other_runs()
            corrections = _corrections(records, book, scope, report)
            if corrections and not dry_run:
                _post(corrections, report.batch, reason.strip(), by)
        for one in corrections:
            _count(report, one)
        report.looked_at += len(records)
        on_progress(report, records[-1].started_at)
    return report


@dataclass(frozen=True, slots=True)
class _Corrected:
    record: UsageRecord
    before_nano: int | None
    correction: Correction
    price: Price


def _batches(scope: RerateScope, size: int) -> Iterator[list[UsageRecord]]:
    """All records in the order of their time, by position: what comes in meanwhile shifts nothing."""
    rows = UsageRecord.objects.filter(
        started_at__gte=scope.since, started_at__lt=scope.until, usage_source__in=RATED_SOURCES
    )
    named = {"model": scope.model, "deployment": scope.deployment}
    rows = rows.filter(**{name: value for name, value in named.items() if value}).order_by("started_at", "request_id")
    found = list(rows[:size])
    while found:
        yield found
        last = found[-1]
        after = Q(started_at__gt=last.started_at) | Q(request_id__gt=last.request_id)
        found = list(rows.filter(after, started_at__gte=last.started_at)[:size])


def _wait_for_other_runs() -> None:
    """Until the end of this transaction nobody else adds corrections, so what is read is what there is. SQLite has one
    writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [RERATE_LOCK])


def _corrections(
    records: Sequence[UsageRecord], book: PriceBook, scope: RerateScope, report: RerateReport
) -> list[_Corrected]:
    earlier = UsageAdjustment.objects.filter(request_id__in=[record.pk for record in records]).order_by()
    adjusted = dict(earlier.values_list("request_id").annotate(Sum("delta_nano")))
    found = []
    for record in records:
        row = book.row_at(record.deployment, record.model, record.started_at)
        if scope.price_id is not None and (row is None or row.pk != scope.price_id):
            continue
        rated = _rated(record, adjusted.get(record.pk))
        correction = corrected(rated, price_of(row)) if row else None
        if row and correction:
            found.append(_Corrected(record, rated.now_nano, correction, row))
        elif is_beyond_knowing(rated):
            report.unknowable += 1
        elif rated.now_nano is None:
            report.unpriced += 1
    return found


def _rated(record: UsageRecord, adjusted_nano: int | None) -> Rated:
    usage = Usage(
        input_tokens=record.input_tokens,
        cache_read_input_tokens=record.cache_read_input_tokens,
        cache_creation_input_tokens=record.cache_creation_input_tokens,
        output_tokens=record.output_tokens,
        cache_creation_1h_input_tokens=record.cache_creation_1h_input_tokens or 0,
    )
    is_bound = record.usage_source == UsageSource.BOUND
    return Rated(usage, is_bound, record.cost_nano, tuple(record.attempts), adjusted_nano)


def _count(report: RerateReport, one: _Corrected) -> None:
    row = report.rows[one.record.model, one.record.team_name]
    row.requests += 1
    row.newly_priced += one.correction.was_unpriced
    row.before_nano += one.before_nano or 0
    row.delta_nano += one.correction.delta_nano


# --- writing ------------------------------------------------------------------------------------------------------


def _post(corrections: Sequence[_Corrected], batch: UUID, reason: str, by: User | None) -> None:
    """Corrections, then marks, then windows: in the order in which a batch of records is shipped."""
    windows = _windows_around([one.record for one in corrections])
    adjustments = [
        UsageAdjustment(
            request_id=one.record.pk,
            started_at=one.record.started_at,
            delta_nano=one.correction.delta_nano,
            was_unpriced=one.correction.was_unpriced,
            price=price_snapshot(price_of(one.price)),
            charges={str(number): one.correction.delta_nano for number in _windows_of(one.record, windows)},
            reason=reason,
            batch=batch,
            created_by=by,
        )
        for one in corrections
    ]
    UsageAdjustment.objects.bulk_create(adjustments)
    hours_mark(hours={hour_of(one.record.started_at) for one in corrections})
    deltas: Counter[int] = Counter()
    for adjustment in adjustments:
        deltas.update({int(number): delta for number, delta in adjustment.charges.items()})
    _charge(deltas)


def _charge(deltas: Counter[int]) -> None:
    """Move what windows have spent, in the order of their ids. No lease covers a correction, so what is added is
    overrun, and what is taken back is taken from there first."""
    for number in sorted(deltas):
        BudgetWindow.objects.filter(pk=number).update(
            spent_nano=F("spent_nano") + deltas[number], overrun_nano=Greatest(F("overrun_nano") + deltas[number], 0)
        )


def _windows_around(records: Sequence[UsageRecord]) -> list[BudgetWindow]:
    """The windows that may have to do with these records: those that they name, and those of their time."""
    named = {int(number) for record in records for number in record.charges or ()}
    moments = [record.started_at for record in records]
    of_their_time = Q(starts_at__lte=max(moments)) & (Q(ends_before=None) | Q(ends_before__gt=min(moments)))
    rows: QuerySet[BudgetWindow] = BudgetWindow.objects.filter(Q(pk__in=named) | of_their_time)
    return list(rows.select_related("budget__persona", "budget__alias"))


def _windows_of(record: UsageRecord, windows: Iterable[BudgetWindow]) -> list[int]:
    """The windows that a correction of `record` belongs to: those that it charged. One that cost nothing, or nobody
    knew what, charged none; then those of its time that are for its team, key, persona or model alias."""
    charges = {int(number): charge for number, charge in (record.charges or {}).items()}
    if record.cost_nano:
        return [one.pk for one in windows if one.pk in charges and _served(one, record, charges[one.pk])]
    return [one.pk for one in windows if _contains(one, record) and _is_for(one, record)]


def _served(window: BudgetWindow, record: UsageRecord, charge_nano: int) -> bool:
    """Whether what is re-rated is part of the window's charge. An alias is charged for the attempts that it served; of
    all but the last one no tokens are known, so what they were billed stays."""
    if window.budget.scope != BudgetScope.ALIAS or charge_nano > broken_nano(record.attempts):
        return True
    return _is_for(window, record)


def _contains(window: BudgetWindow, record: UsageRecord) -> bool:
    is_over = window.ends_before is not None and window.ends_before <= record.started_at
    return window.starts_at <= record.started_at and not is_over


def _is_for(window: BudgetWindow, record: UsageRecord) -> bool:
    budget = window.budget
    match BudgetScope(budget.scope):
        case BudgetScope.TEAM:
            return budget.team_id == record.team_id
        case BudgetScope.KEY:
            return budget.key_id == record.key_id
        case BudgetScope.PERSONA:
            return budget.persona is not None and budget.persona.slug == record.persona
        case BudgetScope.ALIAS:
            return budget.alias is not None and budget.alias.name == alias_of(record.deployment, _candidates(record))


def _candidates(record: UsageRecord) -> list[dict[str, Any]]:
    found = record.decision.get("candidates") if isinstance(record.decision, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
