"""OpenAI's chat completions wire: `POST /v1/chat/completions`, `GET /v1/models`.

Source: OpenAI API reference, "Create chat completion", "The chat completion chunk object" and "Models"; field names
checked with the openai SDK 3.52. Date: 2026-11. What is thought and shown goes as `reasoning_content`, the field of
DeepSeek, xAI and vLLM: OpenAI's own chat completions show none.
"""

import hashlib
from collections.abc import Iterator
from itertools import takewhile
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
    read_body,
)
from providers.demo.texts import vendor_error

NAME = "openai"
REQUEST_ID_HEADER = "x-request-id"
RETRY_HEADER = "retry-after"
KEY_HEADERS: tuple[str, ...] = ("authorization", "api-key", "x-api-key")  # `api-key` is Azure's
STREAM_TYPE = "text/event-stream; charset=utf-8"
OVERLOADED = 500
BLOCKED: JsonObject = {}
GARBAGE = b'data: {"id":"chatcmpl-broken","object":"chat.completion.chunk","choices":[{"index":0,"del\n\n'
RELEASED = 1_767_225_600  # 2026-01-01, when the demo models "were released"
_MODEL = {"object": "model", "created": RELEASED, "owned_by": "router-platform-demo"}
MODEL_LIST: dict[str, Any] = {
    "object": "list",
    "data": [{"id": model.id, **_MODEL} for model in LISTED if model.wire == NAME],
}

# --- the request ----------------------------------------------------------------------------------------------


class _Part(Struct):
    type: str
    text: str | None = None


class _Function(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    """A tool that is offered, or the one that must be called."""

    type: str
    function: _Function | None = None


class _Called(Struct):
    name: str
    arguments: str


class _Call(Struct):
    id: str
    type: Literal["function"]
    function: _Called


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""

    def images(self) -> int:
        return sum(part.type == "image_url" for part in self.content) if isinstance(self.content, list) else 0


class _Schema(Struct):
    name: str
    schema: dict[str, Any] | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Body(Struct):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None  # the demo provider gives one choice
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Tool | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        if asked.stream_options is not None and not asked.stream:
            raise BadField("stream_options", "it is only allowed when 'stream' is enabled")
        if asked.max_tokens is not None and asked.max_completion_tokens is not None:
            raise BadField("max_tokens", "it is not supported together with 'max_completion_tokens'")
        _check_tool_turns(asked.messages)
        return _ask(asked, body)
    except BadField as error:
        raise field_refusal(error) from None


def field_refusal(error: BadField) -> Refusal:
    if error.path is None:
        return Refusal(400, f"We could not parse the JSON body of your request: {error.what}.")
    if error.missing:
        message = f"Missing required parameter: '{error.path}'."
        return Refusal(400, message, code="missing_required_parameter", param=error.path)
    message = f"Invalid value for '{error.path or 'body'}': {error.what}."
    return Refusal(400, message, code="invalid_value", param=error.path or None)


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found")


def _check_tool_turns(messages: list[_Message]) -> None:
    """Every call is answered by a tool message at once, and no tool speaks without having been called."""
    open_calls: set[str] = set()
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                what = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                raise BadField(f"messages[{at}].role", what)
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls:
            what = "an assistant message with 'tool_calls' must be followed by tool messages for each 'tool_call_id'"
            raise BadField(f"messages[{at}].role", what)
        open_calls = {call.id for call in message.tool_calls or ()}
    if open_calls:
        raise BadField("messages", f"no tool answered the calls {', '.join(sorted(open_calls))}")


def _ask(asked: _Body, body: bytes) -> Ask:
    model = model_named(asked.model)
    if model is None:
        raise unknown_model(asked.model)
    users = [message for message in asked.messages if message.role == "user"]
    tools = [tool.function for tool in asked.tools or () if tool.function]
    choice, wanted = asked.tool_choice, asked.response_format
    schema = (wanted and wanted.json_schema and wanted.json_schema.schema) or {}
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(message.text() for message in asked.messages if message.role in {"system", "developer"}),
        history=tuple(message.text() for message in users[:-1]),
        prompt=users[-1].text() if users else "",
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=_input_tokens(asked, tools),
        images=users[-1].images() if users else 0,
        limit=asked.max_completion_tokens or asked.max_tokens,
        stops=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        tools={tool.name: tool.parameters or {} for tool in tools},
        tool_results=_tool_results(asked.messages),
        may_call=choice != "none",
        forced_tool=_forced_tool(choice),
        parallel_calls=asked.parallel_tool_calls is not False,
        schema=schema if wanted and wanted.type != "text" else None,
        include_usage=not asked.stream or bool((asked.stream_options or {}).get("include_usage")),
    )


def _tool_results(messages: list[_Message]) -> tuple[str, ...]:
    """What tools answered at the end of the conversation, after the last word of anybody else."""
    answers = takewhile(lambda message: message.role in {"tool", "function"}, reversed(messages))
    return tuple(message.text() for message in answers)[::-1]


def _forced_tool(choice: str | _Tool | None) -> str | None:
    if isinstance(choice, _Tool):
        return choice.function.name if choice.function else None
    return "" if choice == "required" else None


def _input_tokens(asked: _Body, tools: list[_Function]) -> int:
    texts = [message.text() for message in asked.messages]
    texts += [message.reasoning_content for message in asked.messages if message.reasoning_content]
    called = [call.function for message in asked.messages for call in message.tool_calls or ()]
    values = filter(None, [*called, *tools, asked.response_format])
    images = sum(message.images() for message in asked.messages)
    return count_prompt(texts, values, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------


def body_of(reply: Reply) -> dict[str, Any]:
    calls = [
        {"id": head.id, "type": "function", "function": {"name": head.name, "arguments": arguments}}
        for head, arguments in reply.tool_calls()
    ]
    text, thought = reply.text(), reply.thought()
    content = None if reply.is_refusal or (calls and not text) else text
    refusal = text if reply.is_refusal else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal, "annotations": []}
    message |= {"tool_calls": calls} if calls else {}
    message |= {"reasoning_content": thought} if thought else {}
    finish = reply.finish if reply.show_finish else None
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {**_head(reply, "chat.completion"), "choices": [choice]}
    return {**body, "usage": usage_of(reply)} if reply.show_usage else body


def frames_of(reply: Reply) -> Iterator[Frame]:
    """Role, then a chunk for each token, the finish reason, the usage when it was asked for, and `[DONE]`."""
    head = _head(reply, "chat.completion.chunk")
    if reply.show_usage:
        head["usage"] = None
    calls_only = bool(reply.pieces) and reply.pieces[0].call is not None
    yield _chunk(head, {"role": "assistant", "content": None if calls_only else "", "refusal": None})
    for piece in reply.pieces:
        yield _chunk(head, _delta(piece, reply), tokens=1)
    if not reply.show_finish:
        return
    yield _chunk(head, {}, finish=reply.finish)
    if reply.show_usage:
        yield _event({**head, "choices": [], "usage": usage_of(reply)}), 0
    if reply.show_done:
        yield b"data: [DONE]\n\n", 0


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.digest[:29]}",
        "object": kind,
        "created": reply.created,
        "model": reply.model.id,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _delta(piece: Piece, reply: Reply) -> dict[str, Any]:
    if piece.thought:
        return {"reasoning_content": piece.text}
    if piece.call is None and reply.is_refusal:
        return {"refusal": piece.text}
    if piece.call is None:
        return {"content": piece.text}
    if not piece.name:
        return {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    function = {"name": piece.name, "arguments": ""}
    return {"tool_calls": [{"index": piece.call, "id": piece.id, "type": "function", "function": function}]}


def _chunk(head: dict[str, Any], delta: dict[str, Any], *, finish: str | None = None, tokens: int = 0) -> Frame:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event({**head, "choices": [choice]}), tokens


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def usage_of(reply: Reply) -> dict[str, Any]:
    """OpenAI counts cached tokens inside `prompt_tokens`, reasoning inside `completion_tokens`."""
    new, read, written, output, reasoning = reply.usage
    prompt = new + read + written
    guessed = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0, **guessed},
    }


def error_body(refusal: Refusal, request_id: str) -> dict[str, Any]:
    words = vendor_error(NAME, refusal.status, refusal.code)
    code = None if refusal.message else words.code  # a message of its own says something else
    message = refusal.message or words.message
    return {"error": {"message": message, "type": words.type, "param": refusal.param, "code": refusal.code or code}}


def error_frame(request_id: str) -> bytes:
    return _event(error_body(Refusal(500), request_id))


def key_refusal(key: str) -> Refusal:
    if not key:
        return Refusal(401, "You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY")
    shown = f"{key[:4]}{'*' * (len(key) - 8)}{key[-4:]}" if len(key) > 8 else "*" * len(key)
    return Refusal(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def model_list(name: str | None) -> JsonObject | None:
    return MODEL_LIST if name is None else next((row for row in MODEL_LIST["data"] if row["id"] == name), None)
