"""Batches in the background: sent in, taken up by a worker, carried on, ended, deleted when their time is over.

One worker at a time has a job in hand. It says so again with every step; whoever finds that a step is overdue may take
the job over. Each write of a worker names it, so that one that was taken for dead changes nothing any more.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from routerplatform.batches.keeping import Shared, opened, sealed
from routerplatform.doors.batch_items import Said, Sums, error_told
from routerplatform.doors.formats.batch import Asked, Batch, Fields
from routerplatform.gateway.errors import BatchExpired, GatewayError, InternalError, RateLimited
from routerplatform.gateway.ids import new_request_id
from routerplatform.models import OPEN_STATES, BatchItem, BatchJob, BatchState, ItemState

WITHIN: Final = timedelta(hours=24)  # what has not been asked by then is not asked any more
LEASE: Final = timedelta(seconds=20)
QUEUED: Final = timedelta(seconds=60)  # after that, a message to the workers counts as lost
MOST_OPEN: Final = 100  # of a team
MOST_TRIES: Final = 5  # workers that may be lost over one chat
ROWS: Final = 500  # written or deleted at once, so that nobody else waits long
OPEN_ITEMS: Final = (ItemState.WAITING, ItemState.RUNNING)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker has a job in hand."""

    job_id: uuid.UUID
    worker: uuid.UUID


class LeaseLost(Exception):
    """Somebody else has the job by now, or it is over."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job that was taken up."""

    lease: Lease
    key_id: int
    shared: Fields
    said: Said
    max_parallel: int
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A chat to be asked. `earlier` are ids of requests that were begun for it before."""

    asked: Asked
    request_id: str
    earlier: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Over:
    """What became of a chat: its answer, or None where it waits again. `sums` are of what it cost since."""

    index: int
    state: ItemState
    tries: tuple[str, ...]
    outcome: dict[str, Any] | None
    sums: Sums


@dataclass(frozen=True, slots=True)
class Turn:
    """What a step gave: chats to be asked next."""

    taken: tuple[Taken, ...]
    wants_cancel: bool


# --- sent in, looked for, cancelled -------------------------------------------------------------------------------


@transaction.atomic
def batch_create(*, batch: Batch, team_id: int, key_id: int, said: Said, now: datetime) -> BatchJob:
    """Keep a batch until a worker takes it up.

    :raises RateLimited: the team has too many that are not over yet.
    """
    if BatchJob.objects.filter(team=team_id, state__in=OPEN_STATES).count() >= MOST_OPEN:
        raise RateLimited(
            f"{MOST_OPEN} batches of this team are under way. Wait until one is over, or cancel one.", headers={}
        )
    job = BatchJob.objects.create(
        id=uuid.UUID(new_request_id()),
        team_id=team_id,
        key_id=key_id,
        shared=sealed(Shared(batch.shared, dict(said.hints), said.cache_wish, said.traceparent)),
        max_parallel=batch.max_parallel,
        total=len(batch.items),
        created_at=now,
        turn_at=now,
        deadline_at=now + WITHIN,
    )
    rows = (
        BatchItem(job=job, index=item.index, custom_id=item.custom_id, asked=sealed(item.fields))
        for item in batch.items
    )
    BatchItem.objects.bulk_create(rows, batch_size=ROWS)
    return job


@transaction.atomic
def batch_cancel(*, job_id: uuid.UUID, now: datetime) -> bool:
    """Stop a batch: at once if nobody has it in hand, else within two seconds; False if it is over already."""
    if not BatchJob.objects.filter(pk=job_id, state__in=OPEN_STATES).update(wants_cancel=True):
        return False
    if _free(now).filter(pk=job_id).update(worker=None, leased_until=None):
        _end(BatchJob.objects.filter(pk=job_id, worker=None), job_id, BatchState.CANCELLED, None, now)
    return True


@transaction.atomic
def batches_take_up(*, now: datetime) -> list[uuid.UUID]:
    """Batches that a worker should be told of, those that wait longest first. Each is named once in a while."""
    untold = Q(queued_at=None) | Q(queued_at__lt=now - QUEUED) | Q(queued_at__lt=F("leased_until"))
    due = list(_free(now).filter(untold).order_by("turn_at").values_list("pk", "queued_at")[:10])
    return [
        job_id
        for job_id, queued_at in due
        if BatchJob.objects.filter(pk=job_id, queued_at=queued_at).update(queued_at=now)
    ]


def batch_unqueue(*, job_id: uuid.UUID) -> None:
    """The message did not lead to anything: it is to be sent again."""
    BatchJob.objects.filter(pk=job_id, state__in=OPEN_STATES).update(queued_at=None)


def batches_expire(*, now: datetime, days: int) -> int:
    """Delete what was over so many days ago, some at a time; returns how many batches."""
    gone = BatchJob.objects.filter(finished_at__lte=now - timedelta(days=days))
    while some := list(BatchItem.objects.filter(job__in=gone.values("pk")).values_list("pk", flat=True)[:ROWS]):
        BatchItem.objects.filter(pk__in=some).delete()
    return gone.delete()[1].get(BatchJob._meta.label, 0)


# --- by the worker that has it in hand ----------------------------------------------------------------------------


@transaction.atomic
def batch_claim(*, job_id: uuid.UUID, now: datetime) -> Work | None:
    """Take a batch in hand; None if somebody has it, or it is over. What another worker left in the middle waits again.

    One that nobody can read any more, whose time is over, or that was cancelled meanwhile, ends here.
    """
    lease = Lease(job_id, uuid.uuid4())
    mine = {"worker": lease.worker, "leased_until": now + LEASE, "started_at": Coalesce("started_at", now)}
    if not _free(now).filter(pk=job_id).update(state=BatchState.RUNNING, **mine):
        return None
    _put_back(job_id)
    job = BatchJob.objects.get(pk=job_id)
    if job.wants_cancel:
        batch_end(lease=lease, state=BatchState.CANCELLED, now=now)
        return None
    if job.deadline_at <= now:
        batch_end(lease=lease, state=BatchState.FAILED, error=expired(job.deadline_at), now=now)
        return None
    try:
        shared = opened(job.shared, Shared)
    except ImproperlyConfigured as error:
        logger.error("batch %s cannot be read: %s", job_id, error)
        batch_end(lease=lease, state=BatchState.FAILED, error=InternalError(), now=now)
        return None
    said = Said(shared.hints, shared.cache_wish, shared.traceparent)
    return Work(lease, job.key_id, shared.fields, said, job.max_parallel, job.deadline_at)


@transaction.atomic
def batch_step(*, lease: Lease, over: Sequence[Over], want: int, now: datetime) -> Turn:
    """Save what has come to an end, keep the batch in hand, take up to `want` chats more. Safe to do again.

    :raises LeaseLost: nothing is saved.
    :raises ImproperlyConfigured: a chat was sealed with a field key that is gone.
    """
    mine = _in_hand(lease)
    if not mine.update(leased_until=now + LEASE):  # and nobody else can change it until this is done
        raise LeaseLost
    mine.update(**_counted([one for one in over if _saved(lease.job_id, one)]))
    wants_cancel = mine.values_list("wants_cancel", flat=True).get()
    rows: list[BatchItem] = []
    if want > 0 and not wants_cancel:
        rows = list(BatchItem.objects.filter(job=lease.job_id, state=ItemState.WAITING).order_by("index")[:want])
    taken = tuple(_taken(row) for row in rows)
    BatchItem.objects.bulk_update(rows, ["state", "tries"])
    return Turn(taken, wants_cancel)


@transaction.atomic
def batch_release(*, lease: Lease, now: datetime) -> None:
    """Let go of a batch that is not over: others have their turn first. One that is to be cancelled ends."""
    mine = _in_hand(lease)
    mine.update(leased_until=None, queued_at=None, turn_at=now)  # and nobody else can change it until this is done
    _end(mine.filter(wants_cancel=True), lease.job_id, BatchState.CANCELLED, None, now)
    mine.update(worker=None)


@transaction.atomic
def batch_end(*, lease: Lease, state: BatchState, error: GatewayError | None = None, now: datetime) -> None:
    """It is over. What was not asked is cancelled or, with an `error`, ends with that."""
    if state == BatchState.DONE and BatchItem.objects.filter(job=lease.job_id, state__in=OPEN_ITEMS).exists():
        batch_release(lease=lease, now=now)  # a step was lost with its connection: somebody takes these up again
        return
    _end(_in_hand(lease), lease.job_id, state, error, now)


def _free(now: datetime) -> QuerySet[BatchJob]:
    """Not over, and in nobody's hand."""
    nobodys = Q(leased_until=None) | Q(leased_until__lt=now)
    return BatchJob.objects.filter(nobodys, state__in=OPEN_STATES)


def _in_hand(lease: Lease) -> QuerySet[BatchJob]:
    return BatchJob.objects.filter(pk=lease.job_id, worker=lease.worker, state=BatchState.RUNNING)


def _put_back(job_id: uuid.UUID) -> None:
    """What was under way when a worker was lost is asked again, unless too many were lost over it."""
    for row in BatchItem.objects.filter(job=job_id, state=ItemState.RUNNING):
        if len(row.tries) < MOST_TRIES:
            BatchItem.objects.filter(pk=row.pk).update(state=ItemState.WAITING)
            continue
        error = InternalError()
        error.message = f"{MOST_TRIES} workers were stopped while they asked this."
        answer = sealed({"error": error_told(error)})
        BatchItem.objects.filter(pk=row.pk).update(state=ItemState.ERROR, answer=answer)
        BatchJob.objects.filter(pk=job_id).update(failed=F("failed") + 1)


def _taken(row: BatchItem) -> Taken:
    """Marked as under way, under the id that its request will have."""
    request_id, earlier = new_request_id(), tuple(row.tries)
    row.state, row.tries = ItemState.RUNNING, [*earlier, request_id]
    return Taken(Asked(row.index, row.custom_id, opened(row.asked, Fields)), request_id, earlier)


def _saved(job_id: uuid.UUID, over: Over) -> bool:
    """False if that was done before."""
    answer = "" if over.outcome is None else sealed(over.outcome)
    under_way = BatchItem.objects.filter(job=job_id, index=over.index, state=ItemState.RUNNING)
    return bool(under_way.update(state=over.state, tries=list(over.tries), answer=answer))


def _counted(over: Sequence[Over]) -> dict[str, Any]:
    """What these add to the counts and sums of their job."""
    added = {
        "ok": sum(one.state == ItemState.OK for one in over),
        "failed": sum(one.state == ItemState.ERROR for one in over),
        "cancelled": sum(one.state == ItemState.CANCELLED for one in over),
    }
    names = ("cost_nano", "unpriced", "input_tokens", "cache_read_input_tokens", "output_tokens")
    added |= {name: sum(getattr(one.sums, name) for one in over) for name in names}
    return {name: F(name) + value for name, value in added.items()}


def _end(
    jobs: QuerySet[BatchJob], job_id: uuid.UUID, state: BatchState, error: GatewayError | None, now: datetime
) -> None:
    """`jobs` is this one, if it is still the caller's to end."""
    if not jobs.update(state=state, finished_at=now):
        return
    rest = BatchItem.objects.filter(job=job_id, state__in=OPEN_ITEMS)
    counted = "failed" if error else "cancelled"
    if error:
        left = rest.update(state=ItemState.ERROR, answer=sealed({"error": error_told(error)}))
    else:
        left = rest.update(state=ItemState.CANCELLED)
    BatchJob.objects.filter(pk=job_id).update(
        **{counted: F(counted) + left},
        worker=None,
        leased_until=None,
        error_code=error.code if error else "",
        error=error.message[:500] if error else "",
    )


def expired(deadline_at: datetime) -> GatewayError:
    return BatchExpired(f"It was not asked before the batch’s time was over, at {deadline_at.isoformat()}.")
