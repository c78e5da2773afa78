"""Traces: a span per request and per attempt, at a collector on loopback, below the caller's own trace."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pytest_django import Settings

from routerplatform.application import Application
from tests.conftest import configure_two_vendors
from tests.gateway import Gateway, serving
from tests.upstreams.scripted import Upstream, status

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector:
    """What an OTLP collector was sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        self.spans += [
            span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield found
    await runner.cleanup()


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


async def traced(
    settings: Settings, application: Application, collector: Collector, vendors: tuple[str, str], **body: Any
) -> None:
    """Ask once; the gateway sends its spans at the latest when it stops."""
    settings.TRACES_ENDPOINT = collector.url
    key = await sync_to_async(configure_two_vendors)(*vendors)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        gateway = Gateway(url, session, key)
        asked = {"messages": [{"role": "user", "content": "A private matter"}], **body}
        await gateway.post("/v1/chat/completions", asked, extra={"traceparent": f"00-{TRACE}-{PARENT}-01"})


async def test_a_request_is_a_span_below_its_callers_with_a_span_for_each_attempt(
    transactional_db: None, settings: Settings, application: Application, collector: Collector,
    openai_upstream: Upstream, anthropic_upstream: Upstream,
) -> None:  # fmt: skip
    openai_upstream.play(status(503))
    await traced(settings, application, collector, (openai_upstream.url, anthropic_upstream.url), model="auto")
    by_name = {span.name: span for span in collector.spans}
    request, failed, answered = by_name["chat auto"], by_name["alpha/swift-1"], by_name["beta/sage-1"]
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in (failed, answered)} == {request.span_id}
    told = attributes(request)
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("auto", "beta-sage-1")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (12, 5)
    assert told["router.cost_usd"] == pytest.approx(22e-6)
    assert attributes(failed)["error.type"] == "overloaded"
    assert "error.type" not in attributes(answered)
    assert request.start_time_unix_nano <= failed.start_time_unix_nano < answered.start_time_unix_nano
    assert not any("private matter" in str(span) for span in collector.spans)


async def test_a_collector_that_is_away_keeps_nobody_from_an_answer(
    transactional_db: None, settings: Settings, application: Application, openai_upstream: Upstream
) -> None:
    settings.TRACES_ENDPOINT = "http://127.0.0.1:1/v1/traces"
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, openai_upstream.url)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        assert (await Gateway(url, session, key).chat(model="swift")).text == "Hello"
