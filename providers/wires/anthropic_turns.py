"""Messages of a conversation as Anthropic's turns and blocks.

Source: anthropic 2.11 `MessageParam`, `ContentBlockParam`, `CacheControlEphemeralParam` and
platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, prompt-caching (2026-11).
"""

import base64
import binascii
import re

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
from providers.wires.anthropic_thinking import THOUGHT
from providers.wires.message_parts import inline
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES, Body
from providers.wires.tool_json import object_arguments

VENDOR = "anthropic"  # whose proofs of thought these are
MOST_CACHE_MARKS = 4  # "A maximum of 4 blocks with cache_control may be provided" (2026-11)

# Source: anthropic 2.11 `Base64ImageSourceParam`, `Base64PDFSourceParam`, `PlainTextSourceParam`.
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF, _PLAIN = "application/pdf", "text/plain"
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")  # "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
_SPEAKERS = {Role.SYSTEM: "a system", Role.USER: "a user", Role.ASSISTANT: "an assistant"}


def system_and_turns(
    messages: tuple[Message, ...], prompt: str, *, system_anywhere: bool
) -> tuple[str | list[Body], list[Body]]:
    """The instructions, and the turns that follow. Neighbours of one role become one turn.

    Instructions in the middle stay there where the model takes them; all others go to the top, one per line.
    Blocks without text would be refused, so they are left out.

    :raises UnsupportedFeature: what messages cannot say.
    """
    top = [_text_block(prompt, "")] if prompt else []
    turns: list[tuple[str, list[Body]]] = []
    for place, message in enumerate(messages):
        blocks = [block for part in message.parts if (block := _block(part, message.role)) is not None]
        if not blocks:
            continue
        if message.role is Role.SYSTEM and not (system_anywhere and turns and _may_stand(messages, place, turns)):
            top += blocks
        elif turns and turns[-1][0] == message.role.value:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message.role.value, blocks))
    marked = any("cache_control" in block for block in top)
    system = top if marked else "\n".join(str(block["text"]) for block in top)
    return system, [_turn(role, blocks) for role, blocks in turns]


def limit_cache_marks(*groups: object) -> None:
    """Only the last marks of a prompt can stay: they cover the most of it. `groups` are in the order of the prompt."""
    marked = [block for group in groups for block in _marked(group)]
    for block in marked[:-MOST_CACHE_MARKS]:
        del block["cache_control"]


def cache_control(mark: CacheMark) -> Body:
    return {"type": "ephemeral", "ttl": "1h"} if mark == "1h" else {"type": "ephemeral"}


def _marked(group: object) -> list[Body]:
    """The blocks with a mark among tools, instructions or turns, of turns those inside."""
    found: list[Body] = []
    for item in group if isinstance(group, list) else []:
        found += _marked(item.get("content"))
        if "cache_control" in item:
            found.append(item)
    return found


def _may_stand(messages: tuple[Message, ...], place: int, turns: list[tuple[str, list[Body]]]) -> bool:
    """After a turn of the user's, and last or before one of the model's: a 400 elsewhere."""
    following = next((each.role for each in messages[place + 1 :] if each.role is not Role.SYSTEM), Role.ASSISTANT)
    return turns[-1][0] in {"user", "system"} and following is Role.ASSISTANT


def _turn(role: str, blocks: list[Body]) -> Body:
    """Tool results have to come first in their turn; a thought too, but once it does, thoughts may come later as well.
    A turn of one text is sent as that text."""
    first = ("tool_result",) if role == "user" else THOUGHT
    is_in_order = role == "assistant" and blocks[0]["type"] in first
    ordered = blocks if is_in_order else sorted(blocks, key=lambda block: block["type"] not in first)
    only_text = len(ordered) == 1 and ordered[0].keys() == {"type", "text"}
    return {"role": role, "content": ordered[0]["text"] if only_text else ordered}


def _block(part: Part, role: Role) -> Body | None:
    match part:
        case TextPart(text=text, cache=mark):
            return _text_block(text, mark) if text.strip() else None
        case ReasoningPart() if role is Role.ASSISTANT:
            return _thought(part)
        case ToolCallPart() if role is Role.ASSISTANT:
            return {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": object_arguments(part)}
        case ToolResultPart() if role is Role.USER:
            return _tool_result(part)
        case ImagePart() | DocumentPart() if role is Role.USER:
            return _medium(part)
        case _:
            raise UnsupportedFeature(f"{NAMES[type(part)]} in {_SPEAKERS[role]} message")


def _text_block(text: str, mark: CacheMark) -> Body:
    return _with_mark({"type": "text", "text": text}, mark)


def _with_mark(block: Body, mark: CacheMark) -> Body:
    if mark:
        block["cache_control"] = cache_control(mark)
    return block


def _thought(part: ReasoningPart) -> Body | None:
    """Only Anthropic's own: it refuses a signature that it did not write, and a thought without one."""
    if part.vendor != VENDOR:
        return None
    if part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return {"type": "redacted_thinking", "data": part.encrypted} if part.encrypted else None


def _tool_result(part: ToolResultPart) -> Body:
    content: object = part.text
    if part.media:
        texts = [_text_block(part.text, "")] if part.text.strip() else []
        content = [*texts, *(_medium(medium) for medium in part.media)]
    block: Body = {"type": "tool_result", "tool_use_id": _id(part.call_id), "content": content}
    if part.is_error:
        block["is_error"] = True
    return _with_mark(block, part.cache)


def _medium(part: ImagePart | DocumentPart) -> Body:
    if isinstance(part, ImagePart):
        return _with_mark({"type": "image", "source": _image_source(part)}, part.cache)
    block: Body = {"type": "document", "source": _document_source(part)}
    if part.name:
        block["title"] = part.name
    return _with_mark(block, part.cache)


def _image_source(image: ImagePart) -> Body:
    given = inline(image)
    if given is None:
        return {"type": "url", "url": image.url}
    media_type, data = given
    if media_type not in _IMAGE_TYPES:
        raise UnsupportedFeature(f"an image of type {media_type}")
    return {"type": "base64", "media_type": media_type, "data": data}


def _document_source(document: DocumentPart) -> Body:
    given = inline(document)
    if given is None:
        return {"type": "url", "url": document.url}
    media_type, data = given
    if media_type == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": data}
    if not media_type.startswith("text/"):
        raise UnsupportedFeature(f"a document of type {media_type}")
    try:
        text = base64.b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise UnsupportedFeature("a text document that is not base64 of UTF-8") from None
    return {"type": "text", "media_type": _PLAIN, "data": text}


def _id(call_id: str) -> str:
    """The same id for a call and its result, in the characters that are allowed here."""
    return _NOT_IN_IDS.sub("_", call_id) or "call"
