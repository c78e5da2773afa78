"""Texts and their vectors on Gemini's wire for embeddings."""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from providers.domain.answer import Embedded, Finished, FinishReason, Started, Usage, UsageReported
from providers.domain.conversation import Conversation, EmbeddingBatch
from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, Operation, UpstreamRequest, Wire
from providers.wires import WIRES, UnsupportedFeature
from providers.wires.failure_reading import read_failure
from tests.providers.wires.builders import deployment, saying
from tests.providers.wires.test_wrong_types import spoiled

CODEC = WIRES[Wire.GEMINI_EMBEDDINGS]


def called(batch: EmbeddingBatch, name: str = "gemini-embedding-001") -> UpstreamRequest:
    request = replace(saying(Conversation(())), embeddings=lambda: batch)
    target = replace(deployment(Wire.GEMINI_EMBEDDINGS), upstream_model=name)
    assert request.operation is Operation.EMBEDDINGS
    assert target.wire_for(request) is Wire.GEMINI_EMBEDDINGS
    return CODEC.build(request, target, NO_DEFAULTS)


def requests(batch: EmbeddingBatch, name: str = "gemini-embedding-001") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.json.decode(called(batch, name).body)["requests"]
    return found


def vectors(body: Any) -> tuple[tuple[float, ...], ...]:
    [found] = [event for event in CODEC.read_answer(msgspec.json.encode(body)).events if isinstance(event, Embedded)]
    return found.vectors


def test_each_text_is_a_request_of_its_own() -> None:
    call = called(EmbeddingBatch(("a", "")))
    assert call.path == "/models/gemini-embedding-001:batchEmbedContents"
    assert call.headers == {"content-type": "application/json"}
    assert call.dropped == ()
    assert msgspec.json.decode(call.body) == {
        "requests": [
            {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}},
            {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": ""}]}},
        ]
    }


def test_dimensions_are_said_for_each_text_and_the_user_is_left_out() -> None:
    batch = EmbeddingBatch(("a", "b"), dimensions=256, user="u-1")
    assert [request["outputDimensionality"] for request in requests(batch)] == [256, 256]
    assert called(batch).dropped == ("user",)


@pytest.mark.parametrize(
    ("purpose", "task"),
    [
        ("query", "RETRIEVAL_QUERY"),
        ("document", "RETRIEVAL_DOCUMENT"),
        ("classification", "CLASSIFICATION"),
        ("clustering", "CLUSTERING"),
    ],
)
@pytest.mark.parametrize("name", ["gemini-embedding-001", "models/text-embedding-004"])
def test_a_purpose_is_a_task_type(name: str, purpose: Any, task: str) -> None:
    [request] = requests(EmbeddingBatch(("a",), purpose=purpose), name)
    assert request["taskType"] == task
    assert request["content"] == {"parts": [{"text": "a"}]}
    assert request["model"].count("models/") == 1


@pytest.mark.parametrize(
    ("purpose", "text"),
    [
        ("", "a"),
        ("query", "task: search result | query: a"),
        ("document", "title: none | text: a"),
        ("classification", "task: classification | query: a"),
        ("clustering", "task: clustering | query: a"),
    ],
)
def test_a_purpose_is_part_of_the_text_from_the_second_generation_on(purpose: Any, text: str) -> None:
    [request] = requests(EmbeddingBatch(("a",), purpose=purpose), "gemini-embedding-2")
    assert request == {"model": "models/gemini-embedding-2", "content": {"parts": [{"text": text}]}}


def test_every_purpose_there_is_can_be_said() -> None:
    for purpose in get_args(get_type_hints(EmbeddingBatch)["purpose"]):
        for name in ("gemini-embedding-001", "gemini-embedding-2"):
            assert len(requests(EmbeddingBatch(("a",), purpose=purpose), name)) == 1


def test_more_texts_than_a_batch_holds_are_named() -> None:
    assert len(requests(EmbeddingBatch(("a",) * 100))) == 100
    with pytest.raises(UnsupportedFeature, match="more than 100 texts at a time"):
        called(EmbeddingBatch(("a",) * 101))


def test_a_conversation_cannot_be_embedded() -> None:
    with pytest.raises(UnsupportedFeature):
        CODEC.build(saying(Conversation(())), deployment(Wire.GEMINI_EMBEDDINGS), NO_DEFAULTS)


def test_vectors_come_in_the_order_of_the_texts() -> None:
    body = msgspec.json.encode(
        {"embeddings": [{"values": [1.0, 0.0]}, {"values": [0, -1]}], "usageMetadata": {"promptTokenCount": 7}}
    )
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    assert frame.events == (
        Started(""),
        Embedded(((1.0, 0.0), (0.0, -1.0))),
        Finished(FinishReason.STOP),
        UsageReported(Usage(input_tokens=7)),
    )


@pytest.mark.parametrize(
    "counted", [{}, {"usageMetadata": {}}, {"usageMetadata": None}, {"usageMetadata": {"promptTokenCount": 0}}]
)
def test_where_the_vendor_counts_nothing_the_gateway_does(counted: dict[str, Any]) -> None:
    body = msgspec.json.encode({"embeddings": [{"values": [1.0]}], **counted})
    assert [type(event) for event in CODEC.read_answer(body).events] == [Started, Embedded, Finished]


def test_a_vector_that_was_cut_short_is_scaled_to_length_one() -> None:
    [found] = vectors({"embeddings": [{"values": [3.0, 4.0]}]})
    assert found == pytest.approx((0.6, 0.8))
    assert math.hypot(*found) == pytest.approx(1)


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.60003, 0.8], [1.7e308, 1.7e308]])
def test_a_vector_without_a_length_or_of_nearly_the_right_one_stays_as_it_is(values: list[float]) -> None:
    assert vectors({"embeddings": [{"values": values}]}) == (tuple(values),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"embeddings":[]}',
        b'{"embeddings":[{}]}',
        b'{"embeddings":[{"values":[]}]}',
        b'{"embeddings":[{"values":[1]},{"values":null}]}',
        b'{"embeddings":[{"values":["x"]}]}',
        b'{"embeddings":[{"values":[1e999]}]}',
        b"<html>",
    ],
)
def test_what_holds_no_vectors_is_malformed(body: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is FailureKind.MALFORMED


def test_an_error_with_status_200_is_read() -> None:
    with pytest.raises(ProviderError) as caught:
        vectors({"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}})
    assert caught.value.failure.kind is FailureKind.RATE_LIMITED


def test_a_stream_of_embeddings_is_no_answer() -> None:
    answer = CODEC.stream_reader(saying(Conversation(()), stream=True))
    answer.feed(b'data: {"embeddings":[{"values":[1.0]}]}\n\n')
    with pytest.raises(ProviderError):
        answer.close()


def test_a_refusal_is_read() -> None:
    error = {"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}}
    assert read_failure(404, {}, msgspec.json.encode(error)).kind is FailureKind.MODEL_NOT_FOUND


def test_wrong_types_are_provider_errors_or_passed_by() -> None:
    good = {"embeddings": [{"values": [1.0, 0.5]}], "usageMetadata": {"promptTokenCount": 7}, "error": None}
    for body in map(msgspec.json.encode, spoiled(good)):
        with suppress(ProviderError):
            assert CODEC.read_answer(body).raw == body
