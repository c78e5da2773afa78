"""Decide which deployments serve a request, in which order, and why. Pure and deterministic."""

from dataclasses import dataclass
from typing import Any

from providers.domain.types import NO_DEFAULTS, Capability, ChatRequest, Deployment, PromptDefaults
from routing.domain.config import USUAL_CACHE, Alias, CacheRule, Caller, ConfigSnapshot, Persona, Policy
from routing.domain.eligibility import Demand, demand_of, estimated_cost_nano, reason_to_skip

AUTO = "auto"


class NoRoute(Exception):
    """Nothing can serve the request. `considered` says what was looked at and why each was left out."""

    def __init__(self, message: str, considered: tuple["Considered", ...] = ()) -> None:
        super().__init__(message)
        self.considered = considered


class UnknownModel(NoRoute):
    """The caller named a model or persona that does not exist or that its key may not use; `param` says which."""

    def __init__(self, message: str, *, param: str = "model") -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate of a decision. `reason` is empty for those that can serve."""

    deployment: str
    alias: str
    verdict: str  # "chosen" | "fallback" | "skipped"
    reason: str
    estimated_cost_nano: int | None


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where a request goes: the first target serves, the others are fallbacks in order; never empty. `aliases` are the
    names through which each of them was found."""

    targets: tuple[Deployment, ...]
    considered: tuple[Considered, ...]
    requested: str
    persona: str
    policy: str
    how: str  # in words: what the name that the caller sent was taken for
    defaults: PromptDefaults
    cache: CacheRule = USUAL_CACHE

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(one.alias for one in self.considered if one.verdict != "skipped")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a model name stands for: the candidates in order, and the rules that go with them."""

    how: str
    candidates: tuple[tuple[str, Deployment], ...]  # (alias, deployment)
    policy: Policy | None = None
    persona: Persona | None = None


def decide(snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest) -> RoutePlan:
    """Choose the targets of a request.

    :raises UnknownModel: the name means nothing here, or nothing that this key may use.
    :raises NoRoute: there are candidates, but none can serve this request.
    """
    choice = _choice(snapshot, request)
    allowed = [(alias, d) for alias, d in choice.candidates if _may_use(caller, alias)]
    if choice.candidates and not allowed:
        raise UnknownModel(f"This key may not use the model “{request.model}”.")
    defaults = choice.persona.defaults if choice.persona else NO_DEFAULTS
    required = choice.persona.required if choice.persona else frozenset()
    max_tokens = request.max_tokens or defaults.max_tokens
    demand = demand_of(request, required=required, policy=choice.policy, max_tokens=max_tokens)
    targets, considered = _weigh(_without_repeats(allowed), demand)
    if not targets:
        raise NoRoute(_nothing_fits(choice, considered), considered)
    return RoutePlan(
        targets=targets,
        considered=considered,
        requested=request.model,
        persona=choice.persona.slug if choice.persona else "",
        policy=choice.policy.name if choice.policy else "",
        how=choice.how,
        defaults=defaults,
        cache=choice.policy.cache if choice.policy else USUAL_CACHE,
    )


def explanation(plan: RoutePlan) -> dict[str, Any]:
    """Why this route, as JSON: for the usage record, the request page and the playground."""
    return {
        "requested": plan.requested,
        "how": plan.how,
        "persona": plan.persona,
        "policy": plan.policy,
        "strategy": "priority",
        "candidates": [
            {
                "deployment": considered.deployment,
                "alias": considered.alias,
                "verdict": considered.verdict,
                "reason": considered.reason,
                "estimated_cost_nano": considered.estimated_cost_nano,
            }
            for considered in plan.considered
        ],
    }


def visible_models(snapshot: ConfigSnapshot, caller: Caller) -> list[Alias]:
    """The aliases that this caller may name and that have a deployment, by name."""
    aliases = (alias for alias in snapshot.aliases.values() if alias.deployments and _may_use(caller, alias.name))
    return sorted(aliases, key=lambda alias: alias.name)


def chats(alias: Alias) -> bool:
    """Whether there is anything behind it that answers in words: models for embeddings do not."""
    return any(Capability.EMBEDDINGS not in deployment.capabilities for deployment in alias.deployments)


def _choice(snapshot: ConfigSnapshot, request: ChatRequest) -> _Choice:
    """What the caller's names mean. A persona sets prompt and policy; a model beside it still picks the model."""
    model = request.model or AUTO
    persona = _persona_named(snapshot, request.persona or (model if model in snapshot.personas else ""))
    if persona and model in {AUTO, persona.slug}:
        return _by_policy(persona.policy, persona, f"persona “{persona.slug}” follows policy “{persona.policy.name}”")
    if model == AUTO:
        if snapshot.default_policy is None:
            raise NoRoute("“auto” needs a default policy, and none is set. Mark a routing policy as default.")
        policy = snapshot.default_policy
        return _by_policy(policy, None, f"“auto” follows the default policy “{policy.name}”")
    alias = snapshot.aliases.get(model)
    if alias:
        return _Choice(f"model alias “{model}”", tuple((alias.name, d) for d in alias.deployments), persona=persona)
    deployment = snapshot.deployments.get(model)
    if deployment:
        return _Choice(f"pinned to “{model}”", ((model, deployment),), persona=persona)
    raise UnknownModel(f"The model “{model}” does not exist. GET /v1/models lists what you can name.")


def _persona_named(snapshot: ConfigSnapshot, slug: str) -> Persona | None:
    if not slug:
        return None
    persona = snapshot.personas.get(slug)
    if persona is None:
        raise UnknownModel(f"The persona “{slug}” does not exist. GET /api/v1/personas lists them.", param="persona")
    return persona


def _by_policy(policy: Policy, persona: Persona | None, how: str) -> _Choice:
    candidates = tuple((c.alias.name, deployment) for c in policy.candidates for deployment in c.alias.deployments)
    return _Choice(how, candidates, policy, persona)


def _may_use(caller: Caller, alias: str) -> bool:
    return not caller.allowed_aliases or alias in caller.allowed_aliases


def _without_repeats(candidates: list[tuple[str, Deployment]]) -> list[tuple[str, Deployment]]:
    """Two aliases may share a deployment: it is tried once, at its first place."""
    first: dict[int, tuple[str, Deployment]] = {}
    for alias, deployment in candidates:
        first.setdefault(deployment.id, (alias, deployment))
    return list(first.values())


def _weigh(
    candidates: list[tuple[str, Deployment]], demand: Demand
) -> tuple[tuple[Deployment, ...], tuple[Considered, ...]]:
    targets: list[Deployment] = []
    considered: list[Considered] = []
    for alias, deployment in candidates:
        cost = estimated_cost_nano(deployment, demand)
        reason = reason_to_skip(deployment, demand, cost)
        verdict = "skipped" if reason else "fallback" if targets else "chosen"
        considered.append(Considered(deployment.name, alias, verdict, reason, cost))
        if not reason:
            targets.append(deployment)
    return tuple(targets), tuple(considered)


def _nothing_fits(choice: _Choice, considered: tuple[Considered, ...]) -> str:
    if not considered:
        return f"No active deployment can serve this: {choice.how}, which has no active model behind it."
    reasons = "; ".join(f"{c.deployment}: {c.reason}" for c in considered[:5])
    return f"No model can serve this request ({choice.how}). {reasons}."
