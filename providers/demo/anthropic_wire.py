"""Anthropic's messages wire: `POST /v1/messages`, `GET /v1/models` with an `anthropic-version` header.

Source: Claude API docs, "Messages", "Streaming messages", "Errors" and "List models"
(https://platform.claude.com/docs/en/build-with-claude/streaming, .../en/api/errors); field names checked with the
anthropic SDK 2.11. Date: 2026-11.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.catalogue import MODELS, DemoModel, WireName, models_of
from providers.demo.exchange import (
    ArgumentsPiece,
    Ask,
    Finish,
    Frame,
    JsonObject,
    Piece,
    Refusal,
    Reply,
    TextPiece,
    Tool,
    ToolPiece,
)
from providers.demo.reading import BadField, MalformedBody, digest_of, json_text, read_body
from providers.demo.tokens import count_prompt

NAME = WireName.ANTHROPIC
REQUEST_ID_HEADER = "request-id"
VERSION_HEADER = "anthropic-version"
RELEASED = "2026-01-01T00:00:00Z"

# --- the request ----------------------------------------------------------------------------------------------


class _Block(Struct):
    type: str
    text: str | None = None
    input: dict[str, Any] | None = None  # of a tool_use
    content: Any = None  # of a tool_result: a text or blocks


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


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
        asked = read_body(body, _DECODER)
        return _ask(asked, _served(asked.model), body)
    except MalformedBody as error:
        raise Refusal(400, f"The request body is not valid JSON: {error}.") from None
    except BadField as error:
        place = error.path.replace("[", ".").replace("]", "") or "body"
        raise Refusal(400, f"{place}: {'Field required' if error.missing else error.what}") from None


def _served(name: str) -> DemoModel:
    model = MODELS.get(name)
    if model is None or model.wire is not NAME:
        raise Refusal(404, f"model: {name}")
    return model


def _ask(asked: _Body, model: DemoModel, body: bytes) -> Ask:
    users = [message for message in asked.messages if message.role == "user"]
    spoken = [message for message in users if _text(message.content)]  # a message of tool results has no text
    system = [_text(asked.system or ""), *(_text(m.content) for m in asked.messages if m.role == "system")]
    choice = asked.tool_choice
    wanted = asked.output_config.format if asked.output_config else None
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(part for part in system if part),
        history=tuple(_text(message.content) for message in spoken[:-1]),
        prompt=_text(spoken[-1].content) if spoken else "",
        digest=digest_of(body),
        input_tokens=_input_tokens(asked),
        images=_images(spoken[-1].content) if spoken else 0,
        limit=asked.max_tokens,
        stops=tuple(asked.stop_sequences or ()),
        tools=tuple(Tool(tool.name, tool.input_schema or {}) for tool in asked.tools or ()),
        tool_results=_tool_results(asked.messages[-1]),
        may_call=choice is None or choice.type != "none",
        forced_tool=_forced_tool(choice),
        parallel_calls=not (choice and choice.disable_parallel_tool_use),
        schema=(wanted.schema or {}) if wanted and wanted.type == "json_schema" else None,
    )


def _text(content: str | list[_Block]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if block.type == "text" and block.text)


def _images(content: str | list[_Block]) -> int:
    return 0 if isinstance(content, str) else sum(block.type == "image" for block in content)


def _tool_results(last: _Message) -> tuple[str, ...]:
    if isinstance(last.content, str) or last.role != "user":
        return ()
    return tuple(_result_text(block.content) for block in last.content if block.type == "tool_result")


def _result_text(content: Any) -> str:
    """A tool_result's content: a text, blocks, or nothing."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def _forced_tool(choice: _Choice | None) -> str | None:
    if choice is None or choice.type in {"auto", "none"}:
        return None
    return choice.name or ""


def _input_tokens(asked: _Body) -> int:
    texts = [_text(asked.system or "")]
    images = 0
    for message in asked.messages:
        texts.append(_text(message.content))
        images += _images(message.content)
        for block in message.content if isinstance(message.content, list) else ():
            if block.type == "tool_use":
                texts.append(json_text(block.input, "messages"))
            elif block.type == "tool_result":
                texts.append(_result_text(block.content))
    texts += [json_text(tool, "tools") for tool in asked.tools or ()]
    texts += [json_text(asked.output_config, "output_config")] if asked.output_config else []
    return count_prompt(texts, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------

_STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.CONTENT_FILTER: "refusal",
}


def body_of(reply: Reply) -> JsonObject:
    content: list[JsonObject] = [
        {"type": "tool_use", "id": head.id, "name": head.name, "input": _input(arguments)}
        for head, arguments in reply.tool_calls()
    ]
    if text := reply.text():
        content.insert(0, {"type": "text", "text": text})
    message = {
        **_message(reply, content),
        "stop_reason": _stop_reason(reply) if reply.show_finish else None,
        "stop_sequence": reply.stop_sequence,
    }
    return {**message, "usage": _usage(reply)} if reply.show_usage else message


def frames_of(reply: Reply) -> Iterator[Frame]:
    """message_start, then each content block from start to stop (a ping in the first), message_delta, message_stop."""
    start = _message(reply, [])
    if reply.show_usage:
        start["usage"] = {**_usage(reply), "output_tokens": min(1, reply.usage.output_tokens)}
    yield _event("message_start", message=start)
    block, open_block = -1, ""
    for piece in reply.pieces:
        key = "text" if isinstance(piece, TextPiece) else f"tool {piece.index}"
        opens = key != open_block
        if opens:
            if open_block:
                yield _event("content_block_stop", index=block)
            block, open_block = block + 1, key
            yield _event("content_block_start", index=block, content_block=_empty_block(piece))
        if opens and block == 0:
            yield _event("ping")
        yield _event("content_block_delta", tokens=1, index=block, delta=_delta(piece))
    if not reply.show_finish:
        return
    if open_block:
        yield _event("content_block_stop", index=block)
    delta = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stop_sequence}
    if reply.show_usage:
        yield _event("message_delta", delta=delta, usage=_usage(reply))
    else:
        yield _event("message_delta", delta=delta)
    if reply.show_done:
        yield _event("message_stop")


def _message(reply: Reply, content: list[JsonObject]) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": reply.model.id,
        "content": content,
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


def _empty_block(piece: Piece) -> JsonObject:
    if isinstance(piece, ToolPiece):
        return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
    return {"type": "text", "text": ""}


def _delta(piece: Piece) -> JsonObject:
    match piece:
        case TextPiece(text):
            return {"type": "text_delta", "text": text}
        case ToolPiece():
            return {"type": "input_json_delta", "partial_json": ""}
        case ArgumentsPiece(_, text):
            return {"type": "input_json_delta", "partial_json": text}


def _event(kind: str, *, tokens: int = 0, **fields: Any) -> Frame:
    data = msgspec.json.encode({"type": kind, **fields})
    return Frame(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens)


def _usage(reply: Reply) -> JsonObject:
    """Anthropic counts input in disjoint buckets, thinking inside `output_tokens`."""
    usage = reply.usage
    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


# --- errors and models ----------------------------------------------------------------------------------------

# status -> (type, message): the page "Errors"
_ERRORS: dict[int, tuple[str, str]] = {
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is an issue with your billing or payment information."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    409: ("conflict_error", "The request conflicts with another one."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    504: ("timeout_error", "The request timed out while processing."),
    529: ("overloaded_error", "Overloaded"),
}
# code -> (type, message), whatever the status
_CODES: dict[str, tuple[str, str]] = {
    "insufficient_quota": (
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to purchase credits.",
    ),
    "context_length_exceeded": ("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
}
_TYPES = {"invalid_request_error", "api_error", *(kind for kind, _ in _ERRORS.values())}


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    fallback = ("invalid_request_error", "") if refusal.status < 500 else ("api_error", "Internal server error")
    kind, message = _ERRORS.get(refusal.status, fallback)
    if refusal.code in _CODES:
        kind, message = _CODES[refusal.code]
    elif refusal.code in _TYPES:
        kind = refusal.code
    message = refusal.message or message or "The demo provider was asked to refuse this request."
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def error_frame(request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error_body(Refusal(529), request_id))


def garbage_frame() -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'


def key_refusal(key: str) -> Refusal:
    return Refusal(401, "invalid x-api-key" if key else "x-api-key header is required")


def model_list() -> JsonObject:
    rows = [model_row(model) for model in models_of(NAME)]
    return {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}


def model_row(model: DemoModel) -> JsonObject:
    return {"type": "model", "id": model.id, "display_name": model.label, "created_at": RELEASED}
