"""What a gRPC caller asks: an `AIRequest`, said again as OpenAI's chat body, which all doors are read from."""

import base64
import math
from typing import Any, Final

import msgspec
from msgspec import Raw

from providers.domain.types import ChatRequest
from routerplatform.doors.formats import openai_chat
from routerplatform.gateway.conversation_pins import HINT as CONVERSATION
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.situations import TAG
from routerplatform.protos.ai_router_pb2 import AIRequest, Message, Part, Tool

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
CHOICES: Final = ("auto", "none", "required")
FORMATS: Final = ("text", "json_object")
NUMBERS: Final = ("temperature", "top_p", "max_tokens", "seed")
NOT_IN_MORE: Final = frozenset({"stream", "stream_options", "n", "max_completion_tokens"})
OWN: Final = frozenset({field.name for field in AIRequest.DESCRIPTOR.fields} | NOT_IN_MORE)


def chat_request(said: AIRequest, *, stream: bool) -> ChatRequest:
    """Read a request.

    :raises InvalidRequest: something is missing, contradicts itself or is of a wrong kind; `param` names the field.
    """
    body = _more(said.more)
    body |= {"model": _model(said) or "auto", "messages": _messages(said), "stream": stream}
    body |= {name: _number(said, name) for name in NUMBERS if said.HasField(name)}
    body |= {name: value for name in ("persona", "template") if (value := getattr(said, name))}
    body |= {name: dict(value) for name in ("variables", "metadata") if (value := getattr(said, name))}
    if said.stop:
        body["stop"] = list(said.stop)
    if said.tools:
        body["tools"] = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(said.tools)]
    if said.tool_choice:
        body["tool_choice"] = _tool_choice(said)
    if said.response_format:
        body["response_format"] = _response_format(said.response_format)
    return openai_chat.parse(msgspec.json.encode(body))


def hints_in(said: AIRequest) -> dict[str, str]:
    """What a caller of another door says in headers, and may say in the message here."""
    return {name: value for name, value in ((TAG, said.tag), (CONVERSATION, said.conversation)) if value}


def _model(said: AIRequest) -> str:
    if not said.provider:
        return said.model
    if not said.model:
        raise InvalidRequest("“provider” pins a model to a provider: name the “model” too.", param="model")
    return said.model if said.model.startswith(f"{said.provider}/") else f"{said.provider}/{said.model}"


def _messages(said: AIRequest) -> list[dict[str, Any]]:
    if said.prompt and said.messages:
        raise InvalidRequest("Send “prompt” or “messages”, not both.", param="prompt")
    system = [{"role": "system", "content": said.system}] if said.system else []
    if said.prompt:
        return [*system, {"role": "user", "content": said.prompt}]
    if not said.messages and not said.template:
        raise InvalidRequest("Send a “prompt”, or “messages” with at least one message.", param="prompt")
    return [*system, *(_message(one, f"messages[{at}]") for at, one in enumerate(said.messages))]


def _message(said: Message, where: str) -> dict[str, Any]:
    if said.role not in ROLES:
        raise InvalidRequest(f"“{said.role[:40]}” is not a role: {', '.join(ROLES)}.", param=f"{where}.role")
    if said.content and said.parts:
        raise InvalidRequest("A message has “content” or “parts”, not both.", param=f"{where}.parts")
    message: dict[str, Any] = {"role": said.role}
    if said.parts:
        message["content"] = [_part(part, f"{where}.parts[{at}]") for at, part in enumerate(said.parts)]
    else:
        message["content"] = said.content if said.content or not said.tool_calls else None
    if said.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in said.tool_calls
        ]
    return message | {name: value for name in ("tool_call_id", "name") if (value := getattr(said, name))}


def _part(said: Part, where: str) -> dict[str, Any]:
    match said.WhichOneof("kind"):
        case "text":
            return {"type": "text", "text": said.text}
        case "image_url":
            return {"type": "image_url", "image_url": {"url": said.image_url}}
        case "picture":
            return {"type": "image_url", "image_url": {"url": _data_url(said, where)}}
        case _:
            raise InvalidRequest("A part is a “text”, an “image_url” or a “picture”.", param=where)


def _data_url(said: Part, where: str) -> str:
    kind, data = said.picture.media_type, said.picture.data
    if not kind.startswith("image/") or not data:
        raise InvalidRequest(
            "A picture needs “data” and a “media_type” like image/png.", param=f"{where}.picture"
        )  # fmt: skip
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _number(said: AIRequest, name: str) -> float:
    """JSON has no words for what is no number."""
    value: float = getattr(said, name)
    if not math.isfinite(value):
        raise InvalidRequest(f"“{name}” must be a number.", param=name)
    return value


def _tool(said: Tool, where: str) -> dict[str, Any]:
    if not said.name:
        raise InvalidRequest("A tool needs a name.", param=f"{where}.name")
    function: dict[str, Any] = {"name": said.name}
    if said.description:
        function["description"] = said.description
    if said.parameters:
        function["parameters"] = _json_object(said.parameters, f"{where}.parameters")
    if said.HasField("strict"):
        function["strict"] = said.strict
    return {"type": "function", "function": function}


def _tool_choice(said: AIRequest) -> str | dict[str, Any]:
    if said.tool_choice in CHOICES:
        return said.tool_choice
    names = [tool.name for tool in said.tools]
    if said.tool_choice not in names:
        known = ", ".join([*CHOICES, *names])
        raise InvalidRequest(f"“{said.tool_choice[:60]}” is not a choice: {known}.", param="tool_choice")
    return {"type": "function", "function": {"name": said.tool_choice}}


def _response_format(text: str) -> dict[str, str] | Raw:
    return {"type": text} if text in FORMATS else _json_object(text, "response_format")


def _more(text: str) -> dict[str, Any]:
    """The fields that have no place of their own, values verbatim."""
    if not text:
        return {}
    fields = msgspec.json.decode(_json_object(text, "more"), type=dict[str, Raw])
    taken = sorted(OWN & fields.keys())
    if taken:
        raise InvalidRequest(
            f"“{taken[0]}” cannot be said in “more”: it is a field of the request, or follows from the method.",
            param="more",
        )
    return dict(fields)


def _json_object(text: str, where: str) -> Raw:
    """JSON text of an object, kept as it was written.

    :raises InvalidRequest: it is not.
    """
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"“{where}” is not the JSON text of an object: {error}.", param=where) from error
    return Raw(text.encode())
