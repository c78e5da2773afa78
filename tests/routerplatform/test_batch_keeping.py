"""What batches keep, sealed; and how a batch changes hands while somebody cancels it, its time runs out, or it ends."""

import zlib
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from msgspec import Raw

from providers.fields import seal_bytes
from routerplatform.batches.keeping import Shared, opened, sealed
from routerplatform.batches.services import (
    LEASE,
    WITHIN,
    batch_cancel,
    batch_claim,
    batch_end,
    batch_release,
    batches_take_up,
    expired,
)
from routerplatform.models import BatchItem, BatchJob, BatchState
from tests.routerplatform.test_batch_services import NOON, SOON, answered, claimed, sent, step


@pytest.mark.parametrize(
    "value", [{}, {"a": "ü\U0001f600\0"}, {"deep": [[[{"x": None}]]]}, {"n": 1.5, "m": -(2**63)}, {"long": "x" * 10**6}]
)
def test_what_is_kept_comes_back_as_it_was(value: dict[str, Any]) -> None:
    text = sealed(value)
    assert text.isascii()
    assert opened(text, dict[str, Any]) == value


def test_fields_are_kept_verbatim_with_what_was_said_beside_them() -> None:
    shared = Shared({"seed": Raw(b"12345678901234567890"), "t": Raw(b"1.10")}, {"x-own": "é"}, "on", "00-a")
    found = opened(sealed(shared), Shared)
    assert {name: bytes(value) for name, value in found.fields.items()} == {
        "seed": b"12345678901234567890",
        "t": b"1.10",
    }
    assert (found.hints, found.cache_wish, found.traceparent) == ({"x-own": "é"}, "on", "00-a")


def test_half_a_character_is_left_out_when_it_is_read_again() -> None:
    assert opened(sealed({"message": "so \ud83d", "ok": "\U0001f600"}), dict[str, Any]) == {
        "message": "so ", "ok": "\U0001f600",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "clear text", seal_bytes(b"not packed"), seal_bytes(zlib.compress(b"{")), seal_bytes(zlib.compress(b"[]"))],
)
def test_what_nobody_can_read_says_so_and_nothing_else(text: str) -> None:
    with pytest.raises(ImproperlyConfigured):
        opened(text, dict[str, Any])


@pytest.mark.django_db
def test_one_that_is_cancelled_just_before_its_worker_lets_go_ends_there() -> None:
    job = sent()
    lease = claimed(job)
    step(lease, [answered(one) for one in step(lease, want=1)])
    assert batch_cancel(job_id=job.pk, now=SOON)
    batch_release(lease=lease, now=SOON)
    job.refresh_from_db()
    assert (job.state, job.ok, job.cancelled, job.worker) == ("cancelled", 1, 2, None)
    assert batches_take_up(now=SOON + LEASE) == []


@pytest.mark.django_db
def test_one_whose_time_is_over_ends_without_a_gateway_that_asks() -> None:
    job = sent()
    assert batch_claim(job_id=job.pk, now=NOON + WITHIN) is None
    job.refresh_from_db()
    assert (job.state, job.error_code, job.failed, job.leased_until) == ("failed", "batch_expired", 3, None)


@pytest.mark.django_db
@pytest.mark.parametrize("state", [BatchState.DONE, BatchState.FAILED, BatchState.CANCELLED])
def test_one_that_is_over_is_in_nobodys_hand_and_ends_only_once(state: BatchState) -> None:
    job = sent(1)
    lease = claimed(job)
    step(lease, [answered(one) for one in step(lease, want=1)])
    error = expired(job.deadline_at) if state == BatchState.FAILED else None
    batch_end(lease=lease, state=state, error=error, now=SOON)
    before = BatchJob.objects.values().get()
    batch_end(lease=lease, state=BatchState.CANCELLED, now=SOON + timedelta(hours=1))
    batch_release(lease=lease, now=SOON)
    assert not batch_cancel(job_id=job.pk, now=SOON)
    assert batch_claim(job_id=job.pk, now=SOON) is None
    assert BatchJob.objects.values().get() == before
    assert BatchItem.objects.get().state == "ok"
