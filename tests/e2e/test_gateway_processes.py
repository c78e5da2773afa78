"""Gateways as processes: they follow an edit, finish what they began, and outlive their neighbours' troubles."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from routerplatform.embedded import EmbeddedError, Service, running, start_valkey
from tests.e2e.admin_person import AdminPerson
from tests.e2e.processes import Database, DemoProvider, GatewayProcess, Platform, wait_until
from tests.gateway import Gateway, Reply
from tests.stalls import PATIENCE_S, Stalls

pytestmark = pytest.mark.e2e

Outage = Callable[[Database], AbstractContextManager[None]]
SLOW = "[[tokens=20]] [[pace=50]]"  # about a second


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def chats(caller: Gateway, count: int, text: str = "Hello") -> list[Reply]:
    """So many requests at once, every other one a stream."""
    return await asyncio.gather(
        *(caller.chat(model="demo-swift", messages=user(text), stream=number % 2 == 0) for number in range(count))
    )


def all_answered(replies: list[Reply]) -> bool:
    return all(reply.status == 200 and (reply.done or not reply.events) and reply.text for reply in replies)


def ids(replies: list[Reply]) -> set[str]:
    return {reply.headers["x-request-id"] for reply in replies}


# --- one configuration ----------------------------------------------------------------------------------------------


async def test_an_edit_in_the_admin_routes_the_next_request_of_both_gateways_within_two_seconds(
    shared_platform: Platform,
    pair: tuple[GatewayProcess, GatewayProcess],
    session: aiohttp.ClientSession,
    stalls: Stalls,
) -> None:
    callers = [Gateway(process.url, session, shared_platform.key) for process in pair]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        person = AdminPerson(pair[0].url, browser)
        await person.sign_in(shared_platform.installation)
        before = [await caller.chat(model="auto") for caller in callers]
        assert {reply.headers["x-router-deployment"] for reply in before} == {"demo/demo-balanced"}

        for alias in ("demo-deep", "demo-balanced"):
            await put_first(person, shared_platform.database, alias)
            seconds = await asyncio.gather(
                *(seconds_until_served_by(caller, f"demo/{alias}", stalls) for caller in callers)
            )
            print(f"{alias} serves after {seconds[0]:.2f} s and {seconds[1]:.2f} s")
            assert max(seconds) <= 2

    after = {revision(await caller.chat(model="auto")) for caller in callers}
    assert len(after) == 1
    assert after.pop() >= max(map(revision, before)) + 2  # an edit counts for each row that it writes


def revision(reply: Reply) -> int:
    return int(reply.headers["x-router-config-revision"])


async def put_first(person: AdminPerson, database: Database, alias: str) -> None:
    """Have the default policy try `alias` first."""
    [(policy,)] = database.rows("SELECT id FROM routing_routingpolicy WHERE name = 'default'")
    [(chosen,)] = database.rows(f"SELECT id FROM routing_modelalias WHERE name = '{alias}'")  # noqa: S608
    page = f"/admin/routing/routingpolicy/{policy}/change/"
    form = await person.open(page)
    form.fields["candidates-0-alias"] = str(chosen)
    await person.save(page, form)


async def seconds_until_served_by(caller: Gateway, deployment: str, stalls: Stalls) -> float:
    """From now to the first request that is routed there."""
    watch = stalls.watch()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            asked = watch.seconds
            reply = await caller.chat(model="auto")
            if reply.headers["x-router-deployment"] == deployment:
                return asked
            await asyncio.sleep(0.02)


# --- an end, and a sudden end ---------------------------------------------------------------------------------------


async def under_way(provider: DemoProvider, *requests: Coroutine[Any, Any, Reply]) -> list[asyncio.Task[Reply]]:
    """These requests as tasks, once the provider works on every one of them."""
    already = provider.open_requests()
    tasks = [asyncio.create_task(request) for request in requests]
    while provider.open_requests() < already + len(tasks):
        assert not any(task.done() for task in tasks)
        await asyncio.sleep(0.02)
    return tasks


def streams(caller: Gateway, count: int, text: str) -> list[Coroutine[Any, Any, Reply]]:
    return [caller.stream(model="demo-swift", messages=user(text)) for _ in range(count)]


async def test_a_gateway_that_is_told_to_stop_finishes_its_streams_and_ships_its_records(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    process = platform.gateway()
    caller = Gateway(process.url, session, platform.key)
    tasks = await under_way(demo_provider, *streams(caller, 30, "[[tokens=40]] [[pace=40]]"))
    process.ask_to_stop()
    replies = await asyncio.gather(*tasks)
    assert await asyncio.to_thread(process.wait) == 0, process.text
    assert all_answered(replies)
    records = platform.database.records()
    assert records.keys() == ids(replies)
    assert {record.state for record in records.values()} == {"settled"}
    assert platform.journal_files() == set()
    assert "Traceback" not in process.text


async def test_answers_that_outlast_the_grace_are_told_so_and_billed_for_what_came(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession, stalls: Stalls
) -> None:
    process = platform.gateway(grace_s=1)
    caller = Gateway(process.url, session, platform.key)
    endless = "[[tokens=2000]] [[pace=20]]"
    body: dict[str, Any] = {"model": "demo-sage-mini", "messages": user(endless)}
    rest = [caller.post("/api/v1/chat", {**body, "stream": stream}) for stream in (True, False)]
    tasks = await under_way(demo_provider, *rest, *streams(caller, 5, endless), caller.chat(**body))
    watch = stalls.watch()
    process.ask_to_stop()
    cut = await asyncio.gather(*tasks)
    assert Counter(reply.status for reply in cut) == {200: 6, 503: 2}, "streams had begun"
    assert not any(reply.done for reply in cut)
    assert all(b"unavailable" in reply.body and b"The gateway is stopping" in reply.body for reply in cut)
    assert await asyncio.to_thread(process.wait) == 0
    assert "Traceback" not in process.text
    assert watch.seconds < 8
    records = platform.database.records().values()
    assert Counter(record.door for record in records) == {"chat-completions": 6, "rest": 2}
    assert {(record.state, record.usage_source) for record in records} == {("cancelled", "counted")}
    assert sum(record.output_tokens > 0 for record in records) == 6, "all streams"
    assert all(record.cost_nano for record in records)
    assert platform.journal_files() == set()


async def test_a_chat_that_outlasts_the_grace_is_told_so_and_billed_for_what_came(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    process = platform.gateway(grace_s=1)
    caller = Gateway(process.url, session, platform.key)
    async with opened_socket(caller) as socket:
        await socket.send_str(chat_message("[[tokens=2000]] [[pace=20]]"))
        frames = [json.loads(await socket.receive_str(timeout=PATIENCE_S)) for _ in range(6)]
        assert frames[-1]["type"] == "delta"
        process.ask_to_stop()
        while (message := await socket.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
            frames.append(json.loads(message.data))
        assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "unavailable")
        assert socket.close_code == aiohttp.WSCloseCode.SERVICE_RESTART
    await asyncio.to_thread(process.wait)
    [record] = platform.database.records().values()
    assert (record.door, record.state, record.usage_source) == ("websocket", "cancelled", "counted")
    assert record.output_tokens > 0
    assert platform.journal_files() == set()
    assert "Traceback" not in process.text


async def test_the_neighbour_adopts_a_killed_gateways_requests_within_two_seconds(
    shared_platform: Platform,
    caller: Gateway,
    demo_provider: DemoProvider,
    session: aiohttp.ClientSession,
    stalls: Stalls,
) -> None:
    living = shared_platform.journal_files()
    victim = shared_platform.gateway()
    assert len(shared_platform.journal_files() - living) == 1
    victims = Gateway(victim.url, session, shared_platform.key)
    answered = await chats(victims, 20)
    billed = demo_provider.bills().keys()
    tasks = await under_way(demo_provider, *streams(victims, 40, SLOW))
    watch = stalls.watch()
    victim.kill()
    await asyncio.gather(*tasks, return_exceptions=True)
    in_flight = demo_provider.bills().keys() - billed
    assert len(in_flight) == 40

    database = shared_platform.database
    wait_until(lambda: in_flight <= database.records().keys(), what="the dead gateway's requests")
    seconds = watch.seconds
    print(f"adopted after {seconds:.2f} s")
    assert seconds <= 2
    records = database.records()
    assert {records[request_id].state for request_id in in_flight} <= {"expired", "settled"}
    assert {records[request_id].state for request_id in ids(answered)} == {"settled"}
    wait_until(lambda: shared_platform.journal_files() == living, what="its journal is gone")
    assert all_answered(await chats(caller, 4))


# --- without the neighbours -----------------------------------------------------------------------------------------


async def test_everything_serves_without_any_redis(caller: Gateway, shared_platform: Platform) -> None:
    assert shared_platform.installation.env["REDIS_URL"] == ""
    assert all_answered(await chats(caller, 10))
    rest = await caller.post("/api/v1/chat", {"persona": "chatbot", "messages": user("Hello")})
    assert rest.status == 200
    assert rest.json["content"]
    assert (await socket_chat(caller))[-1]["type"] == "done"
    for path in ("/v1/models", "/api/v1/personas", "/api/v1/providers", "/health", "/health/ready"):
        assert (await caller.get(path)).status == 200, path


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Service]:
    """A Valkey of the test's own."""
    try:
        service = start_valkey(tmp_path / "valkey")
    except EmbeddedError as error:
        pytest.skip(str(error))
    with running(service):
        yield service


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes stand still: they take connections and answer nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_no_request_fails_while_redis_stands_still_or_is_gone(
    shared_platform: Platform, valkey: Service, session: aiohttp.ClientSession
) -> None:
    process = shared_platform.gateway(REDIS_URL=valkey.url)
    caller = Gateway(process.url, session, shared_platform.key)
    load = asyncio.create_task(chats(caller, 60, SLOW))
    await asyncio.sleep(0.3)
    with frozen(valkey.process.pid):
        replies = await chats(caller, 60)
        assert (await socket_chat(caller))[-1]["type"] == "done"
        assert process.probe() == 200
        replies += await load
    assert all_answered(replies)

    valkey.stop()
    assert all_answered(await chats(caller, 10))
    assert (await socket_chat(caller))[-1]["type"] == "done"
    process.stop()
    assert "Traceback" not in process.text


@contextmanager
def refused(database: Database) -> Iterator[None]:
    """Nobody is let into the database any more, and who is in is thrown out."""
    database.administer(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS false")
    database.end_sessions()
    try:
        yield
    finally:
        database.administer(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS true")


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """The database lets nobody go on: each statement waits."""
    if not database.is_postgresql:
        with closing(sqlite3.connect(database.name, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        return
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE analytics_usagerecord, routing_configrevision IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize("outage", [refused, locked])
async def test_requests_go_on_while_the_database_is_away_and_are_on_record_when_it_is_back(
    outage: Outage, platform: Platform, session: aiohttp.ClientSession
) -> None:
    if outage is refused and not platform.database.is_postgresql:
        pytest.skip("SQLite has no server that could refuse")
    process = platform.gateway()
    caller = Gateway(process.url, session, platform.key)
    replies = await chats(caller, 10)
    wait_until(lambda: ids(replies) <= platform.database.records().keys(), what="records before")
    with outage(platform.database):
        replies += await chats_for(caller, seconds=2.5)
        assert process.probe() == 200
    assert all_answered(replies)
    wait_until(lambda: ids(replies) <= platform.database.records().keys(), what="records of the outage")
    assert len(platform.database.records()) == len(replies)
    if outage is refused:
        assert "usage waits in the journal" in process.text
        assert "shipping works again" in process.text


async def chats_for(caller: Gateway, *, seconds: float) -> list[Reply]:
    """A few requests at a time, for so long."""
    replies = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        replies += await chats(caller, 4)
        await asyncio.sleep(0.1)
    return replies


async def test_a_gateway_that_starts_without_its_database_gets_ready_when_it_comes(platform: Platform) -> None:
    if not platform.database.is_postgresql:
        pytest.skip("SQLite has no server that could refuse")
    with refused(platform.database):
        process = platform.start()
        process.wait_for(lambda: process.probe() == 503)
        assert process.probe("/health/live") == 200
    seconds = wait_until(lambda: process.probe() == 200, what="ready")
    print(f"ready {seconds:.2f} s after the database")


# --- another server -------------------------------------------------------------------------------------------------


async def test_daphne_serves_chats_and_sockets_too(shared_platform: Platform, session: aiohttp.ClientSession) -> None:
    process = shared_platform.gateway(server="daphne")
    caller = Gateway(process.url, session, shared_platform.key)
    replies = await chats(caller, 4)
    assert all_answered(replies)
    frames = await socket_chat(caller)
    assert [frame["type"] for frame in frames if frame["type"] != "delta"] == [
        "ready",
        "start",
        "route",
        "usage",
        "done",
    ]
    assert "".join(frame["text"] for frame in frames if frame["type"] == "delta")
    expected = ids(replies) | {frames[1]["request_id"]}
    wait_until(lambda: expected <= shared_platform.database.records().keys(), what="records")


def opened_socket(caller: Gateway) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
    url, headers = caller.url.replace("http", "ws") + "/ws/chat/", {"authorization": f"Bearer {caller.key}"}
    return caller.session.ws_connect(url, headers=headers)


def chat_message(text: str) -> str:
    return json.dumps({"type": "chat", "id": "1", "persona": "chatbot", "messages": user(text)})


async def socket_chat(caller: Gateway) -> list[dict[str, Any]]:
    """One chat over a WebSocket; all frames, the greeting first."""
    frames: list[dict[str, Any]] = []
    async with opened_socket(caller) as socket:
        await socket.send_str(chat_message("Hello"))
        while not frames or frames[-1]["type"] not in {"done", "error"}:
            frames.append(json.loads(await socket.receive_str(timeout=PATIENCE_S)))
    return frames
