"""How much room a deployment has left, as a process knows it without asking."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.domain.types import Deployment, RateLimit
from routerplatform.embedded import Service
from routerplatform.gateway.errors import RateLimited
from routerplatform.gateway.rate_limits import Permit, RateLimits
from routerplatform.gateway.shared_counters import SharedCounters
from routing.domain.config import Strategy
from routing.domain.decision import decide
from tests.gateway_path.situation_parts import Clock, config_of, parts, rules_of
from tests.routing.domain.build import caller, deployment, request
from tests.valkeys import own_valkey


@asynccontextmanager
async def counting(clock: Clock, url: str = "", **options: Any) -> AsyncIterator[RateLimits]:
    limits = RateLimits(SharedCounters(url) if url else None, clock=clock, **options)
    await limits.start()
    yield limits
    await limits.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Service]:
    with own_valkey(tmp_path) as service:
        yield service


def limited(**limit: int) -> Deployment:
    return deployment(1, "swift", rate_limit=RateLimit(**limit))


async def attempt(limits: RateLimits, at: Deployment, member: str = "one") -> Permit:
    asked = request(max_tokens=100)  # and 100 of the prompt
    rules = rules_of()
    plan = decide(config_of(rules), caller(), asked)
    permit = await limits.enter(caller(), plan, asked, aliases={}, member=member)
    await permit.attempt(at, "swift")
    return permit


async def test_without_limits_and_before_the_first_attempt_there_is_all_of_it() -> None:
    async with counting(Clock()) as limits:
        assert limits.headroom(deployment(1)) == 1.0
        assert limits.headroom(limited(rpm=10)) == 1.0


async def test_requests_use_it_up_and_it_comes_back_over_a_minute() -> None:
    clock = Clock()
    async with counting(clock) as limits:
        for member in ("one", "two", "three"):
            (await attempt(limits, limited(rpm=4), member)).settle(10)
        assert limits.headroom(limited(rpm=4)) == pytest.approx(0.25)
        clock.now += 30
        assert limits.headroom(limited(rpm=4)) == pytest.approx(1 - 0.75 / 2, abs=0.01)
        clock.now += 40
        assert limits.headroom(limited(rpm=4)) == 1.0


async def test_the_tightest_limit_counts() -> None:
    async with counting(Clock()) as limits:
        await attempt(limits, limited(rpm=10, tpm=1_000))
        assert limits.headroom(limited(rpm=10, tpm=1_000)) == pytest.approx(0.8)  # 200 of 1,000 tokens


async def test_slots_come_back_when_their_requests_end() -> None:
    async with counting(Clock()) as limits:
        permits = [await attempt(limits, limited(max_parallel=2), member) for member in ("one", "two")]
        assert limits.headroom(limited(max_parallel=2)) == 0.0
        with pytest.raises(RateLimited):
            await attempt(limits, limited(max_parallel=2), "three")
        assert limits.headroom(limited(max_parallel=2)) == 0.0
        permits[0].settle(0)
        assert limits.headroom(limited(max_parallel=2)) == pytest.approx(0.5)
        permits[1].settle(0)
        assert limits.headroom(limited(max_parallel=2)) == 1.0


async def test_a_process_that_counts_alone_goes_by_its_share() -> None:
    async with counting(Clock(), processes=5) as limits:
        await attempt(limits, limited(rpm=10))
        assert limits.headroom(limited(rpm=10)) == pytest.approx(0.5)


async def test_what_others_have_taken_is_heard_of_with_the_next_attempt(valkey: Service) -> None:
    clock = Clock()
    async with counting(clock, valkey.url, trip_s=10.0) as here, counting(clock, valkey.url, trip_s=10.0) as there:
        for member in ("one", "two", "three"):
            await attempt(there, limited(rpm=10), member)
        assert here.headroom(limited(rpm=10)) == 1.0
        await attempt(here, limited(rpm=10), "four")
        assert here.headroom(limited(rpm=10)) == pytest.approx(0.6)


async def test_a_policy_that_goes_by_headroom_goes_where_there_is_most() -> None:
    own = parts()
    config = config_of(rules_of(strategy=Strategy.USAGE_BASED))
    swift = config.aliases["swift"].deployments[0]
    found = await own.of(config, request())
    assert decide(config, caller(), request(), found).targets[0].name == "alpha/sage"  # equals go by name
    assert found.standing(swift).headroom == 1.0
