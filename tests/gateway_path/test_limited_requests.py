"""Rate limits as a caller meets them: headers, refusals, other targets, slots that come back."""

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from providers.models import Deployment
from routing.models import ModelAlias, Team, VirtualKey
from tests import gateway as configure
from tests.gateway import HELLO, Gateway, Reply, records
from tests.gateway_path.changes import changed
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, drop, frames, hang, openai_answer, openai_events, openai_stream, status

DOORS = ["/v1/chat/completions", "/api/v1/chat"]
WAYS = [(path, stream) for path in DOORS for stream in (False, True)]
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
ODD_ENDINGS = {
    "fails": status(500),
    "refuses": status(400),
    "drops": drop(),
    "talks nonsense": frames(b"data: nonsense\n\n"),
    "breaks off": frames(*openai_events("Hel")[:2], end="cut"),
}


async def limited(gateway: Gateway, model: Any, **limits: int) -> None:
    """Set the limits of every row of `model`."""

    def edit() -> None:
        for row in model.objects.all():
            for column, value in limits.items():
                setattr(row, column, value)
            row.save()

    await changed(gateway, edit)


async def ask(gateway: Gateway, path: str = DOORS[0], **body: Any) -> Reply:
    return await gateway.post(path, {"model": "swift", "messages": HELLO, **body})


def of_limits(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("x-ratelimit")}


async def eventually_let_in(gateway: Gateway, **body: Any) -> None:
    for _ in range(500):
        if (await ask(gateway, **body)).status != 429:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a slot did not come back")


# --- headers and refusals, at each door ---------------------------------------------------------------------------


async def test_an_answer_says_how_much_is_left(gateway: Gateway, openai_upstream: Upstream) -> None:
    await limited(gateway, VirtualKey, rpm_limit=10, tpm_limit=50_000)
    await limited(gateway, Team, rpm_limit=5)
    for n, (path, stream) in enumerate(WAYS, start=1):
        openai_upstream.play(openai_stream("Hi") if stream else openai_answer("Hi"))
        reply = await ask(gateway, path, stream=stream, max_tokens=100)
        assert reply.status == 200
        told = of_limits(reply)
        assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("5", str(5 - n))
        assert told["x-ratelimit-limit-tokens"] == "50000"
        assert 49_000 < int(told["x-ratelimit-remaining-tokens"]) < 49_900
        for measure in ("requests", "tokens"):
            assert re.fullmatch(r"(1m)?[\d.]+s", told[f"x-ratelimit-reset-{measure}"])


async def test_a_request_over_the_limit_is_refused_before_anything_is_sent(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await limited(gateway, VirtualKey, rpm_limit=1, name="search api")
    await ask(gateway)
    for path, stream in WAYS:
        reply = await ask(gateway, path, stream=stream)
        assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
        assert reply.error["type"] == "rate_limit_error"
        assert reply.error["message"].startswith("The rate limit of key “search api” is reached: 1 request per minute.")
        assert 55 <= int(reply.headers["retry-after"]) <= 61
        assert of_limits(reply)["x-ratelimit-remaining-requests"] == "0"
    assert len(openai_upstream.calls) == 1
    assert len(await records(1)) == 1


async def test_a_caller_without_limits_is_told_of_none(gateway: Gateway) -> None:
    assert of_limits(await ask(gateway)) == {}


async def test_a_socket_is_told_when_to_try_again(gateway: Gateway) -> None:
    await limited(gateway, VirtualKey, rpm_limit=1)
    await ask(gateway)
    url = gateway.url.replace("http://", "ws://") + "/ws/chat/"
    async with gateway.session.ws_connect(url, headers=gateway.headers()) as socket:
        await socket.send_str(json.dumps({"type": "chat", "id": "1", "messages": HELLO}))
        while (frame := json.loads(await socket.receive_str(timeout=PATIENCE_S)))["type"] != "error":
            pass
    assert (frame["code"], frame["status"]) == ("rate_limit_exceeded", 429)
    assert 0 < frame["retry_after_s"] <= 61


async def test_a_request_larger_than_the_limit_is_not_to_be_tried_again(gateway: Gateway) -> None:
    await limited(gateway, VirtualKey, tpm_limit=1_000)
    reply = await ask(gateway, max_tokens=5_000)
    assert (reply.status, reply.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in reply.headers
    assert "max_tokens" in reply.error["message"]
    assert (await ask(gateway)).status == 200, "what nobody asked for makes no request too large"


async def test_of_200_at_once_exactly_60_are_answered(gateway: Gateway, openai_upstream: Upstream) -> None:
    await limited(gateway, Team, rpm_limit=60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        crowd = Gateway(gateway.url, session, gateway.key)
        replies = await asyncio.gather(*(ask(crowd) for _ in range(200)))
    assert sorted(reply.status for reply in replies) == [200] * 60 + [429] * 140
    assert len(openai_upstream.calls) == 60


# --- whose limits -------------------------------------------------------------------------------------------------


async def test_keys_of_a_team_share_its_limit(gateway: Gateway) -> None:
    second = await sync_to_async(lambda: configure.key(2, Team.objects.get()))()
    await limited(gateway, Team, rpm_limit=2)
    assert [(await gateway.chat(key=key)).status for key in (gateway.key, second, second)] == [200, 200, 429]


async def test_an_alias_is_limited_for_everybody_who_names_it(gateway: Gateway) -> None:
    stranger = await sync_to_async(lambda: configure.key(2))()

    def edit() -> None:
        alias = ModelAlias.objects.get(name="swift")
        alias.rpm_limit = 1
        alias.save()

    await changed(gateway, edit)
    assert (await ask(gateway)).status == 200
    reply = await gateway.chat(model="swift", key=stranger)
    assert (reply.status, reply.error["message"][:43]) == (429, "The rate limit of model “swift” is reached:")
    assert (await ask(gateway, model="sage")).status == 200
    assert (await ask(gateway, model="auto")).headers["x-router-deployment"] == "beta/sage-1", "a policy goes round it"


async def _swift_set(gateway: Gateway, **limits: int) -> None:
    def edit() -> None:
        swift = Deployment.objects.get(upstream_model="swift-1")
        for column, value in limits.items():
            setattr(swift, column, value)
        swift.save()

    await changed(gateway, edit)


async def test_a_deployment_at_its_limit_is_passed_over(gateway: Gateway, openai_upstream: Upstream) -> None:
    await _swift_set(gateway, rpm_limit=2)
    served = [(await ask(gateway, model="auto")).headers for _ in range(4)]
    assert [told["x-router-deployment"] for told in served] == ["alpha/swift-1"] * 2 + ["beta/sage-1"] * 2
    assert {told["x-router-attempts"] for told in served} == {"1"}
    assert len(openai_upstream.calls) == 2


async def test_when_every_deployment_is_at_its_limit_the_caller_is_told(gateway: Gateway) -> None:
    await _swift_set(gateway, rpm_limit=1)
    assert [(await ask(gateway)).status for _ in range(2)] == [200, 429]
    reply = await ask(gateway)
    assert reply.error["message"].startswith("The rate limit of deployment “alpha/swift-1” is reached")
    assert int(reply.headers["retry-after"]) <= 61
    assert of_limits(reply) == {}


async def test_a_failure_is_told_rather_than_the_limit_of_the_fallback(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    def edit() -> None:
        sage = Deployment.objects.get(upstream_model="sage-1")
        sage.rpm_limit = 1
        sage.save()

    await changed(gateway, edit)
    assert (await ask(gateway, model="sage")).status == 200
    openai_upstream.play(status(429, {"error": {"message": "slow down"}}))
    assert (await ask(gateway, model="auto")).error["code"] == "upstream_rate_limited"


# --- slots and tokens come back -----------------------------------------------------------------------------------


async def test_of_50_streams_at_once_no_more_run_than_may(gateway: Gateway, openai_upstream: Upstream) -> None:
    await limited(gateway, VirtualKey, max_parallel_requests=7)
    openai_upstream.play(openai_stream("Hel", "lo", pause_s=0.1))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        crowd = Gateway(gateway.url, session, gateway.key)
        replies = await asyncio.gather(*(ask(crowd, stream=True) for _ in range(50)))
        assert sorted(reply.status for reply in replies) == [200] * 7 + [429] * 43
        again = await asyncio.gather(*(ask(crowd, stream=True) for _ in range(7)))
    assert [reply.status for reply in again] == [200] * 7


async def test_a_slot_comes_back_however_an_answer_ends(gateway: Gateway, openai_upstream: Upstream) -> None:
    await limited(gateway, VirtualKey, max_parallel_requests=1)
    await _swift_set(gateway, max_parallel_requests=1, breaker="closed")
    for stream in (False, True):
        for how, play in ODD_ENDINGS.items():
            openai_upstream.play(play)
            reply = await ask(gateway, stream=stream)
            assert reply.error["code"] != "rate_limit_exceeded", how
    openai_upstream.play(openai_answer())
    assert (await ask(gateway)).status == 200


@STREAM
async def test_a_slot_comes_back_when_the_caller_leaves(
    gateway: Gateway, openai_upstream: Upstream, stream: bool
) -> None:
    await limited(gateway, VirtualKey, max_parallel_requests=1)
    await _swift_set(gateway, max_parallel_requests=1)
    openai_upstream.play(frames(*openai_events("Hel")[:2], end="hang") if stream else hang(), openai_answer())
    await openai_upstream.left(ask(gateway, stream=stream))
    await eventually_let_in(gateway)


async def test_a_request_that_is_refused_later_on_gives_its_slot_and_tokens_back(gateway: Gateway) -> None:
    await limited(gateway, VirtualKey, max_parallel_requests=1, tpm_limit=2_000)
    for _ in range(3):
        assert (await ask(gateway, model="sage", logprobs=True, max_tokens=1_500)).error["code"] == "no_eligible_model"
    assert (await ask(gateway, max_tokens=1_500)).status == 200


async def test_tokens_count_as_the_vendor_counted_them(gateway: Gateway) -> None:
    """The scripted vendor says 12 in and 5 out, whatever was asked for."""
    await limited(gateway, VirtualKey, tpm_limit=1_000)
    for _ in range(3):
        reply = await ask(gateway, max_tokens=900)
        assert reply.status == 200
    left = int(of_limits(await ask(gateway, max_tokens=1))["x-ratelimit-remaining-tokens"])
    assert 1_000 - 3 * 17 - 40 < left < 1_000 - 3 * 17
