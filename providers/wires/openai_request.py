"""A conversation of another wire, said in OpenAI's words.

Source: developers.openai.com/api/docs/api-reference/chat/create, and openai 3.52 `CompletionCreateParams` (2026-11).
"""

from collections.abc import Iterator, Sequence

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

MOST_STOP_SEQUENCES = 4  # "Up to 4 sequences"


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    """:raises UnsupportedFeature: what chat completions cannot say."""
    conversation = request.conversation()
    body: Body = {"model": deployment.upstream_model, "messages": _messages(conversation, defaults.system_prompt)}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        body[deployment.endpoint.max_tokens_field] = limit
    _add_sampling(body, conversation, deployment, defaults)
    _add_tools(body, conversation)
    if conversation.response_format is not None:
        body["response_format"] = _response_format(conversation.response_format)
    if conversation.stop:
        if len(conversation.stop) > MOST_STOP_SEQUENCES:
            raise UnsupportedFeature(f"more than {MOST_STOP_SEQUENCES} stop sequences")
        body["stop"] = conversation.stop
    if conversation.user:
        body["user"] = conversation.user
    return body


def _add_sampling(body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults) -> None:
    if not takes_sampling(deployment):
        return
    temperature = defaults.temperature if conversation.temperature is None else conversation.temperature
    if temperature is not None:
        body["temperature"] = temperature
    if conversation.top_p is not None:
        body["top_p"] = conversation.top_p


def _add_tools(body: Body, conversation: Conversation) -> None:
    """`tool_choice` and `parallel_tool_calls` are refused without tools, so they are left out then."""
    if not conversation.tools:
        return
    body["tools"] = [_tool(tool) for tool in conversation.tools]
    if conversation.tool_choice is not None:
        body["tool_choice"] = _tool_choice(conversation.tool_choice)
    if conversation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = conversation.parallel_tool_calls


def _tool(tool: Tool) -> Body:
    function: Body = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if bytes(tool.parameters):
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> object:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(wanted: ResponseFormat) -> Body:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema = wanted.schema if bytes(wanted.schema) else Raw(b"{}")
    return {"type": "json_schema", "json_schema": {"name": wanted.name or "answer", "schema": schema}}


def _messages(conversation: Conversation, system_prompt: str) -> list[Body]:
    messages: list[Body] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in conversation.messages:
        match message.role:
            case Role.SYSTEM:
                messages.append({"role": "system", "content": _text(message.parts, "\n", "a system message")})
            case Role.ASSISTANT:
                messages.append(_assistant(message))
            case Role.USER:
                messages.extend(_user(message))
    return messages


def _user(message: Message) -> Iterator[Body]:
    """Tool results are messages of their own here, and follow the calls directly; then what the user said."""
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
        else:
            said.append(part)
    if len(said) == 1 and isinstance(said[0], TextPart):
        yield {"role": "user", "content": said[0].text}
    elif said or not message.parts:
        yield {"role": "user", "content": [_content(part) for part in said]}


def _assistant(message: Message) -> Body:
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    text = _text([part for part in message.parts if not isinstance(part, ToolCallPart)], "", "an assistant message")
    body: Body = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in calls
        ]
    return body


def _content(part: Part) -> Body:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart():
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url}}
        case _:
            raise UnsupportedFeature(f"{NAMES[type(part)]} in a user message")


def _text(parts: Sequence[Part], between: str, where: str) -> str:
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, TextPart):
            raise UnsupportedFeature(f"{NAMES[type(part)]} in {where}")
        texts.append(part.text)
    return between.join(texts)
