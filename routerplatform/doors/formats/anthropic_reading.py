"""Read an Anthropic messages body into a `Conversation`, for targets that speak another wire.

Source: anthropic 2.11 `MessageCreateParams`, `ContentBlockParam`, `ToolUnionParam` (2026-11).
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from providers.domain.conversation import (
    CacheMark,
    Conversation,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    Tool,
    ToolChoice,
)
from providers.wires.protocol import UnsupportedFeature
from routerplatform.doors.formats.anthropic_blocks import assistant_parts, cache_mark, text_parts, user_parts
from routerplatform.doors.formats.openai_reading import wrong_field
from routerplatform.gateway.errors import InvalidRequest

# Knobs that shape how the answer is made and that other vendors do not have: dropped.
TUNING_KNOBS = (
    "cache_control", "context_management", "diagnostics", "fallbacks", "inference_geo", "service_tier", "speed",
    "user_profile_id",
)  # fmt: skip
# Features whose loss would change the meaning of the answer: refused.
ONLY_ON_ANTHROPIC = ("container", "mcp_servers", "compaction")
_ABSENT = (b"null", b"false", b"[]")


class ToolIn(Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw(b'{"type":"object","properties":{}}')
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class ToolChoiceIn(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingIn(Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class SchemaIn(Struct):
    type: str
    schema: Raw = Raw()


class OutputConfigIn(Struct):
    effort: str | None = None
    format: SchemaIn | None = None


class MetadataIn(Struct):
    user_id: str | None = None


class Known(Struct):
    """The fields that a `Conversation` can carry."""

    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None
    tools: list[ToolIn] | None = None
    tool_choice: ToolChoiceIn | None = None
    thinking: ThinkingIn | None = None
    output_config: OutputConfigIn | None = None
    metadata: MetadataIn | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None


def read_conversation(fields: dict[str, Raw]) -> Conversation:
    """All of a request, free of its wire.

    :raises InvalidRequest: a part that cannot be read; `param` names it.
    :raises UnsupportedFeature: a feature that only Anthropic's wire has.
    """
    try:
        known = msgspec.json.decode(msgspec.json.encode(fields), type=Known)
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    for name in ONLY_ON_ANTHROPIC:
        if name in fields and bytes(fields[name]) not in _ABSENT:
            raise UnsupportedFeature(name)
    if known.max_tokens == 0:
        raise UnsupportedFeature("max_tokens 0 (filling the prompt cache)")
    choice = known.tool_choice
    return Conversation(
        messages=_messages(known),
        tools=tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(known.tools or ())),
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        response_format=_format(known.output_config),
        max_tokens=known.max_tokens,
        temperature=known.temperature,
        top_p=known.top_p,
        top_k=known.top_k,
        stop=tuple(known.stop_sequences or ()),
        user=(known.metadata.user_id or "") if known.metadata else "",
        reasoning=_reasoning(known),
        dropped=tuple(name for name in TUNING_KNOBS if name in fields and bytes(fields[name]) not in _ABSENT),
    )


def _messages(known: Known) -> tuple[Message, ...]:
    first = text_parts(known.system, "system") if known.system else ()
    head = (Message(Role.SYSTEM, first),) if first else ()
    return head + tuple(_message(message, f"messages[{i}]") for i, message in enumerate(known.messages))


def _message(message: dict[str, Any], where: str) -> Message:
    content = message.get("content")
    match message.get("role"):
        case "user":
            return Message(Role.USER, user_parts(content, where))
        case "assistant":
            return Message(Role.ASSISTANT, assistant_parts(content, where))
        case "system":
            return Message(Role.SYSTEM, text_parts(content, where))
    raise InvalidRequest(f"“{message.get('role')}” is not a role.", param=f"{where}.role")


def _tool(tool: ToolIn, where: str) -> Tool:
    if tool.type not in {None, "custom"}:
        raise UnsupportedFeature(f"{tool.type} tools")
    if not tool.name:
        raise InvalidRequest("A tool needs a “name”.", param=f"{where}.name")
    mark: CacheMark = cache_mark(tool.cache_control)
    return Tool(tool.name, tool.description or "", tool.input_schema, tool.strict, mark)


def _tool_choice(choice: ToolChoiceIn | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case ToolChoiceIn(type="tool", name=str(name)):
            return ToolChoice("named", name)
        case ToolChoiceIn(type="auto"):
            return ToolChoice("auto")
        case ToolChoiceIn(type="any"):
            return ToolChoice("required")
        case ToolChoiceIn(type="none"):
            return ToolChoice("none")
    raise InvalidRequest("“tool_choice” must be auto, any, none, or tool with a name.", param="tool_choice")


def _reasoning(known: Known) -> Reasoning | None:
    """Thinking that is off is the effort “none”; thinking without more is as much as the model likes."""
    effort = (known.output_config.effort or "") if known.output_config else ""
    thinking = known.thinking
    if thinking is None:
        return Reasoning(effort) if effort else None
    if thinking.type in {"disabled", "between_tools"}:
        return Reasoning("none")
    return Reasoning(effort, thinking.budget_tokens, show=thinking.display != "omitted")


def _format(config: OutputConfigIn | None) -> ResponseFormat | None:
    if config is None or config.format is None:
        return None
    if config.format.type != "json_schema":
        raise InvalidRequest("“output_config.format” must be of type json_schema.", param="output_config.format")
    return ResponseFormat("json_schema", "answer", config.format.schema, strict=True)
