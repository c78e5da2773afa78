"""Breakers and rests of keys over several processes that share a Redis, over one that has none, and when it goes away.

A `FleetHealth` each stands for a process: they share nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from redis import Redis

from providers.domain.breaker import BreakerRules, BreakerState
from providers.domain.errors import Failure, FailureKind
from providers.domain.out_of_service import BreakerOpen, KeysResting
from providers.domain.types import Credential, Deployment
from providers.fleet.board import LAZY_S
from providers.fleet.health import FleetHealth, Trial
from providers.fleet.shared import HASH, HealthUnreachable, SharedHealth, Swap
from routerplatform.embedded import Service
from tests.routing.domain.build import deployment as made
from tests.routing.domain.build import endpoint
from tests.stalls import PATIENCE_S, Stalls
from tests.valkeys import frozen, own_valkey

NOON = 1_790_000_000.0
SOON = BreakerRules(open_s=0.3)
DOWN = Failure(FailureKind.SERVER_ERROR, "down", http_status=500)
numbers = count(1)
Fleet = Callable[..., Awaitable[FleetHealth]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as service:
        yield service


@pytest.fixture(scope="module")
def redis(valkey: Service) -> Iterator[Any]:
    with Redis.from_url(valkey.url) as connection:
        yield connection


@pytest.fixture
async def fleet(valkey: Service) -> AsyncIterator[Fleet]:
    """Starts processes of one fleet."""
    async with AsyncExitStack() as stack:

        async def start(url: str | None = valkey.url, **options: Any) -> FleetHealth:
            return await stack.enter_async_context(running(url, **options))

        yield start


@asynccontextmanager
async def running(url: str | None, **options: Any) -> AsyncIterator[FleetHealth]:
    health = FleetHealth(SharedHealth(url) if url else None, **{"rules": SOON, **options})
    await health.start()
    try:
        yield health
    finally:
        await health.close()


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> float:
        return self.at


def deployment(keys: int = 1, **options: Any) -> Deployment:
    """A deployment, and keys, that no other test knows."""
    number = next(numbers)
    credentials = tuple(Credential(100 * number + key, f"key {key}", f"{key:04d}", "sealed") for key in range(keys))
    return made(number, credentials=credentials, **options)


async def attempt(health: FleetHealth, target: Deployment, failure: Failure | None = None, **options: Any) -> Trial:
    """Make one; raises what keeps it from being made."""
    with await health.enter(target, **options) as trial:
        if failure is None:
            trial.answering()
            trial.succeeded()
        else:
            trial.failed(failure)
    return trial


async def attempts(health: FleetHealth, target: Deployment, number: int, failure: Failure | None = DOWN) -> None:
    for _ in range(number):
        await attempt(health, target, failure)


def state(health: FleetHealth, target: Deployment) -> BreakerState:
    return health.states([target]).deployments[0].state


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.005)


def in_a_row(health: FleetHealth, target: Deployment) -> int:
    return health.states([target]).deployments[0].failures_in_a_row


async def all_say(processes: list[FleetHealth], target: Deployment, wanted: BreakerState) -> None:
    await until(lambda: all(state(health, target) is wanted for health in processes))


# --- a process of its own -----------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def alone(fleet: Fleet, clock: Clock) -> FleetHealth:
    """Without Redis."""
    return await fleet(None, clock=clock, rules=BreakerRules(), keep_up_s=3600)


async def test_five_failures_in_a_row_open_it_and_it_says_for_how_long(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    await attempts(alone, target, 4)
    assert state(alone, target) is BreakerState.CLOSED
    await attempts(alone, target, 1)
    clock.at += 20
    with pytest.raises(BreakerOpen, match=r"open after 5 failures in a row \(server error\)") as refused:
        await alone.enter(target)
    assert (refused.value.retry_after_s, refused.value.may_be_last) == (40, False)
    with pytest.raises(BreakerOpen):
        alone.look(target, is_last=True)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FailureKind if kind.value in {"bad_request", "permission", "model_not_found", "rate_limited"}],
)
async def test_what_is_not_its_fault_neither_counts_nor_forgives(alone: FleetHealth, kind: FailureKind) -> None:
    target = deployment(keys=0)
    await attempts(alone, target, 4)
    await attempts(alone, target, 10, Failure(kind, "no", http_status=400))
    assert state(alone, target) is BreakerState.CLOSED
    await attempts(alone, target, 1)
    assert state(alone, target) is BreakerState.OPEN


async def test_a_success_forgives(alone: FleetHealth) -> None:
    target = deployment()
    await attempts(alone, target, 4)
    await attempt(alone, target)
    await attempts(alone, target, 4)
    assert state(alone, target) is BreakerState.CLOSED


async def test_successes_of_before_count_for_the_share(alone: FleetHealth, clock: Clock) -> None:
    """Nobody was told of them when they came: nothing was wrong then."""
    target = deployment()
    await attempts(alone, target, 30, None)
    for _ in range(15):
        clock.at += 0.1
        await attempt(alone, target, DOWN)
        await attempt(alone, target)
    assert state(alone, target) is BreakerState.CLOSED


async def test_a_share_of_failures_opens_it_but_not_for_who_has_nobody_else(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    for _ in range(10):
        clock.at += 0.1
        await attempt(alone, target)
        await attempt(alone, target, DOWN)
    with pytest.raises(BreakerOpen, match="after too many failures") as refused:
        alone.look(target)
    assert refused.value.may_be_last
    await attempt(alone, target, is_last=True)


async def test_one_request_may_try_after_a_minute_and_its_success_closes_it(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    await attempts(alone, target, 5)
    clock.at += 60
    with await alone.enter(target) as probe:
        assert state(alone, target) is BreakerState.HALF_OPEN
        with pytest.raises(BreakerOpen, match="another request is trying it now") as refused:
            await alone.enter(target)
        assert refused.value.retry_after_s == 1
        probe.answering()
        assert state(alone, target) is BreakerState.CLOSED, "with its first content: a stream may be long"
        probe.succeeded()
    assert alone.open_deployments == frozenset()


async def test_a_probe_that_fails_opens_it_for_another_minute(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    await attempts(alone, target, 5)
    clock.at += 60
    await attempt(alone, target, DOWN)
    clock.at += 59
    with pytest.raises(BreakerOpen):
        await alone.enter(target)
    clock.at += 1
    await attempt(alone, target)


@pytest.mark.parametrize("failure", [None, Failure(FailureKind.BAD_REQUEST, "no", http_status=400)])
async def test_a_probe_that_learned_nothing_gives_its_claim_back(
    alone: FleetHealth, clock: Clock, failure: Failure | None
) -> None:
    """Its caller left, or was refused for what it asked."""
    target = deployment()
    await attempts(alone, target, 5)
    clock.at += 60
    with await alone.enter(target) as probe:
        if failure:
            probe.failed(failure)
    assert state(alone, target) is BreakerState.OPEN
    assert (await alone.enter(target)).prober


async def test_the_operator_forces_it_open_and_closed_and_resets_it(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    with pytest.raises(BreakerOpen, match="an operator holds its circuit breaker open") as refused:
        await alone.enter(replace(target, breaker="open"))
    assert refused.value.retry_after_s is None
    forced = replace(target, breaker="closed")
    await attempts(alone, forced, 10)
    assert state(alone, target) is BreakerState.CLOSED, "failures are ignored"
    await attempts(alone, target, 5)
    await attempt(alone, forced)
    clock.at += 1
    reset = replace(target, breaker_reset_at=clock.at)
    assert state(alone, reset) is BreakerState.CLOSED
    clock.at += 1
    await attempts(alone, reset, 4)
    assert state(alone, reset) is BreakerState.CLOSED
    await attempts(alone, reset, 1)
    assert state(alone, reset) is BreakerState.OPEN


async def test_what_is_well_again_is_forgotten(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    await attempt(alone, target, DOWN)
    await attempt(alone, target)
    assert alone._board.entries
    clock.at += 40
    await alone.keep_up()
    assert alone._board.entries == {}


# --- keys ---------------------------------------------------------------------------------------------------------


def limited(retry_after_s: float | None = None) -> Failure:
    return Failure(FailureKind.RATE_LIMITED, "slow down", http_status=429, retry_after_s=retry_after_s)


REFUSED = Failure(FailureKind.AUTHENTICATION, "no such key", http_status=401)


async def used(health: FleetHealth, target: Deployment, number: int) -> list[str]:
    """The keys of so many attempts that succeed."""
    trials = [await attempt(health, target) for _ in range(number)]
    return [trial.credential.last4 for trial in trials if trial.credential]


async def test_keys_take_turns_and_one_that_is_limited_rests(alone: FleetHealth, clock: Clock) -> None:
    target = deployment(keys=3)
    assert await used(alone, target, 4) == ["0000", "0001", "0002", "0000"]
    trial = await attempt(alone, target, limited())
    assert trial.credential
    assert trial.credential.last4 == "0001"
    assert set(await used(alone, target, 4)) == {"0000", "0002"}
    clock.at += 5
    assert set(await used(alone, target, 3)) == {"0000", "0001", "0002"}


async def test_the_key_with_the_fewest_requests_under_way_is_taken(alone: FleetHealth) -> None:
    target = replace(deployment(keys=2), endpoint=endpoint(key_strategy="least_used"))
    with await alone.enter(target) as first, await alone.enter(target) as second:
        assert {trial.credential for trial in (first, second)} == set(target.credentials)
        with await alone.enter(target) as third:
            assert third.credential
    with await alone.enter(target) as held:
        assert all(trial.credential != held.credential for trial in [await attempt(alone, target) for _ in range(5)])


async def test_a_limit_is_that_of_one_model_and_a_refusal_that_of_the_key(alone: FleetHealth) -> None:
    target = deployment(keys=1)
    other = replace(deployment(), credentials=target.credentials)
    await attempt(alone, target, limited())
    await attempt(alone, other)
    await attempt(alone, other, REFUSED)
    for one in (target, other):
        with pytest.raises(KeysResting):
            await alone.enter(one)


async def test_when_all_rest_for_a_time_that_we_guessed_the_first_to_wake_is_the_last_resort(
    alone: FleetHealth, clock: Clock
) -> None:
    target = deployment(keys=2)
    first = await attempt(alone, target, limited())
    clock.at += 1
    await attempt(alone, target, limited())
    with pytest.raises(KeysResting, match=r"all its keys rest for another 4 s \(rate limited\)") as resting:
        await alone.enter(target)
    assert (resting.value.may_be_last, resting.value.failure.kind) == (True, FailureKind.RATE_LIMITED)
    trial = await attempt(alone, target, is_last=True)
    assert trial.credential == first.credential


async def test_when_all_rest_for_a_time_that_the_vendor_named_nobody_tries(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    await attempt(alone, target, limited(7.0))
    clock.at += 2
    with pytest.raises(
        KeysResting, match=r"its key rests for another 5 s \(rate limited, as the provider asked"
    ) as resting:
        await alone.enter(target, is_last=True)
    assert (resting.value.retry_after_s, resting.value.may_be_last) == (5, False)


async def test_a_key_that_this_request_had_refused_is_not_used_again(alone: FleetHealth) -> None:
    target = deployment(keys=2)
    first = await attempt(alone, target, limited(0.0))
    assert first.credential
    tried = {first.credential.id}
    assert alone.has_key(target, tried=tried)
    second = await attempt(alone, target, limited(0.0), tried=tried)
    assert second.credential
    assert second.credential.id not in tried
    assert not alone.has_key(target, tried=tried | {second.credential.id})
    with pytest.raises(KeysResting, match="no other key"):
        alone.look(target, tried=tried | {second.credential.id}, is_last=True)


async def test_a_key_that_never_left_the_house_does_not_rest(alone: FleetHealth) -> None:
    """It could not be decrypted here; that says nothing of it elsewhere."""
    target = deployment()
    await attempt(alone, target, replace(REFUSED, http_status=None, dispatched=False))
    await attempt(alone, target)


async def test_a_secret_that_was_replaced_begins_anew(alone: FleetHealth) -> None:
    target = deployment()
    await attempt(alone, target, REFUSED)
    [key] = target.credentials
    await attempt(alone, replace(target, credentials=(replace(key, sealed="another"),)))
    assert alone.states([target]).resting[0].kind == "authentication"


async def test_a_good_answer_makes_the_next_rest_short_again(alone: FleetHealth, clock: Clock) -> None:
    target = deployment()
    for wait_s in (5, 10):
        await attempt(alone, target, limited())
        assert alone.states([target]).resting[0].left_s == wait_s
        clock.at += wait_s
    await attempt(alone, target)
    await attempt(alone, target, limited())
    assert alone.states([target]).resting[0].left_s == 5


async def test_a_target_that_needs_no_key_has_none(alone: FleetHealth) -> None:
    target = deployment(keys=0)
    await attempts(alone, target, 1)
    assert (await attempt(alone, target)).credential is None


async def test_the_states_tell_everything(alone: FleetHealth, clock: Clock) -> None:
    well, broken, forced = deployment(), deployment(), deployment(breaker="open")
    await attempts(alone, broken, 5)
    await attempt(alone, well, limited())
    await attempt(alone, well, DOWN, is_last=True)
    clock.at += 2
    states = alone.states([well, broken, forced])
    assert [(one.state.value, one.is_forced, one.probe_in_s, one.failures_in_a_row) for one in states.deployments] == [
        ("closed", False, None, 1),
        ("open", False, 58, 0),
        ("open", True, None, 0),
    ]
    [key] = states.resting
    assert (key.credential, key.deployment, key.left_s, key.kind) == (well.credentials[0], well.name, 3, "rate_limited")


# --- several processes --------------------------------------------------------------------------------------------


async def test_four_processes_open_it_after_five_failures_in_total(fleet: Fleet) -> None:
    target, processes = deployment(), [await fleet(rules=BreakerRules()) for _ in range(4)]
    failures = 0
    for turn in range(40):
        try:
            await attempt(processes[turn % 4], target, DOWN)
        except BreakerOpen:
            continue
        failures += 1
        await asyncio.sleep(0.03)  # a request takes longer than a trip to Redis
    assert 4 <= failures <= 6
    await all_say(processes, target, BreakerState.OPEN)


async def test_a_success_in_another_process_forgives(fleet: Fleet) -> None:
    target, first, second = deployment(), await fleet(), await fleet()
    await attempts(first, target, 4)
    await until(lambda: in_a_row(second, target) > 0)
    await attempt(second, target)
    await until(lambda: in_a_row(first, target) == 0)
    await attempts(first, target, 4)
    assert state(first, target) is BreakerState.CLOSED


async def test_successes_of_other_processes_count_for_the_share(fleet: Fleet) -> None:
    """The first fails nine times of twelve; with what the second does, that is less than half."""
    target, first, second = deployment(), await fleet(), await fleet()
    await attempts(second, target, 30, None)
    await attempt(first, target, DOWN)
    await until(lambda: in_a_row(second, target) > 0)
    await attempt(second, target)
    await until(lambda: in_a_row(first, target) == 0)
    for _ in range(11):
        await attempts(first, target, 2)
        await attempt(first, target)
    assert state(first, target) is BreakerState.CLOSED


async def test_exactly_one_of_many_requests_in_four_processes_probes(fleet: Fleet) -> None:
    target, processes = deployment(), [await fleet() for _ in range(4)]
    await attempts(processes[0], target, 5)
    await all_say(processes, target, BreakerState.OPEN)
    await asyncio.sleep(SOON.open_s)
    found = await asyncio.gather(
        *(health.enter(target) for health in processes for _ in range(10)), return_exceptions=True
    )
    [probe] = [one for one in found if isinstance(one, Trial)]
    assert all(isinstance(one, BreakerOpen) for one in found if one is not probe)
    await all_say(processes, target, BreakerState.HALF_OPEN)
    with probe:
        probe.succeeded()
    await all_say(processes, target, BreakerState.CLOSED)


async def test_a_claim_is_renewed_while_its_prober_is_at_it(fleet: Fleet, redis: Any) -> None:
    target, first, second = deployment(), await fleet(keep_up_s=0.05), await fleet()
    await attempts(first, target, 5)
    await asyncio.sleep(SOON.open_s)
    with await first.enter(target):
        was = redis.hget(HASH, f"b{target.id}")
        await until(lambda: redis.hget(HASH, f"b{target.id}") != was)
        await until(lambda: state(second, target) is BreakerState.HALF_OPEN)


async def test_a_caller_who_leaves_while_its_claim_is_on_the_way_leaves_it_free(fleet: Fleet) -> None:
    target, health = deployment(), await fleet()
    await attempts(health, target, 5)
    await health._board.settled(within_s=PATIENCE_S)
    await asyncio.sleep(SOON.open_s)
    asking = asyncio.create_task(health.enter(target))
    await asyncio.sleep(0)  # the claim is on its way
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await health._board.settled(within_s=PATIENCE_S)
    assert (await health.enter(target)).prober


async def test_a_key_rests_in_all_processes(fleet: Fleet) -> None:
    target, first, second = deployment(keys=2), await fleet(), await fleet()
    resting = await attempt(first, target, limited(30.0))
    await until(lambda: bool(second.states([target]).resting))
    assert resting.credential
    assert set(await used(second, target, 4)) == {"0000", "0001"} - {resting.credential.last4}


async def test_who_comes_later_knows_what_the_others_know(fleet: Fleet) -> None:
    target = deployment()
    first = await fleet()
    await attempts(first, target, 5)
    await first._board.settled(within_s=PATIENCE_S)
    assert state(await fleet(), target) is BreakerState.OPEN


async def test_nothing_is_said_of_what_is_well(fleet: Fleet, redis: Any) -> None:
    redis.flushdb()
    health, target = await fleet(keep_up_s=3600), deployment(keys=2)
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    await attempts(health, target, 200, None)
    await asyncio.sleep(0.1)
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before
    assert redis.exists(HASH) == 0


async def test_many_successes_are_said_together(fleet: Fleet, redis: Any) -> None:
    health, target = await fleet(keep_up_s=3600), deployment()
    await attempt(health, target, DOWN)
    await health._board.settled(within_s=PATIENCE_S)
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(100):
        await attempt(health, target)
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 1 + (loop.time() - began) / LAZY_S


async def test_changes_at_the_same_time_are_all_made(fleet: Fleet) -> None:
    """Compare and set: whoever comes second builds on what the first has made."""
    target, processes = deployment(), [await fleet(rules=BreakerRules(row=1000, enough=1000)) for _ in range(4)]
    for health in processes:
        for _ in range(20):
            await attempt(health, target, DOWN)
    assert all(await asyncio.gather(*(health._board.settled(within_s=PATIENCE_S) for health in processes)))
    for health in processes:
        await health.keep_up()
    await until(lambda: all(in_a_row(one, target) == 80 for one in processes))


# --- when Redis goes away -----------------------------------------------------------------------------------------


async def test_without_redis_a_process_goes_by_its_own_failures(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    target, health = deployment(), await fleet("redis://127.0.0.1:1/0")
    await attempts(health, target, 5)
    assert state(health, target) is BreakerState.OPEN
    await asyncio.sleep(SOON.open_s)
    await attempt(health, target)
    assert state(health, target) is BreakerState.CLOSED
    assert "Redis does not answer" in caplog.text


async def test_no_attempt_waits_for_a_redis_that_stands_still(fleet: Fleet, valkey: Service, stalls: Stalls) -> None:
    target, health = deployment(), await fleet(keep_up_s=0.05)
    loop = asyncio.get_running_loop()
    with frozen(valkey):
        watch = stalls.watch()
        await attempts(health, target, 5)
        assert state(health, target) is BreakerState.OPEN
        assert watch.seconds < 0.05
        await asyncio.sleep(SOON.open_s)
        began, watch = loop.time(), stalls.watch()
        with pytest.raises(BreakerOpen):
            await health.enter(target)
        assert loop.time() - began > 0.05, "a claim is waited for"
        assert watch.seconds < 0.3, "but not for long"
        await until(lambda: health._board._is_alone)
        assert (await health.enter(target)).prober, "from now on it decides by itself"
    await until(lambda: not health._board._is_alone)


async def test_what_was_learned_alone_is_told_when_redis_is_back(fleet: Fleet, valkey: Service) -> None:
    target = deployment()
    first, second = await fleet(keep_up_s=0.05, rules=BreakerRules()), await fleet(keep_up_s=0.05)
    with frozen(valkey):
        await attempts(first, target, 5)
        await until(lambda: first._board._is_alone)
    await until(lambda: state(second, target) is BreakerState.OPEN)


async def test_an_entry_that_cannot_be_read_is_taken_for_none(fleet: Fleet, redis: Any) -> None:
    """Another version of the gateway may have written it."""
    target = deployment()
    redis.hset(HASH, f"b{target.id}", b"\xc1 not ours")
    health = await fleet()
    await attempts(health, target, 5)
    await health._board.settled(within_s=PATIENCE_S)
    assert state(await fleet(), target) is BreakerState.OPEN


async def test_a_hash_of_another_kind_is_told_as_unreachable(valkey: Service, redis: Any) -> None:
    redis.delete(HASH)
    redis.set(HASH, "text")
    shared = SharedHealth(valkey.url)
    with pytest.raises(HealthUnreachable, match="WRONGTYPE"):
        await shared.exchange([Swap("b1", b"", b"x")], tell=False, timeout_s=5)
    redis.delete(HASH)
    await shared.close()


async def test_entries_are_swapped_only_while_they_are_as_they_were_read(valkey: Service) -> None:
    shared = SharedHealth(valkey.url)
    name = f"b{next(numbers)}"
    assert (await shared.exchange([Swap(name, b"", b"1")], tell=True, timeout_s=5)).entries[name] == b"1"
    assert (await shared.exchange([Swap(name, b"", b"2")], tell=True, timeout_s=5)).entries[name] == b"1"
    assert (await shared.exchange([Swap(name, b"1", b"3")], tell=True, timeout_s=5)).entries[name] == b"3"
    assert name not in (await shared.exchange([Swap(name, b"3", b"")], tell=True, timeout_s=5)).entries
    await shared.close()
