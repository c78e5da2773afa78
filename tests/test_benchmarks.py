"""The benchmark's own parts: a figure is worth something only if vendor, load and floor do what they claim."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from redis import Redis

from benchmarks import floor, rate_limits, upstream
from benchmarks.load import Result, Shot, fire
from providers.domain.answer import Finished, TextDelta, UsageReported
from providers.domain.types import RateLimit, Wire
from providers.wires import WIRES
from tests.gateway import serving
from tests.routing.domain.build import request
from tests.valkeys import own_valkey

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def vendor() -> AsyncIterator[int]:
    """The bench vendor in this loop; yields its port."""
    server = await asyncio.get_running_loop().create_server(upstream.Vendor, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def post(port: int, path: str, **body: object) -> bytes:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize(("path", "wire"), [(CHAT, Wire.OPENAI), ("/v1/messages", Wire.ANTHROPIC)])
async def test_the_vendor_speaks_both_wires_whole_and_streamed(path: str, wire: Wire) -> None:
    async with vendor() as port:
        whole = await post(port, path, model="bench")
        streamed = await post(port, path, model="bench", stream=True)
    frame = WIRES[wire].read_answer(whole)
    reader = WIRES[wire].stream_reader(request())
    events = [event for piece in (*reader.feed(streamed), *reader.close()) for event in piece.events]
    assert any(isinstance(event, Finished) for event in frame.events)
    assert sum(isinstance(event, TextDelta) for event in events) == upstream.CHUNKS
    for told in (frame.events, events):
        usage = [event.usage for event in told if isinstance(event, UsageReported)][-1]
        assert (usage.input_tokens, usage.output_tokens) == (300, 120)


async def test_the_vendor_paces_a_stream_when_it_is_asked_to() -> None:
    async with vendor() as port:
        started = asyncio.get_running_loop().time()
        paced = await post(port, CHAT, model="bench", stream=True, user="paced")
        took_s = asyncio.get_running_loop().time() - started
    assert paced == b"".join(upstream.OPENAI_STREAM)
    assert took_s >= upstream.CHUNKS * upstream.PACE_S


async def test_the_load_sends_what_it_was_told_and_counts_each_answer_once() -> None:
    async with vendor() as port:
        for shot in (Shot(CHAT, "same"), Shot(CHAT, "same", stream=True)):
            result = await fire(port=port, request=shot.request(key="k"), connections=4, requests=50)
            assert (len(result.latencies_s), result.errors) == (50, 0)
            assert result.wall_s > 0


async def test_a_refused_request_is_an_error_and_not_a_fast_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            await reader.readuntil(b"}]")
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await fire(port=port, request=Shot(CHAT, "same").request(key="k"), connections=1, requests=5)
    server.close()
    assert (len(result.latencies_s), result.errors) == (0, 5)


def test_a_request_is_whole_http_with_the_key_and_the_right_length() -> None:
    head, _, body = Shot(CHAT, "same", stream=True).request(key="rp_x").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"authorization: Bearer rp_x" in head
    assert f"content-length: {len(body)}".encode() in head
    assert (json.loads(body)["model"], json.loads(body)["stream"]) == ("same", True)


@pytest.mark.parametrize(("share", "milliseconds"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_a_latency_that_was_seen(share: float, milliseconds: int) -> None:
    result = Result([number / 1000 for number in range(100, 0, -1)])
    assert result.percentile_ms(share) == pytest.approx(milliseconds)


def test_without_an_answer_a_percentile_is_zero() -> None:
    assert Result().percentile_ms(0.5) == 0


async def test_the_floor_passes_bodies_on_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with vendor() as port:
        monkeypatch.setenv("BENCH_VENDOR", f"http://127.0.0.1:{port}")
        async with serving(floor.application, lifespan="off") as url:
            passed = await post(int(url.rsplit(":", 1)[1]), CHAT, model="bench")
            direct = await post(port, CHAT, model="bench")
            await floor.sessions.pop().close()
    assert passed == direct


@pytest.mark.parametrize("limits", rate_limits.CASES.values(), ids=str)
async def test_the_price_of_rate_limits_is_taken_from_requests_that_got_in(
    tmp_path: Path, limits: tuple[RateLimit | None, RateLimit | None]
) -> None:
    with own_valkey(tmp_path / "valkey") as valkey:
        for url in (valkey.url, ""):
            cost = await rate_limits.measure(url, rate_limits.caller(*limits), connections=4, requests=40)
            assert cost.gateway_us > 0
        with Redis.from_url(valkey.url) as redis:
            assert len(redis.keys()) == sum(
                value is not None for limit in limits if limit for value in (limit.rpm, limit.tpm)
            )
