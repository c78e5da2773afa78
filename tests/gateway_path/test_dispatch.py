"""Who is asked, in which order, how often and for how long: driven over HTTP against scripted vendors."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from pytest_django import Settings

from providers.models import Deployment, ProviderKey
from tests import gateway as configure
from tests.factories import ProviderKeyFactory
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed, provider_set
from tests.stalls import PATIENCE_S, Stalls
from tests.upstreams.scripted import (
    Script,
    Upstream,
    frames,
    hang,
    openai_answer,
    openai_events,
    status,
)

BUSY = status(503, {"error": {"message": "busy"}})


@pytest.fixture
def two_attempts(settings: Settings) -> None:
    settings.MAX_ATTEMPTS = 2


@pytest.fixture
def one_attempt(settings: Settings) -> None:
    settings.MAX_ATTEMPTS = 1


@pytest.fixture
def one_second(settings: Settings) -> None:
    settings.REQUEST_TIMEOUT_S = 1.0


@pytest.fixture
def two_seconds(settings: Settings) -> None:
    settings.REQUEST_TIMEOUT_S = 2.0


@pytest.fixture
async def third_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(openai_answer("Third"))
    await upstream.start()
    yield upstream
    await upstream.stop()


async def asked(gateway: Gateway, *, model: str, **body: Any) -> list[tuple[str, str]]:
    """Make one request; what was tried, as (deployment, failure)."""
    await gateway.chat(model=model, **body)
    [record] = await records()
    return [(attempt["deployment"], attempt.get("failure", "")) for attempt in record.attempts]


async def alias_of(gateway: Gateway, name: str, *deployments: str) -> None:
    """A new alias that tries these deployments in order."""

    def make() -> None:
        rows = {str(row): row for row in Deployment.objects.select_related("provider")}
        by_name = {f"{row.provider.name}/{row.upstream_model}": row for row in rows.values()}
        configure.alias(name, *(by_name[deployment] for deployment in deployments))

    await changed(gateway, make)


# --- how often ----------------------------------------------------------------------------------------------------


async def test_a_fault_of_the_moment_is_tried_again_once_after_the_others(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(BUSY)
    anthropic_upstream.play(BUSY)
    assert await asked(gateway, model="auto") == [
        ("alpha/swift-1", "overloaded"),
        ("beta/sage-1", "overloaded"),
        ("alpha/swift-1", "overloaded"),
        ("beta/sage-1", "overloaded"),
    ]


async def test_a_lone_target_is_tried_twice_and_not_more(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(BUSY)
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")
    assert len(openai_upstream.calls) == 2


@pytest.mark.usefixtures("two_attempts")
async def test_attempts_are_bounded(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, third_upstream: Upstream
) -> None:
    await changed(gateway, lambda: configure.vendor("gamma", third_upstream.url, "third-1"))
    await alias_of(gateway, "all", "alpha/swift-1", "beta/sage-1", "gamma/third-1")
    openai_upstream.play(BUSY)
    anthropic_upstream.play(BUSY)
    assert len(await asked(gateway, model="all")) == 2
    assert third_upstream.calls == []


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (status(429, {"error": {"message": "slow down"}}), "rate_limited"),
        (status(401, {"error": {"message": "bad key"}}), "authentication"),
        (status(403, {"error": {"message": "not yours"}}), "permission"),
        (status(404, {"error": {"message": "no such model"}}), "model_not_found"),
        (status(413), "context_too_long"),
    ],
)
async def test_what_will_not_pass_by_waiting_goes_to_the_next_and_never_back(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, fault: Script, failure: str
) -> None:
    openai_upstream.play(fault)
    anthropic_upstream.play(BUSY)
    assert await asked(gateway, model="auto") == [
        ("alpha/swift-1", failure),
        ("beta/sage-1", "overloaded"),
        ("beta/sage-1", "overloaded"),
    ]


@pytest.mark.parametrize("code", [400, 422])
async def test_what_the_vendor_finds_wrong_with_the_request_is_final(
    gateway: Gateway, openai_upstream: Upstream, code: int
) -> None:
    openai_upstream.play(status(code, {"error": {"message": "bad schema", "type": "invalid_request_error"}}))
    assert await asked(gateway, model="auto") == [("alpha/swift-1", "bad_request")]


async def test_the_attempts_of_an_answer_are_told_in_its_header(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(413))
    for stream in (False, True):
        reply = await gateway.chat(model="auto", stream=stream)
        assert (reply.status, reply.headers["x-router-attempts"]) == (200, "2")
        assert reply.headers["x-router-deployment"] == "beta/sage-1"


@pytest.mark.parametrize(
    ("sent", "told"), [("7", "7"), ("1.2", "2"), ("0", "0"), ("-5", "0"), ("soon", None), ("1e9", "86400")]
)
async def test_how_long_to_wait_is_passed_on_in_whole_seconds(
    gateway: Gateway, openai_upstream: Upstream, sent: str, told: str | None
) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow down"}}, {"retry-after": sent}))
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.headers.get("retry-after")) == (429, told)


async def test_a_vendor_that_wants_to_be_left_alone_for_long_is_not_asked_again(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(503, {"error": {"message": "busy"}}, {"retry-after": "30"}))
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.headers["retry-after"], len(openai_upstream.calls)) == (503, "30", 1)


async def test_a_vendor_that_wants_a_moment_gets_it(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(503, {"error": {"message": "busy"}}, {"retry-after": "0.5"}), openai_answer())
    began = asyncio.get_running_loop().time()
    assert (await gateway.chat(model="swift")).status == 200
    assert asyncio.get_running_loop().time() - began > 0.5


async def test_retries_end_when_they_are_more_than_a_share_of_the_requests(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    """Ten are free; fifteen requests earn one and a half."""
    await changed(gateway, lambda: _force("closed"))
    openai_upstream.play(BUSY)
    await asyncio.gather(*(gateway.chat(model="swift") for _ in range(15)))
    assert len(openai_upstream.calls) in {25, 26}


def _force(override: str) -> None:
    row = Deployment.objects.get(provider__name="alpha")
    row.breaker = override
    row.save()


async def test_the_vendor_sees_the_request_id_that_the_caller_got(gateway: Gateway, openai_upstream: Upstream) -> None:
    reply = await gateway.chat(model="swift")
    sent = {name.lower(): value for name, value in openai_upstream.calls[0].headers.items()}
    assert sent["x-request-id"] == reply.headers["x-request-id"] == reply.headers["x-router-decision-id"]


# --- for how long -------------------------------------------------------------------------------------------------


async def _dripping(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A whole answer, one byte at a time: no silence is long enough to end it."""
    text = json.dumps({"choices": [{"message": {"content": "slow"}, "finish_reason": "stop"}]})
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for character in text:
        await response.write(character.encode())
        await asyncio.sleep(0.1)
    return response


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize(
    ("play", "stream", "status_code"),
    [
        (hang(), False, 504),
        (hang(), True, 504),
        (_dripping, False, 504),
        (frames(*openai_events(*"abcdefghijklmnop"), pause_s=0.1), True, 200),
        (frames(*openai_events("a")[:2], end="hang"), True, 200),
    ],
    ids=["silence", "silence, streamed", "a dripping body", "a slow stream", "a stream that falls silent"],
)
async def test_one_deadline_ends_a_request_wherever_it_is(
    gateway: Gateway, openai_upstream: Upstream, play: Script, stream: bool, status_code: int, stalls: Stalls
) -> None:
    openai_upstream.play(play)
    started, watch = asyncio.get_running_loop().time(), stalls.watch()
    reply = await gateway.chat(model="swift", stream=stream)
    assert asyncio.get_running_loop().time() - started > 0.9
    assert watch.seconds < 1.7
    assert (reply.status, reply.error["code"]) == (status_code, "upstream_timeout")
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    assert len(openai_upstream.calls) == 1


@pytest.mark.usefixtures("two_seconds")
async def test_what_is_left_of_the_deadline_is_all_that_a_fallback_gets(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, stalls: Stalls
) -> None:
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(hang())
    anthropic_upstream.play(hang())
    watch = stalls.watch()
    assert await asked(gateway, model="auto") == [("alpha/swift-1", "timeout"), ("beta/sage-1", "timeout")]
    assert watch.seconds < 2.7


@pytest.mark.usefixtures("two_seconds")
async def test_a_vendor_that_says_nothing_leaves_half_of_the_time_to_the_next(
    gateway: Gateway, openai_upstream: Upstream, stalls: Stalls
) -> None:
    openai_upstream.play(hang())
    watch = stalls.watch()
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.text, reply.headers["x-router-attempts"]) == (200, "Bonjour", "2")
    lost_ms = watch.lost * 1000
    [record] = await records()
    assert 800 < record.attempts[0]["latency_ms"] < 1_200 + lost_ms
    assert "in the time that others leave it" in record.attempts[0]["message"]


# --- who has failed too often -------------------------------------------------------------------------------------


@pytest.fixture
def tried_again_soon(settings: Settings) -> None:
    settings.CIRCUIT_BREAKER_TIMEOUT = 0.4


async def broken(gateway: Gateway, upstream: Upstream) -> None:
    """Have the breaker of alpha open, by five failures: three requests, of which two are tried twice."""
    upstream.play(BUSY)
    for _ in range(3):
        await gateway.chat(model="swift")
    assert len(upstream.calls) == 5
    upstream.calls.clear()


async def test_after_five_failures_in_a_row_nobody_asks_for_a_while(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await broken(gateway, openai_upstream)
    for stream in (False, True):
        reply = await gateway.chat(model="swift", stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "circuit_open")
        assert 50 <= int(reply.headers["retry-after"]) <= 60
        assert (
            "alpha/swift-1 is out of service: its circuit breaker is open after 5 failures in a row (overloaded)"
            in (reply.error["message"])
        )
    assert openai_upstream.calls == []
    record = (await records(5))[-1]
    assert (record.state, record.cost_nano, record.error_code, record.attempts) == ("released", 0, "circuit_open", [])


async def test_the_next_one_serves_at_once_and_the_record_says_why(gateway: Gateway, openai_upstream: Upstream) -> None:
    await broken(gateway, openai_upstream)
    reply = await gateway.chat(model="auto")
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Bonjour", "1")
    decision = (await records(4))[-1].decision
    assert [(one["deployment"], one["verdict"]) for one in decision["candidates"]] == [
        ("alpha/swift-1", "skipped"),
        ("beta/sage-1", "fallback"),
    ]
    assert decision["candidates"][0]["reason"].startswith("its circuit breaker is open after 5 failures")


@pytest.mark.usefixtures("tried_again_soon")
async def test_one_request_tries_it_again_and_an_answer_closes_it(gateway: Gateway, openai_upstream: Upstream) -> None:
    await broken(gateway, openai_upstream)
    await asyncio.sleep(0.4)
    released = asyncio.Event()
    openai_upstream.play(_once(released))
    asking = asyncio.as_completed([gateway.chat(model="swift") for _ in range(8)])
    refused = [await reply for reply in islice(asking, 7)]
    assert {(reply.status, reply.headers["retry-after"]) for reply in refused} == {(503, "1")}
    released.set()
    assert [(await reply).status for reply in asking] == [200]
    assert len(openai_upstream.calls) == 1
    assert (await gateway.chat(model="swift")).status == 200


def _once(released: asyncio.Event) -> Script:
    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await released.wait()
        return await openai_answer()(request, body)

    return script


@pytest.mark.usefixtures("tried_again_soon")
async def test_a_caller_who_leaves_while_it_tries_lets_another_try(gateway: Gateway, openai_upstream: Upstream) -> None:
    await broken(gateway, openai_upstream)
    await asyncio.sleep(0.4)
    openai_upstream.play(hang())
    await openai_upstream.left(gateway.chat(model="swift"))
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    openai_upstream.play(openai_answer())
    assert (await gateway.chat(model="swift")).status == 200


async def test_failures_that_are_the_callers_open_nothing(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(400, {"error": {"message": "bad schema", "type": "invalid_request_error"}}))
    for _ in range(8):
        assert (await gateway.chat(model="swift")).error["code"] == "upstream_rejected"


async def test_the_last_one_is_still_asked_when_only_a_share_of_its_requests_failed(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(*[openai_answer(), status(500)] * 10)
    for _ in range(20):
        await gateway.chat(model="auto")
    openai_upstream.play(openai_answer("Still here"))
    openai_upstream.calls.clear()
    assert (await gateway.chat(model="auto")).text == "Bonjour", "it is avoided"
    assert openai_upstream.calls == []
    assert (await gateway.chat(model="swift")).text == "Still here", "but it is better than nobody"
    anthropic_upstream.play(status(404, {"error": {"message": "no such model"}}))
    reply = await gateway.chat(model="auto")
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Still here", "2")
    decision = (await records(23))[-1].decision
    assert [one["verdict"] for one in decision["candidates"]] == ["chosen", "fallback"]


async def test_an_operator_forces_it_open_and_closed(gateway: Gateway, openai_upstream: Upstream) -> None:
    await changed(gateway, lambda: _force("open"))
    reply = await gateway.chat(model="swift")
    assert (reply.error["code"], "retry-after" in reply.headers) == ("circuit_open", False)
    assert "an operator holds its circuit breaker open" in reply.error["message"]
    assert (await gateway.chat(model="auto")).text == "Bonjour"
    await changed(gateway, lambda: _force("closed"))
    openai_upstream.play(BUSY)
    for _ in range(4):
        assert (await gateway.chat(model="swift")).error["code"] == "upstream_overloaded"
    assert len(openai_upstream.calls) == 8


async def test_a_failure_is_told_rather_than_who_was_not_asked(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await broken(gateway, openai_upstream)
    anthropic_upstream.play(status(404, {"error": {"message": "no such model"}}))
    assert (await gateway.chat(model="auto")).error["code"] == "upstream_model_not_found"


# --- whose key ----------------------------------------------------------------------------------------------------


def _keys_seen(upstream: Upstream) -> list[str]:
    return [call.headers.get("Authorization", "")[-4:] for call in upstream.calls]


async def test_the_keys_of_a_provider_take_turns_whatever_else_is_asked(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    def second_key() -> None:
        first = ProviderKey.objects.get(provider__name="alpha")
        ProviderKeyFactory(provider=first.provider, secret="sk-alpha-0002")

    await changed(gateway, second_key)
    for _ in range(4):
        await gateway.chat(model="swift")
        await gateway.chat(model="sage")
    assert sorted(_keys_seen(openai_upstream)[:2]) == ["0001", "0002"]
    assert _keys_seen(openai_upstream)[:2] == _keys_seen(openai_upstream)[2:]
    found = await records(8)
    assert [r.attempts[0]["key_last4"] for r in found if r.provider == "alpha"] == _keys_seen(openai_upstream)


def _seal_elsewhere() -> None:
    """As it is after a database was moved without its field keys."""
    ProviderKey.objects.filter(provider__name="alpha").update(sealed="00000000:gAAAAsealed-elsewhere")
    provider_set("alpha")


async def test_a_key_that_cannot_be_decrypted_is_told_without_its_details(
    gateway: Gateway, openai_upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    await changed(gateway, _seal_elsewhere)
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.error["code"]) == (502, "upstream_credentials")
    assert reply.error["message"] == "The gateway's key does not work: a key of alpha cannot be decrypted."
    assert openai_upstream.calls == []
    assert "rotate_field_keys" in caplog.text
    [record] = await records()
    assert (record.state, record.cost_nano, record.error_code) == ("released", 0, "upstream_credentials")


async def test_a_key_that_cannot_be_decrypted_leaves_the_others_in_service(gateway: Gateway) -> None:
    await changed(gateway, _seal_elsewhere)
    reply = await gateway.chat(model="auto")
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Bonjour", "2")


# --- what a wire cannot say ---------------------------------------------------------------------------------------


async def test_a_feature_that_a_target_cannot_take_goes_to_one_that_can(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await alias_of(gateway, "both", "beta/sage-1", "alpha/swift-1")
    assert await asked(gateway, model="both", logprobs=True) == [("alpha/swift-1", "")]
    assert openai_upstream.calls[0].body["logprobs"] is True
    assert anthropic_upstream.calls == []


@pytest.mark.usefixtures("one_attempt")
async def test_a_target_that_was_passed_over_uses_up_no_attempt(gateway: Gateway) -> None:
    await alias_of(gateway, "both", "beta/sage-1", "alpha/swift-1")
    reply = await gateway.chat(model="both", n=2)
    assert (reply.status, reply.headers["x-router-attempts"]) == (200, "1")


@pytest.mark.parametrize(
    ("extra", "feature"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"prediction": {"type": "content"}}, "prediction"),
        ({"stop": [" "]}, "a stop sequence of white space only"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_feature_that_no_target_can_take_is_named(
    gateway: Gateway, anthropic_upstream: Upstream, extra: dict[str, Any], feature: str, stream: bool
) -> None:
    reply = await gateway.chat(model="sage", stream=stream, **extra)
    assert (reply.status, reply.error["code"]) == (400, "no_eligible_model")
    assert reply.error["param"] == feature
    assert reply.error["message"] == f"beta/sage-1 cannot take {feature}."
    assert anthropic_upstream.calls == []


async def test_a_failure_is_told_rather_than_what_the_fallback_could_not_say(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    """The request was fine: the caller must not take a fault of the moment for a mistake of its own."""
    openai_upstream.play(BUSY)
    reply = await gateway.chat(model="auto", logprobs=True)
    assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")


# --- what the vendor is not told ----------------------------------------------------------------------------------


async def test_headers_of_the_caller_stay_here(gateway: Gateway, openai_upstream: Upstream) -> None:
    headers = {**gateway.headers(), "cookie": "session=1", "x-forwarded-for": "10.9.8.7", "user-agent": "secret-app/1"}
    body = json.dumps({"model": "swift", "messages": HELLO})
    async with gateway.session.post(gateway.url + "/v1/chat/completions", data=body, headers=headers) as response:
        assert response.status == 200
    sent = json.dumps(openai_upstream.calls[0].headers).lower()
    for part in ("session=1", "10.9.8.7", "secret-app", gateway.key.lower()):
        assert part not in sent


async def test_an_edit_while_a_request_is_under_way_does_not_touch_it(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(frames(*openai_events("still ", "here"), pause_s=0.1))
    running = asyncio.create_task(gateway.stream(model="swift"))
    await openai_upstream.asked()
    await asyncio.sleep(0.1)  # the first of its words is on its way
    await changed(gateway, lambda: provider_set("alpha", is_active=False))
    reply = await running
    assert (reply.text, reply.done) == ("still here", True)
    assert (await gateway.chat(model="swift")).status == 400
    assert await sync_to_async(Deployment.objects.count)() == 2
