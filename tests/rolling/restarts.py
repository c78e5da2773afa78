"""Rolling restarts of two gateways behind nginx, with callers who must not notice any of them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from routerplatform.embedded import free_port
from tests.e2e.processes import GatewayProcess, Platform
from tests.gateway import Gateway
from tests.rolling.callers import Crowd, Span, Told
from tests.rolling.proxy import Nginx

ANNOUNCE_S = 4.0  # longer than nginx keeps idle connections (3 s)
DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int
    streams: int
    askers: int
    stream_s: tuple[float, float]  # shortest and longest stream


SHORT = Size(rounds=2, streams=20, askers=2, stream_s=(3, 7))
LONG = Size(rounds=20, streams=100, askers=4, stream_s=(5, 12))


@dataclass(slots=True)
class Outcome:
    """`spanning`: streams that were open when a gateway was told to stop, and ended after that, by restart."""

    rounds: int = 0
    restarts: int = 0
    streams: int = 0
    socket_chats: int = 0
    answers: int = 0
    moved: int = 0
    spanning: list[int] = field(default_factory=list)
    stop_s: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # exit codes, lost records, tracebacks

    @property
    def is_clean(self) -> bool:
        return not (self.broken or self.failed or self.odd)

    def figures(self) -> dict[str, Any]:
        return asdict(self)


async def roll(platform: Platform, size: Size, *, folder: Path, seed: int, say: Callable[[str], None]) -> Outcome:
    """Restart both gateways, one after the other, `size.rounds` times."""
    outcome, signalled = Outcome(), []
    ports = (free_port(), free_port())
    gateways = [await asyncio.to_thread(_start, platform, port) for port in ports]
    nginx = await asyncio.to_thread(Nginx, folder, ports)
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            crowd = Crowd(Gateway(nginx.url, session, platform.key), size.streams, size.askers, size.stream_s, seed)
            async with crowd.calling() as told:
                for number in range(size.rounds):
                    for index, port in enumerate(ports):
                        await crowd.all_open()
                        signalled.append(time.monotonic())
                        gateways[index] = await asyncio.to_thread(_restart, platform, gateways[index], port, outcome)
                    outcome.rounds += 1
                    say(_line(number + 1, told, outcome))
        for gateway in gateways:
            await asyncio.to_thread(_stop, gateway, outcome)
    finally:
        await asyncio.to_thread(nginx.stop)
    _count(outcome, told, signalled)
    outcome.odd += _lost(platform, told)
    return outcome


def _start(platform: Platform, port: int) -> GatewayProcess:
    return platform.gateway(port=port, announce_s=ANNOUNCE_S, grace_s=DRAIN_S)


def _restart(platform: Platform, gateway: GatewayProcess, port: int, outcome: Outcome) -> GatewayProcess:
    outcome.stop_s.append(_stop(gateway, outcome))
    began = time.monotonic()
    fresh = _start(platform, port)
    outcome.start_s.append(round(time.monotonic() - began, 2))
    outcome.restarts += 1
    return fresh


def _stop(gateway: GatewayProcess, outcome: Outcome) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    gateway.ask_to_stop()
    code = gateway.wait(timeout_s=DRAIN_S + 60)
    if code != 0:
        outcome.odd.append(f"exit code {code}")
    if "Traceback" in gateway.text or "is cut" in gateway.text:
        outcome.odd.append(gateway.text[-2000:])
    return round(time.monotonic() - began, 2)


def _count(outcome: Outcome, told: Told, signalled: list[float]) -> None:
    spans: list[Span] = told.streams + told.sockets
    outcome.streams, outcome.socket_chats = len(told.streams), len(told.sockets)
    outcome.answers, outcome.moved = told.answers, told.moved
    outcome.broken, outcome.failed = told.broken, told.failed
    outcome.spanning = [sum(span.began < at < span.ended for span in spans) for at in signalled]


def _lost(platform: Platform, told: Told) -> list[str]:
    """What callers got and the ledger does not have; there is nothing to wait for, gateways ship before they end."""
    records = platform.database.records()
    lost = told.request_ids - records.keys()
    unsettled = [record for record in records.values() if record.state != "settled"]
    journals = [path.name for path in platform.journal_files()]
    found = {"records are missing": lost, "records are not settled": unsettled, "journals are left": journals}
    return [f"{len(which)} {what}" for what, which in found.items() if which]


def _line(number: int, told: Told, outcome: Outcome) -> str:
    done = f"{len(told.streams)} SSE streams, {len(told.sockets)} socket chats, {told.answers} short answers"
    ills = f"{len(told.broken)} broken, {len(told.failed)} failed, {told.moved} moved"
    return f"round {number}: {done}; {ills}; stops {outcome.stop_s[-2:]} s, starts {outcome.start_s[-2:]} s"
