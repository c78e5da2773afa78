"""What is gathered for a decision, as callers meet it: conversations stay where they are, quick models are found, and
classifiers are asked, paid for and replaced."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from pytest_django import Settings

from analytics.models import UsageRecord
from routing.models import ClassifierKind, ClassifierPlugIn, ModelAlias, RouterArtefact, RoutingPolicy
from tests import gateway as configure
from tests.factories import PersonaFactory, key_text_of
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed
from tests.gateway_path.situation_parts import OWN
from tests.gateway_path.test_metrics import grew, scraped
from tests.upstreams.scripted import Script, Upstream, hang, openai_answer, status

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


async def policy_set(gateway: Gateway, **values: Any) -> None:
    """The default policy, with both models preferred."""

    def edit() -> None:
        rules = RoutingPolicy.objects.get(name="default")
        rules.candidates.update(group="preferred")
        for column, value in values.items():
            setattr(rules, column, value)
        rules.save()

    await changed(gateway, edit)


async def say(gateway: Gateway, *turns: str, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        messages += [{"role": "assistant", "content": "I see."}] if number else []
        messages.append({"role": "user", "content": turn})
    asked = {"model": "auto", "messages": messages, **body}
    return await gateway.post("/v1/chat/completions", asked, extra=headers)


async def asked_of(*upstreams: Upstream) -> list[int]:
    return [len(upstream.calls) for upstream in upstreams]


# --- conversations --------------------------------------------------------------------------------------------------


async def test_a_sticky_policy_keeps_a_conversation_where_it_began(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await policy_set(gateway, strategy="round_robin", is_sticky=True)
    for turns in (["Hello"], ["Hello", "And?"], ["Hello", "And?", "So?"]):
        await say(gateway, *turns)
    assert await asked_of(openai_upstream, anthropic_upstream) == [3, 0]
    await say(gateway, "Good morning")  # it is the fourth request, so it is the other one's turn
    await say(gateway, "Good morning", "And?")
    assert await asked_of(openai_upstream, anthropic_upstream) == [3, 2]


async def test_without_it_every_request_is_on_its_own(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await policy_set(gateway, strategy="round_robin")
    for turns in (["Hello"], ["Hello", "And?"], ["Hello", "And?", "So?"], ["Hello", "And?", "So?", "Well?"]):
        await say(gateway, *turns)
    assert await asked_of(openai_upstream, anthropic_upstream) == [2, 2]


async def test_a_loop_of_tools_never_changes_the_model_whatever_the_policy(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await policy_set(gateway, strategy="round_robin")
    await say(gateway, "Is it sunny?", tools=[WEATHER])
    loop = [
        {"role": "user", "content": "Is it sunny?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call-1", "content": "Sunny"},
    ]
    for _ in range(3):
        assert (await say(gateway, messages=loop, tools=[WEATHER])).status == 200
    assert await asked_of(openai_upstream, anthropic_upstream) == [4, 0]


async def test_the_quickest_is_found_by_its_answers(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    slow = openai_upstream._scripts[0]

    async def late(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await hang(0.3)(request, body)
        return await slow(request, body)

    openai_upstream.play(late)
    for model in ("swift", "sage"):
        await say(gateway, "Hello", model=model)
    await policy_set(gateway, strategy="lowest_latency")
    await say(gateway, "Hello")
    assert await asked_of(openai_upstream, anthropic_upstream) == [1, 2]


async def test_a_kept_answer_serves_whoever_else_would_have_drawn_another_model(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await policy_set(gateway, strategy="round_robin")
    words = f"Something that nobody has said: {id(gateway)} {openai_upstream.url}"
    states = []
    for _ in range(5):
        reply = await say(gateway, words, temperature=0)
        states.append(reply.headers["x-router-cache"])
    assert states[0] == "miss"
    assert "hit" in states
    assert sum(await asked_of(openai_upstream, anthropic_upstream)) == states.count("miss")


# --- classifiers ----------------------------------------------------------------------------------------------------


async def classifier_set(gateway: Gateway, kind: ClassifierKind, **values: Any) -> None:
    def edit() -> None:
        named = ModelAlias.objects.get(name=values.pop("alias")) if "alias" in values else None
        ClassifierPlugIn.objects.create(
            name="own", kind=kind, alias=named, is_active=True, **{"timeout_ms": 10_000, **values}
        )

    await changed(gateway, edit)


async def record_of(door: str, count: int) -> UsageRecord:
    found = [record for record in await records(count) if record.door == door]
    return found[-1]


async def test_a_row_in_the_admin_says_who_classifies(gateway: Gateway) -> None:
    await policy_set(gateway, strategy="best_quality")
    await classifier_set(gateway, ClassifierKind.DOTTED, dotted_path=f"{OWN}.Sync")
    await say(gateway, "Fix my code", headers={"x-router-tag": "tickets"})
    record = await record_of("chat-completions", 1)
    assert (record.task_type, record.tag) == ("CODING", "tickets")


async def test_one_that_fails_is_counted_and_health_tells(gateway: Gateway) -> None:
    await policy_set(gateway, strategy="best_quality")
    await classifier_set(gateway, ClassifierKind.DOTTED, dotted_path=f"{OWN}.Raising")
    assert (await gateway.get("/health")).json["classifier"] == "ok"
    before = await scraped(gateway)
    assert (await say(gateway, "Fix my code")).status == 200
    after = await scraped(gateway)
    name = "ai_proxy_classifier_failures_total"
    assert grew(before, after, name, classifier="own", reason="raised") == 1
    assert (await gateway.get("/health")).json["classifier"] == "failing"


@pytest.fixture
def paying(settings: Settings) -> None:
    """The key that `gateway` presents pays for classifications too."""
    settings.ROUTER_CLASSIFIER_KEY = key_text_of(1)


@pytest.fixture
async def judge() -> AsyncIterator[Upstream]:
    upstream = Upstream(openai_answer("CREATIVE."))
    await upstream.start()
    yield upstream
    await upstream.stop()


async def judge_set(gateway: Gateway, judge: Upstream, kind: ClassifierKind, **options: Any) -> None:
    def edit() -> None:
        [deployment] = configure.vendor("gamma", judge.url, "judge-1", **options)
        configure.alias("judge", deployment)

    await changed(gateway, edit)
    await classifier_set(gateway, kind, alias="judge")


async def test_a_model_is_asked_once_for_each_text_and_paid_for(
    paying: None, gateway: Gateway, judge: Upstream
) -> None:
    await policy_set(gateway, strategy="best_quality")
    await judge_set(gateway, judge, ClassifierKind.LLM)
    for _ in range(2):
        assert (await say(gateway, "Rain on the roof, in verse")).status == 200
    [asked] = judge.calls
    assert asked.body["temperature"] == 0
    assert "<text>\nRain on the roof, in verse\n</text>" in json.dumps(asked.body, ensure_ascii=False).replace(
        "\\n", "\n"
    )
    paid = await record_of("classifier", 3)
    assert (paid.requested_model, paid.policy_name if hasattr(paid, "policy_name") else "") == ("judge", "")
    assert paid.cost_nano
    assert (await record_of("chat-completions", 3)).task_type == "CREATIVE"


@pytest.mark.parametrize("script", [openai_answer("I would say that it is CODING, but who knows?"), status(500, "")])
async def test_a_model_that_babbles_or_is_away_is_replaced(
    paying: None, gateway: Gateway, judge: Upstream, script: Script
) -> None:
    judge.play(script)
    await policy_set(gateway, strategy="best_quality")
    await judge_set(gateway, judge, ClassifierKind.LLM)
    assert (await say(gateway, "Rain on the roof, in verse")).status == 200
    assert (await gateway.get("/health")).json["classifier"] == "failing"


async def test_a_name_that_leads_to_a_policy_is_never_asked(paying: None, gateway: Gateway, judge: Upstream) -> None:
    await judge_set(gateway, judge, ClassifierKind.LLM)
    await policy_set(gateway, strategy="best_quality")

    def circle() -> None:
        PersonaFactory(slug="judge", policy=RoutingPolicy.objects.get(name="default"))

    await changed(gateway, circle)
    assert (await say(gateway, "Rain on the roof, in verse")).status == 200
    assert judge.calls == []
    assert await sync_to_async(UsageRecord.objects.filter(door="classifier").count)() == 0


def directions(*, length: int = 3) -> Script:
    """Vectors for texts: whatever speaks of code points one way, all else another."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [
            [1.0, 0.1, *[0.0] * (length - 2)] if _is_code(text) else [0.1, 1.0, *[0.2] * (length - 2)] for text in texts
        ]
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return web.json_response({
            "object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 9, "total_tokens": 9},
        })  # fmt: skip

    return script


def _is_code(text: str) -> bool:
    words = ("Python", "SQL", "class", "regular", "React", "Bash", "annotations")
    return any(word in text for word in words)


async def test_embeddings_say_which_examples_a_text_is_most_like(
    paying: None, gateway: Gateway, judge: Upstream
) -> None:
    judge.play(directions())
    await policy_set(gateway, strategy="best_quality")
    await judge_set(gateway, judge, ClassifierKind.EMBEDDINGS, capabilities=["embeddings"])
    for text in ("Repair this SQL", "Repair this SQL", "Repair this SQL too"):
        assert (await say(gateway, text)).status == 200
    assert [len(call.body["input"]) if isinstance(call.body["input"], list) else 1 for call in judge.calls] == [
        35,
        1,
        1,
    ]
    assert (await record_of("chat-completions", 6)).task_type == "CODING"


async def test_another_model_behind_the_alias_is_learnt_anew(paying: None, gateway: Gateway, judge: Upstream) -> None:
    judge.play(directions(), directions(), directions(length=5))
    await policy_set(gateway, strategy="best_quality")
    await judge_set(gateway, judge, ClassifierKind.EMBEDDINGS, capabilities=["embeddings"])
    for text in ("Repair this SQL", "Repair that SQL", "Repair my SQL"):
        assert (await say(gateway, text)).status == 200
    assert (await record_of("chat-completions", 8)).task_type == "CODING"
    assert (await gateway.get("/health")).json["classifier"] == "ok"


async def test_an_artefact_that_cannot_be_read_is_told_and_everything_is_served(gateway: Gateway) -> None:
    await policy_set(gateway, strategy="best_quality")
    await changed(gateway, lambda: RouterArtefact.objects.create(version="broken", data=b"no archive", is_active=True))
    assert (await say(gateway, "Fix my code")).status == 200
    assert (await gateway.get("/health")).json["problem"]
