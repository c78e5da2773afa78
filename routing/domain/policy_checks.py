"""What speaks against putting rules into force: everything that would make requests fail, or make a rule mean nothing.

Pure: the same questions are asked when a draft is saved, submitted, approved and published.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from providers.domain.types import Capability, Deployment, Operation
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import BY_QUALITY, ConfigSnapshot, Persona, Policy, Strategy, TaskType
from routing.domain.documents import ConfigError, LadderDocument, PolicyDocument, compile_policy
from routing.domain.eligibility import Demand, reason_to_skip
from routing.domain.policy_diff import task_words
from routing.domain.situation import quality_by_tier

BYTES_PER_TOKEN: Final = 4
REASONS_NAMED: Final = 3
QUALITY_SLACK: Final = 1e-9  # 0.85 typed is 0.85 estimated


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why rules cannot be put into force. `field` is the document's field that would have to change, “weights” those
    of its models, “” none of them."""

    field: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Place:
    """Where a policy stands: what else there is, and who depends on it. `snapshot` is the configuration in force;
    `personas` are the active ones that follow the policy."""

    snapshot: ConfigSnapshot
    policy_id: int
    name: str
    personas: Sequence[Persona] = ()
    is_default: bool = False
    quality: Callable[[QualityQuestion], QualityEstimate] = field(default=quality_by_tier, compare=False)

    @property
    def is_used(self) -> bool:
        return self.is_default or bool(self.personas)


def complaints(document: PolicyDocument, place: Place) -> list[Complaint]:
    """All that speaks against `document`; empty when it can be put into force."""
    found = [*_repeated(document), *_ladder(document.ladder)]
    try:
        policy = compile_policy(document, place.snapshot.aliases, policy_id=place.policy_id, name=place.name, version=0)
    except ConfigError as error:
        return [*found, Complaint("required", str(error))]
    if not _deployments(policy):
        return [*found, Complaint("candidates", _no_model(document))]
    found += [*_weights(policy), *_unknown_regions(policy, place), *_cycle(policy, place)]
    if not any(one.field == "regions" for one in found):  # said once
        found += _left_without(policy, place)
    return [*found, *_floor(policy, place)]


# --- the document by itself -----------------------------------------------------------------------------------------


def _repeated(document: PolicyDocument) -> Iterator[Complaint]:
    names = [one.alias for one in document.candidates]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Complaint("candidates", f"“{name}” stands here twice. Keep it once: as preferred or as fallback.")


def _ladder(ladder: LadderDocument) -> Iterator[Complaint]:
    steps = [at for at in (ladder.cap_at, ladder.cheaper_at, ladder.cache_only_at, ladder.refuse_at) if at is not None]
    if steps != sorted(set(steps)):
        said = ", ".join(f"{at} %" for at in steps)
        yield Complaint(
            "ladder", f"The steps of a budget come at {said}: each has to come at a higher percentage than the last."
        )


def _weights(policy: Policy) -> Iterator[Complaint]:
    preferred = [one for one in policy.candidates if not one.is_fallback]
    if policy.strategy is Strategy.WEIGHTED and preferred and not any(one.weight for one in preferred):
        yield Complaint("weights", "Every preferred model has the weight 0, so none gets requests. Weight one of them.")


# --- with what there is ---------------------------------------------------------------------------------------------


def _deployments(policy: Policy) -> list[tuple[str, Deployment]]:
    return [(one.alias.name, deployment) for one in policy.candidates for deployment in one.alias.deployments]


def _no_model(document: PolicyDocument) -> str:
    if not document.candidates:
        return "It has no models, so it can serve nothing. Add one."
    names = ", ".join(one.alias for one in document.candidates)
    return f"None of its models has an active deployment ({names}). Add another model, or switch a deployment on."


def _unknown_regions(policy: Policy, place: Place) -> Iterator[Complaint]:
    known = {deployment.endpoint.region for deployment in place.snapshot.deployments.values()} - {""}
    for region in sorted(policy.regions - known):
        offered = f"There are: {', '.join(sorted(known))}." if known else "No provider has a region: set it there."
        yield Complaint("regions", f"No active provider is in the region “{region}”. {offered}")


def _left_without(policy: Policy, place: Place) -> Iterator[Complaint]:
    """Who would be refused, whatever is asked: each is tried with the smallest request that there is."""
    askers: list[tuple[str, Persona | None]] = [(f"the persona “{one.slug}”", one) for one in place.personas]
    if place.is_default:
        askers.append(("“auto”", None))
    for who, persona in askers or [("every request", None)]:
        reasons = _reasons_against_all(policy, persona)
        if reasons:
            yield Complaint("candidates", f"It leaves {who} without any model: {reasons}.")


def _reasons_against_all(policy: Policy, persona: Persona | None) -> str:
    """Why no model can serve; empty when one can."""
    reasons = []
    demand = _smallest(policy, persona)
    for alias, deployment in _deployments(policy):
        reason = reason_to_skip(deployment, demand)
        if not reason:
            return ""
        reasons.append(f"{alias} ({deployment.name}): {reason}")
    more = f"; and {len(reasons) - REASONS_NAMED} more" if len(reasons) > REASONS_NAMED else ""
    return "; ".join(reasons[:REASONS_NAMED]) + more


def _smallest(policy: Policy, persona: Persona | None) -> Demand:
    system = len((persona.defaults.system_prompt or "").encode()) // BYTES_PER_TOKEN if persona else 0
    embeds = all(Capability.EMBEDDINGS in deployment.capabilities for _, deployment in _deployments(policy))
    return Demand(
        needs=policy.required | (persona.required if persona else frozenset()),
        operation=Operation.EMBEDDINGS if embeds and persona is None else Operation.CHAT,
        input_tokens=system + 1,
        output_tokens=1,
        regions=policy.regions,
        max_cost_nano=policy.max_cost_nano,
        max_latency_ms=policy.max_latency_ms,
    )


def _floor(policy: Policy, place: Place) -> Iterator[Complaint]:
    """A floor that nobody reaches at any kind of work would put the models in order of quality and nothing else."""
    floor = policy.quality_floor
    if floor is None or policy.strategy not in BY_QUALITY:
        return
    best, name = max(
        ((_best_quality(deployment, place), alias) for alias, deployment in _deployments(policy)), default=(0.0, "")
    )
    if best < floor - QUALITY_SLACK:
        yield Complaint(
            "quality_floor",
            f"No model reaches the quality floor of {floor:g}: the best, {name}, is expected at {best:.2f}. Lower it.",
        )


def _best_quality(deployment: Deployment, place: Place) -> float:
    tasks = (None, *(Classification(task) for task in TaskType if task is not TaskType.ANY))
    questions = (QualityQuestion(deployment.model, deployment.cost_tier, task) for task in tasks)
    return max(place.quality(question).mean for question in questions)


# --- policies that hand over to each other --------------------------------------------------------------------------


def _cycle(policy: Policy, place: Place) -> Iterator[Complaint]:
    policies = {one.id: one for one in place.snapshot.policies.values()} | {policy.id: policy}
    by_task = _served_by_task(policies)
    way = _way_back(policy, policy, by_task, frozenset())
    if way:
        steps = ", ".join(f"“{giver}” hands {task_words(task.value)} over to “{taker}”" for giver, task, taker in way)
        yield Complaint(
            "strategy",
            f"Policies hand over in a circle: {steps}. Prefer a model of its own for one of these kinds of work, or "
            "choose another order in one of them.",
        )


Step = tuple[str, TaskType, str]


def _served_by_task(policies: Mapping[int, Policy]) -> dict[TaskType, Policy]:
    """As the snapshot does it: for each kind of work the first by name."""
    found: dict[TaskType, Policy] = {}
    for one in sorted(policies.values(), key=lambda one: one.name):
        if one.task_type is not TaskType.ANY and one.candidates:
            found.setdefault(one.task_type, one)
    return found


def _way_back(start: Policy, at: Policy, by_task: Mapping[TaskType, Policy], seen: frozenset[int]) -> tuple[Step, ...]:
    """The hand-overs that lead from `at` to `start` again; empty when none does."""
    if at.strategy is not Strategy.TASK_BASED or at.id in seen:
        return ()
    own = {one.task_type for one in at.candidates}
    for task, taker in by_task.items():
        if taker.id == at.id or task in own:
            continue
        step = (at.name, task, taker.name)
        if taker.id == start.id:
            return (step,)
        rest = _way_back(start, taker, by_task, seen | {at.id})
        if rest:
            return (step, *rest)
    return ()
