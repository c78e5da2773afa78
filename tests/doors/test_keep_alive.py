"""A stream that has nothing to say yet says so: before the first content, and in the middle of an answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from pytest_django import Settings

from routerplatform.application import Application
from tests.conftest import configure_two_vendors
from tests.gateway import Gateway, records, serving
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Script, Upstream, openai_answer, openai_events, openai_stream, status

SIGN = b": keep-alive\n\n"


def after(seconds: float, then: Script) -> Script:
    """Says nothing for a while, and plays the rest then."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request, body)

    return script


@pytest.fixture
def patience_s() -> float:
    return 0.1


@pytest.fixture
async def impatient(
    transactional_db: None, settings: Settings, application: Application, openai_upstream: Upstream,
    anthropic_upstream: Upstream, patience_s: float,
) -> AsyncIterator[Gateway]:  # fmt: skip
    """A gateway that gives a sign of life after a tenth of a second."""
    settings.STREAM_KEEP_ALIVE_S = patience_s
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


async def test_a_stream_that_keeps_its_caller_waiting_gives_signs_of_life(
    impatient: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(after(0.6, openai_answer("At last")))
    reply = await impatient.stream(model="swift")
    assert (reply.status, reply.text, reply.done) == (200, "At last", True)
    assert reply.body.startswith(SIGN * 2)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert "x-request-id" in reply.headers


@pytest.mark.parametrize("patience_s", [5.0])
async def test_a_prompt_stream_gets_none(impatient: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("one", " two", pause_s=0.01))
    reply = await impatient.stream(model="swift")
    assert (reply.text, SIGN in reply.body) == ("one two", False)
    assert "x-router-deployment" in reply.headers


async def test_a_silence_in_the_middle_is_filled_too(impatient: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("one", " two", pause_s=0.25))
    reply = await impatient.stream(model="swift")
    assert (reply.text, reply.done) == ("one two", True)
    assert reply.body.count(SIGN) >= 3
    assert reply.body.index(b'"one"') < reply.body.rindex(SIGN)


async def test_a_failure_after_a_sign_of_life_is_told_in_the_stream(
    impatient: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(after(0.25, status(400, {"error": {"message": "no", "type": "invalid_request_error"}})))
    reply = await impatient.stream(model="swift")
    assert (reply.status, reply.done) == (200, False)
    assert reply.error["code"] == "upstream_rejected"
    [record] = await records()
    assert (record.http_status, record.error_code) == (400, "upstream_rejected")


@pytest.mark.parametrize("patience_s", [5.0])
async def test_a_failure_before_any_sign_of_life_has_its_own_status(
    impatient: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400))
    assert (await impatient.stream(model="swift")).status == 400


async def test_another_provider_can_still_take_over_after_a_sign_of_life(
    impatient: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(after(0.25, status(503)))
    reply = await impatient.stream(model="auto")
    assert (reply.status, reply.text, reply.done) == (200, "Bonjour", True)
    assert reply.body.startswith(SIGN)


async def test_whole_answers_wait_in_silence(impatient: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(after(0.25, openai_answer("Whole")))
    reply = await impatient.chat(model="swift")
    assert (reply.text, reply.headers["content-type"]) == ("Whole", "application/json")


@pytest.mark.parametrize("patience_s", [0])
async def test_it_can_be_switched_off(impatient: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(after(0.25, openai_answer("Quiet")))
    assert SIGN not in (await impatient.stream(model="swift")).body


async def test_a_caller_who_leaves_while_waiting_leaves_nothing_behind(
    impatient: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(after(30, openai_answer("Nobody hears this")))
    await openai_upstream.left(impatient.stream(model="swift"))
    [record] = await records()
    assert record.state == "cancelled"
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)


async def test_a_large_answer_is_not_mixed_up_with_signs_of_life(impatient: Gateway, openai_upstream: Upstream) -> None:
    pieces = [f"{number:05d}," for number in range(400)]
    openai_upstream.play(after(0.15, openai_stream(*pieces, pause_s=0.001)))
    reply = await impatient.stream(model="swift")
    assert reply.text == "".join(pieces)
    assert reply.body.replace(SIGN, b"") == b"".join(openai_events(*pieces, usage=None))
