"""The OpenAI embeddings wire: texts become vectors. It does not stream.

Source: openai 3.52 `EmbeddingCreateParams`, `CreateEmbeddingResponse` (2026-11).
"""

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Embedded, Finished, FinishReason, Frame, StreamEvent, Usage, UsageReported
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.failure_reading import malformed
from providers.wires.openai_usage import raise_error
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import JSON, Body, copied
from providers.wires.usage_counts import Count, tokens

PATH = "/embeddings"
_NOTHING = Raw()


class OpenAIEmbeddingsWire:
    """A `WireCodec`."""

    stream_type = ""

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        """A persona's prompt has no place here: texts are embedded as they are."""
        if request.wire is Wire.OPENAI_EMBEDDINGS:
            body = copied(request, deployment)
        else:
            body = _translated(request, deployment)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body))

    def read_answer(self, body: bytes) -> Frame:
        return _read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        raise UnsupportedFeature("stream")


def _translated(request: ChatRequest, deployment: Deployment) -> Body:
    """What the texts are for has no word here: OpenAI's models do not tell queries from documents."""
    if request.embeddings is None:
        raise UnsupportedFeature("chat")
    batch = request.embeddings()
    body: Body = {"model": deployment.upstream_model, "input": batch.texts}
    if batch.dimensions is not None:
        body["dimensions"] = batch.dimensions
    if batch.user:
        body["user"] = batch.user
    return body


class _Usage(Struct, gc=False):
    prompt_tokens: Count = None
    total_tokens: Count = None


class _Item(Struct, gc=False):
    """One vector: numbers, or the base64 of them."""

    embedding: Raw = _NOTHING


class _Answer(Struct, gc=False):
    data: list[_Item] | None = None
    usage: _Usage | None = None
    error: Raw = _NOTHING


_decode = msgspec.json.Decoder(_Answer).decode


def _read_whole(body: bytes) -> Frame:
    """How many vectors came, and what they cost. Only callers of this very wire are answered from it, and they get its
    bytes: the numbers stay unread, the vectors of `Embedded` empty."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not a list of embeddings: {error}") from None
    raise_error(answer.error, None, is_answer=answer.data is not None, body=body)
    if not answer.data or any(item.embedding is _NOTHING for item in answer.data):
        raise malformed("the answer has no embeddings")
    events: list[StreamEvent] = [Embedded(((),) * len(answer.data)), Finished(FinishReason.STOP)]
    count = _count(answer.usage or _Usage())
    if count:  # small servers send zeros: that is no count
        events.append(UsageReported(Usage(input_tokens=count)))
    return Frame(body, tuple(events))


def _count(usage: _Usage) -> int:
    return tokens(usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens)
