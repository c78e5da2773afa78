"""Answers given again, as callers meet them: who gets one, what it costs, and who asks when many do at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from providers.domain.answer import FinishReason
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.response_cache import KeptAnswer, ResponseCache, Turn
from routerplatform.gateway.runtime import Runtimes
from routerplatform.gateway.shared_answers import PREFIX
from routing.models import CacheMode, Persona, RoutingPolicy, Team, VirtualKey
from routing.services import kept_answers_purge
from tests import gateway as configure
from tests.factories import PersonaFactory, TeamFactory
from tests.gateway import Gateway, Reply, records, serving
from tests.gateway_path.changes import changed
from tests.gateway_path.situation_parts import answered
from tests.routing.domain.build import deployment
from tests.upstreams.scripted import Upstream, frames, hang, openai_answer, openai_events, openai_stream, status

COLD = {"temperature": 0}


@pytest.fixture
def prompt() -> list[dict[str, str]]:
    """Words that nobody has sent before: kept answers outlive a test."""
    return [{"role": "user", "content": f"Tell me about {uuid4()}"}]


async def ask(
    gateway: Gateway, prompt: list[dict[str, str]], wish: str = "", *, key: str | None = None, **body: Any
) -> Reply:
    extra = {"x-router-cache": wish} if wish else {}
    asked = {"model": "swift", "messages": prompt, **body}
    return await gateway.post("/v1/chat/completions", asked, key=key, extra=extra)


def states(*replies: Reply) -> list[str]:
    return [reply.headers["x-router-cache"] for reply in replies]


async def kept(gateway: Gateway, prompt: list[dict[str, str]], **body: Any) -> Reply:
    """Ask until the answer comes from the cache: it is kept a moment after it was given."""
    for _ in range(1000):
        reply = await ask(gateway, prompt, **body)
        if states(reply) == ["hit"]:
            return reply
        await asyncio.sleep(0.02)
    raise AssertionError("the answer was not kept")


async def policy_set(gateway: Gateway, **values: Any) -> None:
    def edit() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        for column, value in values.items():
            setattr(policy, column, value)
        policy.save()

    await changed(gateway, edit)


# --- who gets one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_equal_request_at_temperature_0_gets_the_same_answer_for_nothing(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]], stream: bool
) -> None:
    openai_upstream.play(openai_answer("Same again"))
    first = await ask(gateway, prompt, **COLD, stream=stream)
    again = await ask(gateway, prompt, **COLD, stream=stream)
    assert states(first, again) == ["miss", "hit"]
    assert (again.body, again.text, again.done) == (first.body, "Same again", stream)
    assert len(openai_upstream.calls) == 1
    billed, free = await records(2)
    assert (billed.cache, billed.saved_nano, free.cache) == ("miss", 0, "hit")
    assert (free.cost_nano, free.saved_nano) == (0, billed.cost_nano)
    assert (free.state, free.usage_source, free.input_tokens, free.output_tokens) == ("settled", "none", 0, 0)
    assert (free.deployment, free.attempts) == (billed.deployment, [])
    assert again.headers["x-router-attempts"] == "0"
    assert (billed.cost_nano or 0) > 0


async def test_an_answer_of_another_wire_is_written_anew_for_each_caller(
    gateway: Gateway, anthropic_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    first = await ask(gateway, prompt, **COLD, model="sage")
    again = await ask(gateway, prompt, **COLD, model="sage")
    assert states(first, again) == ["miss", "hit"]
    assert (again.text, again.json["usage"]) == (first.text, first.json["usage"])
    assert again.json["id"] != first.json["id"]
    assert len(anthropic_upstream.calls) == 1


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("temperature", 0.0001),
        ("messages", [{"role": "user", "content": "Something else"}]),
        ("max_tokens", 7),
        ("top_p", 0.5),
        ("seed", 3),
        ("stream", True),
        ("something_new", 1),
        ("model", "sage"),
    ],
)
async def test_a_request_that_differs_in_anything_is_asked_itself(
    gateway: Gateway, prompt: list[dict[str, str]], change: str, value: Any
) -> None:
    await ask(gateway, prompt, **COLD)
    other = await gateway.chat(**{"model": "swift", "messages": prompt, **COLD, change: value})
    assert states(other) != ["hit"]


async def test_without_temperature_0_nothing_is_kept_unless_the_caller_wants_it(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    replies = [await ask(gateway, prompt) for _ in range(2)]
    replies += [await ask(gateway, prompt, "on") for _ in range(2)]
    assert states(*replies) == ["none", "none", "miss", "hit"]
    assert len(openai_upstream.calls) == 3


async def test_a_caller_can_leave_the_cache_alone_and_can_have_an_answer_fetched_anew(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    openai_upstream.play(openai_answer("first"), openai_answer("second"), openai_answer("third"))
    first = await ask(gateway, prompt, **COLD)
    off = await ask(gateway, prompt, "off", **COLD)
    refreshed = await ask(gateway, prompt, "refresh", **COLD)
    assert states(first, off, refreshed) == ["miss", "none", "miss"]
    assert [reply.text for reply in (first, off, refreshed)] == ["first", "second", "third"]
    for _ in range(1000):
        if (await ask(gateway, prompt, **COLD)).text == "third":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the newer answer was not kept")


async def test_a_wish_that_nobody_knows_is_refused_in_words(gateway: Gateway, prompt: list[dict[str, str]]) -> None:
    reply = await ask(gateway, prompt, "maybe")
    assert (reply.status, reply.error["param"]) == (400, "x-router-cache")
    assert "on, off or refresh" in reply.error["message"]


async def test_another_team_never_gets_it_and_another_key_of_the_team_does(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    def keys() -> tuple[str, str]:
        return configure.key(2, team=Team.objects.get()), configure.key(3, team=TeamFactory())

    made: list[str] = []
    await changed(gateway, lambda: made.extend(keys()))
    first = await ask(gateway, prompt, **COLD)
    assert states(first, *[await ask(gateway, prompt, key=key, **COLD) for key in made]) == ["miss", "hit", "miss"]
    assert len(openai_upstream.calls) == 2


async def test_a_key_that_may_not_use_the_model_gets_no_kept_answer(
    gateway: Gateway, prompt: list[dict[str, str]]
) -> None:
    await ask(gateway, prompt, **COLD)

    def restricted() -> None:
        configure.key(2, team=Team.objects.get())
        VirtualKey.objects.latest("pk").allowed_models.set([configure.alias("only-this")])

    await changed(gateway, restricted)
    reply = await ask(gateway, prompt, key=configure.key_text_of(2), **COLD)
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")


# --- what the operator says ------------------------------------------------------------------------------------------


async def test_a_policy_can_keep_every_answer_and_can_keep_none(gateway: Gateway, prompt: list[dict[str, str]]) -> None:
    await policy_set(gateway, cache_mode=CacheMode.ALWAYS)
    assert states(*[await ask(gateway, prompt, model="auto") for _ in range(2)]) == ["miss", "hit"]
    await policy_set(gateway, cache_mode=CacheMode.NEVER)
    assert states(await ask(gateway, prompt, "on", model="auto", **COLD)) == ["none"]


async def test_an_answer_is_kept_for_as_long_as_its_policy_says(gateway: Gateway, prompt: list[dict[str, str]]) -> None:
    await policy_set(gateway, cache_ttl_s=1)
    await ask(gateway, prompt, model="auto", **COLD)
    await kept(gateway, prompt, model="auto", **COLD)
    await asyncio.sleep(1.1)
    assert states(await ask(gateway, prompt, model="auto", **COLD)) == ["miss"]


async def test_a_persona_at_temperature_0_counts_and_a_changed_persona_is_asked_anew(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    def persona() -> None:
        PersonaFactory(slug="terse", policy=RoutingPolicy.objects.get(), temperature=0, system_prompt="Be terse.")

    await changed(gateway, persona)
    assert states(*[await ask(gateway, prompt, model="terse") for _ in range(2)]) == ["miss", "hit"]

    def edit() -> None:
        row = Persona.objects.get(slug="terse")
        row.system_prompt = "Be very terse."
        row.save()

    await changed(gateway, edit)
    assert states(await ask(gateway, prompt, model="terse")) == ["miss"]
    assert len(openai_upstream.calls) == 2


async def test_purged_answers_are_not_given_again(gateway: Gateway, prompt: list[dict[str, str]]) -> None:
    await ask(gateway, prompt, **COLD)
    await kept(gateway, prompt, **COLD)
    await changed(gateway, lambda: kept_answers_purge(team=Team.objects.get(), now=timezone.now()))
    assert states(await ask(gateway, prompt, **COLD)) == ["miss"]
    await kept(gateway, prompt, **COLD)


# --- what is worth keeping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [status(500), status(400), frames(*openai_events("Hel")[:2], end="cut"), openai_answer("", usage=None)],
    ids=["fails", "refuses", "breaks off", "is large"],
)
async def test_what_did_not_end_well_is_asked_again(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]], script: Any, request: Any
) -> None:
    if request.node.callspec.id == "is large":
        script = openai_answer("x" * 1_100_000)
    stream = request.node.callspec.id == "breaks off"
    openai_upstream.play(script)
    await ask(gateway, prompt, **COLD, stream=stream)
    openai_upstream.play(openai_answer("Well"))
    reply = await ask(gateway, prompt, **COLD, stream=stream)
    assert (states(reply), reply.text) == (["miss"], "Well")


async def test_kept_answers_lie_sealed(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    openai_upstream.play(openai_answer("The secret is 42"))
    await ask(gateway, prompt, **COLD)
    await kept(gateway, prompt, **COLD)
    redis = Redis.from_url(django_settings.REDIS_URL)
    stored = [redis.get(name) for name in redis.scan_iter(f"{PREFIX}*")]
    redis.close()
    assert stored
    assert not any(b"secret is 42" in (value or b"") for value in stored)


async def test_a_kept_answer_nobody_can_read_is_fetched_anew(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    await ask(gateway, prompt, **COLD)
    await kept(gateway, prompt, **COLD)
    redis = Redis.from_url(django_settings.REDIS_URL)
    for name in redis.scan_iter(f"{PREFIX}*"):
        redis.set(name, "nobody:knows")
    redis.close()
    assert states(await ask(gateway, prompt, **COLD)) == ["miss"]
    assert len(openai_upstream.calls) == 2


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def second_gateway(gateway: Gateway, settings: Settings, tmp_path: Any) -> AsyncIterator[Gateway]:
    """Another gateway on the same configuration and Redis, as another process would be."""
    settings.JOURNAL_DIR = tmp_path / "second"
    application = Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, gateway.key)


@pytest.mark.parametrize("stream", [False, True])
async def test_100_equal_requests_at_once_make_one_call_in_the_whole_fleet(
    gateway: Gateway, second_gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]], stream: bool
) -> None:
    openai_upstream.play(openai_stream("One", " for", " all", pause_s=0.05) if stream else openai_answer("One for all"))
    asked = (ask(one, prompt, **COLD, stream=stream) for one in (gateway, second_gateway) for _ in range(50))
    replies = await asyncio.gather(*asked)
    assert {(reply.status, reply.text) for reply in replies} == {(200, "One for all")}
    assert sorted(states(*replies)) == ["hit"] * 99 + ["miss"]
    assert len(openai_upstream.calls) == 1
    found = await records(100)
    assert sum(record.cost_nano or 0 for record in found) == max(record.cost_nano or 0 for record in found) > 0


async def test_when_the_one_who_asks_leaves_another_asks(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    openai_upstream.play(hang(), openai_answer("For those who stayed"))
    leaver = asyncio.create_task(ask(gateway, prompt, **COLD))
    await openai_upstream.asked()
    stayed = [asyncio.create_task(ask(gateway, prompt, **COLD)) for _ in range(3)]
    await asyncio.sleep(0.1)
    leaver.cancel()
    replies = await asyncio.gather(*stayed)
    assert {reply.text for reply in replies} == {"For those who stayed"}
    assert len(openai_upstream.calls) == 2


async def test_when_the_one_who_asks_fails_each_of_the_others_is_asked_for_itself(
    gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    openai_upstream.play(status(400), openai_answer("Better"))
    replies = await asyncio.gather(*(ask(gateway, prompt, **COLD) for _ in range(5)))
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 200, 400]
    assert len(openai_upstream.calls) == 2


# --- without Redis ----------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_url(request: Any, settings: Settings) -> None:
    settings.REDIS_URL = request.param


@pytest.mark.parametrize("redis_url", ["", "redis://127.0.0.1:1/0"], indirect=True, ids=["none", "unreachable"])
async def test_without_redis_every_request_is_asked(
    redis_url: None, gateway: Gateway, openai_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    replies = [await ask(gateway, prompt, **COLD) for _ in range(2)]
    assert {reply.status for reply in replies} == {200}
    assert "hit" not in states(*replies)
    assert len(openai_upstream.calls) == 2


async def test_a_hit_is_let_in_by_the_rate_limits_and_takes_none_of_the_budget(
    gateway: Gateway, prompt: list[dict[str, str]]
) -> None:
    def limit() -> None:
        team = Team.objects.get()
        team.rpm_limit = 2
        team.save()

    await changed(gateway, limit)
    replies = [await ask(gateway, prompt, **COLD) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [bool(record.cost_nano) for record in await records(2)] == [True, False]


# --- which route ----------------------------------------------------------------------------------------------------


async def test_who_draws_another_model_of_the_policy_gets_the_answer_too(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    def in_turn() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.candidates.update(group="preferred")
        policy.strategy = "round_robin"
        policy.save()

    await changed(gateway, in_turn)
    await kept(gateway, prompt, model="auto", **COLD)
    asked = len(openai_upstream.calls) + len(anthropic_upstream.calls)
    assert states(*[await ask(gateway, prompt, model="auto", **COLD) for _ in range(4)]) == ["hit"] * 4
    assert len(openai_upstream.calls) + len(anthropic_upstream.calls) == asked


async def test_an_answer_of_a_model_that_may_not_serve_any_more_is_not_given(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, prompt: list[dict[str, str]]
) -> None:
    await kept(gateway, prompt, model="auto", **COLD)
    anthropic_upstream.calls.clear()

    def without_swift() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.candidates.filter(alias__name="swift").delete()
        policy.save()

    await changed(gateway, without_swift)
    assert states(await ask(gateway, prompt, model="auto", **COLD)) == ["miss"]
    assert len(anthropic_upstream.calls) == 1


async def test_another_version_of_the_rules_asks_anew(gateway: Gateway, prompt: list[dict[str, str]]) -> None:
    await kept(gateway, prompt, model="auto", **COLD)
    await policy_set(gateway, version=7)
    assert states(await ask(gateway, prompt, model="auto", **COLD)) == ["miss"]


class Remembering(ResponseCache):
    """Has no Redis to keep answers in."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given: list[KeptAnswer | None] = []

    def finish(self, turn: Turn, kept: KeptAnswer | None) -> None:
        self.given.append(kept)


@pytest.mark.parametrize(
    ("finish", "is_shortened", "is_kept"),
    [("stop", False, True), ("stop", True, True), ("length", False, True), ("length", True, False)],
)
async def test_an_answer_that_a_filling_budget_has_cut_is_not_kept(
    finish: str, is_shortened: bool, is_kept: bool
) -> None:
    cache = Remembering(None, ttl_s=60)
    fetching: asyncio.Future[KeptAnswer | None] = asyncio.get_running_loop().create_future()
    turn = Turn(cache, "key", 60, fetching=fetching, is_shortened=is_shortened)
    turn.end(answered(deployment(1), finish=FinishReason(finish)), 1.0, is_answered=True)
    assert [answer is not None for answer in cache.given] == [is_kept]
