"""Read an OpenAI chat body into a `Conversation`, for targets that speak another wire.

Source: OpenAI API reference, Chat Completions: create, and openai 3.52 `CompletionCreateParams` (2026-11).
`reasoning` is OpenRouter's (openrouter.ai/docs/use-cases/reasoning-tokens, 2026-11), `thinking` that of DeepSeek
(api-docs.deepseek.com/guides/thinking_mode, 2026-11) and of LiteLLM, `cache_control` Anthropic's as both take it.
"""

from typing import Any

from msgspec import Raw, Struct

from providers.domain.conversation import CacheMark, Conversation, Reasoning, ResponseFormat, Tool, ToolChoice
from providers.wires.protocol import UnsupportedFeature
from routerplatform.doors.formats.openai_body import decode_fields
from routerplatform.doors.formats.openai_body import wrong_field as wrong_field
from routerplatform.doors.formats.openai_messages import cache_mark, message_of
from routerplatform.gateway.errors import InvalidRequest

# Features whose loss would change the meaning of the answer: refused.
ONLY_ON_OPENAI = ("logprobs", "audio", "modalities", "prediction", "web_search_options", "functions")
SWITCHED_OFF = (b"null", b"false", b"[]", b'["text"]')
# What a conversation or the gateway itself takes care of. Any other field is a knob that other wires do not have.
UNDERSTOOD = frozenset(
    {
        *ONLY_ON_OPENAI, "messages", "model", "persona", "router", "stream", "stream_options", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop",
        "user", "safety_identifier", "n", "reasoning_effort", "reasoning", "include_reasoning", "thinking", "seed",
        "frequency_penalty", "presence_penalty", "top_k", "verbosity", "function_call",
    }
)  # fmt: skip
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
MOST_NAMED = 32  # of the knobs that are told as dropped


class FunctionIn(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b'{"type":"object","properties":{}}')
    strict: bool | None = None


class CacheControl(Struct):
    type: str = "ephemeral"
    ttl: str | None = None


class ToolIn(Struct):
    function: FunctionIn | None = None
    type: str = "function"
    cache_control: CacheControl | None = None


class SchemaIn(Struct):
    name: str = "answer"
    schema: Raw = Raw(b"{}")
    strict: bool | None = None


class FormatIn(Struct):
    type: str
    json_schema: SchemaIn | None = None


class ReasoningIn(Struct):
    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class ThinkingIn(Struct):
    type: str | None = None
    budget_tokens: int | None = None


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
    safety_identifier: str | None = None
    n: int | None = None
    reasoning_effort: str | None = None
    reasoning: ReasoningIn | None = None
    include_reasoning: bool | None = None
    thinking: ThinkingIn | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_k: int | None = None
    verbosity: str | None = None


def read_conversation(fields: dict[str, Raw]) -> Conversation:
    """All of a request, free of its wire.

    :raises InvalidRequest: a part that cannot be read; `param` names it.
    :raises UnsupportedFeature: a feature that only OpenAI's wire has.
    """
    known = decode_fields(fields, Known)
    for name in ONLY_ON_OPENAI:
        if name in fields and bytes(fields[name]).replace(b" ", b"") not in SWITCHED_OFF:
            raise UnsupportedFeature(name)
    if known.n not in {None, 1}:
        raise UnsupportedFeature("n")
    tools = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(known.tools or ()))
    choice, allowed = _tool_choice(known.tool_choice)
    return Conversation(
        messages=tuple(message_of(message, i) for i, message in enumerate(known.messages)),
        tools=tools if allowed is None else tuple(tool for tool in tools if tool.name in allowed),
        tool_choice=choice,
        parallel_tool_calls=known.parallel_tool_calls,
        response_format=_format(known.response_format),
        max_tokens=known.max_completion_tokens or known.max_tokens,
        temperature=known.temperature,
        top_p=known.top_p,
        stop=stop_sequences(known.stop),
        user=known.safety_identifier or known.user or "",
        reasoning=_reasoning(known),
        seed=known.seed,
        frequency_penalty=known.frequency_penalty,
        presence_penalty=known.presence_penalty,
        top_k=known.top_k,
        verbosity=known.verbosity or "",
        dropped=_dropped(fields, known),
    )


def stop_sequences(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def unknown_knobs(fields: dict[str, Raw], understood: frozenset[str]) -> list[str]:
    """Names of what the caller set and no other wire has a word for, in order."""
    unknown = (name for name in fields if name not in understood and bytes(fields[name]) != b"null")
    return sorted(name[:64] for name in unknown)[:MOST_NAMED]


def _dropped(fields: dict[str, Raw], known: Known) -> tuple[str, ...]:
    """Who speaks is no field of a conversation's messages, so names are lost too."""
    names = unknown_knobs(fields, UNDERSTOOD)
    if any(message.get("name") and message.get("role") not in {"tool", "function"} for message in known.messages):
        names.append("messages.name")
    return tuple(names)


def _reasoning(known: Known) -> Reasoning | None:
    """The most precise of what was said. `enabled` alone means “medium” (OpenRouter)."""
    asked = known.reasoning or ReasoningIn()
    thinking = known.thinking or ThinkingIn()
    effort = known.reasoning_effort or asked.effort or ""
    if effort and effort not in EFFORTS:
        where = "reasoning_effort" if known.reasoning_effort else "reasoning.effort"
        raise InvalidRequest(f"“{where}” must be one of {', '.join(sorted(EFFORTS))}.", param=where)
    budget = asked.max_tokens if asked.max_tokens is not None else thinking.budget_tokens
    if asked.enabled is False or thinking.type == "disabled":
        effort, budget = "none", None
    elif not effort and budget is None and (asked.enabled or thinking.type == "enabled"):
        effort = "medium"
    show = not asked.exclude and known.include_reasoning is not False
    return Reasoning(effort, budget, show) if effort or budget is not None or not show else None


def _tool(tool: ToolIn, where: str) -> Tool:
    if tool.type != "function":
        raise UnsupportedFeature(f"{tool.type} tools")
    if tool.function is None:
        raise InvalidRequest("A tool needs a “function”.", param=f"{where}.function")
    function, cache = tool.function, tool.cache_control
    mark: CacheMark = "" if cache is None else cache_mark({"type": cache.type, "ttl": cache.ttl})
    return Tool(function.name, function.description or "", function.parameters, function.strict, mark)


def _tool_choice(choice: str | dict[str, Any] | None) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """The choice, and the names of the tools that it is limited to (None: all of them)."""
    match choice:
        case None:
            return None, None
        case "auto" | "none" | "required":
            return ToolChoice(choice), None
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(tools)}}:
            return ToolChoice(mode), frozenset(name for tool in tools if (name := _named(tool)))
        case {"function": {"name": str(name)}}:
            return ToolChoice("named", name), None
        case {"type": "custom"}:
            raise UnsupportedFeature("custom tools")
    raise InvalidRequest("“tool_choice” must be auto, none, required or name a function.", param="tool_choice")


def _named(tool: Any) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}}:
            return name
    raise UnsupportedFeature("tool_choice")


def _format(wanted: FormatIn | None) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case FormatIn(type="json_schema", json_schema=SchemaIn() as schema):
            return ResponseFormat("json_schema", schema.name, schema.schema, schema.strict)
        case FormatIn(type="text" | "json_object" as kind):
            return ResponseFormat(kind)
    raise InvalidRequest("“response_format” must be text, json_object or json_schema.", param="response_format")
