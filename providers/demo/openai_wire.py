"""OpenAI's chat completions wire: `POST /v1/chat/completions`, `GET /v1/models`.

Source: OpenAI API reference, "Create chat completion", "The chat completion chunk object" and "Models"; guide "Error
codes" (https://developers.openai.com/api/docs/guides/error-codes); field names checked with the openai SDK 3.52.
Date: 2026-11.
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

NAME = WireName.OPENAI
REQUEST_ID_HEADER = "x-request-id"
RELEASED = 1_767_225_600  # 2026-01-01, when the demo models "were released"

# --- the request ----------------------------------------------------------------------------------------------


class _Part(Struct):
    type: str
    text: str | None = None


class _ToolMessageCall(Struct):
    function: dict[str, Any] | None = None


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolMessageCall] | None = None


class _Function(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    type: str
    function: _Function | None = None


class _ChosenFunction(Struct):
    name: str


class _Choice(Struct):
    type: str
    function: _ChosenFunction | None = None


class _Schema(Struct):
    name: str
    schema: dict[str, Any] | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Body(Struct):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        _check_combinations(asked)
        return _ask(asked, _served(asked.model), body)
    except MalformedBody as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}.") from None
    except BadField as error:
        raise _field_refusal(error) from None


def _served(name: str) -> DemoModel:
    model = MODELS.get(name)
    if model is None or model.wire is not NAME:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Refusal(404, message, code="model_not_found")
    return model


def _field_refusal(error: BadField) -> Refusal:
    param = error.path or None
    if error.missing:
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    else:
        message, code = f"Invalid value for '{param or 'body'}': {error.what}.", "invalid_value"
    return Refusal(400, message, code=code, param=param)


def _check_combinations(asked: _Body) -> None:
    """What OpenAI refuses although each field is fine."""
    if asked.stream_options is not None and not asked.stream:
        raise Refusal(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise Refusal(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
            param="max_tokens",
        )
    if asked.n is not None and asked.n > 1:
        raise Refusal(400, "The demo provider gives one choice: 'n' must be 1.", code="unsupported_value", param="n")
    if isinstance(asked.stop, list) and len(asked.stop) > 4:
        raise Refusal(400, "Invalid 'stop': array too long, at most 4.", code="array_above_max_length", param="stop")


def _ask(asked: _Body, model: DemoModel, body: bytes) -> Ask:
    users = [at for at, message in enumerate(asked.messages) if message.role == "user"]
    last = users[-1] if users else -1
    choice = asked.tool_choice
    stop = asked.stop
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(_text(message) for message in asked.messages if message.role in {"system", "developer"}),
        history=tuple(_text(asked.messages[at]) for at in users[:-1]),
        prompt=_text(asked.messages[last]) if users else "",
        digest=digest_of(body),
        input_tokens=_input_tokens(asked),
        images=_images(asked.messages[last]) if users else 0,
        limit=asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens,
        stops=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        tools=tuple(
            Tool(tool.function.name, tool.function.parameters or {}) for tool in asked.tools or () if tool.function
        ),
        tool_results=_tool_results(asked.messages),
        may_call=choice != "none",
        forced_tool=_forced_tool(choice),
        parallel_calls=asked.parallel_tool_calls is not False,
        schema=_schema(asked.response_format),
        include_usage=not asked.stream or bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _text(message: _Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content if part.text)
    return message.content or ""


def _images(message: _Message) -> int:
    parts = message.content if isinstance(message.content, list) else []
    return sum(part.type == "image_url" for part in parts)


def _tool_results(messages: list[_Message]) -> tuple[str, ...]:
    """What tools answered at the end of the conversation, after the last word of anybody else."""
    results: list[str] = []
    for message in reversed(messages):
        if message.role not in {"tool", "function"}:
            break
        results.insert(0, _text(message))
    return tuple(results)


def _forced_tool(choice: str | _Choice | None) -> str | None:
    if isinstance(choice, _Choice):
        return choice.function.name if choice.function else None
    return "" if choice == "required" else None


def _schema(wanted: _Format | None) -> JsonObject | None:
    if wanted is None or wanted.type == "text":
        return None
    return (wanted.json_schema.schema or {}) if wanted.json_schema else {}


def _input_tokens(asked: _Body) -> int:
    texts = [_text(message) for message in asked.messages]
    calls = [call.function for message in asked.messages for call in message.tool_calls or ()]
    texts += [json_text(call, "messages") for call in calls if call]
    texts += [json_text(tool.function, "tools") for tool in asked.tools or () if tool.function]
    texts += [json_text(asked.response_format, "response_format")] if asked.response_format else []
    images = sum(_images(message) for message in asked.messages)
    return count_prompt(texts, messages=len(asked.messages), images=images)


# --- the reply ------------------------------------------------------------------------------------------------


def body_of(reply: Reply) -> JsonObject:
    calls = reply.tool_calls()
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls else reply.text(),
        "refusal": None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = [
            {"id": head.id, "type": "function", "function": {"name": head.name, "arguments": arguments}}
            for head, arguments in calls
        ]
    finish = reply.finish if reply.show_finish else None
    body = {
        **_head(reply, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    return {**body, "usage": _usage(reply)} if reply.show_usage else body


def frames_of(reply: Reply) -> Iterator[Frame]:
    """Role, then a chunk for each token, the finish reason, the usage when it was asked for, and `[DONE]`."""
    head = _head(reply, "chat.completion.chunk")
    if reply.show_usage:
        head["usage"] = None
    calls = any(isinstance(piece, ToolPiece) for piece in reply.pieces)
    yield _chunk(head, {"role": "assistant", "content": None if calls else "", "refusal": None})
    for piece in reply.pieces:
        yield _chunk(head, _delta(piece), tokens=1)
    if not reply.show_finish:
        return
    yield _chunk(head, {}, finish=reply.finish)
    if reply.show_usage:
        yield Frame(_event({**head, "choices": [], "usage": _usage(reply)}))
    if reply.show_done:
        yield Frame(b"data: [DONE]\n\n")


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.digest[:29]}",
        "object": kind,
        "created": reply.created,
        "model": reply.model.id,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _delta(piece: Piece) -> JsonObject:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case ToolPiece(index, call_id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        case ArgumentsPiece(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _chunk(head: JsonObject, delta: JsonObject, *, finish: Finish | None = None, tokens: int = 0) -> Frame:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return Frame(_event({**head, "choices": [choice]}), tokens)


def _event(data: JsonObject) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _usage(reply: Reply) -> JsonObject:
    """OpenAI counts cached tokens inside `prompt_tokens`, reasoning inside `completion_tokens`."""
    usage = reply.usage
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# --- errors and models ----------------------------------------------------------------------------------------

# status -> (type, code, message): the guide "Error codes"
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("request_forbidden", "unsupported_country_region_territory", "Country, region, or territory not supported"),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    413: ("invalid_request_error", None, "Request body too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please slow down and try again."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", "The engine is currently overloaded, try again later."),
}
# code -> (type, message), whatever the status
_CODES: dict[str, tuple[str, str]] = {
    "insufficient_quota": (
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "context_length_exceeded": (
        "invalid_request_error",
        "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
    ),
    "slow_down": ("rate_limit_error", "Your request rate rose too fast. Please slow down."),
}


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    fallback = "invalid_request_error" if refusal.status < 500 else "server_error"
    kind, code, message = _ERRORS.get(refusal.status, (fallback, None, "The demo provider was asked to fail."))
    if refusal.code in _CODES:
        kind, message = _CODES[refusal.code]
    if refusal.message:
        code = None  # said for a reason of its own
    error = {
        "message": refusal.message or message,
        "type": kind,
        "param": refusal.param,
        "code": refusal.code or code,
    }
    return {"error": error}


def error_frame(request_id: str) -> bytes:
    return _event(error_body(Refusal(500), request_id))


def garbage_frame() -> bytes:
    return b'data: {"id":"chatcmpl-broken","object":"chat.completion.chunk","choices":[{"index":0,"del\n\n'


def key_refusal(key: str) -> Refusal:
    if not key:
        return Refusal(
            401, "You didn't provide an API key. Send it in an Authorization header: Authorization: Bearer YOUR_KEY"
        )
    shown = f"{key[:4]}{'*' * (len(key) - 8)}{key[-4:]}" if len(key) > 8 else "*" * len(key)
    return Refusal(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def model_list() -> JsonObject:
    return {"object": "list", "data": [model_row(model) for model in models_of(NAME)]}


def model_row(model: DemoModel) -> JsonObject:
    return {"id": model.id, "object": "model", "created": RELEASED, "owned_by": "router-platform-demo"}
