"""A `FleetHealth` as the settings say, for gateways and workers."""

from django.conf import settings

from providers.domain.breaker import BreakerRules
from providers.fleet.health import FleetHealth
from providers.fleet.shared import SharedHealth


def fleet_health(redis_url: str = "") -> FleetHealth:
    """Not yet started. `redis_url` is for a command that was not told of the Redis that the processes share."""
    url = redis_url or settings.REDIS_URL
    return FleetHealth(
        SharedHealth(url) if url else None,
        rules=BreakerRules(row=settings.CIRCUIT_BREAKER_MAX_REQUESTS, open_s=settings.CIRCUIT_BREAKER_TIMEOUT),
    )
