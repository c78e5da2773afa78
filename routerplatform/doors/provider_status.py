"""How the providers do: GET /v1/providers/status for whoever has a key, GET /v1/health for anyone who asks.

Both tell what this process knows, which is what it goes by when it sends requests; neither asks a database.
"""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from providers.domain.breaker import BreakerState
from providers.domain.health import HealthState
from providers.fleet.states import DeploymentStanding, KeyStanding
from routerplatform.doors.exchange import Exchange
from routerplatform.gateway.errors import Forbidden
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routing.domain.config import ConfigSnapshot, Scope


async def provider_status(runtime: Runtime, exchange: Exchange) -> None:
    """Every provider with its deployments, their circuit breakers, and its keys. A key of any scope will do.

    :raises Unauthenticated: there is no valid key.
    """
    rows = provider_rows(runtime, exchange.credential())
    await exchange.reply(200, msgspec.json.encode({"object": "list", "data": rows}), [])


def provider_rows(runtime: Runtime, credential: str) -> list[dict[str, Any]]:
    """How each provider does, for whoever has a key: JSON values, by the names of their deployments.

    :raises Unauthenticated: there is no valid key.
    """
    snapshot = current_config(runtime)
    _authenticate(runtime, snapshot, credential)
    deployments = sorted(snapshot.deployments.values(), key=lambda one: one.name)
    states = runtime.health.states(deployments)
    by_provider: defaultdict[str, list[DeploymentStanding]] = defaultdict(list)
    for standing in states.deployments:
        by_provider[standing.deployment.endpoint.name].append(standing)
    return [_provider(standings, states.resting) for standings in by_provider.values()]


async def gateway_health(runtime: Runtime, exchange: Exchange) -> None:
    """Whether this gateway serves, and by which configuration."""
    is_well = not runtime.problem()
    body = {"status": "ok" if is_well else "unavailable", "config_revision": runtime.config.status().revision}
    await exchange.reply(200 if is_well else 503, msgspec.json.encode(body), [(b"cache-control", b"no-store")])


def _authenticate(runtime: Runtime, snapshot: ConfigSnapshot, credential: str) -> None:
    for scope in Scope:
        try:
            runtime.authenticator.caller(snapshot, credential, now=runtime.now(), scope=scope)
        except Forbidden:
            continue
        return
    raise Forbidden("This key has no scope at all. Ask your team lead for one that has.")


def _provider(standings: list[DeploymentStanding], resting: tuple[KeyStanding, ...]) -> dict[str, Any]:
    first = standings[0].deployment
    rests = [rest for rest in resting if rest.provider == first.endpoint.name]
    return {
        "object": "provider",
        "name": first.endpoint.name,
        "kind": first.endpoint.kind,
        "health": _health(standings),
        "deployments": [_deployment(standing) for standing in standings],
        "keys": [
            {
                "label": key.label,
                "last4": key.last4,
                "resting": [_rest(rest) for rest in rests if rest.credential.id == key.id],
            }
            for key in first.credentials
        ],
    }


def _health(standings: list[DeploymentStanding]) -> HealthState:
    """By its breakers: down when nothing of it can be asked."""
    closed = sum(standing.state is BreakerState.CLOSED for standing in standings)
    if closed == len(standings):
        return HealthState.HEALTHY
    return HealthState.DEGRADED if closed else HealthState.DOWN


def _deployment(standing: DeploymentStanding) -> dict[str, Any]:
    probe_in_s = standing.probe_in_s
    return {
        "deployment": standing.deployment.name,
        "model": standing.deployment.model,
        "breaker": standing.state,
        "forced": standing.is_forced,
        "next_probe_in_s": None if probe_in_s is None else round(probe_in_s, 1),
        "failures_in_a_row": standing.failures_in_a_row,
        "last_failure": standing.last_failure or None,
    }


def _rest(rest: KeyStanding) -> dict[str, Any]:
    return {
        "until": datetime.fromtimestamp(rest.until, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "reason": rest.kind,
        "deployment": rest.deployment or None,
    }
