"""Callers who never stop: long streams over SSE and WebSocket, and short requests in between, all through one address.

What must not happen to anybody is a sentence in `Told.broken` (streams) or `Told.failed` (short requests).
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.gateway import Gateway
from tests.stalls import PATIENCE_S

SERVICE_RESTART = aiohttp.WSCloseCode.SERVICE_RESTART
PACE_MS = 200  # between two tokens of a stream
MODEL = "demo-swift"
AFTER_A_LOSS_S = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """When a stream was open, in `time.monotonic()`."""

    began: float
    ended: float


@dataclass(slots=True)
class Told:
    """What callers got. `moved`: chats that were sent again on a new socket, because the old one closed before it said
    that it had begun."""

    streams: list[Span] = field(default_factory=list)
    sockets: list[Span] = field(default_factory=list)
    answers: int = 0
    moved: int = 0
    broken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    request_ids: set[str] = field(default_factory=set)
    open_now: int = 0


@dataclass(slots=True)
class Crowd:
    """`streams` callers, every other one at a socket, whose streams take `seconds`; and `askers` of short requests."""

    gateway: Gateway
    streams: int
    askers: int
    seconds: tuple[float, float]
    seed: int
    told: Told = field(default_factory=Told)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Told]:
        """While the block runs; then everybody finishes what they have begun."""
        callers = [self._socket, self._stream]
        self._tasks = [
            asyncio.create_task(callers[number % 2](random.Random(self.seed + number)))
            for number in range(self.streams)
        ] + [asyncio.create_task(self._ask(number)) for number in range(self.askers)]
        try:
            yield self.told
            self._over.set()
            await asyncio.wait_for(asyncio.gather(*self._tasks), 4 * PATIENCE_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def all_open(self) -> None:
        """Until every caller of streams has one open at the same time."""
        async with asyncio.timeout(2 * PATIENCE_S):
            while self.told.open_now < self.streams * 0.9:  # noqa: ASYNC110 - a number, some are just between two
                await asyncio.sleep(0.02)

    # --- short requests ---

    async def _ask(self, number: int) -> None:
        """One after the other; every third on a connection of its own, every second streamed."""
        for turn in itertools.count(number):
            if self._over.is_set():
                return
            extra = {"connection": "close"} if turn % 3 == 0 else {}
            body = {"model": MODEL, "messages": _said(f"Hello {turn}"), "stream": turn % 2 == 0}
            try:
                reply = await self.gateway.post("/v1/chat/completions", body, extra=extra)
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._fail(repr(error))
                continue
            if reply.status != 200 or not reply.text or reply.done != body["stream"]:
                await self._fail(f"{reply.status} {reply.body[-300:]!r}")
                continue
            self.told.answers += 1
            self.told.request_ids.add(reply.headers["x-request-id"])
            await asyncio.sleep(0.02)

    async def _fail(self, how: str) -> None:
        self.told.failed.append(how)
        await asyncio.sleep(AFTER_A_LOSS_S)

    # --- streams ---

    async def _stream(self, rng: random.Random) -> None:
        while not self._over.is_set():
            tokens, began = self._tokens(rng), time.monotonic()
            body = {"model": MODEL, "messages": _long(tokens), "stream": True}
            url, is_done, is_open = f"{self.gateway.url}/v1/chat/completions", False, False
            try:
                async with self.gateway.session.post(url, json=body, headers=self.gateway.headers()) as response:
                    async for line in response.content:
                        if not is_open and b'"content"' in line:
                            is_open = True
                            self.told.open_now += 1
                        is_done |= line == b"data: [DONE]\n"
                        last = line
                if not is_done or response.status != 200:
                    await self._break(f"SSE {response.status}: ended with {last!r}")
                    continue
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._break(f"SSE: {error!r}")
                continue
            finally:
                self.told.open_now -= is_open
            self.told.streams.append(Span(began, time.monotonic()))
            self.told.request_ids.add(response.headers["x-request-id"])

    async def _socket(self, rng: random.Random) -> None:
        """One chat after the other on one socket, until it is closed; then on another one."""
        url = self.gateway.url.replace("http", "ws") + "/ws/chat/"
        while not self._over.is_set():
            try:
                headers = {"authorization": f"Bearer {self.gateway.key}"}
                async with self.gateway.session.ws_connect(url, headers=headers, max_msg_size=0) as socket:
                    for number in itertools.count():
                        if self._over.is_set() or not await self._chat(socket, str(number), self._tokens(rng)):
                            break
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                await self._break(f"socket: {error!r}")

    async def _chat(self, socket: aiohttp.ClientWebSocketResponse, chat_id: str, tokens: int) -> bool:
        """Whether the socket is still of use."""
        began, is_open = time.monotonic(), False
        chat = {"type": "chat", "id": chat_id, "model": MODEL, "messages": _long(tokens)}
        seen: list[str] = []
        try:
            await socket.send_json(chat)
            while True:
                message = await socket.receive(PATIENCE_S)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return self._socket_ended(socket, seen)
                frame = json.loads(message.data)
                if frame.get("id") != chat_id:  # `ready`
                    continue
                seen.append(frame["type"])
                if frame["type"] == "start":
                    self.told.request_ids.add(frame["request_id"])
                    is_open = True
                    self.told.open_now += 1
                elif frame["type"] == "done":
                    self.told.sockets.append(Span(began, time.monotonic()))
                    return True
                elif frame["type"] == "error":
                    self.told.broken.append(f"socket: {frame}")
                    return False
        except ConnectionResetError:  # it was closing when we sent
            return self._socket_ended(socket, seen)
        finally:
            self.told.open_now -= is_open

    def _socket_ended(self, socket: aiohttp.ClientWebSocketResponse, seen: list[str]) -> bool:
        if seen or socket.close_code != SERVICE_RESTART:
            self.told.broken.append(f"socket closed with {socket.close_code} after {seen}")
        else:
            self.told.moved += 1
        return False

    async def _break(self, how: str) -> None:
        self.told.broken.append(how)
        await asyncio.sleep(AFTER_A_LOSS_S)

    def _tokens(self, rng: random.Random) -> int:
        return int(rng.uniform(*self.seconds) * 1000 / PACE_MS)


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _long(tokens: int) -> list[dict[str, str]]:
    return _said(f"Tell me a story. [[tokens={tokens}]] [[pace={PACE_MS}]]")
