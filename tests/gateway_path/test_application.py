"""The application as a server and its callers see it: probes, framing, limits, who may come in, faults of our own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from pytest_django import Settings

from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtimes
from routerplatform.static_files import with_static_files
from routing.domain.config import Scope
from routing.models import Team, VirtualKey
from routing.services import key_revoke
from tests import gateway as configure
from tests.factories import TeamFactory, key_text_of
from tests.gateway import HELLO, Gateway, records, serving
from tests.gateway_path.changes import changed, provider_set
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, hang, openai_answer, openai_stream

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CHAT = "/v1/chat/completions"


@pytest.fixture
def small_bodies(settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 1_000


# --- bytes on a connection ----------------------------------------------------------------------------------------


@asynccontextmanager
async def connection_to(gateway: Gateway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    yield reader, writer
    writer.close()
    await writer.wait_closed()


def request_bytes(gateway: Gateway, method: str, path: str, body: bytes = b"", *, head: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if not head else ""
    lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n{length}{head}\r\n"
    return lines.encode() + body


async def next_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next reply on the connection, whole by its length."""
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        return int(head.split(" ")[1]), await reader.readexactly(length)


def chat_bytes(gateway: Gateway, **body: Any) -> bytes:
    return request_bytes(gateway, "POST", CHAT, json.dumps({"messages": HELLO, **body}).encode())


async def test_requests_in_a_row_on_one_connection_are_answered_in_order(gateway: Gateway) -> None:
    async with connection_to(gateway) as (reader, writer):
        for model in ("swift", "nobody", "sage"):
            writer.write(chat_bytes(gateway, model=model))
            status, body = await next_reply(reader)
            assert status == (404 if model == "nobody" else 200), body
    assert {record.state for record in await records(2)} == {"settled"}


async def test_requests_sent_before_the_answer_to_the_first_are_answered_in_order(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    async with connection_to(gateway) as (reader, writer):
        writer.write(b"".join(chat_bytes(gateway, model=model) for model in ("swift", "sage", "swift")))
        answers = [json.loads((await next_reply(reader))[1]) for _ in range(3)]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts == ["Hello", "Bonjour", "Hello"]
    found = await records(3)
    assert [record.state for record in found] == ["settled"] * 3
    assert len(openai_upstream.calls) == 2


@pytest.mark.parametrize("path", [CHAT, "/api/v1/chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_at_once_is_noticed_and_billed(
    gateway: Gateway, openai_upstream: Upstream, path: str, stream: bool
) -> None:
    openai_upstream.play(hang())
    body = json.dumps({"model": "swift", "messages": HELLO, "stream": stream}).encode()
    async with connection_to(gateway) as (_, writer):
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(request_bytes(gateway, "POST", path, body, head=head).replace(b"host: x", b"host: 127.0.0.1"))
        await openai_upstream.asked()
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    [record] = await records()
    assert (record.state, record.http_status, record.usage_source) == ("cancelled", 499, "counted")


async def test_a_request_that_waits_behind_a_slow_one_is_answered(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("one ", "by ", "one", pause_s=0.1), openai_answer())
    async with connection_to(gateway) as (reader, writer):
        writer.write(chat_bytes(gateway, model="swift", stream=True))
        await asyncio.sleep(0.15)  # by now the first caller is watched, which reads on from the connection
        writer.write(chat_bytes(gateway, model="swift"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n0\r\n\r\n")
        assert (await next_reply(reader))[0] == 200
    assert [record.state for record in await records(2)] == ["settled"] * 2


@pytest.mark.usefixtures("small_bodies")
async def test_a_body_over_the_cap_is_refused_though_its_length_was_not_told(gateway: Gateway) -> None:
    async with connection_to(gateway) as (reader, writer):
        writer.write(request_bytes(gateway, "POST", CHAT, head="transfer-encoding: chunked\r\n"))
        for _ in range(3):
            writer.write(b"190\r\n" + b" " * 400 + b"\r\n")
        status, body = await next_reply(reader)
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")
    assert "1,000 bytes" in json.loads(body)["error"]["message"]


@pytest.mark.usefixtures("small_bodies")
@pytest.mark.parametrize("path", ["/api/v1/chat", "/login/"])
@pytest.mark.parametrize("head", ["transfer-encoding: chunked\r\n", "content-length: 100000\r\n"])
async def test_no_page_keeps_a_body_over_the_cap_for_whoever_sends_it(gateway: Gateway, path: str, head: str) -> None:
    """Django would put it on the disk, and the REST API from there into memory, before asking who sends it."""
    async with connection_to(gateway) as (reader, writer):
        writer.write(f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n".encode())
        for _ in range(3):
            writer.write(b"190\r\n" + b" " * 400 + b"\r\n")
        status, body = await next_reply(reader)
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")


@pytest.mark.usefixtures("small_bodies")
async def test_a_page_reads_a_body_of_just_the_cap(gateway: Gateway) -> None:
    body = json.dumps({"model": "swift", "messages": HELLO}).encode()
    assert (await gateway.post("/api/v1/chat", body.ljust(1_000))).status == 200
    assert (await gateway.post("/api/v1/chat", body.ljust(1_001))).status == 413


@pytest.mark.usefixtures("small_bodies")
async def test_a_body_of_just_the_cap_is_read(gateway: Gateway) -> None:
    body = json.dumps({"model": "swift", "messages": HELLO}).encode()
    assert (await gateway.post(CHAT, body.ljust(1_000))).status == 200
    assert (await gateway.post(CHAT, body.ljust(1_001))).status == 413


async def test_a_body_of_twenty_mebibytes_passes(gateway: Gateway, openai_upstream: Upstream) -> None:
    size = 20 * 1024 * 1024
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    frame = json.dumps({"model": "swift", "messages": [{"role": "user", "content": image}]})
    body = frame.replace("base64,", "base64," + "y" * (size - len(frame)))
    async with gateway.session.post(
        gateway.url + CHAT, data=BytesIO(body.encode()), headers=gateway.headers()
    ) as reply:
        assert (reply.status, len(body)) == (200, size)
    sent = openai_upstream.calls[0].body["messages"][0]["content"][0]["image_url"]["url"]
    assert len(sent) == size - len(frame) + len("data:image/png;base64,")


async def test_a_caller_who_hangs_up_while_sending_is_nobodys_fault(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with connection_to(gateway) as (_, writer):
        writer.write(request_bytes(gateway, "POST", CHAT, head="content-length: 500\r\n") + b'{"messages"')
        await writer.drain()
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    assert [entry for entry in caplog.records if entry.levelname in {"ERROR", "WARNING"}] == []
    assert (await gateway.chat(model="swift")).status == 200
    assert len(await records()) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_a_405_in_openais_shape_that_names_the_right_one(gateway: Gateway, method: str) -> None:
    async with gateway.session.request(method, gateway.url + CHAT, headers=gateway.headers()) as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
        error = (await response.json())["error"]
        assert (error["code"], error["message"]) == ("method_not_allowed", f"{method} is not possible here, only POST.")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/swift"])
async def test_lists_are_only_read(gateway: Gateway, path: str) -> None:
    reply = await gateway.post(path, {})
    assert (reply.status, reply.headers["allow"], reply.error["code"]) == (405, "GET", "method_not_allowed")


async def test_a_head_request_gets_no_body_and_leaves_the_connection_usable(gateway: Gateway) -> None:
    async with connection_to(gateway) as (reader, writer):
        writer.write(request_bytes(gateway, "HEAD", "/v1/models"))
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()
        assert head.startswith("HTTP/1.1 405 ")
        writer.write(request_bytes(gateway, "GET", "/v1/models"))
        status, body = await next_reply(reader)
    assert (status, json.loads(body)["object"]) == (200, "list")


@pytest.mark.parametrize("path", ["/v1/", "/v1/models/a/b", "/v1//models", "/v1/modèles"])
async def test_an_unknown_path_of_the_door_is_a_404_with_an_id_to_quote(gateway: Gateway, path: str) -> None:
    reply = await gateway.get(path)
    assert reply.status == 404
    assert reply.json["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models"])
async def test_a_closing_slash_changes_nothing(gateway: Gateway, path: str) -> None:
    assert (await gateway.get(path)).status == 200


# --- pages and probes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/health/ready", 200), ("/health/other", 404), ("/nowhere/", 404)]
)
async def test_probes_and_unknown_pages(gateway: Gateway, path: str, status: int) -> None:
    reply = await gateway.get(path, key="")
    assert reply.status == status
    if path.startswith("/health/"):
        assert reply.headers["cache-control"] == "no-store"


async def test_static_files_are_served_beside_the_pages(
    transactional_db: None, settings: Settings, tmp_path: Path
) -> None:
    settings.JOURNAL_DIR = tmp_path / "journal"
    whole = Application(runtimes=Runtimes(build_runtime), pages=with_static_files(pages), sockets=socket_application())
    async with serving(whole) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/static/css/base.css") as response:
            assert (response.status, response.content_type) == (200, "text/css")
            assert len(await response.read()) > 0
        for hidden in ("/static/none.css", "/static/css/", "/static/%2e%2e/manage.py", "/static/..%2fmanage.py"):
            async with session.get(url + hidden) as response:
                assert response.status == 404


async def test_a_server_that_announces_nothing_is_served_from_the_first_request_on(
    transactional_db: None, application: Application
) -> None:
    """Daphne has no lifespan: the runtime starts with whoever comes first, once for all who come together."""
    replies: list[list[dict[str, Any]]] = [[], [], []]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def probe(sent: list[dict[str, Any]]) -> None:
        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/health/ready", "headers": []}
        await application(scope, receive, send)

    await asyncio.gather(*(probe(sent) for sent in replies))
    assert [sent[0]["status"] for sent in replies] == [200, 200, 200]
    await lifespan(application, "shutdown")


async def lifespan(application: Application, *steps: str) -> list[str]:
    """What the application says to a server that starts or stops."""
    queue = [{"type": f"lifespan.{step}"} for step in steps]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    await application({"type": "lifespan"}, receive, send)
    return sent


async def test_a_start_and_a_stop_are_both_confirmed(transactional_db: None, application: Application) -> None:
    assert await lifespan(application, "startup", "shutdown") == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_a_stop_before_any_start_is_harmless(application: Application) -> None:
    assert await lifespan(application, "shutdown") == ["lifespan.shutdown.complete"]


async def test_a_stop_waits_until_a_stream_is_whole_and_on_record(
    transactional_db: None, application: Application, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream("to ", "the ", "end", pause_s=0.1))
    key = await sync_to_async(_one_vendor)(openai_upstream.url)
    async with aiohttp.ClientSession() as session:
        async with serving(application) as url:
            running = asyncio.create_task(Gateway(url, session, key).stream(model="swift"))
            await openai_upstream.asked()
        reply = await running
    assert (reply.text, reply.done) == ("to the end", True)
    [record] = await records()
    assert (record.state, record.usage_source) == ("settled", "provider")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_leaves_no_caller_of_the_rest_api_waiting(
    transactional_db: None, application: Application, openai_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(openai_stream(*["word "] * 100, pause_s=0.1) if stream else hang())
    key = await sync_to_async(_one_vendor)(openai_upstream.url)
    async with aiohttp.ClientSession() as session, serving(application) as url:
        body = {"model": "swift", "messages": HELLO, "stream": stream}
        running = asyncio.create_task(Gateway(url, session, key).post("/api/v1/chat", body))
        await openai_upstream.asked()
        await asyncio.sleep(0.2)
        assert await lifespan(application, "shutdown") == ["lifespan.shutdown.complete"]
        reply = await asyncio.wait_for(running, PATIENCE_S)
    assert reply.status == (200 if stream else 503)
    assert b"The gateway is stopping" in reply.body
    assert [record.state for record in await records()] == ["cancelled"]


def _one_vendor(url: str) -> str:
    configure.alias("swift", *configure.vendor("alpha", url, "swift-1"))
    return configure.key(1)


# --- before there is a configuration ------------------------------------------------------------------------------


@pytest.fixture
def hidden_tables(transactional_db: None) -> Any:
    """A database that is there but has not been migrated yet: the gateway may not serve, and may not fall over."""

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    table = VirtualKey._meta.db_table
    rename(table, "hidden_for_a_test")
    yield lambda: rename("hidden_for_a_test", table)
    if table not in connection.introspection.table_names():
        rename("hidden_for_a_test", table)


async def test_without_a_configuration_every_door_says_503_and_then_recovers(
    hidden_tables: Any, application: Application
) -> None:
    async with serving(application) as url, aiohttp.ClientSession() as session:
        gateway = Gateway(url, session, key_text_of(1))
        ready = await gateway.get("/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "starting")
        assert (await gateway.get("/health/live")).status == 200
        for reply in (
            await gateway.chat(model="swift"),
            await gateway.stream(model="swift"),
            await gateway.get("/v1/models"),
            await gateway.post("/api/v1/chat", {"messages": HELLO}),
            await gateway.get("/api/v1/personas"),
        ):
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "unavailable", "1")
            assert "virtualkey" not in reply.body.decode().lower(), "a database's own words are for its operator"
        await sync_to_async(hidden_tables)()
        for _ in range(600):
            if (await gateway.get("/health/ready")).status == 200:
                break
            await asyncio.sleep(0.05)
        assert (await gateway.chat(model="swift")).error["code"] == "invalid_api_key"


# --- who may come in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        lambda: configure.key(2, expires_at=LONG_AGO),
        lambda: configure.key(2, revoked_at=LONG_AGO),
        lambda: configure.key(2, TeamFactory(is_active=False)),
    ],
    ids=["expired", "revoked", "team switched off"],
)
async def test_a_key_out_of_force_gets_the_same_answer_as_one_that_never_was(gateway: Gateway, edit: Any) -> None:
    await changed(gateway, edit)
    never = await gateway.chat(key=key_text_of(99))
    for reply in (
        await gateway.chat(key=key_text_of(2)),
        await gateway.get("/v1/models", key=key_text_of(2)),
    ):
        assert (reply.status, reply.json["error"]) == (401, never.json["error"])


async def test_a_key_that_expires_later_is_good_until_then(gateway: Gateway) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    await changed(gateway, lambda: configure.key(2, expires_at=soon))
    assert (await gateway.chat(model="swift", key=key_text_of(2))).status == 200
    await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.01)
    assert (await gateway.chat(model="swift", key=key_text_of(2))).status == 401


async def test_revoking_a_key_and_switching_a_team_off_stop_its_traffic(gateway: Gateway) -> None:
    await changed(gateway, lambda: key_revoke(key=VirtualKey.objects.get(), by=None))
    assert (await gateway.chat(model="swift")).status == 401
    await changed(gateway, lambda: configure.key(2))
    assert (await gateway.chat(model="swift", key=key_text_of(2))).status == 200

    def switch_off() -> None:
        team = Team.objects.get(keys__prefix=key_text_of(2).split("_")[1])
        team.is_active = False
        team.save()

    await changed(gateway, switch_off)
    assert (await gateway.chat(model="swift", key=key_text_of(2))).status == 401


@pytest.mark.parametrize(
    ("scopes", "chat", "models"),
    [([Scope.CHAT], 200, 403), ([Scope.MODELS], 403, 200), ([Scope.USAGE], 403, 403), ([], 403, 403)],
)
async def test_a_key_may_do_what_its_scopes_say(
    gateway: Gateway, openai_upstream: Upstream, scopes: list[str], chat: int, models: int
) -> None:
    await changed(gateway, lambda: configure.key(2, scopes=[str(scope) for scope in scopes]))
    key = key_text_of(2)
    chatted, listed = await gateway.chat(model="swift", key=key), await gateway.get("/v1/models", key=key)
    assert (chatted.status, listed.status) == (chat, models)
    for reply, scope in ((chatted, "chat"), (listed, "models")):
        if reply.status == 403:
            assert (reply.error["code"], reply.error["type"]) == ("permission_denied", "permission_error")
            assert f"“{scope}”" in reply.error["message"]
    assert len(openai_upstream.calls) == (1 if chat == 200 else 0)


async def test_a_body_is_not_even_read_for_a_stranger(gateway: Gateway) -> None:
    async with connection_to(gateway) as (reader, writer):
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
        writer.write(head.encode())
        status, _ = await next_reply(reader)
    assert status == 401


# --- faults of our own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_a_500_to_quote_is_logged_once_and_costs_nothing(
    gateway: Gateway, openai_upstream: Upstream, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """A column that no form lets through: the guard cannot read which networks are allowed, and opens nothing."""
    await changed(gateway, lambda: provider_set("alpha", allowed_networks="nonsense"))
    reply = await gateway.chat(model="swift", stream=stream)
    assert (reply.status, reply.error["code"], reply.error["type"]) == (500, "internal_error", "server_error")
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    assert "nonsense" not in reply.body.decode()
    logged = [e for e in caplog.records if e.levelname == "ERROR" and e.name.startswith("routerplatform")]
    assert [reply.headers["x-request-id"] in entry.getMessage() for entry in logged] == [True]
    assert logged[0].exc_info
    assert [call for call in openai_upstream.calls if call.path == "/v1/chat/completions"] == []
    [record] = await records()
    assert (record.state, record.http_status, record.error_code) == ("released", 500, "internal_error")
    assert (record.cost_nano, record.usage_source) == (0, "none")
    assert [attempt["failure"] for attempt in record.attempts] == ["internal_error"]
    assert (await gateway.chat(model="sage")).status == 200
