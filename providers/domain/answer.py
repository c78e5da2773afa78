"""What a model answers, free of any wire: events, tokens, and the frames that carry both bytes and meaning."""

from enum import StrEnum

from msgspec import Struct


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Usage(Struct, frozen=True, gc=False):
    """Tokens in disjoint buckets: `input_tokens` is what no cache served; `reasoning_tokens` is part of output,
    `cache_creation_1h_input_tokens` (kept for an hour) part of `cache_creation_input_tokens`."""

    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0

    @property
    def all_input_tokens(self) -> int:
        """What the prompt came to; long ones may be billed at other rates."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens


class Started(Struct, frozen=True, gc=False, tag=True):
    """The vendor's own id of the answer, before any content."""

    id: str


class TextDelta(Struct, frozen=True, gc=False, tag=True):
    text: str


class ReasoningDelta(Struct, frozen=True, gc=False, tag=True):
    text: str


class ReasoningProof(Struct, frozen=True, gc=False, tag=True):
    """The thought so far is complete, and this proves it: see `ReasoningPart`. `encrypted` alone is hidden thought."""

    signature: str = ""
    encrypted: str = ""
    vendor: str = ""
    id: str = ""


class RefusalDelta(Struct, frozen=True, gc=False, tag=True):
    """More of why the model will not answer, in its own words."""

    text: str


class ToolCallStart(Struct, frozen=True, gc=False, tag=True):
    """A tool call begins; `index` counts the answer's tool calls from 0."""

    index: int
    id: str
    name: str
    signature: str = ""


class ToolCallDelta(Struct, frozen=True, gc=False, tag=True):
    """More of the JSON text of call `index`."""

    index: int
    arguments: str


class Embedded(Struct, frozen=True, gc=False, tag=True):
    """All vectors of an answer, in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]


class Finished(Struct, frozen=True, gc=False, tag=True):
    reason: FinishReason
    stop_sequence: str = ""  # which one it was, where the vendor says it


class UsageReported(Struct, frozen=True, gc=False, tag=True):
    """The vendor's count so far; the last one is the one to bill."""

    usage: Usage


StreamEvent = (
    Started
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ReasoningProof
    | ToolCallStart
    | ToolCallDelta
    | Embedded
    | Finished
    | UsageReported
)
CONTENT_EVENTS = (TextDelta, RefusalDelta, ReasoningDelta, ReasoningProof, ToolCallStart, ToolCallDelta, Embedded)


class Frame(Struct, frozen=True, gc=False):
    """One step of an answer: the vendor's bytes (one SSE frame, or the whole body) and what they mean.

    A caller of the same wire gets `raw`; everybody else gets `events` rendered. `raw` is empty when the frame is not
    meant for a caller who did not ask for it (the usage chunk that the gateway asked for itself).
    """

    raw: bytes
    events: tuple[StreamEvent, ...]
