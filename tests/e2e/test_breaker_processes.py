"""Circuit breakers over four gateway processes and one Valkey: they open together, and one request tries for all."""

import asyncio
import subprocess
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from routerplatform.embedded import Service
from tests.e2e.processes import PYTHON, ROOT, Platform
from tests.gateway import Gateway, Reply
from tests.upstreams.scripted import Script, Upstream, hang, openai_answer, status
from tests.valkeys import own_valkey

pytestmark = pytest.mark.e2e

GATEWAYS = 4
DOWN = status(504, {"error": {"message": "down"}})  # is not tried twice, so that calls are requests
OPEN_S = 2


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Service]:
    with own_valkey(tmp_path / "valkey") as service:
        yield service


@pytest.fixture
async def fragile(platform: Platform) -> AsyncIterator[Upstream]:
    """The provider that fails, configured in the platform's own database."""
    upstream = Upstream(DOWN)
    await upstream.start()
    env = {**platform.installation.env, "DATABASE_URL": platform.database.url, "DATA_DIR": str(platform.folder)}
    added = await asyncio.to_thread(
        subprocess.run, [PYTHON, "-m", "tests.e2e.outage", upstream.url], cwd=ROOT, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    yield upstream
    await upstream.stop()


@pytest.fixture
async def callers(
    platform: Platform, valkey: Service, fragile: Upstream, session: aiohttp.ClientSession
) -> AsyncIterator[list[Gateway]]:
    """Somebody at each of the gateways."""
    options = {"REDIS_URL": valkey.url, "GATEWAY_PROCESSES": str(GATEWAYS), "CIRCUIT_BREAKER_TIMEOUT": str(OPEN_S)}
    processes = [platform.start(**options) for _ in range(GATEWAYS)]
    for process in processes:
        process.wait_ready()
    yield [Gateway(process.url, session, platform.key) for process in processes]
    assert not any("Traceback" in process.text for process in processes)


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


async def breakers(callers: list[Gateway]) -> set[str]:
    """What the gateways say of the fragile provider."""
    found = [(await caller.get("/v1/providers/status")).json["data"] for caller in callers]
    return {row["deployments"][0]["breaker"] for rows in found for row in rows if row["name"] == "fragile"}


async def until_breakers_are(callers: list[Gateway], wanted: str) -> None:
    for _ in range(1000):
        if await breakers(callers) == {wanted}:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not {wanted} everywhere: {await breakers(callers)}")


def _once(released: asyncio.Event) -> Script:
    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await released.wait()
        return await openai_answer()(request, body)

    return script


async def test_four_gateways_open_after_five_failures_in_total_and_send_one_probe(
    callers: list[Gateway], fragile: Upstream
) -> None:
    replies = [await callers[number % GATEWAYS].chat(model="fragile") for number in range(24)]
    assert 4 <= len(fragile.calls) <= 6
    assert statuses(replies) == {504: len(fragile.calls), 503: 24 - len(fragile.calls)}
    await until_breakers_are(callers, "open")

    await asyncio.sleep(OPEN_S)
    released = asyncio.Event()
    fragile.play(_once(released))
    fragile.calls.clear()
    asking = asyncio.as_completed([caller.chat(model="fragile") for caller in callers for _ in range(10)])
    assert statuses([await reply for reply in islice(asking, 39)]) == {503: 39}
    released.set()
    assert statuses([await reply for reply in asking]) == {200: 1}
    assert len(fragile.calls) == 1
    await until_breakers_are(callers, "closed")
    assert statuses([await caller.chat(model="fragile") for caller in callers]) == {200: GATEWAYS}


async def test_a_prober_that_is_killed_does_not_block_the_others_for_ever(
    callers: list[Gateway], fragile: Upstream, platform: Platform
) -> None:
    for _ in range(2):
        await asyncio.gather(*(caller.chat(model="fragile") for caller in callers))
    await until_breakers_are(callers, "open")
    await asyncio.sleep(OPEN_S)
    fragile.play(hang())
    fragile.calls.clear()
    probe = asyncio.create_task(callers[0].chat(model="fragile"))
    await until_breakers_are(callers[1:], "half_open")
    platform.started[0].kill()
    await asyncio.wait([probe])
    assert probe.exception() is not None
    fragile.play(openai_answer())

    async def is_answered() -> bool:
        return (await callers[1].chat(model="fragile")).status == 200

    for _ in range(100):
        if await is_answered():
            break
        await asyncio.sleep(0.25)
    await until_breakers_are(callers[1:], "closed")


async def test_an_outage_of_the_first_provider_costs_the_callers_nothing(
    callers: list[Gateway], fragile: Upstream, valkey: Service
) -> None:
    requests, at_once = 400, 8

    async def ask(numbers: range) -> list[Reply]:
        return [await callers[number % GATEWAYS].chat(model="outage") for number in numbers]

    parts = await asyncio.gather(*(ask(range(n, requests, at_once)) for n in range(at_once)))
    replies = [reply for part in parts for reply in part]
    assert statuses(replies) == {200: requests}
    attempts = sum(int(reply.headers["x-router-attempts"]) for reply in replies)
    assert attempts <= 1.2 * requests
    assert attempts - requests == len(fragile.calls)

    valkey.process.kill()
    assert statuses([await caller.chat(model="outage") for caller in callers for _ in range(10)]) == {200: 40}


WORKER = """
import sys
from providers.tasks import probe_open_breakers as probe
print("ready", flush=True)
for line in sys.stdin:
    print(sum(probe() for _ in range(2)), flush=True)
"""


@asynccontextmanager
async def a_worker(platform: Platform, valkey: Service) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """One that looks twice for somebody to try each time that it is told to, at once: it has started before."""
    env = {
        **platform.installation.env, "DATABASE_URL": platform.database.url, "DATA_DIR": str(platform.folder),
        "REDIS_URL": valkey.url, "CIRCUIT_BREAKER_TIMEOUT": str(OPEN_S),
    }  # fmt: skip
    argv = [PYTHON, "manage.py", "shell", "--no-imports", "-c", WORKER]
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE)
    assert process.stdin
    assert process.stdout
    told, says = process.stdin, process.stdout

    async def look() -> str:
        told.write(b"look\n")
        return (await says.readline()).decode().strip()

    assert await says.readline() == b"ready\n"
    yield look
    told.close()
    assert await process.wait() == 0


async def test_the_worker_tries_for_everybody_where_no_request_comes(
    callers: list[Gateway], fragile: Upstream, platform: Platform, valkey: Service
) -> None:
    async with a_worker(platform, valkey) as look:
        await _tried_by_the_worker(callers, fragile, look)
    await until_breakers_are(callers, "closed")


async def _tried_by_the_worker(callers: list[Gateway], fragile: Upstream, look: Callable[[], Awaitable[str]]) -> None:
    for _ in range(2):
        await asyncio.gather(*(caller.chat(model="fragile") for caller in callers))
    await until_breakers_are(callers, "open")
    fragile.play(openai_answer())
    fragile.calls.clear()
    assert await look() == "0", "a request may still come"
    await asyncio.sleep(OPEN_S + 5)
    assert await look() == "1"
    [call] = fragile.calls
    assert call.body["max_tokens"] == 16
