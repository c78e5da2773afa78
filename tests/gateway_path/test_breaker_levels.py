"""Circuit breakers on /metrics: 0 closed, 1 half-open, 2 open; one series for each model of a provider."""

import re

from providers.models import Provider
from tests import gateway as configure
from tests.gateway import Gateway
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream, status

BUSY = status(503, {"error": {"message": "busy"}})


async def levels(gateway: Gateway) -> dict[tuple[str, str], float]:
    """By (provider, model)."""
    reply = await gateway.get("/metrics")
    assert reply.status == 200
    found = re.findall(r"^ai_proxy_circuit_breaker_state\{(.*)\} (\S+)$", reply.body.decode(), re.MULTILINE)
    series = [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]
    named = {(labels["provider"], labels["model"]): value for labels, value in series}
    assert len(named) == len(series), "a series is there twice: Prometheus would refuse all of them"
    return named


async def test_an_open_breaker_is_2_and_a_closed_one_0(gateway: Gateway, openai_upstream: Upstream) -> None:
    assert await levels(gateway) == {("alpha", "alpha-swift-1"): 0, ("beta", "beta-sage-1"): 0}
    openai_upstream.play(BUSY)
    for _ in range(3):
        await gateway.chat(model="swift")
    assert await levels(gateway) == {("alpha", "alpha-swift-1"): 2, ("beta", "beta-sage-1"): 0}


async def test_of_two_deployments_of_a_model_the_worse_is_told(gateway: Gateway) -> None:
    def another_of_the_same_model() -> None:
        provider = Provider.objects.get(name="alpha")
        model = provider.deployments.get().model
        configure.DeploymentFactory(provider=provider, model=model, upstream_model="swift-eu", breaker="open")

    await changed(gateway, another_of_the_same_model)
    assert (await levels(gateway))[("alpha", "alpha-swift-1")] == 2
