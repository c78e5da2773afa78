"""`Idempotency-Key`, driven over HTTP through every door that takes it: what is answered once is never paid twice."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from itertools import islice
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from analytics.domain.idempotency import MAX_ANSWER_BYTES
from analytics.models import IdempotentAnswer
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtimes
from routing.models import Team, VirtualKey
from tests import gateway as configure
from tests.factories import key_text_of
from tests.gateway import HELLO, Gateway, Reply, records, serving
from tests.gateway_path.changes import changed
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import (
    Script,
    Upstream,
    frames,
    hang,
    openai_answer,
    openai_events,
    openai_stream,
    status,
)

DOORS = ("/v1/chat/completions", "/api/v1/chat")
every_door = pytest.mark.parametrize("door", DOORS)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
BODY = {"model": "swift", "messages": HELLO}


async def ask(gateway: Gateway, door: str, name: str = "order-1", *, key: str | None = None, **body: Any) -> Reply:
    return await gateway.post(door, {**BODY, **body}, key=key, extra={"Idempotency-Key": name})


def router_headers(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith(("x-r", "content-"))}


# --- the same request ---------------------------------------------------------------------------------------------


@every_door
@both_ways
@pytest.mark.parametrize("model", ["swift", "sage"], ids=["same wire", "translated"])
async def test_a_repetition_gets_the_same_bytes_and_costs_nothing(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, door: str, model: str, stream: bool
) -> None:
    first = await ask(gateway, door, model=model, stream=stream)
    again = [await ask(gateway, door, model=model, stream=stream) for _ in range(3)]
    assert first.status == 200
    assert "idempotent-replayed" not in first.headers
    for reply in again:
        assert (reply.status, reply.body) == (200, first.body)
        assert reply.headers["idempotent-replayed"] == "true"
        assert router_headers(reply) == router_headers(first)
    assert len(openai_upstream.calls) + len(anthropic_upstream.calls) == 1
    [record] = await records()
    assert str(record.request_id) == first.headers["x-request-id"] == first.headers["x-router-decision-id"]
    assert record.cost_nano == 22_000


@every_door
async def test_without_the_header_every_request_runs(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    replies = [await gateway.post(door, BODY) for _ in range(2)]
    assert replies[0].headers["x-request-id"] != replies[1].headers["x-request-id"]
    assert len(openai_upstream.calls) == 2
    assert await sync_to_async(IdempotentAnswer.objects.count)() == 0


@every_door
async def test_other_names_are_other_requests(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    for name in ("order-1", "order-2", "Order-1", "x" * 255):
        assert "idempotent-replayed" not in (await ask(gateway, door, name)).headers
    assert len(openai_upstream.calls) == 4


async def test_a_kept_answer_is_encrypted_and_the_callers_key_is_not_there(gateway: Gateway) -> None:
    await ask(gateway, DOORS[0], "order-77")
    row = await sync_to_async(lambda: IdempotentAnswer.objects.values().get())()
    assert row["state"] == "kept"
    shown = json.dumps(row, default=str)
    assert "Hello" not in shown
    assert "order-77" not in shown


async def test_an_answer_outlives_a_restart_and_is_told_by_any_gateway(
    gateway: Gateway, openai_upstream: Upstream, application: Application
) -> None:
    first = await ask(gateway, DOORS[0], stream=True)
    other = Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())
    async with serving(other) as url:
        again = await ask(Gateway(url, gateway.session, gateway.key), DOORS[0], stream=True)
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(openai_upstream.calls) == 1


async def test_after_a_day_the_key_is_free(gateway: Gateway, openai_upstream: Upstream) -> None:
    await ask(gateway, DOORS[0])
    await sync_to_async(IdempotentAnswer.objects.update)(expires_at=timezone.now())
    assert "idempotent-replayed" not in (await ask(gateway, DOORS[0], temperature=0.5)).headers
    assert len(openai_upstream.calls) == 2


# --- another request with the same key ----------------------------------------------------------------------------


@every_door
async def test_another_body_with_the_same_key_is_refused(
    gateway: Gateway, openai_upstream: Upstream, door: str
) -> None:
    await ask(gateway, door)
    reply = await ask(gateway, door, temperature=0.5)
    assert (reply.status, reply.error["code"]) == (422, "idempotency_key_reused")
    assert "retry-after" not in reply.headers
    assert len(openai_upstream.calls) == 1


async def test_the_same_body_at_another_door_is_another_request(gateway: Gateway, openai_upstream: Upstream) -> None:
    await ask(gateway, DOORS[0])
    assert (await ask(gateway, DOORS[1])).error["code"] == "idempotency_key_reused"
    assert len(openai_upstream.calls) == 1


@every_door
async def test_two_virtual_keys_never_meet(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    colleague = key_text_of(2)
    await changed(gateway, lambda: configure.key(2, Team.objects.get()))
    openai_upstream.play(openai_answer("mine"), openai_answer("theirs"))
    first = await ask(gateway, door)
    other = await ask(gateway, door, key=colleague)
    assert "mine" in first.body.decode()
    assert "theirs" in other.body.decode()
    assert "idempotent-replayed" not in other.headers


async def test_a_key_that_is_no_longer_valid_gets_no_old_answers(gateway: Gateway) -> None:
    await ask(gateway, DOORS[0])
    await changed(gateway, _revoke)
    for door in DOORS:
        reply = await ask(gateway, door)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


def _revoke() -> None:
    key = VirtualKey.objects.get()
    key.revoked_at = timezone.now()
    key.save()


@every_door
@pytest.mark.parametrize("name", ["", "x" * 256, "caf\u00e9"])
async def test_a_key_that_is_none_is_refused_before_anything_runs(
    gateway: Gateway, openai_upstream: Upstream, door: str, name: str
) -> None:
    reply = await ask(gateway, door, name)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", "Idempotency-Key")
    assert openai_upstream.calls == []


# --- while it runs ------------------------------------------------------------------------------------------------


@every_door
@both_ways
async def test_of_many_at_once_one_runs_and_the_others_are_told_to_wait(
    gateway: Gateway, openai_upstream: Upstream, door: str, stream: bool
) -> None:
    released = asyncio.Event()
    openai_upstream.play(_once(released, openai_answer()))
    asking = asyncio.as_completed([ask(gateway, door, stream=stream) for _ in range(6)])
    waiting = [await reply for reply in islice(asking, 5)]
    assert {(reply.status, reply.error["code"]) for reply in waiting} == {(409, "idempotency_in_progress")}
    assert {int(reply.headers["retry-after"]) for reply in waiting} == {2}
    released.set()
    [answered] = [await reply for reply in asking]
    assert answered.status == 200
    assert (await ask(gateway, door, stream=stream)).body == answered.body
    assert len(openai_upstream.calls) == 1


def _once(released: asyncio.Event, script: Script) -> Script:
    async def late(request: Any, body: dict[str, Any]) -> Any:
        await released.wait()
        return await script(request, body)

    return late


# --- what is not kept ---------------------------------------------------------------------------------------------


@every_door
@both_ways
@pytest.mark.parametrize(
    ("fault", "told"),
    [(status(429), 429), (status(503), 503), (status(400), 400), (frames(end="cut"), 502)],
    ids=["429", "503", "400", "cut before content"],
)
async def test_a_failure_is_not_kept_and_the_retry_answers(
    gateway: Gateway, openai_upstream: Upstream, door: str, fault: Script, told: int, stream: bool
) -> None:
    openai_upstream.play(fault)
    assert (await ask(gateway, door, stream=stream)).status == told
    openai_upstream.play(openai_answer())
    retry = await ask(gateway, door, stream=stream)
    assert (retry.status, retry.headers.get("idempotent-replayed")) == (200, None)
    assert (await ask(gateway, door, stream=stream)).body == retry.body


@every_door
async def test_a_request_that_makes_no_sense_leaves_its_key_free(gateway: Gateway, door: str) -> None:
    named = {"Idempotency-Key": "order-1"}
    assert (await gateway.post(door, b'{"messages": []}', extra=named)).status == 400
    assert (await gateway.post(door, {**BODY, "model": "nothing"}, extra=named)).status == 404
    assert (await ask(gateway, door)).status == 200


@every_door
async def test_a_stream_that_broke_is_not_an_answer(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"), openai_answer("Whole"))
    broken = await ask(gateway, door, stream=True)
    assert "upstream_failed" in broken.body.decode()
    retry = await ask(gateway, door, stream=True)
    assert "idempotent-replayed" not in retry.headers
    assert len(openai_upstream.calls) == 2
    assert [record.error_code for record in await records(2)] == ["upstream_failed", ""]


@every_door
@both_ways
@pytest.mark.parametrize("script", [hang(), openai_stream(*["word "] * 200, pause_s=0.02)], ids=["no byte", "midway"])
async def test_a_caller_who_leaves_may_come_again(
    gateway: Gateway, openai_upstream: Upstream, door: str, script: Script, stream: bool
) -> None:
    openai_upstream.play(script)
    await openai_upstream.left(ask(gateway, door, stream=stream))
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    openai_upstream.play(openai_answer())
    retry = await _as_soon_as_free(partial(ask, gateway, door, stream=stream))
    assert (retry.status, retry.headers.get("idempotent-replayed")) == (200, None)
    first, second = await records(2)
    assert (first.state, second.state) == ("cancelled", "settled")


async def _as_soon_as_free(request: Any) -> Reply:
    """The answer, once nobody runs it any more."""
    for _ in range(1000):
        reply: Reply = await request()
        if reply.status != 409:
            return reply
        await asyncio.sleep(0.02)
    raise AssertionError("the key is still taken")


# --- large answers ------------------------------------------------------------------------------------------------


@every_door
async def test_a_whole_answer_that_is_too_large_says_so_and_is_not_paid_twice(
    gateway: Gateway, openai_upstream: Upstream, door: str
) -> None:
    openai_upstream.play(openai_answer("x" * MAX_ANSWER_BYTES))
    first = await ask(gateway, door)
    assert (first.status, first.headers["x-router-idempotency"]) == (200, "not-kept")
    assert "x" * MAX_ANSWER_BYTES in first.body.decode()
    again = await ask(gateway, door)
    assert (again.status, again.error["code"]) == (410, "idempotency_not_kept")
    assert first.headers["x-request-id"] in again.error["message"]
    assert len(openai_upstream.calls) == 1


@every_door
async def test_a_stream_that_is_too_large_comes_whole_and_is_not_paid_twice(
    gateway: Gateway, openai_upstream: Upstream, door: str
) -> None:
    piece = "x" * (MAX_ANSWER_BYTES // 10)
    openai_upstream.play(openai_stream(*[piece] * 11))
    first = await ask(gateway, door, stream=True)
    assert first.body.count(b"x" * len(piece)) == 11
    assert (await ask(gateway, door, stream=True)).error["code"] == "idempotency_not_kept"
    assert len(openai_upstream.calls) == 1


async def test_an_answer_just_below_the_limit_is_kept(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer("x" * (MAX_ANSWER_BYTES - 1000)))
    first = await ask(gateway, DOORS[0])
    assert "x-router-idempotency" not in first.headers
    assert (await ask(gateway, DOORS[0])).body == first.body


@every_door
async def test_a_body_over_the_limit_is_refused_as_ever(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield b"x" * 1024 * 1024

    headers = {**gateway.headers(), "Idempotency-Key": "order-1"}
    with contextlib.suppress(aiohttp.ClientConnectionError):  # it may be closed before all of the body is written
        async with gateway.session.post(gateway.url + door, data=pieces(), headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (413, "request_too_large")
    assert openai_upstream.calls == []
    assert (await ask(gateway, door)).status == 200, "the key is free"
