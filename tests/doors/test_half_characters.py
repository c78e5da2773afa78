"""A vendor cuts a character in half, between two pieces of its answer. No door trips over it."""

import json
from typing import Any

import pytest
from aiohttp import web

from tests.doors.test_websocket import signed_in
from tests.gateway import HELLO, Gateway, records
from tests.upstreams.scripted import OPENAI_USAGE, Script, Upstream, frames, openai_chunk, sse

HALVES = ("so \ud83d", "\ude42 good")
STREAM = sse(
    *(openai_chunk({"content": text}) for text in HALVES),
    openai_chunk({}, "stop"),
    {**openai_chunk({}), "choices": [], "usage": OPENAI_USAGE},
    "[DONE]",
)


def anthropic_halves() -> Script:
    """The same in Anthropic's words, whole or streamed."""
    texts = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in HALVES]
    counted = {"input_tokens": 12, "output_tokens": 5}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "usage": counted}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *texts,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return frames(*(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events))


@pytest.fixture(autouse=True)
def cutting(openai_upstream: Upstream, anthropic_upstream: Upstream) -> None:
    openai_upstream.play(frames(*STREAM))
    anthropic_upstream.play(anthropic_halves())


async def check_bill() -> None:
    [record] = await records()
    assert (record.state, record.usage_source, record.cost_nano) == ("settled", "provider", 22_000)


async def test_a_caller_of_the_same_wire_gets_the_vendors_bytes(gateway: Gateway) -> None:
    reply = await gateway.stream(model="swift", stream_options={"include_usage": True})
    assert reply.body == b"".join(STREAM)
    await check_bill()


async def test_a_caller_of_another_wire_gets_whole_characters_in_ascii(gateway: Gateway) -> None:
    reply = await gateway.stream(model="sage")
    assert reply.done
    assert reply.text == "so 🙂 good"
    assert reply.body.isascii()
    await check_bill()


async def test_rest_streams_whole_characters(gateway: Gateway) -> None:
    body = {"model": "swift", "messages": HELLO, "stream": True}
    reply = await gateway.post("/api/v1/chat", body)
    assert "".join(event.get("text", "") for event in reply.events) == "so 🙂 good"
    assert reply.body.isascii()
    await check_bill()


async def test_a_socket_gets_whole_characters(gateway: Gateway) -> None:
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", model="swift", messages=HELLO)
        seen = await socket.until("done", "error")
    assert seen[-1]["type"] == "done"
    assert "".join(frame.get("text", "") for frame in seen) == "so 🙂 good"


@pytest.mark.parametrize("address", ["/v1/chat/completions", "/api/v1/chat"])
async def test_a_whole_answer_with_half_a_character_is_read(
    gateway: Gateway, openai_upstream: Upstream, address: str
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "so \ud83d"}, "finish_reason": "stop"}
    answer = json.dumps({"id": "c", "choices": [choice], "usage": OPENAI_USAGE})

    async def whole(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text=answer, content_type="application/json")

    openai_upstream.play(whole)
    reply = await gateway.post(address, {"model": "swift", "messages": HELLO})
    assert reply.status == 200
    assert (reply.body.decode() == answer) is (address == "/v1/chat/completions")
    await check_bill()
