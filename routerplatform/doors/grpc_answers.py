"""What a gRPC caller hears: the platform's own frames, gathered into `AIResponse` messages."""

from collections.abc import Iterable

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.pricing import usd
from routerplatform.doors.formats.native import Delta, Done, FrameOut, NativeWriter, Tool
from routerplatform.gateway.steps import Opened
from routerplatform.protos.ai_router_pb2 import AIResponse, Candidate, Cost, Decision, ToolCall, Usage
from routing.domain.decision import RoutePlan
from routing.domain.ladder import step_in_words


class AnswerWriter:
    """Turns one answer into messages: `piece` for what comes, `last` for its end; or `last` alone for all of it."""

    def __init__(self, request_id: str, opened: Opened) -> None:
        self._native = NativeWriter(request_id)
        self._request_id = request_id
        self._opened = opened
        self._has_begun = False

    def piece(self, frames: Iterable[Frame]) -> AIResponse | None:
        """What is new; None where nothing is that a reader could see."""
        message = AIResponse(request_id=self._request_id)
        _gather(message, self._native.frames(frames))
        if not message.text and not message.reasoning:
            return None
        if not self._has_begun:
            self._has_begun = True
            self._tell_route(message)
        return message

    def last(self, frames: Iterable[Frame], entry: UsageEntry) -> AIResponse:
        message = AIResponse(
            request_id=self._request_id,
            usage=usage_of(entry),
            latency_ms=entry.latency_ms,
            ttft_ms=entry.ttft_ms,
            overhead_ms=entry.overhead_ms,
            attempts=len(entry.attempts),
            done=True,
        )
        self._tell_route(message)
        _gather(message, self._native.frames(frames))
        _gather(message, self._native.end(entry))
        if entry.cost_nano is not None:
            message.cost.CopyFrom(_cost(entry, entry.cost_nano))
        return message

    def _tell_route(self, message: AIResponse) -> None:
        opened = self._opened
        message.model = opened.deployment.model
        message.provider = opened.deployment.endpoint.name
        message.deployment = opened.deployment.name
        message.persona = opened.plan.persona
        message.policy = opened.plan.policy
        message.decision.CopyFrom(decision_of(opened.plan))
        message.cache = opened.cache
        message.notice = step_in_words(opened.plan.step, opened.budget_used)


def _gather(message: AIResponse, frames: Iterable[FrameOut]) -> None:
    text, reasoning = [], []
    for frame in frames:
        match frame:
            case Delta():
                text.append(frame.text)
                reasoning.append(frame.reasoning)
            case Tool():
                message.tool_calls.append(ToolCall(id=frame.call_id, name=frame.name, arguments=frame.arguments))
            case Done():
                message.finish_reason = frame.finish_reason
    message.text += "".join(text)
    message.reasoning += "".join(reasoning)


def usage_of(entry: UsageEntry) -> Usage:
    """The buckets of a record, each token in one of them but for the reasoning."""
    read, written = entry.cache_read_input_tokens, entry.cache_creation_input_tokens
    return Usage(
        input_tokens=entry.input_tokens,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=entry.output_tokens,
        reasoning_tokens=entry.reasoning_tokens,
        total_tokens=entry.input_tokens + read + written + entry.output_tokens,
        source=entry.usage_source,
    )


def _cost(entry: UsageEntry, nano: int) -> Cost:
    is_kept = entry.cache == "hit"
    return Cost(usd=f"{usd(nano):f}", nano_usd=nano, saved_nano_usd=entry.saved_nano if is_kept else None)


def decision_of(plan: RoutePlan) -> Decision:
    """Why this route, in short."""
    return Decision(
        requested=plan.requested,
        how=plan.how,
        strategy=plan.strategy.value,
        task_type=plan.task_type.value if plan.task is not None else "",
        rule=plan.rule,
        arm=plan.arm,
        step=plan.step.name,
        candidates=[
            Candidate(
                deployment=one.deployment,
                alias=one.alias,
                verdict=one.verdict,
                reason=one.reason,
                estimated_cost_nano=one.estimated_cost_nano,
            )
            for one in plan.considered
        ],
    )
