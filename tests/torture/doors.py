"""Callers at every door: many at once with little money, and some who leave in the middle."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp

from tests.torture.load import WORDS
from tests.torture.stage import Stage

DOORS: Final = ("http", "rest", "socket")
PATHS: Final = {"http": "/v1/chat/completions", "rest": "/api/v1/chat", "socket": "/ws/chat/"}
ANSWER: Final = 4000  # tokens; 200 such answers cost more than a dollar
STAY_S: Final = 1.5  # at most, before a caller leaves
WAVE: Final = 40  # callers who leave, at once


def body(model: str, max_tokens: int, *, stream: bool = True) -> dict[str, Any]:
    messages = [{"role": "user", "content": WORDS}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, "stream": stream}


class Caller:
    """Somebody with a key, at one of the gateways."""

    def __init__(self, session: aiohttp.ClientSession, port: int, key: str) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"
        self._headers = {"authorization": f"Bearer {key}"}

    async def ask(self, door: str, asked: dict[str, Any]) -> int:
        """The status of the whole answer; that of the error inside it, if there is one."""
        if door == "socket":
            return await self._chat(asked)
        async with self._session.post(self._url + PATHS[door], json=asked, headers=self._headers) as response:
            text = await response.text()
        is_whole = "[DONE]" in text or '"done"' in text
        return response.status if response.status != 200 or is_whole else 0

    async def _chat(self, asked: dict[str, Any]) -> int:
        async with self.socket() as socket:
            await socket.send_json({"type": "chat", "id": "1", **asked})
            while True:
                frame = json.loads(await socket.receive_str(timeout=30))
                if frame["type"] in {"done", "error"}:
                    return int(frame.get("status", 200))

    def socket(self) -> Any:
        return self._session.ws_connect(self._url.replace("http", "ws") + PATHS["socket"], headers=self._headers)

    # --- leaving: each gives the time at which the caller had gone ---

    async def leave_http(self, door: str, asked: dict[str, Any], stay_s: float) -> float:
        asking = asyncio.create_task(self.ask(door, asked))
        await asyncio.sleep(stay_s)
        asking.cancel()
        left_at = time.monotonic()
        with suppress(asyncio.CancelledError):
            await asking
        return left_at

    async def leave_socket(self, asked: dict[str, Any], stay_s: float, *, politely: bool) -> float:
        async with self.socket() as socket:
            await socket.send_json({"type": "chat", "id": "1", **asked})
            reading = asyncio.create_task(_read_all(socket))
            await asyncio.sleep(stay_s)
            left_at = time.monotonic()
            await (socket.send_json({"type": "stop", "id": "1"}) if politely else socket.close())
            await asyncio.sleep(1.0 if politely else 0.0)
            reading.cancel()
        return left_at


async def _read_all(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


def volley(stage: Stage, door: str, key: str, *, count: int) -> list[int]:
    """So many streamed requests at once, over both gateways; their statuses."""

    async def fire() -> list[int]:
        async with _session() as session:
            callers = [Caller(session, stage.ports[number % len(stage.ports)], key) for number in range(count)]
            return await asyncio.gather(*(caller.ask(door, body("fixed", ANSWER)) for caller in callers))

    return asyncio.run(fire())


def leave_at_random(stage: Stage, key: str, *, count: int, rng: random.Random) -> dict[int, float]:
    """When each of so many callers left, by the length of the answer that it had asked for."""
    return asyncio.run(_leavers(stage, key, count=count, rng=rng))


async def _leavers(stage: Stage, key: str, *, count: int, rng: random.Random) -> dict[int, float]:
    left: dict[int, float] = {}
    async with _session() as session:

        async def leave(number: int) -> None:
            caller = Caller(session, rng.choice(stage.ports), key)
            ways = _ways(caller)
            left[500 + number] = await ways[number % len(ways)](500 + number, rng.uniform(0, STAY_S))

        for first in range(0, count, WAVE):
            await asyncio.gather(*(leave(number) for number in range(first, min(first + WAVE, count))))
    return left


def _ways(caller: Caller) -> Sequence[Callable[[int, float], Awaitable[float]]]:
    return (
        lambda tokens, stay_s: caller.leave_http("http", body("slow", tokens), stay_s),
        lambda tokens, stay_s: caller.leave_http("http", body("slow", tokens, stream=False), stay_s),
        lambda tokens, stay_s: caller.leave_http("rest", body("slow", tokens), stay_s),
        lambda tokens, stay_s: caller.leave_http("rest", body("slow", tokens, stream=False), stay_s),
        lambda tokens, stay_s: caller.leave_socket(body("slow", tokens), stay_s, politely=True),
        lambda tokens, stay_s: caller.leave_socket(body("slow", tokens), stay_s, politely=False),
    )


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60))
