"""What `RateLimits` lets through: together over Redis, alone without it, and while it goes and comes back."""

import asyncio
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from redis import Redis

from providers.domain.types import PromptDefaults, RateLimit
from routerplatform.embedded import Service
from routerplatform.gateway.errors import RateLimited
from routerplatform.gateway.rate_limits import TRIP_S, Demand, Permit, RateLimits, demand_of, duration, limit_headers
from routerplatform.gateway.shared_counters import PREFIX, SharedCounters
from routing.domain.config import Alias, Caller
from routing.domain.decision import RoutePlan
from routing.domain.limits import Headroom, Standing
from tests.routing.domain.build import caller, deployment, request
from tests.stalls import PATIENCE_S, Stalls
from tests.valkeys import frozen, own_valkey

PATIENT = 5.0  # seconds for a trip, in tests that are not about a Redis that is late
ids = count(1)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as service:
        yield service


@asynccontextmanager
async def counting(url: str = "", *, trip_s: float = PATIENT, **options: Any) -> AsyncIterator[RateLimits]:
    """A gateway's limits, started; alone without a URL."""
    limits = RateLimits(SharedCounters(url) if url else None, trip_s=trip_s, **options)
    await limits.start()
    try:
        yield limits
    finally:
        await limits.close()


def with_key(rpm: int | None = None, tpm: int | None = None, parallel: int | None = None, **options: Any) -> Caller:
    """A caller whose key nobody else uses."""
    return caller(key_id=next(ids), team_id=next(ids), key_limit=RateLimit(rpm, tpm, parallel), **options)


def plan_for(model: str = "auto", *, policy: str = "", max_tokens: int | None = None) -> RoutePlan:
    defaults = PromptDefaults(max_tokens=max_tokens)
    return RoutePlan((), (), (), model, persona="", policy=policy, how="", defaults=defaults)


async def entered(
    limits: RateLimits, who: Caller, tokens: int = 10, alias: Alias | None = None, member: str = ""
) -> Permit:
    """A request that takes about so many tokens and names `alias`."""
    plan, aliases = plan_for(alias.name if alias else "auto"), {alias.name: alias} if alias else {}
    asked = request(input_tokens_estimate=tokens - 1, max_tokens=1)
    return await limits.enter(who, plan, asked, aliases=aliases, member=member or f"r{next(ids)}")


async def tried(limits: RateLimits, who: Caller, tokens: int = 10, alias: Alias | None = None) -> Permit | None:
    """A permit, or None when there is no room."""
    try:
        return await entered(limits, who, tokens, alias)
    except RateLimited:
        return None


async def passed(limits: RateLimits, who: Caller, times: int) -> list[Permit]:
    """So many requests at once; the permits of those that got in."""
    return [permit for permit in await asyncio.gather(*(tried(limits, who) for _ in range(times))) if permit]


async def eventually(condition: Callable[[], Awaitable[Any]], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# --- together -----------------------------------------------------------------------------------------------------


async def test_of_200_at_once_exactly_60_pass(valkey: Service) -> None:
    async with counting(valkey.url) as limits:
        assert len(await passed(limits, with_key(rpm=60), 200)) == 60


async def test_two_gateways_share_one_limit(valkey: Service) -> None:
    who = with_key(rpm=60, parallel=1_000)
    async with counting(valkey.url) as one, counting(valkey.url) as other:
        both = await asyncio.gather(passed(one, who, 100), passed(other, who, 100))
    assert sum(map(len, both)) == 60


def _passed_in_a_process(url: str, who: Caller, times: int) -> int:
    async def run() -> int:
        async with counting(url) as limits:
            return sum([len(await passed(limits, who, 20)) for _ in range(times // 20)])

    return asyncio.run(run())


def test_two_processes_share_one_limit_exactly(valkey: Service) -> None:
    who = with_key(rpm=500)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(_passed_in_a_process, valkey.url, who, 400) for _ in range(2)]
        assert sum(run.result(timeout=60) for run in runs) == 500


async def test_requests_of_one_moment_share_a_trip(valkey: Service) -> None:
    with Redis.from_url(valkey.url) as redis:
        async with counting(valkey.url) as limits:
            await passed(limits, with_key(rpm=1_000), 2)
            before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
            await passed(limits, with_key(rpm=1_000), 100)
            assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1


async def test_a_caller_without_limits_makes_no_trip(valkey: Service) -> None:
    with Redis.from_url(valkey.url) as redis:
        async with counting(valkey.url) as limits:
            before = redis.info("stats")["total_commands_processed"]
            permit = await entered(limits, caller(), alias=Alias("fast", "", ()))
            await permit.attempt(deployment(1), "fast")
            permit.settle(5)
            assert redis.info("stats")["total_commands_processed"] - before == 1  # the question itself


# --- whose limits -------------------------------------------------------------------------------------------------


async def test_key_team_and_alias_are_taken_together_or_not_at_all(valkey: Service) -> None:
    team = RateLimit(rpm=3)
    first, second = (with_key(rpm=2, team_limit=team) for _ in range(2))
    second = caller(key_id=second.key_id, team_id=first.team_id, key_limit=RateLimit(rpm=2), team_limit=team)
    alias = Alias(f"alias-{next(ids)}", "", (), RateLimit(rpm=100))
    async with counting(valkey.url) as limits:
        assert [bool(await tried(limits, first, alias=alias)) for _ in range(3)] == [True, True, False]
        assert [bool(await tried(limits, second, alias=alias)) for _ in range(3)] == [True, False, False]
        room = (await entered(limits, caller(), alias=alias)).standing.requests
        assert room is not None
        assert room.remaining == 100 - 4  # 3 that passed, and this one: what was refused counts nowhere


async def test_an_attempt_counts_against_its_deployment_until_the_next_one_or_the_end(valkey: Service) -> None:
    first, second = (deployment(next(ids), rate_limit=RateLimit(max_parallel=1)) for _ in range(2))
    async with counting(valkey.url) as limits:
        one, other = await entered(limits, with_key(rpm=9)), await entered(limits, caller())
        await one.attempt(first, "")
        with pytest.raises(RateLimited, match=f"deployment “{first.name}” is reached: 1 request at a time") as caught:
            await other.attempt(first, "")
        assert caught.value.headers == {}, "a deployment's traffic is not the caller's business"
        await one.attempt(second, "")
        await other.attempt(first, "")
        one.settle(0)
        await other.attempt(second, "")
        with pytest.raises(RateLimited):
            await one.attempt(second, "")
        assert one.standing.requests == Headroom(9, 8, one.standing.requests.reset_ms if one.standing.requests else 0)


async def test_a_deployment_counts_the_tokens_of_its_last_attempt(valkey: Service) -> None:
    target = deployment(next(ids), rate_limit=RateLimit(tpm=1_000))
    async with counting(valkey.url) as limits:
        permit = await entered(limits, caller(), 900)
        await permit.attempt(target, "")
        await permit.attempt(target, "")  # it failed, and is tried again: nothing was used so far
        permit.settle(300)
        await (await entered(limits, caller(), 700)).attempt(target, "")
        with pytest.raises(RateLimited, match="1,000 tokens per minute, and this request may take 1"):
            await (await entered(limits, caller(), 1)).attempt(target, "")


async def test_an_alias_that_a_policy_chose_counts_its_attempts(valkey: Service) -> None:
    alias = Alias(f"alias-{next(ids)}", "", (), RateLimit(rpm=2))
    async with counting(valkey.url) as limits:

        async def by_policy() -> Permit:
            plan = plan_for(policy="default")
            return await limits.enter(caller(), plan, request(), aliases={alias.name: alias}, member=f"r{next(ids)}")

        for _ in range(2):
            await (await by_policy()).attempt(deployment(1), alias.name)
        with pytest.raises(RateLimited, match=f"model “{alias.name}” is reached: 2 requests per minute"):
            await (await by_policy()).attempt(deployment(1), alias.name)
        assert await tried(limits, caller(), alias=alias) is None


async def test_an_alias_that_is_asked_for_counts_once_however_many_attempts_it_takes(valkey: Service) -> None:
    alias = Alias(f"alias-{next(ids)}", "", (), RateLimit(rpm=2))
    async with counting(valkey.url) as limits:
        permit = await entered(limits, caller(), alias=alias)
        for _ in range(5):
            await permit.attempt(deployment(1), alias.name)
        assert await tried(limits, caller(), alias=alias)


# --- settling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
async def test_settling_frees_the_slot_and_counts_what_was_really_used(valkey: Service, together: bool) -> None:
    who = with_key(tpm=1_000, parallel=1)
    async with counting(valkey.url if together else "") as limits:
        permit = await tried(limits, who, 900)
        assert permit
        assert await tried(limits, who, 10) is None
        permit.settle(100)
        permit.settle(0)  # the first time counts
        again = await tried(limits, who, 900)
        assert again
        assert again.standing.tokens is not None
        assert again.standing.tokens.remaining == 0
        again.settle(950)
        assert await tried(limits, who, 1) is None
        last = await _refusal(limits, who, 1)
        assert last.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_of_50_streams_at_once_as_many_run_as_may(valkey: Service) -> None:
    who = with_key(parallel=7)
    with Redis.from_url(valkey.url) as redis:

        async def is_free() -> bool:
            return bool(redis.zcard(f"{PREFIX}key:{who.key_id}:p") == 0)

        async with counting(valkey.url) as one, counting(valkey.url) as other:
            for _ in range(3):
                both = await asyncio.gather(passed(one, who, 25), passed(other, who, 25))
                assert sum(map(len, both)) == 7
                for permit in (*both[0], *both[1]):
                    permit.settle(0)
                await eventually(is_free)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_who_leaves_while_being_let_in_leaves_nothing_behind(valkey: Service, turns: int) -> None:
    who = with_key(rpm=10, tpm=100, parallel=1)
    async with counting(valkey.url) as limits:
        entering = asyncio.create_task(entered(limits, who, 100, member="gone"))
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

        async def is_free() -> bool:
            return await tried(limits, who, 100) is not None

        await eventually(is_free, within_s=10.0)  # long before a slot would lapse by itself


async def test_slots_are_renewed_while_their_requests_run(valkey: Service) -> None:
    who = with_key(parallel=5)
    with Redis.from_url(valkey.url) as redis:
        key = f"{PREFIX}key:{who.key_id}:p"
        async with counting(valkey.url, renew_s=0.05) as limits:
            permit = await entered(limits, who, member="long")
            lapses = redis.zscore(key, "long")
            redis.delete(key)  # as after a restart of Redis

            async def is_renewed() -> bool:
                return bool((redis.zscore(key, "long") or 0) > lapses)

            async def is_gone() -> bool:
                return redis.zscore(key, "long") is None

            await eventually(is_renewed)
            permit.settle(0)
            await eventually(is_gone)
            await asyncio.sleep(0.2)
            assert await is_gone(), "nor is it renewed again"


# --- alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processes", "share"), [(1, 60), (4, 15), (100, 1)])
async def test_without_redis_a_process_lets_its_share_through(processes: int, share: int) -> None:
    async with counting(processes=processes) as limits:
        assert len(await passed(limits, with_key(rpm=60), 200)) == share


async def test_alone_a_minute_passes_by_the_clock() -> None:
    now = [1_772_000_000.0]
    who = with_key(rpm=2)
    async with counting(clock=lambda: now[0]) as limits:
        assert len(await passed(limits, who, 5)) == 2
        error = await _refusal(limits, who)
        assert error.retry_after_s == 61
        now[0] += error.retry_after_s
        assert len(await passed(limits, who, 5)) == 2


async def test_slots_of_a_process_that_counts_alone_do_not_lapse_under_it() -> None:
    now = [1_772_000_000.0]
    who = with_key(parallel=1)
    async with counting(clock=lambda: now[0], renew_s=0.02) as limits:
        permit = await entered(limits, who, member="long")
        for _ in range(4):
            now[0] += 20
            await asyncio.sleep(0.06)
        assert await tried(limits, who) is None
        permit.settle(0)
        assert await tried(limits, who)


# --- Redis goes and comes back ------------------------------------------------------------------------------------


async def _load(limits: RateLimits, who: Caller, took: list[float], until: asyncio.Event) -> None:
    """Enter and settle without a pause; `took` learns how long each entry took, in seconds."""
    while not until.is_set():
        began = time.perf_counter()
        permit = await entered(limits, who, member=f"r{next(ids)}")
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
        permit.settle(5)


@pytest.mark.parametrize("way", ["frozen", "killed"])
async def test_no_request_fails_or_waits_long_when_redis_is_lost_under_load(
    tmp_path_factory: Any, way: str, stalls: Stalls
) -> None:
    who = with_key(rpm=1_000_000, tpm=100_000_000, parallel=1_000)
    ended, took = asyncio.Event(), list[float]()

    async def more(requests: int = 300) -> None:
        enough = len(took) + requests

        async def is_enough() -> bool:
            for load in loads:
                assert not load.done(), load.exception()
            return len(took) >= enough

        await eventually(is_enough)

    with own_valkey(tmp_path_factory.mktemp("valkey")) as service:
        async with counting(service.url, trip_s=TRIP_S) as limits:
            watch = stalls.watch()
            loads = [asyncio.create_task(_load(limits, who, took, ended)) for _ in range(32)]
            await more()
            if way == "frozen":
                with frozen(service):
                    await asyncio.sleep(0.5)
            else:
                service.process.kill()
                await asyncio.sleep(0.5)
            await more()
            await asyncio.sleep(0.5)
            ended.set()
            await asyncio.gather(*loads)
            lost_s = watch.lost
    assert max(took) < 0.5 + lost_s
    late = sum(seconds > 0.9 * TRIP_S + lost_s for seconds in took)
    assert late <= 3 * len(loads), "a wait for each that was on its way, not one for each request"


async def test_after_an_outage_gateways_count_together_again(valkey: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    who, other = with_key(rpm=60), with_key(rpm=40)
    async with counting(valkey.url, trip_s=1.0, processes=4) as one, counting(valkey.url, processes=4) as two:
        with frozen(valkey):
            assert len(await passed(one, who, 100)) == 15
            assert len(await passed(one, who, 100)) == 0
        assert "Redis is lost" in caplog.text

        async def is_back() -> bool:
            return "Redis is back" in caplog.text

        await eventually(is_back)
        both = await asyncio.gather(passed(one, other, 100), passed(two, other, 100))
        assert sum(map(len, both)) == 40


async def test_what_is_under_way_when_redis_is_lost_keeps_its_slot(valkey: Service) -> None:
    who = with_key(parallel=3)
    async with counting(valkey.url, trip_s=TRIP_S) as limits:
        held = await passed(limits, who, 2)
        with frozen(valkey):
            assert len(await passed(limits, who, 5)) == 1
            held[0].settle(0)
            assert len(await passed(limits, who, 5)) == 1


async def test_what_came_in_without_redis_holds_its_slot_there_afterwards(valkey: Service) -> None:
    who = with_key(parallel=3, tpm=1_000)
    with Redis.from_url(valkey.url) as redis:
        async with counting(valkey.url, trip_s=TRIP_S) as limits:
            with frozen(valkey):
                held = await passed(limits, who, 5)
            await eventually(lambda: asyncio.to_thread(lambda: redis.zcard(f"{PREFIX}key:{who.key_id}:p") == 3))
            assert await passed(limits, who, 5) == []
            for permit in held:
                permit.settle(0)
            assert len(await passed(limits, who, 5)) == 3


async def test_a_gateway_that_starts_without_redis_finds_it_later(tmp_path_factory: Any) -> None:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as service:
        who = with_key(rpm=10)
        with frozen(service):
            starting = asyncio.create_task(_started(service.url))
            limits = await asyncio.wait_for(starting, PATIENCE_S)
            assert len(await passed(limits, with_key(rpm=10), 20)) == 10
        with Redis.from_url(service.url) as redis:

            async def counts_there() -> bool:
                await passed(limits, who, 1)
                return bool(redis.exists(f"{PREFIX}key:{who.key_id}:r"))

            await eventually(counts_there)
        await limits.close()


async def _started(url: str) -> RateLimits:
    limits = RateLimits(SharedCounters(url))
    await limits.start()
    return limits


# --- what is told -------------------------------------------------------------------------------------------------


async def _refusal(limits: RateLimits, who: Caller, tokens: int = 10) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await entered(limits, who, tokens)
    return caught.value


async def test_a_refusal_says_which_limit_of_whom_and_when_to_come_back() -> None:
    now = 1_772_000_000.25
    async with counting(clock=lambda: now) as limits:
        who = with_key(rpm=2, tpm=5_000, key_name="search api")
        await passed(limits, who, 2)
        error = await _refusal(limits, who)
    assert (error.http_status, error.code, error.kind) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.message == ("The rate limit of key “search api” is reached: 2 requests per minute. Try again in 61 s.")
    assert error.retry_after_s == 60.75
    assert error.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0.75s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "4980",
        "x-ratelimit-reset-tokens": "1m0.75s",
    }


async def test_a_refusal_for_tokens_says_what_the_request_may_take() -> None:
    async with counting() as limits:
        who = with_key(tpm=5_000, team_name="Search")
        await tried(limits, who, 4_000)
        error = await _refusal(limits, who, 1_500)
        assert "5,000 tokens per minute, and this request may take 1,500" in error.message
        never = await _refusal(limits, who, 5_001)
    assert never.message.startswith("This request may take 5,001 tokens, and key “app” may use 5,000 per minute.")
    assert (never.retry_after_s, never.headers["x-should-retry"]) == (None, "false")


async def test_a_team_is_named_where_it_is_the_team() -> None:
    async with counting() as limits:
        who = caller(team_name="Search", team_limit=RateLimit(max_parallel=1))
        await tried(limits, who)
        error = await _refusal(limits, who)
    assert error.message == "The rate limit of team “Search” is reached: 1 request at a time. Try again in 1 s."


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (120, "120ms"), (999, "999ms"), (1_000, "1s"), (59_870, "59.87s"), (60_000, "1m0s"),
     (60_552, "1m0.552s"), (360_000, "6m0s"), (-5, "0ms")],
)  # fmt: skip
def test_times_are_written_as_openai_writes_them(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_only_what_is_limited_has_headers() -> None:
    assert limit_headers(Standing()) == {}
    assert set(limit_headers(Standing(tokens=Headroom(5, 4, 3)))) == {
        "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "default", "demand"),
    [
        ({"max_tokens": 50}, None, Demand(150, 0)),
        ({"max_tokens": 50, "choices": 3}, None, Demand(250, 0)),
        ({}, 700, Demand(800, 0)),
        ({"max_tokens": 50}, 700, Demand(150, 0)),
        ({}, None, Demand(1_124, 1_024)),
    ],
)
def test_a_request_demands_its_prompt_and_its_longest_answer(
    options: dict[str, Any], default: int | None, demand: Demand
) -> None:
    assert demand_of(request(**options), plan_for(max_tokens=default)) == demand
