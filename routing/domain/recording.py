"""What a decision was made from, small enough to keep one for every request: to make it again by other rules.

No text of a prompt is part of it. `observed` goes around a situation before the decision, `recorded` makes the record
when the request is over, `recalled` is the way back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

import msgspec
from msgspec import Struct

from providers.domain.types import Capability, ChatRequest, Deployment, Operation
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import Caller, ConfigSnapshot, Rule, TaskType
from routing.domain.decision import NoRoute, RoutePlan, policy_named
from routing.domain.draws import draw
from routing.domain.situation import UNKNOWN_STANDING, Situation, Standing

Estimate = Callable[[QualityQuestion], QualityEstimate]
TEXT_LENGTH: Final = 200  # of what a caller may name freely: a record stays small


class UnreadableInputs(Exception):
    """These bytes were not written by `write_inputs`, or by a later version of it."""


class RecordedTask(Struct, frozen=True, array_like=True):
    """A `Classification`, without its features and scores."""

    label: str
    confidence: float
    known: float = 1.0
    source: str = ""


class RecordedRule(Struct, frozen=True, array_like=True):
    """The operator's rule that fitted, and what it said."""

    name: str
    task_type: str = ""
    tier: str = ""
    alias: str = ""


class RecordedCandidate(Struct, frozen=True, array_like=True):
    """How a candidate did at that moment; `quality` is None where the strategy did not ask."""

    deployment: str
    latency_ms: float | None = None
    in_flight: int = 0
    headroom: float = 1.0
    out_of_service: str = ""
    quality: float | None = None


class Outcome(Struct, frozen=True, array_like=True):
    """What came of the request. `input_tokens` are those that no cache was read or written for; `cost_nano` None is an
    unknown price; `cache` is “hit” where a kept answer was given."""

    deployment: str = ""
    http_status: int = 0
    error_code: str = ""
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int | None = 0
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    cache: str = ""

    @property
    def all_input_tokens(self) -> int:
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens


class RecordedInputs(Struct, frozen=True, array_like=True):
    """All that `decide` reads of a request and its situation, and what came of it.

    `entry` is the policy that the caller's names led to, `policy` the one that decided: another one where the first
    hands over by kind of work. What a persona adds is part of `needs` and `max_tokens` already. New fields go to the
    end, with a default: older records lack them.
    """

    seed: str
    turn: int
    requested: str
    persona: str
    entry: str
    policy: str
    policy_version: int
    key_id: int
    team_id: int
    allowed: tuple[str, ...]
    needs: tuple[str, ...]
    is_embedding: bool
    input_tokens: int
    max_tokens: int | None
    choices: int
    is_stream: bool
    only_at: str
    task: RecordedTask | None
    rule: RecordedRule | None
    tag: str
    conversation: str
    pinned: str
    cached_input: int
    is_tool_loop: bool
    usual_output: int | None
    budget_used: float
    candidates: tuple[RecordedCandidate, ...]
    arm: str = ""
    outcome: Outcome = Outcome()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(RecordedInputs).decode


def write_inputs(inputs: RecordedInputs) -> bytes:
    return _encode(inputs)


def read_inputs(packed: bytes | memoryview) -> RecordedInputs:
    """The inverse of `write_inputs`.

    :raises UnreadableInputs: it is not.
    """
    try:
        return _decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableInputs(str(error)) from error


# --- at the time of the request -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Observations:
    """Asks once about each deployment, so that what the decision saw can be recorded afterwards."""

    source: Callable[[Deployment], Standing]
    seen: dict[str, Standing] = field(default_factory=dict)

    def standing(self, deployment: Deployment) -> Standing:
        known = self.seen.get(deployment.name)
        if known is None:
            known = self.seen[deployment.name] = self.source(deployment)
        return known


def observed(situation: Situation) -> Situation:
    """The same, with standings that stay as they are first seen; of a request that no policy routes, itself."""
    if not situation.seed:
        return situation
    return replace(situation, standing=_Observations(situation.standing).standing)


def is_sampled(plan: RoutePlan, request_id: str) -> bool:
    """Whether the decision is kept: a draw by the request's own id, as often as the policy that decided says."""
    if plan.followed is None:
        return False
    percent = plan.followed.sample_percent
    return percent >= 100 or draw("sample", request_id) * 100 < percent


def recorded(
    plan: RoutePlan, *, snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation,
    outcome: Outcome,
) -> RecordedInputs:  # fmt: skip
    """The record of a decision that a policy made. What it did not look at of the candidates' standing is as it is now.

    What a person may have written freely is cut, as usage records cut it.
    """
    persona = snapshot.personas.get(plan.persona)
    required = persona.required if persona else frozenset()
    return RecordedInputs(
        seed=situation.seed,
        turn=situation.turn,
        requested=request.model[:TEXT_LENGTH],
        persona=plan.persona,
        entry=_entry(snapshot, request) or plan.policy,
        policy=plan.policy,
        policy_version=plan.policy_version,
        key_id=caller.key_id,
        team_id=caller.team_id,
        allowed=tuple(sorted(caller.allowed_aliases)),
        needs=tuple(sorted(need.value for need in request.needs | required)),
        is_embedding=request.operation is Operation.EMBEDDINGS,
        input_tokens=request.input_tokens_estimate,
        max_tokens=request.max_tokens or plan.defaults.max_tokens,
        choices=request.choices,
        is_stream=request.stream,
        only_at=request.only_at,
        task=_task(situation.task),
        rule=_rule(situation.rule),
        tag=situation.tag[:TEXT_LENGTH],
        conversation=situation.conversation,
        pinned=situation.pinned,
        cached_input=situation.cached_input,
        is_tool_loop=situation.is_tool_loop,
        usual_output=situation.usual_output,
        budget_used=situation.budget_used,
        candidates=tuple(_candidates(plan, snapshot, situation)),
        arm=plan.arm,
        outcome=outcome,
    )


def _entry(snapshot: ConfigSnapshot, request: ChatRequest) -> str:
    try:
        policy, _ = policy_named(snapshot, request)
    except NoRoute:  # not of a request that was decided by this snapshot
        return ""
    return policy.name if policy else ""


def _task(task: Classification | None) -> RecordedTask | None:
    return None if task is None else RecordedTask(task.label.value, task.confidence, task.known, task.source)


def _rule(rule: Rule | None) -> RecordedRule | None:
    if rule is None:
        return None
    return RecordedRule(rule.name, rule.task_type.value if rule.task_type else "", rule.tier, rule.alias)


def _candidates(plan: RoutePlan, snapshot: ConfigSnapshot, situation: Situation) -> list[RecordedCandidate]:
    found = []
    for one in plan.considered:
        deployment = snapshot.deployments.get(one.deployment)
        standing = situation.standing(deployment) if deployment else UNKNOWN_STANDING
        found.append(
            RecordedCandidate(
                one.deployment,
                standing.latency_ms,
                standing.in_flight,
                standing.headroom,
                standing.out_of_service,
                one.quality,
            )
        )
    return found


# --- and back -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Recalled:
    """A recorded decision in the words of `decide_as`."""

    caller: Caller
    request: ChatRequest
    situation: Situation


@dataclass(slots=True)
class _Memory:
    """What was known of the candidates. Of models that were none, `estimate` says how good they are."""

    candidates: dict[str, RecordedCandidate]
    deployments: Mapping[str, Deployment]
    estimate: Estimate
    qualities: dict[tuple[str, str], float] | None = None

    def standing(self, deployment: Deployment) -> Standing:
        one = self.candidates.get(deployment.name)
        if one is None:
            return UNKNOWN_STANDING
        return Standing(one.latency_ms, one.in_flight, one.headroom, one.out_of_service)

    def quality(self, question: QualityQuestion) -> QualityEstimate:
        if self.qualities is None:
            self.qualities = {
                (deployment.model, deployment.cost_tier): one.quality
                for name, one in self.candidates.items()
                if one.quality is not None and (deployment := self.deployments.get(name)) is not None
            }
        known = self.qualities.get((question.model, question.tier))
        return self.estimate(question) if known is None else QualityEstimate(known, 0, "as recorded")


def recalled(inputs: RecordedInputs, snapshot: ConfigSnapshot, estimate: Estimate) -> Recalled:
    """Caller, request and situation as the decision saw them; deployments and prices are those of `snapshot`.

    :raises UnreadableInputs: a capability or a kind of work that this version does not know.
    """
    memory = _Memory({one.deployment: one for one in inputs.candidates}, snapshot.deployments, estimate)
    try:
        return Recalled(_caller(inputs), _request(inputs), _situation(inputs, memory))
    except ValueError as error:
        raise UnreadableInputs(str(error)) from error


def _caller(inputs: RecordedInputs) -> Caller:
    return Caller(
        key_id=inputs.key_id,
        key_prefix="",
        key_name="",
        team_id=inputs.team_id,
        team_name="",
        scopes=frozenset(),
        allowed_aliases=frozenset(inputs.allowed),
        expires_at=None,
        revoked_at=None,
        team_active=True,
    )


def _request(inputs: RecordedInputs) -> ChatRequest:
    return ChatRequest(
        model=inputs.requested,
        stream=inputs.is_stream,
        wire=None,
        fields={},
        conversation=_not_kept,
        needs=frozenset(map(Capability, inputs.needs)),
        input_tokens_bound=inputs.input_tokens,
        input_tokens_estimate=inputs.input_tokens,
        max_tokens=inputs.max_tokens,
        choices=inputs.choices,
        embeddings=_not_kept if inputs.is_embedding else None,
        only_at=inputs.only_at,
    )


def _situation(inputs: RecordedInputs, memory: _Memory) -> Situation:
    return Situation(
        seed=inputs.seed,
        turn=inputs.turn,
        task=_task_again(inputs.task),
        rule=_rule_again(inputs.rule),
        tag=inputs.tag,
        conversation=inputs.conversation,
        pinned=inputs.pinned,
        cached_input=inputs.cached_input,
        is_tool_loop=inputs.is_tool_loop,
        usual_output=inputs.usual_output,
        budget_used=inputs.budget_used,
        standing=memory.standing,
        quality=memory.quality,
    )


def _task_again(task: RecordedTask | None) -> Classification | None:
    if task is None:
        return None
    return Classification(TaskType(task.label), task.confidence, source=task.source, known=task.known)


def _rule_again(rule: RecordedRule | None) -> Rule | None:
    """It fits nothing any more: that it fitted is what was recorded."""
    if rule is None:
        return None
    task_type = TaskType(rule.task_type) if rule.task_type else None
    return Rule(rule.name, "text", "", _never, task_type, rule.tier, rule.alias)


def _never(text: str) -> bool:
    return False


def _not_kept() -> NoReturn:
    raise AssertionError("a recorded decision has no text")
