"""GET /v1/providers/status and GET /v1/health: what a caller may see of breakers, keys and the gateway itself."""

from typing import Any

from asgiref.sync import sync_to_async

from providers.models import Deployment
from routing.domain.config import Scope
from tests import gateway as configure
from tests.gateway import Gateway
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream, status

BUSY = status(503, {"error": {"message": "busy"}})


async def providers(gateway: Gateway) -> dict[str, dict[str, Any]]:
    reply = await gateway.get("/v1/providers/status")
    assert reply.status == 200
    return {row["name"]: row for row in reply.json["data"]}


async def test_what_is_well_is_told_in_full(gateway: Gateway) -> None:
    found = await providers(gateway)
    assert list(found) == ["alpha", "beta"]
    assert found["alpha"] == {
        "object": "provider",
        "name": "alpha",
        "kind": "openai-compatible",
        "health": "healthy",
        "deployments": [
            {
                "deployment": "alpha/swift-1",
                "model": "alpha-swift-1",
                "breaker": "closed",
                "forced": False,
                "next_probe_in_s": None,
                "failures_in_a_row": 0,
                "last_failure": None,
            }
        ],
        "keys": [{"label": found["alpha"]["keys"][0]["label"], "last4": "0001", "resting": []}],
    }


async def test_an_open_breaker_is_told_with_the_time_of_the_next_try(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(BUSY)
    for _ in range(3):
        await gateway.chat(model="swift")
    alpha = (await providers(gateway))["alpha"]
    [deployment] = alpha["deployments"]
    assert (alpha["health"], deployment["breaker"], deployment["last_failure"]) == ("down", "open", "overloaded")
    assert 55 < deployment["next_probe_in_s"] <= 60


async def test_a_provider_of_which_something_serves_is_degraded(gateway: Gateway) -> None:
    def another_that_is_forced_open() -> None:
        [row] = configure.vendor("gamma", "http://127.0.0.1:9/v1", "one")
        other = configure.CatalogueModelFactory(name="gamma-two", capabilities=configure.ALL_CAPABILITIES)
        configure.DeploymentFactory(provider=row.provider, model=other, upstream_model="two", breaker="open")

    await changed(gateway, another_that_is_forced_open)
    gamma = (await providers(gateway))["gamma"]
    assert gamma["health"] == "degraded"
    assert [(one["deployment"], one["breaker"], one["forced"]) for one in gamma["deployments"]] == [
        ("gamma/one", "closed", False),
        ("gamma/two", "open", True),
    ]
    assert gamma["deployments"][1]["next_probe_in_s"] is None


async def test_a_key_that_rests_is_told_with_the_reason(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(429, headers={"retry-after": "40"}))
    await gateway.chat(model="swift")
    [key] = (await providers(gateway))["alpha"]["keys"]
    [rest] = key["resting"]
    assert (rest["reason"], rest["deployment"]) == ("rate_limited", "alpha/swift-1")
    assert rest["until"].endswith("Z")
    assert "sk-alpha" not in str(await providers(gateway))


async def test_any_key_that_is_valid_may_look(gateway: Gateway) -> None:
    for number, scope in enumerate(Scope, start=10):
        text = await sync_to_async(configure.key)(number, scopes=[scope.value])
        await changed(gateway, lambda: Deployment.objects.first().save())  # type: ignore[union-attr]
        assert (await gateway.get("/v1/providers/status", key=text)).status == 200
    reply = await gateway.get("/v1/providers/status", key="rp_nobody")
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


async def test_it_is_asked_with_get_only(gateway: Gateway) -> None:
    for path in ("/v1/providers/status", "/v1/health"):
        reply = await gateway.post(path, {})
        assert (reply.status, reply.headers["allow"]) == (405, "GET")


async def test_anyone_may_ask_whether_the_gateway_serves(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/health", key="")
    assert reply.json["status"] == "ok"
    assert reply.json["config_revision"] > 0
    assert reply.headers["cache-control"] == "no-store"
