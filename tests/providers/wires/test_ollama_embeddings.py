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

CODEC = WIRES[Wire.OLLAMA_EMBEDDINGS]
ANSWER = {
    "model": "all-minilm",
    "embeddings": [[0.25, -0.5], [1, 0]],
    "total_duration": 14_143_917,
    "prompt_eval_count": 8,
}


def built(batch: EmbeddingBatch) -> UpstreamRequest:
    request = replace(saying(Conversation(())), embeddings=lambda: batch)
    return CODEC.build(request, deployment(Wire.OLLAMA_EMBEDDINGS), NO_DEFAULTS)


def test_texts_are_sent_and_not_to_be_cut() -> None:
    call = built(EmbeddingBatch(("hello", "goodbye"), dimensions=256))
    assert call.path == "/embed"
    assert call.dropped == ()
    assert msgspec.json.decode(call.body) == {
        "model": "upstream-1",
        "input": ["hello", "goodbye"],
        "truncate": False,
        "dimensions": 256,
    }
    assert "dimensions" not in msgspec.json.decode(built(EmbeddingBatch(("a",))).body)


def test_what_there_is_no_word_for_is_named() -> None:
    call = built(EmbeddingBatch(("a",), user="u-1", purpose="query"))
    assert call.dropped == ("user", "input_type")
    assert b"u-1" not in call.body


def test_a_conversation_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="embeddings"):
        CODEC.build(saying(Conversation(())), deployment(Wire.OLLAMA_EMBEDDINGS), NO_DEFAULTS)


def test_vectors_come_in_order_with_their_count() -> None:
    body = msgspec.json.encode(ANSWER)
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    assert list(frame.events) == [
        Started(""),
        Embedded(((0.25, -0.5), (1.0, 0.0))),
        Finished(FinishReason.STOP),
        UsageReported(Usage(input_tokens=8)),
    ]


def test_no_count_is_no_usage() -> None:
    events = CODEC.read_answer(b'{"embeddings":[[1.0]]}').events
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, FailureKind.MALFORMED),
        ({"embeddings": []}, FailureKind.MALFORMED),
        ({"embeddings": [["x"]]}, FailureKind.MALFORMED),
        ({"embeddings": {"float": [[1.0]]}}, FailureKind.MALFORMED),
        ({"error": "the input length exceeds the context length"}, FailureKind.CONTEXT_TOO_LONG),
    ],
)
def test_an_answer_without_vectors_is_none(body: dict[str, Any], kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(msgspec.json.encode(body))
    assert caught.value.failure.kind is kind


def test_embeddings_are_never_streamed() -> None:
    with pytest.raises(ProviderError) as caught:
        reader(Wire.OLLAMA_EMBEDDINGS).close()
    assert caught.value.failure.kind is FailureKind.STREAM_BROKEN


def test_refusals_are_read() -> None:
    failure = read_failure(404, {}, b'{"error":"model \\"x\\" not found, try pulling it first"}')
    assert failure.kind is FailureKind.MODEL_NOT_FOUND
