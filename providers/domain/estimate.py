"""How many tokens a request probably is, without any vendor's tokenizer, and what it may be above its bytes at most.

The first is for routing and for answers that came uncounted; the second for budgets that must not be passed.

Weights are tokens per character of a class, fitted to o200k_base (bpe-openai 0.1.4, 2026-11) over prose in eight
languages, code, JSON, HTML, CSV and numbers: within 15 %, but Hindi 23 % and indented JSON 20 % under. A request whose
texts are themselves JSON comes out up to 45 % over, for the escapes.
Other vendors' tokenizers count up to a third more. A vendor's own count always wins; checks against a context window
should leave 30 % of room.
"""

import contextlib
import re
import string
from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from providers.domain.conversation import DocumentPart, ImagePart, Part, ToolResultPart
from providers.domain.types import ChatRequest, Wire

_LETTERS = string.ascii_letters.encode()
_SPACES = b" \t\r\n"
_DIGITS = string.digits.encode()
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_TWO_BYTE = bytes(range(0xC0, 0xE0))  # accents, Greek, Cyrillic, Hebrew, Arabic
_INDIC = bytes(range(0xE0, 0xE3))  # and Thai, typographic signs
_EAST_ASIAN = bytes(range(0xE3, 0xF0))

_ASTRAL = bytes(range(0xF0, 0x100))  # emoji

_PER_LETTER, _PER_DIGIT, _PER_SIGN = 0.226, 0.66, 0.78
_PER_TWO_BYTE, _PER_INDIC, _PER_EAST_ASIAN, _PER_ASTRAL = 0.33, 0.29, 0.73, 1.5

_ROLE_JSON = 10  # what the JSON around one message weighs above the 3 or 4 tokens that vendors count for it
_IMAGE = 1_500  # an inline image of about one megapixel, at OpenAI's and Anthropic's published rules (2026-11)
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{256,}")
_LOW_ESCAPE = re.compile(rb"\\u0[0-9a-fA-F]{3}")
_HIGH_ESCAPE = re.compile(rb"\\u[1-9a-fA-F][0-9a-fA-F]{3}")


def estimate_tokens(body: bytes) -> int:
    """The likely input tokens of a request's JSON, at least 1. About 4 us per 1.4 KB."""
    images = 0
    if b"base64" in body:
        body, images = _BASE64_RUN.subn(b"", body)
    if b"\\u" in body:  # each escape stands for one character
        body = _HIGH_ESCAPE.sub(b"\xe3", _LOW_ESCAPE.sub(b"\xd0", body))
    return max(round(_weigh(body)) - _ROLE_JSON * body.count(b'"role"'), 1) + images * _IMAGE


def count_text(text: str) -> int:
    """The likely tokens of plain text; 0 only for no text."""
    return max(round(_weigh(text.encode("utf-8", "replace"))), 1) if text else 0


def _weigh(text: bytes) -> float:
    """Counts classes by deleting one after the other: the cheapest pass over bytes that there is."""
    other = text.translate(None, _LETTERS)
    weight = (len(text) - len(other)) * _PER_LETTER
    rest = other.translate(None, _SPACES)
    signs = rest.translate(None, _DIGITS)
    weight += (len(rest) - len(signs)) * _PER_DIGIT
    if not signs.isascii():
        leads = signs.translate(None, _CONTINUATIONS)
        for kind, per_character in (
            (_TWO_BYTE, _PER_TWO_BYTE),
            (_INDIC, _PER_INDIC),
            (_EAST_ASIAN, _PER_EAST_ASIAN),
            (_ASTRAL, _PER_ASTRAL),
        ):
            signs = leads.translate(None, kind)
            weight += (len(leads) - len(signs)) * per_character
            leads = signs
    return weight + len(signs) * _PER_SIGN


# --- what is not in the bytes --------------------------------------------------------------------------------------
#
# No token is shorter than a byte, so a body's bytes bound the tokens of its texts. Vendors add to that: templates and
# instructions of their own, and images, whose tokens follow from their pixels and not from their bytes.

# What nobody can say beforehand: the longest prompt that any model takes. Source: Google, "Long context" (2025-12); the
# catalogue's longest is 1,050,000.
WHOLE_WINDOW = 2_000_000

# What a chat template puts around every conversation: the date, the channels, the reasoning effort. About 70 tokens.
# Source: OpenAI, "OpenAI harmony response format" (2025-08), the system message of gpt-oss; Meta, "Llama 3.1 prompt
# formats" (2024-07). What stands around one message (3 or 4 tokens) is less than its JSON.
TEMPLATE = 512

# The instructions that let a model call tools: 804 tokens for Claude Opus 4.7 with a forced choice, the dearest there.
# Source: Anthropic, "Tool use with Claude", tool use system prompt token count (read 2026-07-13).
TOOLS = 2_048

# A tool that the vendor knows and the caller only names: 735 tokens for `computer_*`, and 499 for how to use it.
# Source: Anthropic, "Pricing", tool use (read 2026-07-13).
NAMED_TOOL = 2_048

# Instructions that say which JSON is wanted. Source: Anthropic, "Structured outputs": "an additional system prompt
# explaining the expected output format" (2026-10).
WANTED_FORMAT = 1_024

# The dearest image. gpt-4o-mini: 2,833 + 5,667 for each of at most 8 tiles of 512 px (2048 x 768 px). GPT-5.6 and
# GPT-6: at most 30,000 patches x 1.2 = 36,000. Claude 4.7 and later: 4,784. Gemini 3 and 4: 2,240.
# Source: OpenAI, "Images and vision", calculating costs (2026-09); Anthropic, "Vision" (2026-09); Google, "Media
# resolution" (2026-09).
IMAGE = 2_833 + 8 * 5_667

# What stands around one text to embed: marks of its begin and end, and for some models a word of what it is for.
EMBEDDED_TEXT = 32

# Fields and tools that make the vendor fetch text by itself, again and again if the model wants so, and bill it.
# Source: OpenAI, "Web search"; Anthropic, "Server tools", "MCP connector", "Agent Skills"; xAI, "Live search";
# OpenRouter, "Web search" (2026-10).
_FETCHING_FIELDS = ("web_search_options", "search_parameters", "mcp_servers", "container", "plugins")
_NAMED_TOOLS = ("bash_", "text_editor_", "memory_", "computer_")
_DEARER = {"service_tier": (b'"priority"', b'"fast"'), "speed": (b'"fast"',)}
_ABSENT = (b"", b"null", b"false", b"[]")

# Fields that name what the vendor keeps: earlier turns, and prompts with files in them. Source: openai 3.52
# `ResponseCreateParams` (2026-11).
_KEPT_FIELDS = ("previous_response_id", "conversation", "prompt")

_TEXTS = frozenset(
    {
        "text", "refusal", "thinking", "redacted_thinking", "tool_use", "tool_result", "search_result", "input_audio",
        "input_text", "output_text", "summary_text", "reasoning_text",
    }
)  # fmt: skip
_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot"})

# Items of a Responses request whose every token is in their bytes, or in their parts. Items of the vendor's own tools
# are not among them: a search that is called back in costs what it found.
_ITEMS = frozenset(
    {"", "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"}
)


class _Part(Struct):
    """A part of a message. A tool's result has parts of its own."""

    type: str
    content: "str | list[_Part] | None" = None


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Item(Struct):
    """Of a Responses request: a message, what a tool was asked or has answered, what was thought."""

    type: str | None = None
    content: str | list[_Part] | None = None
    output: str | list[_Part] | None = None


class _Text(Struct):
    """How the answer's text is wanted (Responses)."""

    format: Raw = Raw()


class _Tool(Struct):
    type: str | None = None


_messages = msgspec.json.Decoder(list[_Message]).decode
_tools = msgspec.json.Decoder(list[_Tool]).decode
_items = msgspec.json.Decoder(str | list[_Item]).decode
_text = msgspec.json.Decoder(_Text).decode
_several = msgspec.json.Decoder(str | list[Raw]).decode


def hidden_input_tokens(request: ChatRequest) -> int:
    """The most input tokens that a vendor may bill above the bytes of the request's body.

    WHOLE_WINDOW at least for what only the vendor knows the size of: documents, its own search and code tools, prompts
    that it keeps. Images count as the dearest that any vendor knows, for a small one is not seen by its bytes. Where
    the model's context window is known, it bounds the sum: a longer prompt is refused.
    """
    try:
        match request.wire:
            case None:
                return _of_conversation(request)
            case Wire.OPENAI_RESPONSES:
                return _of_response(request.fields)
            case Wire.OPENAI_COMPLETIONS:
                return WHOLE_WINDOW if _is_there(request.fields, "prompt_embeds") else TEMPLATE
            case Wire.OPENAI_EMBEDDINGS:
                return _of_embeddings(request.fields)
        return _of_messages(request.fields)
    except (msgspec.DecodeError, RecursionError):
        return WHOLE_WINDOW  # not a shape that we know


def unpriced_extra(request: ChatRequest) -> str:
    """What this request asks for that vendors bill beside the tokens, or at other rates; empty when there is nothing.

    Fees per search and per container, and faster tiers. Source: OpenAI, "Pricing", built-in tools and priority
    processing; Anthropic, "Pricing", server tools and fast mode (2026-10).
    """
    for name in _FETCHING_FIELDS:
        if _is_there(request.fields, name):
            return name
    for name, values in _DEARER.items():
        if bytes(request.fields.get(name, Raw())) in values:
            return f"{name} {bytes(request.fields[name]).decode()}"
    with contextlib.suppress(msgspec.DecodeError):
        for tool in _tools(request.fields["tools"]) if _is_there(request.fields, "tools") else []:
            if _of_tool(tool) == WHOLE_WINDOW:
                return f"the tool “{tool.type}”"
    return ""


def _of_conversation(request: ChatRequest) -> int:
    if request.embeddings is not None:
        return TEMPLATE + EMBEDDED_TEXT * len(request.embeddings().texts)
    conversation = request.conversation()
    shown = sum(_of_part(part) for message in conversation.messages for part in message.parts)
    tools = TOOLS if conversation.tools else 0
    return TEMPLATE + tools + shown + (WANTED_FORMAT if conversation.response_format else 0)


def _of_part(part: Part) -> int:
    match part:
        case ImagePart():
            return IMAGE
        case DocumentPart():
            return WHOLE_WINDOW
        case ToolResultPart(media=media):
            return sum(map(_of_part, media))
    return 0


def _of_messages(fields: dict[str, Raw]) -> int:
    """Read again, and wholly: what stands in the bytes may be escaped, so that searching them would miss it."""
    if any(_is_there(fields, name) for name in _FETCHING_FIELDS) or _names_a_kept_prompt(fields):
        return WHOLE_WINDOW
    wants_format = _is_there(fields, "response_format") or _is_there(fields, "output_config")
    messages = _messages(fields["messages"]) if "messages" in fields else []
    parts = [part for message in messages if isinstance(message.content, list) for part in message.content]
    return TEMPLATE + _of_parts(parts) + _of_tools(fields) + (WANTED_FORMAT if wants_format else 0)


def _of_response(fields: dict[str, Raw]) -> int:
    if any(_is_there(fields, name) for name in (*_FETCHING_FIELDS, *_KEPT_FIELDS)):
        return WHOLE_WINDOW
    items = _items(fields["input"]) if _is_there(fields, "input") else []
    hidden = sum(map(_of_item, items)) if isinstance(items, list) else 0
    wants_format = _is_there(fields, "text") and bytes(_text(fields["text"]).format) not in _ABSENT
    return TEMPLATE + hidden + _of_tools(fields) + (WANTED_FORMAT if wants_format else 0)


def _of_item(item: _Item) -> int:
    if (item.type or "") not in _ITEMS:
        return WHOLE_WINDOW
    parts = (part for given in (item.content, item.output) if isinstance(given, list) for part in given)
    return _of_parts(parts)


def _of_embeddings(fields: dict[str, Raw]) -> int:
    given = _several(fields["input"]) if "input" in fields else ""
    is_one = isinstance(given, str) or not given or bytes(given[0])[:1].isdigit()  # a list of numbers is one text
    return TEMPLATE + EMBEDDED_TEXT * (1 if is_one else len(given))


def _of_tools(fields: dict[str, Raw]) -> int:
    tools = _tools(fields["tools"]) if _is_there(fields, "tools") else []
    has_tools = bool(tools) or _is_there(fields, "functions")
    return sum(map(_of_tool, tools)) + (TOOLS if has_tools else 0)


def _of_parts(parts: Iterable[_Part]) -> int:
    hidden = 0
    for part in parts:
        if part.type in _IMAGES:
            hidden += IMAGE
        elif part.type not in _TEXTS:
            return WHOLE_WINDOW  # a document: its pages are pictures too, however few bytes they have
        elif isinstance(part.content, list):
            hidden += _of_parts(part.content)
    return hidden


def _of_tool(tool: _Tool) -> int:
    if tool.type in {None, "function", "custom"}:
        return 0
    return NAMED_TOOL if str(tool.type).startswith(_NAMED_TOOLS) else WHOLE_WINDOW


def _is_there(fields: dict[str, Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) not in _ABSENT


def _names_a_kept_prompt(fields: dict[str, Raw]) -> bool:
    """Gemini's OpenAI layer takes `extra_body.google.cached_content`; an escape may hide the name."""
    extra = bytes(fields.get("extra_body", Raw()))
    return b"cached_content" in extra or b"\\u" in extra
