"""What Prometheus is told, and who may read it."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from pytest_django import Settings

from routerplatform.gateway.metrics import Metrics
from tests.analytics.ledger.samples import settled
from tests.gateway import Gateway
from tests.upstreams.scripted import Upstream, openai_answer, status

CONTRACT = {
    "ai_proxy_requests_total",
    "ai_proxy_request_duration_seconds_count",
    "ai_proxy_tokens_used_total",
    "ai_proxy_cost_total",
    "ai_proxy_cache_hits_total",
}
SERVED = {"model": "alpha-swift-1", "provider": "alpha", "status": "200"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


async def scraped(gateway: Gateway, **headers: str) -> Samples:
    async with gateway.session.get(f"{gateway.url}/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/plain")
        return read(await response.text())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def grew(before: Samples, after: Samples, name: str, **labels: str) -> float:
    """By how much; tests of one process share its files."""
    return value(after, name, **labels) - value(before, name, **labels)


async def test_an_answered_request_is_counted_in_every_series_of_the_contract(gateway: Gateway) -> None:
    before = await scraped(gateway)
    await gateway.chat(model="swift")
    after = await scraped(gateway)
    assert {name for name, _ in after} >= CONTRACT
    assert grew(before, after, "ai_proxy_requests_total", **SERVED) == 1
    assert grew(before, after, "ai_proxy_request_duration_seconds_count", model="alpha-swift-1", provider="alpha") == 1
    assert grew(before, after, "ai_proxy_tokens_used_total", type="input") == 12
    assert grew(before, after, "ai_proxy_tokens_used_total", type="output") == 5
    assert grew(before, after, "ai_proxy_cost_total") == pytest.approx(12e-6 + 5 * 2e-6)
    route = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "alpha",
        "gen_ai_request_model": "swift",
        "gen_ai_response_model": "alpha-swift-1",
    }
    assert grew(before, after, "gen_ai_client_operation_duration_seconds_count", **route, error_type="") == 1
    assert grew(before, after, "gen_ai_client_token_usage_sum", **route, gen_ai_token_type="input") == 12
    assert grew(before, after, "router_overhead_seconds_count") == 1


async def test_a_stream_tells_when_its_first_chunk_came(gateway: Gateway) -> None:
    name = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    before = await scraped(gateway)
    await gateway.chat(model="swift")
    await gateway.stream(model="swift")
    after = await scraped(gateway)
    assert sum(after[key] - before.get(key, 0) for key in after if key[0] == name) == 1


async def test_a_hit_of_the_cache_is_a_request_and_a_hit_but_no_tokens(gateway: Gateway) -> None:
    words: dict[str, Any] = {"messages": [{"role": "user", "content": f"Once {id(gateway)}"}], "temperature": 0}
    await gateway.chat(model="swift", **words)
    before = await scraped(gateway)
    await gateway.chat(model="swift", **words)
    after = await scraped(gateway)
    assert grew(before, after, "ai_proxy_cache_hits_total") == 1
    assert grew(before, after, "ai_proxy_requests_total", **SERVED) == 1
    assert grew(before, after, "ai_proxy_tokens_used_total", type="output") == 0
    assert grew(before, after, "ai_proxy_cost_total") == 0


@pytest.mark.parametrize(
    ("key", "model", "told"),
    [("wrong", "swift", "401"), (None, "nothing-of-this-name", "404")],
)
async def test_a_request_that_is_not_let_in_is_counted_without_the_words_of_its_caller(
    gateway: Gateway, key: str | None, model: str, told: str
) -> None:
    before = await scraped(gateway)
    await gateway.chat(key=key, model=model)
    after = await scraped(gateway)
    assert grew(before, after, "ai_proxy_requests_total", model="", provider="", status=told) == 1
    assert not any(model in dict(labels).values() for _, labels in after if model != "swift")


async def test_a_failure_has_its_status_and_kind(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(400))
    before = await scraped(gateway)
    await gateway.chat(model="swift")
    after = await scraped(gateway)
    assert grew(before, after, "ai_proxy_requests_total", **{**SERVED, "status": "400"}) == 1
    kinds = {dict(labels).get("error_type") for name, labels in after if name.startswith("gen_ai_client_operation")}
    assert "upstream_rejected" in kinds


# --- who may read it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"x-forwarded-for": "203.0.113.9"}, {"forwarded": "for=203.0.113.9"}])
async def test_what_came_through_a_proxy_is_not_from_this_machine(gateway: Gateway, headers: dict[str, str]) -> None:
    async with gateway.session.get(f"{gateway.url}/metrics", headers=headers) as response:
        assert response.status == 403
        assert "METRICS_TOKEN" in (await response.json())["error"]["message"]


async def test_only_get_is_possible(gateway: Gateway) -> None:
    reply = await gateway.post("/metrics", {})
    assert (reply.status, reply.headers["allow"]) == (405, "GET")


@pytest.fixture
def token(settings: Settings) -> str:
    settings.METRICS_TOKEN = "made-up-token"
    return "made-up-token"


async def test_with_a_token_it_alone_opens_metrics(token: str, gateway: Gateway) -> None:
    await scraped(gateway, authorization=f"Bearer {token}", **{"x-forwarded-for": "203.0.113.9"})
    for authorization in ("", "Bearer other", f"Bearer {gateway.key}", "Bearer \xff"):
        async with gateway.session.get(f"{gateway.url}/metrics", headers={"authorization": authorization}) as response:
            assert response.status == 403


@pytest.fixture
def port(settings: Settings) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.METRICS_PORT = free.getsockname()[1]
    return settings.METRICS_PORT


@pytest.fixture
async def own_port(port: int, gateway: Gateway) -> str:
    return f"http://127.0.0.1:{port}/metrics"


async def test_on_a_port_of_its_own_it_is_there_alone(own_port: str, gateway: Gateway) -> None:
    await gateway.chat(model="swift")
    async with aiohttp.ClientSession() as session, session.get(own_port) as response:
        assert value(read(await response.text()), "ai_proxy_requests_total", **SERVED) >= 1
    reply = await gateway.get("/metrics")
    assert (reply.status, reply.error["code"]) == (404, "not_found")


@pytest.fixture
def taken_port(settings: Settings) -> Any:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings.METRICS_PORT = taken.getsockname()[1]
        yield taken


async def test_a_port_that_is_taken_keeps_nobody_from_an_answer(
    taken_port: Any, gateway: Gateway, openai_upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    openai_upstream.play(openai_answer("All the same"))
    assert (await gateway.chat(model="swift")).text == "All the same"
    assert any("METRICS_PORT" in record.getMessage() for record in caplog.get_records("setup"))


# --- several processes ------------------------------------------------------------------------------------------------

ANOTHER = """
import os, sys
from pathlib import Path
import django
django.setup()
from routerplatform.gateway.metrics import Metrics
from tests.analytics.ledger.samples import settled
import asyncio
async def count() -> None:
    metrics = Metrics(Path(sys.argv[1]), list)
    for _ in range(3):
        metrics.observe(settled())
    metrics.write()
asyncio.run(count())
"""


def test_whichever_process_is_asked_tells_what_all_have_counted_and_those_that_are_gone(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", ANOTHER, str(tmp_path)],
            check=True,
            timeout=60,
            env={**os.environ, "METRICS_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "routerplatform.settings"},
        )
    entry = settled()
    samples = read(Metrics(tmp_path, lambda: [("alpha", "swift", 2.0)]).text().decode())
    labels = {"model": entry.model, "provider": entry.provider, "status": str(entry.http_status)}
    assert value(samples, "ai_proxy_requests_total", **labels) == 6
    assert value(samples, "ai_proxy_circuit_breaker_state", provider="alpha", model="swift") == 2
