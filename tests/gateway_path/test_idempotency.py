"""How a gateway holds on to its claims: renewed while they run, kept late when the store was away, given up in time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from analytics.domain.idempotency import AnswerState, Claim, KeptAnswer, Standing, StoreAwayError, claim_of
from routerplatform.gateway.blocking_store import THREADS
from routerplatform.gateway.errors import IdempotencyInProgress, IdempotencyKeyReused, IdempotencyUnavailable
from routerplatform.gateway.idempotency import MAX_UNSAVED, Idempotency
from tests.stalls import Stalls

LEASE = timedelta(seconds=0.8)  # of which half may pass in a stall of the machine
ANSWER = KeptAnswer(200, [], b"Hello")


@dataclass
class MemoryStore:
    """A store that can be away, or slow; what it was asked stands in `calls`, in order."""

    away: bool = False
    slow_s: float = 0.0
    rows: dict[str, Standing] = field(default_factory=dict)
    leases: dict[str, datetime] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    closed: set[int] = field(default_factory=set)

    def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Standing | None:
        self._asked("claim")
        found = self.rows.get(claim.key_digest)
        if found and (found.state is not AnswerState.RUNNING or self.leases[found.claim.request_id] > now):
            return found
        self.rows[claim.key_digest] = Standing(claim, AnswerState.RUNNING)
        self.leases[claim.request_id] = until
        return None

    def renew(self, claims: Collection[Claim], *, until: datetime) -> None:
        self._asked("renew")
        self.leases.update({claim.request_id: until for claim in claims})

    def keep(self, claim: Claim, answer: KeptAnswer | None) -> bool:
        self._asked("keep")
        if self.rows[claim.key_digest].claim != claim:
            return False
        self.rows[claim.key_digest] = Standing(claim, AnswerState.KEPT, answer)
        return True

    def release(self, claim: Claim) -> None:
        self._asked("release")
        del self.rows[claim.key_digest]

    def close(self) -> None:
        self.closed.add(threading.get_ident())

    def _asked(self, what: str) -> None:
        time.sleep(self.slow_s)
        self.calls.append(what)
        if self.away:
            raise StoreAwayError("away")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@asynccontextmanager
async def gateway(store: MemoryStore, *, patience_s: float = 10.0) -> AsyncIterator[Idempotency]:
    idempotency = Idempotency(store, lease=LEASE, patience_s=patience_s)
    yield idempotency
    await idempotency.close()


def run(number: int, name: str = "order-1", body: bytes = b"{}") -> Claim:
    return claim_of(name, key_id=1, method="POST", path="/v1/x", body=body, request_id=str(UUID(int=number)))


async def kept(store: MemoryStore, count: int) -> None:
    """Until so many answers are."""
    for _ in range(3000):
        if [row.state for row in store.rows.values()].count(AnswerState.KEPT) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{count} answers were to be kept: {store.rows}")


async def test_a_run_that_outlasts_its_lease_keeps_the_key(store: MemoryStore) -> None:
    async with gateway(store) as ours, gateway(store) as theirs:
        assert await ours.claim(run(1)) is None
        await asyncio.sleep(3 * LEASE.total_seconds())
        with pytest.raises(IdempotencyInProgress):
            await theirs.claim(run(2))
        with pytest.raises(IdempotencyKeyReused):
            await theirs.claim(run(3, body=b"other"))
        await ours.keep(run(1), ANSWER)
        assert await theirs.claim(run(4)) == ANSWER


async def test_a_dead_gateways_key_is_free_after_its_lease(store: MemoryStore) -> None:
    async with gateway(store) as theirs:
        async with gateway(store) as dying:
            await dying.claim(run(1))
        with pytest.raises(IdempotencyInProgress):
            await theirs.claim(run(2))
        await asyncio.sleep(LEASE.total_seconds() + 0.05)
        assert await theirs.claim(run(2)) is None


async def test_a_key_is_no_longer_renewed_once_its_run_has_ended(store: MemoryStore) -> None:
    async with gateway(store) as ours:
        await ours.claim(run(1, "a"))
        await ours.claim(run(2, "b"))
        await ours.keep(run(1, "a"), ANSWER)
        await ours.release(run(2, "b"))
        store.calls.clear()
        await asyncio.sleep(LEASE.total_seconds())
        assert store.calls == []
        assert await ours.claim(run(3, "b")) is None


async def test_a_store_that_is_away_refuses_the_request(store: MemoryStore) -> None:
    store.away = True
    async with gateway(store) as ours:
        with pytest.raises(IdempotencyUnavailable) as refused:
            await ours.claim(run(1))
        assert refused.value.retry_after_s is not None
        store.away = False
        assert await ours.claim(run(1)) is None


async def test_a_store_that_is_slow_is_not_waited_for(store: MemoryStore, stalls: Stalls) -> None:
    async with gateway(store, patience_s=0.1) as ours:
        store.slow_s = 0.5
        watch = stalls.watch()
        with pytest.raises(IdempotencyUnavailable):
            await ours.claim(run(1))
        assert watch.seconds < 0.4
        store.slow_s = 0.0


async def test_an_answer_is_kept_as_soon_as_the_store_is_back_and_its_key_is_held_till_then(store: MemoryStore) -> None:
    async with gateway(store) as ours, gateway(store) as theirs:
        await ours.claim(run(1))
        store.away = True
        await ours.keep(run(1), ANSWER)
        await asyncio.sleep(2 * LEASE.total_seconds())
        store.away = False
        await kept(store, 1)
        assert await theirs.claim(run(2)) == ANSWER


async def test_no_more_answers_wait_than_there_is_room_for(store: MemoryStore) -> None:
    async with gateway(store) as ours:
        for number in range(MAX_UNSAVED + 3):
            await ours.claim(run(number, f"order-{number}"))
        store.away = True
        for number in range(MAX_UNSAVED + 3):
            await ours.keep(run(number, f"order-{number}"), ANSWER)
        store.away = False
        await kept(store, MAX_UNSAVED)
        await asyncio.sleep(LEASE.total_seconds() + 0.05)
        assert await ours.claim(run(99, f"order-{MAX_UNSAVED}")) is None, "the rest is free when its lease is over"


async def test_a_caller_who_is_cancelled_while_its_answer_is_kept_finds_it(store: MemoryStore) -> None:
    async with gateway(store) as ours:
        await ours.claim(run(1))
        store.slow_s = 0.2
        keeping = asyncio.create_task(ours.keep(run(1), ANSWER))
        await asyncio.sleep(0.05)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
    assert store.rows[run(1).key_digest].state is AnswerState.KEPT


async def test_closing_lets_go_of_every_threads_connection(store: MemoryStore) -> None:
    async with gateway(store) as ours:
        await ours.claim(run(1))
    assert len(store.closed) == THREADS


async def test_without_a_key_no_thread_is_ever_started(store: MemoryStore) -> None:
    before = threading.active_count()
    async with gateway(store):
        assert threading.active_count() == before
    assert (store.calls, store.closed) == ([], set())
