"""A conversation of another wire, said in the words of OpenAI's Responses API.

Source: developers.openai.com/api/docs/guides/migrate-to-responses, /guides/function-calling, /guides/reasoning, and
openai 3.52 `ResponseCreateParams`, `ResponseInputItemParam` (2026-11).

Nothing of a translated request stays at the vendor: `store` is false, and thoughts travel encrypted with the
conversation. System messages stay where they are in the input: `instructions` do not count when `json_object` looks for
the word "json" (Source: github.com/BigDawnGhost/wenyi/pull/66, 2026-07), and not every copy has them. Marks of what is
worth caching are not passed on: the vendor caches prompts by itself, and only GPT-5.6 and later take marks.
"""

from collections.abc import Iterator

from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import Capability, ChatRequest, Deployment, PromptDefaults, Wire
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES, Body, is_set, limit_of, output_limit, takes_sampling

# "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16" (Source:
# github.com/earendil-works/pi/issues/6265, 2026-07). Callers who only try whether a model answers ask for 1.
SHORTEST_LIMIT = 16

VENDOR = "openai"  # whose proofs of thought these are

_KNOBS = ("seed", "frequency_penalty", "presence_penalty", "top_k")  # no words for these
# A thinking budget in tokens as an effort. No document translates the one into the other; the steps are those that
# people use with Claude: "think" is 4,000, "think harder" 10,000, "ultrathink" 31,999.
_EFFORTS = ((0, "none"), (4_096, "low"), (16_384, "medium"))
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')
_FILE_TYPES = {"text/plain": "txt", "text/markdown": "md"}  # where the ending is not the type's own name


def translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The body, and the names of the knobs that were left out of it.

    :raises UnsupportedFeature: what Responses cannot say.
    """
    conversation = request.conversation()
    if conversation.stop:
        raise UnsupportedFeature("stop")
    dropped = [*conversation.dropped, *(name for name in _KNOBS if getattr(conversation, name) is not None)]
    body: Body = {
        "model": deployment.upstream_model,
        "input": list(_items(conversation.messages, defaults.system_prompt)),
        "store": False,
    }
    if request.stream:
        body["stream"] = True
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        body["max_output_tokens"] = max(limit, SHORTEST_LIMIT)
        if limit < SHORTEST_LIMIT:
            dropped.append("max_tokens")
    dropped += _add_sampling(body, conversation, deployment, defaults)
    dropped += _add_reasoning(body, conversation.reasoning, request, deployment)
    _add_tools(body, conversation)
    _add_text(body, conversation)
    if conversation.user:
        body["user"] = conversation.user
    return body, tuple(dict.fromkeys(dropped))


def _add_sampling(
    body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults
) -> list[str]:
    """What the caller asked for and the model does not take; the persona's wish is no caller's."""
    asked = {"temperature": conversation.temperature, "top_p": conversation.top_p}
    if not takes_sampling(deployment):
        return [name for name, value in asked.items() if value is not None]
    if asked["temperature"] is None:
        asked["temperature"] = defaults.temperature
    body.update({name: value for name, value in asked.items() if value is not None})
    return []


def _add_reasoning(body: Body, wanted: Reasoning | None, request: ChatRequest, deployment: Deployment) -> list[str]:
    """What was left out: models that do not reason refuse every word about it."""
    effort = _effort(wanted) if wanted is not None else ""
    if Capability.REASONING not in deployment.capabilities:
        return [] if effort in ("", "none") else ["reasoning"]
    # The default of the newest models; older ones and Azure's say it only when asked. Without it a thought is lost.
    body["include"] = ["reasoning.encrypted_content"]
    reasoning: Body = {"effort": effort} if effort else {}
    if wanted is not None and effort != "none" and _wants_summary(wanted, request):
        reasoning["summary"] = "auto"
    if reasoning:
        body["reasoning"] = reasoning
    return []


def _wants_summary(wanted: Reasoning, request: ChatRequest) -> bool:
    """Not of a chat caller who names an effort as OpenAI has it: there nobody is shown a summary, and organizations
    that are not verified are refused one (Source: github.com/BerriAI/litellm/pull/16549, 2025-11)."""
    return wanted.show and not (request.wire is Wire.OPENAI and is_set(request.fields, "reasoning_effort"))


def _effort(wanted: Reasoning) -> str:
    budget = wanted.budget_tokens
    if wanted.effort or budget is None or budget < 0:  # below 0: as much as the model likes (Gemini)
        return wanted.effort
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def _add_tools(body: Body, conversation: Conversation) -> None:
    """Without tools there is nothing to choose from, and saying so is refused."""
    if not conversation.tools:
        return
    body["tools"] = [_tool(tool) for tool in conversation.tools]
    if conversation.tool_choice is not None:
        body["tool_choice"] = _tool_choice(conversation.tool_choice)
    if conversation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = conversation.parallel_tool_calls


def _tool(tool: Tool) -> Body:
    """`strict` is always said: functions are strict by default here, and not in chat completions."""
    schema = tool.parameters if bytes(tool.parameters) not in (b"", b"null") else _NO_ARGUMENTS
    body: Body = {"type": "function", "name": tool.name, "parameters": schema, "strict": bool(tool.strict)}
    if tool.description:
        body["description"] = tool.description
    return body


def _tool_choice(choice: ToolChoice) -> object:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _add_text(body: Body, conversation: Conversation) -> None:
    text: Body = {}
    if conversation.response_format is not None:
        text["format"] = _format(conversation.response_format)
    if conversation.verbosity:
        text["verbosity"] = conversation.verbosity
    if text:
        body["text"] = text


def _format(wanted: ResponseFormat) -> Body:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema = wanted.schema if bytes(wanted.schema) else Raw(b"{}")
    return {
        "type": "json_schema", "name": wanted.name or "answer", "schema": schema, "strict": bool(wanted.strict),
    }  # fmt: skip


# --- input items --------------------------------------------------------------------------------------------------


def _items(messages: tuple[Message, ...], system_prompt: str) -> Iterator[Body]:
    if system_prompt:
        yield {"role": "system", "content": system_prompt}
    for message in messages:
        match message.role:
            case Role.SYSTEM:
                yield {"role": "system", "content": _instruction(message)}
            case Role.ASSISTANT:
                yield from _assistant(message)
            case Role.USER:
                yield from _user(message)


def _instruction(message: Message) -> str:
    """Its parts, one per line. `system` and not `developer`: OpenAI takes both for the same, copies may not."""
    lines: list[str] = []
    for part in message.parts:
        if not isinstance(part, TextPart):
            raise UnsupportedFeature(f"{NAMES[type(part)]} in a system message")
        lines.append(part.text)
    return "\n".join(lines)


def _user(message: Message) -> Iterator[Body]:
    """Tool results are items of their own, and follow the calls directly; then what the user said."""
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"type": "function_call_output", "call_id": part.call_id, "output": _output(part)}
        else:
            said.append(part)
    if len(said) == 1 and isinstance(said[0], TextPart):
        yield {"role": "user", "content": said[0].text}
    elif said or not message.parts:
        yield {"role": "user", "content": [_content(part, "a user message") for part in said]}


def _output(result: ToolResultPart) -> str | list[Body]:
    if not result.media:
        return result.text
    text: tuple[Part, ...] = (TextPart(result.text),) if result.text else ()
    return [_content(part, "a tool result") for part in (*text, *result.media)]


def _content(part: Part, where: str) -> Body:
    match part:
        case TextPart(text=text):
            return {"type": "input_text", "text": text}
        case ImagePart():
            return {"type": "input_image", "detail": "auto", "image_url": part.url or _data_url(part)}
        case DocumentPart(url=url) if url and not url.startswith("data:"):
            return {"type": "input_file", "file_url": url}
        case DocumentPart():
            return {"type": "input_file", "filename": _file_name(part), "file_data": part.url or _data_url(part)}
        case _:
            raise UnsupportedFeature(f"{NAMES[type(part)]} in {where}")


def _data_url(part: ImagePart | DocumentPart) -> str:
    return f"data:{part.media_type};base64,{part.data}"


def _file_name(document: DocumentPart) -> str:
    """A file that comes inline has to have a name, which tells its type."""
    ending = _FILE_TYPES.get(document.media_type) or document.media_type.rpartition("/")[2] or "pdf"
    return document.name or f"document.{ending}"


def _assistant(message: Message) -> list[Body]:
    """What was thought, said and called, in order.

    A thought has to be followed by what it led to ("reasoning was provided without its required following item"), so
    one that led nowhere is left out. So is another vendor's, which this one cannot read.
    """
    items: list[Body] = []
    for part in message.parts:
        match part:
            case TextPart(text=""):
                continue
            case TextPart(text=text) if items and "role" in items[-1]:
                items[-1]["content"] = f"{items[-1]['content']}{text}"
            case TextPart(text=text):
                items.append({"role": "assistant", "content": text})
            case ToolCallPart():
                items.append(_call(part))
            case ReasoningPart():
                if part.vendor == VENDOR and part.encrypted:
                    items.append(_thought(part))
            case _:
                raise UnsupportedFeature(f"{NAMES[type(part)]} in an assistant message")
    while items and items[-1].get("type") == "reasoning":
        items.pop()
    return items


def _call(call: ToolCallPart) -> Body:
    """`call_id` is what joins it to its result; an item's own id is the vendor's, and means nothing unstored."""
    arguments = call.arguments.strip() or "{}"
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def _thought(part: ReasoningPart) -> Body:
    """The id may be missing when the content is there (Source: github.com/vercel/ai/pull/12869, 2026-02)."""
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    body: Body = {"type": "reasoning", "summary": summary, "encrypted_content": part.encrypted}
    if part.id:
        body["id"] = part.id
    return body
