"""Lines about requests: one each where they are wanted, and the request's id in every other line about it."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from routerplatform.application import Application
from routerplatform.logs import formatter
from tests.conftest import configure_two_vendors
from tests.gateway import Gateway, serving
from tests.upstreams.scripted import Upstream, status


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(pretty=False))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.fixture
async def logging_gateway(
    transactional_db: None, settings: Settings, application: Application, openai_upstream: Upstream,
    anthropic_upstream: Upstream, request: Any,
) -> AsyncIterator[Gateway]:  # fmt: skip
    settings.LOG_REQUESTS = getattr(request, "param", True)
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


def about_requests(stream: io.StringIO) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in parsed if line.get("logger") == "router.requests"]


async def test_each_request_is_one_line_with_what_it_cost_and_none_of_its_words(
    lines: io.StringIO, logging_gateway: Gateway
) -> None:
    reply = await logging_gateway.chat(model="swift", messages=[{"role": "user", "content": "A private matter"}])
    [line] = about_requests(lines)
    assert line["request_id"] == reply.headers["x-request-id"]
    assert (line["asked"], line["deployment"], line["status"]) == ("swift", "alpha/swift-1", 200)
    assert (line["input_tokens"], line["output_tokens"], line["cost_nano"]) == (12, 5, 22_000)
    assert (line["attempts"], line["cache"], line["error"], line["level"]) == (1, "none", "", "info")
    assert "private matter" not in lines.getvalue()
    assert logging_gateway.key not in lines.getvalue()


async def test_a_failed_request_says_why(
    lines: io.StringIO, logging_gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400))
    await logging_gateway.chat(model="swift")
    [line] = about_requests(lines)
    assert (line["status"], line["error"], line["cost_nano"]) == (400, "upstream_rejected", 0)


@pytest.mark.parametrize("logging_gateway", [False], indirect=True)
async def test_nothing_is_logged_of_requests_unless_it_is_wanted(lines: io.StringIO, logging_gateway: Gateway) -> None:
    await logging_gateway.chat(model="swift")
    assert about_requests(lines) == []
