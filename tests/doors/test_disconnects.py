"""A caller who is gone, through every door and at every moment: the vendor's call ends within half a second, and the
one record has what came. Both vendors cost 1,000 nano-USD a token in and 2,000 out."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from analytics.models import UsageRecord
from providers.domain.estimate import count_text
from routerplatform.doors.exchange import Lifetime
from routerplatform.doors.relay import Relay
from routerplatform.gateway.errors import Unavailable
from tests.gateway import HELLO, Gateway, records
from tests.stalls import PATIENCE_S, Stalls
from tests.upstreams.scripted import Script, Upstream, frames, hang, openai_events

WITHIN_S = 0.5
DOORS = ("/v1/chat/completions", "/api/v1/chat")
SAID = "Hello there"
MIDWAY = frames(*openai_events("Hello", " there")[:3], pause_s=0.02, end="hang")
HALF_A_BODY = frames(b'{"id": "chatcmpl-up", "choices": [', end="hang", content_type="application/json")

every_door = pytest.mark.parametrize("door", DOORS)
every_way_to_leave = pytest.mark.parametrize("abruptly", [False, True], ids=["close", "reset"])


@asynccontextmanager
async def request_sent(gateway: Gateway, door: str, **body: Any) -> AsyncIterator[Any]:
    """A request on a connection of its own, to be read from and left."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    data = json.dumps({"model": "swift", "messages": HELLO, **body}).encode()
    headers = {**gateway.headers(), "host": "127.0.0.1", "content-length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {door} HTTP/1.1\r\n{head}\r\n".encode() + data)
    try:
        yield reader, writer
    finally:
        writer.close()


async def reached(upstream: Upstream) -> None:
    """The vendor has the request, and the gateway has had time to read what came at once."""
    await upstream.asked()
    await asyncio.sleep(0.15)


async def seconds_until_cut(upstream: Upstream, stalls: Stalls) -> float:
    """From now on, until the vendor sees its connection closed."""
    [call] = upstream.calls
    assert not call.cut.is_set(), "the vendor was left before its caller was"
    watch = stalls.watch()
    await asyncio.wait_for(call.cut.wait(), PATIENCE_S)
    return watch.seconds


async def check_record(door: str, said: str) -> UsageRecord:
    """The one record of a request that its caller left after these words had come."""
    [record] = await records()
    await asyncio.sleep(0.3)
    assert len(await records()) == 1
    assert (record.state, record.http_status, record.error_code) == ("cancelled", 499, "cancelled")
    assert (record.door, record.usage_source) == (door, "counted")
    assert record.input_tokens > 0
    assert record.output_tokens == count_text(said)
    assert record.cost_nano == record.input_tokens * 1_000 + record.output_tokens * 2_000
    [attempt] = record.attempts
    assert (attempt["deployment"], attempt["failure"]) == ("alpha/swift-1", "cancelled")
    return record


# --- HTTP ---------------------------------------------------------------------------------------------------------

NAMES = dict(zip(DOORS, ("chat-completions", "rest"), strict=True))


@every_door
@every_way_to_leave
@pytest.mark.parametrize(
    ("stream", "script"),
    [(True, hang()), (False, hang()), (False, HALF_A_BODY)],
    ids=["stream, no byte", "whole, no byte", "whole, half a body"],
)
async def test_leaving_before_the_answer_begins(
    gateway: Gateway, openai_upstream: Upstream, door: str, stream: bool, script: Script, abruptly: bool, stalls: Stalls
) -> None:
    openai_upstream.play(script)
    async with request_sent(gateway, door, stream=stream) as (_, writer):
        await reached(openai_upstream)
        writer.transport.abort() if abruptly else writer.close()
        assert await seconds_until_cut(openai_upstream, stalls) <= WITHIN_S
    await check_record(NAMES[door], "")


@every_door
@every_way_to_leave
async def test_leaving_in_the_middle_of_a_stream(
    gateway: Gateway, openai_upstream: Upstream, door: str, abruptly: bool, stalls: Stalls
) -> None:
    openai_upstream.play(MIDWAY)
    async with request_sent(gateway, door, stream=True) as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b" there"), PATIENCE_S)
        writer.transport.abort() if abruptly else writer.close()
        assert await seconds_until_cut(openai_upstream, stalls) <= WITHIN_S
    record = await check_record(NAMES[door], SAID)
    assert record.ttft_ms is not None


@every_door
async def test_a_caller_who_left_does_not_wait_in_anybodys_way(
    gateway: Gateway, openai_upstream: Upstream, door: str
) -> None:
    """Ten callers leave at once while nothing has come: each has its record, and the gateway serves on."""
    openai_upstream.play(hang())

    async def leave() -> None:
        async with request_sent(gateway, door, stream=True):
            await openai_upstream.asked(10)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(leave() for _ in range(10)))
    cuts = [asyncio.wait_for(call.cut.wait(), PATIENCE_S) for call in openai_upstream.calls]
    await asyncio.gather(*cuts)
    found = await records(10)
    assert {record.state for record in found} == {"cancelled"}
    assert len({record.request_id for record in found}) == len(openai_upstream.calls) == 10
    assert (await gateway.get("/v1/models")).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@every_door
async def test_leaving_at_any_of_the_first_moments_leaves_nothing_running(
    gateway: Gateway, openai_upstream: Upstream, door: str, stream: bool
) -> None:
    """Also while a thread of Django's is on its way to the view, and nobody can tell it any more."""
    openai_upstream.play(hang())

    async def leave(after_s: float) -> None:
        async with request_sent(gateway, door, stream=stream):
            await asyncio.sleep(after_s)

    await asyncio.gather(*(leave(step / 200) for step in range(60)))
    await asyncio.sleep(WITHIN_S)
    await asyncio.gather(*(asyncio.wait_for(call.cut.wait(), PATIENCE_S) for call in openai_upstream.calls))
    found = await records(len(openai_upstream.calls))
    assert {record.state for record in found} <= {"cancelled"}


async def test_an_answer_that_begins_when_its_request_is_over_is_cut_at_once() -> None:
    """A thread that was on its way to the view when the caller left cannot be told."""
    ends: list[str] = []

    async def steps() -> AsyncGenerator[Any, None]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ends.append("settled")

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    lifetime = Lifetime(gone)
    early = Relay(steps())
    lifetime.at_end(early.cancel)
    await asyncio.sleep(0)
    await lifetime.receive()
    late = Relay(steps())
    lifetime.at_end(late.cancel)
    for relay in (early, late):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(relay.opened(), PATIENCE_S)
    assert ends == ["settled", "settled"]


# --- WebSocket ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def chatting(gateway: Gateway) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A signed-in socket whose only chat has begun."""
    url = gateway.url.replace("http://", "ws://") + "/ws/chat/"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=gateway.headers()) as socket:
        await socket.receive_str(timeout=PATIENCE_S)
        await socket.send_str(json.dumps({"type": "chat", "id": "1", "model": "swift", "messages": HELLO}))
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse, words: str) -> None:
    text = ""
    while words not in text:
        text += json.loads(await socket.receive_str(timeout=PATIENCE_S)).get("text", "")


async def leave(socket: aiohttp.ClientWebSocketResponse, how: str) -> None:
    match how:
        case "stop":
            await socket.send_str(json.dumps({"type": "stop", "id": "1"}))
        case "reset":
            transport = socket._writer.transport  # what a phone that loses its network does
            assert transport is not None
            transport.abort()
        case _:
            await socket.close()


every_way_to_end_a_chat = pytest.mark.parametrize("how", ["stop", "close", "reset"])


@every_way_to_end_a_chat
async def test_ending_a_chat_before_a_byte_has_come(
    gateway: Gateway, openai_upstream: Upstream, how: str, stalls: Stalls
) -> None:
    openai_upstream.play(hang())
    async with chatting(gateway) as socket:
        await reached(openai_upstream)
        leaving = asyncio.create_task(leave(socket, how))
        assert await seconds_until_cut(openai_upstream, stalls) <= WITHIN_S
        await leaving
        await check_record("websocket", "")


@every_way_to_end_a_chat
async def test_ending_a_chat_in_its_middle(
    gateway: Gateway, openai_upstream: Upstream, how: str, stalls: Stalls
) -> None:
    openai_upstream.play(MIDWAY)
    async with chatting(gateway) as socket:
        await heard(socket, "there")
        leaving = asyncio.create_task(leave(socket, how))
        assert await seconds_until_cut(openai_upstream, stalls) <= WITHIN_S
        await leaving
        await check_record("websocket", SAID)


async def test_a_closed_socket_ends_each_of_its_chats(
    gateway: Gateway, openai_upstream: Upstream, stalls: Stalls
) -> None:
    openai_upstream.play(hang())
    async with chatting(gateway) as socket:
        for chat in ("2", "3"):
            await socket.send_str(json.dumps({"type": "chat", "id": chat, "model": "swift", "messages": HELLO}))
        await openai_upstream.asked(3)
        watch = stalls.watch()
        await socket.close()
        await asyncio.gather(*(asyncio.wait_for(call.cut.wait(), PATIENCE_S) for call in openai_upstream.calls))
        assert watch.seconds <= WITHIN_S
    assert [record.state for record in await records(3)] == ["cancelled"] * 3
