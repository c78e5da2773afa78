"""`python -m benchmarks.rate_limits`: CPU that rate limits cost a request in its gateway process, and in Redis.

Requests enter and are settled, and do nothing between: what is measured is the limits alone, both trips included. Redis
is a Valkey of the run's own, on loopback.
"""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import uvloop
from redis import Redis

from providers.domain.conversation import Conversation
from providers.domain.types import ChatRequest, PromptDefaults, RateLimit
from routerplatform.embedded import running, start_valkey
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.shared_counters import SharedCounters
from routing.domain.config import Caller
from routing.domain.decision import RoutePlan

PLAN = RoutePlan((), (), (), "auto", persona="", policy="default", how="", defaults=PromptDefaults())
REQUEST = ChatRequest(
    model="auto", stream=False, wire=None, fields={}, conversation=lambda: Conversation(()), needs=frozenset(),
    input_tokens_bound=1_300, input_tokens_estimate=300, max_tokens=500,
)  # fmt: skip
PLENTY = 1_000_000_000
RPM, ALL = RateLimit(rpm=PLENTY), RateLimit(PLENTY, PLENTY, PLENTY)
CASES = {
    "no limit": (None, None),
    "requests of the key": (RPM, None),
    "all three of the key": (ALL, None),
    "all three of key and team": (ALL, ALL),
}
ids = count()


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU per request."""

    gateway_us: float
    redis_us: float


def caller(key: RateLimit | None, team: RateLimit | None) -> Caller:
    return Caller(
        key_id=next(ids), key_prefix="", key_name="bench", team_id=next(ids), team_name="bench", scopes=frozenset(),
        allowed_aliases=frozenset(), expires_at=None, revoked_at=None, team_active=True, key_limit=key, team_limit=team,
    )  # fmt: skip


async def measure(url: str, who: Caller, *, connections: int, requests: int) -> Cost:
    """The whole of `requests`, so many at a time. An empty URL counts in memory."""
    limits = RateLimits(SharedCounters(url) if url else None)
    await limits.start()

    async def one_after_the_other() -> None:
        for _ in range(requests // connections):
            permit = await limits.enter(
                who, PLAN, REQUEST, aliases={}, member=f"01a1f9b9-b3a7-7931-abb6-{next(ids):012}"
            )
            await asyncio.sleep(0)
            permit.settle(450)

    redis_s, cpu_s = _redis_cpu_s(url), time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(connections)))
    gateway_us, redis_us = (time.process_time() - cpu_s) * 1e6, (_redis_cpu_s(url) - redis_s) * 1e6
    await limits.close()
    return Cost(gateway_us / requests, redis_us / requests)


def _redis_cpu_s(url: str) -> float:
    if not url:
        return 0.0
    with Redis.from_url(url) as redis:
        used = redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(start_valkey(Path(folder))) as valkey:
        print(f"{'CPU per request, us':30}{'at once':>9}{'gateway':>9}{'Redis':>9}{'alone':>9}")
        for what, limits in CASES.items():
            for connections in (1, 32, 128):
                sizes = {"connections": connections, "requests": 1_920 if connections == 1 else 12_800}
                runs = [uvloop.run(measure(valkey.url, caller(*limits), **sizes)) for _ in range(3)]
                best = min(runs, key=lambda cost: cost.gateway_us)
                alone = min(uvloop.run(measure("", caller(*limits), **sizes)).gateway_us for _ in range(2))
                print(f"{what:30}{connections:>9}{best.gateway_us:>9.1f}{best.redis_us:>9.1f}{alone:>9.1f}")


if __name__ == "__main__":
    main()
