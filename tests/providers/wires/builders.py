"""Requests, deployments and scripted streams for the wires' tests."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame, StreamEvent
from providers.domain.conversation import Conversation, Message, Part, Role, TextPart
from providers.domain.types import NO_DEFAULTS, Capability, ChatRequest, Deployment, Endpoint, PromptDefaults, Wire
from providers.wires import WIRES, AnswerReader


def deployment(
    wire: Wire,
    *,
    max_output_tokens: int | None = None,
    capabilities: Iterable[Capability] = (Capability.TEMPERATURE,),
    max_tokens_field: str = "max_tokens",
) -> Deployment:
    endpoint = Endpoint(
        1, "vendor", wire.value, (wire,), "https://vendor.example/v1", 5, 60, max_tokens_field=max_tokens_field
    )
    return Deployment(
        id=1,
        name="vendor/upstream-1",
        endpoint=endpoint,
        upstream_model="upstream-1",
        model="upstream-1",
        credentials=(),
        capabilities=frozenset(capabilities),
        context_window=None,
        max_output_tokens=max_output_tokens,
        cost_tier="standard",
        price=None,
    )


def sent_by_caller(wire: Wire, body: bytes, *, stream: bool = False, max_tokens: int | None = None) -> ChatRequest:
    """A request on `wire` whose body is `body`, as a door reads it."""
    return ChatRequest(
        model="auto",
        stream=stream,
        wire=wire,
        fields=msgspec.json.decode(body, type=dict[str, Raw]),
        conversation=_unread,
        needs=frozenset(),
        input_tokens_bound=len(body),
        input_tokens_estimate=1,
        max_tokens=max_tokens,
    )


def saying(conversation: Conversation, *, stream: bool = False) -> ChatRequest:
    """A request from a door without a wire of a vendor's."""
    return ChatRequest(
        model="auto",
        stream=stream,
        wire=None,
        fields={},
        conversation=lambda: conversation,
        needs=frozenset(),
        input_tokens_bound=1,
        input_tokens_estimate=1,
        max_tokens=conversation.max_tokens,
    )


def user(*parts: Part | str) -> Message:
    return Message(Role.USER, _parts(parts))


def assistant(*parts: Part | str) -> Message:
    return Message(Role.ASSISTANT, _parts(parts))


def system(*parts: Part | str) -> Message:
    return Message(Role.SYSTEM, _parts(parts))


def body_of(request: ChatRequest, target: Deployment, defaults: PromptDefaults = NO_DEFAULTS) -> dict[str, Any]:
    call = WIRES[target.endpoint.wires[0]].build(request, target, defaults)
    decoded: dict[str, Any] = msgspec.json.decode(call.body)
    return decoded


def reader(wire: Wire, *, include_usage: bool = True) -> AnswerReader:
    request = replace(saying(Conversation(()), stream=True), wire=wire, include_usage=include_usage)
    return WIRES[wire].stream_reader(request)


def sse(*payloads: object, done: bool = False) -> bytes:
    """OpenAI's framing: `data:` lines, and `[DONE]` at the end."""
    frames = [b"data: " + msgspec.json.encode(payload) + b"\n\n" for payload in payloads]
    return b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def named_sse(*payloads: dict[str, Any]) -> bytes:
    """Anthropic's framing: the type is in an `event:` line too."""
    return b"".join(
        b"event: " + payload["type"].encode() + b"\ndata: " + msgspec.json.encode(payload) + b"\n\n"
        for payload in payloads
    )


def events_of(frames: Iterable[Frame]) -> list[StreamEvent]:
    return [event for frame in frames for event in frame.events]


def raw_of(frames: Iterable[Frame]) -> bytes:
    return b"".join(frame.raw for frame in frames)


def read_all(wire: Wire, stream: bytes, *, include_usage: bool = True) -> list[Frame]:
    """The whole stream in one piece."""
    answer = reader(wire, include_usage=include_usage)
    return answer.feed(stream) + answer.close()


def _parts(parts: Iterable[Part | str]) -> tuple[Part, ...]:
    return tuple(TextPart(part) if isinstance(part, str) else part for part in parts)


def _unread() -> Conversation:
    raise AssertionError("a target of the caller's own wire must not have the conversation read")
