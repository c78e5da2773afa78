"""What an OpenAI client says and hears on /v1/chat/completions.

Source: OpenAI API reference, Chat Completions: create, the chat completion object and chunk object (2026-11).
A request is checked here only as far as the gateway needs to understand it; everything else passes through.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from providers.domain.answer import Frame
from providers.domain.estimate import estimate_tokens
from providers.domain.types import Capability, ChatRequest, Wire
from providers.wires.request_fields import is_set
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_body import (
    StreamOptions,
    check_choices,
    check_limit,
    check_temperature,
    decode_body,
)
from routerplatform.doors.formats.openai_reading import read_conversation
from routerplatform.doors.formats.openai_writing import StreamWriter, whole_answer
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError, InvalidRequest
from routerplatform.gateway.prompt_templates import TEMPLATE


class Part(Struct):
    type: str


class Message(Struct):
    """`content` may be absent only beside tool calls; which roles a model takes is the vendor's business."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class WantedFormat(Struct):
    type: str


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name. `messages` may
    be absent beside a template."""

    messages: list[Message] = []
    model: str = "auto"
    persona: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    tools: list[Raw] | None = None
    response_format: WantedFormat | None = None
    reasoning_effort: str | None = None
    n: int | None = None


DOOR = "chat-completions"
KEEP_ALIVE = sse.KEEP_ALIVE

_PARTS_NEED = {"image_url": Capability.VISION, "file": Capability.DOCUMENTS}
_body = msgspec.json.Decoder(Body)


def parse(raw: bytes) -> ChatRequest:
    """Read a request body.

    :raises InvalidRequest: not UTF-8, not JSON (NaN, truncated, too deep), or a wrong field, which `param` names.
    """
    body, fields = decode_body(raw, _body)
    if not body.messages:
        if not is_set(fields, TEMPLATE):
            raise InvalidRequest("“messages” must hold at least one message.", param="messages")
        fields["messages"] = Raw(b"[]")  # the template has some
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    check_limit(limit, "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens")
    check_choices(body.n)
    check_temperature(body.temperature)
    options = body.stream_options
    return ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=bool(body.stream),
        wire=Wire.OPENAI,
        fields=fields,
        conversation=lambda: read_conversation(fields),
        needs=_needs(body),
        input_tokens_bound=len(raw),
        input_tokens_estimate=estimate_tokens(raw),
        max_tokens=limit,
        choices=body.n or 1,
        include_usage=bool(options and options.include_usage),
        temperature=body.temperature,
    )


def _needs(body: Body) -> frozenset[Capability]:
    needs = set()
    if body.stream:
        needs.add(Capability.STREAMING)
    if body.tools:
        needs.add(Capability.TOOL_CALLING)
    if body.response_format:
        match body.response_format.type:
            case "json_object":
                needs.add(Capability.JSON_MODE)
            case "json_schema":
                needs.add(Capability.JSON_SCHEMA)
    for message in body.messages:
        if isinstance(message.content, list):
            needs.update(_PARTS_NEED[part.type] for part in message.content if part.type in _PARTS_NEED)
    return frozenset(needs)


# --- answers ------------------------------------------------------------------------------------------------------


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """A whole answer from events, for a target that spoke another wire."""
    return whole_answer(frames, heading)


def writer(request: ChatRequest, heading: Heading) -> StreamWriter:
    return StreamWriter(heading, include_usage=request.include_usage)


# --- errors -------------------------------------------------------------------------------------------------------


class ErrorOut(Struct):
    message: str
    type: str
    code: str
    param: str | None
    details: dict[str, Any] | UnsetType = UNSET


class ErrorBody(Struct):
    error: ErrorOut
    request_id: str


def error_body(error: GatewayError, request_id: str) -> bytes:
    """An error in OpenAI's shape, with the id to quote."""
    out = ErrorOut(error.message, error.kind, error.code, error.param, error.details or UNSET)
    return encode(ErrorBody(out, request_id))


def error_event(error: GatewayError, request_id: str) -> bytes:
    """No `[DONE]` follows it."""
    return sse.data(error_body(error, request_id))
