"""What is true when a request comes in and no configuration says: gathered here, so that the decision is pure.

Only what the request's policy looks at is looked at. A request that names a model costs nothing here.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from providers.domain.answer import FinishReason
from providers.domain.types import Capability, ChatRequest
from routerplatform.gateway.answer_lengths import AnswerLengths
from routerplatform.gateway.conversation_pins import HINT, ConversationPins, conversation_key
from routerplatform.gateway.deployment_standings import DeploymentStandings
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.prompt_reading import PromptReading
from routerplatform.gateway.quality_memo import QualityMemo
from routerplatform.gateway.shared_pins import Pin
from routerplatform.gateway.tally import Tally
from routerplatform.gateway.task_classifier import TaskClassifiers
from routing.domain.classification.types import Classification, PromptText, QualityEstimate, QualityQuestion
from routing.domain.config import BY_QUALITY, Caller, ConfigSnapshot, Policy, Rule, TaskType
from routing.domain.decision import NoRoute, RoutePlan, handed_over, policy_named
from routing.domain.rules import matching_rule
from routing.domain.situation import NO_SITUATION, Situation, quality_by_tier
from routing.trained import TrainedArtefacts

TAG: Final = "x-router-tag"
TAG_LENGTH: Final = 60  # what a usage record holds
TASK_TYPE: Final = "x-router-task-type"
FIND_OUT: Final = "auto"  # instead of a kind of work: the caller wants to be told, whether the policy looks or not
TASK_NAMES: Final = tuple(task.value for task in TaskType if task is not TaskType.ANY)
BudgetUsed = Callable[[Caller, str], Awaitable[float]]
"""The share of the fullest budget that is used, of those that apply to a caller and a persona (its slug, or “”)."""

Quality = Callable[[QualityQuestion], QualityEstimate]

ANSWERED: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.LENGTH})


@dataclass(frozen=True, slots=True)
class _Conversation:
    """What of a conversation a decision depends on."""

    key: str = ""
    pin: Pin | None = None
    is_tool_loop: bool = False


NO_CONVERSATION: Final = _Conversation()


class Situations:
    """Belongs to one event loop."""

    def __init__(
        self,
        *,
        budget_used: BudgetUsed,
        artefacts: TrainedArtefacts,
        classifiers: TaskClassifiers,
        pins: ConversationPins,
        standings: DeploymentStandings,
    ) -> None:
        self.classifiers = classifiers
        self._budget = budget_used
        self._artefacts = artefacts
        self._pins = pins
        self._standings = standings
        self._lengths = AnswerLengths()
        self._qualities = QualityMemo()
        self._turns: defaultdict[int, int] = defaultdict(int)  # by policy: the requests so far

    async def of(
        self,
        snapshot: ConfigSnapshot,
        caller: Caller,
        request: ChatRequest,
        hints: Mapping[str, str],
        request_id: str,
        *,
        is_rehearsal: bool = False,
    ) -> Situation:
        """The situation of a request that begins; its turn is taken. A rehearsal takes none, costs nothing, and asks
        nobody outside this installation.

        :raises InvalidRequest: what the caller says it to be is no kind of work.
        """
        hint = hints.get(TASK_TYPE, "")
        said = task_named(hint)
        try:
            policy, persona = policy_named(snapshot, request)
        except NoRoute:  # the decision says so
            return NO_SITUATION
        tag, slug = _tag(hints), persona.slug if persona else ""
        if policy is None:
            return Situation(seed=request_id, tag=tag) if tag else NO_SITUATION
        reading = PromptReading(request)
        rule = self._rule(snapshot, reading, slug, tag, hints) if snapshot.rules else None
        task, led, talk = None, policy, NO_CONVERSATION
        quality: Quality = quality_by_tier
        if hint or _asks_for_task(policy):
            task = await self._task(snapshot, rule, said, reading, is_rehearsal=is_rehearsal)
            led = policy if task is None else handed_over(policy, snapshot, task.label)
            quality = self._qualities.reader(self._artefacts.of(snapshot.artefact), task)
        if _asks_for_conversation(led, request):
            talk = await self._conversation(led, caller, request, reading, hints)
        return Situation(
            seed=request_id,
            turn=self._turn(led, is_rehearsal=is_rehearsal),
            task=task,
            rule=rule,
            tag=tag,
            conversation=talk.key,
            pinned=talk.pin.deployment if talk.pin else "",
            cached_input=talk.pin.input_tokens if talk.pin else 0,
            is_tool_loop=talk.is_tool_loop,
            usual_output=self._lengths.usual(_traffic(tag, slug, led.name)),
            budget_used=await self._budget(caller, slug) if _asks_for_budget(led) else 0.0,
            standing=self._standings.reader(is_stream=request.stream),
            quality=quality,
        )

    def ended(self, plan: RoutePlan, situation: Situation, tally: Tally) -> None:
        """Learn from a request that is over: how long it took, how long the answer was, and who has the conversation
        now. A kept answer that was given again teaches nothing."""
        if not tally.attempts:
            return
        self._standings.saw(tally)
        if tally.finish not in ANSWERED or tally.deployment is None:
            return
        usage = tally.charge.usage
        if plan.policy and usage.output_tokens:
            kind = _traffic(situation.tag, plan.persona, plan.policy)
            self._lengths.saw(kind, usage.output_tokens / tally.request.choices)
        if situation.conversation:
            self._pins.keep(situation.conversation, Pin(tally.deployment.name, usage.all_input_tokens))

    async def close(self) -> None:
        await self._pins.close()

    # --- one thing after the other ---

    @staticmethod
    def _rule(
        snapshot: ConfigSnapshot, reading: PromptReading, persona: str, tag: str, hints: Mapping[str, str]
    ) -> Rule | None:
        return matching_rule(
            snapshot.rules,
            text=reading.last_turn,
            tag=tag,
            persona=persona,
            hint=lambda name: hints.get(name, ""),
        )

    async def _task(
        self,
        snapshot: ConfigSnapshot,
        rule: Rule | None,
        said: TaskType | None,
        reading: PromptReading,
        *,
        is_rehearsal: bool,
    ) -> Classification | None:
        """What an operator's rule says, else what the caller says, needs no classifier."""
        if rule is not None and rule.task_type is not None:
            return _said_by_a_rule(rule.name, rule.task_type)
        if said is not None:
            return Classification(said, reasons=("the caller says so",), source="caller")
        text = reading.last_turn()
        if not text:
            return None
        return await self.classifiers.classify(snapshot, PromptText(text, reading.system()), is_rehearsal=is_rehearsal)

    async def _conversation(
        self, policy: Policy, caller: Caller, request: ChatRequest, reading: PromptReading, hints: Mapping[str, str]
    ) -> _Conversation:
        said = hints.get(HINT, "")
        key = conversation_key(
            caller.team_id,
            said=said,
            system="" if said else reading.system(),
            first_turn="" if said else reading.first_turn(),
        )
        is_loop = Capability.TOOL_CALLING in request.needs and reading.is_tool_loop()
        if not key or not (_sticks(policy) or is_loop):
            return _Conversation(key, None, is_loop)
        return _Conversation(key, await self._pins.find(key), is_loop)

    def _turn(self, policy: Policy, *, is_rehearsal: bool) -> int:
        turn = self._turns[policy.id]
        if not is_rehearsal:
            self._turns[policy.id] = turn + 1
        return turn


def task_named(text: str, param: str = TASK_TYPE) -> TaskType | None:
    """The kind of work that a caller names, in upper or lower case; None for none, and where it is to be found out.

    :raises InvalidRequest: it is not one; `param` is where it stood.
    """
    name = text.strip().upper()
    if name in {"", FIND_OUT.upper()}:
        return None
    if name not in TASK_NAMES:
        raise InvalidRequest(
            f"“{text[:40]}” is no kind of work. Say {', '.join(TASK_NAMES)}, or {FIND_OUT}.", param=param
        )
    return TaskType(name)


@lru_cache(maxsize=1024)
def _said_by_a_rule(name: str, task: TaskType) -> Classification:
    return Classification(task, reasons=(f"rule “{name}”",), source="rule")


def _asks_for_task(policy: Policy) -> bool:
    return policy.strategy in BY_QUALITY or any(variant.policy.asks_for_task for variant in policy.variants)


def _asks_for_conversation(policy: Policy, request: ChatRequest) -> bool:
    """Whether anybody goes by it: a policy that sticks, a split by conversations, a loop of tools."""
    if policy.variants and any(variant.unit == "conversation" for variant in policy.variants):
        return True
    return Capability.TOOL_CALLING in request.needs or _sticks(policy)


def _sticks(policy: Policy) -> bool:
    return policy.is_sticky or any(variant.policy.is_sticky for variant in policy.variants)


def _asks_for_budget(policy: Policy) -> bool:
    return bool(policy.ladder) or any(variant.policy.ladder for variant in policy.variants)


def _tag(hints: Mapping[str, str]) -> str:
    """As a record can hold it: anybody can send anything."""
    said = hints.get(TAG, "")
    return "".join(character for character in said if character.isprintable())[:TAG_LENGTH] if said else ""


def _traffic(tag: str, persona: str, policy: str) -> str:
    """The kind of traffic that answers are alike in: what the caller calls it, else the persona, else the policy."""
    return f"tag:{tag}" if tag else f"persona:{persona}" if persona else f"policy:{policy}"
