"""Anthropic's messages wire: `POST /v1/messages`, `GET /v1/models` with an `anthropic-version` header.

Source: Claude API docs, "Messages", "Streaming messages", "Extended thinking", "Tool use" and "List models"
(https://platform.claude.com/docs/en/build-with-claude/streaming); field names checked with the anthropic SDK 2.11.
Date: 2026-11.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import (
    LISTED,
    NOWHERE,
    Ask,
    BadField,
    Frame,
    JsonObject,
    Piece,
    Place,
    Refusal,
    Reply,
    count_prompt,
    model_named,
    proof_of,
    read_body,
)
from providers.demo.texts import VENDOR_ERRORS, vendor_error

NAME = "anthropic"
REQUEST_ID_HEADER = "request-id"
RETRY_HEADER = "retry-after"
KEY_HEADERS: tuple[str, ...] = ("x-api-key", "authorization")
STREAM_TYPE = "text/event-stream; charset=utf-8"
OVERLOADED = 529
BLOCKED: JsonObject = {}
LEAST_BUDGET = 1024
VERSION_HEADER = "anthropic-version"
GARBAGE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
_MODEL = {
    "created_at": "2026-01-01T00:00:00Z",
    "lifecycle": "active",
    "max_input_tokens": 200_000,
    "max_tokens": 64_000,
}
_ROWS: list[dict[str, Any]] = [
    {"type": "model", "id": model.id, "display_name": model.label, **_MODEL} for model in LISTED if model.wire == NAME
]
MODEL_LIST: dict[str, Any] = {"data": _ROWS, "has_more": False, "first_id": _ROWS[0]["id"], "last_id": _ROWS[-1]["id"]}

# --- the request ----------------------------------------------------------------------------------------------


class _Block(Struct):
    type: str
    text: str | None = None
    id: str | None = None  # of a tool_use
    input: dict[str, Any] | None = None  # of a tool_use
    tool_use_id: str | None = None
    content: Any = None  # of a tool_result: a text or blocks
    thinking: str | None = None
    signature: str | None = None


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


class _Thinking(Struct):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None


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
    thinking: _Thinking | None = None

    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        _check_thinking(asked)
        _check_turns(asked.messages)
        return _ask(asked, body)
    except BadField as error:
        if error.path is None:
            raise Refusal(400, f"The request body is not valid JSON: {error.what}.") from None
        where = error.path.replace("[", ".").replace("]", "") or "body"
        raise Refusal(400, f"{where}: {'Field required' if error.missing else error.what}") from None


def _check_thinking(asked: _Body) -> None:
    if asked.thinking is None or not asked.thinks():
        return
    budget = asked.thinking.budget_tokens
    if asked.thinking.type == "enabled" and (budget is None or budget < LEAST_BUDGET):
        raise BadField("thinking.enabled.budget_tokens", f"Input should be greater than or equal to {LEAST_BUDGET}")
    if budget is not None and asked.max_tokens <= budget:
        raise BadField("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`")
    if asked.temperature not in {None, 1}:
        raise BadField("temperature", "`temperature` may only be set to 1 when thinking is enabled")
    if asked.tool_choice and asked.tool_choice.type in {"any", "tool"}:
        raise BadField("tool_choice", "Thinking may not be enabled when tool_choice forces tool use")


def _check_turns(messages: list[_Message]) -> None:
    """No empty text, each call answered in the next message, thoughts as they were given."""
    called: set[str] = set()
    for at, message in enumerate(messages):
        blocks = [] if isinstance(message.content, str) else message.content
        if any(block.type == "text" and not block.text for block in blocks):
            raise BadField(f"messages[{at}]", "text content blocks must be non-empty")
        if message.role == "user" and not message.content:
            raise BadField(f"messages[{at}]", "user messages must have non-empty content")
        answered = {block.tool_use_id or "" for block in message.blocks("tool_result")}
        if answered - called:
            what = f"unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(answered - called)}"
            raise BadField(f"messages[{at}].content", what)
        if called - answered:
            missing = ", ".join(called - answered)
            what = f"`tool_use` ids were found without `tool_result` blocks immediately after: {missing}"
            raise BadField(f"messages[{at - 1}]", what)
        for block in message.blocks("thinking"):
            if block.signature != proof_of(block.thinking or ""):
                raise BadField(f"messages[{at}].content[0]", "Invalid `signature` in `thinking` block")
        called = {block.id or "" for block in message.blocks("tool_use")}
    if called:
        raise BadField(f"messages[{len(messages) - 1}]", "`tool_use` ids were found without `tool_result` blocks")


def _lost_thought(asked: _Body) -> str:
    """While a tool is waited for, thinking goes on: the message with the call begins with what was thought."""
    if not asked.thinks():
        return ""
    for at in range(len(asked.messages) - 1, -1, -1):
        message = asked.messages[at]
        if message.role == "user" and not message.blocks("tool_result"):
            return ""
        if message.blocks("tool_use") and isinstance(message.content, list):
            first = message.content[0].type
            if first not in {"thinking", "redacted_thinking"}:
                expected = f"Expected `thinking` or `redacted_thinking`, but found `{first}`"
                return f"messages.{at}.content.0.type: {expected}. When `thinking` is enabled, a final `assistant` " + (
                    "message must start with a thinking block"
                )
    return ""


def _ask(asked: _Body, body: bytes) -> Ask:
    model = model_named(asked.model)
    if model is None:
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
        shows_thought=asked.thinks(),
        lost_thought=_lost_thought(asked),
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
        texts += [block.thinking or "" for block in message.blocks("thinking")]
        values += [block.input for block in message.blocks("tool_use")]
        images += len(message.blocks("image"))
    return count_prompt(texts, values, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_NO_TEXT = {"type": "text", "text": ""}


def body_of(reply: Reply) -> JsonObject:
    content: list[JsonObject] = []
    if thought := reply.thought():
        content.append({"type": "thinking", "thinking": thought, "signature": proof_of(thought)})
    if text := reply.text():
        content.append({"type": "text", "text": text})
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
    block = -1
    before: Piece | None = None
    for piece in reply.pieces:
        if before is None or (piece.call, piece.thought) != (before.call, before.thought):
            yield from _block_ends(reply, block, before)
            block += 1
            yield _event("content_block_start", index=block, content_block=_opening(piece))
            if block == 0:
                yield _event("ping")
        before = piece
        yield _event("content_block_delta", tokens=1, index=block, delta=_delta(piece))
    if not reply.show_finish:
        return
    yield from _block_ends(reply, block, before)
    delta = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stop_sequence}
    usage: dict[str, Any] = {"usage": _usage(reply)} if reply.show_usage else {}
    yield _event("message_delta", delta=delta, **usage)
    if reply.show_done:
        yield _event("message_stop")


def _opening(piece: Piece) -> JsonObject:
    if piece.thought:
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}} if piece.name else _NO_TEXT


def _delta(piece: Piece) -> JsonObject:
    if piece.thought:
        return {"type": "thinking_delta", "thinking": piece.text}
    if piece.call is not None:
        return {"type": "input_json_delta", "partial_json": piece.text}
    return {"type": "text_delta", "text": piece.text}


def _block_ends(reply: Reply, block: int, last: Piece | None) -> Iterator[Frame]:
    """A thought ends with its signature."""
    if last is not None and last.thought:
        proof = {"type": "signature_delta", "signature": proof_of(reply.thought())}
        yield _event("content_block_delta", index=block, delta=proof)
    if last is not None:
        yield _event("content_block_stop", index=block)


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
    if reply.is_refusal:
        return "refusal"
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


def model_list(name: str | None) -> JsonObject | None:
    return MODEL_LIST if name is None else next((row for row in _ROWS if row["id"] == name), None)


def count_tokens(body: bytes) -> JsonObject:
    """`POST /v1/messages/count_tokens`: the same request without a limit."""
    try:
        fields = read_body(body, msgspec.json.Decoder(dict[str, msgspec.Raw]))
    except BadField:
        fields = {}  # whatever it is, it is refused below
    return {"input_tokens": read_ask(msgspec.json.encode({"max_tokens": 1_000_000, **fields})).input_tokens}
