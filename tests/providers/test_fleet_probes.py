"""The worker's tiny call to a deployment whose breaker is open, against a loopback vendor and a real Valkey."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from django.conf import settings as configured
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from providers.domain.breaker import BreakerState
from providers.domain.errors import Failure, FailureKind
from providers.domain.types import Deployment
from providers.fleet.build import fleet_health
from providers.fleet.probes import breakers_probe
from providers.fleet.shared import HASH
from providers.fleet.states import FleetStates
from providers.models import ProviderKey
from providers.selectors import active_deployments
from providers.tasks import probe_open_breakers
from tests import gateway as configure
from tests.factories import PriceFactory, ProviderKeyFactory

OPEN_S = 0.2
ANSWER = {
    "id": "up",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "H"}, "finish_reason": "length"}],
}
DOWN = Failure(FailureKind.SERVER_ERROR, "down", http_status=500)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not configured.REDIS_URL, reason="what is open is known through Redis"),
]


@dataclass
class Vendor:
    """What it answers, and what it was asked: (path, body)."""

    url: str = ""
    status: int = 200
    body: dict[str, Any] = field(default_factory=lambda: ANSWER)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def serving(vendor: Vendor) -> Iterator[Vendor]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            vendor.asked.append((self.path, json.loads(raw)))
            body = json.dumps(vendor.body).encode()
            self.send_response(vendor.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vendor.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """Rows are rolled back and their ids given again: what is known of them must not outlive a test."""
    with Redis.from_url(configured.REDIS_URL) as redis:
        redis.delete(HASH)
        yield
        redis.delete(HASH)


@pytest.fixture
def vendor(settings: Settings) -> Iterator[Vendor]:
    settings.CIRCUIT_BREAKER_TIMEOUT = OPEN_S
    with serving(Vendor()) as made:
        yield made


def deployed(vendor: Vendor, *, is_open: bool = True, is_due: bool = True, **options: Any) -> Deployment:
    [row] = configure.vendor("vendor", vendor.url, "m", **options)
    found = active_deployments(now=timezone.now())[row.pk]
    if is_open:
        fail(found, 5)
    if is_due:
        time.sleep(configured.CIRCUIT_BREAKER_TIMEOUT + 0.02)
    return found


def fail(deployment: Deployment, times: int) -> None:
    async def run() -> None:
        health = fleet_health()
        await health.start()
        for _ in range(times):
            with await health.enter(deployment) as trial:
                trial.failed(DOWN)
        await health.close()

    asyncio.run(run())


def states(deployment: Deployment) -> FleetStates:
    async def run() -> FleetStates:
        health = fleet_health()
        await health.start()
        found = health.states([deployment])
        await health.close()
        return found

    return asyncio.run(run())


def state(deployment: Deployment) -> BreakerState:
    return states(deployment).deployments[0].state


def probe() -> int:
    return breakers_probe(now=timezone.now(), untried_s=0.0)


def test_a_short_answer_closes_it(vendor: Vendor) -> None:
    deployment = deployed(vendor)
    assert state(deployment) is BreakerState.OPEN
    assert probe() == 1
    [(path, body)] = vendor.asked
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["messages"]) == ("m", 16, [{"role": "user", "content": "Say OK."}])
    assert state(deployment) is BreakerState.CLOSED
    assert probe() == 0


def test_an_embedding_model_is_asked_for_an_embedding(vendor: Vendor) -> None:
    vendor.body = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}}
    deployment = deployed(vendor, capabilities=["embeddings"])
    assert probe() == 1
    assert vendor.asked[0][0] == "/v1/embeddings"
    assert state(deployment) is BreakerState.CLOSED


def test_a_failure_leaves_it_open_for_as_long_again(vendor: Vendor, settings: Settings) -> None:
    settings.CIRCUIT_BREAKER_TIMEOUT = 2.0  # the second look comes sooner, on a busy machine too
    deployment = deployed(vendor)
    vendor.status, vendor.body = 500, {"error": {"message": "still down"}}
    assert probe() == 1
    assert state(deployment) is BreakerState.OPEN
    assert probe() == 0, "it has to wait again"
    assert len(vendor.asked) == 1


def test_whoever_refuses_what_was_asked_answers(vendor: Vendor) -> None:
    """Some models take no limit of one token."""
    deployment = deployed(vendor)
    vendor.status, vendor.body = 400, {"error": {"message": "max_tokens is too small", "type": "invalid_request_error"}}
    assert probe() == 1
    assert state(deployment) is BreakerState.CLOSED


def test_a_key_that_is_refused_rests_and_nothing_is_learned(vendor: Vendor) -> None:
    deployment = deployed(vendor)
    vendor.status, vendor.body = 401, {"error": {"message": "no such key"}}
    assert probe() == 1
    assert (state(deployment), states(deployment).resting[0].kind) == (BreakerState.OPEN, "authentication")
    assert probe() == 0, "there is no key to ask with"
    assert len(vendor.asked) == 1


def test_what_is_not_due_or_not_open_or_switched_off_is_left_alone(vendor: Vendor, settings: Settings) -> None:
    deployed(vendor, is_open=False, is_due=False)
    assert probe() == 0
    settings.CIRCUIT_BREAKER_TIMEOUT = 60
    [row] = configure.vendor("other", vendor.url, "m")
    fail(active_deployments(now=timezone.now())[row.pk], 5)
    assert probe() == 0
    settings.CIRCUIT_BREAKER_TIMEOUT = OPEN_S
    time.sleep(OPEN_S + 0.02)
    row.is_active = False
    row.save()
    assert probe() == 0
    assert vendor.asked == []


def test_what_an_operator_forces_is_left_alone(vendor: Vendor) -> None:
    deployment = deployed(vendor)
    row = ProviderKey.objects.get(provider__name="vendor").provider.deployments.get()
    row.breaker = "open"
    row.save()
    assert probe() == 0
    assert deployment.breaker == ""


def test_a_request_that_may_still_come_is_waited_for(vendor: Vendor) -> None:
    deployed(vendor)
    assert probe_open_breakers() == 0
    assert vendor.asked == []


def test_two_workers_at_once_make_one_call(vendor: Vendor) -> None:
    deployment = deployed(vendor)

    async def both() -> list[bool]:
        found = []
        for health in (fleet_health(), fleet_health()):
            await health.start()
            found.append(health)
        trials = await asyncio.gather(*(health.enter(deployment) for health in found), return_exceptions=True)
        for health in found:
            await health.close()
        return [not isinstance(trial, BaseException) for trial in trials]

    assert sorted(asyncio.run(both())) == [False, True]


def test_without_redis_nothing_is_known_and_nothing_done(vendor: Vendor, settings: Settings) -> None:
    deployed(vendor)
    settings.REDIS_URL = ""
    assert probe() == 0


def test_prices_and_more_keys_change_nothing(vendor: Vendor) -> None:
    deployment = deployed(vendor, priced=False)
    key = ProviderKey.objects.get(provider__name="vendor")
    ProviderKeyFactory(provider=key.provider, secret="sk-vendor-0002")
    PriceFactory(model=key.provider.deployments.get().model)
    assert probe() == 1
    assert state(deployment) is BreakerState.CLOSED
