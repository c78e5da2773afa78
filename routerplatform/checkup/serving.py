"""Whom the platform can ask, and whether its books are in order."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from django.conf import settings

from analytics.management.commands.ledger_status import ledger_state
from analytics.models import LedgerCheck
from analytics.selectors import ProviderState, provider_states
from providers.domain.breaker import BreakerState
from providers.domain.types import Deployment
from providers.fleet.build import fleet_health
from providers.fleet.states import FleetStates
from providers.models import Health
from providers.registry import PROVIDER_KINDS
from providers.selectors import active_deployments
from routerplatform.checkup.redis_place import redis_url
from routerplatform.management.findings import Finding, fail, ok, warn

CHECKED_WITHIN: Final = timedelta(hours=3)  # the worker checks every hour
MANY_UNSHIPPED: Final = 1000


def providers(now: datetime) -> Iterator[Finding]:
    states = [state for state in provider_states(now=now) if state.is_active]
    if not states:
        yield fail("providers", "None is active: nothing can be asked.", "Add one in the admin, or set OPENAI_API_KEY.")
        return
    deployments = active_deployments(now=now)
    for state in states:
        yield _provider(state)
    if not deployments:
        yield fail("providers", "No model can be asked.", "Deploy a model of a provider that has a key.")
        return
    yield from _out_of_service(list(deployments.values()))
    unpriced = sorted(one.name for one in deployments.values() if one.price is None)
    if unpriced:
        yield warn(
            "providers",
            f"{len(unpriced)} without a price, {unpriced[0]} among them: a hard budget refuses these.",
            "Enter prices in the admin, or run manage.py catalogue_load.",
        )


def _provider(state: ProviderState) -> Finding:
    kind = PROVIDER_KINDS.get(state.kind)
    name = f"{state.provider}: {state.deployments} models, {state.active_keys} keys, {state.health}"
    if kind is None:
        return fail("providers", f"{state.provider} is of a kind “{state.kind}” that is not there.", "Change its kind.")
    if kind.needs_key and not state.active_keys:
        return warn("providers", f"{state.provider} has no active key.", "Enter one, or switch the provider off.")
    if not state.deployments:
        return warn("providers", f"{state.provider} has no active model.", "Deploy one, or switch the provider off.")
    if state.health in {Health.DOWN, Health.DEGRADED}:
        at = f", {state.checked_at:%H:%M} UTC" if state.checked_at else ""
        return warn("providers", f"{name}{at}: {state.note}", "Use “Test connection” on its page in the admin.")
    return ok("providers", name)


def _out_of_service(deployments: list[Deployment]) -> Iterator[Finding]:
    """Open breakers and resting keys, as far as Redis or an operator knows of them."""
    states = asyncio.run(_states(deployments))
    shut = [one for one in states.deployments if one.state is not BreakerState.CLOSED]
    for one in shut:
        why = "an operator holds it open" if one.is_forced else one.last_failure or "failures"
        yield warn(
            "breakers",
            f"{one.deployment.name} is {one.state}: {why}.",
            "It is tried again by itself; an operator can reset it in the admin.",
        )
    for rest in states.resting:
        where = f" for {rest.deployment}" if rest.deployment else ""
        yield warn(
            "keys",
            f"The key …{rest.credential.last4} of {rest.provider} rests{where}: {rest.kind}.",
            "Look at its limits and quota at the provider.",
        )
    if shut and len(shut) == len(deployments):
        yield fail("breakers", "Nothing can be asked now: every circuit breaker is open.", "See what the failures say.")


async def _states(deployments: list[Deployment]) -> FleetStates:
    health = fleet_health(redis_url())
    await health.start()
    try:
        return health.states(deployments)
    finally:
        await health.close()


def ledger(now: datetime) -> Iterator[Finding]:
    state = ledger_state(Path(settings.JOURNAL_DIR))
    waiting = sum(journal.unshipped for journal in state.journals)
    left = [journal.owner for journal in state.journals if not journal.is_running and journal.size]
    if waiting > MANY_UNSHIPPED:
        yield warn("ledger", f"{waiting} settled requests wait in journals.", "See that the database takes them.")
    else:
        yield ok("ledger", f"{len(state.journals)} journals, {waiting} settled requests wait in them.")
    if left:
        yield warn("ledger", f"{len(left)} journals of stopped gateways are not adopted yet.", "Start a worker.")
    if state.rejected:
        yield fail(
            "ledger",
            f"{state.rejected} files of records that no database took.",
            "Run manage.py ledger_status --retry-rejected, and read the log if they stay.",
        )
    last = LedgerCheck.objects.order_by("-at").first()
    if last is None:
        yield warn("ledger", "It was never verified.", "Run manage.py ledger_verify; the worker does it every hour.")
    elif last.difference_count:
        yield fail(
            "ledger",
            f"The check of {last.at:%Y-%m-%d %H:%M} UTC found {last.difference_count} differences.",
            "Run manage.py ledger_verify and see docs/ledger.md.",
        )
    elif now - last.at > CHECKED_WITHIN:
        yield warn("ledger", f"Last verified {last.at:%Y-%m-%d %H:%M} UTC.", "See that worker and beat run.")
    else:
        yield ok("ledger", f"Verified at {last.at:%H:%M} UTC: in order.")
