"""What callers may look at of batches: those of their team."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet

from routerplatform.batches.keeping import opened
from routerplatform.batches.telling import result_told, sums_told
from routerplatform.doors.batch_items import Sums
from routerplatform.models import OPEN_STATES, BatchItem, BatchJob

ROWS: Final = 100  # of results that are read at once: each may hold a long answer


def batches_of(team_id: int) -> QuerySet[BatchJob]:
    """A team's batches, the latest first."""
    return BatchJob.objects.filter(team=team_id).defer("shared").order_by("-created_at", "-id")


def batches_after(jobs: QuerySet[BatchJob], last: BatchJob) -> QuerySet[BatchJob]:
    """Those that stand below `last` in that order."""
    return jobs.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, id__lt=last.pk))


def batch_told(job: BatchJob, *, now: datetime) -> dict[str, Any]:
    """A batch as its caller sees it, without results."""
    sums = Sums(job.cost_nano, job.unpriced, job.input_tokens, job.cache_read_input_tokens, job.output_tokens)
    counts = {"total": job.total, "ok": job.ok, "error": job.failed, "cancelled": job.cancelled}
    return {
        "id": str(job.pk),
        "object": "batch.job",
        "state": job.state,
        "error": {"code": job.error_code, "message": job.error} if job.error_code else None,
        "max_parallel": job.max_parallel,
        "counts": {**counts, "left": job.total - job.over},
        **sums_told(sums),
        "seconds_left": seconds_left(job, now=now),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "deadline_at": job.deadline_at,
    }


def seconds_left(job: BatchJob, *, now: datetime) -> float | None:
    """By the pace so far; None as long as nobody can tell, 0 when it is over. Clocks of machines may differ."""
    if job.state not in OPEN_STATES:
        return 0.0
    if job.started_at is None or not job.over:
        return None
    took_s = max(0.0, (now - job.started_at).total_seconds())
    return round(took_s / job.over * (job.total - job.over), 1)


def results_page(job_id: UUID, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Results with an index above `after`, in order; one that is not over yet says only that."""
    return [_row(item) for item in BatchItem.objects.filter(job=job_id, index__gt=after).order_by("index")[:limit]]


def results_all(job_id: UUID) -> Iterator[dict[str, Any]]:
    """As `results_page`, to the end, read some at a time."""
    after = -1
    while rows := results_page(job_id, after=after, limit=ROWS):
        yield from rows
        after = rows[-1]["index"]


def _row(item: BatchItem) -> dict[str, Any]:
    outcome = opened(item.answer, dict[str, Any]) if item.answer else {}
    return result_told(item.index, item.custom_id, item.tries, outcome, status=item.state)
