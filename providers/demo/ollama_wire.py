"""Ollama's own wire: `POST /api/chat`, whole and as newline-delimited JSON, and `GET /api/tags`. No key is needed.

Source: docs.ollama.com/api/chat, /api/tags, /api/errors, docs.ollama.com/capabilities (thinking, tool calling,
structured outputs), and the messages of `api/types.go` and `server/routes.go` of github.com/ollama/ollama.
Date: 2026-11. Calls carry no id here, as older servers do it: a caller has to find names again by itself.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal

import msgspec
from msgspec import Struct

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
    read_body,
)
from providers.demo.texts import vendor_error

NAME = "ollama"
REQUEST_ID_HEADER = ""  # it gives none
RETRY_HEADER = "retry-after"
KEY_HEADERS: tuple[str, ...] = ()
STREAM_TYPE = "application/x-ndjson"
OVERLOADED = 500
BLOCKED: JsonObject = {}
GARBAGE = b'{"model":"demo-swift","message":{"role":"assistant","con\n'
_MADE = "2026-01-01T00:00:00Z"


class _Function(Struct):
    name: str
    arguments: dict[str, Any]


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    role: str
    content: str = ""
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Declared(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    type: str
    function: _Declared


class _Options(Struct):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: list[str] | None = None
    num_ctx: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class _Body(Struct):
    model: str
    messages: list[_Message] = []
    stream: bool | None = None
    format: Literal["json", ""] | dict[str, Any] | None = None
    tools: list[_Tool] | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    options: _Options | None = None
    keep_alive: str | int | float | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        _check(asked)
    except BadField as error:
        raise bad_request(error) from None
    model = model_named(asked.model)
    if model is None:
        raise unknown_model(asked.model)
    users = [message for message in asked.messages if message.role == "user"]
    options = asked.options or _Options()
    limit = options.num_predict
    return Ask(
        model=model,
        stream=asked.stream is not False,  # Ollama streams unless told not to
        system="\n".join(message.content for message in asked.messages if message.role == "system"),
        history=tuple(message.content for message in users[:-1]),
        prompt=users[-1].content if users else "",
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=_input_tokens(asked),
        images=len(users[-1].images or ()) if users else 0,
        limit=limit if limit is not None and limit >= 0 else None,  # -1: no limit
        stops=tuple(options.stop or ()),
        tools={tool.function.name: tool.function.parameters or {} for tool in asked.tools or ()},
        tool_results=_tool_results(asked.messages),
        schema={} if asked.format == "json" else asked.format or None,
        hides=frozenset({"cached", "cache_write"}),
        shows_thought=asked.think is not False,
    )


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"model '{name}' not found")


def bad_request(error: BadField) -> Refusal:
    return Refusal(400, error.what if error.path is None else f"json: {error.path or 'body'}: {error.what}")


def _check(asked: _Body) -> None:
    """Images are bare base64; a tool's result follows on the call of a tool, and says of which."""
    called: set[str] = set()
    for at, message in enumerate(asked.messages):
        if message.role not in {"system", "user", "assistant", "tool"}:
            raise BadField(f"messages[{at}].role", f"invalid role: {message.role}, must be system, user or assistant")
        for image in message.images or ():
            try:
                base64.b64decode(image, validate=True)
            except (ValueError, binascii.Error):
                raise BadField(f"messages[{at}].images", "illegal base64 data at input byte 4") from None
        if message.role == "tool" and (message.tool_name or "") not in called:
            raise BadField(f"messages[{at}].tool_name", f"no tool '{message.tool_name or ''}' was called before it")
        if message.role != "tool":
            called = {call.function.name for call in message.tool_calls or ()}


def _tool_results(messages: list[_Message]) -> tuple[str, ...]:
    results: list[str] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.insert(0, message.content)
    return tuple(results)


def _input_tokens(asked: _Body) -> int:
    texts = [message.content for message in asked.messages]
    texts += [message.thinking for message in asked.messages if message.thinking]
    called = [call.function for message in asked.messages for call in message.tool_calls or ()]
    values: list[Any] = [*called, *(tool.function for tool in asked.tools or ())]
    if isinstance(asked.format, dict):
        values.append(asked.format)
    images = sum(len(message.images or ()) for message in asked.messages)
    return count_prompt(texts, values, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------


def body_of(reply: Reply) -> JsonObject:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text()}
    if reply.thought():
        message["thinking"] = reply.thought()
    if reply.tool_calls():
        message["tool_calls"] = [_call(head, arguments) for head, arguments in reply.tool_calls()]
    ending = _ending(reply) if reply.show_finish else {"done": False}
    return {**_head(reply), "message": message, **ending}


def frames_of(reply: Reply) -> Iterator[Frame]:
    """A line for each token; a call comes whole. The last line says `done`, and nothing follows it."""
    for _, group in groupby(reply.pieces, key=lambda piece: (piece.thought, piece.call)):
        pieces = list(group)
        if pieces[0].call is not None:
            arguments = "".join(piece.text for piece in pieces)
            yield _line(reply, {"content": "", "tool_calls": [_call(pieces[0], arguments)]}), len(pieces)
            continue
        for piece in pieces:
            said = {"content": "", "thinking": piece.text} if piece.thought else {"content": piece.text}
            yield _line(reply, said), 1
    if reply.show_finish:
        yield _line(reply, {"content": ""}, **_ending(reply)), 0


def _call(head: Piece, arguments: str) -> JsonObject:
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        value = {}  # the limit cut it short
    return {"function": {"index": head.call, "name": head.name, "arguments": value}}


def _head(reply: Reply) -> JsonObject:
    return {"model": reply.model.id, "created_at": _MADE}


def _line(reply: Reply, said: JsonObject, **ending: Any) -> bytes:
    line = {**_head(reply), "message": {"role": "assistant", **said}, "done": False, **ending}
    return msgspec.json.encode(line) + b"\n"


def _ending(reply: Reply) -> JsonObject:
    """Ollama knows two ways to end; calls end in "stop" too. Thoughts are counted with the rest."""
    ending = {"done": True, "done_reason": "length" if reply.finish == "length" else "stop"}
    durations = {"total_duration": 1_000_000, "load_duration": 1_000, "eval_duration": 500_000}
    counts = {"prompt_eval_count": sum(reply.usage[:3]), "eval_count": reply.usage.output_tokens}
    return {**ending, **durations, **(counts if reply.show_usage else {})}


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    return {"error": refusal.message or vendor_error(NAME, refusal.status, refusal.code).message}


def error_frame(request_id: str) -> bytes:
    return msgspec.json.encode(error_body(Refusal(500), request_id)) + b"\n"


def key_refusal(key: str) -> Refusal:
    return Refusal(401, "unauthorized")


def model_list(name: str | None) -> JsonObject | None:
    details = {"format": "gguf", "family": "demo", "families": ["demo"], "parameter_size": "1B"}
    rows = [
        {
            "name": f"{model.id}:latest",
            "model": f"{model.id}:latest",
            "modified_at": _MADE,
            "size": 1_000_000,
            "digest": hashlib.sha256(model.id.encode()).hexdigest(),
            "details": {**details, "quantization_level": "Q4_0"},
        }
        for model in LISTED
    ]
    return {"models": rows} if name is None else next((row for row in rows if row["name"] == name), None)
