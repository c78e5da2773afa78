"""Callers who leave real servers, uvicorn and daphne: the vendor's call ends within half a second, and is on record."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from tests.e2e.processes import DemoProvider, Platform
from tests.gateway import Gateway

pytestmark = pytest.mark.e2e

WITHIN_S = 0.5
MIDWAY = "Explain caching [[tokens=2000]] [[pace=20]]"
SILENT = "[[delay=30]]"
MODELS = ("demo-swift", "demo-sage-mini")  # behind OpenAI's wire, behind Anthropic's

Begin = Callable[[Gateway, str, str], Awaitable[Callable[[], Awaitable[Any]]]]  # begins; gives the way to leave


def over_http(door: str, *, stream: bool) -> Begin:
    async def begin(caller: Gateway, model: str, text: str) -> Callable[[], Awaitable[Any]]:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}

        async def read() -> None:
            async with caller.session.post(caller.url + door, json=body, headers=caller.headers()) as response:
                await response.read()

        asking = asyncio.create_task(read())

        async def leave() -> None:
            assert not asking.done()
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

        return leave

    return begin


def over_websocket(how: str) -> Begin:
    async def begin(caller: Gateway, model: str, text: str) -> Callable[[], Awaitable[Any]]:
        url = caller.url.replace("http", "ws") + "/ws/chat/"
        socket = await caller.session.ws_connect(url, headers=caller.headers())
        chat = {"id": "1", "model": model, "messages": [{"role": "user", "content": text}]}
        await socket.send_str(json.dumps({"type": "chat", **chat}))
        stop = json.dumps({"type": "stop", "id": "1"})
        return (lambda: socket.send_str(stop)) if how == "stop" else socket.close

    return begin


DOORS = {
    "stream": (over_http("/v1/chat/completions", stream=True), "chat-completions"),
    "whole": (over_http("/v1/chat/completions", stream=False), "chat-completions"),
    "rest stream": (over_http("/api/v1/chat", stream=True), "rest"),
    "rest whole": (over_http("/api/v1/chat", stream=False), "rest"),
    "socket closed": (over_websocket("close"), "websocket"),
    "socket stop": (over_websocket("stop"), "websocket"),
}


async def provider_works(provider: DemoProvider) -> None:
    began = time.monotonic()
    while not await asyncio.to_thread(provider.open_requests):
        assert time.monotonic() - began < 5, "the request did not reach the provider"
        await asyncio.sleep(0.02)


async def seconds_until_left(provider: DemoProvider, leave: Callable[[], Awaitable[Any]]) -> float:
    """From the moment that the caller goes to the moment that the provider works for nobody any more."""
    leaving = asyncio.ensure_future(leave())
    began = time.monotonic()
    while await asyncio.to_thread(provider.open_requests):
        assert time.monotonic() - began < 5, "the provider still works for somebody who is gone"
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - began
    await leaving
    return seconds


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
async def test_who_leaves_is_noticed_and_billed_for_what_came(
    server: str, platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    caller = Gateway(platform.gateway(server=server).url, session, platform.key)
    known: set[str] = set()
    for number, (name, (begin, door)) in enumerate(DOORS.items()):
        for model, text in zip(MODELS[:: 1 - 2 * (number % 2)], (MIDWAY, SILENT), strict=True):
            where = f"{server}, {name}, {model}, {text}"
            leave = await begin(caller, model, text)
            await provider_works(demo_provider)
            await asyncio.sleep(0.4)
            seconds = await seconds_until_left(demo_provider, leave)
            print(f"{where}: {seconds * 1000:.0f} ms")
            assert seconds <= WITHIN_S, where
            await asyncio.sleep(0.3)
            records = platform.database.records()
            [record] = [record for key, record in records.items() if key not in known]
            known |= records.keys()
            assert (record.state, record.door, record.usage_source) == ("cancelled", door, "counted"), where
            assert record.input_tokens > 0, where
            is_streamed = text == MIDWAY and "whole" not in name
            assert (record.output_tokens > 0) is is_streamed, where
            assert record.cost_nano, where
