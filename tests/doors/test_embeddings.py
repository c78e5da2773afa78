"""POST /v1/embeddings from outside: vectors of OpenAI's wire as they came, of others in its shape; and the bill."""

import base64
import json
import struct
from decimal import Decimal
from typing import Any

import openai
import pytest
from aiohttp import web

from tests import gateway as configure
from tests.factories import BudgetFactory
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed, price_forget
from tests.gateway_path.test_hard_budgets import in_force
from tests.upstreams.scripted import Script, Upstream, status

VECTORS = [[0.5, -0.25, 1.0], [0.125, 0.0, -1.0]]


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def openai_vectors(*vectors: Any, tokens: int | None = 40, **more: Any) -> Script:
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return status(200, {"object": "list", "data": data, "model": "m", **usage, **more})


def ollama_vectors(*vectors: list[float], tokens: int) -> Script:
    return status(200, {"model": "m", "embeddings": list(vectors), "prompt_eval_count": tokens})


@pytest.fixture
async def embedding(gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream) -> Gateway:
    """Beside `swift` and `sage`, which chat, there are `vector` (OpenAI's wire) and `local` (Ollama's)."""

    def install() -> None:
        for name, url, kind in (
            ("vector", openai_upstream.url, "openai-compatible"),
            ("local", anthropic_upstream.url, "ollama"),
        ):
            made = configure.vendor(f"{name}-vendor", url, f"{name}-1", kind=kind, capabilities=["embeddings"])
            configure.alias(name, *made)

    await changed(gateway, install)
    openai_upstream.play(openai_vectors(*VECTORS))
    anthropic_upstream.play(ollama_vectors(*VECTORS, tokens=40))
    return gateway


async def embed(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/embeddings", {"input": ["one", "two"], **body})


# --- OpenAI's wire ------------------------------------------------------------------------------------------------


async def test_vectors_pass_byte_for_byte(embedding: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_vectors(*map(packed, VECTORS), kept=[1]))
    reply = await embed(embedding, model="vector", encoding_format="base64", dimensions=3, user="u", new=1)
    assert reply.status == 200
    assert [row["embedding"] for row in reply.json["data"]] == [packed(vector) for vector in VECTORS]
    assert reply.json["kept"] == [1]
    [call] = openai_upstream.calls
    assert call.path == "/v1/embeddings"
    assert call.body == {
        "model": "vector-1", "input": ["one", "two"], "encoding_format": "base64", "dimensions": 3, "user": "u",
        "new": 1,
    }  # fmt: skip


@pytest.mark.parametrize("given", ["one", ["one"], [1, 2, 3], [[1, 2], [3]]])
async def test_every_kind_of_input_passes(embedding: Gateway, openai_upstream: Upstream, given: Any) -> None:
    assert (await embed(embedding, model="vector", input=given)).status == 200
    assert openai_upstream.calls[0].body["input"] == given


async def test_only_input_is_billed(embedding: Gateway) -> None:
    reply = await embed(embedding, model="vector")
    [record] = await records()
    assert (record.door, record.state, record.usage_source) == ("embeddings", "settled", "provider")
    assert (record.input_tokens, record.output_tokens) == (40, 0)
    assert record.cost_nano == 40 * 1_000
    assert reply.headers["x-router-cost-usd"] == "0.000040000"


async def test_an_answer_without_a_count_is_counted_here(embedding: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_vectors(*VECTORS, tokens=None))
    assert (await embed(embedding, model="vector", input=["word " * 100] * 2)).status == 200
    [record] = await records()
    assert record.usage_source == "counted"
    assert 150 <= record.input_tokens <= 400
    assert (record.output_tokens, record.cost_nano) == (0, record.input_tokens * 1_000)


# --- another wire -------------------------------------------------------------------------------------------------


async def test_vectors_of_another_wire_have_openais_shape(embedding: Gateway, anthropic_upstream: Upstream) -> None:
    reply = await embed(embedding, model="local")
    assert reply.json == {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(VECTORS)],
        "model": "local-vendor-local-1",
        "usage": {"prompt_tokens": 40, "total_tokens": 40},
    }
    assert anthropic_upstream.calls[0].body["input"] == ["one", "two"]
    [record] = await records()
    assert (record.input_tokens, record.output_tokens, record.cost_nano) == (40, 0, 40_000)


async def test_vectors_of_another_wire_are_packed_for_who_wants_base64(embedding: Gateway) -> None:
    reply = await embed(embedding, model="local", encoding_format="base64")
    assert [row["embedding"] for row in reply.json["data"]] == [packed(vector) for vector in VECTORS]


async def test_one_text_is_a_list_of_one(embedding: Gateway, anthropic_upstream: Upstream) -> None:
    anthropic_upstream.play(ollama_vectors(VECTORS[0], tokens=3))
    reply = await embed(embedding, model="local", input="one")
    assert [row["index"] for row in reply.json["data"]] == [0]
    assert anthropic_upstream.calls[0].body["input"] == ["one"]


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]]])
async def test_tokens_are_only_for_openais_wire(embedding: Gateway, given: Any) -> None:
    reply = await embed(embedding, model="local", input=given)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "no_eligible_model", "input of tokens")


# --- who can, and who may -----------------------------------------------------------------------------------------


async def test_a_model_that_chats_makes_no_vectors_and_the_other_way_round(embedding: Gateway) -> None:
    reply = await embed(embedding, model="swift")
    assert (reply.status, reply.error["code"]) == (400, "no_eligible_model")
    assert "embeddings" in reply.error["message"]
    assert (await embedding.chat(model="vector")).error["code"] == "no_eligible_model"


async def test_a_vendors_error_has_openais_shape(embedding: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(400, {"error": {"message": "Too long", "type": "invalid_request_error"}}))
    reply = await embed(embedding, model="vector")
    assert (reply.status, reply.error["code"]) == (400, "upstream_rejected")


@pytest.mark.parametrize("body", ["<html>", {"object": "list", "data": []}, {"ok": True}])
async def test_an_answer_without_vectors_is_an_error(embedding: Gateway, openai_upstream: Upstream, body: Any) -> None:
    openai_upstream.play(status(200, body))
    reply = await embed(embedding, model="vector")
    assert (reply.status, reply.error["code"]) == (502, "upstream_malformed")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{}", "input", "input"),
        (b'{"input": ""}', "input", "must not be empty"),
        (b'{"input": []}', "input", "must not be empty"),
        (b'{"input": ["a", ""]}', "input", "must not be empty"),
        (b'{"input": [[1], []]}', "input", "must not be empty"),
        (b'{"input": ["a", 1]}', "input", "texts only or tokens only"),
        (b'{"input": 5}', "input", "Expected"),
        (b'{"input": [1.5]}', "input[0]", "Expected"),
        (json.dumps({"input": ["x"] * 2_049}).encode(), "input", "2,048 is the most"),
        (b'{"input": "x", "encoding_format": "int8"}', "encoding_format", "int8"),
        (b'{"input": "x", "dimensions": 0}', "dimensions", "at least 1"),
        (b'{"input": "x", "user": 5}', "user", "Expected"),
        (b'{"input": "\\ud83d"}', None, "surrogate"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(
    gateway: Gateway, body: bytes, param: str | None, words: str
) -> None:
    reply = await gateway.post("/v1/embeddings", body)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", param)
    assert words in reply.error["message"]


# --- budgets ------------------------------------------------------------------------------------------------------


async def test_a_hard_budget_holds_and_charges_the_input(embedding: Gateway) -> None:
    await limited(embedding, "1.00")
    assert (await embed(embedding, model="vector")).status == 200
    [record] = await records()
    assert list(record.charges.values()) == [40_000]
    assert 40_000 <= record.budget["hold_nano"] < 1_000_000_000


async def test_a_hard_budget_that_is_too_small_refuses_before_anything_is_sent(
    embedding: Gateway, openai_upstream: Upstream
) -> None:
    await limited(embedding, "0.0001")
    reply = await embed(embedding, model="vector")
    assert (reply.status, reply.error["code"]) == (429, "insufficient_quota")
    assert openai_upstream.calls == []


async def test_a_hard_budget_needs_a_price(embedding: Gateway) -> None:
    await limited(embedding, "1.00")
    await changed(embedding, lambda: price_forget("vector-vendor"))
    assert (await embed(embedding, model="vector")).error["code"] == "price_unknown"


async def limited(gateway: Gateway, usd: str) -> None:
    """Give the caller's team a strict budget, and wait until the gateway has it."""

    def create() -> None:
        team = configure.Team.objects.get()
        BudgetFactory(max_budget=Decimal(usd), scope="team", mode="strict", team=team)

    await changed(gateway, create)
    await in_force(gateway)


# --- the official client ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["vector", "local"])
async def test_the_official_client_unpacks_what_it_asked_for(
    embedding: Gateway, openai_upstream: Upstream, model: str
) -> None:
    """Without a word it asks for base64, and unpacks it."""

    async def as_asked(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        vectors = list(map(packed, VECTORS)) if body.get("encoding_format") == "base64" else VECTORS
        return await openai_vectors(*vectors)(request, body)

    openai_upstream.play(as_asked)
    client = openai.AsyncOpenAI(base_url=f"{embedding.url}/v1", api_key=embedding.key, max_retries=0)
    async with client:
        unpacked = await client.embeddings.create(model=model, input=["one", "two"])
        plain = await client.embeddings.create(model=model, input=["one", "two"], encoding_format="float")
    assert [row.embedding for row in unpacked.data] == [row.embedding for row in plain.data] == VECTORS
    assert unpacked.usage.prompt_tokens == 40
