"""Ollama's own chat wire. No caller speaks it.

Source: docs.ollama.com/api/chat, /api/streaming, /api/errors, and api/types.go of github.com/ollama/ollama (2026-11).
"""

import msgspec

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.ndjson import NDJSON, NdjsonAnswerReader
from providers.wires.ollama_answer import LineInterpreter, read_whole
from providers.wires.ollama_request import translated
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON

PATH = "/chat"


class OllamaWire:
    """A `WireCodec`."""

    stream_type = NDJSON

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        body, dropped = translated(request, deployment, defaults)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return NdjsonAnswerReader(LineInterpreter())
