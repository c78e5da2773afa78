"""Decide which deployments serve a request, in which order, and why. Pure and deterministic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import Struct

from providers.domain.types import NO_DEFAULTS, Capability, ChatRequest, Deployment, PromptDefaults
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import (
    BY_QUALITY,
    USUAL_CACHE,
    Alias,
    CacheRule,
    Caller,
    Candidate,
    ConfigSnapshot,
    Escalation,
    Persona,
    Policy,
    Strategy,
    TaskType,
)
from routing.domain.eligibility import Demand, demand_of, estimated_cost_nano, reason_to_skip
from routing.domain.ladder import Step, refusal_of, step_of
from routing.domain.provider_models import models_of_provider
from routing.domain.situation import NO_SITUATION, Situation
from routing.domain.splits import Arm, arm_of
from routing.domain.strategies import STRATEGIES
from routing.domain.strategies.by_cost import cheapest_first
from routing.domain.strategies.protocol import Occasion, Option, OrderingStrategy

AUTO = "auto"
NO_STEP: Final = Step()


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


class LadderRefusal(NoRoute):
    """The policy refuses because a budget is used up so far."""


class Considered(Struct, frozen=True, gc=False):
    """One candidate of a decision. `reason` is empty for those that can serve; what was not looked at is None.

    `score` is the number that the strategy went by, `quality` the expected share of good answers.
    """

    deployment: str
    alias: str
    verdict: str  # "chosen" | "fallback" | "skipped"
    reason: str
    estimated_cost_nano: int | None
    quality: float | None = None
    quality_basis: str = ""
    latency_ms: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where a request goes: the first target serves, the others are fallbacks in order; never empty. `aliases` are the
    names through which each of them was found.

    `arm` is the side of an experiment or a rollout that the request is on; `step` what the policy does because a
    budget fills. `sticks` says that the target was kept because it has answered this conversation.
    """

    targets: tuple[Deployment, ...]
    aliases: tuple[str, ...]
    considered: tuple[Considered, ...]
    requested: str
    persona: str
    policy: str
    how: str  # in words: what the name that the caller sent was taken for
    defaults: PromptDefaults
    cache: CacheRule = USUAL_CACHE
    policy_version: int = 0
    strategy: Strategy = Strategy.PRIORITY
    task: Classification | None = None
    task_type: TaskType = TaskType.ANY
    rule: str = ""
    arm: str = ""
    step: Step = NO_STEP
    sticks: bool = False
    escalate_on: frozenset[Escalation] = frozenset()
    followed: Policy | None = None  # the rules that decided, of a request that a policy routes
    template: str = ""  # what filled-in prompt templates are called: “welcome@3”


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model name stands for: the candidates in order, and the rules that go with them."""

    how: str
    candidates: tuple[tuple[Candidate | None, str, Deployment], ...]  # (of the policy, alias, deployment)
    policy: Policy | None = None
    persona: Persona | None = None
    arm: str = ""


def decide(
    snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation = NO_SITUATION
) -> RoutePlan:
    """Choose the targets of a request.

    :raises UnknownModel: the name means nothing here, or nothing that this key may use.
    :raises LadderRefusal: a budget is so full that the policy refuses.
    :raises NoRoute: there are candidates, but none can serve this request.
    """
    return decide_as(chosen(snapshot, caller, request, situation), snapshot, caller, request, situation)


def decide_as(
    choice: Choice, snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation
) -> RoutePlan:
    """Choose among the candidates of `choice`; raises as `decide`."""
    policy, persona = choice.policy, choice.persona
    candidates = _with_rule(choice, snapshot, situation)
    allowed = [one for one in candidates if _may_use(caller, one[1])] if caller.allowed_aliases else candidates
    if candidates and not allowed:
        raise UnknownModel(f"This key may not use the model “{request.model}”.")
    step = step_of(policy.ladder, situation.budget_used) if policy and policy.ladder else NO_STEP
    if step.refuses:
        raise LadderRefusal(refusal_of(policy.name if policy else "", situation.budget_used))
    defaults = _with_system(persona.defaults if persona else NO_DEFAULTS, request.system)
    required = persona.required if persona else frozenset()
    demand = demand_of(
        request,
        required=required,
        policy=policy,
        max_tokens=step.capped(request.max_tokens or defaults.max_tokens),
        situation=situation,
    )
    fits, skipped = _sifted(_without_repeats(allowed), demand, policy, situation)
    if not fits:
        raise NoRoute(_nothing_fits(choice, skipped), skipped)
    ordered, sticks = _ordered(fits, policy, situation, step)
    return RoutePlan(
        targets=tuple([option.deployment for option in ordered]),  # lists: a third of what generators cost
        aliases=tuple([option.alias for option in ordered]),
        considered=(*_looked_at(ordered, policy), *skipped),
        requested=request.model,
        persona=persona.slug if persona else "",
        policy=policy.name if policy else "",
        how=choice.how,
        defaults=defaults,
        cache=policy.cache if policy else USUAL_CACHE,
        policy_version=policy.version if policy else 0,
        strategy=policy.strategy if policy else Strategy.PRIORITY,
        task=situation.task if policy else None,
        task_type=task_of(situation) if policy else TaskType.ANY,
        rule=situation.rule.name if policy and situation.rule else "",
        arm=choice.arm,
        step=step,
        sticks=sticks,
        escalate_on=policy.escalate_on if policy else frozenset(),
        followed=policy,
        template=request.template,
    )


def _with_system(defaults: PromptDefaults, system: str) -> PromptDefaults:
    """What a template says to the model comes behind what the persona says."""
    if not system:
        return defaults
    own = defaults.system_prompt
    return replace(defaults, system_prompt=f"{own}\n\n{system}" if own else system)


def visible_models(snapshot: ConfigSnapshot, caller: Caller) -> list[Alias]:
    """The aliases that this caller may name and that have a deployment, by name."""
    aliases = (alias for alias in snapshot.aliases.values() if alias.deployments and _may_use(caller, alias.name))
    return sorted(aliases, key=lambda alias: alias.name)


def chats(alias: Alias) -> bool:
    """Whether there is anything behind it that answers in words: models for embeddings do not."""
    return any(Capability.EMBEDDINGS not in deployment.capabilities for deployment in alias.deployments)


# --- what a name stands for ---------------------------------------------------------------------------------------


def policy_named(snapshot: ConfigSnapshot, request: ChatRequest) -> tuple[Policy | None, Persona | None]:
    """The policy that the caller's names lead to, before any experiment or task; None for a model's own name.

    :raises NoRoute: “auto” without a default policy, a persona that does not exist.
    """
    model = request.model or AUTO
    persona = _persona_named(snapshot, request.persona or (model if model in snapshot.personas else ""))
    if persona and model in {AUTO, persona.slug}:
        return persona.policy, persona
    if model == AUTO:
        if snapshot.default_policy is None:
            raise NoRoute("“auto” needs a default policy, and none is set. Mark a routing policy as default.")
        return snapshot.default_policy, None
    return None, persona


def chosen(snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation) -> Choice:
    """What the caller's names mean. A persona sets prompt and policy; a model beside it still picks the model. The name
    of a provider, where nothing else is called so, stands for all its models, and for nobody else's.

    :raises NoRoute: as `policy_named`; a model that does not exist.
    """
    policy, persona = policy_named(snapshot, request)
    if policy is not None:
        named = f"persona “{persona.slug}”" if persona else "“auto”"
        how = f"{named} follows {'' if persona else 'the default '}policy “{policy.name}”"
        return followed(policy, snapshot, caller, situation, persona=persona, how=how)
    model = request.model
    alias = snapshot.aliases.get(model)
    if alias:
        return Choice(f"model alias “{model}”", tuple((None, alias.name, d) for d in alias.deployments), None, persona)
    deployment = snapshot.deployments.get(model)
    if deployment:
        return Choice(f"pinned to “{model}”", ((None, model, deployment),), None, persona)
    of_provider = models_of_provider(snapshot, model)
    if of_provider:
        return Choice(f"the best model of provider “{model}”", of_provider, None, persona)
    raise UnknownModel(f"The model “{model}” does not exist. GET /v1/models lists what you can name.")


def followed(
    policy: Policy,
    snapshot: ConfigSnapshot,
    caller: Caller,
    situation: Situation,
    *,
    persona: Persona | None = None,
    how: str,
) -> Choice:
    """The candidates of `policy`: by the policy for this kind of work, if it hands over to one, and by the side of an
    experiment or rollout that the request is on."""
    task = task_of(situation)
    special = handed_over(policy, snapshot, task)
    if special is not policy:
        policy, how = special, f"{how}, which for {task} hands over to policy “{special.name}”"
    arm = arm_of(policy, caller, situation) if policy.variants else Arm(policy)
    candidates = tuple([(c, c.alias.name, d) for c in arm.policy.candidates for d in c.alias.deployments])
    return Choice(how, candidates, arm.policy, persona, arm.name)


def handed_over(policy: Policy, snapshot: ConfigSnapshot, task: TaskType) -> Policy:
    """The policy that serves this kind of work: itself, unless it goes “by kind of work” and prefers no model for it
    while another policy is made for it."""
    if policy.strategy is not Strategy.TASK_BASED:
        return policy
    special = snapshot.task_policies.get(task)
    if special is None or any(one.task_type is task for one in policy.candidates):
        return policy
    return special


def task_of(situation: Situation) -> TaskType:
    """The kind of work: what an operator's rule says of it, else the classifier."""
    if situation.rule is not None and situation.rule.task_type is not None:
        return situation.rule.task_type
    return situation.task.label if situation.task is not None else TaskType.ANY


def _persona_named(snapshot: ConfigSnapshot, slug: str) -> Persona | None:
    if not slug:
        return None
    persona = snapshot.personas.get(slug)
    if persona is None:
        raise UnknownModel(f"The persona “{slug}” does not exist. GET /api/v1/personas lists them.", param="persona")
    return persona


Found = tuple[Candidate | None, str, Deployment]


def _with_rule(choice: Choice, snapshot: ConfigSnapshot, situation: Situation) -> Sequence[Found]:
    """The candidates, those that an operator's rule prefers in front."""
    rule = situation.rule
    if rule is None or choice.policy is None:
        return choice.candidates
    if rule.alias and rule.alias in snapshot.aliases:
        first = [(None, rule.alias, deployment) for deployment in snapshot.aliases[rule.alias].deployments]
        return [*first, *choice.candidates]
    return choice.candidates


def _may_use(caller: Caller, alias: str) -> bool:
    return not caller.allowed_aliases or alias in caller.allowed_aliases


def _without_repeats(candidates: Iterable[Found]) -> list[Found]:
    """Two aliases may share a deployment: it is tried once, at its first place."""
    first: dict[int, Found] = {}
    for found in candidates:
        first.setdefault(found[2].id, found)
    return list(first.values())


# --- who can, and in which order ----------------------------------------------------------------------------------


_Fit = tuple[Candidate | None, Option]
"""A candidate that can serve. Those without one of a policy were put first by a rule, or named by the caller."""


def _sifted(
    candidates: Iterable[Found], demand: Demand, policy: Policy | None, situation: Situation
) -> tuple[list[_Fit], tuple[Considered, ...]]:
    """Those that can serve, with what the policy's strategy looks at, and those that cannot, with the reason."""
    strategy = STRATEGIES[policy.strategy] if policy else None
    asks = strategy is not None and (strategy.needs_quality or strategy.needs_standing)
    fits: list[_Fit] = []
    skipped: list[Considered] = []
    for position, (candidate, alias, deployment) in enumerate(candidates):
        cached = demand.cached_input if deployment.name == situation.pinned else 0
        cost = estimated_cost_nano(deployment, demand, cached_input=cached)
        reason = reason_to_skip(deployment, demand, latency_ms=_measured(deployment, demand, situation))
        if reason:
            skipped.append(Considered(deployment.name, alias, "skipped", reason, cost))
            continue
        weight, task_type = (candidate.weight, candidate.task_type) if candidate is not None else (1, TaskType.ANY)
        option = Option(deployment, alias, position, weight, task_type, cost)
        if strategy is not None and asks:
            _inform(option, strategy, situation)
        fits.append((candidate, option))
    return fits, tuple(skipped)


def _measured(deployment: Deployment, demand: Demand, situation: Situation) -> float | None:
    """What it takes at present, where a ceiling makes that matter."""
    return situation.standing(deployment).latency_ms if demand.max_latency_ms is not None else None


def _ordered(
    fits: Sequence[_Fit], policy: Policy | None, situation: Situation, step: Step
) -> tuple[list[Option], bool]:
    """The options in the order of asking, and whether the first was kept for the conversation's sake."""
    if policy is None:
        return [option for _, option in fits], False
    strategy = STRATEGIES[policy.strategy]
    first, preferred, fallbacks = list[Option](), list[Option](), list[Option]()
    for candidate, option in fits:
        group = first if candidate is None else fallbacks if candidate.is_fallback else preferred
        group.append(option)
    if step.is_cheaper:
        ordered = [*first, *cheapest_first([*preferred, *fallbacks], replace(policy, quality_floor=None))]
    else:
        occasion = Occasion(situation.seed, situation.turn, task_of(situation))
        ordered = [*first, *strategy.order(preferred, policy, occasion), *fallbacks]
    if situation.rule is not None and situation.rule.tier:
        tier = situation.rule.tier
        ordered.sort(key=lambda option: option.deployment.cost_tier != tier)
    if situation.pinned and (situation.is_tool_loop or (policy.is_sticky and not first and not step.is_cheaper)):
        return _kept(ordered, policy, situation)
    return ordered, False


def _inform(option: Option, strategy: OrderingStrategy, situation: Situation) -> None:
    """Fill in what the policy's strategy looks at."""
    deployment = option.deployment
    option.latency_ms = deployment.expected_latency_ms
    if strategy.needs_quality:
        estimate = _estimate(deployment, situation)
        option.quality, option.quality_basis = estimate.mean, estimate.basis
    if strategy.needs_standing:
        standing = situation.standing(deployment)
        option.in_flight, option.headroom = standing.in_flight, standing.headroom
        if standing.latency_ms is not None:
            option.latency_ms = standing.latency_ms


def _estimate(deployment: Deployment, situation: Situation) -> QualityEstimate:
    return situation.quality(QualityQuestion(deployment.model, deployment.cost_tier, situation.task, situation.tag))


def _kept(ordered: list[Option], policy: Policy, situation: Situation) -> tuple[list[Option], bool]:
    """The conversation's own model first, if it can go on: a loop of tool calls always does, another turn where the
    model is good enough for it. An operator's rule and a budget that fills come before a conversation's habits."""
    own = next((option for option in ordered if option.name == situation.pinned), None)
    if own is None:
        return ordered, False
    floor = policy.quality_floor if policy.strategy in BY_QUALITY else None
    if floor is not None and own.quality < floor and not situation.is_tool_loop:
        return ordered, False
    return [own, *(option for option in ordered if option is not own)], True


# --- in words -----------------------------------------------------------------------------------------------------


def _looked_at(ordered: Sequence[Option], policy: Policy | None) -> list[Considered]:
    strategy = STRATEGIES[policy.strategy] if policy else None
    return [
        Considered(
            option.deployment.name,
            option.alias,
            "fallback" if index else "chosen",
            "",
            option.cost_nano,
            option.quality if strategy is not None and strategy.needs_quality else None,
            option.quality_basis,
            option.latency_ms,
            strategy.score(option, policy) if strategy is not None and policy is not None else None,
        )
        for index, option in enumerate(ordered)
    ]


def _nothing_fits(choice: Choice, considered: tuple[Considered, ...]) -> str:
    if not considered:
        return f"No active deployment can serve this: {choice.how}, which has no active model behind it."
    reasons = "; ".join(f"{c.deployment}: {c.reason}" for c in considered[:5])
    return f"No model can serve this request ({choice.how}). {reasons}."
