"""Callers who do not stop: chat requests to several gateways all the time, and what became of each of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from typing import Any, NamedTuple

import aiohttp

from tests.e2e.processes import GatewayProcess
from tests.gateway import Gateway
from tests.stalls import PATIENCE_S

PACE_S = 0.1  # of each gateway, from one request to the next; more on a busy machine
AUTO_EVERY = 10  # so many requests to the persona, then one to “auto”


class Answered(NamedTuple):
    """`talk` names the conversation, `revision` is the configuration that the request was decided by."""

    talk: str
    gateway: int
    request_id: str
    revision: int
    is_stream: bool


@dataclass(slots=True)
class Traffic:
    """Begun by `start`. All conversations have their turn, again and again, and each meets every gateway.

    `answers` are the whole ones; what else happened to a request is a sentence in `failures`.
    """

    gateways: Sequence[GatewayProcess]
    key: str = field(repr=False)
    persona: str
    talks: int
    answers: list[Answered] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self) -> None:
        self._thread = Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last answer has come. May be said twice."""
        self._over.set()
        if self._thread:
            self._thread.join(2 * PATIENCE_S)
            assert not self._thread.is_alive(), "a request never ended"

    def decided_by(self, first: int, last: int | None = None) -> list[Answered]:
        """The answers of these configurations, `last` included; without it all since `first`."""
        return [one for one in list(self.answers) if first <= one.revision and (last is None or one.revision <= last)]

    def whole_round(self, revision: int) -> None:
        """Until every conversation of the persona had an answer by this configuration or a later one.

        However slow the machine is; only a silence of a minute is a failure, and so is any request that failed.
        """
        known, heard = -1, time.monotonic()
        while len({one.talk for one in self.decided_by(revision) if one.talk.startswith(self.persona)}) < self.talks:
            assert self.failures == []
            if len(self.answers) != known:
                known, heard = len(self.answers), time.monotonic()
            assert time.monotonic() - heard < PATIENCE_S, f"no answer for {PATIENCE_S} s"
            time.sleep(0.05)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._call(number, session) for number in range(len(self.gateways))))

    async def _call(self, number: int, session: aiohttp.ClientSession) -> None:
        """One request after the other at one gateway; gateways begin at different conversations."""
        caller = Gateway(self.gateways[number].url, session, self.key)
        for turn in count(number * self.talks // len(self.gateways)):
            if self._over.is_set():
                return
            began = asyncio.get_running_loop().time()
            await self._ask(caller, number, self.persona, turn)
            if turn % AUTO_EVERY == 0:
                await self._ask(caller, number, "auto", turn)
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(0.0, PACE_S - took))

    async def _ask(self, caller: Gateway, number: int, model: str, turn: int) -> None:
        talk, is_stream = f"{model}-{turn % self.talks}", turn % 2 == 0
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"Hello from {talk}."}]}
        try:
            reply = await caller.chat(**asked, stream=is_stream)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{talk}: {error!r}")
            return
        if reply.status != 200 or reply.done != is_stream or not reply.text:
            self.failures.append(f"{talk}: {reply.status} {reply.body[-300:]!r}")
            return
        told = reply.headers
        revision = int(told["x-router-config-revision"])
        self.answers.append(Answered(talk, number, told["x-router-decision-id"], revision, is_stream))
