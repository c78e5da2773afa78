"""A stop signal, step by step: announced, no new connections, drained, cut. Real processes, slow to start."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.e2e.processes import DemoProvider, GatewayProcess, Platform, wait_until
from tests.gateway import Gateway
from tests.stalls import PATIENCE_S, Stalls

pytestmark = pytest.mark.e2e
SLOW = "[[tokens=60]] [[pace=50]]"
ENDLESS = "[[tokens=4000]] [[pace=20]]"


def chat_body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo-swift", "messages": [{"role": "user", "content": text}], **more}


def raw_request(path: str = "/health/live", *, connection: str = "keep-alive") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: {connection}\r\n\r\n".encode()


def connected(process: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_S)


def received(connection: socket.socket) -> bytes:
    """All until the other side closes."""
    parts = []
    with connection:
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def refuses(process: GatewayProcess) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", process.port), timeout=5):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:  # not answered: it is just closing
        return False


@asynccontextmanager
async def open_socket(caller: Gateway) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url, headers = caller.url.replace("http", "ws") + "/ws/chat/", {"authorization": f"Bearer {caller.key}"}
    async with caller.session.ws_connect(url, headers=headers) as ws:
        assert (await ws.receive_json(timeout=PATIENCE_S))["type"] == "ready"
        yield ws


async def frames_until_closed(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    frames = []
    while (message := await ws.receive(PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
        frames.append(json.loads(message.data))
    return frames


async def test_a_stop_is_announced_while_requests_are_still_served(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    process = platform.gateway(announce_s=6, grace_s=60)
    caller = Gateway(process.url, session, platform.key)
    stream = asyncio.create_task(caller.stream(**chat_body("[[tokens=120]] [[pace=100]]")))
    await demo_provider.reached()
    process.ask_to_stop()
    await asyncio.to_thread(wait_until, lambda: process.probe() == 503, what="it says that it stops")

    ready = await caller.get("/health/ready")
    assert (ready.status, ready.json) == (503, {"status": "stopping"})
    assert ready.headers["connection"] == "close"
    assert process.probe("/health/live") == 200
    answer = await caller.chat(**chat_body("Hello"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")

    await asyncio.to_thread(wait_until, lambda: refuses(process), what="nobody is let in any more")
    assert not stream.done(), "drained, not cut"
    assert (await stream).done
    assert await asyncio.to_thread(process.wait) == 0
    assert "Traceback" not in process.text
    assert len(platform.database.records()) == 2


async def test_whoever_waits_in_the_queue_of_the_listener_is_served(platform: Platform) -> None:
    process = platform.gateway()
    os.kill(process.pid, signal.SIGSTOP)
    waiting = [connected(process) for _ in range(40)]
    for connection in waiting:
        connection.sendall(raw_request(connection="close"))
    process.ask_to_stop()
    os.kill(process.pid, signal.SIGCONT)
    answers = await asyncio.gather(*(asyncio.to_thread(received, connection) for connection in waiting))
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 40
    assert await asyncio.to_thread(process.wait) == 0


async def test_a_connection_that_was_just_made_or_used_gets_one_more_answer_and_then_ends(platform: Platform) -> None:
    process = platform.gateway(announce_s=4, grace_s=60)
    used, fresh = connected(process), connected(process)
    used.sendall(raw_request())
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        answer += await asyncio.to_thread(used.recv, 4096)
    process.ask_to_stop()
    await asyncio.to_thread(wait_until, lambda: process.probe() == 503, what="it says that it stops")
    for connection in (used, fresh):
        connection.sendall(raw_request())
        answer = await asyncio.to_thread(received, connection)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
    assert await asyncio.to_thread(process.wait) == 0


async def test_idle_sockets_are_closed_and_a_running_chat_gets_its_end_first(
    platform: Platform, session: aiohttp.ClientSession
) -> None:
    process = platform.gateway(grace_s=60)
    caller = Gateway(process.url, session, platform.key)
    async with open_socket(caller) as idle, open_socket(caller) as busy:
        await busy.send_json({"type": "chat", "id": "1", **chat_body(SLOW)})
        while (await busy.receive_json(timeout=PATIENCE_S))["type"] != "delta":
            pass
        process.ask_to_stop()
        assert await frames_until_closed(idle) == []
        assert idle.close_code == aiohttp.WSCloseCode.SERVICE_RESTART

        await busy.send_json({"type": "chat", "id": "2", **chat_body("Hello")})
        frames = await frames_until_closed(busy)
        assert busy.close_code == aiohttp.WSCloseCode.SERVICE_RESTART
    [refused] = [frame for frame in frames if frame["id"] == "2"]
    assert (refused["type"], refused["code"]) == ("error", "unavailable")
    assert [frame["type"] for frame in frames if frame["id"] == "1"][-1] == "done"
    assert await asyncio.to_thread(process.wait) == 0
    assert {record.state for record in platform.database.records().values()} == {"settled"}
    assert "Traceback" not in process.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_cuts_at_once_and_loses_no_record(
    number: signal.Signals,
    platform: Platform,
    demo_provider: DemoProvider,
    session: aiohttp.ClientSession,
    stalls: Stalls,
) -> None:
    process = platform.gateway(announce_s=100, grace_s=100)
    caller = Gateway(process.url, session, platform.key)
    stream = asyncio.create_task(caller.stream(**chat_body(ENDLESS)))
    await demo_provider.reached()
    process.ask_to_stop()
    await asyncio.to_thread(wait_until, lambda: process.probe() == 503, what="it says that it stops")
    watch = stalls.watch()
    os.kill(process.pid, number)
    reply = await stream
    assert reply.error["code"] == "unavailable"
    assert await asyncio.to_thread(process.wait) == 0
    assert watch.seconds < 8
    [record] = platform.database.records().values()
    assert (record.state, record.usage_source) == ("cancelled", "counted")
    assert platform.journal_files() == set()
