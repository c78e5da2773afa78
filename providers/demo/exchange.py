"""What both wires share: an Ask comes in, a Reply goes out, a Refusal is the other way to end.

A wire turns bytes into an Ask and a Reply into bytes; what is decided in between knows no wire.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from providers.demo.catalogue import DemoModel, WireName

JsonObject = Mapping[str, Any]


class Refusal(Exception):
    """The request ends with an error status. `code` and `param` are shown where the wire has such fields."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        html: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message  # empty: the vendor's own words for this status and code
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.html = html


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, free of any wire. `prompt` is the text of the last user message, markers included.

    `history` holds the user's earlier texts, `tool_results` what tools answered since the model last spoke.
    `schema` is None without JSON mode and empty for JSON of any shape. `digest` is the hash of the body.
    `forced_tool` is a tool's name, "" for any tool, None when the model may choose; `may_call` False forbids tools.
    """

    model: DemoModel
    stream: bool
    system: str
    history: tuple[str, ...]
    prompt: str
    digest: str
    input_tokens: int
    images: int = 0
    limit: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_results: tuple[str, ...] = ()
    may_call: bool = True
    forced_tool: str | None = None
    parallel_calls: bool = True
    schema: JsonObject | None = None
    include_usage: bool = True


class Finish(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """The beginning of tool call `index`."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """More of the JSON text of tool call `index`."""

    index: int
    text: str


Piece = TextPiece | ToolPiece | ArgumentsPiece  # each is one output token


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in disjoint input buckets; `reasoning_tokens` is part of `output_tokens`."""

    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer before it is played. `digest` names it; `created` is a Unix time."""

    model: DemoModel
    digest: str
    created: int
    pieces: tuple[Piece, ...]
    finish: Finish
    stop_sequence: str | None
    usage: Usage
    show_usage: bool
    show_finish: bool
    show_done: bool

    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if isinstance(piece, TextPiece))

    def tool_calls(self) -> list[tuple[ToolPiece, str]]:
        """Each tool call with the JSON text of its arguments (cut short when the limit fell into it)."""
        texts: dict[int, list[str]] = {}
        for piece in self.pieces:
            if isinstance(piece, ArgumentsPiece):
                texts.setdefault(piece.index, []).append(piece.text)
        heads = [piece for piece in self.pieces if isinstance(piece, ToolPiece)]
        return [(head, "".join(texts.get(head.index, []))) for head in heads]


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event; `tokens` is 1 when it carries a piece of the answer, else 0."""

    data: bytes
    tokens: int = 0


class Wire(Protocol):
    """A vendor's protocol. The wires are modules; everything in them is pure."""

    NAME: WireName
    REQUEST_ID_HEADER: str

    def read_ask(self, body: bytes) -> Ask:
        """The request in `body`; raises Refusal with 400 or 404."""

    def body_of(self, reply: Reply) -> JsonObject:
        """The reply in one piece."""

    def frames_of(self, reply: Reply) -> Iterator[Frame]:
        """The reply as a stream, from the first event to the last."""

    def error_body(self, refusal: Refusal, request_id: str) -> JsonObject: ...

    def error_frame(self, request_id: str) -> bytes:
        """An error after the stream began."""

    def garbage_frame(self) -> bytes:
        """An event whose JSON is cut in the middle."""

    def key_refusal(self, key: str) -> Refusal:
        """Why `key` is refused; it may be empty."""

    def model_list(self) -> JsonObject: ...

    def model_row(self, model: DemoModel) -> JsonObject: ...
