"""A `Situations` of a test's own, put together as a gateway puts it together, and requests that have ended."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from providers.domain.answer import Finished, FinishReason, Frame, TextDelta, Usage, UsageReported
from providers.domain.conversation import Conversation, Message, Role, TextPart, ToolCallPart, ToolResultPart
from providers.domain.types import Capability, ChatRequest, Deployment, UpstreamRequest, Wire
from providers.fleet.health import FleetHealth
from providers.transport import Transport
from routerplatform.gateway.classifiers.build import PlugIns
from routerplatform.gateway.conversation_pins import ConversationPins
from routerplatform.gateway.deployment_standings import DeploymentStandings
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.situations import Situations
from routerplatform.gateway.tally import Tally
from routerplatform.gateway.task_classifier import TaskClassifiers
from routing.domain.config import Caller, ClassifierSpec, ConfigSnapshot, Policy
from routing.domain.decision import RoutePlan, decide
from routing.domain.situation import Situation
from routing.trained import TrainedArtefacts
from tests.routing.domain.build import NOW, alias, caller, deployment, policy, request, snapshot

SWIFT, SAGE = deployment(1, "swift"), deployment(2, "sage")
OWN = "tests.gateway_path.own_classifiers"  # where the dotted classes of tests are


class Clock:
    """Time that passes when a test says so; seconds."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@dataclass
class Parts:
    """`asked_budgets` are the (key, persona) that a budget was looked up for; `failures` what the metrics are told."""

    situations: Situations
    plug_ins: PlugIns
    pins: ConversationPins
    standings: DeploymentStandings
    health: FleetHealth
    rate_limits: RateLimits
    clock: Clock
    asked_budgets: list[tuple[int, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    async def of(
        self,
        config: ConfigSnapshot,
        asked: ChatRequest,
        who: Caller | None = None,
        hints: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Situation:
        return await self.situations.of(config, who or caller(), asked, hints or {}, "request-1", **options)

    def ended(self, config: ConfigSnapshot, asked: ChatRequest, found: Situation, tally: Tally) -> RoutePlan:
        plan = decide(config, caller(), asked, found)
        self.situations.ended(plan, found, tally)
        return plan


def parts(
    *,
    budget_used: float = 0.0,
    pins: ConversationPins | None = None,
    classifier: str = "",
    networks: tuple[str, ...] = (),
) -> Parts:
    """Alone in the world: no Redis, no artefact, no journal."""
    clock = Clock()
    health, rate_limits = FleetHealth(None, clock=clock), RateLimits(None, clock=clock)
    standings = DeploymentStandings(health, rate_limits, clock=clock)
    asked: list[tuple[int, str]] = []
    failures: list[tuple[str, str]] = []

    async def used(who: Caller, persona: str) -> float:
        asked.append((who.key_id, persona))
        return budget_used

    artefacts = TrainedArtefacts(shipped=Path("/nowhere"))
    plug_ins = PlugIns(
        Transport(), lambda name, reason: failures.append((name, reason)), setting=classifier, allowed_networks=networks
    )
    pins = pins or ConversationPins(clock=clock)
    situations = Situations(
        budget_used=used, artefacts=artefacts, classifiers=TaskClassifiers(artefacts, plug_ins), pins=pins,
        standings=standings,
    )  # fmt: skip
    return Parts(situations, plug_ins, pins, standings, health, rate_limits, clock, asked, failures)


def own_classifier(name: str, **options: Any) -> ClassifierSpec:
    """A class of `own_classifiers`, with time enough on a busy machine."""
    return ClassifierSpec("own", "dotted", dotted_path=f"{OWN}.{name}", **{"timeout_ms": 10_000, **options})


def config_of(rules: Policy, *, classifier: str = "", **options: Any) -> ConfigSnapshot:
    names = [alias("swift", SWIFT), alias("sage", SAGE)]
    made = snapshot(*names, policies=(rules,), default=rules, **options)
    return replace(made, classifier=own_classifier(classifier)) if classifier else made


def rules_of(name: str = "default", **options: Any) -> Policy:
    return policy(name, alias("swift", SWIFT), alias("sage", SAGE), **options)


def says(*turns: str, system: str = "", tools: bool = False, model: str = "auto", **options: Any) -> ChatRequest:
    """A person's turns with an assistant's between them; `system` before them."""
    messages = [Message(Role.SYSTEM, (TextPart(system),))] if system else []
    for number, turn in enumerate(turns):
        if number:
            messages.append(Message(Role.ASSISTANT, (TextPart("I see."),)))
        messages.append(Message(Role.USER, (TextPart(turn),)))
    return said(messages, tools=tools, model=model, **options)


def said(messages: list[Message], *, tools: bool = False, model: str = "auto", **options: Any) -> ChatRequest:
    needs = frozenset({Capability.TOOL_CALLING}) if tools else frozenset()
    return request(model, conversation=lambda: Conversation(tuple(messages)), needs=needs, **options)


def tool_loop(first_turn: str) -> ChatRequest:
    """The model has called a tool, and is told what it answered."""
    called = Message(Role.ASSISTANT, (ToolCallPart("call-1", "weather", "{}"),))
    answered = Message(Role.USER, (ToolResultPart("call-1", "Sunny"),))
    return said([Message(Role.USER, (TextPart(first_turn),)), called, answered], tools=True)


def unread() -> Conversation:
    raise AssertionError("nobody needs to know what was said")


def answered(
    by: Deployment, *, asked: ChatRequest | None = None, output_tokens: int = 5, input_tokens: int = 40,
    finish: FinishReason = FinishReason.STOP,
) -> Tally:  # fmt: skip
    """A request that `by` has answered."""
    tally = Tally(asked or request(), 0.0, 400)
    tally.begin(by, "alias", None, Wire.OPENAI, UpstreamRequest("", {}, b""))
    usage = Usage(input_tokens, output_tokens=output_tokens)
    tally.see([Frame(b"", (TextDelta("Hi"), Finished(finish), UsageReported(usage)))])
    tally.end()
    return tally


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what it waits for is in another process or thread
            await asyncio.sleep(0.005)
