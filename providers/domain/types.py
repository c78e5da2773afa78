"""The words of one call, shared by every floor: the caller's request, the typed conversation, what a model answers.

All values are frozen. A `ChatRequest` keeps the caller's own bytes by top-level key, so that a target of the same wire
gets them back unread; `conversation()` reads them into parts only when a target speaks another wire.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from msgspec import Raw, Struct


class Wire(StrEnum):
    """The protocol that a vendor's endpoint speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Capability(StrEnum):
    """What a request may need and a model may have."""

    STREAMING = "streaming"
    TOOL_CALLING = "tool_calling"
    VISION = "vision"
    JSON_MODE = "json_mode"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"
    TEMPERATURE = "temperature"
    PROMPT_CACHING = "prompt_caching"


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


# --- the conversation, read only for translation ----------------------------------------------------------------


class TextPart(Struct, frozen=True, tag="text"):
    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """An image by address, or inline: then `media_type` and base64 `data` are set and `url` is empty."""

    url: str = ""
    media_type: str = ""
    data: str = ""


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """The model asked for a tool; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    call_id: str
    text: str
    is_error: bool = False


Part = TextPart | ImagePart | ToolCallPart | ToolResultPart


class Message(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON schema, as sent."""

    name: str
    description: str
    parameters: Raw


class ToolChoice(Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class ResponseFormat(Struct, frozen=True):
    """`schema` is the caller's JSON schema for kind `json_schema`, else empty."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: Raw = Raw()


class Conversation(Struct, frozen=True):
    """A request in full, free of any wire. `dropped` names tuning knobs that no other wire has."""

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
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request as the door read it.

    `fields` is the caller's JSON object by top-level key (values verbatim) when `wire` is set, else empty.
    `input_tokens_bound` is never below what a vendor counts: UTF-8 bytes of the body. `input_tokens_estimate` is the
    likely count. `max_tokens` is None when the caller set no limit; it is for each of the `choices` asked for.
    """

    model: str
    stream: bool
    wire: Wire | None
    fields: dict[str, Raw]
    conversation: Callable[[], Conversation]
    needs: frozenset[Capability]
    input_tokens_bound: int
    input_tokens_estimate: int
    persona: str = ""
    max_tokens: int | None = None
    choices: int = 1
    include_usage: bool = True


@dataclass(frozen=True, slots=True)
class PromptDefaults:
    """What a persona adds to a request; a caller's own value wins over the last two."""

    system_prompt: str = ""
    temperature: float | None = None
    max_tokens: int | None = None


NO_DEFAULTS = PromptDefaults()


# --- whom we call -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriceTier:
    """The rates of a whole request with more than `above` input tokens, all input buckets together."""

    above: int
    input: int | None
    output: int | None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in nano-USD per million tokens; `None` is unknown, 0 is free. `id` is the price row's key.

    A cache rate of None is that of the bucket it is part of: reads and writes cost what input costs, writes for an
    hour what writes cost. `tiers` are in order; the last one that a request is above replaces all rates but the fee.
    """

    id: int
    input: int | None
    output: int | None
    cache_read: int | None = None
    cache_write: int | None = None
    per_request: int = 0  # nano-USD
    cache_write_1h: int | None = None
    tiers: tuple[PriceTier, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much traffic is let through: requests and tokens in any 60 seconds, requests at a time. None: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    max_parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider key, still encrypted; `last4` is what people and records may see."""

    id: int
    label: str
    last4: str
    sealed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as the transport sees it. `allowed_networks` opens private addresses for this provider only; without
    `public_addresses` nothing else may be called."""

    id: int
    name: str
    kind: str
    wire: Wire
    base_url: str
    connect_timeout_s: float
    timeout_s: float
    max_tokens_field: str = "max_tokens"
    allowed_networks: tuple[str, ...] = ()
    public_addresses: bool = True


@dataclass(frozen=True, slots=True)
class Deployment:
    """One upstream model at one provider: what can be called, what it can do, what it costs."""

    id: int
    name: str  # "provider/upstream-model"
    endpoint: Endpoint
    upstream_model: str
    model: str  # the catalogue's name, for people and for prices
    credentials: tuple[Credential, ...]
    capabilities: frozenset[Capability]
    context_window: int | None
    max_output_tokens: int | None
    cost_tier: str
    price: Price | None
    expected_latency_ms: int | None = None
    rate_limit: RateLimit | None = None


# --- what comes back ----------------------------------------------------------------------------------------------


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


class Started(Struct, frozen=True, gc=False):
    """The vendor's own id of the answer, before any content."""

    id: str


class TextDelta(Struct, frozen=True, gc=False):
    text: str


class ReasoningDelta(Struct, frozen=True, gc=False):
    text: str


class ToolCallStart(Struct, frozen=True, gc=False):
    """A tool call begins; `index` counts the answer's tool calls from 0."""

    index: int
    id: str
    name: str


class ToolCallDelta(Struct, frozen=True, gc=False):
    """More of the JSON text of call `index`."""

    index: int
    arguments: str


class Finished(Struct, frozen=True, gc=False):
    reason: FinishReason


class UsageReported(Struct, frozen=True, gc=False):
    """The vendor's count so far; the last one is the one to bill."""

    usage: Usage


StreamEvent = Started | TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Finished | UsageReported
CONTENT_EVENTS = (TextDelta, ReasoningDelta, ToolCallStart, ToolCallDelta)


class Frame(Struct, frozen=True, gc=False):
    """One step of an answer: the vendor's bytes (one SSE frame, or the whole body) and what they mean.

    A caller of the same wire gets `raw`; everybody else gets `events` rendered. `raw` is empty when the frame is not
    meant for a caller who did not ask for it (the usage chunk that the gateway asked for itself).
    """

    raw: bytes
    events: tuple[StreamEvent, ...]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What a wire asks the transport to send: `path` is appended to the endpoint's base URL."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
