"""Ollama's own embeddings wire. No caller speaks it.

Source: docs.ollama.com/api/embed and `EmbedRequest`, `EmbedResponse` in api/types.go of github.com/ollama/ollama
(2026-11).
"""

import msgspec
from msgspec import Raw

from providers.domain.answer import Embedded, Finished, FinishReason, Frame, Started
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.failure_reading import error_in_answer, malformed
from providers.wires.ndjson import NDJSON, NdjsonAnswerReader
from providers.wires.ollama_answer import Counts, LineInterpreter, usage_events
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import JSON, Body

PATH = "/embed"


class _Answer(Counts, gc=False):
    embeddings: tuple[tuple[float, ...], ...] | None = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_NOTHING = (b"", b"null")


class OllamaEmbeddingsWire:
    """A `WireCodec`."""

    stream_type = NDJSON

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.embeddings is None:
            raise UnsupportedFeature("chat with a model for embeddings")
        batch = request.embeddings()
        body: Body = {
            "model": deployment.upstream_model,
            "input": batch.texts,
            "truncate": False,  # else a text that is too long is cut without a word
        }
        if batch.dimensions is not None:
            body["dimensions"] = batch.dimensions
        asked = {"user": batch.user, "input_type": batch.purpose}
        dropped = tuple(name for name, value in asked.items() if value)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return _read(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        """Embeddings are never streamed: whatever comes is no answer."""
        return NdjsonAnswerReader(LineInterpreter())


def _read(body: bytes) -> Frame:
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer does not hold Ollama's embeddings: {error}") from None
    if bytes(answer.error) not in _NOTHING:
        raise error_in_answer(body)
    if not answer.embeddings:
        raise malformed("the answer has no embeddings")
    events = (Started(""), Embedded(answer.embeddings), Finished(FinishReason.STOP))
    return Frame(body, (*events, *usage_events(answer)))
