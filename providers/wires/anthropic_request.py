"""A conversation of another wire, said in Anthropic's words.

Source: anthropic 2.11 `MessageCreateParams` and platform.claude.com/docs/en/api/messages (2026-11); what the vendor's
own OpenAI layer does with the same differences: platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk.
"""

from msgspec import Raw

from providers.domain.conversation import Conversation, ResponseFormat, Tool, ToolChoice
from providers.domain.types import Capability, ChatRequest, Deployment, PromptDefaults
from providers.wires.anthropic_models import traits_of
from providers.wires.anthropic_thinking import Thinking, thinking_for, without_last_thought
from providers.wires.anthropic_turns import cache_control, limit_cache_marks, system_and_turns
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import Body, limit_of, output_limit, takes_sampling
from providers.wires.tool_json import object_schema

DEFAULT_LIMIT = 4096  # `max_tokens` is required here
WARMEST = 1.0  # temperatures go from 0 to 1

_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
_FORCED = ("required", "named")
_ANY_OBJECT = Raw(b'{"type":"object","properties":{}}')


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the tuning knobs that it has no word for.

    :raises UnsupportedFeature: what messages cannot say.
    """
    conversation = request.conversation()
    traits = traits_of(deployment.upstream_model)
    system, turns = system_and_turns(
        conversation.messages, defaults.system_prompt, system_anywhere=traits.system_anywhere
    )
    if system and not turns:  # instructions alone are a request elsewhere; here somebody has to speak
        turns, system = [{"role": "user", "content": system}], ""
    limit = required_limit(limit_of(request, conversation), deployment, defaults)
    body: Body = {"model": deployment.upstream_model, "max_tokens": limit, "messages": turns}
    if system:
        body["system"] = system
    if request.stream:
        body["stream"] = True
    thinking = _add_thinking(body, conversation, deployment, limit=limit, turns=turns)
    dropped = _add_sampling(body, conversation, deployment, defaults, thinking)
    _add_tools(body, conversation, deployment)
    if conversation.response_format is not None:
        _add_response_format(body, conversation.response_format)
    if conversation.stop:
        if not all(text.strip() for text in conversation.stop):
            raise UnsupportedFeature("a stop sequence of white space only")
        body["stop_sequences"] = conversation.stop
    if conversation.user:
        body["metadata"] = {"user_id": conversation.user}
    limit_cache_marks(body.get("tools"), system, turns)
    return body, (*conversation.dropped, *_wordless(conversation), *dropped)


def required_limit(asked: int | None, deployment: Deployment, defaults: PromptDefaults) -> int:
    limit = output_limit(asked, deployment, defaults)
    return limit if limit is not None else deployment.max_output_tokens or DEFAULT_LIMIT


def _wordless(conversation: Conversation) -> list[str]:
    knobs = {
        "seed": conversation.seed is not None,
        "frequency_penalty": bool(conversation.frequency_penalty),
        "presence_penalty": bool(conversation.presence_penalty),
        "verbosity": bool(conversation.verbosity),
    }
    return [name for name, is_there in knobs.items() if is_there]


def _add_thinking(
    body: Body, conversation: Conversation, deployment: Deployment, *, limit: int, turns: list[Body]
) -> Thinking:
    choice = conversation.tool_choice
    forces_tool = bool(conversation.tools) and choice is not None and choice.mode in _FORCED
    thinking = thinking_for(conversation.reasoning, deployment, limit=limit, forces_tool=forces_tool, turns=turns)
    if thinking.config is not None:
        body["thinking"] = thinking.config
    if thinking.effort:
        body["output_config"] = {"effort": thinking.effort}
    if not thinking.is_on:
        without_last_thought(turns)
    return thinking


def _add_sampling(
    body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults, thinking: Thinking
) -> list[str]:
    """The names of what had to be left out. Of temperature and top_p only one may be said: "temperature and top_p
    cannot both be specified for this model" (Claude 4.5, 2025-10); beside thinking neither, nor top_k."""
    dropped = ["reasoning"] if thinking.is_dropped else []
    asked = {
        name: value
        for name, value in (
            ("temperature", conversation.temperature),
            ("top_p", conversation.top_p),
            ("top_k", conversation.top_k),
        )
        if value is not None
    }
    if not takes_sampling(deployment) or thinking.is_on:
        return dropped + list(asked)
    if "temperature" in asked and asked.pop("top_p", None) is not None:
        dropped.append("top_p")
    if "temperature" in asked:
        asked["temperature"] = min(asked["temperature"], WARMEST)
    elif "top_p" not in asked and defaults.temperature is not None:
        asked["temperature"] = min(defaults.temperature, WARMEST)
    body.update(asked)
    return dropped


def _add_tools(body: Body, conversation: Conversation, deployment: Deployment) -> None:
    if not conversation.tools:
        return
    can_be_strict = Capability.JSON_SCHEMA in deployment.capabilities
    body["tools"] = [_tool(tool, can_be_strict=can_be_strict) for tool in conversation.tools]
    choice, parallel = conversation.tool_choice, conversation.parallel_tool_calls
    if choice is not None or parallel is False:
        body["tool_choice"] = _tool_choice(choice or ToolChoice("auto"), one_at_a_time=parallel is False)


def _tool(tool: Tool, *, can_be_strict: bool) -> Body:
    body: Body = {"name": tool.name, "input_schema": object_schema(tool)}
    if tool.description:
        body["description"] = tool.description
    if tool.strict and can_be_strict:
        body["strict"] = True
    if tool.cache:
        body["cache_control"] = cache_control(tool.cache)
    return body


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
        config = body.get("output_config")
        known = config if isinstance(config, dict) else {}
        body["output_config"] = {**known, "format": {"type": "json_schema", "schema": wanted.schema}}
