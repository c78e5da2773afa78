"""Circuit breakers as figures for Prometheus."""

from collections.abc import Callable, Iterable
from typing import Final

from providers.domain.breaker import BreakerState
from providers.fleet.health import FleetHealth
from routing.config_store import ConfigStore, ConfigUnavailable

LEVELS: Final = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 1.0, BreakerState.OPEN: 2.0}


def breaker_levels(config: ConfigStore, health: FleetHealth) -> Callable[[], Iterable[tuple[str, str, float]]]:
    """Gives (provider, model, level) of every configured deployment; the worst where a provider has a model twice.

    May be asked by any thread.
    """

    def levels() -> Iterable[tuple[str, str, float]]:
        try:
            deployments = config.current().deployments.values()
        except ConfigUnavailable:
            return []
        found: dict[tuple[str, str], float] = {}
        for standing in health.states(deployments).deployments:
            of = standing.deployment.endpoint.name, standing.deployment.model
            found[of] = max(found.get(of, 0.0), LEVELS[standing.state])
        return [(provider, model, level) for (provider, model), level in found.items()]

    return levels
