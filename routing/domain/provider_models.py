"""What a provider's name stands for when it is sent as “model”: all that the provider serves, the best first. Pure."""

from collections.abc import Mapping

from providers.domain.types import Deployment
from routing.domain.config import Alias, Candidate, ConfigSnapshot
from routing.domain.situation import TIER_QUALITY

Named = tuple[Candidate | None, str, Deployment]
"""(of a policy, alias, deployment): as `decision.Choice` holds them."""


def provider_names(snapshot: ConfigSnapshot) -> list[str]:
    """The providers that have something to serve, by name."""
    return sorted({deployment.endpoint.name for deployment in snapshot.deployments.values()})


def models_of_provider(snapshot: ConfigSnapshot, name: str) -> tuple[Named, ...]:
    """What the provider called `name` serves, or, without one, the providers of this kind; empty for neither.

    What the default policy names comes first, in its order; the rest by cost tier, the dearest first, then by name.
    Each under the alias that a key must be allowed to use; what no alias leads to, under its own name.
    """
    deployments = [one for one in snapshot.deployments.values() if one.endpoint.name == name]
    if not deployments:
        deployments = [one for one in snapshot.deployments.values() if one.endpoint.kind == name]
    wanted = {deployment.name for deployment in deployments}
    found = [
        (None, alias.name, deployment)
        for alias in snapshot.aliases.values()
        for deployment in alias.deployments
        if deployment.name in wanted
    ]
    reached = {deployment.name for _, _, deployment in found}
    found += [(None, one.name, one) for one in deployments if one.name not in reached]
    places = _places(snapshot)
    return tuple(sorted(found, key=lambda one: _rank(one[1], one[2], places)))


def _places(snapshot: ConfigSnapshot) -> Mapping[str, int]:
    """The place of each alias in the default policy."""
    policy = snapshot.default_policy
    aliases: list[Alias] = [candidate.alias for candidate in policy.candidates] if policy else []
    return {alias.name: place for place, alias in reversed(list(enumerate(aliases)))}


def _rank(alias: str, deployment: Deployment, places: Mapping[str, int]) -> tuple[int, float, str, str]:
    quality = TIER_QUALITY.get(deployment.cost_tier, TIER_QUALITY["standard"])
    return places.get(alias, len(places)), -quality, deployment.name, alias
