"""What all wires share: an Ask comes in, a Reply goes out, a Refusal is the other way to end.

A wire turns bytes into an Ask and a Reply into bytes; what is decided in between knows no wire. The served models, the
reading of bodies and the counting of tokens are here because all wires need them.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder, encode

JsonObject = Mapping[str, Any]
WireName = Literal["openai", "anthropic"]
Length = Literal["terse", "middle", "long"]  # how much a model likes to say
Finish = Literal["stop", "length", "tool_calls", "content_filter"]
T = TypeVar("T")


class DemoModel(NamedTuple):
    """One model; its times hold at pace factor 1. Any wire serves it; `wire` names the vendor that lists it where the
    lists of OpenAI and Anthropic part the models between them."""

    id: str
    label: str
    wire: WireName
    length: Length
    first_token_ms: float
    token_ms: float


_ROWS = (
    DemoModel("demo-swift", "Demo Swift", "openai", "terse", 60, 8),
    DemoModel("demo-balanced", "Demo Balanced", "openai", "middle", 150, 12),
    DemoModel("demo-deep", "Demo Deep", "openai", "long", 400, 25),
    DemoModel("demo-sage", "Demo Sage", "anthropic", "long", 150, 12),
    DemoModel("demo-sage-mini", "Demo Sage Mini", "anthropic", "terse", 60, 8),
)
MODELS = {model.id: model for model in _ROWS}
EMBEDDER = DemoModel("demo-embed", "Demo Embed", "openai", "terse", 10, 0)
LISTED = (*_ROWS, EMBEDDER)


class Ask(Struct, frozen=True, kw_only=True):
    """One request, free of any wire. `prompt` is the text of the last user message, markers included.

    `history` holds the user's earlier texts, `tool_results` what tools answered since the model last spoke.
    `schema` is None without JSON mode and empty for JSON of any shape. `digest` is the hash of the body.
    `forced_tool` is a tool's name, "" for any tool, None when the model may choose; `may_call` False forbids tools.
    `tools` are the parameters of each by its name. `hides` names the buckets of usage that the wire has no word for.
    `shows_thought`: the caller may read what the model thinks. `lost_thought` says what of its earlier thought was not
    given back, empty where nothing is missing. `wire_notes` is what the wire itself wants to know again of the request.
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
    tools: Mapping[str, JsonObject] = {}
    tool_results: tuple[str, ...] = ()
    may_call: bool = True
    forced_tool: str | None = None
    parallel_calls: bool = True
    schema: JsonObject | None = None
    include_usage: bool = True
    hides: frozenset[str] = frozenset()
    shows_thought: bool = True
    lost_thought: str = ""
    wire_notes: JsonObject = {}


class Place(NamedTuple):
    """What a request's address and the server's memory add to its body: the model and the operation that the address
    names, and the answers that are kept, by their ids."""

    model: str = ""
    operation: str = ""
    kept: Mapping[str, tuple[JsonObject, ...]] = {}


NOWHERE = Place()


@dataclass(eq=False)
class BadField(ValueError):
    """A field of the wrong shape: `path` like `messages[0].role`, empty for the body, None when it is no JSON."""

    path: str | None
    what: str
    missing: bool = False


_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`")


def read_body(body: bytes, decoder: Decoder[T]) -> T:
    """The JSON in `body` as a typed value; raises BadField."""
    try:
        return decoder.decode(body)
    except ValidationError as error:
        raise bad_field(str(error)) from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadField(None, str(error)) from None
    except RecursionError:
        raise BadField(None, "it is nested too deep") from None


def bad_field(text: str) -> BadField:
    """Where and what, from the text of a ValidationError."""
    match = _PLACE.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    if missing := _MISSING.fullmatch(what):
        return BadField(f"{path}.{missing['field']}".lstrip("."), what, missing=True)
    return BadField(path.lstrip("."), what)


@dataclass(eq=False)
class Refusal(Exception):
    """The request ends with an error status. `code` and `param` are shown where the wire has such fields."""

    status: int
    message: str = ""  # empty: the vendor's own words for this status and code
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    html: bool = False


class Piece(NamedTuple):
    """One output token: of the thought that is shown, of the text, or of tool call number `call`: its `id` and `name`
    first, then its arguments."""

    text: str = ""
    call: int | None = None
    id: str = ""
    name: str = ""
    thought: bool = False


class Usage(NamedTuple):
    """Tokens in disjoint input buckets; `reasoning_tokens` is part of `output_tokens`."""

    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    reasoning_tokens: int


class Reply(Struct, frozen=True, kw_only=True):
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
    is_signed: bool = False  # the wire proves what was thought, where it has a way to
    is_refusal: bool = False  # the text says why the model will not answer
    wire_notes: JsonObject = {}

    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if piece.call is None and not piece.thought)

    def thought(self) -> str:
        return "".join(piece.text for piece in self.pieces if piece.thought)

    def tool_calls(self) -> list[tuple[Piece, str]]:
        """Each tool call with the JSON text of its arguments (cut short when the limit fell into it)."""
        heads = [piece for piece in self.pieces if piece.name]
        return [(head, "".join(piece.text for piece in self.pieces if piece.call == head.call)) for head in heads]


Frame = tuple[bytes, int]  # one server-sent event, and how many tokens are in it: 1 for a piece, else 0


class Wire(Protocol):
    """A vendor's protocol. The wires are modules; everything in them is pure."""

    REQUEST_ID_HEADER: str  # of its own id of a request; empty: it tells none
    RETRY_HEADER: str  # of the time to wait; empty: the error's body tells it
    KEY_HEADERS: tuple[str, ...]  # where a key may stand; empty when none is needed
    STREAM_TYPE: str
    GARBAGE: bytes  # an event whose JSON is cut in the middle
    OVERLOADED: int  # the status of a whole answer where a stream would break off with an error
    BLOCKED: JsonObject  # what is said with status 200 of a prompt that is blocked; empty: a 400 says it

    def read_ask(self, body: bytes, place: Place = NOWHERE) -> Ask: ...  # raises Refusal with 400 or 404
    def body_of(self, reply: Reply) -> JsonObject: ...
    def frames_of(self, reply: Reply) -> Iterator[Frame]: ...
    def error_body(self, refusal: Refusal, request_id: str) -> JsonObject: ...
    def error_frame(self, request_id: str) -> bytes: ...  # an error after the stream began
    def key_refusal(self, key: str) -> Refusal: ...  # `key` may be empty
    def model_list(self, name: str | None) -> JsonObject | None: ...  # all models, or the one of this name


_PROOF = b"demo-thought:"


def proof_of(thought: str) -> str:
    """What shows that `thought` is the demo provider's own: base64, as the vendors' signatures are."""
    return base64.b64encode(_PROOF + hashlib.sha256(thought.encode()).digest()[:18]).decode()


def model_named(name: str) -> DemoModel | None:
    """The model that answers in words to this name."""
    return MODELS.get(name)


# Words, digits and punctuation, about four characters of English a token. Every character belongs to exactly one token
# and no token looks ahead, so a prefix of the tokens of a text are the tokens of that prefix: what was streamed can be
# counted again. No text has more tokens than UTF-8 bytes.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # one for each Chinese, Japanese or Korean character
    r"| ?[A-Za-z]{1,7}"
    r"| ?[^\W\d_]{1,3}"  # letters of other alphabets
    r"|\d{1,3}"
    r"| ?(?:[^\w\s]|_){1,3}"
    r"|\s{1,8}"
)
MESSAGE_TOKENS = 4
REPLY_TOKENS = 3
IMAGE_TOKENS = 85  # what OpenAI counts for one low-detail image


def tokenize(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))


def count_prompt(texts: Iterable[str], values: Iterable[Any], *, messages: int, images: int) -> int:
    """Input tokens of a conversation: its texts, the JSON of `values`, the framing of its messages, its pictures.

    Raises BadField when a value is nested so deep that it was just read, but cannot be written from here.
    """
    try:
        counted = sum(map(count, texts)) + sum(count(encode(value).decode()) for value in values)
    except RecursionError:
        raise BadField("", "it is nested too deep") from None
    return REPLY_TOKENS + MESSAGE_TOKENS * messages + IMAGE_TOKENS * images + counted
