"""The messages of a conversation in OpenAI's words. Marks of what to cache are left out: OpenAI caches by itself.

Source: openai 3.52 `ChatCompletionMessageParam` (2026-11). What was thought goes back only to vendors that want it:
DeepSeek refuses a turn with tool calls whose `reasoning_content` is missing (its guide "Thinking mode", 2026-11), so do
Kimi's models (platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model, 2026-11); Fireworks and vLLM hand it to the
model's template. OpenRouter takes proofs too (openrouter.ai/docs/use-cases/
reasoning-tokens, 2026-11). Groq and Mistral refuse messages with fields that they do not know: "property
'reasoning_content' is unsupported", "extra_forbidden" (github.com/BerriAI/litellm/issues/30835, 2026-06;
github.com/janhq/jan/issues/8136, 2026-05).
"""

import base64
import binascii
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import Deployment
from providers.wires.protocol import UnsupportedFeature
from providers.wires.reasoning_formats import format_of
from providers.wires.request_fields import NAMES, Body

WANT_THOUGHTS = frozenset({"deepseek", "fireworks", "vllm"})
WANTING_MODELS = ("deepseek", "kimi")  # by the model's name, at whichever server it runs
STRICT = frozenset({"groq", "mistral"})  # they refuse fields of messages that they do not know
_ADDED_FIELDS = ("reasoning_content", "reasoning_details", "thinking_blocks")
_ADDED_MARKS = (*(name.encode() for name in _ADDED_FIELDS), b"extra_content")
GEMINI_HOST = "generativelanguage.googleapis.com"


def messages_of(conversation: Conversation, deployment: Deployment, system_prompt: str) -> list[Body]:
    """:raises UnsupportedFeature: what chat completions cannot say."""
    messages: list[Body] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in conversation.messages:
        match message.role:
            case Role.SYSTEM:
                messages.append({"role": "system", "content": _text(message.parts, "\n", "a system message")})
            case Role.ASSISTANT:
                messages.append(_assistant(message, deployment))
            case Role.USER:
                messages.extend(_user(message, deployment))
    return messages


def without_added(messages: Raw) -> object:
    """The caller's messages without what answers of other vendors had added to them, for vendors that are strict: a
    client gives back all that it was given. Untouched where nothing was added."""
    if not any(mark in bytes(messages) for mark in _ADDED_MARKS):
        return messages
    try:
        kept = msgspec.json.decode(messages, type=list[dict[str, Raw]])
        for message in kept:
            for name in _ADDED_FIELDS:
                message.pop(name, None)
            if b"extra_content" in bytes(message.get("tool_calls", Raw())):
                message["tool_calls"] = Raw(msgspec.json.encode(_unsigned(message["tool_calls"])))
    except msgspec.DecodeError:
        return messages  # for the vendor to refuse
    return kept


def _unsigned(calls: Raw) -> list[dict[str, Raw]]:
    kept = msgspec.json.decode(calls, type=list[dict[str, Raw]])
    for call in kept:
        call.pop("extra_content", None)
    return kept


def _user(message: Message, deployment: Deployment) -> Iterator[Body]:
    """Tool results are messages of their own here, and follow the calls directly; then what the user said.

    They hold nothing but text, so pictures and files in them come after them, as if the user showed them.
    """
    shown: list[Body] = []
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
            if part.media:
                shown.append({"type": "text", "text": f"Shown by the tool call {part.call_id}:"})
                shown += [_content(piece, deployment) for piece in part.media]
        else:
            said.append(part)
    if len(said) == 1 and isinstance(said[0], TextPart) and not shown:
        yield {"role": "user", "content": said[0].text}
    elif said or shown or not message.parts:
        yield {"role": "user", "content": shown + [_content(part, deployment) for part in said]}


def _assistant(message: Message, deployment: Deployment) -> Body:
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    thoughts = [part for part in message.parts if isinstance(part, ReasoningPart)]
    spoken = [part for part in message.parts if not isinstance(part, ToolCallPart | ReasoningPart)]
    text = _text(spoken, "", "an assistant message")
    body: Body = {"role": "assistant", "content": text if text or not calls else None}
    _add_thoughts(body, thoughts, deployment)
    if calls:
        signed = deployment.endpoint.kind == "gemini" or GEMINI_HOST in deployment.endpoint.base_url
        body["tool_calls"] = [_call(call, signed=signed) for call in calls]
    return body


def _call(call: ToolCallPart, *, signed: bool) -> Body:
    body: Body = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }
    if call.signature and signed:
        body["extra_content"] = {"google": {"thought_signature": call.signature}}
    return body


def _add_thoughts(body: Body, thoughts: Sequence[ReasoningPart], deployment: Deployment) -> None:
    """Words may go to whoever wants them; proofs only through OpenRouter, which knows whose they are."""
    kind, model = deployment.endpoint.kind, deployment.upstream_model.lower()
    if kind == "openrouter":
        details = [detail for i, thought in enumerate(thoughts) for detail in _details(thought, i)]
        if details:
            body["reasoning_details"] = details
        return
    wanted = kind in WANT_THOUGHTS or any(name in model for name in WANTING_MODELS)
    text = "".join(thought.text for thought in thoughts)
    if text and wanted and kind not in STRICT:
        body["reasoning_content"] = text


def _details(thought: ReasoningPart, index: int) -> Iterator[Body]:
    named: Body = {"index": index, "format": format_of(thought.vendor)}
    if thought.id:
        named["id"] = thought.id
    if thought.signature or not thought.encrypted:
        signed = {"signature": thought.signature} if thought.signature else {}
        yield {"type": "reasoning.text", "text": thought.text, **signed, **named}
    elif thought.text:
        yield {"type": "reasoning.summary", "summary": thought.text, **named}
    if thought.encrypted:
        yield {"type": "reasoning.encrypted", "data": thought.encrypted, **named}


def _content(part: Part, deployment: Deployment) -> Body:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart():
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url}}
        case DocumentPart(media_type=kind) if kind.startswith("text/") and not part.url:
            return {"type": "text", "text": _plain(part)}
        case DocumentPart():
            return {"type": "file", "file": _file(part, deployment)}
        case _:
            raise UnsupportedFeature(f"{NAMES[type(part)]} in a user message")


def _file(part: DocumentPart, deployment: Deployment) -> Body:
    """Inline, of type PDF and with a name. OpenRouter reads what lies at an address, and other types.

    Source: developers.openai.com/api/docs/guides/file-inputs (2026-11); openrouter.ai/docs/features/multimodal/pdfs.
    """
    is_open = deployment.endpoint.kind == "openrouter"
    if part.url and not is_open:
        raise UnsupportedFeature("a document by address")
    if not part.url and part.media_type != "application/pdf" and not is_open:
        raise UnsupportedFeature(f"a document of type {part.media_type}")
    data = part.url or f"data:{part.media_type};base64,{part.data}"
    return {"filename": part.name or "document.pdf", "file_data": data}


def _plain(part: DocumentPart) -> str:
    """A document that is text anyway, under its name."""
    try:
        text = base64.b64decode(part.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise UnsupportedFeature(f"a document of type {part.media_type} that is no UTF-8 text in base64") from None
    return f"{part.name}:\n\n{text}" if part.name else text


def _text(parts: Sequence[Part], between: str, where: str) -> str:
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, TextPart):
            raise UnsupportedFeature(f"{NAMES[type(part)]} in {where}")
        texts.append(part.text)
    return between.join(texts)
