"""The Cohere embeddings wire, API version 2. No caller speaks it.

Source: docs.cohere.com/reference/embed (2026-11).
"""

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Embedded, Finished, FinishReason, Frame, Started
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.cohere_answer import EventInterpreter, UsageSent, usage_events
from providers.wires.failure_reading import error_in_answer, malformed
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import JSON, Body
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/embed"
MOST_TEXTS = 96  # "total number of texts must be at most 96"

# `input_type` is required; "search_document" is for what is stored to be found, which most texts are.
_PURPOSES = {
    "": "search_document",
    "document": "search_document",
    "query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
}


class _ByType(Struct, gc=False):
    floats: tuple[tuple[float, ...], ...] | None = msgspec.field(default=None, name="float")


class _Answer(Struct, gc=False):
    id: str | None = None
    embeddings: _ByType | None = None
    meta: UsageSent | None = None
    message: Raw = Raw()
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_NOTHING = (b"", b"null")


class CohereEmbeddingsWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.embeddings is None:
            raise UnsupportedFeature("chat with a model for embeddings")
        batch = request.embeddings()
        if len(batch.texts) > MOST_TEXTS:
            raise UnsupportedFeature(f"more than {MOST_TEXTS} texts at a time")
        body: Body = {
            "model": deployment.upstream_model,
            "texts": batch.texts,
            "input_type": _PURPOSES[batch.purpose],
            "embedding_types": ["float"],
            "truncate": "NONE",  # else a text that is too long is cut without a word
        }
        if batch.dimensions is not None:
            body["output_dimension"] = batch.dimensions
        dropped = ("user",) if batch.user else ()
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return _read(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        """Embeddings are never streamed: whatever comes is no answer."""
        return SseAnswerReader(EventInterpreter())


def _read(body: bytes) -> Frame:
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer does not hold Cohere's embeddings: {error}") from None
    vectors = (answer.embeddings or _ByType()).floats
    if not vectors:
        if bytes(answer.error) not in _NOTHING or bytes(answer.message) not in _NOTHING:
            raise error_in_answer(body)
        raise malformed("the answer has no embeddings")
    events = (Started(answer.id or ""), Embedded(vectors), Finished(FinishReason.STOP))
    return Frame(body, (*events, *usage_events(answer.meta)))
