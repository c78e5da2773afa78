"""The Cohere chat wire, API version 2. No caller speaks it.

Source: docs.cohere.com/reference/chat and /reference/chat-stream (2026-11).
"""

import msgspec

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.cohere_answer import EventInterpreter, read_whole
from providers.wires.cohere_request import translated
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/chat"


class CohereWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        body, dropped = translated(request, deployment, defaults)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(EventInterpreter())
