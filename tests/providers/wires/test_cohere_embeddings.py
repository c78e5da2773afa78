from dataclasses import replace
from typing import Any

import msgspec
import pytest

from providers.domain.answer import Embedded, Finished, FinishReason, Started, Usage, UsageReported
from providers.domain.conversation import Conversation, EmbeddingBatch
from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, UpstreamRequest, Wire
from providers.wires import WIRES, UnsupportedFeature
from providers.wires.failure_reading import read_failure
from tests.providers.wires.builders import deployment, reader, saying

CODEC = WIRES[Wire.COHERE_EMBEDDINGS]
ANSWER = {
    "id": "da6e531f",
    "embeddings": {"float": [[0.25, -0.5], [1, 0]]},
    "texts": ["hello", "goodbye"],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
    "response_type": "embeddings_by_type",
}


def built(batch: EmbeddingBatch) -> UpstreamRequest:
    request = replace(saying(Conversation(())), embeddings=lambda: batch)
    return CODEC.build(request, deployment(Wire.COHERE_EMBEDDINGS), NO_DEFAULTS)


def test_texts_are_sent_with_what_they_are_for() -> None:
    call = built(EmbeddingBatch(("hello", "goodbye"), dimensions=256, purpose="query"))
    assert call.path == "/embed"
    assert call.dropped == ()
    assert msgspec.json.decode(call.body) == {
        "model": "upstream-1",
        "texts": ["hello", "goodbye"],
        "input_type": "search_query",
        "embedding_types": ["float"],
        "truncate": "NONE",
        "output_dimension": 256,
    }


@pytest.mark.parametrize(
    ("batch", "input_type"),
    [
        (EmbeddingBatch(("a",)), "search_document"),
        (EmbeddingBatch(("a",), purpose="document"), "search_document"),
        (EmbeddingBatch(("a",), purpose="classification"), "classification"),
        (EmbeddingBatch(("a",), purpose="clustering"), "clustering"),
    ],
)
def test_an_input_type_is_always_given(batch: EmbeddingBatch, input_type: str) -> None:
    assert msgspec.json.decode(built(batch).body)["input_type"] == input_type


def test_a_user_is_left_out_and_named() -> None:
    call = built(EmbeddingBatch(("a",), user="u-1"))
    assert call.dropped == ("user",)
    assert b"u-1" not in call.body


def test_too_many_texts_are_refused_before_they_are_sent() -> None:
    assert msgspec.json.decode(built(EmbeddingBatch(("a",) * 96)).body)["texts"] == ["a"] * 96
    with pytest.raises(UnsupportedFeature, match="more than 96 texts"):
        built(EmbeddingBatch(("a",) * 97))


def test_a_conversation_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="embeddings"):
        CODEC.build(saying(Conversation(())), deployment(Wire.COHERE_EMBEDDINGS), NO_DEFAULTS)


def test_vectors_come_in_order_with_what_is_billed() -> None:
    body = msgspec.json.encode(ANSWER)
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    assert list(frame.events) == [
        Started("da6e531f"),
        Embedded(((0.25, -0.5), (1.0, 0.0))),
        Finished(FinishReason.STOP),
        UsageReported(Usage(input_tokens=2)),
    ]


def test_no_count_is_no_usage() -> None:
    for meta in (None, {}, {"api_version": {"version": "2"}}):
        events = CODEC.read_answer(msgspec.json.encode({**ANSWER, "meta": meta})).events
        assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, FailureKind.MALFORMED),
        ({"embeddings": {}}, FailureKind.MALFORMED),
        ({"embeddings": {"float": []}}, FailureKind.MALFORMED),
        ({"embeddings": {"float": [["x"]]}}, FailureKind.MALFORMED),
        ({"embeddings": [[1.0]]}, FailureKind.MALFORMED),
        ({"message": "something went wrong"}, FailureKind.SERVER_ERROR),
        ({"error": {"message": "too many tokens"}}, FailureKind.CONTEXT_TOO_LONG),
    ],
)
def test_an_answer_without_vectors_is_none(body: dict[str, Any], kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(msgspec.json.encode(body))
    assert caught.value.failure.kind is kind


def test_embeddings_are_never_streamed() -> None:
    with pytest.raises(ProviderError) as caught:
        reader(Wire.COHERE_EMBEDDINGS).close()
    assert caught.value.failure.kind is FailureKind.STREAM_BROKEN


def test_refusals_are_read() -> None:
    body = b'{"message":"invalid request: total number of texts must be at most 96 - received 104"}'
    assert read_failure(400, {}, body).kind is FailureKind.BAD_REQUEST
