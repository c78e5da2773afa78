"""The demo provider's vectors, over the four wires that ask for them."""

import base64
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from providers.demo.exchange import count
from providers.demo.vectors import DIMENSIONS, packed, vector_of
from tests.providers.demo_client import HEADERS, Demo, demo_server

Json = dict[str, Any]
GOOGLE = {"x-goog-api-key": "k"}
TEXTS = ["one text", "Ein zweiter: Grüße"]
OPENAI_BODY: Json = {"model": "demo-embed", "input": TEXTS}
COHERE_BODY: Json = {"model": "demo-embed", "input_type": "search_query", "texts": TEXTS}
OLLAMA_BODY: Json = {"model": "demo-embed", "input": TEXTS}
BATCH = "/v1beta/models/demo-embed:batchEmbedContents"
SINGLE = "/v1beta/models/demo-embed:embedContent"


def single(text: str, **fields: Any) -> Json:
    return {"model": "models/demo-embed", "content": {"parts": [{"text": text}]}, **fields}


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


async def post(demo: Demo, path: str, body: Json, headers: dict[str, str], *, status: int = 200) -> Any:
    async with demo.session.post(demo.url + path, json=body, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


# --- the vectors --------------------------------------------------------------------------------------------------


def test_a_vector_is_of_length_one_and_the_same_for_the_same_text() -> None:
    for dimensions in (1, 8, DIMENSIONS):
        vector = vector_of("some text", dimensions)
        assert len(vector) == dimensions
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-6)
    assert vector_of("some text") == vector_of("some text") != vector_of("some texts")


def test_fewer_dimensions_point_the_same_way() -> None:
    whole, cut = vector_of("text"), vector_of("text", 4)
    assert all(math.isclose(cut[at] / cut[0], whole[at] / whole[0], rel_tol=1e-4) for at in range(4))


def test_base64_is_float32_from_the_low_byte_up() -> None:
    vector = vector_of("text", 3)
    assert list(struct.unpack("<3f", base64.b64decode(packed(vector)))) == vector


# --- the wires ----------------------------------------------------------------------------------------------------


async def test_openais_vectors_are_floats_or_base64_in_order(demo: Demo) -> None:
    body = await post(demo, "/v1/embeddings", OPENAI_BODY, HEADERS)
    assert [row["index"] for row in body["data"]] == [0, 1]
    assert [row["embedding"] for row in body["data"]] == [vector_of(text) for text in TEXTS]
    assert body["usage"] == {"prompt_tokens": sum(map(count, TEXTS)), "total_tokens": sum(map(count, TEXTS))}
    coded = await post(demo, "/v1/embeddings", OPENAI_BODY | {"encoding_format": "base64"}, HEADERS)
    assert [row["embedding"] for row in coded["data"]] == [packed(vector_of(text)) for text in TEXTS]


async def test_the_openai_sdk_reads_them(demo: Demo) -> None:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any-key") as client:
        answer = await client.embeddings.create(model="demo-embed", input="one text", dimensions=16)
    assert answer.data[0].embedding == pytest.approx(vector_of("one text", 16))


@pytest.mark.parametrize(("sent", "vectors", "tokens"), [([5, 6, 7], 1, 3), ([[5, 6], [7]], 2, 3), ("a text", 1, 2)])
async def test_openai_takes_texts_and_token_numbers(demo: Demo, sent: Any, vectors: int, tokens: int) -> None:
    body = await post(demo, "/v1/embeddings", {"model": "demo-embed", "input": sent}, HEADERS)
    assert len(body["data"]) == vectors
    assert body["usage"]["prompt_tokens"] == tokens


async def test_googles_vectors_come_one_by_one_or_in_a_batch(demo: Demo) -> None:
    requests = [single(text, taskType="RETRIEVAL_QUERY", outputDimensionality=8) for text in TEXTS]
    body = await post(demo, BATCH, {"requests": requests}, GOOGLE)
    assert [row["values"] for row in body["embeddings"]] == [vector_of(text, 8) for text in TEXTS]
    assert body["usageMetadata"] == {"promptTokenCount": sum(map(count, TEXTS))}
    body = await post(demo, SINGLE, single("one text"), GOOGLE)
    assert body["embedding"]["values"] == vector_of("one text")


async def test_coheres_vectors_stand_by_their_type(demo: Demo) -> None:
    body = await post(demo, "/v2/embed", COHERE_BODY | {"embedding_types": ["float", "base64"]}, HEADERS)
    assert body["embeddings"]["float"] == [vector_of(text) for text in TEXTS]
    assert body["embeddings"]["base64"] == [packed(vector_of(text)) for text in TEXTS]
    assert body["meta"]["billed_units"] == {"input_tokens": sum(map(count, TEXTS))}


async def test_ollamas_vectors_stand_in_a_list(demo: Demo) -> None:
    body = await post(demo, "/api/embed", OLLAMA_BODY | {"dimensions": 8}, {})
    assert body["embeddings"] == [vector_of(text, 8) for text in TEXTS]
    assert body["prompt_eval_count"] == sum(map(count, TEXTS))


async def test_a_bill_has_input_only(demo: Demo) -> None:
    for path, body, headers in (
        ("/v1/embeddings", OPENAI_BODY, HEADERS),
        (BATCH, {"requests": [single(text) for text in TEXTS]}, GOOGLE),
        ("/v2/embed", COHERE_BODY, HEADERS),
        ("/api/embed", OLLAMA_BODY, {}),
    ):
        await post(demo, path, body, headers)
        bill = await demo.last_bill()
        assert (bill["model"], bill["state"]) == ("demo-embed", "completed")
        assert (bill["input_tokens"], bill["output_tokens"]) == (sum(map(count, TEXTS)), 0)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/embeddings", OPENAI_BODY | {"model": "demo-swift"}, HEADERS, 404),
        ("/v1/embeddings", OPENAI_BODY | {"input": []}, HEADERS, 400),
        ("/v1/embeddings", OPENAI_BODY | {"input": ["one", ""]}, HEADERS, 400),
        ("/v1/embeddings", OPENAI_BODY | {"input": ["one", 2]}, HEADERS, 400),
        ("/v1/embeddings", OPENAI_BODY | {"dimensions": DIMENSIONS + 1}, HEADERS, 400),
        ("/v1/embeddings", OPENAI_BODY | {"encoding_format": "int8"}, HEADERS, 400),
        ("/v1/embeddings", OPENAI_BODY, {}, 401),
        (BATCH, {"requests": []}, GOOGLE, 400),
        (BATCH, {"requests": [single("one") | {"model": "models/other"}]}, GOOGLE, 400),
        (BATCH, {"requests": [single("one", taskType="SEARCH")]}, GOOGLE, 400),
        (BATCH, {"requests": [single("")]}, GOOGLE, 400),
        (SINGLE, single("one", dimensions=4), GOOGLE, 400),
        (SINGLE.replace("demo-embed", "demo-swift"), single("one"), GOOGLE, 404),
        (SINGLE, single("one"), HEADERS, 403),
        ("/v2/embed", {name: value for name, value in COHERE_BODY.items() if name != "input_type"}, HEADERS, 400),
        ("/v2/embed", COHERE_BODY | {"input_type": "query"}, HEADERS, 400),
        ("/v2/embed", COHERE_BODY | {"texts": []}, HEADERS, 400),
        ("/v2/embed", COHERE_BODY | {"texts": ["x"] * 97}, HEADERS, 400),
        ("/v2/embed", COHERE_BODY | {"dimensions": 8}, HEADERS, 400),
        ("/v2/embed", COHERE_BODY | {"model": "demo-swift"}, HEADERS, 404),
        ("/api/embed", OLLAMA_BODY | {"input": 5}, {}, 400),
        ("/api/embed", OLLAMA_BODY | {"model": "demo-swift"}, {}, 404),
    ],
)
async def test_what_the_vendors_refuse_is_refused(
    demo: Demo, path: str, body: Json, headers: dict[str, str], status: int
) -> None:
    assert await post(demo, path, body, headers, status=status)
    assert await demo.bills() == []


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/embeddings", {"model": "demo-embed", "input": "[[status=503]] x"}, HEADERS),
        (SINGLE, single("[[status=503]] x"), GOOGLE),
        ("/v2/embed", COHERE_BODY | {"texts": ["first", "[[status=503]]"]}, HEADERS),
        ("/api/embed", {"model": "demo-embed", "input": "[[status=503]]"}, {}),
    ],
)
async def test_markers_in_a_text_provoke_faults(demo: Demo, path: str, body: Json, headers: dict[str, str]) -> None:
    assert await post(demo, path, body, headers, status=503)


async def test_without_usage_no_tokens_are_told(demo: Demo) -> None:
    body = await post(demo, "/v1/embeddings", {"model": "demo-embed", "input": "[[no_usage]] x"}, HEADERS)
    assert "usage" not in body
    body = await post(demo, "/api/embed", {"model": "demo-embed", "input": "[[no_usage]] x"}, {})
    assert "prompt_eval_count" not in body
