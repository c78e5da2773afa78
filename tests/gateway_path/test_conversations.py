"""How a gateway keeps responses: before their last byte where the store answers, later where it was away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from analytics.domain.idempotency import StoreAwayError
from analytics.domain.responses import KeptConversation, KeptResponse
from routerplatform.gateway.blocking_store import THREADS
from routerplatform.gateway.conversations import MAX_UNSAVED, Conversations
from routerplatform.gateway.errors import ResponsesUnavailable
from tests.stalls import Stalls

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SAID = KeptConversation(b"{}", b"[]")


@dataclass
class MemoryStore:
    """A store that can be away, or slow; what it was asked stands in `calls`, in order."""

    away: bool = False
    slow_s: float = 0.0
    rows: dict[tuple[int, str], KeptResponse] = field(default_factory=dict)
    until: list[datetime] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    closed: set[int] = field(default_factory=set)

    def keep(self, response: KeptResponse, *, now: datetime, until: datetime) -> bool:
        self._asked("keep")
        self.until.append(until)
        return self.rows.setdefault((response.team_id, response.response_id), response) is response

    def find(self, team_id: int, response_id: str, *, now: datetime) -> KeptResponse | None:
        self._asked("find")
        return self.rows.get((team_id, response_id))

    def forget(self, team_id: int, response_id: str) -> bool:
        self._asked("forget")
        return self.rows.pop((team_id, response_id), None) is not None

    def close(self) -> None:
        self.closed.add(threading.get_ident())

    def _asked(self, what: str) -> None:
        self.calls.append(what)
        time.sleep(self.slow_s)
        if self.away:
            raise StoreAwayError("away")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@asynccontextmanager
async def opened(
    store: MemoryStore, *, days: int = 30, patience_s: float = 10.0, pauses_s: tuple[float, ...] = (0.02, 0.02, 0.02)
) -> AsyncIterator[Conversations]:
    kept_for = timedelta(days=days)
    conversations = Conversations(
        store, kept_for=kept_for, patience_s=patience_s, pauses_s=pauses_s, now=lambda: NOW
    )  # fmt: skip
    try:
        yield conversations
    finally:
        await conversations.close()


def response(name: str = "resp_1", *, team: int = 1) -> KeptResponse:
    return KeptResponse(team, name, conversation=SAID)


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_what_is_kept_is_found_by_its_team(store: MemoryStore) -> None:
    async with opened(store) as conversations:
        await conversations.keep(response())
        assert await conversations.find(1, "resp_1") == response()
        assert await conversations.find(2, "resp_1") is None
    assert store.until == [NOW + timedelta(days=30)]


async def test_with_no_days_nothing_is_kept_nor_asked(store: MemoryStore) -> None:
    async with opened(store, days=0) as conversations:
        assert not conversations.keeps
        await conversations.keep(response())
        assert await conversations.find(1, "resp_1") is None
        assert not await conversations.forget(1, "resp_1")
    assert store.calls == []


@pytest.mark.parametrize("name", ["", "r" * 201, "resp\x00"])
async def test_what_cannot_be_an_id_is_not_asked_for(store: MemoryStore, name: str) -> None:
    async with opened(store) as conversations:
        await conversations.keep(response(name))
        assert await conversations.find(1, name) is None
        assert not await conversations.forget(1, name)
    assert store.calls == []


async def test_a_store_that_is_away_fails_who_looks_for_something(store: MemoryStore) -> None:
    store.away = True
    async with opened(store) as conversations:
        with pytest.raises(ResponsesUnavailable) as error:
            await conversations.find(1, "resp_1")
        assert (error.value.http_status, error.value.retry_after_s) == (503, 2)
        with pytest.raises(ResponsesUnavailable):
            await conversations.forget(1, "resp_1")


async def test_a_slow_store_is_not_waited_for(store: MemoryStore, stalls: Stalls) -> None:
    store.slow_s = 0.5
    async with opened(store, patience_s=0.05) as conversations:
        watch = stalls.watch()
        with pytest.raises(ResponsesUnavailable):
            await conversations.find(1, "resp_1")
        await conversations.keep(response())
        assert watch.seconds < 0.4


async def test_what_could_not_be_kept_is_found_all_the_same_and_kept_later(store: MemoryStore) -> None:
    store.away = True
    async with opened(store) as conversations:
        await conversations.keep(response())
        assert await conversations.find(1, "resp_1") == response()
        assert store.rows == {}
        store.away = False
        await until(lambda: bool(store.rows))
        assert await conversations.find(1, "resp_1") == response()


async def test_what_was_kept_though_the_answer_came_late_is_not_kept_twice(store: MemoryStore) -> None:
    store.slow_s = 0.1
    async with opened(store, patience_s=0.05) as conversations:
        await conversations.keep(response())
        store.slow_s = 0.0
        await until(lambda: store.calls.count("keep") == 2 and bool(store.rows))
        assert list(store.rows) == [(1, "resp_1")]


async def test_keeping_is_given_up_in_the_end(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    store.away = True
    async with opened(store) as conversations:
        await conversations.keep(response())
        await until(lambda: "resp_1 is lost" in caplog.text)
        assert store.calls == ["keep"] * 4
        store.away = False
        assert await conversations.find(1, "resp_1") is None


async def test_only_so_many_wait_for_the_store(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    store.away = True
    async with opened(store, pauses_s=(10.0,)) as conversations:
        for number in range(MAX_UNSAVED + 1):
            await conversations.keep(response(f"resp_{number}"))
        assert f"resp_{MAX_UNSAVED} is lost: too many" in caplog.text


async def test_what_is_forgotten_while_it_waits_does_not_come_back(store: MemoryStore) -> None:
    store.away = True
    async with opened(store, pauses_s=(0.2,)) as conversations:
        await conversations.keep(response())
        store.away = False
        assert await conversations.forget(1, "resp_1")
        assert await conversations.find(1, "resp_1") is None
        await asyncio.sleep(0.3)
        assert store.rows == {}


async def test_a_caller_who_leaves_ends_the_waiting_not_the_keeping(store: MemoryStore) -> None:
    store.slow_s = 0.1
    async with opened(store) as conversations:
        keeping = asyncio.create_task(conversations.keep(response()))
        await until(lambda: store.calls == ["keep"])
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
    assert list(store.rows) == [(1, "resp_1")], "it was finished before the store was let go"


async def test_every_thread_lets_go_of_its_connection(store: MemoryStore) -> None:
    async with opened(store) as conversations:
        await conversations.keep(response())
    assert len(store.closed) == THREADS


async def test_nobody_who_never_came_opens_a_connection(store: MemoryStore) -> None:
    async with opened(store):
        pass
    assert store.closed == set()
