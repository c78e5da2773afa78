"""Callers who leave real servers, uvicorn and daphne: the vendor's call ends within half a second, and is on record."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from tests.e2e.processes import DemoProvider, Platform, Record, wait_until
from tests.gateway import Gateway
from tests.stalls import PATIENCE_S, Stalls

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


async def seconds_until_left(provider: DemoProvider, leave: Callable[[], Awaitable[Any]], stalls: Stalls) -> float:
    """From the moment that the caller goes to the moment that the provider works for nobody any more."""
    watch = stalls.watch()
    leaving = asyncio.ensure_future(leave())
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(provider.open_requests):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    seconds = watch.seconds
    await leaving
    return seconds


async def the_new_record(platform: Platform, known: set[str]) -> Record:
    """The only one that is not `known` yet; from now on it is."""
    await asyncio.to_thread(wait_until, lambda: platform.database.records().keys() > known, what="a new record")
    await asyncio.sleep(0.1)
    records = platform.database.records()
    [record] = [record for key, record in records.items() if key not in known]
    known.update(records)
    return record


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
async def test_who_leaves_is_noticed_and_billed_for_what_came(
    server: str, platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession, stalls: Stalls
) -> None:
    caller = Gateway(platform.gateway(server=server).url, session, platform.key)
    known: set[str] = set()
    for number, (name, (begin, door)) in enumerate(DOORS.items()):
        for model, text in zip(MODELS[:: 1 - 2 * (number % 2)], (MIDWAY, SILENT), strict=True):
            where = f"{server}, {name}, {model}, {text}"
            leave = await begin(caller, model, text)
            await demo_provider.reached()
            await asyncio.sleep(0.4)
            seconds = await seconds_until_left(demo_provider, leave, stalls)
            print(f"{where}: {seconds * 1000:.0f} ms")
            assert seconds <= WITHIN_S, where
            record = await the_new_record(platform, known)
            assert (record.state, record.door, record.usage_source) == ("cancelled", door, "counted"), where
            assert record.input_tokens > 0, where
            is_streamed = text == MIDWAY and "whole" not in name
            assert (record.output_tokens > 0) is is_streamed, where
            assert record.cost_nano, where
