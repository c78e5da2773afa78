"""What an OpenAI client says and hears on /v1/responses.

Source: developers.openai.com/api/reference/resources/responses/methods/create, and openai 3.52 (2026-11). A request is
checked here only as far as the gateway needs to understand it; everything else passes through.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Frame
from providers.domain.estimate import estimate_tokens
from providers.domain.types import Capability, ChatRequest, Wire
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_body import check_limit, check_temperature, decode_body
from routerplatform.doors.formats.openai_responses_reading import read_conversation
from routerplatform.doors.formats.openai_responses_writing import (
    Json,
    ResponseWriter,
    answered,
    error_fields,
    heading_of,
)
from routerplatform.doors.formats.protocol import Heading
from routerplatform.doors.formats.sealed_reasoning import for_openai
from routerplatform.gateway.errors import GatewayError, InvalidRequest


class ToolKind(Struct):
    type: str = "function"


class FormatKind(Struct):
    type: str = "text"


class TextOptions(Struct):
    format: FormatKind | None = None


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name."""

    input: str | list[dict[str, Raw]] | None = None
    model: str = "auto"
    persona: str = ""
    stream: bool | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    background: bool | None = None
    store: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    tools: list[ToolKind] | None = None
    text: TextOptions | None = None
    reasoning: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


class ItemName(Struct):
    """What every item may have."""

    type: Any = None
    id: Any = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """A request, and what it takes to go on from its answer. `input` is all that was said before it, as the caller and
    earlier answers said it; `previous` is the id it goes on from."""

    request: ChatRequest
    input: Raw
    previous: str = ""
    store: bool = False


DOOR = "responses"
KEEP_ALIVE = sse.KEEP_ALIVE
NOTHING: Mapping[str, Raw] = MappingProxyType({})

_NEEDED_FOR = {b"input_image": Capability.VISION, b"input_file": Capability.DOCUMENTS}
_FORMATS_NEED = {"json_object": Capability.JSON_MODE, "json_schema": Capability.JSON_SCHEMA}
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_OWN_ITEM = re.compile(r"[a-z]+_([0-9a-f-]{36})_\d+")
_body = msgspec.json.Decoder(Body)
_name = msgspec.json.Decoder(ItemName).decode
_array = msgspec.json.Decoder(list[Raw]).decode


def parse(raw: bytes) -> ChatRequest:
    """Read a request body that stands for itself.

    :raises InvalidRequest: not UTF-8, not JSON (NaN, truncated, too deep), or a wrong field, which `param` names.
    """
    return spoken(raw).request


def spoken(raw: bytes, earlier: bytes = b"", known: Mapping[str, Raw] = NOTHING) -> Spoken:
    """As `parse`; `earlier` is the JSON array of what was said before, which then no vendor needs to know. `known` are
    items by their ids, for those that the input only names."""
    body, fields = decode_body(raw, _body)
    _check(body)
    size = raw
    if known:
        fields["input"] = _spelled_out(fields["input"], known)
    if earlier:
        new = items_of(fields.get("input", Raw()))
        fields["input"] = Raw(msgspec.json.encode([*_array(earlier), *new]))
        fields.pop("previous_response_id", None)
    if earlier or known:
        size = msgspec.json.encode(fields)
    said = fields.get("input", Raw())
    request = ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=bool(body.stream),
        wire=Wire.OPENAI_RESPONSES,
        fields=fields | {"input": for_openai(said)} if "input" in fields else fields,
        conversation=lambda: read_conversation(fields),
        needs=_needs(body, bytes(said)),
        input_tokens_bound=len(size),
        input_tokens_estimate=estimate_tokens(size),
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
    )
    return Spoken(request, said, body.previous_response_id or "", body.store is not False)


def _check(body: Body) -> None:
    if body.background:
        raise InvalidRequest(
            "“background” is not possible here: an answer comes with its request. Leave it out, or set it to false.",
            param="background",
        )
    if body.conversation is not None:
        raise InvalidRequest(
            "Conversations are not kept here. Send “previous_response_id”, or the whole conversation as “input”.",
            param="conversation",
        )
    if not body.input and not body.previous_response_id and not body.prompt:
        raise InvalidRequest("“input” must be text, or hold at least one item.", param="input")
    check_limit(body.max_output_tokens, "max_output_tokens")
    check_temperature(body.temperature)


def items_of(said: Raw) -> list[Raw]:
    """An input, item by item; each keeps its bytes."""
    text = bytes(said)
    if text.startswith(b"["):
        return _array(text)
    return [Raw(b'{"role":"user","content":' + text + b"}")] if text.startswith(b'"') else []


def named_items(said: Raw) -> list[str]:
    """The ids of the items that are only named, in order."""
    if b"item_reference" not in bytes(said):
        return []
    return [name for raw in items_of(said) if (name := _named(raw))]


def response_with(item_id: str) -> str:
    """The response of ours that an item came with, by the id that `Output` gave it; empty for any other id."""
    found = _OWN_ITEM.fullmatch(item_id)
    return f"resp_{found[1]}" if found else ""


def by_id(items: bytes) -> dict[str, Raw]:
    """Those of a kept conversation's items that have ids."""
    return {item.id: raw for raw in _array(items) if isinstance((item := _name(raw)).id, str)}


def _spelled_out(said: Raw, known: Mapping[str, Raw]) -> Raw:
    return Raw(msgspec.json.encode([known.get(_named(raw), raw) for raw in _array(said)]))


def _named(raw: Raw) -> str:
    """The id of an item that is only named; empty for what says something itself."""
    item = _name(raw)
    return item.id if item.type == "item_reference" and isinstance(item.id, str) else ""


def _needs(body: Body, items: bytes) -> frozenset[Capability]:
    """What only the vendor itself can run asks nothing of other models: there it is left out."""
    needs = {need for name, need in _NEEDED_FOR.items() if name in items and _has_part(items, name.decode())}
    if body.stream:
        needs.add(Capability.STREAMING)
    if any(tool.type == "function" for tool in body.tools or ()):
        needs.add(Capability.TOOL_CALLING)
    if body.text and body.text.format and body.text.format.type in _FORMATS_NEED:
        needs.add(_FORMATS_NEED[body.text.format.type])
    return frozenset(needs)


def _has_part(items: bytes, kind: str) -> bool:
    """Whether there is such a part, and not only talk about one."""
    try:
        found = msgspec.json.decode(items)
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    lists = (item.get(name) for item in found if isinstance(item, dict) for name in ("content", "output"))
    parts = (part for parts in lists if isinstance(parts, list) for part in parts)
    return any(isinstance(part, dict) and part.get("type") == kind for part in parts)


# --- answers ------------------------------------------------------------------------------------------------------


def response_of(spoken: Spoken, frames: Sequence[Frame], heading: Heading) -> Json:
    """A whole answer from events, for a target that spoke another wire."""
    return answered(_top(spoken, heading), heading.request_id, frames)


def writer_of(spoken: Spoken, heading: Heading) -> ResponseWriter:
    """A stream from events, for a target that spoke another wire."""
    return ResponseWriter(_top(spoken, heading), heading.request_id)


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """As `response_of`, for a request that is not gone on from."""
    return encode(response_of(_alone(request), frames, heading))


def writer(request: ChatRequest, heading: Heading) -> ResponseWriter:
    return writer_of(_alone(request), heading)


def _alone(request: ChatRequest) -> Spoken:
    return Spoken(request, Raw())


def _top(spoken: Spoken, heading: Heading) -> Json:
    return heading_of(spoken.request.fields, heading, previous=spoken.previous or None, store=spoken.store)


# --- errors -------------------------------------------------------------------------------------------------------


def error_body(error: GatewayError, request_id: str) -> bytes:
    """An error in OpenAI's shape, with the id to quote."""
    return openai_chat.error_body(error, request_id)


def error_event(error: GatewayError, request_id: str, after: bytes = b"") -> bytes:
    """`after` is the last frame that the target sent, whose numbers go on. No final event follows."""
    found = _SEQUENCE_NUMBER.findall(after)
    number = int(found[-1]) + 1 if found else 0
    fields = {"type": "error", "sequence_number": number, **error_fields(error, request_id)}
    return sse.event("error", encode(fields))
