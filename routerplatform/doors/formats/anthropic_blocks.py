"""Content blocks of an Anthropic client, read into parts.

Source: anthropic 2.11 `ContentBlockParam`, `ToolResultBlockParam` (2026-11).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from providers.domain.conversation import (
    CacheMark,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wires.anthropic_turns import VENDOR
from providers.wires.protocol import UnsupportedFeature
from providers.wires.sealed_thought import unseal
from routerplatform.gateway.errors import InvalidRequest

Block = dict[str, Any]

_encode = msgspec.json.Encoder().encode


def text_parts(content: Any, where: str) -> tuple[TextPart, ...]:
    """Instructions: text and nothing else."""
    parts = _each(content, where, _medium)
    texts = tuple(part for part in parts if isinstance(part, TextPart))
    if len(texts) < len(parts):
        raise UnsupportedFeature("a system message with more than text")
    return texts


def user_parts(content: Any, where: str) -> tuple[Part, ...]:
    return _each(content, where, _of_user)


def assistant_parts(content: Any, where: str) -> tuple[Part, ...]:
    """Proofs of thought that belong to a tool call of the same message go to it."""
    parts = _each(content, where, _of_assistant)
    proofs = {part.id: part.signature for part in parts if isinstance(part, _CallProof)}
    return tuple(
        msgspec.structs.replace(part, signature=proofs[part.id])
        if isinstance(part, ToolCallPart) and part.id in proofs
        else part
        for part in parts
        if not isinstance(part, _CallProof)
    )


def cache_mark(control: Any) -> CacheMark:
    match control:
        case {"ttl": "1h"}:
            return "1h"
        case {"type": "ephemeral"}:
            return "5m"
    return ""


class _CallProof(ReasoningPart, frozen=True, tag="call_proof"):
    """A proof that belongs to the tool call with this id."""


def _each(content: Any, where: str, read: Callable[[Block, str], tuple[Part, ...]]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    if not isinstance(content, list):
        raise InvalidRequest("“content” must be text or a list of blocks.", param=f"{where}.content")
    parts: list[Part] = []
    for i, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise InvalidRequest("A content block needs a “type”.", param=f"{where}.content[{i}]")
        parts += read(block, f"{where}.content[{i}]")
    return tuple(parts)


def _of_user(block: Block, where: str) -> tuple[Part, ...]:
    if block["type"] != "tool_result":
        return _medium(block, where)
    call_id = _text(block, "tool_use_id", where)
    parts = _each(block.get("content") or "", where, _medium)
    return (
        ToolResultPart(
            call_id,
            "\n".join(part.text for part in parts if isinstance(part, TextPart)),
            is_error=bool(block.get("is_error")),
            media=tuple(part for part in parts if isinstance(part, ImagePart | DocumentPart)),
            cache=cache_mark(block.get("cache_control")),
        ),
    )


def _of_assistant(block: Block, where: str) -> tuple[Part, ...]:
    match block["type"]:
        case "tool_use":
            if block.get("toolset_name"):
                raise UnsupportedFeature(f"a call of toolset {block['toolset_name']}")
            arguments = _encode(block.get("input") or {}).decode()
            return (ToolCallPart(_text(block, "id", where), _text(block, "name", where), arguments),)
        case "thinking":
            return _thought(_text(block, "thinking", where), str(block.get("signature") or ""))
        case "redacted_thinking":
            return _hidden_thought(_text(block, "data", where))
    return _medium(block, where)


def _thought(text: str, signature: str) -> tuple[Part, ...]:
    sealed = unseal(signature)
    if sealed is None:
        return (ReasoningPart(text, signature, vendor=VENDOR),)
    return (ReasoningPart(text, sealed.signature, sealed.encrypted, sealed.vendor, sealed.id),)


def _hidden_thought(data: str) -> tuple[Part, ...]:
    sealed = unseal(data)
    if sealed is None:
        return (ReasoningPart(encrypted=data, vendor=VENDOR),)
    if sealed.call:
        return (_CallProof(signature=sealed.signature, id=sealed.call),)
    return (ReasoningPart("", sealed.signature, sealed.encrypted, sealed.vendor, sealed.id),)


def _medium(block: Block, where: str) -> tuple[Part, ...]:
    """Text, images, documents: what may stand in a user's turn and in a tool's result."""
    mark = cache_mark(block.get("cache_control"))
    match block["type"]:
        case "text":
            return (TextPart(_text(block, "text", where), mark),)
        case "image":
            return (_image(block.get("source"), where, mark),)
        case "document":
            if (block.get("citations") or {}).get("enabled"):
                raise UnsupportedFeature("citations")
            return _document(block, where, mark)
        case "search_result":
            texts = text_parts(block.get("content"), where)
            lines = [str(block.get("title") or ""), str(block.get("source") or ""), *(part.text for part in texts)]
            return (TextPart("\n".join(line for line in lines if line), mark),)
    raise UnsupportedFeature(f"a {block['type']} block")


def _image(source: Any, where: str, mark: CacheMark) -> ImagePart:
    match source:
        case {"type": "url", "url": str(url)}:
            return ImagePart(url=url, cache=mark)
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return ImagePart(media_type=media_type, data=data, cache=mark)
        case {"type": "file"}:
            raise UnsupportedFeature("a file by its id")
    raise InvalidRequest("An image needs a “source”: base64 with media_type and data, or url.", param=f"{where}.source")


def _document(block: Block, where: str, mark: CacheMark) -> tuple[Part, ...]:
    """Text is what every model reads, so a document of text becomes that, under its title."""
    title, context = str(block.get("title") or ""), str(block.get("context") or "")
    head = tuple(TextPart(line) for line in (context,) if line)
    match block.get("source"):
        case {"type": "url", "url": str(url)}:
            return (*head, DocumentPart(url=url, name=title, cache=mark))
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return (*head, DocumentPart(media_type=media_type, data=data, name=title, cache=mark))
        case {"type": "text", "data": str(text)}:
            return (TextPart("\n".join(line for line in (title, context, text) if line), mark),)
        case {"type": "content", "content": content}:
            named = (TextPart(title),) if title else ()
            return (*named, *head, *_each(content, f"{where}.source", _medium))
        case {"type": "file"}:
            raise UnsupportedFeature("a file by its id")
    raise InvalidRequest("A document needs a “source”: base64, text, content or url.", param=f"{where}.source")


def _text(block: Block, name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"A block of type {block['type']} needs a “{name}”.", param=f"{where}.{name}")
    return value
