"""What an Anthropic client says and hears on /v1/messages: requests as far as the gateway understands them, errors.

Source: platform.claude.com/docs/en/api/messages, /api/errors and the types of anthropic 2.11 (2026-11).
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
from routerplatform.doors.formats.anthropic_reading import read_conversation
from routerplatform.doors.formats.anthropic_writing import StreamWriter, message_body
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_reading import wrong_field
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError, InvalidRequest
from routerplatform.gateway.prompt_templates import TEMPLATE

DOOR = "messages"
KEEP_ALIVE = sse.event("ping", b'{"type":"ping"}')
MOST_TOKENS = 2**31 - 1  # what a record holds
ABSENT = (b"", b"null")


class Block(Struct):
    """A tool's result holds blocks of its own."""

    type: str
    content: "str | list[Block] | dict[str, Raw] | None" = None


class Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class OutputConfig(Struct):
    format: Raw = Raw()


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name."""

    messages: list[Message]
    max_tokens: int | None = None
    model: str = "auto"
    persona: str = ""
    stream: bool | None = None
    temperature: float | None = None
    tools: list[Raw] | None = None
    output_config: OutputConfig | None = None
    thread: Raw = Raw()


_body = msgspec.json.Decoder(Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def parse(raw: bytes) -> ChatRequest:
    """Read a request body.

    :raises InvalidRequest: not UTF-8, not JSON (NaN, truncated, too deep), or a wrong field, which `param` names.
    """
    body, fields = _decode(raw)
    if body.max_tokens is None:
        raise InvalidRequest("max_tokens: Field required", param="max_tokens")
    if not 0 <= body.max_tokens <= MOST_TOKENS:  # 0 only fills the vendor's prompt cache
        raise InvalidRequest(f"max_tokens: must be at least 0 and at most {MOST_TOKENS:,}", param="max_tokens")
    return _request(raw, body, fields)


def parse_for_count(raw: bytes) -> ChatRequest:
    """Read the body of a request whose tokens shall only be counted: it has no `max_tokens`."""
    return _request(raw, *_decode(raw))


def _request(raw: bytes, body: Body, fields: dict[str, Raw]) -> ChatRequest:
    if not body.messages and not is_set(fields, TEMPLATE):
        raise InvalidRequest("messages: at least one message is required", param="messages")
    if bytes(body.thread) not in ABSENT:
        raise _no_threads()
    if body.temperature is not None and not 0 <= body.temperature <= 1:
        raise InvalidRequest("temperature: must lie between 0 and 1", param="temperature")
    return ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=bool(body.stream),
        wire=Wire.ANTHROPIC,
        fields=fields,
        conversation=lambda: read_conversation(fields),
        needs=_needs(body),
        input_tokens_bound=len(raw),
        input_tokens_estimate=estimate_tokens(raw),
        max_tokens=body.max_tokens,
        temperature=body.temperature,
    )


def _decode(raw: bytes) -> tuple[Body, dict[str, Raw]]:
    try:
        raw.decode()
        return _body(raw), _fields(raw)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error


def _no_threads() -> InvalidRequest:
    """A thread is a conversation that one vendor's account holds, and the next turn may go elsewhere. Official clients
    know this answer: they send the whole conversation instead. Source: anthropic 2.11 `ThreadState.recovers_from`."""
    error = InvalidRequest(
        "thread: this gateway holds no conversations. Send the full conversation without `thread`.", param="thread"
    )
    error.details = {"error_code": "thread_unsupported_request"}
    return error


def _needs(body: Body) -> frozenset[Capability]:
    needs = set()
    if body.stream:
        needs.add(Capability.STREAMING)
    if body.tools:
        needs.add(Capability.TOOL_CALLING)
    if body.output_config is not None and bytes(body.output_config.format) not in ABSENT:
        needs.add(Capability.JSON_SCHEMA)
    if any(_has_image(message.content) for message in body.messages):
        needs.add(Capability.VISION)
    return frozenset(needs)


def _has_image(content: object) -> bool:
    return isinstance(content, list) and any(block.type == "image" or _has_image(block.content) for block in content)


# --- answers ------------------------------------------------------------------------------------------------------


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """A whole message from events, for a target that spoke another wire."""
    return message_body(request, frames, heading)


def writer(request: ChatRequest, heading: Heading) -> StreamWriter:
    return StreamWriter(request, heading)


# --- errors -------------------------------------------------------------------------------------------------------

# Source: platform.claude.com/docs/en/api/errors (2026-11). What is not listed is an `invalid_request_error` below 500.
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_TYPES_BY_CODE = {"upstream_overloaded": "overloaded_error", "insufficient_quota": "billing_error"}


class ErrorOut(Struct):
    type: str
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class ErrorBody(Struct):
    error: ErrorOut
    request_id: str
    type: str = "error"


def error_body(error: GatewayError, request_id: str) -> bytes:
    """An error in Anthropic's shape. `details.error_code` is the gateway's own stable code, but where Anthropic has one
    that its clients act on."""
    usual = "api_error" if error.http_status >= 500 else "invalid_request_error"
    kind = _TYPES_BY_CODE.get(error.code) or _TYPES.get(error.http_status, usual)
    details: dict[str, Any] = {"error_code": error.code, **(error.details or {})}
    if error.param is not None:
        details["param"] = error.param
    return encode(ErrorBody(ErrorOut(kind, error.message, details), request_id))


def error_event(error: GatewayError, request_id: str) -> bytes:
    """No `message_stop` follows it."""
    return sse.event("error", error_body(error, request_id))
