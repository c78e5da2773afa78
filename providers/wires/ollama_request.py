"""A conversation said in Ollama's words.

Source: docs.ollama.com/api/chat, /capabilities/tool-calling, /capabilities/thinking, /capabilities/structured-outputs
and api/types.go of github.com/ollama/ollama (2026-11). The context length (`num_ctx`) is the server's to choose.
"""

from collections.abc import Iterator, Mapping

from providers.domain.conversation import (
    Conversation,
    ImagePart,
    Message,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import Capability, ChatRequest, Deployment, PromptDefaults
from providers.wires.message_parts import cannot_say, inline, plain_thought, texts
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import Body, limit_of, output_limit, takes_sampling
from providers.wires.tool_json import object_arguments, object_schema

# gpt-oss alone has levels in every version; others are switched on and off, and older servers refuse a level for them.
_WITH_LEVELS = "gpt-oss"
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}

# Else what is too long for the context is cut, and answered as if it had been read (issue 4967 and pull request 18399
# of github.com/ollama/ollama, 2026-09). Refused, it can be asked of a model with a longer context.
_WHOLE = {"truncate": False, "shift": False}

_SAMPLING = ("temperature", "top_p", "top_k")
_OPTIONS = ("seed", "frequency_penalty", "presence_penalty")


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the knobs that were left out.

    :raises UnsupportedFeature: what Ollama's chat cannot say.
    """
    conversation = request.conversation()
    body: Body = {
        "model": deployment.upstream_model,
        "messages": _messages(conversation, deployment, defaults.system_prompt),
        "stream": request.stream,  # without it there is a stream
        **_WHOLE,
    }
    _add_tools(body, conversation)
    if conversation.response_format is not None and conversation.response_format.kind != "text":
        body["format"] = _format(conversation.response_format)
    options = _options(conversation, deployment, defaults)
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        options["num_predict"] = limit
    if options:
        body["options"] = options
    if conversation.reasoning is not None and Capability.REASONING in deployment.capabilities:
        body["think"] = _think(conversation.reasoning, deployment.upstream_model)
    return body, tuple(dict.fromkeys((*conversation.dropped, *_without_words(conversation, deployment))))


def _add_tools(body: Body, conversation: Conversation) -> None:
    """There is no `tool_choice`: without tools none can be called, and none has to be."""
    choice = conversation.tool_choice
    if not conversation.tools or (choice is not None and choice.mode == "none"):
        return
    if choice is not None and choice.mode != "auto":
        raise UnsupportedFeature(f"tool_choice {choice.name or choice.mode} (a call cannot be required)")
    body["tools"] = [_tool(tool) for tool in conversation.tools]


def _tool(tool: Tool) -> Body:
    function: Body = {"name": tool.name, "parameters": object_schema(tool)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _format(wanted: ResponseFormat) -> object:
    return wanted.schema if wanted.kind == "json_schema" and bytes(wanted.schema) else "json"


def _options(conversation: Conversation, deployment: Deployment, defaults: PromptDefaults) -> Body:
    names = (*_SAMPLING, *_OPTIONS) if takes_sampling(deployment) else _OPTIONS
    options: Body = {name: value for name in names if (value := getattr(conversation, name)) is not None}
    if defaults.temperature is not None and takes_sampling(deployment):
        options.setdefault("temperature", defaults.temperature)
    if conversation.stop:
        options["stop"] = conversation.stop
    return options


def _think(wanted: Reasoning, model: str) -> bool | str:
    if wanted.effort == "none" or wanted.budget_tokens == 0:
        return False
    return _LEVELS.get(wanted.effort, True) if _WITH_LEVELS in model else True


def _without_words(conversation: Conversation, deployment: Deployment) -> Iterator[str]:
    yield from (name for name in ("user", "verbosity") if getattr(conversation, name))
    if not takes_sampling(deployment):
        yield from (name for name in _SAMPLING if getattr(conversation, name) is not None)
    if conversation.tools and conversation.parallel_tool_calls is False:
        yield "parallel_tool_calls"
    if any(tool.strict for tool in conversation.tools):
        yield "strict"
    wanted = conversation.reasoning
    if wanted is not None and Capability.REASONING not in deployment.capabilities:
        if wanted.effort != "none" and wanted.budget_tokens != 0:  # "… does not support thinking": a 400
            yield "reasoning_effort" if wanted.effort else "thinking"


# --- messages -----------------------------------------------------------------------------------------------------


def _messages(conversation: Conversation, deployment: Deployment, prompt: str) -> list[Body]:
    """Instructions may stand anywhere. A result says which tool it is of: the one that the latest call with its id
    asked for."""
    thinks = Capability.REASONING in deployment.capabilities
    messages: list[Body] = [{"role": "system", "content": prompt}] if prompt else []
    names: dict[str, str] = {}
    for message in conversation.messages:
        match message.role:
            case Role.SYSTEM:
                text = "\n".join(texts(message.parts, "a system message"))
                messages.append({"role": "system", "content": text})
            case Role.ASSISTANT:
                names.update({part.id: part.name for part in message.parts if isinstance(part, ToolCallPart)})
                messages.append(_assistant(message, thinks=thinks))
            case Role.USER:
                messages.extend(_user(message, names))
    return messages


def _user(message: Message, names: Mapping[str, str]) -> Iterator[Body]:
    """Tool results are messages of their own, and follow the calls directly; then what the user said. Images stand
    beside the text, whatever their place in it was."""
    said: list[str] = []
    images: list[str] = []
    for part in message.parts:
        match part:
            case ToolResultPart():
                yield _tool_result(part, names)
            case TextPart(text=text):
                said.append(text)
            case ImagePart():
                images.append(_image(part))
            case _:
                raise cannot_say(part, "a user message")
    if said or images:
        turn: Body = {"role": "user", "content": "\n".join(said)}
        yield {**turn, "images": images} if images else turn


def _tool_result(part: ToolResultPart, names: Mapping[str, str]) -> Body:
    if part.media:
        raise cannot_say(part.media[0], "a tool result")
    result: Body = {"role": "tool", "content": part.text, "tool_call_id": part.call_id}
    name = part.name or names.get(part.call_id, "")
    return {**result, "tool_name": name} if name else result


def _assistant(message: Message, *, thinks: bool) -> Body:
    """Thought goes back to models that think, but for what carries another vendor's proof."""
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    rest = [part for part in message.parts if not isinstance(part, ToolCallPart | ReasoningPart)]
    said: Body = {"role": "assistant", "content": "".join(texts(rest, "an assistant message"))}
    if thinks and (thought := plain_thought(message.parts)):
        said["thinking"] = thought
    if calls:
        said["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": object_arguments(call)}} for call in calls
        ]
    return said


def _image(image: ImagePart) -> str:
    """The base64 data alone: servers do not fetch addresses, and read the type from the data."""
    given = inline(image)
    if given is None:
        raise UnsupportedFeature("an image by address (only images inside the request)")
    return given[1]
