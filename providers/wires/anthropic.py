"""The Anthropic messages wire.

Source: platform.claude.com/docs/en/api/messages and /api/versioning, and the types of anthropic 2.11 (2026-11).
"""

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.anthropic_answer import EventInterpreter, read_whole
from providers.wires.anthropic_request import WARMEST, required_limit, translated
from providers.wires.anthropic_thinking import fitted, lacks_thought
from providers.wires.failure_reading import malformed
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON, Body, copied, is_set, prepended, takes_sampling
from providers.wires.sealed_thought import without_sealed
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/messages"
COUNT_PATH = "/messages/count_tokens"

# 2026-10-21 refuses temperature, top_p and top_k outright, which callers of older models still send; everything else
# that the gateway says is the same in both. Source: platform.claude.com/docs/en/api/migration-2026-10-21 (2026-11).
VERSION = {"anthropic-version": "2023-06-01"}
FIRST_WITHOUT_SAMPLING = "2026-10-21"

# What a caller of this wire says beside its body, which the vendor has to hear. Source: code.claude.com/docs,
# "Gateway protocol reference" (2026-11).
CALLER_HEADERS = ("anthropic-version", "anthropic-beta")

# Next to these a temperature of the persona's would be refused: top_p excludes it, thinking fixes it.
_SETTLES_SAMPLING = ("temperature", "top_p", "thinking")


class AnthropicWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.wire is Wire.ANTHROPIC:
            body, dropped = _touched(request, deployment, defaults)
            headers = {**JSON, **VERSION, **request.vendor_headers}
        else:
            body, dropped = translated(request, deployment, defaults)
            headers = {**JSON, **VERSION}
        return UpstreamRequest(PATH, headers, msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(EventInterpreter())


def count_request(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
    """The call that counts the input tokens of a request that speaks this wire: free, with limits of its own.

    Source: platform.claude.com/docs/en/build-with-claude/token-counting (2026-11).
    """
    body, _ = _touched(request, deployment, defaults)
    for name in ("max_tokens", "stream", "temperature"):
        body.pop(name, None)
    return UpstreamRequest(COUNT_PATH, {**JSON, **VERSION, **request.vendor_headers}, msgspec.json.encode(body))


class _Count(msgspec.Struct):
    input_tokens: int


def read_count(body: bytes) -> int:
    """:raises ProviderError: of kind MALFORMED."""
    try:
        return msgspec.json.decode(body, type=_Count).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not a count of tokens: {error}") from None


def _touched(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """The caller's own body, and the knobs that had to go."""
    body = copied(request, deployment)
    limit = body["max_tokens"] = required_limit(request.max_tokens, deployment, defaults)
    settled = any(is_set(body, name) for name in _SETTLES_SAMPLING) or not _may_sample(request)
    if defaults.temperature is not None and not settled and takes_sampling(deployment):
        body["temperature"] = min(defaults.temperature, WARMEST)
    if defaults.system_prompt:
        body["system"] = _extended_system(request.fields.get("system"), defaults.system_prompt)
    lost_thought = _take_out_foreign_thought(body, request)
    was_cut = bytes(request.fields.get("max_tokens", Raw())) != str(limit).encode()
    if lost_thought or was_cut:
        return body, _fit_thinking(body, request.fields.get("thinking"), limit=limit, lost_thought=lost_thought)
    return body, ()


def _may_sample(request: ChatRequest) -> bool:
    return request.vendor_headers.get("anthropic-version", "") < FIRST_WITHOUT_SAMPLING


def _take_out_foreign_thought(body: Body, request: ChatRequest) -> bool:
    """Whether the turn that the next answer goes on with had to lose the thought it begins with."""
    messages = without_sealed(request.fields.get("messages", Raw()))
    if messages is None:
        return False
    body["messages"] = messages
    return lacks_thought(msgspec.json.decode(messages, type=list[dict[str, object]]))


def _fit_thinking(body: Body, thinking: Raw | None, *, limit: int, lost_thought: bool) -> tuple[str, ...]:
    """A budget of thought must stay below the answer's limit, and needs the thoughts before: see `lacks_thought`."""
    if thinking is None or b"budget_tokens" not in bytes(thinking):
        return ()
    config = {} if lost_thought else fitted(thinking, limit)
    if config is None:
        return ()
    body["thinking"] = config
    if config:
        return ()
    del body["thinking"]
    return ("thinking",)


def _extended_system(system: Raw | None, prompt: str) -> object:
    """The persona's prompt before the caller's own, which is a text or a list of text blocks (with cache marks)."""
    if system is None or system == Raw(b"null"):
        return prompt
    extended = prepended({"type": "text", "text": prompt}, system)
    if extended is not None:
        return extended
    try:
        return f"{prompt}\n\n{msgspec.json.decode(system, type=str)}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return system  # neither: for the vendor to refuse
