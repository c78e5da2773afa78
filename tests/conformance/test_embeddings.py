"""Embeddings over every kind that has them: floats and base64, dimensions, several texts, the bill."""

import base64
import math
import struct
from typing import Any

import pytest

from providers.demo.vectors import DIMENSIONS, vector_of
from providers.registry import PROVIDER_KINDS
from tests.conformance.installation import EMBEDS, ONE_OF_EACH, Grid, embeds
from tests.gateway import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS = [kind for kind in PROVIDER_KINDS if embeds(kind)]
TEXTS = ["The first text", "Ein zweiter: Grüße, 你好", "and a third one"]


def floats(reply: Reply) -> list[list[float]]:
    """The vectors, in the order of their indexes, however they are written."""
    rows = reply.json["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert {row["object"] for row in rows} == {"embedding"}
    return [_unpacked(row["embedding"]) for row in rows]


def _unpacked(embedding: Any) -> list[float]:
    if isinstance(embedding, list):
        return embedding
    data = base64.b64decode(embedding)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def near(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_vectors_are_the_vendors_and_so_is_the_bill(grid: Grid, kind: str) -> None:
    model = kind + EMBEDS
    asked: list[dict[str, Any]] = [
        {"input": TEXTS[0]},
        {"input": TEXTS},
        {"input": TEXTS, "encoding_format": "base64"},
        {"input": TEXTS[:1], "dimensions": 8},
        {"input": TEXTS, "dimensions": 8, "encoding_format": "base64"},
    ]
    for fields in asked:
        reply = await grid.post("/v1/embeddings", {"model": model, **fields})
        assert reply.status == 200, reply.body
        texts = [fields["input"]] if isinstance(fields["input"], str) else fields["input"]
        expected = [vector_of(text, fields.get("dimensions", DIMENSIONS)) for text in texts]
        assert all(near(one, other) for one, other in zip(floats(reply), expected, strict=True)), fields
        written = {type(row["embedding"]) for row in reply.json["data"]}
        assert written == {str if "encoding_format" in fields else list}, fields
        await check_bill(grid, reply)


async def check_bill(grid: Grid, reply: Reply) -> None:
    request_id = reply.headers["x-request-id"]
    record = (await grid.records({request_id}))[request_id]
    [bill] = await grid.bills(request_id)
    assert (record.state, record.usage_source) == ("settled", "provider")
    assert (record.input_tokens, record.output_tokens) == (bill["input_tokens"], 0)
    assert record.cost_nano == bill["input_tokens"] * 1_000
    assert reply.json["usage"] == {"prompt_tokens": bill["input_tokens"], "total_tokens": bill["input_tokens"]}


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if embeds(kind)])
@pytest.mark.parametrize(
    ("marker", "status", "code"),
    [
        ("[[status=400]]", 400, "upstream_rejected"),
        ("[[status=401]]", 502, "upstream_credentials"),
        ("[[status=429]]", 429, "upstream_rate_limited"),
        ("[[status=500]]", 502, "upstream_failed"),
        ("[[garbage=1]]", 502, "upstream_malformed"),
    ],
)
async def test_a_vendors_error_is_the_same_error_over_every_wire(
    grid: Grid, kind: str, marker: str, status: int, code: str
) -> None:
    reply = await grid.post("/v1/embeddings", {"model": kind + EMBEDS, "input": f"{marker} text"})
    assert (reply.status, reply.error["code"]) == (status, code)


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if embeds(kind)])
async def test_without_the_vendors_count_the_gateway_counts_itself(grid: Grid, kind: str) -> None:
    reply = await grid.post("/v1/embeddings", {"model": kind + EMBEDS, "input": "[[no_usage]] text"})
    assert reply.status == 200
    request_id = reply.headers["x-request-id"]
    record = (await grid.records({request_id}))[request_id]
    assert record.usage_source == "counted"
    assert record.input_tokens > 0
    assert (record.cost_nano or 0) > 0


async def test_a_model_for_chat_gives_no_vectors_and_the_other_way_round(grid: Grid) -> None:
    reply = await grid.post("/v1/embeddings", {"model": "openai", "input": "text"})
    assert reply.status == 400
    reply = await grid.chat(model="openai" + EMBEDS)
    assert reply.status == 400
