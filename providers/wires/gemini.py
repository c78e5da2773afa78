"""The Gemini wire: `generateContent` and `streamGenerateContent` of the Gemini API. No caller speaks it.

Source: ai.google.dev/api/generate-content (2026-11).
"""

from urllib.parse import quote

import msgspec

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.gemini_answer import ChunkInterpreter, read_whole
from providers.wires.gemini_request import translated
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

WHOLE = ":generateContent"
STREAMED = ":streamGenerateContent?alt=sse"  # without `alt` the stream is one JSON array


class GeminiWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        body, dropped = translated(request, deployment, defaults)
        path = resource(deployment.upstream_model) + (STREAMED if request.stream else WHOLE)
        return UpstreamRequest(path, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(ChunkInterpreter())


def resource(model: str) -> str:
    """The path of a model: “gemini-3.8-flash” is “/models/gemini-3.8-flash”, “tunedModels/mine” stays what it is."""
    return "/" + quote(resource_name(model), safe="/")


def resource_name(model: str) -> str:
    return model if "/" in model else f"models/{model}"
