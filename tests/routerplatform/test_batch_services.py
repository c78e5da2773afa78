"""Who has a batch in hand, and what becomes of it when somebody is lost: the rules, without asking anybody."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from routerplatform.batches.selectors import batch_told
from routerplatform.batches.services import (
    LEASE,
    MOST_TRIES,
    QUEUED,
    Lease,
    LeaseLost,
    Over,
    Taken,
    batch_cancel,
    batch_claim,
    batch_create,
    batch_end,
    batch_release,
    batch_step,
    batch_unqueue,
    batches_expire,
    batches_take_up,
)
from routerplatform.doors.batch_items import Patience, Said, Sums
from routerplatform.doors.formats.batch import Batch, Bounds, chat_body, parse
from routerplatform.gateway.errors import CircuitOpen, GatewayError, InvalidRequest, RateLimited, Stopping
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.models import BatchItem, BatchJob, BatchState, ItemState
from tests.factories import VirtualKeyFactory

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOON, LATE = NOON + timedelta(seconds=1), NOON + LEASE + timedelta(seconds=1)
BOUNDS = Bounds(most_items=100, most_parallel=32)


def batch(chats: int = 3) -> Batch:
    return parse(b'{"prompts": [%s]}' % b",".join([b'"x"'] * chats), BOUNDS)


def sent(chats: int = 3, *, at: datetime = NOON) -> BatchJob:
    key = VirtualKeyFactory()
    return batch_create(batch=batch(chats), team_id=key.team_id, key_id=key.pk, said=Said(), now=at)


def claimed(job: BatchJob, at: datetime = NOON) -> Lease:
    work = batch_claim(job_id=job.pk, now=at)
    assert work is not None
    return work.lease


def answered(taken: Taken, *, cost_nano: int = 5) -> Over:
    tries = (*taken.earlier, taken.request_id)
    return Over(taken.asked.index, ItemState.OK, tries, {"response": {}}, Sums(cost_nano=cost_nano, output_tokens=2))


def step(lease: Lease, over: Sequence[Over] = (), *, want: int = 0, at: datetime = SOON) -> tuple[Taken, ...]:
    return batch_step(lease=lease, over=over, want=want, now=at).taken


@pytest.mark.django_db
def test_one_worker_at_a_time_has_it() -> None:
    job = sent()
    lease = claimed(job)
    assert batch_claim(job_id=job.pk, now=SOON) is None
    batch_release(lease=lease, now=SOON)
    assert claimed(job, SOON) != lease
    assert batch_claim(job_id=uuid.uuid4(), now=NOON) is None


@pytest.mark.django_db
def test_what_was_under_way_when_a_worker_was_lost_is_asked_again_and_nothing_else() -> None:
    job = sent(4)
    lost = claimed(job)
    first, second = step(lost, want=2)
    [third] = step(lost, [answered(first)], want=1)

    assert batch_claim(job_id=job.pk, now=SOON + LEASE - timedelta(seconds=1)) is None  # each step renews it
    taker = claimed(job, SOON + LEASE + timedelta(seconds=1))
    again = step(taker, want=9, at=LATE + LEASE)

    assert [one.asked.index for one in again] == [1, 2, 3]
    assert [one.earlier for one in again] == [(second.request_id,), (third.request_id,), ()]
    with pytest.raises(LeaseLost):
        step(lost, [answered(second)], want=1, at=LATE + LEASE)
    batch_end(lease=lost, state=BatchState.DONE, now=LATE)
    job.refresh_from_db()
    assert (job.state, job.ok, job.cost_nano) == ("running", 1, 5)


@pytest.mark.django_db
def test_a_step_that_is_done_twice_counts_once() -> None:
    job = sent(2)
    lease = claimed(job)
    taken = step(lease, want=2)
    over = [answered(one) for one in taken]
    step(lease, over)
    step(lease, over)
    batch_end(lease=lease, state=BatchState.DONE, now=SOON)
    job.refresh_from_db()
    assert (job.state, job.ok, job.cost_nano, job.output_tokens) == ("done", 2, 10, 4)


@pytest.mark.django_db
def test_chats_that_were_taken_in_a_step_nobody_heard_of_are_not_forgotten() -> None:
    job = sent(2)
    lease = claimed(job)
    step(lease, want=2)  # its answer is lost with the connection
    assert step(lease, want=2) == ()
    batch_end(lease=lease, state=BatchState.DONE, now=SOON)
    job.refresh_from_db()
    assert (job.state, job.worker) == ("running", None)
    assert len(step(claimed(job, SOON), want=2)) == 2


@pytest.mark.django_db
def test_a_chat_over_which_worker_after_worker_is_lost_is_given_up() -> None:
    job, at = sent(1), NOON
    for _ in range(MOST_TRIES):
        assert len(step(claimed(job, at), want=1, at=at)) == 1
        at += LEASE + timedelta(seconds=1)
    lease = claimed(job, at)
    assert step(lease, want=1, at=at) == ()
    batch_end(lease=lease, state=BatchState.DONE, now=at)
    job.refresh_from_db()
    assert (job.state, job.failed, job.over) == ("done", 1, 1)
    assert len(BatchItem.objects.get().tries) == MOST_TRIES


@pytest.mark.django_db
def test_cancelling_waits_for_who_has_it_and_for_nobody_else() -> None:
    held, lost = sent(), sent()
    lease = claimed(held)
    step(claimed(lost), want=1)
    assert batch_cancel(job_id=held.pk, now=SOON)
    assert batch_step(lease=lease, over=(), want=3, now=SOON).wants_cancel
    assert BatchItem.objects.filter(job=held, state=ItemState.WAITING).count() == 3
    assert batch_cancel(job_id=lost.pk, now=LATE + LEASE)
    lost.refresh_from_db()
    assert (lost.state, lost.cancelled) == ("cancelled", 3)
    assert not batch_cancel(job_id=lost.pk, now=LATE)


@pytest.mark.django_db
def test_workers_are_told_of_a_batch_once_and_again_when_nothing_comes_of_it() -> None:
    first, second = sent(at=NOON), sent(at=SOON)
    assert batches_take_up(now=SOON) == [first.pk, second.pk]  # who waits longest is first
    assert batches_take_up(now=SOON) == []
    batch_unqueue(job_id=second.pk)
    assert batches_take_up(now=SOON) == [second.pk]
    assert batches_take_up(now=SOON + QUEUED + timedelta(seconds=1)) == [first.pk, second.pk]  # the messages were lost


@pytest.mark.django_db
def test_a_batch_whose_worker_is_gone_is_told_of_as_soon_as_that_shows() -> None:
    job = sent()
    assert batches_take_up(now=NOON) == [job.pk]
    lease = claimed(job, SOON)
    assert batches_take_up(now=SOON) == []
    assert batches_take_up(now=SOON + LEASE + timedelta(seconds=1)) == [job.pk]
    job.refresh_from_db()
    batch_release(lease=lease, now=LATE)
    assert batches_take_up(now=LATE) == [job.pk]  # after a turn there is another one


@pytest.mark.django_db
def test_what_is_over_its_time_is_deleted_with_all_that_was_asked() -> None:
    old, recent, running = sent(), sent(), sent()
    for job, days in ((old, 8), (recent, 6)):
        at = NOON - timedelta(days=days)
        batch_end(lease=claimed(job, at), state=BatchState.CANCELLED, now=at)
    assert batches_expire(now=NOON, days=7) == 1
    assert set(BatchJob.objects.values_list("pk", flat=True)) == {recent.pk, running.pk}
    assert not BatchItem.objects.filter(job=old.pk).exists()
    assert BatchItem.objects.count() == 6


@pytest.mark.django_db
def test_how_long_it_will_take_is_told_by_the_pace_so_far() -> None:
    job = sent(10)
    job.state, job.ok, job.failed, job.started_at = BatchState.RUNNING, 3, 1, NOON
    assert batch_told(job, now=NOON + timedelta(seconds=20))["seconds_left"] == 30.0


# --- pure ---------------------------------------------------------------------------------------------------------

PATIENCE = Patience(until=100.0, longest_s=10.0, tries=3)
FULL = RateLimited("", headers={}, retry_after_s=2)


@pytest.mark.parametrize(
    ("error", "tries", "now", "pause_s"),
    [
        (FULL, 1, 0.0, 2.0),
        (FULL, 99, 0.0, 2.0),  # nothing is spent on it
        (FULL, 1, 98.5, None),  # the time would be over
        (RateLimited("", headers={}, retry_after_s=0.001), 1, 0.0, 0.2),
        (RateLimited("", headers={}, retry_after_s=11), 1, 0.0, None),
        (RateLimited("", headers={}), 1, 0.0, None),  # it would never fit
        (CircuitOpen("", retry_after_s=5), 2, 0.0, 5.0),
        (CircuitOpen("", retry_after_s=5), 3, 0.0, None),
        (InvalidRequest("", retry_after_s=1), 1, 0.0, None),
        (Stopping(), 1, 0.0, None),
    ],
)
def test_how_long_a_chat_waits_for_its_turn(error: GatewayError, tries: int, now: float, pause_s: float | None) -> None:
    assert PATIENCE.pause_s(error, tries=tries, now=now, spread=0.0) == pause_s


def test_those_who_wait_for_the_same_do_not_come_back_together() -> None:
    assert PATIENCE.pause_s(FULL, tries=1, now=0.0, spread=1.0) == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("shared", "own", "said"),
    [
        (b'"model":"a","temperature":1', b'"model":"b","prompt":"x"', b'{"model":"b","temperature":1,"prompt":"x"}'),
        (b'"messages":[1]', b'"prompt":"x"', b'{"prompt":"x"}'),
        (b'"template":"t"', b'"variables":{"a":1}', b'{"template":"t","variables":{"a":1}}'),
        (b'"messages":[1]', b'"template":"t","stream":false', b'{"template":"t"}'),
    ],
)
def test_what_a_chat_says_itself_goes_before_what_all_have_in_common(shared: bytes, own: bytes, said: bytes) -> None:
    read = parse(b'{%s,"requests":[{%s}]}' % (shared, own), BOUNDS)
    assert chat_body(read.shared, read.items[0].fields) == said


def test_a_batch_that_says_nothing_of_it_is_asked_eight_at_a_time_or_as_many_as_may_be() -> None:
    assert batch().max_parallel == 8
    assert parse(b'{"prompts":["x"]}', replace(BOUNDS, most_parallel=3)).max_parallel == 3


def test_what_stands_for_a_key_in_a_worker_opens_no_door() -> None:
    job_tokens = PageTokens(salt="batch", lifetime_s=60)
    token = job_tokens.issue(key_id=7, user_id=0)
    assert (job_tokens.key_id(token), PageTokens().key_id(token)) == (7, None)
    assert job_tokens.key_id(PageTokens().issue(key_id=7, user_id=0)) is None
