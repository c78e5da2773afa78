"""Read an OpenAI chat body into a `Conversation`, for targets that speak another wire.

Source: OpenAI API reference, Chat Completions: create (2026-11).
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from providers.domain.conversation import (
    Conversation,
    ImagePart,
    Message,
    Part,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wires.protocol import UnsupportedFeature
from routerplatform.gateway.errors import InvalidRequest

# Knobs that shape the answer's style and that other wires do not have: dropped.
TUNING_KNOBS = frozenset(
    {"frequency_penalty", "presence_penalty", "logit_bias", "seed", "service_tier", "store", "metadata", "verbosity"}
)
# Features whose loss would change the meaning of the answer: refused.
ONLY_ON_OPENAI = ("logprobs", "audio", "modalities", "prediction", "web_search_options", "functions")
ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}


class FunctionIn(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b'{"type":"object","properties":{}}')


class ToolIn(Struct):
    function: FunctionIn | None = None
    type: str = "function"


class SchemaIn(Struct):
    name: str = "answer"
    schema: Raw = Raw(b"{}")


class FormatIn(Struct):
    type: str
    json_schema: SchemaIn | None = None


class Known(Struct):
    """The fields that a `Conversation` can carry."""

    messages: list[dict[str, Any]]
    tools: list[ToolIn] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: FormatIn | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    n: int | None = None


def read_conversation(fields: dict[str, Raw]) -> Conversation:
    """All of a request, free of its wire.

    :raises InvalidRequest: a part that cannot be read; `param` names it.
    :raises UnsupportedFeature: a feature that only OpenAI's wire has.
    """
    try:
        known = msgspec.json.decode(msgspec.json.encode(fields), type=Known)
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    for name in ONLY_ON_OPENAI:
        if name in fields and bytes(fields[name]) not in {b"null", b"false", b"[]"}:
            raise UnsupportedFeature(name)
    if known.n not in {None, 1}:
        raise UnsupportedFeature("n")
    return Conversation(
        messages=tuple(_message(message, i) for i, message in enumerate(known.messages)),
        tools=tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(known.tools or ())),
        tool_choice=_tool_choice(known.tool_choice),
        parallel_tool_calls=known.parallel_tool_calls,
        response_format=_format(known.response_format),
        max_tokens=known.max_completion_tokens or known.max_tokens,
        temperature=known.temperature,
        top_p=known.top_p,
        stop=(known.stop,) if isinstance(known.stop, str) else tuple(known.stop or ()),
        user=known.user or "",
        dropped=tuple(sorted(TUNING_KNOBS.intersection(fields))),
    )


def wrong_field(error: msgspec.ValidationError) -> InvalidRequest:
    """A field of the wrong type, or one that is missing: `param` is the path to it."""
    text = str(error)
    where = re.search(r"`\$\.?([^`]*)`", text)
    missing = re.search(r"required field `(\w+)`", text)
    param = ".".join(part for part in (where[1] if where else "", missing[1] if missing else "") if part)
    return InvalidRequest(text.replace("`", "“", 1).replace("`", "”", 1) + ".", param=param or None)


def _message(message: dict[str, Any], index: int) -> Message:
    where = f"messages[{index}]"
    role, content = message.get("role"), message.get("content")
    if role in {"tool", "function"}:
        call_id = str(message.get("tool_call_id") or message.get("name") or "")
        return Message(Role.USER, (ToolResultPart(call_id, _plain_text(content, where)),))
    if role not in ROLES:
        raise InvalidRequest(f"“{role}” is not a role.", param=f"{where}.role")
    parts = _parts(content, where)
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidRequest("“tool_calls” must be a list.", param=f"{where}.tool_calls")
    return Message(ROLES[role], parts + tuple(_tool_call(call, where) for call in calls))


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))


def _part(part: Any, where: str) -> Part:
    match part:
        case {"type": "text" | "refusal" as kind}:
            return TextPart(str(part.get(kind) or ""))
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image_url", "image_url": str(url)}:
            return _image(url, where)
        case {"type": "image_url"}:
            raise InvalidRequest("An image needs a “url”.", param=where)
        case {"type": str(kind)}:
            raise UnsupportedFeature(kind)
    raise InvalidRequest("A content part needs a “type”.", param=where)


def _image(url: str, where: str) -> ImagePart:
    if not url.startswith("data:"):
        return ImagePart(url=url)
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or encoding != "base64":
        raise InvalidRequest("An inline image must be “data:<media type>;base64,<data>”.", param=where)
    return ImagePart(media_type=media_type, data=data)


def _tool(tool: ToolIn, where: str) -> Tool:
    if tool.type != "function":
        raise UnsupportedFeature(f"{tool.type} tools")
    if tool.function is None:
        raise InvalidRequest("A tool needs a “function”.", param=f"{where}.function")
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters)


def _tool_call(call: Any, where: str) -> ToolCallPart:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return ToolCallPart(call_id, name, arguments or "{}")
        case {"id": str(call_id), "function": {"name": str(name), **rest}} if rest.get("arguments") is None:
            return ToolCallPart(call_id, name, "{}")
    raise InvalidRequest(
        "A tool call needs an id and a function with a name, and its arguments as JSON text.",
        param=f"{where}.tool_calls",
    )


def _plain_text(content: Any, where: str) -> str:
    parts = _parts(content, where)
    if any(isinstance(part, ImagePart) for part in parts):
        raise UnsupportedFeature("an image in a tool result")
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _tool_choice(choice: str | dict[str, Any] | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case {"function": {"name": str(name)}}:
            return ToolChoice("named", name)
    raise InvalidRequest("“tool_choice” must be auto, none, required or name a function.", param="tool_choice")


def _format(wanted: FormatIn | None) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case FormatIn(type="json_schema", json_schema=SchemaIn() as schema):
            return ResponseFormat("json_schema", schema.name, schema.schema)
        case FormatIn(type="text" | "json_object" as kind):
            return ResponseFormat(kind)
    raise InvalidRequest("“response_format” must be text, json_object or json_schema.", param="response_format")
