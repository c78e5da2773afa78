"""The Anthropic messages wire.

Source: platform.claude.com/docs/en/api/messages and /api/versioning, and the types of anthropic 2.11 (2026-11).
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame
from providers.domain.errors import Failure
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.anthropic_answer import EventInterpreter, read_whole
from providers.wires.anthropic_request import WARMEST, required_limit, translated
from providers.wires.failure_reading import read_failure
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON, Body, copied, is_set, prepended, takes_sampling
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/messages"

# 2026-10-21 refuses temperature, top_p and top_k outright, which callers of older models still send; everything else
# that the gateway says is the same in both. Source: platform.claude.com/docs/en/api/migration-2026-10-21 (2026-11).
VERSION = {"anthropic-version": "2023-06-01"}

# Next to these a temperature of the persona's would be refused: top_p excludes it, thinking fixes it.
_SETTLES_SAMPLING = ("temperature", "top_p", "thinking")


class AnthropicWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.wire is Wire.ANTHROPIC:
            body = _touched(request, deployment, defaults)
        else:
            body = translated(request, deployment, defaults)
        return UpstreamRequest(PATH, {**JSON, **VERSION}, msgspec.json.encode(body))

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(EventInterpreter())

    def read_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return read_failure(status, headers, body)


def _touched(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    body = copied(request, deployment)
    body["max_tokens"] = required_limit(request.max_tokens, deployment, defaults)
    settled = any(is_set(body, name) for name in _SETTLES_SAMPLING)
    if defaults.temperature is not None and not settled and takes_sampling(deployment):
        body["temperature"] = min(defaults.temperature, WARMEST)
    if defaults.system_prompt:
        body["system"] = _extended_system(request.fields.get("system"), defaults.system_prompt)
    return body


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
