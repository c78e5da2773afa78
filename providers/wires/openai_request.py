"""A conversation of another wire, said in OpenAI's words.

Source: developers.openai.com/api/docs/api-reference/chat/create, and openai 3.52 `CompletionCreateParams` (2026-11).
"""

from msgspec import Raw

from providers.domain.conversation import Conversation, ResponseFormat, Tool, ToolChoice
from providers.domain.types import ChatRequest, Deployment, PromptDefaults
from providers.wires.openai_knobs import add_knobs, add_reasoning, add_sampling
from providers.wires.openai_said import messages_of
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import Body, limit_of, output_limit

MOST_STOP_SEQUENCES = 4  # "Up to 4 sequences"


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the knobs that it has no words for.

    :raises UnsupportedFeature: what chat completions cannot say.
    """
    conversation = request.conversation()
    dropped = list(conversation.dropped)
    messages = messages_of(conversation, deployment, defaults.system_prompt)
    body: Body = {"model": deployment.upstream_model, "messages": messages}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        body[deployment.endpoint.max_tokens_field] = limit
    add_sampling(body, conversation, deployment, defaults, dropped)
    add_knobs(body, conversation, deployment, dropped)
    add_reasoning(body, conversation.reasoning, deployment, dropped)
    _add_tools(body, conversation)
    if conversation.response_format is not None:
        body["response_format"] = _response_format(conversation.response_format)
    if conversation.stop:
        body["stop"] = stop_of(conversation)
    if conversation.user:
        body["user"] = conversation.user
    return body, tuple(dict.fromkeys(dropped))


def stop_of(conversation: Conversation) -> tuple[str, ...]:
    """:raises UnsupportedFeature:"""
    if len(conversation.stop) > MOST_STOP_SEQUENCES:
        raise UnsupportedFeature(f"more than {MOST_STOP_SEQUENCES} stop sequences")
    return conversation.stop


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
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> object:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(wanted: ResponseFormat) -> Body:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema = wanted.schema if bytes(wanted.schema) else Raw(b"{}")
    said: Body = {"name": wanted.name or "answer", "schema": schema}
    if wanted.strict is not None:
        said["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": said}
