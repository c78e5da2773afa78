"""What a client of embeddings says and hears. Pure."""

import base64
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import Embedded, Finished, FinishReason, Frame, Usage, UsageReported
from providers.domain.conversation import EmbeddingBatch
from providers.domain.types import Capability, Operation, Wire
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats import openai_embeddings
from routerplatform.doors.formats.openai_embeddings import answer_body, parse
from routerplatform.doors.formats.protocol import Format, Heading
from routerplatform.gateway.errors import InvalidRequest
from tests.gateway_path.test_openai_format import json_values

HEADING = Heading("r1", "vector", 9)
FORMAT: Format = openai_embeddings


def body(**fields: Any) -> bytes:
    return json.dumps({"input": "one", **fields}).encode()


def answered(*events: Any, **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer_body(parse(body(**fields)), [Frame(b"", events)], HEADING))
    return told


def test_a_request_wants_vectors_and_nothing_else() -> None:
    read = parse(body(model="m"))
    assert (read.operation, read.wire, read.stream) == (Operation.EMBEDDINGS, Wire.OPENAI_EMBEDDINGS, False)
    assert read.needs == {Capability.EMBEDDINGS}
    assert read.max_tokens is None
    with pytest.raises(UnsupportedFeature):
        read.conversation()


@pytest.mark.parametrize(
    ("fields", "batch"),
    [
        ({}, EmbeddingBatch(("one",))),
        ({"input": ["a", "b"], "dimensions": 8, "user": "u"}, EmbeddingBatch(("a", "b"), 8, "u")),
    ],
)
def test_texts_for_other_wires(fields: dict[str, Any], batch: EmbeddingBatch) -> None:
    embeddings = parse(body(**fields)).embeddings
    assert embeddings is not None
    assert embeddings() == batch


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]]])
def test_tokens_are_for_openais_wire_only(given: Any) -> None:
    embeddings = parse(body(input=given)).embeddings
    assert embeddings is not None
    with pytest.raises(UnsupportedFeature):
        embeddings()


@pytest.mark.parametrize(
    ("given", "tokens"), [([7, 8, 9], 3), ([[1, 2], [3]], 3), ("word " * 50, 45), (["word " * 25, "word " * 25], 45)]
)
def test_tokens_are_counted_and_texts_estimated(given: Any, tokens: int) -> None:
    assert abs(parse(body(input=given)).input_tokens_estimate - tokens) <= 3


@given(st.dictionaries(st.sampled_from(["input", "dimensions", "encoding_format", "user", "model"]), json_values))
def test_no_json_body_does_more_harm_than_a_refusal(fields: dict[str, Any]) -> None:
    with suppress(InvalidRequest, UnsupportedFeature):
        embeddings = parse(json.dumps(fields).encode()).embeddings
        assert embeddings is not None
        embeddings()


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5), min_size=1, max_size=3))
def test_packed_numbers_are_the_same_numbers(vectors: list[list[float]]) -> None:
    told = answered(Embedded(tuple(map(tuple, vectors))), encoding_format="base64")
    unpacked = [base64.b64decode(row["embedding"]) for row in told["data"]]
    assert [list(struct.unpack(f"<{len(raw) // 4}f", raw)) for raw in unpacked] == vectors


def test_numbers_too_large_to_pack_break_nothing() -> None:
    told = answered(Embedded(((1e300,),)), encoding_format="base64")
    assert struct.unpack("<f", base64.b64decode(told["data"][0]["embedding"])) == (float("inf"),)


def test_the_vendors_count_is_told_or_else_the_estimate() -> None:
    vectors = Embedded(((0.5,),))
    finished = Finished(FinishReason.STOP)
    counted = UsageReported(Usage(input_tokens=3, cache_read_input_tokens=2))
    assert answered(vectors, finished, counted)["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert answered(vectors, finished)["usage"]["prompt_tokens"] == parse(body()).input_tokens_estimate > 0


def test_it_does_not_stream() -> None:
    with pytest.raises(AssertionError):
        openai_embeddings.writer(parse(body()), HEADING)
