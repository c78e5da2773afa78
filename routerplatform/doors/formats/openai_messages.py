"""Read the messages of an OpenAI chat body into parts, with what other vendors' clients add to them.

Source: openai 3.52 `ChatCompletionMessageParam` (2026-11). Besides: `reasoning_content` (DeepSeek), `reasoning` and
`reasoning_details` (OpenRouter), `thinking_blocks` (LiteLLM), parts of type `thinking` (Anthropic, Mistral),
`extra_content.google.thought_signature` (ai.google.dev/gemini-api/docs/thought-signatures, 2026-11), `cache_control`.
"""

import re
from typing import Any

import msgspec

from providers.domain.conversation import (
    CacheMark,
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
from providers.wires.protocol import UnsupportedFeature
from providers.wires.reasoning_formats import vendor_of
from routerplatform.gateway.errors import InvalidRequest

ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
NO_ARGUMENTS = "{}"
_DATA_URL = re.compile(r"data:(?P<media_type>[^;,]*)(?:;[^;,]*)*;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE)


def message_of(message: dict[str, Any], index: int) -> Message:
    """:raises InvalidRequest, UnsupportedFeature:"""
    where = f"messages[{index}]"
    role, content = message.get("role"), message.get("content")
    if role in {"tool", "function"}:
        return Message(Role.USER, (_tool_result(message, content, where),))
    if role not in ROLES:
        raise InvalidRequest(f"“{role}” is not a role.", param=f"{where}.role")
    parts = _parts(content, where)
    if role == "assistant":
        parts = _thoughts(message, where) + parts + _refusal(message) + _calls(message, where)
    return Message(ROLES[role], parts)


def cache_mark(control: Any) -> CacheMark:
    """Anthropic's `{"type": "ephemeral", "ttl": "5m" | "1h"}`."""
    match control:
        case {"type": "ephemeral", "ttl": "1h"}:
            return "1h"
        case {"type": "ephemeral"}:
            return "5m"
    return ""


# --- parts --------------------------------------------------------------------------------------------------------


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise InvalidRequest("“content” must be a text or a list of parts.", param=f"{where}.content")
    return tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))


def _part(part: Any, where: str) -> Part:
    match part:
        case {"type": "text" | "refusal" as kind}:
            return TextPart(str(part.get(kind) or ""), cache_mark(part.get("cache_control")))
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image_url", "image_url": str(url)}:
            return _image(url, cache_mark(part.get("cache_control")), where)
        case {"type": "image_url"}:
            raise InvalidRequest("An image needs a “url”.", param=where)
        case {"type": "file", "file": dict(file)}:
            return _document(file, cache_mark(part.get("cache_control")), where)
        case {"type": "thinking" | "redacted_thinking"}:
            return _thinking(part, where)
        case {"type": str(kind)}:
            raise UnsupportedFeature(kind)
    raise InvalidRequest("A content part needs a “type”.", param=where)


def _image(url: str, cache: CacheMark, where: str) -> ImagePart:
    if not url.lower().startswith("data:"):
        return ImagePart(url=url, cache=cache)
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise InvalidRequest("An inline image must be “data:<media type>;base64,<data>”.", param=where)
    return ImagePart(media_type=found["media_type"].lower(), data=found["data"], cache=cache)


def _document(file: dict[str, Any], cache: CacheMark, where: str) -> DocumentPart:
    """`file_data` is a data URL; OpenRouter takes an address there too. A bare base64 text is a PDF."""
    data, name = file.get("file_data"), str(file.get("filename") or "")
    if not isinstance(data, str) or not data:
        if file.get("file_id"):
            raise UnsupportedFeature("file_id")
        raise InvalidRequest("A file needs its “file_data”: a data URL.", param=f"{where}.file.file_data")
    if data.startswith(("http://", "https://")):
        return DocumentPart(url=data, name=name, cache=cache)
    found = _DATA_URL.fullmatch(data)
    if found is not None:
        media_type = found["media_type"].lower() or "application/pdf"
        return DocumentPart(media_type=media_type, data=found["data"], name=name, cache=cache)
    if data.lower().startswith("data:"):
        raise InvalidRequest("“file_data” must be “data:<media type>;base64,<data>”.", param=f"{where}.file.file_data")
    return DocumentPart(media_type="application/pdf", data=data, name=name, cache=cache)


def _refusal(message: dict[str, Any]) -> tuple[Part, ...]:
    """What an assistant refused with, as it comes back in a history."""
    refusal = message.get("refusal")
    return (TextPart(refusal),) if isinstance(refusal, str) and refusal else ()


# --- thoughts -----------------------------------------------------------------------------------------------------


def _thoughts(message: dict[str, Any], where: str) -> tuple[Part, ...]:
    """What the assistant thought, from the field that says most: proofs first, else the text alone."""
    details, blocks = message.get("reasoning_details"), message.get("thinking_blocks")
    if isinstance(details, list) and details:
        return _from_details(details)
    if isinstance(blocks, list) and blocks:
        return tuple(_thinking(block, f"{where}.thinking_blocks[{i}]") for i, block in enumerate(blocks))
    text = message.get("reasoning_content") or message.get("reasoning")
    return (ReasoningPart(text),) if isinstance(text, str) and text else ()


def _from_details(details: list[Any]) -> tuple[Part, ...]:
    """Details of one `index` and vendor are one thought: a client may give a stream's pieces back one by one."""
    thoughts: list[ReasoningPart] = []
    last: tuple[object, str] | None = None
    for detail in details:
        if not isinstance(detail, dict):
            continue
        vendor = vendor_of(_text(detail, "format"))
        key = detail.get("index"), vendor
        piece = ReasoningPart(
            text=_text(detail, "text") or _text(detail, "summary"),
            signature=_text(detail, "signature"),
            encrypted=_text(detail, "data"),
            vendor=vendor,
            id=_text(detail, "id"),
        )
        if thoughts and key == last and detail.get("index") is not None:
            thoughts[-1] = _together(thoughts[-1], piece)
        else:
            thoughts.append(piece)
        last = key
    return tuple(thoughts)


def _together(thought: ReasoningPart, more: ReasoningPart) -> ReasoningPart:
    return ReasoningPart(
        text=thought.text + more.text,
        signature=more.signature or thought.signature,
        encrypted=more.encrypted or thought.encrypted,
        vendor=thought.vendor,
        id=thought.id or more.id,
    )


def _thinking(block: Any, where: str) -> ReasoningPart:
    """Anthropic's blocks, as LiteLLM's clients send them; Mistral's have a list of texts and no signature."""
    match block:
        case {"type": "redacted_thinking", "data": str(data)}:
            return ReasoningPart(encrypted=data, vendor="anthropic")
        case {"type": "thinking", "thinking": str(text)}:
            signature = _text(block, "signature")
            return ReasoningPart(text, signature, vendor="anthropic" if signature else "")
        case {"type": "thinking", "thinking": list(pieces)}:
            return ReasoningPart("".join(_text(piece, "text") for piece in pieces if isinstance(piece, dict)))
    raise InvalidRequest("A thinking block needs its “thinking”, or its “data” when redacted.", param=where)


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


# --- tools --------------------------------------------------------------------------------------------------------


def _calls(message: dict[str, Any], where: str) -> tuple[Part, ...]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidRequest("“tool_calls” must be a list.", param=f"{where}.tool_calls")
    read = tuple(_tool_call(call, where) for call in calls)
    old = message.get("function_call")  # from before calls had ids: the result names the function
    if not read and isinstance(old, dict) and isinstance(old.get("name"), str):
        return (ToolCallPart(old["name"], old["name"], _text(old, "arguments") or NO_ARGUMENTS),)
    return read


def _tool_call(call: Any, where: str) -> ToolCallPart:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return ToolCallPart(call_id, name, arguments or NO_ARGUMENTS, _signature(call))
        case {"id": str(call_id), "function": {"name": str(name), **rest}} if rest.get("arguments") is None:
            return ToolCallPart(call_id, name, NO_ARGUMENTS, _signature(call))
        case {"type": "custom"}:
            raise UnsupportedFeature("custom tools")
    raise InvalidRequest(
        "A tool call needs an id and a function with a name, and its arguments as JSON text.",
        param=f"{where}.tool_calls",
    )


def _signature(call: dict[str, Any]) -> str:
    match call:
        case {"extra_content": {"google": {"thought_signature": str(signature)}}}:
            return signature
    return ""


def _tool_result(message: dict[str, Any], content: Any, where: str) -> ToolResultPart:
    """Old results of the role “function” have no id of a call: their name is it."""
    name = _text(message, "name")
    texts: list[str] = []
    media: list[ImagePart | DocumentPart] = []
    cache = cache_mark(message.get("cache_control"))
    for part in _parts(content, where):
        match part:
            case TextPart(text=text):
                texts.append(text)
                cache = part.cache or cache
            case ImagePart() | DocumentPart():
                media.append(msgspec.structs.replace(part, cache=""))
                cache = part.cache or cache
            case _:
                raise InvalidRequest("A tool result holds texts, images and files.", param=f"{where}.content")
    call_id = str(message.get("tool_call_id") or name)
    return ToolResultPart(call_id, "".join(texts), media=tuple(media), name=name, cache=cache)
