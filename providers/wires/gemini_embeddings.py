"""The Gemini embeddings wire: `batchEmbedContents` of the Gemini API. No caller speaks it.

Source: ai.google.dev/api/embeddings and /gemini-api/docs/embeddings (2026-11).
"""

import math

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Embedded, Finished, FinishReason, Frame, Started, StreamEvent, Usage, UsageReported
from providers.domain.conversation import EmbeddingBatch
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest
from providers.wires.failure_reading import error_in_answer, malformed
from providers.wires.gemini import resource, resource_name
from providers.wires.gemini_answer import ChunkInterpreter
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import JSON, Body
from providers.wires.sse import EVENT_STREAM, SseAnswerReader
from providers.wires.usage_counts import Count, tokens

METHOD = ":batchEmbedContents"
MOST_TEXTS = 100  # "at most 100 requests can be in one batch" (400; reported since 2024)

_TASKS = {
    "query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
# From gemini-embedding-2 on there is no task type: the purpose is part of the text.
_PREFIXES = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "classification": "task: classification | query: ",
    "clustering": "task: clustering | query: ",
}
_WITH_TASKS = ("embedding-001", "text-embedding")
_NEARLY = 1e-3


class _Vector(Struct, gc=False):
    values: list[float] | None = None


class _Usage(Struct, rename="camel", gc=False):
    prompt_token_count: Count = None


class _Answer(Struct, rename="camel", gc=False):
    embeddings: list[_Vector] | None = None
    usage_metadata: _Usage | None = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_NOTHING = (b"", b"null")


class GeminiEmbeddingsWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.embeddings is None:
            raise UnsupportedFeature("chat with a model for embeddings")
        batch = request.embeddings()
        if len(batch.texts) > MOST_TEXTS:
            raise UnsupportedFeature(f"more than {MOST_TEXTS} texts at a time")
        body = {"requests": _requests(batch, deployment.upstream_model)}
        path = resource(deployment.upstream_model) + METHOD
        dropped = ("user",) if batch.user else ()
        return UpstreamRequest(path, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return _read(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        """Embeddings are never streamed: whatever comes is no answer."""
        return SseAnswerReader(ChunkInterpreter())


def _requests(batch: EmbeddingBatch, model: str) -> list[Body]:
    has_tasks = any(name in model for name in _WITH_TASKS)
    prefix = "" if has_tasks else _PREFIXES.get(batch.purpose, "")
    common: Body = {"model": resource_name(model)}
    if has_tasks and batch.purpose:
        common["taskType"] = _TASKS[batch.purpose]
    if batch.dimensions is not None:
        common["outputDimensionality"] = batch.dimensions
    return [{**common, "content": {"parts": [{"text": prefix + text}]}} for text in batch.texts]


def _read(body: bytes) -> Frame:
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not what batchEmbedContents answers: {error}") from None
    if bytes(answer.error) not in _NOTHING:
        raise error_in_answer(body)
    vectors = tuple(_of_length_one(vector.values or []) for vector in answer.embeddings or ())
    if not vectors or not all(vectors):
        raise malformed("the answer has no embeddings")
    events: list[StreamEvent] = [Started(""), Embedded(vectors), Finished(FinishReason.STOP)]
    if answer.usage_metadata is not None and tokens(answer.usage_metadata.prompt_token_count):
        events.append(UsageReported(Usage(input_tokens=tokens(answer.usage_metadata.prompt_token_count))))
    return Frame(body, tuple(events))


def _of_length_one(values: list[float]) -> tuple[float, ...]:
    """gemini-embedding-001 cuts vectors short without scaling them; other vendors' have length 1, and their clients
    compare them by dot product. Source: ai.google.dev/gemini-api/docs/embeddings, "Ensuring quality" (2026-11)."""
    length = math.hypot(*values)
    if not math.isfinite(length) or length == 0 or abs(length - 1) < _NEARLY:
        return tuple(values)
    return tuple(value / length for value in values)
