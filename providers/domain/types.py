"""The words of one call, shared by every floor: the caller's request, and whom we call with it.

All values are frozen. A `ChatRequest` keeps the caller's own bytes by top-level key, so that a target of the same wire
gets them back unread; `conversation()` reads them into parts only when a target speaks another wire.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from msgspec import Raw

from providers.domain.conversation import Conversation, EmbeddingBatch


class Operation(StrEnum):
    """What a request wants done."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class Wire(StrEnum):
    """One API of a vendor: what an endpoint speaks, and what a caller may speak already."""

    OPENAI = "openai"  # chat completions
    OPENAI_RESPONSES = "openai-responses"
    OPENAI_COMPLETIONS = "openai-completions"
    OPENAI_EMBEDDINGS = "openai-embeddings"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    GEMINI_EMBEDDINGS = "gemini-embeddings"
    COHERE = "cohere"
    COHERE_EMBEDDINGS = "cohere-embeddings"
    OLLAMA = "ollama"
    OLLAMA_EMBEDDINGS = "ollama-embeddings"

    @property
    def operation(self) -> Operation:
        return Operation.EMBEDDINGS if self.value.endswith("-embeddings") else Operation.CHAT


class AuthStyle(StrEnum):
    """How a provider key travels; the values are the header's name, but for Bearer."""

    BEARER = "bearer"
    X_API_KEY = "x-api-key"  # Anthropic
    X_GOOG_API_KEY = "x-goog-api-key"  # Gemini
    API_KEY = "api-key"  # Azure

    def headers(self, secret: str) -> dict[str, str]:
        """An empty secret is an endpoint that needs none."""
        if not secret:
            return {}
        return {"authorization": f"Bearer {secret}"} if self is AuthStyle.BEARER else {self.value: secret}


class Capability(StrEnum):
    """What a request may need and a model may have. A model for embeddings does nothing else."""

    STREAMING = "streaming"
    TOOL_CALLING = "tool_calling"
    VISION = "vision"
    JSON_MODE = "json_mode"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"
    TEMPERATURE = "temperature"
    PROMPT_CACHING = "prompt_caching"
    DOCUMENTS = "documents"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request as the door read it.

    `fields` is the caller's JSON object by top-level key (values verbatim) when `wire` is set, else empty.
    `input_tokens_bound` is never below what a vendor counts: UTF-8 bytes of the body. `input_tokens_estimate` is the
    likely count. `max_tokens` is None when the caller set no limit; it is for each of the `choices` asked for.
    `embeddings` gives the texts of a request for embeddings, which has no conversation. `only_at` is the one deployment
    (“provider/model”) that can serve it, because that one keeps what the request refers to. `vendor_headers` are the
    caller's that a vendor of the same `wire` has to hear, by their lower-case names. `max_cost_nano` is the most that
    it may cost (nano-USD), whatever its policy allows.

    Of prompt templates that were filled in: `system` goes behind the persona's system prompt, `turns_before` of the
    messages are theirs, and `template` names them (“welcome@3”).
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
    temperature: float | None = None
    embeddings: Callable[[], EmbeddingBatch] | None = None
    only_at: str = ""
    vendor_headers: Mapping[str, str] = field(default_factory=dict)
    max_cost_nano: int | None = None
    system: str = ""
    template: str = ""
    turns_before: int = 0

    @property
    def operation(self) -> Operation:
        return Operation.CHAT if self.embeddings is None else Operation.EMBEDDINGS


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


KeyStrategy = Literal["round_robin", "least_used"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as the transport sees it. `allowed_networks` opens private addresses for this provider only; without
    `public_addresses` nothing else may be called."""

    id: int
    name: str
    kind: str
    wires: tuple[Wire, ...]  # the APIs it speaks; the first for an operation is the one that requests are translated to
    base_url: str
    connect_timeout_s: float
    timeout_s: float
    auth: AuthStyle = AuthStyle.BEARER
    max_tokens_field: str = "max_tokens"
    key_strategy: KeyStrategy = "round_robin"
    allowed_networks: tuple[str, ...] = ()
    public_addresses: bool = True
    region: str = ""  # where it processes requests


BreakerOverride = Literal["", "open", "closed"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One upstream model at one provider: what can be called, what it can do, what it costs.

    `wire` is set where the model is served through one API of its provider only. `breaker` is what an operator has
    forced; what was known of its failures before `breaker_reset_at` (seconds since the epoch) does not count.
    """

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
    wire: Wire | None = None
    breaker: BreakerOverride = ""
    breaker_reset_at: float = 0.0

    def wire_for(self, request: ChatRequest) -> Wire | None:
        """The API to ask through: the caller's own where it is spoken, else the one to translate to; None when this
        deployment has none for what is wanted."""
        spoken = self.endpoint.wires if self.wire is None else (self.wire,)
        if request.wire in spoken:
            return request.wire
        return next((wire for wire in spoken if wire.operation is request.operation), None)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What a wire asks the transport to send: `path` is appended to the endpoint's base URL.

    `dropped` names the tuning knobs that this wire has no words for, as the caller wrote them.
    """

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    dropped: tuple[str, ...] = ()
