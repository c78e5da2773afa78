"""Which circuit breakers their failures have opened, as all processes know it together."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from providers.domain.breaker import BreakerState
from providers.domain.types import Deployment
from providers.fleet.build import fleet_health
from providers.selectors import active_deployments


@dataclass(frozen=True, slots=True)
class BreakersSeen:
    """`is_open`: the last failure by the id of each deployment whose breaker is open; `known`: all that were asked
    about. A breaker that an operator holds is not among them: its failures decide nothing."""

    is_open: dict[int, str]
    known: frozenset[int]


def breakers_seen(*, now: datetime) -> BreakersSeen:
    """Without Redis nothing is known here. Needs a thread without an event loop."""
    deployments = [one for one in active_deployments(now=now).values() if not one.breaker]
    return asyncio.run(_seen(deployments)) if deployments else BreakersSeen({}, frozenset())


async def _seen(deployments: Iterable[Deployment]) -> BreakersSeen:
    health = fleet_health()
    await health.start()
    try:
        if not health.is_shared:
            return BreakersSeen({}, frozenset())
        standings = health.states(deployments).deployments
    finally:
        await health.close()
    return BreakersSeen(
        {one.deployment.id: one.last_failure for one in standings if one.state is not BreakerState.CLOSED},
        frozenset(one.deployment.id for one in standings),
    )
