"""What an error's headers tell on both HTTP doors: of a request that has a record, the same as an answer's."""

from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from routing.models import ConfigRevision
from tests.gateway import HELLO, Gateway, Reply, records
from tests.gateway_path.changes import changed, price_forget, provider_set
from tests.upstreams.scripted import Upstream, hang, status

DOORS = ("/v1/chat/completions", "/api/v1/chat")
every_door = pytest.mark.parametrize("door", DOORS)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def ask(gateway: Gateway, door: str, **body: Any) -> Reply:
    return await gateway.post(door, {"model": "swift", "messages": HELLO, **body})


def told(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("x-router-")}


@every_door
@both_ways
async def test_an_error_of_the_vendor_tells_its_decision_its_attempts_and_its_cost(
    gateway: Gateway, openai_upstream: Upstream, door: str, stream: bool
) -> None:
    openai_upstream.play(status(503))
    reply = await ask(gateway, door, stream=stream)
    assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")
    revision = await sync_to_async(lambda: ConfigRevision.objects.get().revision)()
    headers = told(reply)
    assert headers.pop("x-router-overhead-ms")
    assert headers == {
        "x-router-decision-id": reply.headers["x-request-id"],
        "x-router-deployment": "alpha/swift-1",
        "x-router-attempts": "2",
        "x-router-config-revision": str(revision),
        "x-router-cost-usd": "0.000000000",
    }
    [record] = await records()
    assert (str(record.request_id), len(record.attempts)) == (reply.headers["x-request-id"], 2)


@every_door
async def test_the_cost_of_a_failure_is_told(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(hang())
    reply = await ask(gateway, door)
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    [record] = await records()
    assert reply.headers["x-router-cost-usd"] == f"{(record.cost_nano or 0) / 1e9:.9f}" != "0.000000000"


@every_door
async def test_an_unknown_cost_is_called_unknown(gateway: Gateway, openai_upstream: Upstream, door: str) -> None:
    await changed(gateway, partial(price_forget, "alpha"))
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(hang())
    assert (await ask(gateway, door)).headers["x-router-cost-usd"] == "unknown"


@every_door
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messages": []}, "invalid_request"),
        ({"model": "gpt-99"}, "model_not_found"),
        ({"max_tokens": 0}, "invalid_request"),
    ],
)
async def test_a_request_without_a_record_has_nothing_to_tell(
    gateway: Gateway, door: str, body: dict[str, Any], code: str
) -> None:
    reply = await ask(gateway, door, **body)
    assert (reply.error["code"], told(reply)) == (code, {})
    assert reply.headers["x-request-id"] == reply.json["request_id"]


@every_door
async def test_a_bad_key_is_told_nothing(gateway: Gateway, door: str) -> None:
    reply = await gateway.post(door, {"messages": HELLO}, key="rp_wrong")
    assert (reply.status, told(reply)) == (401, {})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@every_door
async def test_the_wrong_method_is_a_405_that_allows_post(gateway: Gateway, door: str, method: str) -> None:
    async with gateway.session.request(method, gateway.url + door, headers=gateway.headers()) as response:
        assert response.status == 405
        assert "POST" in response.headers["allow"]
        assert (await response.json())["error"]["code"] == "method_not_allowed"
