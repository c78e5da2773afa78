"""A chat of a batch against the same chat asked alone: the same record, the same answer, the same rules. And what
happens to those under way when the gateway, or a provider, has no room."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from pytest_django import Settings

from routerplatform.application import Application
from routing.models import Persona, RoutingPolicy
from tests.doors.test_batch import PATH, echo, hang_for_a_moment, key_set, send
from tests.factories import PersonaFactory
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed, price_forget
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, hang, openai_answer, status

OF_ITS_OWN = {  # of each record: ids, times, and what is measured
    "request_id", "started_at", "finished_at", "shipped_at", "ttft_ms", "latency_ms", "overhead_ms", "attempts", "door",
}  # fmt: skip


def facts(record: Any) -> dict[str, Any]:
    names = {field.attname for field in record._meta.concrete_fields} - OF_ITS_OWN
    return {name: getattr(record, name) for name in names}


async def test_the_record_is_that_of_a_chat_but_for_the_door(gateway: Gateway) -> None:
    hints = {"x-router-tag": "nightly"}
    body = {"model": "swift", "messages": HELLO, "max_tokens": 20}
    alone = await gateway.post("/api/v1/chat", body, extra=hints)
    batch = await gateway.post(PATH, {"requests": [body]}, extra=hints)
    first, second = await records(2)
    assert (first.door, second.door) == ("rest", "batch")
    assert facts(first) == facts(second)
    assert first.tag == "nightly"
    timed = {"id", "ttft_ms", "latency_ms"}
    told, [row] = alone.json, batch.json["results"]
    assert {name: value for name, value in row["response"].items() if name not in timed} == {
        name: value for name, value in told.items() if name not in timed
    }


async def test_a_persona_and_a_kind_of_work_hold_for_those_that_say_them(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    def make() -> Persona:
        made: Persona = PersonaFactory(
            slug="analyst", system_prompt="Answer with figures.", policy=RoutingPolicy.objects.get(), max_tokens=321
        )
        return made

    await changed(gateway, make)
    requests = [{"prompt": "a"}, {"prompt": "b", "persona": ""}, {"prompt": "c", "task_type": "cooking"}]
    told = await send(gateway, requests=requests, persona="analyst", task_type="coding")
    assert [row["status"] for row in told["results"]] == ["ok", "ok", "error"]
    assert told["results"][2]["error"]["param"] == "task_type"
    assert [row["response"]["persona"] for row in told["results"][:2]] == ["analyst", ""]
    sent = {call.body["messages"][-1]["content"]: call.body for call in openai_upstream.calls}
    assert sent["a"]["messages"][0]["content"] == "Answer with figures."
    assert len(sent["b"]["messages"]) == 1
    assert {record.task_type for record in await records(2)} == {"CODING"}


async def test_a_chat_falls_back_while_the_others_do_not(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(500), openai_answer())
    told = await send(gateway, prompts=["a", "b"], max_parallel=1)
    assert [row["response"]["deployment"] for row in told["results"]] == ["beta/sage-1", "alpha/swift-1"]
    assert [row["response"]["attempts"] for row in told["results"]] == [2, 1]


async def test_equal_chats_are_answered_from_the_cache_where_the_caller_wants_that(
    gateway: Gateway, openai_upstream: Upstream, settings: Settings
) -> None:
    if not settings.REDIS_URL:
        pytest.skip("no Redis, no cache")
    body = {"prompts": ["equal"] * 4, "model": "swift", "temperature": 0, "max_parallel": 1}
    told = (await gateway.post(PATH, body, extra={"x-router-cache": "on"})).json
    assert told["counts"]["ok"] == 4
    assert len(openai_upstream.calls) < 4
    assert told["total_cost"] == pytest.approx(len(openai_upstream.calls) * 22e-6)
    off = (await gateway.post(PATH, body, extra={"x-router-cache": "off"})).json
    assert off["total_cost"] == pytest.approx(4 * 22e-6)
    bad = (await gateway.post(PATH, body, extra={"x-router-cache": "maybe"})).json
    assert {row["error"]["param"] for row in bad["results"]} == {"x-router-cache"}


async def test_what_has_no_price_is_counted_apart(gateway: Gateway, openai_upstream: Upstream) -> None:
    await changed(gateway, lambda: price_forget("alpha"))
    told = await send(gateway, requests=[{"model": "swift"}, {"model": "sage"}], messages=HELLO)
    assert [row["response"]["cost_usd"] for row in told["results"]] == [None, pytest.approx(22e-6)]
    assert (told["total_cost_usd"], told["unpriced"]) == ("0.000022", 1)


async def test_a_provider_that_has_no_room_is_asked_again_as_often_as_it_says_when(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    """Each try is a request on record; the one that answered is the chat's."""
    full = status(429, {"error": {"message": "slow down"}}, {"retry-after": "3"})
    openai_upstream.play(full, openai_answer())
    told = await send(gateway, prompts=["a"], model="swift")
    [row] = told["results"]
    found = await records(2)
    assert [record.error_code for record in found] == ["upstream_rate_limited", ""]
    assert row["request_id"] == str(found[-1].request_id)


async def test_what_a_provider_refuses_for_longer_is_told_with_when(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow down"}}, {"retry-after": "30"}))
    [row] = (await send(gateway, prompts=["a"], model="swift"))["results"]
    assert (row["error"]["code"], row["error"]["status"]) == ("upstream_rate_limited", 429)
    assert 20 < row["error"]["retry_after_s"] <= 31
    assert len(openai_upstream.calls) == 1


async def test_a_gateway_that_stops_tells_what_is_answered_and_begins_nothing(
    gateway: Gateway, application: Application, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_answer(), hang())
    asking = asyncio.create_task(send(gateway, prompts=["x"] * 6, model="swift", max_parallel=2))
    await openai_upstream.asked(3)
    await (await application._runtimes.current()).close()
    told = await asyncio.wait_for(asking, PATIENCE_S)
    assert [row["status"] for row in told["results"]].count("ok") == 1
    assert {row["error"]["code"] for row in told["results"] if "error" in row} == {"unavailable"}
    assert len(openai_upstream.calls) == 3


async def test_the_slots_of_a_key_are_shared_with_its_other_requests(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(hang_for_a_moment(0.3))
    await key_set(gateway, max_parallel_requests=2)
    asking = asyncio.create_task(send(gateway, prompts=["x"] * 4, model="swift", max_parallel=4))
    await openai_upstream.asked(2)
    assert (await gateway.chat(model="swift")).error["code"] == "rate_limit_exceeded"
    assert (await asking)["counts"]["ok"] == 4


@pytest.fixture
def small_bodies(settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 1_000


async def test_a_body_that_is_too_large_is_not_read(small_bodies: None, gateway: Gateway) -> None:
    reply = await gateway.post(PATH, {"prompts": ["x" * 2_000]})
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "valid JSON"),
        (b"[]", "object"),
        (b'{"prompts": ["\xff"]}', "UTF-8"),
        (b'{"prompts": ["\\ud83d"]}', "surrogate"),
        (b'{"prompts": ["x"], "temperature": NaN}', "valid JSON"),
        (b'{"requests": [' + b"[" * 100_000, ""),
    ],
)
async def test_what_is_no_json_is_refused_in_words(gateway: Gateway, body: bytes, words: str) -> None:
    reply = await gateway.post(PATH, body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert words in reply.error["message"]


async def test_any_text_comes_back_as_it_went(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(echo())
    texts = ["\u2028 line", "<&>", "日本語", "\U0001f468\u200d\U0001f469", '"quoted"\n\ttab']
    told = await send(gateway, prompts=texts, model="swift")
    assert [row["response"]["content"] for row in told["results"]] == texts


async def test_many_batches_side_by_side_do_not_mix(gateway: Gateway, openai_upstream: Upstream) -> None:
    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return await echo()(request, body)

    openai_upstream.play(script)
    sent = [[f"{batch}-{chat}" for chat in range(5)] for batch in range(6)]
    told = await asyncio.gather(*(send(gateway, prompts=prompts, model="swift") for prompts in sent))
    assert [[row["response"]["content"] for row in one["results"]] for one in told] == sent
    found = await records(30)
    assert len({record.request_id for record in found}) == 30
    assert await sync_to_async(lambda: {record.key_id for record in found})() == {found[0].key_id}
