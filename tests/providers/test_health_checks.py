"""Probes against a loopback server that plays the vendor, and what is kept of them."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from providers.domain.health import HealthState
from providers.health_checks import checks_thin, health_record, provider_check, providers_check
from providers.models import Provider, ProviderCheck
from routing.models import ConfigRevision
from tests.factories import NOON, ProviderCheckFactory, ProviderFactory, ProviderKeyFactory

LOOPBACK = "127.0.0.0/8"
SECRET = "an-odd-key-of-no-known-form"
MODELS = {"object": "list", "data": [{"id": "one"}, {"id": "two"}]}
A_MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


@dataclass
class Vendor:
    """What to answer next, and what was asked so far."""

    port: int = 0
    status: int = 200
    body: bytes = json.dumps(MODELS).encode()
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def refuse(self, status: int, message: str) -> None:
        self.status, self.body = status, json.dumps({"error": {"message": message}}).encode()


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    script = Vendor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(script.status)
            headers = {"content-type": "application/json", "content-length": str(len(script.body)), **script.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(script.body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield script
        server.shutdown()
        thread.join()


def provider_at(vendor: Vendor, **kwargs: Any) -> Provider:
    return ProviderFactory.create(**{"base_url": vendor.url, "allowed_networks": LOOPBACK} | kwargs)


def check(provider: Provider, *, minutes: int = 0) -> ProviderCheck:
    return provider_check(provider=provider, now=NOON + minutes * A_MINUTE)


def test_a_provider_that_lists_its_models_is_healthy(vendor: Vendor) -> None:
    provider = provider_at(vendor, kind="openai")
    ProviderKeyFactory.create(provider=provider, secret=SECRET)

    done = check(provider)

    provider.refresh_from_db()
    assert (done.health, done.note, done.is_passive) == ("healthy", "lists 2 models", False)
    assert (provider.health, provider.health_note, provider.checked_at) == ("healthy", "lists 2 models", NOON)
    assert done.latency_ms is not None
    [(path, headers)] = vendor.asked
    assert path == "/v1/models"
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["host"] == f"127.0.0.1:{vendor.port}"


def test_the_anthropic_wire_is_asked_in_its_own_way(vendor: Vendor) -> None:
    provider = provider_at(vendor, kind="anthropic")
    ProviderKeyFactory.create(provider=provider, secret=SECRET)

    assert check(provider).health == "healthy"
    [(path, headers)] = vendor.asked
    assert (path, headers["x-api-key"]) == ("/v1/models?limit=1000", SECRET)
    assert headers["anthropic-version"]


@pytest.mark.parametrize("kind", ["openai-compatible", "anthropic-compatible"])
def test_a_server_without_keys_is_asked_without_one(vendor: Vendor, kind: str) -> None:
    assert check(provider_at(vendor, kind=kind)).health == "healthy"
    [(_, headers)] = vendor.asked
    assert not {"authorization", "x-api-key"} & headers.keys()


def test_what_the_environment_holds_for_the_sdks_is_not_sent(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-extra: ambient")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    for kind in ("openai-compatible", "anthropic-compatible"):
        assert check(provider_at(vendor, kind=kind)).health == "healthy"

    assert "ambient" not in repr(vendor.asked)


def test_one_failure_is_degraded_two_are_down_and_an_answer_is_healthy_again(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    vendor.refuse(500, "oops")
    found = [check(provider, minutes=n).health for n in range(3)]
    vendor.status, vendor.body = 200, json.dumps(MODELS).encode()
    found.append(check(provider, minutes=3).health)

    assert found == ["degraded", "down", "down", "healthy"]
    assert vendor.asked[3:] != []
    assert len(vendor.asked) == 4  # no retries


def test_a_check_that_learns_nothing_does_not_break_a_row_of_failures(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    found = []
    for minute, status in enumerate((503, 429, 503)):
        vendor.refuse(status, "no")
        found.append(check(provider, minutes=minute).health)

    assert found == ["degraded", "unknown", "down"]


def test_a_refused_key_is_told_without_the_key(vendor: Vendor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = provider_at(vendor, kind="openai")
    ProviderKeyFactory.create(provider=provider, secret=SECRET)
    vendor.refuse(401, f"Incorrect API key provided: {SECRET} or sk-other-0123456789")

    done = check(provider)

    assert done.health == "degraded"
    assert done.note.startswith("refused the key (401)")
    assert "sk-other" not in done.note + caplog.text
    assert SECRET not in done.note
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("status", "word"), [(404, "does not list"), (405, "does not list"), (429, "limits")])
def test_an_answer_that_says_nothing_about_health_is_unknown(vendor: Vendor, status: int, word: str) -> None:
    vendor.refuse(status, "no")

    done = check(provider_at(vendor))

    assert done.health == "unknown"
    assert word in done.note


@pytest.mark.parametrize("body", [b"<html>", b'{"data": 3}', b"[]", b"{", b""])
def test_an_answer_that_is_no_list_of_models_is_a_failure(vendor: Vendor, body: bytes) -> None:
    vendor.body = body

    assert check(provider_at(vendor)).health == "degraded"


def test_a_redirect_is_not_followed(vendor: Vendor) -> None:
    vendor.status, vendor.headers = 302, {"location": f"http://127.0.0.2:{vendor.port}/elsewhere"}

    done = check(provider_at(vendor))

    assert done.health == "degraded"
    assert [path for path, _ in vendor.asked] == ["/v1/models"]


def test_nobody_listening_is_a_failure_with_its_reason(vendor: Vendor) -> None:
    done = check(ProviderFactory.create(base_url="http://127.0.0.1:9/v1", allowed_networks=LOOPBACK))

    assert done.health == "degraded"
    assert done.note.startswith("could not be reached: ")
    assert "onnect" in done.note


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "100.64.0.1"])
def test_a_private_address_is_never_called_and_never_down(vendor: Vendor, host: str) -> None:
    provider = ProviderFactory.create(base_url=f"http://{host}:{vendor.port}/v1")

    found = [check(provider, minutes=n) for n in range(3)]

    assert {one.health for one in found} == {"unknown"}
    assert "allowed private networks" in found[0].note
    assert vendor.asked == []


def test_a_name_is_called_at_the_address_that_was_judged(vendor: Vendor) -> None:
    provider = provider_at(vendor, base_url=f"http://localhost:{vendor.port}/v1", allowed_networks="127.0.0.1/32")

    assert check(provider).health == "healthy"
    assert vendor.asked[0][1]["host"] == f"localhost:{vendor.port}"


def test_without_an_active_key_nothing_is_sent_and_nobody_is_blamed(vendor: Vendor) -> None:
    provider = provider_at(vendor, kind="groq")
    ProviderKeyFactory.create(provider=provider, is_active=False)

    done = check(provider)

    assert (done.health, done.note, vendor.asked) == ("unknown", "no active key to ask with", [])


def test_a_key_sealed_by_another_installation_is_unknown(vendor: Vendor) -> None:
    provider = provider_at(vendor, kind="openai")
    ProviderKeyFactory.create(provider=provider, sealed="0a0b0c0d:gAAAAAsomething")

    done = check(provider)

    assert done.health == "unknown"
    assert "FIELD_KEYS" in done.note


def test_a_provider_without_an_address_is_unknown(vendor: Vendor) -> None:
    assert check(ProviderFactory.create(base_url="")).health == "unknown"


def test_health_is_no_edit_of_the_configuration(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    before = list(ConfigRevision.objects.values_list("revision", flat=True))
    rows = provider.history.count()

    check(provider)

    assert list(ConfigRevision.objects.values_list("revision", flat=True)) == before
    assert provider.history.count() == rows


def test_the_round_asks_all_active_providers_and_a_second_round_at_once_none(vendor: Vendor) -> None:
    provider_at(vendor)
    provider_at(vendor)
    provider_at(vendor, is_active=False)

    assert [providers_check(now=NOON), providers_check(now=NOON), providers_check(now=NOON + A_MINUTE)] == [2, 0, 2]
    assert len(vendor.asked) == ProviderCheck.objects.count() == 4


def test_a_provider_that_was_just_judged_by_its_traffic_is_not_asked(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    health_record(
        provider=provider, health=HealthState.HEALTHY, note="", latency_ms=None, is_passive=True, now=NOON - A_MINUTE
    )

    assert [providers_check(now=NOON), providers_check(now=NOON + 2 * A_MINUTE)] == [0, 1]


def test_a_person_who_asks_gets_a_check_of_a_provider_that_was_judged_seconds_ago(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    provider_at(vendor, is_active=False)
    just_now = NOON - timedelta(seconds=5)
    health_record(provider=provider, health=HealthState.DOWN, note="", latency_ms=None, is_passive=True, now=just_now)

    assert [providers_check(now=NOON), providers_check(now=NOON, asked=True)] == [0, 1]
    provider.refresh_from_db()
    assert (provider.health, provider.checked_at) == (HealthState.HEALTHY, NOON)


def test_two_people_who_ask_at_once_get_one_check(vendor: Vendor) -> None:
    provider_at(vendor)

    assert [providers_check(now=NOON, asked=True), providers_check(now=NOON, asked=True)] == [1, 0]
    assert len(vendor.asked) == 1


def test_a_late_result_does_not_replace_a_newer_one(vendor: Vendor) -> None:
    provider = provider_at(vendor)
    for health, minutes in ((HealthState.HEALTHY, 5), (HealthState.DOWN, 1)):
        now = NOON + minutes * A_MINUTE
        health_record(provider=provider, health=health, note="", latency_ms=None, is_passive=False, now=now)

    provider.refresh_from_db()
    assert provider.health == "healthy"
    assert ProviderCheck.objects.count() == 2


def test_checks_older_than_a_week_are_deleted() -> None:
    for days in (0, 6, 8, 30):
        ProviderCheckFactory.create(checked_at=NOON - timedelta(days=days))

    assert checks_thin(now=NOON) == 2
    assert ProviderCheck.objects.count() == 2
