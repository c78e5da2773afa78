"""A conversation, said in Gemini's words.

Source: ai.google.dev/api/generate-content (`GenerateContentRequest`, `GenerationConfig`, `Tool`, `ToolConfig`) and
/gemini-api/docs/structured-output (2026-11).
"""

from typing import Any

import msgspec
from msgspec import Raw

from providers.domain.conversation import Conversation, ResponseFormat, Tool, ToolChoice
from providers.domain.types import ChatRequest, Deployment, PromptDefaults
from providers.wires.gemini_contents import system_text, turns
from providers.wires.gemini_models import GEMINI_3, Generation, generation, thinking_config
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import Body, limit_of, output_limit, takes_sampling

MOST_STOP_SEQUENCES = 5  # "up to 5"

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_SEEDS = 0x7FFF_FFFF  # a seed has 32 bits here
_SAYS_NOTHING = frozenset({"type", "properties", "required", "title", "description", "$schema", "additionalProperties"})


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the tuning knobs left out.

    :raises UnsupportedFeature: what `generateContent` cannot say, or this model does not take.
    """
    conversation = request.conversation()
    version = generation(deployment.upstream_model)
    said = turns(conversation.messages, version)
    system = system_text(conversation.messages, defaults.system_prompt)
    if system and not said:  # instructions alone are a request elsewhere; here somebody has to speak
        said, system = [{"role": "user", "parts": [{"text": system}]}], ""
    body: Body = {"contents": said}
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if conversation.tools:
        body["tools"] = [{"functionDeclarations": [_function(tool) for tool in conversation.tools]}]
        if conversation.tool_choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _calling(conversation.tool_choice)}
    config: Body = {}
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        config["maxOutputTokens"] = limit
    _add_stop(config, conversation)
    _add_format(config, conversation, version)
    dropped = _add_knobs(config, conversation, deployment, defaults)
    if config:
        body["generationConfig"] = config
    return body, conversation.dropped + dropped


def _calling(choice: ToolChoice) -> Body:
    calling: Body = {"mode": _MODES[choice.mode]}
    if choice.mode == "named":
        calling["allowedFunctionNames"] = [choice.name]
    return calling


def _function(tool: Tool) -> Body:
    """A function without parameters has no schema at all."""
    body: Body = {"name": tool.name}
    if tool.description:
        body["description"] = tool.description
    schema = _schema_of(bytes(tool.parameters) or b"{}")
    if not isinstance(schema, dict):
        raise UnsupportedFeature(f"a tool whose parameters are not an object ({tool.name})")
    if schema.get("properties") or not schema.keys() <= _SAYS_NOTHING or schema.get("additionalProperties"):
        body["parametersJsonSchema"] = _accepted(schema)
    return body


def _add_stop(config: Body, conversation: Conversation) -> None:
    if len(conversation.stop) > MOST_STOP_SEQUENCES:
        raise UnsupportedFeature(f"more than {MOST_STOP_SEQUENCES} stop sequences")
    if conversation.stop:
        config["stopSequences"] = conversation.stop


def _add_format(config: Body, conversation: Conversation, version: Generation) -> None:
    """Up to 2.5 there is JSON or there are tools: "Function calling with a response mime type: 'application/json' is
    unsupported" (400; github.com/googleapis/python-genai/issues/867, 2025)."""
    wanted = conversation.response_format
    if wanted is None or wanted.kind == "text":
        return
    if conversation.tools and version < GEMINI_3:
        raise UnsupportedFeature("response_format together with tools")
    config["responseMimeType"] = "application/json"
    if wanted.kind == "json_schema" and bytes(wanted.schema):
        config["responseJsonSchema"] = _answer_schema(wanted)


def _answer_schema(wanted: ResponseFormat) -> object:
    schema = _schema_of(bytes(wanted.schema))
    if not isinstance(schema, dict):
        raise UnsupportedFeature("a response_format whose schema is not an object")
    return _accepted(schema)


def _add_knobs(
    config: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults
) -> tuple[str, ...]:
    """The knobs that this model has; the names of the others."""
    sampling: Body = {"temperature": conversation.temperature, "topP": conversation.top_p, "topK": conversation.top_k}
    asked = {name: value for name, value in sampling.items() if value is not None}
    dropped: list[str] = []
    if takes_sampling(deployment):
        if defaults.temperature is not None:
            config["temperature"] = defaults.temperature
        config.update(asked)
    else:
        dropped += [{"topP": "top_p", "topK": "top_k"}.get(name, name) for name in asked]
    if conversation.seed is not None:
        config["seed"] = conversation.seed & _SEEDS
    if conversation.reasoning is not None:
        thinking = thinking_config(deployment, conversation.reasoning)
        if thinking is None:
            dropped.append("reasoning_effort" if conversation.reasoning.effort else "thinking")
        elif thinking:
            config["thinkingConfig"] = thinking
    return (*dropped, *_without_words(conversation))


def _without_words(conversation: Conversation) -> tuple[str, ...]:
    """What no current model has. Penalties: "Penalty is not enabled for this model", from 2.5 on (400;
    github.com/google-gemini/cookbook/issues/1290, 2026-07). Calls one at a time cannot be asked for."""
    asked = {
        "frequency_penalty": bool(conversation.frequency_penalty),
        "presence_penalty": bool(conversation.presence_penalty),
        "verbosity": bool(conversation.verbosity),
        "user": bool(conversation.user),
        "parallel_tool_calls": conversation.parallel_tool_calls is False and bool(conversation.tools),
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


# --- schemas ------------------------------------------------------------------------------------------------------


def _schema_of(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Raw(text)  # a number too long, a nesting too deep: no schema


def _accepted(schema: Any) -> Any:
    """The schema as it may be sent: beside a `$ref` nothing may stand but what starts with `$`. What the model does not
    know of JSON schema it ignores. Source: ai.google.dev/api/generate-content, `responseJsonSchema` (2026-11)."""
    if isinstance(schema, list):
        return [_accepted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        schema = {key: value for key, value in schema.items() if key.startswith("$")}
    return {key: _accepted(value) for key, value in schema.items()}
