"""POST /v1/messages/count_tokens: the vendor's own count where there is one, an estimate everywhere else."""

from functools import partial
from typing import Any

import pytest

from analytics.models import UsageRecord
from tests.gateway import HELLO, Gateway, Reply, alias, vendor
from tests.gateway_path.changes import changed, provider_set
from tests.upstreams.scripted import Upstream, drop, hang, status

pytestmark = pytest.mark.django_db(transaction=True)


async def count(gateway: Gateway, *, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    return await gateway.post("/v1/messages/count_tokens", {"model": "sage", "messages": HELLO, **body}, extra=headers)


async def test_an_anthropic_vendor_counts_itself_and_nothing_is_on_record(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    anthropic_upstream.play(status(200, {"input_tokens": 2095}))
    heard = {"anthropic-version": "2026-10-21", "anthropic-beta": "new-1"}
    reply = await count(gateway, headers=heard, system="Be kind.", tools=[])
    assert (reply.status, reply.json) == (200, {"input_tokens": 2095})
    assert reply.headers["x-router-token-count"] == "provider"
    assert reply.headers["request-id"]
    [call] = anthropic_upstream.calls
    assert call.path == "/v1/messages/count_tokens"
    assert call.body == {"model": "sage-1", "messages": HELLO, "system": "Be kind.", "tools": []}
    assert call.headers["anthropic-beta"] == "new-1"
    assert await UsageRecord.objects.acount() == 0


async def test_a_model_of_another_wire_is_estimated_without_a_call(gateway: Gateway, openai_upstream: Upstream) -> None:
    reply = await count(gateway, model="swift", messages=[{"role": "user", "content": "word " * 1000}])
    assert reply.headers["x-router-token-count"] == "estimate"
    assert 800 <= reply.json["input_tokens"] <= 1300
    assert openai_upstream.calls == []


@pytest.mark.parametrize(
    "script",
    [
        drop(),
        status(404, {"error": "no such address"}),
        status(529),
        status(200, "<html>hello</html>"),
        status(200, {"tokens": 5}),
    ],
)
async def test_a_vendor_that_does_not_count_is_replaced_by_an_estimate(
    script: Any, gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    anthropic_upstream.play(script)
    reply = await count(gateway)
    assert (reply.status, reply.headers["x-router-token-count"]) == (200, "estimate")
    assert reply.json["input_tokens"] > 0


async def test_a_vendor_that_takes_too_long_is_not_waited_for(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    await changed(gateway, partial(provider_set, "beta", timeout_s=1))
    anthropic_upstream.play(hang(10))
    reply = await count(gateway)
    assert reply.headers["x-router-token-count"] == "estimate"


async def test_a_request_that_no_model_could_serve_is_not_counted(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    def add() -> None:
        alias("blind", *vendor("gamma", anthropic_upstream.url, "blind-1", capabilities=["streaming"]))

    await changed(gateway, add)
    picture = {"type": "image", "source": {"type": "url", "url": "https://x.example/i.png"}}
    reply = await count(gateway, model="blind", messages=[{"role": "user", "content": [picture]}])
    assert (reply.status, reply.error["details"]["error_code"]) == (400, "no_eligible_model")
    assert anthropic_upstream.calls == []


@pytest.mark.parametrize(
    ("body", "http_status", "kind"),
    [
        ({"model": "nobody"}, 404, "not_found_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"thread": {"type": "create"}}, 400, "invalid_request_error"),
    ],
)
async def test_what_cannot_be_counted_is_refused_in_anthropics_shape(
    body: dict[str, Any], http_status: int, kind: str, gateway: Gateway
) -> None:
    reply = await count(gateway, **body)
    assert (reply.status, reply.json["type"], reply.error["type"]) == (http_status, "error", kind)


async def test_counting_needs_a_good_key(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/messages/count_tokens", {"messages": HELLO}, key="rp_wrong")
    assert (reply.status, reply.error["type"]) == (401, "authentication_error")
