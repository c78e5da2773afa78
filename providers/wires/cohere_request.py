"""A conversation said in Cohere's words.

Source: docs.cohere.com/reference/chat, /docs/tool-use-overview, /docs/structured-outputs, /docs/reasoning; limits are
those of the example messages in docs.cohere.com/reference/errors (2026-11).
"""

from collections.abc import Iterator

from providers.domain.conversation import (
    Conversation,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import Capability, ChatRequest, Deployment, PromptDefaults
from providers.wires.message_parts import cannot_say, plain_thought, texts
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import Body, limit_of, output_limit, takes_sampling
from providers.wires.tool_json import members_of, object_schema

MOST_STOP_SEQUENCES = 5
WARMEST = 1.0  # "temperature must be between 0 and 1.0 inclusive"
NARROWEST, WIDEST = 0.01, 0.99  # `p`
MOST_TOKENS_TO_CHOOSE_FROM = 500  # `k`
STRONGEST_PENALTY = 1.0  # "presence_penalty must be between 0 and 1 inclusive"


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the knobs that were left out.

    :raises UnsupportedFeature: what Cohere's chat cannot say.
    """
    conversation = request.conversation()
    body: Body = {
        "model": deployment.upstream_model,
        "messages": _messages(conversation, deployment, defaults.system_prompt),
        "stream": request.stream,
    }
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        body["max_tokens"] = limit
    if conversation.stop:
        if len(conversation.stop) > MOST_STOP_SEQUENCES:
            raise UnsupportedFeature(f"more than {MOST_STOP_SEQUENCES} stop sequences")
        body["stop_sequences"] = conversation.stop
    dropped = [*conversation.dropped, *_add_tools(body, conversation)]
    _add_response_format(body, conversation)
    dropped += _add_sampling(body, conversation, deployment, defaults)
    dropped += _add_penalties(body, conversation)
    dropped += _add_thinking(body, conversation, deployment)
    dropped += [name for name in ("user", "verbosity") if getattr(conversation, name)]
    return body, tuple(dict.fromkeys(dropped))


# --- tools and the shape of the answer ----------------------------------------------------------------------------


def _add_tools(body: Body, conversation: Conversation) -> Iterator[str]:
    """There is no choice of one tool: that tool alone is offered, and has to be called."""
    choice, tools = conversation.tool_choice, conversation.tools
    if not tools:
        return
    if choice is not None and choice.mode == "named":
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise UnsupportedFeature(f"tool_choice of {choice.name}, which is not among the tools")
    body["tools"] = [_tool(tool) for tool in tools]
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if any(tool.strict for tool in tools):
        if all(tool.strict and _asks_for_something(tool) for tool in tools):
            body["strict_tools"] = True
        else:
            yield "strict"
    if conversation.parallel_tool_calls is False:
        yield "parallel_tool_calls"


def _tool(tool: Tool) -> Body:
    function: Body = {"name": tool.name, "parameters": object_schema(tool)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _asks_for_something(tool: Tool) -> bool:
    """`strict_tools` is for all tools or none, and "tools with only optional parameters are not supported".
    Source: docs.cohere.com/v2/docs/parameter-types-in-tool-use (2026-11)."""
    required = (members_of(bytes(tool.parameters)) or {}).get("required")
    return required is not None and bytes(required).strip() not in {b"null", b"[]"}


def _add_response_format(body: Body, conversation: Conversation) -> None:
    """JSON and tools exclude each other: it "is not supported when used in combinations with the `documents` or `tools`
    parameters"."""
    wanted = conversation.response_format
    if wanted is None or wanted.kind == "text":
        return
    if "tools" in body and body.get("tool_choice") == "NONE":
        del body["tools"], body["tool_choice"]  # which says the same
    if "tools" in body:
        raise UnsupportedFeature("response_format together with tools")
    shape: Body = {"type": "json_object"}
    if wanted.kind == "json_schema" and bytes(wanted.schema):
        shape["json_schema"] = wanted.schema
    body["response_format"] = shape


# --- knobs: each of these adds what can be said, and yields the names of the others --------------------------------


def _add_sampling(
    body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults
) -> Iterator[str]:
    if conversation.seed is not None:
        body["seed"] = conversation.seed
    if not takes_sampling(deployment):
        yield from (name for name in ("temperature", "top_p", "top_k") if getattr(conversation, name) is not None)
        return
    temperature = defaults.temperature if conversation.temperature is None else conversation.temperature
    if temperature is not None:
        body["temperature"] = min(temperature, WARMEST)
    if conversation.top_p is not None:
        body["p"] = min(max(conversation.top_p, NARROWEST), WIDEST)
    if conversation.top_k is not None:
        body["k"] = min(max(conversation.top_k, 0), MOST_TOKENS_TO_CHOOSE_FROM)


def _add_penalties(body: Body, conversation: Conversation) -> Iterator[str]:
    """One of the two only ("cannot specify both"), and no rewards, which are negative."""
    for name in ("frequency_penalty", "presence_penalty"):
        penalty: float = getattr(conversation, name) or 0.0
        if penalty > 0 and "frequency_penalty" not in body:
            body[name] = min(penalty, STRONGEST_PENALTY)
        elif penalty:
            yield name


def _add_thinking(body: Body, conversation: Conversation, deployment: Deployment) -> Iterator[str]:
    """Models that can think do so unless told otherwise; the others refuse to be asked."""
    wanted = conversation.reasoning
    if wanted is None:
        return
    if Capability.REASONING not in deployment.capabilities:
        if wanted.effort != "none" and wanted.budget_tokens != 0:
            yield "reasoning_effort" if wanted.effort else "thinking"
    elif wanted.effort == "none" or wanted.budget_tokens == 0:
        body["thinking"] = {"type": "disabled"}
    else:
        body["thinking"] = {"type": "enabled"}
        if wanted.budget_tokens is not None:
            body["thinking"] = {"type": "enabled", "token_budget": wanted.budget_tokens}


# --- messages -----------------------------------------------------------------------------------------------------


def _messages(conversation: Conversation, deployment: Deployment, prompt: str) -> list[Body]:
    """All instructions come first, wherever they stood: "system turn must be the first in the list"."""
    thinks = Capability.REASONING in deployment.capabilities
    said = [turn for message in conversation.messages for turn in _turns(message, thinks=thinks)]
    system = _system(conversation.messages, prompt)
    if not system:
        return said
    # Instructions alone are a request elsewhere; here somebody has to speak.
    return [{"role": "system" if said else "user", "content": system}, *said]


def _system(messages: tuple[Message, ...], prompt: str) -> str:
    lines = [prompt] if prompt else []
    for message in messages:
        if message.role is Role.SYSTEM:
            lines += [text for text in texts(message.parts, "a system message") if text.strip()]
    return "\n".join(lines)


def _turns(message: Message, *, thinks: bool) -> Iterator[Body]:
    match message.role:
        case Role.USER:
            yield from _user(message)
        case Role.ASSISTANT:
            yield from _assistant(message, thinks=thinks)


def _user(message: Message) -> Iterator[Body]:
    """Tool results are messages of their own, and follow the calls directly; then what the user said. A turn must not
    be empty."""
    content: list[Body] = []
    for part in message.parts:
        match part:
            case ToolResultPart():
                yield _tool_result(part)
            case TextPart(text=text):
                if text.strip():
                    content.append({"type": "text", "text": text})
            case ImagePart():
                url = part.url or f"data:{part.media_type};base64,{part.data}"
                content.append({"type": "image_url", "image_url": {"url": url}})
            case _:
                raise cannot_say(part, "a user message")
    if content:
        only_text = len(content) == 1 and content[0]["type"] == "text"
        yield {"role": "user", "content": content[0]["text"] if only_text else content}


def _tool_result(part: ToolResultPart) -> Body:
    if part.media:
        raise cannot_say(part.media[0], "a tool result")
    return {"role": "tool", "tool_call_id": part.call_id, "content": part.text}


def _assistant(message: Message, *, thinks: bool) -> Iterator[Body]:
    """What a model says before it calls tools is its `tool_plan`. Thought goes back to models that think, but for
    what carries another vendor's proof."""
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    rest = [part for part in message.parts if not isinstance(part, ToolCallPart | ReasoningPart)]
    text = "".join(texts(rest, "an assistant message"))
    content: list[Body] = []
    if thinks and (thought := plain_thought(message.parts)):
        content.append({"type": "thinking", "thinking": thought})
    turn: Body = {"role": "assistant"}
    if calls:
        turn["tool_calls"] = [_tool_call(call) for call in calls]
        if text.strip():
            turn["tool_plan"] = text
    elif text.strip():
        content.append({"type": "text", "text": text})
    if content:
        only_text = len(content) == 1 and content[0]["type"] == "text"
        turn["content"] = text if only_text else content
    if calls or content:
        yield turn


def _tool_call(call: ToolCallPart) -> Body:
    function = {"name": call.name, "arguments": call.arguments.strip() or "{}"}
    return {"id": call.id, "type": "function", "function": function}
