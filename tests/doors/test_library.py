"""The library's door inside of the platform: a program that shares an installation with everybody else."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from analytics.models import UsageRecord
from routerplatform.doors.library import (
    AIModelRouter,
    BadRequestError,
    CostAlert,
    RefusedError,
    RouterError,
    SetupError,
    UnavailableError,
)
from routerplatform.library.engine import Opened
from routing.models import VirtualKey
from routing.selectors import config_revision
from routing.services import key_revoke
from tests.conftest import configure_two_vendors
from tests.factories import BudgetFactory
from tests.gateway import HELLO, Gateway, records
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, drop, frames, hang, openai_answer, openai_events, openai_stream, status

OWN = {"request_id", "started_at", "finished_at", "door", "ttft_ms", "latency_ms", "overhead_ms", "attempts"}


@pytest.fixture
async def key(
    transactional_db: None,
    settings: Settings,
    tmp_path: Path,
    openai_upstream: Upstream,
    anthropic_upstream: Upstream,
) -> str:
    """An installation with the two models of `gateway`, and no gateway."""
    settings.JOURNAL_DIR = tmp_path / "journal"
    return await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)


@pytest.fixture
async def router(key: str) -> AsyncIterator[AIModelRouter]:
    async with AIModelRouter(api_key=key) as router:
        yield router


async def test_an_answer_tells_model_cost_and_response(router: AIModelRouter, openai_upstream: Upstream) -> None:
    answer = await router.route("Why is the sky blue?", system="Be brief.", max_tokens=50, tag="quiz")
    assert (answer["model_used"], answer["response"], answer["provider"]) == ("alpha-swift-1", "Hello", "alpha")
    assert answer["cost"] == pytest.approx(0.000022)
    assert answer["usage"]["input_tokens"] == 12
    assert answer["latency"] == answer["latency_ms"] / 1000
    sent = openai_upstream.calls[0].body
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user"]
    assert sent["max_tokens"] == 50
    [record] = await records()
    assert (str(record.request_id), record.door, record.tag) == (answer["request_id"], "library", "quiz")


async def test_it_leaves_the_record_that_http_leaves_but_for_the_door(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    assert (await gateway.chat(model="auto")).status == 200
    async with AIModelRouter(api_key=gateway.key) as router:
        await router.route(HELLO, model="auto")
    first, second = await records(2)
    differs = {
        field.attname
        for field in UsageRecord._meta.concrete_fields
        if getattr(first, field.attname) != getattr(second, field.attname)
    }
    assert differs <= OWN, [(getattr(first, name), getattr(second, name)) for name in differs - OWN]
    assert {first.door, second.door} == {"chat-completions", "library"}


async def test_a_stream_comes_piece_by_piece_and_ends_with_the_result(
    router: AIModelRouter, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream("Hel", "lo", pause_s=0.05))
    stream = await router.route("Hi", stream=True)
    pieces = [piece async for piece in stream]
    assert "".join(pieces) == "Hello"
    assert len(pieces) > 1
    assert (stream.result["response"], stream.result["cost"]) == ("Hello", pytest.approx(0.000022))


async def test_leaving_a_stream_ends_the_call_upstream(router: AIModelRouter, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream(*["more "] * 500, pause_s=0.02))
    async for _ in router.route_stream("Hi", model="swift"):
        break
    gc.collect()
    async with asyncio.timeout(PATIENCE_S):
        await openai_upstream.calls[0].cut.wait()
    [record] = await records()
    assert record.state == "cancelled"


async def test_giving_up_ends_the_call_upstream(router: AIModelRouter, openai_upstream: Upstream) -> None:
    openai_upstream.play(hang())
    await openai_upstream.left(router.route("Hi", model="swift"))
    async with asyncio.timeout(PATIENCE_S):
        await openai_upstream.calls[0].cut.wait()
    [record] = await records()
    assert record.state == "cancelled"


async def test_another_model_answers_when_the_first_is_down(router: AIModelRouter, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(500))
    answer = await router.route("Hi")
    assert (answer["model_used"], answer["response"]) == ("beta-sage-1", "Bonjour")
    assert answer["attempts"] > 1


async def test_what_no_provider_answers_is_an_error_with_a_code(
    router: AIModelRouter, openai_upstream: Upstream
) -> None:
    openai_upstream.play(drop())
    with pytest.raises(UnavailableError) as caught:
        await router.route("Hi", model="swift")
    assert caught.value.code == "upstream_failed"
    assert caught.value.request_id
    openai_upstream.play(frames(*openai_events("Hel")[:2], end="cut"))
    stream = router.route_stream("Hi", model="swift")
    assert await anext(stream) == "Hel"
    with pytest.raises(RouterError, match="cut its answer off"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize(
    ("said", "code", "names"),
    [
        ({"model": "gpt-nil"}, "model_not_found", "gpt-nil"),
        ({"task_type": "POETRY"}, "invalid_request", "SIMPLE_QA"),
        ({"temperature": "hot"}, "invalid_request", "temperature"),
        ({"max_cost": -1}, "invalid_request", "max_cost"),
        ({"max_cost": 0.000001}, "no_eligible_model", "request's ceiling of $0.000001"),
        ({"metadata": {1, 2}.__iter__}, "invalid_request", "cannot be sent"),
    ],
)
async def test_what_cannot_be_is_named(router: AIModelRouter, said: dict[str, Any], code: str, names: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await router.route("Hi", **said)
    assert caught.value.code == code
    assert names in caught.value.message
    for nonsense in (b"bytes", 7, [1], ""):
        with pytest.raises(BadRequestError):
            await router.route(nonsense)  # type: ignore[arg-type]


async def test_a_budget_of_nothing_refuses(key: str) -> None:
    def limit() -> None:
        BudgetFactory(team=VirtualKey.objects.get().team, max_budget=Decimal(0))

    await sync_to_async(limit)()
    async with AIModelRouter(api_key=key) as router:
        with pytest.raises(RefusedError) as caught:
            await router.route("Hi")
        assert caught.value.code == "insufficient_quota"
        batch = await router.route_batch(["one", "two"])
        assert [one["error"]["code"] for one in batch["results"]] == ["insufficient_quota"] * 2


async def test_many_at_once_cost_what_they_cost_together(router: AIModelRouter, openai_upstream: Upstream) -> None:
    answers = await asyncio.gather(*[router.route(f"Question {number}") for number in range(12)])
    assert {answer["response"] for answer in answers} == {"Hello"}
    prompts: list[Any] = ["one", {"prompt": "two", "model": "sage"}, {"prompt": "three", "model": "nil"}]
    batch = await router.route_batch(prompts, max_parallel=2)
    assert [one.get("response") for one in batch["results"]] == ["Hello", "Bonjour", None]
    assert batch["results"][2]["error"]["code"] == "model_not_found"
    assert batch["total_cost"] == pytest.approx(0.000044)
    assert (batch["succeeded"], batch["failed"], batch["unpriced"]) == (2, 1, 0)
    with pytest.raises(BadRequestError, match="max_parallel"):
        await router.route_batch(["one"], max_parallel=0)
    with pytest.raises(BadRequestError, match="list"):
        await router.route_batch("one")


async def test_figures_hold_all_that_was_answered_so_far(
    key: str, router: AIModelRouter, openai_upstream: Upstream
) -> None:
    with pytest.raises(RefusedError, match="lacks the scope “usage”"):
        router.get_stats()
    await sync_to_async(let_read_usage)()
    await noticed(router)
    began = datetime.now(UTC)
    assert router.get_stats()["success_rate"] is None
    await asyncio.gather(*[router.route("Hi") for _ in range(3)])
    openai_upstream.play(status(500))
    with pytest.raises(RouterError):
        await router.route("Hi", model="swift")
    stats = router.get_stats()
    assert stats["total_cost"] == pytest.approx(0.000066)
    assert (stats["requests"], stats["failed_requests"], stats["success_rate"]) == (4, 1, 0.75)
    assert stats["avg_latency"] > 0
    assert stats["model_usage"]["alpha-swift-1"]["cost"] == pytest.approx(0.000066)
    assert router.get_stats(since=began)["requests"] == 4
    assert router.get_stats(since=datetime.now(UTC))["requests"] == 0
    with pytest.raises(BadRequestError, match="time zone"):
        router.get_stats(since=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def test_a_callback_is_told_once_when_a_cost_is_reached(key: str) -> None:
    loop, told, plain = asyncio.get_running_loop(), asyncio.Queue[CostAlert](), list[CostAlert]()

    async def tell(alert: CostAlert) -> None:
        assert asyncio.get_running_loop() is loop
        await told.put(alert)

    def note(alert: CostAlert) -> None:
        plain.append(alert)
        raise RuntimeError("a callback that fails harms nobody")

    async with AIModelRouter(api_key=key, cost_alert=0.00003, on_alert=tell) as router:
        router.alert_at(0.00001, note)
        await router.route("Hi")
        assert told.empty()
        await router.route("Hi")
        async with asyncio.timeout(PATIENCE_S):
            alert = await told.get()
        assert (alert.threshold, alert.total_cost) == (0.00003, pytest.approx(0.000044))
        await router.route("Hi")
    assert told.empty()
    assert [one.threshold for one in plain] == [0.00001]
    for nonsense in (0, -1.0, float("nan"), "ten", True):
        with pytest.raises(BadRequestError):
            AIModelRouter(cost_alert=nonsense, on_alert=note)  # type: ignore[arg-type]


async def test_without_a_key_of_its_own_a_team_called_library_pays(key: str) -> None:
    async with AIModelRouter() as router, AIModelRouter() as other:
        await asyncio.gather(router.route("Hi"), other.route("Hi"))
        found = await records(2)
        assert router.get_stats()["requests"] == 2  # whichever of the two has asked
    assert {(record.team_name, record.key_name) for record in found} == {("Library", "library")}
    assert len({record.key_id for record in found}) == 1
    library = await VirtualKey.objects.aget(name="library")
    await sync_to_async(key_revoke)(key=library, by=None)
    async with AIModelRouter() as router:
        with pytest.raises(SetupError, match="not in force"):
            await router.route("Hi")


async def test_a_wrong_key_is_refused(key: str) -> None:
    async with AIModelRouter(api_key="rp_nobody") as router:
        with pytest.raises(RefusedError) as caught:
            await router.route("Hi")
        assert caught.value.code == "invalid_api_key"


async def test_a_router_outlives_the_loops_of_a_program_and_ends_when_it_is_closed(
    key: str, openai_upstream: Upstream
) -> None:
    def program() -> list[str]:
        with_two_loops = AIModelRouter(api_key=key)
        said = [asyncio.run(with_two_loops.route("Hi"))["response"] for _ in range(2)]
        said.append(with_two_loops.route_sync("Hi", model="swift")["response"])
        with_two_loops.close()
        with_two_loops.close()
        with pytest.raises(UnavailableError, match="closed"):
            with_two_loops.route_sync("Hi")
        return said

    assert await asyncio.to_thread(program) == ["Hello"] * 3
    assert await UsageRecord.objects.acount() == 3  # all of them, when `close` is back
    assert not [thread for thread in threading.enumerate() if thread.name == "ai-router"]


async def test_a_forgotten_router_ends_by_itself_and_loses_nothing(key: str, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer("one"), hang())
    router = AIModelRouter(api_key=key)
    await router.route("Hi", model="swift")
    abandoned = asyncio.create_task(router.route("Hi", model="swift"))
    await openai_upstream.asked(2)
    await router.aclose()
    with pytest.raises(UnavailableError, match="closed"):
        await abandoned
    del router, abandoned
    gc.collect()
    states = sorted([record.state for record in await records(2)])
    assert states == ["cancelled", "settled"]


def let_read_usage() -> None:
    key = VirtualKey.objects.get()
    key.scopes = [*key.scopes, "usage"]
    key.save()


async def revision_of(library: Opened) -> int:
    return library.runtime.config.current().revision


async def noticed(router: AIModelRouter) -> None:
    """Until the router goes by what was saved last."""
    revision = await sync_to_async(config_revision)()
    async with asyncio.timeout(PATIENCE_S):
        while await router._engine.run(revision_of) < revision:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
