"""A conversation of another wire, said in Anthropic's words.

Source: anthropic 2.11 `MessageCreateParams` and platform.claude.com/docs/en/api/messages (2026-11); what the vendor's
own OpenAI layer does with the same differences: platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk.
"""

import re

import msgspec
from msgspec import Raw

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
from providers.domain.types import ChatRequest, Deployment, PromptDefaults
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES, Body, limit_of, output_limit, takes_sampling

DEFAULT_LIMIT = 4096  # `max_tokens` is required here
WARMEST = 1.0  # temperatures go from 0 to 1

# Source: anthropic 2.11 `Base64ImageSourceParam`.
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_DATA_URL = re.compile(r"data:(?P<media_type>[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(?P<data>.*)", re.DOTALL)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")  # "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
_NO_ARGUMENTS = Raw(b"{}")
_ANY_OBJECT = Raw(b'{"type":"object","properties":{}}')


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    """:raises UnsupportedFeature: what messages cannot say."""
    conversation = request.conversation()
    turns = _turns(conversation.messages)
    system = _system(conversation.messages, defaults.system_prompt)
    if system and not turns:  # instructions alone are a request elsewhere; here somebody has to speak
        turns, system = [_turn("user", [{"type": "text", "text": system}])], ""
    body: Body = {
        "model": deployment.upstream_model,
        "max_tokens": required_limit(limit_of(request, conversation), deployment, defaults),
        "messages": turns,
    }
    if system:
        body["system"] = system
    if request.stream:
        body["stream"] = True
    _add_sampling(body, conversation, deployment, defaults)
    _add_tools(body, conversation)
    if conversation.response_format is not None:
        _add_response_format(body, conversation.response_format)
    if conversation.stop:
        if not all(text.strip() for text in conversation.stop):
            raise UnsupportedFeature("a stop sequence of white space only")
        body["stop_sequences"] = conversation.stop
    if conversation.user:
        body["metadata"] = {"user_id": conversation.user}
    return body


def required_limit(asked: int | None, deployment: Deployment, defaults: PromptDefaults) -> int:
    limit = output_limit(asked, deployment, defaults)
    return limit if limit is not None else deployment.max_output_tokens or DEFAULT_LIMIT


def _add_sampling(body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults) -> None:
    """One of the two only: "temperature and top_p cannot both be specified for this model" (Claude 4.5, 2025-10)."""
    if not takes_sampling(deployment):
        return
    if conversation.temperature is not None:
        body["temperature"] = min(conversation.temperature, WARMEST)
    elif conversation.top_p is not None:
        body["top_p"] = conversation.top_p
    elif defaults.temperature is not None:
        body["temperature"] = min(defaults.temperature, WARMEST)


def _add_tools(body: Body, conversation: Conversation) -> None:
    if not conversation.tools:
        return
    body["tools"] = [_tool(tool) for tool in conversation.tools]
    choice, parallel = conversation.tool_choice, conversation.parallel_tool_calls
    if choice is not None or parallel is False:
        body["tool_choice"] = _tool_choice(choice or ToolChoice("auto"), one_at_a_time=parallel is False)


def _tool(tool: Tool) -> Body:
    body: Body = {"name": tool.name, "input_schema": _object_schema(tool.parameters)}
    if tool.description:
        body["description"] = tool.description
    return body


def _object_schema(schema: Raw) -> object:
    """A tool's schema must say `"type": "object"`; OpenAI lets it be empty or missing for a tool without arguments."""
    fields = _fields_of(bytes(schema) or b"{}")
    if fields is None:
        raise UnsupportedFeature("a tool whose parameters are not an object")
    if not fields:
        return _ANY_OBJECT
    return schema if "type" in fields else {"type": "object", **fields}


def _tool_choice(choice: ToolChoice, *, one_at_a_time: bool) -> Body:
    body: Body = {"type": _CHOICES[choice.mode]}
    if choice.mode == "named":
        body["name"] = choice.name
    if one_at_a_time and choice.mode != "none":
        body["disable_parallel_tool_use"] = True
    return body


def _add_response_format(body: Body, wanted: ResponseFormat) -> None:
    """Source: anthropic 2.11 `OutputConfigParam.format`; there is JSON by a schema only."""
    if wanted.kind == "json_object" or (wanted.kind == "json_schema" and not bytes(wanted.schema)):
        raise UnsupportedFeature("response_format json_object (JSON without a schema)")
    if wanted.kind == "json_schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}


# --- messages ---------------------------------------------------------------------------------------------------


def _system(messages: tuple[Message, ...], prompt: str) -> str:
    """All instructions, wherever they stood, one per line: only the newest models take them in the middle."""
    lines = [prompt] if prompt else []
    for message in messages:
        if message.role is not Role.SYSTEM:
            continue
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise UnsupportedFeature(f"{NAMES[type(part)]} in a system message")
            if part.text.strip():
                lines.append(part.text)
    return "\n".join(lines)


def _turns(messages: tuple[Message, ...]) -> list[Body]:
    """Turns alternate: neighbours of one role become one. Blocks without text are refused, so they are left out."""
    turns: list[tuple[str, list[Body]]] = []
    for message in messages:
        blocks = [block for part in message.parts if (block := _block(part, message.role)) is not None]
        if message.role is Role.SYSTEM or not blocks:
            continue
        if turns and turns[-1][0] == message.role.value:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message.role.value, blocks))
    return [_turn(role, blocks) for role, blocks in turns]


def _turn(role: str, blocks: list[Body]) -> Body:
    """Tool results have to come first in their turn; a turn of one text is sent as that text."""
    ordered = sorted(blocks, key=lambda block: block["type"] != "tool_result")
    only_text = len(ordered) == 1 and ordered[0]["type"] == "text"
    return {"role": role, "content": ordered[0]["text"] if only_text else ordered}


def _block(part: Part, role: Role) -> Body | None:
    if role is Role.SYSTEM:
        return None
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case ToolCallPart() if role is Role.ASSISTANT:
            return {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": _arguments(part)}
        case ToolResultPart() if role is Role.USER:
            return _tool_result(part)
        case ImagePart() if role is Role.USER:
            return {"type": "image", "source": _image_source(part)}
        case _:
            raise UnsupportedFeature(
                f"{NAMES[type(part)]} in {'an assistant' if role is Role.ASSISTANT else 'a user'} message"
            )


def _tool_result(part: ToolResultPart) -> Body:
    block: Body = {"type": "tool_result", "tool_use_id": _id(part.call_id), "content": part.text}
    if part.is_error:
        block["is_error"] = True
    return block


def _arguments(call: ToolCallPart) -> Raw:
    text = call.arguments.strip().encode()
    if not text:
        return _NO_ARGUMENTS
    if _fields_of(text) is None:
        raise UnsupportedFeature(f"a call of tool {call.name} whose arguments are not a JSON object")
    return Raw(text)


def _image_source(image: ImagePart) -> Body:
    media_type, data = image.media_type, image.data
    if image.url.startswith("data:"):
        inline = _DATA_URL.fullmatch(image.url)
        if inline is None:
            raise UnsupportedFeature("an image data URL that is not base64")
        media_type, data = inline["media_type"], inline["data"]
    elif image.url:
        return {"type": "url", "url": image.url}
    if media_type not in _IMAGE_TYPES:
        raise UnsupportedFeature(f"an image of type {media_type}")
    return {"type": "base64", "media_type": media_type, "data": data}


def _id(call_id: str) -> str:
    """The same id for a call and its result, in the characters that are allowed here."""
    return _NOT_IN_IDS.sub("_", call_id) or "call"


def _fields_of(text: bytes) -> dict[str, Raw] | None:
    """The members of a JSON object; None when it is no object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
