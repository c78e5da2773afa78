"""The tiny call: whether a deployment whose breaker is open answers again, where no request comes to find out.

A few tokens long, through the same wires and the same way out as a request; it stands on no record.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from providers.domain.errors import FailureKind, ProviderError
from providers.domain.out_of_service import OutOfService
from providers.domain.types import Deployment
from providers.fleet.build import fleet_health
from providers.fleet.health import FleetHealth
from providers.selectors import active_deployments
from providers.tiny_call import ask
from providers.transport import Transport
from providers.wires import UnsupportedFeature

UNTRIED_S: Final = 5.0  # a request that comes meanwhile finds out for nothing
PROBE_WITHIN_S: Final = 20.0
# Whoever refuses what was asked has read it.
ANSWERS: Final = {
    FailureKind.BAD_REQUEST,
    FailureKind.UNSUPPORTED,
    FailureKind.CONTEXT_TOO_LONG,
    FailureKind.CONTENT_FILTERED,
}

logger = logging.getLogger(__name__)


def breakers_probe(*, now: datetime, untried_s: float = UNTRIED_S) -> int:
    """Try the deployments that are due and that nobody has tried for a while; returns how many. Two runs share them.

    Without Redis nothing is known here, and nothing is done. Needs a thread without an event loop.
    """
    if not asyncio.run(_open_deployments()):
        return 0
    return asyncio.run(_probe_due(active_deployments(now=now).values(), untried_s))


async def _open_deployments() -> frozenset[int]:
    health = fleet_health()
    await health.start()
    try:
        return health.open_deployments
    finally:
        await health.close()


async def _probe_due(deployments: Iterable[Deployment], untried_s: float) -> int:
    health, transport = fleet_health(), Transport()
    await health.start()
    try:
        due = health.due(deployments, for_s=untried_s)
        return sum(await asyncio.gather(*(_probe(health, transport, deployment) for deployment in due)))
    finally:
        await transport.close()
        await health.close()


async def _probe(health: FleetHealth, transport: Transport, deployment: Deployment) -> bool:
    """Whether it was tried: another may have been faster, or all its keys rest."""
    try:
        trial = await health.enter(deployment)
    except OutOfService:
        return False
    with trial:
        if not trial.prober:  # a request has just closed it
            return False
        try:
            await ask(transport, trial.deployment, trial.credential, timeout_s=PROBE_WITHIN_S)
            trial.succeeded()
        except ProviderError as error:
            logger.info("circuit breaker of %s: tried, %s", deployment.name, error)
            if error.failure.kind in ANSWERS:
                trial.succeeded()
            else:
                trial.failed(error.failure)
        except UnsupportedFeature:
            return False
    return True
