"""Several keys of one provider: which is taken, which rests, what a caller notices of it. Over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from providers.models import Provider
from tests import gateway as configure
from tests.factories import ProviderKeyFactory
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed, provider_set
from tests.upstreams.scripted import Script, Upstream, openai_answer, status

QUOTA = {"error": {"message": "you are out of quota", "code": "insufficient_quota"}}


def add_keys(number: int) -> None:
    provider = Provider.objects.get(name="alpha")
    for index in range(number):
        ProviderKeyFactory(provider=provider, secret=f"sk-alpha-000{index + 2}")


def keys_seen(upstream: Upstream) -> list[str]:
    return [call.headers.get("Authorization", "")[-4:] for call in upstream.calls]


def refusing(*last4: str, code: int = 429, body: Any = "", headers: dict[str, str] | None = None) -> Script:
    """Refuses some keys and answers the others."""

    async def script(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        refused = request.headers["Authorization"][-4:] in last4
        return await (status(code, body, headers) if refused else openai_answer())(request, asked)

    return script


async def ask(gateway: Gateway, times: int, **body: Any) -> list[Reply]:
    return [await gateway.chat(**{"model": "swift", **body}) for _ in range(times)]


async def test_another_key_is_tried_at_once_and_counts_as_an_attempt(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: add_keys(1))
    openai_upstream.play(refusing("0001"))
    replies = await ask(gateway, 4, model="auto")
    assert {reply.text for reply in replies} == {"Hello"}
    assert Counter(reply.headers["x-router-attempts"] for reply in replies) == {"1": 3, "2": 1}
    assert Counter(keys_seen(openai_upstream)) == {"0001": 1, "0002": 4}
    assert anthropic_upstream.calls == []
    tried = [record.attempts for record in await records(4) if len(record.attempts) == 2]
    assert [[(one["key_last4"], one.get("failure", "")) for one in attempts] for attempts in tried] == [
        [("0001", "rate_limited"), ("0002", "")]
    ]


@pytest.mark.parametrize(
    ("code", "body", "failure"),
    [(401, {"error": {"message": "no such key"}}, "authentication"), (429, QUOTA, "quota_exhausted")],
)
async def test_a_key_that_is_refused_or_empty_rests_too(
    gateway: Gateway, openai_upstream: Upstream, code: int, body: dict[str, Any], failure: str
) -> None:
    await changed(gateway, lambda: add_keys(1))
    openai_upstream.play(refusing("0002", code=code, body=body))
    assert {reply.status for reply in await ask(gateway, 6)} == {200}
    assert Counter(keys_seen(openai_upstream)) == {"0002": 1, "0001": 6}
    failures = [one["failure"] for record in await records(6) for one in record.attempts if one.get("failure")]
    assert failures == [failure]


async def test_every_key_is_tried_before_the_next_target(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: add_keys(2))
    openai_upstream.play(status(429))
    [reply] = await ask(gateway, 1, model="auto")
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Bonjour", "4")
    assert sorted(keys_seen(openai_upstream)) == ["0001", "0002", "0003"]
    [reply] = await ask(gateway, 1, model="auto")
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Bonjour", "1")
    decision = (await records(2))[-1].decision
    assert decision["candidates"][0]["reason"].startswith("all its keys rest for another")


async def test_attempts_are_bounded_over_keys_too(gateway: Gateway, openai_upstream: Upstream) -> None:
    await changed(gateway, lambda: add_keys(6))
    openai_upstream.play(status(429))
    [reply] = await ask(gateway, 1)
    assert (reply.error["code"], len(openai_upstream.calls)) == ("upstream_rate_limited", 4)


async def test_when_nothing_else_is_left_the_time_that_the_vendor_named_is_told(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, headers={"retry-after": "7"}))
    first, second = await ask(gateway, 2)
    for reply in (first, second):
        assert (reply.status, reply.error["code"]) == (429, "upstream_rate_limited")
    assert first.headers["retry-after"] == "7"
    assert second.headers["retry-after"] in {"6", "7"}
    assert "its key rests for another" in second.error["message"]
    assert len(openai_upstream.calls) == 1


async def test_when_nothing_else_is_left_a_time_that_we_guessed_keeps_nobody_waiting(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429), openai_answer("Again"))
    first, second = await ask(gateway, 2)
    assert (first.status, second.text) == (429, "Again")


async def test_a_limit_of_one_model_leaves_the_others_of_the_provider_in_service(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    def second_model() -> None:
        provider = Provider.objects.get(name="alpha")
        model = configure.CatalogueModelFactory(name="alpha-other", capabilities=configure.ALL_CAPABILITIES)
        configure.alias("other", configure.DeploymentFactory(provider=provider, model=model, upstream_model="other-1"))

    await changed(gateway, second_model)
    openai_upstream.play(status(429, headers={"retry-after": "60"}), openai_answer())
    assert (await gateway.chat(model="swift")).status == 429
    assert (await gateway.chat(model="other")).status == 200
    assert (await gateway.chat(model="swift")).status == 429


@pytest.mark.parametrize(("strategy", "spread"), [("round_robin", {4}), ("least_used", {4})])
async def test_requests_are_spread_over_the_keys(
    gateway: Gateway, openai_upstream: Upstream, strategy: str, spread: set[int]
) -> None:
    await changed(gateway, lambda: (add_keys(2), provider_set("alpha", key_strategy=strategy)))
    await ask(gateway, 12)
    assert set(Counter(keys_seen(openai_upstream)).values()) == spread


async def test_the_key_with_the_fewest_requests_under_way_is_taken(gateway: Gateway, openai_upstream: Upstream) -> None:
    """One key's requests take long: the other one gets those that come meanwhile."""
    await changed(gateway, lambda: (add_keys(1), provider_set("alpha", key_strategy="least_used")))
    released = asyncio.Event()
    openai_upstream.play(slow_for("0001", until=released.wait))
    slow: list[asyncio.Task[Reply]] = []
    while "0001" not in keys_seen(openai_upstream):
        slow.append(asyncio.create_task(gateway.chat(model="swift")))
        await asyncio.sleep(0.1)
    openai_upstream.calls.clear()
    await ask(gateway, 5)
    assert keys_seen(openai_upstream) == ["0002"] * 5
    released.set()
    assert {(await one).status for one in slow} == {200}


def slow_for(last4: str, *, until: Callable[[], Any]) -> Script:
    async def script(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        if request.headers["Authorization"].endswith(last4):
            await until()
        return await openai_answer()(request, asked)

    return script
