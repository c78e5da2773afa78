"""Rate limits over two gateway processes: one limit, entered in the admin, counted in one Redis that may go away."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from routerplatform.embedded import Service
from tests.e2e.admin_person import AdminPerson
from tests.e2e.processes import Database, DemoProvider, Platform
from tests.gateway import HELLO, Gateway, Reply
from tests.valkeys import frozen, own_valkey

pytestmark = pytest.mark.e2e
SLOW = [{"role": "user", "content": "[[tokens=20]] [[pace=50]]"}]  # about a second
ENDLESS = [{"role": "user", "content": "[[tokens=2000]] [[pace=50]]"}]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Service]:
    with own_valkey(tmp_path / "valkey") as service:
        yield service


@pytest.fixture
async def callers(platform: Platform, valkey: Service, session: aiohttp.ClientSession) -> AsyncIterator[list[Gateway]]:
    """Somebody at each of two gateways, which share a Redis."""
    processes = [platform.start(REDIS_URL=valkey.url, GATEWAY_PROCESSES="2") for _ in range(2)]
    for process in processes:
        process.wait_ready()
    yield [Gateway(process.url, session, platform.key) for process in processes]
    assert not any("Traceback" in process.text for process in processes)


async def limit(callers: list[Gateway], platform: Platform, table: str, name: str, **limits: int) -> None:
    """Enter limits in the admin; comes back when they are in force everywhere."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        person = AdminPerson(callers[0].url, browser)
        await person.sign_in(platform.installation)
        page = f"/admin/routing/{table}/{_id_of(platform.database, table, name)}/change/"
        form = await person.open(page)
        form.fields |= {column: str(value) for column, value in limits.items()}
        await person.save(page, form)
    [(revision,)] = platform.database.rows("SELECT revision FROM routing_configrevision")
    for _ in range(600):
        if all([(await caller.get("/health")).json["config_revision"] >= revision for caller in callers]):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the edit is not followed")


def _id_of(database: Database, table: str, name: str) -> int:
    [(found,)] = database.rows(f"SELECT id FROM routing_{table} WHERE name = '{name}'")  # noqa: S608 - names of ours
    return int(found)


def _team_of_key(platform: Platform) -> str:
    prefix = platform.key.split("_")[1]
    query = "SELECT t.name FROM routing_team t JOIN routing_virtualkey k ON k.team_id = t.id WHERE k.prefix = "
    [(name,)] = platform.database.rows(f"{query}'{prefix}'")
    return str(name)


async def at_once(callers: list[Gateway], times: int, **body: Any) -> list[Reply]:
    """So many requests at each gateway."""
    asked = {"model": "demo-swift", "messages": HELLO, **body}
    return await asyncio.gather(*(caller.chat(**asked) for caller in callers for _ in range(times)))


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


async def test_two_gateways_let_exactly_the_limit_through(platform: Platform, callers: list[Gateway]) -> None:
    await limit(callers, platform, "modelalias", "demo-swift", rpm_limit=60)
    assert statuses(await at_once(callers, 100)) == {200: 60, 429: 140}


async def test_no_request_fails_when_redis_is_frozen_or_killed_under_load(
    platform: Platform, callers: list[Gateway], valkey: Service
) -> None:
    plenty = {"rpm_limit": 100_000, "tpm_limit": 1_000_000_000, "max_parallel_requests": 1_000}
    await limit(callers, platform, "team", _team_of_key(platform), **plenty)
    load = asyncio.create_task(at_once(callers, 30, messages=SLOW, stream=True))
    await asyncio.sleep(0.4)
    with frozen(valkey):
        replies = await at_once(callers, 60)
        replies += await load
    assert statuses(replies) == {200: len(replies)}
    assert all("x-ratelimit-limit-requests" in reply.headers for reply in replies)

    load = asyncio.create_task(at_once(callers, 30, messages=SLOW, stream=True))
    await asyncio.sleep(0.4)
    valkey.process.kill()
    replies = await at_once(callers, 60) + await load
    assert statuses(replies) == {200: len(replies)}


async def test_a_killed_gateway_gives_its_slots_back(
    platform: Platform, callers: list[Gateway], demo_provider: DemoProvider
) -> None:
    """Not at once: its slots lapse. Until then the others do with what is left, and nobody gets more."""
    await limit(callers, platform, "modelalias", "demo-swift", max_parallel_requests=6)
    first = asyncio.create_task(at_once(callers[:1], 4, messages=ENDLESS, stream=True))
    await demo_provider.reached(4)
    platform.started[0].kill()
    await asyncio.wait([first])
    assert first.exception() is not None, "its callers see it"
    replies = await at_once(callers[1:], 6, messages=SLOW, stream=True)
    assert statuses(replies) == {200: 2, 429: 4}
