"""Anthropic's messages wire: `POST /v1/messages`, `GET /v1/models` with an `anthropic-version` header.

Source: Claude API docs, "Messages", "Streaming messages", and "List models"
(https://platform.claude.com/docs/en/build-with-claude/streaming); field names checked with the anthropic SDK 2.11.
Date: 2026-11.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import MODELS, Ask, BadField, Frame, JsonObject, Refusal, Reply, count_prompt, read_body
from providers.demo.texts import VENDOR_ERRORS, vendor_error

NAME = "anthropic"
REQUEST_ID_HEADER = "request-id"
VERSION_HEADER = "anthropic-version"
GARBAGE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
_ROWS = [
    {"type": "model", "id": model.id, "display_name": model.label, "created_at": "2026-01-01T00:00:00Z"}
    for model in MODELS.values()
    if model.wire == NAME
]
MODEL_LIST = {"data": _ROWS, "has_more": False, "first_id": _ROWS[0]["id"], "last_id": _ROWS[-1]["id"]}

# --- the request ----------------------------------------------------------------------------------------------


class _Block(Struct):
    type: str
    text: str | None = None
    input: dict[str, Any] | None = None  # of a tool_use
    content: Any = None  # of a tool_result: a text or blocks


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]

    def blocks(self, kind: str) -> list[_Block]:
        return [] if isinstance(self.content, str) else [block for block in self.content if block.type == kind]


class _Tool(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    input_schema: dict[str, Any] | None = None
    description: str | None = None


class _Choice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(Struct):
    type: str
    schema: dict[str, Any] | None = None


class _OutputConfig(Struct):
    format: _Format | None = None


class _Body(Struct):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0)]
    system: str | list[_Block] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    output_config: _OutputConfig | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        return _ask(read_body(body, _DECODER), body)
    except BadField as error:
        if error.path is None:
            raise Refusal(400, f"The request body is not valid JSON: {error.what}.") from None
        place = error.path.replace("[", ".").replace("]", "") or "body"
        raise Refusal(400, f"{place}: {'Field required' if error.missing else error.what}") from None


def _ask(asked: _Body, body: bytes) -> Ask:
    model = MODELS.get(asked.model)
    if model is None or model.wire != NAME:
        raise Refusal(404, f"model: {asked.model}")
    spoken = [
        m for m in asked.messages if m.role == "user" and _text(m.content)
    ]  # a message of tool results has no text
    system = [
        _text(asked.system or ""),
        *(_text(message.content) for message in asked.messages if message.role == "system"),
    ]
    choice, last = asked.tool_choice, asked.messages[-1]
    wanted = asked.output_config.format if asked.output_config else None
    results = last.blocks("tool_result") if last.role == "user" else ()
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(part for part in system if part),
        history=tuple(_text(message.content) for message in spoken[:-1]),
        prompt=_text(spoken[-1].content) if spoken else "",
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=_input_tokens(asked),
        images=len(spoken[-1].blocks("image")) if spoken else 0,
        limit=asked.max_tokens,
        stops=tuple(asked.stop_sequences or ()),
        tools={tool.name: tool.input_schema or {} for tool in asked.tools or ()},
        tool_results=tuple(_result_text(block.content) for block in results),
        may_call=choice is None or choice.type != "none",
        forced_tool=(choice.name or "") if choice and choice.type in {"any", "tool"} else None,
        parallel_calls=not (choice and choice.disable_parallel_tool_use),
        schema=(wanted.schema or {}) if wanted and wanted.type == "json_schema" else None,
    )


def _text(content: str | list[_Block]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if block.type == "text" and block.text)


def _result_text(content: Any) -> str:
    """A tool_result's content: a text, blocks, or nothing."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def _input_tokens(asked: _Body) -> int:
    texts, images = [_text(asked.system or "")], 0
    values: list[Any] = [*filter(None, [asked.output_config, *(asked.tools or ())])]
    for message in asked.messages:
        texts += [_text(message.content), *(_result_text(block.content) for block in message.blocks("tool_result"))]
        values += [block.input for block in message.blocks("tool_use")]
        images += len(message.blocks("image"))
    return count_prompt(texts, values, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_NO_TEXT = {"type": "text", "text": ""}


def body_of(reply: Reply) -> JsonObject:
    content: list[JsonObject] = [{"type": "text", "text": reply.text()}] if reply.text() else []
    for head, arguments in reply.tool_calls():
        content.append({"type": "tool_use", "id": head.id, "name": head.name, "input": _input(arguments)})
    ending = {"stop_reason": _stop_reason(reply) if reply.show_finish else None, "stop_sequence": reply.stop_sequence}
    usage = {"usage": _usage(reply)} if reply.show_usage else {}
    return {**_message(reply), "content": content, **ending, **usage}


def frames_of(reply: Reply) -> Iterator[Frame]:
    """message_start, then each content block from start to stop (a ping in the first), message_delta, message_stop."""
    start = _message(reply)
    if reply.show_usage:
        start["usage"] = {**_usage(reply), "output_tokens": min(1, reply.usage.output_tokens)}
    yield _event("message_start", message=start)
    block, call = -1, None
    for piece in reply.pieces:
        if block < 0 or piece.call != call:
            if block >= 0:
                yield _event("content_block_stop", index=block)
            block, call = block + 1, piece.call
            tool = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
            yield _event("content_block_start", index=block, content_block=tool if piece.name else _NO_TEXT)
            if block == 0:
                yield _event("ping")
        text = {"type": "text_delta", "text": piece.text}
        more = text if piece.call is None else {"type": "input_json_delta", "partial_json": piece.text}
        yield _event("content_block_delta", tokens=1, index=block, delta=more)
    if not reply.show_finish:
        return
    if block >= 0:
        yield _event("content_block_stop", index=block)
    delta = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stop_sequence}
    usage: dict[str, Any] = {"usage": _usage(reply)} if reply.show_usage else {}
    yield _event("message_delta", delta=delta, **usage)
    if reply.show_done:
        yield _event("message_stop")


def _message(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": reply.model.id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(reply: Reply) -> str:
    return "stop_sequence" if reply.stop_sequence is not None else _STOP_REASONS[reply.finish]


def _input(arguments: str) -> Any:
    """A tool's input is an object, also when the limit cut its text short."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}


def _event(kind: str, *, tokens: int = 0, **fields: Any) -> Frame:
    data = msgspec.json.encode({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens


def _usage(reply: Reply) -> JsonObject:
    """Anthropic counts input in disjoint buckets, thinking inside `output_tokens`."""
    new, read, written, output, reasoning = reply.usage
    return {
        "input_tokens": new,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": output,
        "service_tier": "standard",
        **({"output_tokens_details": {"thinking_tokens": reasoning}} if reasoning else {}),
    }


_TYPES = {words.type for words in VENDOR_ERRORS[NAME].values()}


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    """A code that is one of the vendor's error types is shown as the type; other codes have no place here."""
    words = vendor_error(NAME, refusal.status, refusal.code)
    kind = refusal.code if refusal.code in _TYPES else words.type
    error = {"type": kind, "message": refusal.message or words.message}
    return {"type": "error", "error": error, "request_id": request_id}


def error_frame(request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error_body(Refusal(529), request_id))


def key_refusal(key: str) -> Refusal:
    return Refusal(401, "invalid x-api-key" if key else "x-api-key header is required")
