"""The platform's own shape, the same over WebSocket, REST and REST streaming: small typed frames.

A request is OpenAI's chat body plus `persona`. An answer is a row of frames:

    start   the request id                       done    why the answer ended: the last frame of a good answer
    route   which model serves, and why          error   code, message, request id: the last frame of a bad one
    delta   more text, or more reasoning         ready   (WebSocket) signed in; what may be asked for
    tool    a tool call, when it is complete     pong    (WebSocket) answers ping
    usage   tokens, cost, times
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from analytics.domain.usage import UsageEntry
from providers.domain.answer import (
    Finished,
    Frame,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from routerplatform.doors.formats.ascii_json import encode as encode
from routerplatform.doors.formats.openai_writing import NO_ARGUMENTS
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.steps import Closed, Opened
from routing.domain.explanation import explanation
from routing.domain.ladder import step_in_words


class FrameOut(Struct, kw_only=True, omit_defaults=True, tag_field="type", tag=str.lower):
    """`id` is the caller's own id of a chat and `seq` counts a socket's frames; both only over WebSocket."""

    id: str = ""
    seq: int = -1


class Ready(FrameOut):
    personas: list[dict[str, str]]
    models: list[dict[str, str]]


class Pong(FrameOut):
    pass


class Start(FrameOut):
    request_id: str


class Route(FrameOut):
    """`notice` is for the person who asks: what a budget that fills does to the answer; empty where nothing."""

    deployment: str
    provider: str
    model: str
    persona: str
    policy: str
    attempts: int
    decision: dict[str, Any]
    notice: str = ""


class Delta(FrameOut):
    text: str = ""
    reasoning: str = ""


class Tool(FrameOut):
    """`arguments` is JSON text, as the model wrote it."""

    index: int
    call_id: str
    name: str
    arguments: str


class UsageFrame(FrameOut, tag="usage"):
    """`cost_usd` is null when the price is unknown; times are milliseconds."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cost_usd: float | None
    ttft_ms: float | None
    latency_ms: float
    attempts: int


class Done(FrameOut):
    finish_reason: str


class Failed(FrameOut, tag="error"):
    """`retry_after_s`: seconds, where somebody knows when it is worth another try."""

    code: str
    message: str
    request_id: str
    status: int
    param: str = ""
    retry_after_s: float | None = None


class NativeWriter:
    """Turns the steps of one answer into frames; remembers tool calls until they are complete."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._tools: dict[int, Tool] = {}
        self._finish = "stop"

    def start(self) -> FrameOut:
        return Start(request_id=self._request_id)

    def opened(self, opened: Opened) -> FrameOut:
        return Route(
            deployment=opened.deployment.name,
            provider=opened.deployment.endpoint.name,
            model=opened.deployment.model,
            persona=opened.plan.persona,
            policy=opened.plan.policy,
            attempts=opened.attempts,
            decision=explanation(opened.plan),
            notice=step_in_words(opened.plan.step, opened.budget_used),
        )

    def frames(self, frames: Iterable[Frame]) -> Iterator[FrameOut]:
        """One delta for all the text that came together: a reader sees no difference, the wire carries less."""
        text: list[str] = []
        for event in (event for frame in frames for event in frame.events):
            match event:
                case TextDelta(piece) | RefusalDelta(piece):
                    text.append(piece)
                case ReasoningDelta(piece):
                    yield Delta(reasoning=piece)
                case ToolCallStart(index, call_id, name):
                    self._tools[index] = Tool(index=index, call_id=call_id, name=name, arguments="")
                case ToolCallDelta(index, arguments):
                    self._tools[index].arguments += arguments
                case Finished(reason):
                    self._finish = reason.value
        if text:
            yield Delta(text="".join(text))

    def closed(self, closed: Closed) -> Iterator[FrameOut]:
        yield from self.frames(closed.frames)
        yield from self.end(closed.entry)

    def end(self, entry: UsageEntry) -> Iterator[FrameOut]:
        """What follows the last piece of an answer."""
        for tool in self._tools.values():
            tool.arguments = tool.arguments or NO_ARGUMENTS
            yield tool
        yield usage_frame(entry)
        yield Done(finish_reason=self._finish)

    def failed(self, error: GatewayError) -> FrameOut:
        return Failed(
            code=error.code,
            message=error.message,
            request_id=self._request_id,
            status=error.http_status,
            param=error.param or "",
            retry_after_s=error.retry_after_s,
        )


def usage_frame(entry: UsageEntry) -> UsageFrame:
    return UsageFrame(
        input_tokens=entry.input_tokens + entry.cache_creation_input_tokens,
        output_tokens=entry.output_tokens,
        cache_read_input_tokens=entry.cache_read_input_tokens,
        cost_usd=None if entry.cost_nano is None else entry.cost_nano / 1e9,
        ttft_ms=entry.ttft_ms,
        latency_ms=entry.latency_ms,
        attempts=len(entry.attempts),
    )


def answer(opened: Opened, frames: Iterable[Frame], entry: UsageEntry) -> dict[str, Any]:
    """A whole answer, all its frames at hand, as one JSON object."""
    writer = NativeWriter(entry.request_id)
    out = [*writer.frames(frames), *writer.end(entry)]
    route = msgspec.to_builtins(writer.opened(opened))
    usage = msgspec.to_builtins(usage_frame(entry))
    calls = [{"id": f.call_id, "name": f.name, "arguments": f.arguments} for f in out if isinstance(f, Tool)]
    return {
        "id": entry.request_id,
        "persona": route["persona"],
        "model": route["model"],
        "provider": route["provider"],
        "deployment": route["deployment"],
        "content": "".join(f.text for f in out if isinstance(f, Delta)),
        "reasoning": "".join(f.reasoning for f in out if isinstance(f, Delta)),
        "tool_calls": calls,
        "finish_reason": next(f.finish_reason for f in out if isinstance(f, Done)),
        "usage": {name: value for name, value in usage.items() if name.endswith("_tokens")},
        "cost_usd": usage["cost_usd"],
        "ttft_ms": usage["ttft_ms"],
        "latency_ms": usage["latency_ms"],
        "attempts": usage["attempts"],
        "decision": route["decision"],
        **({"notice": route["notice"]} if "notice" in route else {}),
    }
