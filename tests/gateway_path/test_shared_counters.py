"""The Lua script counts as the Python rules do, on a real Valkey; and what it leaves there."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from routerplatform.embedded import Service
from routerplatform.gateway.shared_counters import PREFIX, CountersUnreachable, SharedCounters
from routing.domain.limits import WINDOW_S, Act, Cell, Counters, Level, Measure, Operation
from tests.stalls import Stalls
from tests.valkeys import frozen, own_valkey

NOON_MS = 1_772_000_000_123
TRIP_S = 5.0  # nothing here is about being late
numbers = count()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as service:
        yield service


class Client:
    """Shared counters in a loop of their own, for tests that are not async."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._counters = SharedCounters(url)

    def apply(self, *operations: Operation, now_ms: int = 0) -> tuple[int, list[list[Level]]]:
        return self._runner.run(self._counters.apply(operations, timeout_s=TRIP_S, now_ms=now_ms))

    def close(self) -> None:
        self._runner.run(self._counters.close())
        self._runner.close()


@pytest.fixture(scope="module")
def client(valkey: Service) -> Iterator[Client]:
    made = Client(valkey.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis(valkey: Service) -> Iterator[Any]:
    with Redis.from_url(valkey.url) as connection:
        yield connection


def requests(limit: int, key: str) -> Cell:
    return Cell(key, Measure.REQUESTS, limit, 1)


def fits(levels: list[Level]) -> bool:
    return not any(level.wait_ms for level in levels)


# --- the same verdicts --------------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.builds(Cell, st.sampled_from(["a:r", "b:r"]), st.just(Measure.REQUESTS), st.integers(1, 5), st.just(1)),
    st.builds(Cell, st.sampled_from(["a:t", "b:t"]), st.just(Measure.TOKENS), st.integers(1, 90), st.integers(0, 99)),
    st.builds(Cell, st.sampled_from(["a:p", "b:p"]), st.just(Measure.PARALLEL), st.integers(1, 3), st.just(1)),
)
CORRECTIONS = st.one_of(
    st.builds(Cell, st.sampled_from(["a:t", "b:t"]), st.just(Measure.TOKENS), st.just(50), st.integers(-99, 99)),
    st.builds(Cell, st.sampled_from(["a:p", "b:p"]), st.just(Measure.PARALLEL), st.just(3), st.just(1)),
)
SLOTS = st.builds(Cell, st.sampled_from(["a:p", "b:p"]), st.just(Measure.PARALLEL), st.just(3), st.just(1))
BACK_S = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 70))  # how long ago the tokens were taken


def some(cells: st.SearchStrategy[Cell]) -> st.SearchStrategy[tuple[Cell, ...]]:
    return st.lists(cells, min_size=1, max_size=4, unique_by=lambda cell: cell.key).map(tuple)


STEPS = st.one_of(
    st.tuples(st.just(Act.TAKE), some(CELLS), BACK_S),
    st.tuples(st.just(Act.CORRECT), some(CORRECTIONS), BACK_S),
    st.tuples(st.just(Act.RENEW), some(SLOTS), BACK_S),
)
GAPS_MS = st.one_of(st.just(0), st.integers(0, 3_000), st.integers(30_000, 70_000))
BATCHES = st.lists(st.tuples(GAPS_MS, st.lists(st.tuples(STEPS, st.sampled_from("xyz")), max_size=6)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(BATCHES)
def test_the_script_and_the_rules_give_the_same_verdicts(client: Client, batches: Any) -> None:
    rules, now_ms, run = Counters(), NOON_MS, next(numbers)
    for gap_ms, steps in batches:
        now_ms += gap_ms
        operations = [
            Operation(act, member, tuple(_of_run(cell, run) for cell in cells), now_ms // 1000 - back_s)
            for (act, cells, back_s), member in steps
        ]
        told, levels = client.apply(*operations, now_ms=now_ms)
        assert told == now_ms
        assert levels == [rules.apply(operation, now_ms) for operation in operations]


def _of_run(cell: Cell, run: int) -> Cell:
    return Cell(f"{run}:{cell.key}", cell.measure, cell.limit, cell.amount)


@settings(max_examples=20, deadline=None)
@given(gaps_ms=st.lists(st.integers(0, 4_000), min_size=20, max_size=60), limit=st.integers(1, 6))
def test_no_60_seconds_ever_see_more_than_the_limit(client: Client, gaps_ms: list[int], limit: int) -> None:
    now_ms, key, passed = NOON_MS, f"{next(numbers)}:k", list[int]()
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        _, [levels] = client.apply(Operation(Act.TAKE, "m", (requests(limit, key),)), now_ms=now_ms)
        if fits(levels):
            passed.append(now_ms)
        assert sum(at_ms > now_ms - WINDOW_S * 1000 for at_ms in passed) <= limit


# --- at the same time ---------------------------------------------------------------------------------------------


async def test_of_200_at_once_over_ten_connections_exactly_60_pass(valkey: Service) -> None:
    clients = [SharedCounters(valkey.url) for _ in range(10)]
    take = Operation(Act.TAKE, "m", (requests(60, f"{next(numbers)}:k"),))
    answers = await asyncio.gather(*(client.apply([take] * 20, timeout_s=TRIP_S) for client in clients))
    assert sum(fits(levels) for _, batch in answers for levels in batch) == 60
    assert {levels[0].used for _, batch in answers for levels in batch} == set(range(1, 61))
    await asyncio.gather(*(client.close() for client in clients))


# --- what it leaves behind ----------------------------------------------------------------------------------------


def test_every_key_has_our_prefix_and_is_forgotten_by_itself(client: Client, redis: Any) -> None:
    redis.flushdb()
    cells = (requests(5, "key:1:r"), Cell("key:1:t", Measure.TOKENS, 90, 9), Cell("key:1:p", Measure.PARALLEL, 2, 1))
    client.apply(Operation(Act.TAKE, "m", cells))
    assert set(redis.keys()) == {f"{PREFIX}key:1:{kind}".encode() for kind in "rtp"}
    assert all(40_000 < redis.pttl(key) <= 62_000 for key in redis.keys())


def test_what_no_longer_counts_is_deleted_as_it_goes(client: Client, redis: Any) -> None:
    redis.flushdb()
    for second in range(200):
        client.apply(Operation(Act.TAKE, "m", (requests(1_000, "k"),)), now_ms=NOON_MS + second * 1000)
    assert redis.hlen(f"{PREFIX}k") == WINDOW_S + 1


# --- when something is wrong --------------------------------------------------------------------------------------


def test_a_server_that_has_forgotten_the_script_learns_it_again(client: Client, redis: Any) -> None:
    cell = requests(5, f"{next(numbers)}:k")
    client.apply(Operation(Act.TAKE, "m", (cell,)))
    redis.script_flush()
    _, [[level]] = client.apply(Operation(Act.TAKE, "m", (cell,)))
    assert level.used == 2


async def test_a_server_that_stands_still_is_told_in_time_and_is_of_use_again(valkey: Service, stalls: Stalls) -> None:
    counters = SharedCounters(valkey.url)
    take = Operation(Act.TAKE, "m", (requests(5, f"{next(numbers)}:k"),))
    await counters.apply([take], timeout_s=TRIP_S)
    watch = stalls.watch()
    with frozen(valkey), pytest.raises(CountersUnreachable, match="no answer within 50 ms"):
        await counters.apply([take], timeout_s=0.05)
    assert watch.seconds < 0.5
    _, [[level]] = await counters.apply([take], timeout_s=TRIP_S)
    assert level.used in {2, 3}  # a late answer is never taken for the next one's
    await counters.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_that_came_while_the_loop_was_held_up_is_not_late(valkey: Service, loop: Any) -> None:
    async def run() -> int:
        counters = SharedCounters(valkey.url)
        take = Operation(Act.TAKE, "m", (requests(5, f"{next(numbers)}:k"),))
        await counters.apply([take], timeout_s=TRIP_S)
        trip = asyncio.create_task(counters.apply([take], timeout_s=0.05))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - a garbage collection, a busy neighbour
        _, [[level]] = await trip
        await counters.close()
        return level.used

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) == 2


async def test_a_server_that_is_not_there_is_told() -> None:
    counters = SharedCounters("redis://127.0.0.1:1/0")
    with pytest.raises(CountersUnreachable, match="ConnectionError"):
        await counters.apply([], timeout_s=TRIP_S)
    await counters.close()


async def test_a_key_of_another_kind_is_told_as_unreachable(valkey: Service, redis: Any) -> None:
    """Else one odd key of somebody else's would fail requests."""
    redis.set(f"{PREFIX}odd", "text")
    counters = SharedCounters(valkey.url)
    with pytest.raises(CountersUnreachable, match="WRONGTYPE"):
        await counters.apply([Operation(Act.TAKE, "m", (requests(5, "odd"),))], timeout_s=TRIP_S)
    await counters.close()
