"""The wire on which texts become vectors."""

import json
from dataclasses import replace
from typing import Any

import pytest

from providers.domain.answer import Embedded, Finished, FinishReason, Usage, UsageReported
from providers.domain.conversation import Conversation, EmbeddingBatch
from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, PromptDefaults, Wire
from providers.wires import WIRES, UnsupportedFeature
from tests.providers.wires.builders import body_of, deployment, saying, sent_by_caller, user

WIRE = Wire.OPENAI_EMBEDDINGS
CODEC = WIRES[WIRE]


def answer(*vectors: Any, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": "m", **more}).encode()


def test_the_callers_bytes_pass_and_no_persona_speaks_up() -> None:
    body = b'{"model":"x","input":[[1,2],  [3]],"encoding_format":"base64","persona":"p","new":1.0}'
    persona = PromptDefaults("Be terse.", temperature=0.3, max_tokens=9)
    call = CODEC.build(sent_by_caller(WIRE, body), deployment(WIRE), persona)
    assert call.path == "/embeddings"
    assert b"[[1,2],  [3]]" in call.body
    assert json.loads(call.body) == {
        "model": "upstream-1", "input": [[1, 2], [3]], "encoding_format": "base64", "new": 1.0,
    }  # fmt: skip


def test_texts_from_elsewhere_are_said_in_openais_words() -> None:
    batch = EmbeddingBatch(("a", "b"), dimensions=4, user="u", purpose="query")
    request = replace(saying(Conversation(())), embeddings=lambda: batch)
    assert body_of(request, deployment(WIRE)) == {
        "model": "upstream-1", "input": ["a", "b"], "dimensions": 4, "user": "u",
    }  # fmt: skip


def test_it_neither_chats_nor_streams() -> None:
    with pytest.raises(UnsupportedFeature):
        CODEC.build(saying(Conversation((user("Hi"),))), deployment(WIRE), NO_DEFAULTS)
    with pytest.raises(UnsupportedFeature):
        CODEC.stream_reader(saying(Conversation(())))


@pytest.mark.parametrize("vectors", [([0.1, 0.2], [0.3, 0.4]), ("AACAPw==", "AAAAQA==")], ids=["float", "base64"])
def test_vectors_are_counted_and_their_bytes_passed_on(vectors: Any) -> None:
    body = answer(*vectors, usage={"prompt_tokens": 8, "total_tokens": 8})
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    assert frame.events == (Embedded(((), ())), Finished(FinishReason.STOP), UsageReported(Usage(input_tokens=8)))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"prompt_tokens": 8, "total_tokens": 9}, 8), ({"total_tokens": 9}, 9)],
)
def test_the_prompt_is_what_is_billed(usage: dict[str, int], tokens: int) -> None:
    assert CODEC.read_answer(answer([1.0], usage=usage)).events[-1] == UsageReported(Usage(input_tokens=tokens))


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "total_tokens": 0}, {"prompt_tokens": -1}])
def test_an_answer_without_a_count_has_none(usage: Any) -> None:
    assert CODEC.read_answer(answer([1.0], usage=usage)).events == (Embedded(((),)), Finished(FinishReason.STOP))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", FailureKind.MALFORMED),
        (b'{"data":[]}', FailureKind.MALFORMED),
        (b'{"data":[{}]}', FailureKind.MALFORMED),
        (b'{"object":"list"}', FailureKind.MALFORMED),
        (b'{"data":{"a":1}}', FailureKind.MALFORMED),
        (b'{"error":{"message":"No","code":"insufficient_quota"}}', FailureKind.QUOTA_EXHAUSTED),
        (b'{"message":"Oh","code":503}', FailureKind.OVERLOADED),
    ],
)
def test_a_body_that_holds_no_vectors_is_an_error(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as failed:
        CODEC.read_answer(body)
    assert failed.value.failure.kind is kind
