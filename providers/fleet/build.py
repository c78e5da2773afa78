"""A `FleetHealth` as the settings say, for gateways and workers."""

from django.conf import settings

from providers.domain.breaker import BreakerRules
from providers.fleet.health import FleetHealth
from providers.fleet.shared import SharedHealth


def fleet_health() -> FleetHealth:
    """Not yet started."""
    return FleetHealth(
        SharedHealth(settings.REDIS_URL) if settings.REDIS_URL else None,
        rules=BreakerRules(row=settings.CIRCUIT_BREAKER_MAX_REQUESTS, open_s=settings.CIRCUIT_BREAKER_TIMEOUT),
    )
