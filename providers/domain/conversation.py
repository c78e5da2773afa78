"""A request free of any wire: the typed conversation, and the texts of a request for embeddings.

Read from the caller's bytes only when a target speaks another wire than the caller.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Raw, Struct


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


CacheMark = Literal["", "5m", "1h"]  # the prompt up to and with this is worth caching, for so long


class TextPart(Struct, frozen=True, tag="text"):
    text: str
    cache: CacheMark = ""


class ImagePart(Struct, frozen=True, tag="image"):
    """An image by address, or inline: then `media_type` and base64 `data` are set and `url` is empty."""

    url: str = ""
    media_type: str = ""
    data: str = ""
    cache: CacheMark = ""


class DocumentPart(Struct, frozen=True, tag="document"):
    """A file, mostly a PDF, by address or inline as an image is."""

    url: str = ""
    media_type: str = ""
    data: str = ""
    name: str = ""
    cache: CacheMark = ""


class ReasoningPart(Struct, frozen=True, tag="reasoning"):
    """What a model thought before, to be given back to it unchanged.

    `signature` proves it; `encrypted` is thought that only the vendor can read, and then `text` may be empty.
    `vendor` is whose proof it is ("anthropic", "openai", "gemini"): nobody else's wire may send it on.
    """

    text: str = ""
    signature: str = ""
    encrypted: str = ""
    vendor: str = ""
    id: str = ""


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """The model asked for a tool; `arguments` is the JSON text as the model wrote it.

    `signature` is the proof of thought that Gemini attaches to a call and wants back with it.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    """What a tool answered: its text, and images or documents beside it."""

    call_id: str
    text: str
    is_error: bool = False
    media: tuple[ImagePart | DocumentPart, ...] = ()
    name: str = ""  # of the tool, where the caller says it
    cache: CacheMark = ""


Part = TextPart | ImagePart | DocumentPart | ReasoningPart | ToolCallPart | ToolResultPart


class Message(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON schema, as sent."""

    name: str
    description: str
    parameters: Raw
    strict: bool | None = None
    cache: CacheMark = ""


class ToolChoice(Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class ResponseFormat(Struct, frozen=True):
    """`schema` is the caller's JSON schema for kind `json_schema`, else empty."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: Raw = Raw()
    strict: bool | None = None


class Reasoning(Struct, frozen=True):
    """How much a model shall think. `effort` is OpenAI's word for it ("none" … "xhigh"), `budget_tokens` Anthropic's
    and Gemini's figure; either may be missing. `show`: the caller wants to read a summary of it."""

    effort: str = ""
    budget_tokens: int | None = None
    show: bool = True


class Conversation(Struct, frozen=True):
    """A request in full, free of any wire. `dropped` names tuning knobs that no other wire has.

    Everything from `seed` on is a knob: a wire that has none like it leaves it out and says so
    (`UpstreamRequest.dropped`). What stands before changes the meaning of the answer: a wire says it or refuses.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    user: str = ""
    reasoning: Reasoning | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_k: int | None = None
    verbosity: str = ""
    dropped: tuple[str, ...] = ()


class EmbeddingBatch(Struct, frozen=True):
    """Texts to embed, free of any wire. `purpose` is what they are for, where the caller says it."""

    texts: tuple[str, ...]
    dimensions: int | None = None
    user: str = ""
    purpose: Literal["", "query", "document", "classification", "clustering"] = ""
