"""Clients that repeat themselves: the official SDK, gateways that share a database, a gateway that dies, a database
that is away."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import psycopg
import pytest

from tests.e2e.processes import Database, DemoProvider, GatewayProcess, Platform
from tests.gateway import Gateway, Reply

pytestmark = pytest.mark.e2e

MODELS = ("demo-swift", "demo-sage-mini")  # behind OpenAI's wire, behind Anthropic's


def body(text: str, *, model: str = "demo-swift", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def ask(caller: Gateway, name: str, text: str, **more: Any) -> Reply:
    return await caller.post("/v1/chat/completions", body(text, **more), extra={"Idempotency-Key": name})


# --- the official SDK ---------------------------------------------------------------------------------------------


class LossyNetwork:
    """A way to the gateway that loses the end of the first answers: the caller sees its connection break."""

    def __init__(self, gateway: GatewayProcess, *, losses: int) -> None:
        self._target = urlsplit(gateway.url)
        self._losses = losses
        self.connections = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        loses = self.connections <= self._losses
        upstream_reader, upstream_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        forth = asyncio.create_task(self._copy(reader, upstream_writer))
        while piece := await upstream_reader.read(65536):
            if loses and (b"[DONE]" in piece or b"x-router-cost-usd" in piece):
                writer.transport.abort()
                break
            writer.write(piece)
        forth.cancel()
        writer.close()
        upstream_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()


@asynccontextmanager
async def lossy(gateway: GatewayProcess, *, losses: int) -> AsyncIterator[tuple[LossyNetwork, str]]:
    network = LossyNetwork(gateway, losses=losses)
    server = await asyncio.start_server(network.carry, "127.0.0.1", 0)
    yield network, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()
    await asyncio.sleep(0.05)  # connections end by themselves, since their clients have


@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_that_was_lost_on_its_way_is_fetched_by_the_sdks_own_retry_and_paid_once(
    model: str, shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess], demo_provider: DemoProvider
) -> None:
    billed = demo_provider.bills().keys()
    async with lossy(pair[0], losses=2) as (network, url):
        async with openai.AsyncOpenAI(base_url=url, api_key=shared_platform.key, max_retries=2) as client:
            raw = await client.chat.completions.with_raw_response.create(
                **body("Explain idempotency", model=model), extra_headers={"Idempotency-Key": f"lost-{model}"}
            )
    assert network.connections == 3
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse().choices[0].message.content
    assert demo_provider.bills().keys() - billed == {raw.headers["x-request-id"]}


async def test_a_stream_that_was_lost_is_told_again_from_its_beginning(
    shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess], demo_provider: DemoProvider
) -> None:
    billed = demo_provider.bills().keys()
    texts: list[str] = []
    async with lossy(pair[0], losses=1) as (_, url):
        async with openai.AsyncOpenAI(base_url=url, api_key=shared_platform.key, max_retries=0) as client:
            for _ in range(2):
                said = ""
                try:
                    async for chunk in await client.chat.completions.create(
                        **body("Explain caching [[tokens=12]] [[pace=10]]", stream=True),
                        extra_headers={"Idempotency-Key": "lost-stream"},
                    ):
                        said += chunk.choices[0].delta.content or ""
                except openai.APIConnectionError:
                    said = "lost"
                texts.append(said)
    assert texts[0] == "lost"
    assert len(texts[1]) > 20
    assert len(demo_provider.bills().keys() - billed) == 1


async def test_the_sdk_waits_for_a_request_of_its_own_that_still_runs(
    shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess], demo_provider: DemoProvider
) -> None:
    billed = demo_provider.bills().keys()
    url = f"{pair[0].url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=shared_platform.key, max_retries=2) as client:
        request = client.chat.completions.with_raw_response.create
        asked = {**body("Hello [[delay=1]]"), "extra_headers": {"Idempotency-Key": "impatient"}}
        raws = await asyncio.gather(request(**asked), request(**asked))
    assert len({raw.headers["x-request-id"] for raw in raws}) == 1
    assert raws[0].parse().choices == raws[1].parse().choices
    assert [raw.headers.get("idempotent-replayed") for raw in raws].count("true") == 1
    assert len(demo_provider.bills().keys() - billed) == 1


# --- several gateways ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_two_gateways_share_what_they_answered_and_what_they_are_answering(
    shared_platform: Platform,
    pair: tuple[GatewayProcess, GatewayProcess],
    demo_provider: DemoProvider,
    session: aiohttp.ClientSession,
    stream: bool,
) -> None:
    first, second = (Gateway(process.url, session, shared_platform.key) for process in pair)
    name = f"shared-{stream}"
    running = asyncio.create_task(ask(first, name, "[[delay=2]]", stream=stream))
    await demo_provider.reached()
    assert (await ask(second, name, "[[delay=2]]", stream=stream)).error["code"] == "idempotency_in_progress"
    answer = await running
    again = await ask(second, name, "[[delay=2]]", stream=stream)
    assert (again.status, again.body) == (200, answer.body)
    assert again.headers["x-request-id"] == answer.headers["x-request-id"]


async def test_what_a_killed_gateway_answered_is_kept_and_what_it_was_answering_frees_its_key_soon(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    dying, living = platform.gateway(), platform.gateway()
    theirs, ours = (Gateway(process.url, session, platform.key) for process in (dying, living))
    answer = await ask(theirs, "before", "Hello")
    running = asyncio.create_task(ask(theirs, "meanwhile", "[[delay=20]]"))
    await demo_provider.reached()
    dying.kill()
    with pytest.raises(aiohttp.ClientError):
        await running
    assert (await ask(ours, "before", "Hello")).body == answer.body
    refused = await ask(ours, "meanwhile", "[[delay=20]]")
    assert (refused.status, refused.error["code"]) == (409, "idempotency_in_progress")
    [(seconds,)] = platform.database.rows(LEASE_S[platform.database.is_postgresql])
    assert 0 < float(seconds) <= 30, "nobody renews it any more"


LEASE_S = {
    True: "SELECT extract(epoch FROM claimed_until - now()) FROM analytics_idempotentanswer WHERE state = 'running'",
    False: "SELECT (julianday(claimed_until) - julianday('now')) * 86400 FROM analytics_idempotentanswer "
    "WHERE state = 'running'",
}


# --- the database is away -----------------------------------------------------------------------------------------


@contextmanager
def stuck(database: Database) -> Iterator[None]:
    """Whoever wants a key has to wait; on SQLite, whoever writes anything."""
    if not database.is_postgresql:
        with closing(sqlite3.connect(database.name, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        return
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE analytics_idempotentanswer IN ACCESS EXCLUSIVE MODE")
        yield


async def test_without_the_database_requests_with_a_key_are_refused_and_all_others_are_served(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    process = platform.gateway()
    caller = Gateway(process.url, session, platform.key)
    kept = await ask(caller, "before", "Hello")
    running = asyncio.create_task(ask(caller, "meanwhile", "[[delay=1]]"))
    await demo_provider.reached()
    billed = demo_provider.bills().keys()
    with stuck(platform.database):
        refused = await asyncio.gather(*(ask(caller, name, "Hello") for name in ("before", "after")))
        assert {(reply.status, reply.error["code"]) for reply in refused} == {(503, "idempotency_unavailable")}
        assert {reply.headers["retry-after"] for reply in refused} == {"2"}
        assert demo_provider.bills().keys() == billed
        assert (await running).status == 200, "what had begun is answered"
        assert (await caller.chat(**body("Hello"))).status == 200
        assert process.probe() == 200
    assert await as_soon_as_possible(caller, "before", "Hello") == kept.body
    assert await as_soon_as_possible(caller, "meanwhile", "[[delay=1]]") == (await running).body
    assert await as_soon_as_possible(caller, "after", "Hello")
    assert "Traceback" not in process.text


async def as_soon_as_possible(caller: Gateway, name: str, text: str) -> bytes:
    """The answer, once the database is there again and what waited for it is done."""
    for _ in range(100):
        reply = await ask(caller, name, text)
        if reply.status == 200:
            return reply.body
        assert reply.status in {409, 503}, reply.body
        await asyncio.sleep(0.3)
    raise AssertionError(reply.body)
