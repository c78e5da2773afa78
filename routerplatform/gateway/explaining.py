"""What would be decided of a request and from what: the code of a real request, up to the decision and no further.

Nothing is spent, kept, or counted, and nobody is called: no turn is taken, no conversation is pinned, no record is
written. A question with the id of a request is answered as that request was decided, as long as nothing has changed.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from providers.domain.out_of_service import OutOfService
from providers.domain.types import ChatRequest, Deployment
from providers.fleet.health import FleetHealth
from providers.fleet.states import DeploymentStanding, KeyStanding
from routerplatform.gateway.errors import BudgetStepReached, GatewayError, ModelNotFound, NoEligibleModel
from routerplatform.gateway.prompt_reading import PromptReading
from routerplatform.gateway.prompt_templates import with_templates
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.situations import Situations
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.types import PromptText, QualityEstimate, QualityQuestion
from routing.domain.config import Caller, ConfigSnapshot, Policy, Scope
from routing.domain.decision import (
    AUTO,
    Considered,
    LadderRefusal,
    NoRoute,
    RoutePlan,
    UnknownModel,
    decide,
    decide_as,
    followed,
    policy_named,
)
from routing.domain.ladder import Step, step_in_words, step_of
from routing.domain.replay import snapshot_with
from routing.domain.situation import NO_SITUATION, Situation, Standing
from routing.trained import TrainedArtefacts

BUILT_IN: Final = "linear"  # what the built-in classifier calls itself
WORDS_TOLD: Final = 8
LEAST_TOLD: Final = 0.005  # of the probability: less would be told as 0.00
ANYBODY: Final = Caller(
    key_id=0, key_prefix="", key_name="any key", team_id=0, team_name="any team", scopes=frozenset(Scope),
    allowed_aliases=frozenset(), expires_at=None, revoked_at=None, team_active=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    """What questions are answered with: the parts of a gateway that know how things stand."""

    situations: Situations
    health: FleetHealth
    artefacts: TrainedArtefacts

    @classmethod
    def of(cls, runtime: Runtime) -> "Bench":
        return cls(runtime.situations, runtime.health, runtime.config.artefacts)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is not made. `request_id` seeds what is drawn; `policy` is followed instead of the one that the
    request's names lead to, be it in force or not."""

    caller: Caller
    request: ChatRequest
    request_id: str
    hints: Mapping[str, str] = field(default_factory=dict)
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """A candidate, and how it stands. `out_of_service` says why it would not be asked now, “” when it would;
    `keys_awake` of its `keys` can be used. All but `considered` is None or empty when it is deployed no more."""

    considered: Considered
    deployment: Deployment | None = None
    estimate: QualityEstimate | None = None
    standing: Standing | None = None
    breaker: str = ""
    out_of_service: str = ""
    keys: int = 0
    keys_awake: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the prompt, and how much of the likeliest kind of work's probability goes when it does; below 0 it
    speaks against it."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing would be served, as the request's error would say it."""

    code: str
    message: str
    param: str | None


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer. Without a `plan` there is a `problem`; `candidates` are those that can serve in the order of asking,
    then the others."""

    question: Question
    snapshot: ConfigSnapshot
    situation: Situation
    policy: Policy | None
    plan: RoutePlan | None
    problem: Problem | None
    candidates: tuple[Looked, ...]
    words: tuple[Word, ...] = ()  # the most telling ones first

    @property
    def step(self) -> Step:
        """Where on the policy's ladder the request stands."""
        if self.plan is not None:
            return self.plan.step
        return step_of(self.policy.ladder, self.situation.budget_used) if self.policy else Step()

    @property
    def step_in_words(self) -> str:
        return step_in_words(self.step, self.situation.budget_used)

    @property
    def asked_first(self) -> str:
        """The deployment that would be asked now: the first whose breaker and keys allow it; “” where none does."""
        names = (one.considered.deployment for one in self.candidates if self._is_target(one))
        return next(names, "")

    def _is_target(self, one: Looked) -> bool:
        return one.considered.verdict != "skipped" and not one.out_of_service


async def explained(bench: Bench, snapshot: ConfigSnapshot, question: Question) -> Explained:
    """Decide, and tell from what."""
    try:
        question = replace(question, request=with_templates(snapshot, question.request))
    except GatewayError as error:
        problem = Problem(error.code, error.message, error.param)
        return Explained(question, snapshot, NO_SITUATION, None, None, problem, ())
    if question.policy is not None:
        snapshot, question = _as_if_in_force(snapshot, question, question.policy)
    situation = await bench.situations.of(
        snapshot, question.caller, question.request, question.hints, question.request_id, is_rehearsal=True
    )
    policy, plan, refusal = None, None, None
    considered: tuple[Considered, ...] = ()
    try:
        policy, _ = policy_named(snapshot, question.request)
        plan = _decided(snapshot, question, situation)
        considered = plan.considered
    except NoRoute as error:
        refusal, considered = _problem(error), error.considered
    return Explained(
        question=question,
        snapshot=snapshot,
        situation=situation,
        policy=plan.followed if plan else policy,
        plan=plan,
        problem=refusal,
        candidates=tuple(_looked_at(bench.health, snapshot, considered, situation)),
        words=await _words(bench, snapshot, question.request, situation),
    )


def caller_with_prefix(snapshot: ConfigSnapshot, prefix: str) -> Caller | None:
    """The key that begins with `prefix`, as lists of keys show it."""
    wanted = prefix.removeprefix("rp_").rstrip("…")
    found = (caller for caller in snapshot.callers_by_key_id.values() if caller.key_prefix in {prefix, wanted})
    return next(found, None) if wanted else None


# --- the decision -------------------------------------------------------------------------------------------------


def _as_if_in_force(snapshot: ConfigSnapshot, question: Question, policy: Policy) -> tuple[ConfigSnapshot, Question]:
    """A snapshot in which the question's names lead to `policy`, and the question with these names."""
    request = question.request
    named = request.persona or (request.model if request.model in snapshot.personas else "")
    personas = {
        slug: replace(persona, policy=policy) if slug == named else persona
        for slug, persona in snapshot.personas.items()
    }
    changed = replace(snapshot_with(snapshot, policy), default_policy=policy, personas=personas)
    return changed, replace(question, request=replace(request, model=AUTO, persona=named))


def _decided(snapshot: ConfigSnapshot, question: Question, situation: Situation) -> RoutePlan:
    """:raises NoRoute:"""
    caller, request = question.caller, question.request
    if question.policy is None:
        return decide(snapshot, caller, request, situation)
    persona = snapshot.personas.get(request.persona)
    how = f"the test follows policy “{question.policy.name}”" + (f" as persona “{persona.slug}”" if persona else "")
    choice = followed(question.policy, snapshot, caller, situation, persona=persona, how=how)
    return decide_as(choice, snapshot, caller, request, situation)


def _problem(error: NoRoute) -> Problem:
    """In the words and codes that a request gets."""
    match error:
        case UnknownModel():
            return Problem(ModelNotFound.code, str(error), error.param)
        case LadderRefusal():
            return Problem(BudgetStepReached.code, str(error), None)
    return Problem(NoEligibleModel.code, str(error), "model")


async def _words(
    bench: Bench, snapshot: ConfigSnapshot, request: ChatRequest, situation: Situation
) -> tuple[Word, ...]:
    """The words that the built-in classifier went by; nothing where it was not asked. It reads the prompt once for each
    word, which is too long to keep other requests waiting."""
    classifier = bench.artefacts.of(snapshot.artefact).classifier
    if situation.task is None or situation.task.source != BUILT_IN or not isinstance(classifier, LinearClassifier):
        return ()
    reading = PromptReading(request)
    prompt = PromptText(reading.last_turn(), reading.system())
    found = await asyncio.to_thread(classifier.contributions, prompt)
    return tuple(Word(one.word, one.share) for one in found[:WORDS_TOLD] if abs(one.share) >= LEAST_TOLD)


# --- how the candidates stand -------------------------------------------------------------------------------------


def _looked_at(
    health: FleetHealth, snapshot: ConfigSnapshot, considered: Iterable[Considered], situation: Situation
) -> Iterable[Looked]:
    listed = tuple(considered)
    deployments = [found for one in listed if (found := snapshot.deployments.get(one.deployment))]
    states = health.states(deployments)
    by_id = {standing.deployment.id: standing for standing in states.deployments}
    for one in listed:
        deployment = snapshot.deployments.get(one.deployment)
        if deployment is None:
            yield Looked(one)
        else:
            yield _looked(health, one, deployment, by_id[deployment.id], states.resting, situation)


def _looked(
    health: FleetHealth, one: Considered, deployment: Deployment, standing: DeploymentStanding,
    resting: Sequence[KeyStanding], situation: Situation,
) -> Looked:  # fmt: skip
    keys = {credential.id for credential in deployment.credentials}
    asleep = {rest.credential.id for rest in resting if rest.deployment in {"", deployment.name}}
    question = QualityQuestion(deployment.model, deployment.cost_tier, situation.task, situation.tag)
    return Looked(
        considered=one,
        deployment=deployment,
        estimate=situation.quality(question),
        standing=situation.standing(deployment),
        breaker=standing.state.value,
        out_of_service=_out_of_service(health, deployment),
        keys=len(keys),
        keys_awake=len(keys - asleep),
    )


def _out_of_service(health: FleetHealth, deployment: Deployment) -> str:
    try:
        health.look(deployment)
    except OutOfService as refusal:
        return refusal.reason
    return ""
