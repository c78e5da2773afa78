"""A batch that is answered at once, over HTTP. Both vendors cost 1,000 nano-USD a token in and 2,000 out."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from pytest_django import Settings

from analytics.models import UsageRecord
from routing.models import VirtualKey
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed
from tests.gateway_path.test_hard_budgets import Limit, limit  # noqa: F401  # a fixture
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Script, Upstream, hang, openai_answer, status

PATH = "/api/v1/batch"
ANSWER_NANO = 12 * 1_000 + 5 * 2_000


async def send(gateway: Gateway, **body: Any) -> dict[str, Any]:
    reply = await gateway.post(PATH, body)
    assert reply.status == 200, reply.body
    return reply.json


async def key_set(gateway: Gateway, **values: Any) -> None:
    """Change columns of the caller's key, as the admin would."""

    def edit() -> None:
        key = VirtualKey.objects.get()
        for column, value in values.items():
            setattr(key, column, value)
        key.save()

    await changed(gateway, edit)


def echo() -> Script:
    """A vendor that answers with what it was asked."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await openai_answer(body["messages"][-1]["content"])(request, body)

    return script


async def test_each_chat_of_a_batch_is_a_request_of_its_own_in_the_callers_order(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(echo())
    requests = [
        {"custom_id": "a", "prompt": "one", "system": "Be brief."},
        {"messages": [{"role": "user", "content": "two"}], "model": "sage", "tag": "nightly"},
        {"custom_id": "c", "messages": HELLO, "max_tokens": 7},
    ]
    told = await send(gateway, requests=requests, model="swift", temperature=0.5)

    assert told["object"] == "batch"
    assert told["counts"] == {"total": 3, "ok": 3, "error": 0}
    rows = told["results"]
    assert [(row["index"], row["custom_id"], row["status"]) for row in rows] == [
        (0, "a", "ok"), (1, None, "ok"), (2, "c", "ok"),
    ]  # fmt: skip
    assert [row["response"]["content"] for row in rows] == ["one", "Bonjour", "Hello"]
    assert [row["request_id"] for row in rows] == [row["response"]["id"] for row in rows]
    assert (told["total_cost"], told["total_cost_usd"], told["unpriced"]) == (66e-6, "0.000066", 0)
    assert told["usage"] == {"input_tokens": 36, "output_tokens": 15, "cache_read_input_tokens": 0}
    sent = {call.body["messages"][-1]["content"]: call.body for call in openai_upstream.calls}
    assert sent["one"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["one"]["temperature"], sent["Hello"]["max_tokens"]) == (0.5, 7)
    assert "stream" not in sent["one"]
    found = await records(3)
    assert {record.door for record in found} == {"batch"}
    assert {str(record.request_id) for record in found} == {row["request_id"] for row in rows}
    assert {record.tag for record in found} == {"", "nightly"}


async def test_prompts_alone_are_chats_with_everything_else_in_common(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(echo())
    told = await send(gateway, prompts=["Wie geht’s?", "\U0001f600"], model="swift", system="Short.")
    assert [row["response"]["content"] for row in told["results"]] == ["Wie geht’s?", "\U0001f600"]
    assert {call.body["messages"][0]["content"] for call in openai_upstream.calls} == {"Short."}


async def test_bad_chats_get_their_errors_and_the_others_their_answers(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_answer())
    requests = [
        {"prompt": "fine"},
        {"prompt": "x", "temperature": 9},
        {"messages": []},
        {"prompt": "x", "model": "nobody"},
        {"prompt": "x", "stream": True},
        {"model": "swift"},
        {"prompt": "x", "messages": HELLO},
        {"prompt": 7},
    ]
    told = await send(gateway, requests=requests)
    assert told["counts"] == {"total": 8, "ok": 1, "error": 7}
    errors = [row["error"] for row in told["results"][1:]]
    assert [(e["code"], e["param"], e["status"]) for e in errors] == [
        ("invalid_request", "temperature", 400),
        ("invalid_request", "messages", 400),
        ("model_not_found", "model", 404),
        ("invalid_request", "stream", 400),
        ("invalid_request", "prompt", 400),
        ("invalid_request", "messages", 400),
        ("invalid_request", "prompt", 400),
    ]
    assert all(e["message"] and e["type"] == "invalid_request_error" for e in errors)
    assert len(await records()) == 1


async def test_what_broke_off_is_billed_and_an_unknown_price_is_counted_apart(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400, {"error": {"message": "no"}}), openai_answer(usage=None), openai_answer())
    told = await send(gateway, prompts=["a", "b", "c"], model="swift", max_parallel=1)
    assert told["results"][0]["error"]["code"] == "upstream_rejected"
    found = await records(3)
    assert told["total_cost"] == pytest.approx(sum(record.cost_nano or 0 for record in found) / 1e9)
    assert told["counts"]["error"] == 1


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, None, "either"),
        ({"prompts": ["a"], "requests": [{}]}, None, "either"),
        ({"prompts": []}, "prompts", "1 to 5"),
        ({"prompts": ["a"] * 6}, "prompts", "1 to 5"),
        ({"prompts": [1]}, "prompts[0]", "str"),
        ({"requests": [3]}, "requests[0]", "object"),
        ({"requests": [{"custom_id": "a"}, {}, {"custom_id": "a"}]}, "requests[2].custom_id", "same"),
        ({"requests": [{"custom_id": "x" * 65}]}, "requests[0].custom_id", "64"),
        ({"requests": [{"custom_id": 1}]}, "requests[0].custom_id", "text"),
        ({"prompts": ["a"], "max_parallel": 0}, "max_parallel", "at most 4"),
        ({"prompts": ["a"], "max_parallel": 5}, "max_parallel", "at most 4"),
        ({"prompts": ["a"], "stream": True}, "stream", "no field"),
        ({"prompts": ["a"], "messages": HELLO}, "messages", "each prompt is a chat"),
        ({"prompts": ["a"] * 4, "background": False}, "background", "Up to 3"),
    ],
)
async def test_a_batch_that_nobody_understands_is_refused_as_a_whole(
    gateway: Gateway, settings: Settings, body: dict[str, Any], param: str | None, words: str
) -> None:
    settings.BATCH_MAX_ITEMS, settings.BATCH_MAX_PARALLEL, settings.BATCH_INLINE_MAX = 5, 4, 3
    reply = await gateway.post(PATH, body)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", param)
    assert words in reply.error["message"]


async def test_who_may_not_chat_is_refused_before_the_body_is_read(gateway: Gateway) -> None:
    assert (await gateway.post(PATH, b"{", key="rp_wrong")).status == 401
    await key_set(gateway, scopes=["models"])
    assert (await gateway.post(PATH, b"{")).status == 403


async def test_a_budget_of_nothing_refuses_each_of_them(gateway: Gateway, limit: Limit) -> None:  # noqa: F811
    await limit("0")
    told = await send(gateway, prompts=["a", "b", "c"])
    assert [row["error"]["code"] for row in told["results"]] == ["insufficient_quota"] * 3
    assert all(row["error"]["details"]["scope"] == "team" for row in told["results"])
    assert told["total_cost"] == 0


async def test_never_more_than_max_parallel_are_with_the_vendor(gateway: Gateway, openai_upstream: Upstream) -> None:
    here, most = 0, 0

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal here, most
        here += 1
        most = max(most, here)
        try:
            await asyncio.sleep(0.05)
            return await openai_answer()(request, body)
        finally:
            here -= 1

    openai_upstream.play(script)
    told = await send(gateway, prompts=["x"] * 12, model="swift", max_parallel=3)
    assert told["counts"]["ok"] == 12
    assert most == 3


async def test_one_that_meets_a_rate_limit_waits_for_its_turn_where_that_is_soon(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(hang_for_a_moment())
    await key_set(gateway, max_parallel_requests=1)
    told = await send(gateway, prompts=["a", "b", "c"], model="swift", max_parallel=3)
    assert told["counts"]["ok"] == 3
    assert len(await records(3)) == 3  # nothing is on record of a try that was not let in


async def test_one_that_would_wait_for_long_gets_its_error(gateway: Gateway) -> None:
    await key_set(gateway, rpm_limit=2)
    told = await send(gateway, prompts=["a", "b", "c"], max_parallel=1)
    error = told["results"][2]["error"]
    assert (told["counts"]["ok"], error["code"], error["status"]) == (2, "rate_limit_exceeded", 429)
    assert 10 < error["retry_after_s"] <= 61


async def test_leaving_cancels_what_runs_and_begins_nothing_more(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(hang())
    asking = asyncio.create_task(gateway.post(PATH, {"prompts": ["x"] * 9, "model": "swift", "max_parallel": 2}))
    await openai_upstream.asked(2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for call in openai_upstream.calls:
        await asyncio.wait_for(call.cut.wait(), PATIENCE_S)
    found = await records(2)
    assert {record.state for record in found} == {"cancelled"}
    await gateway.post(PATH, {"prompts": [], "model": "swift"})  # the gateway is well
    assert len(openai_upstream.calls) == 2
    assert await sync_to_async(UsageRecord.objects.count)() == 2


async def test_those_that_do_not_get_their_turn_in_time_are_told_so(
    gateway: Gateway, openai_upstream: Upstream, settings: Settings
) -> None:
    settings.REQUEST_TIMEOUT_S = 0.3  # of the batch: the gateway is built, its requests have their own
    openai_upstream.play(hang_for_a_moment(0.5))
    told = await send(gateway, prompts=["a", "b", "c"], model="swift", max_parallel=1)
    assert [row["status"] for row in told["results"]] == ["ok", "error", "error"]
    assert told["results"][2]["error"]["code"] == "batch_expired"


async def test_a_repetition_costs_nothing(gateway: Gateway, openai_upstream: Upstream) -> None:
    once = {"idempotency-key": "batch-1"}
    first = await gateway.post(PATH, {"prompts": ["a", "b"], "model": "swift"}, extra=once)
    again = await gateway.post(PATH, {"prompts": ["a", "b"], "model": "swift"}, extra=once)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json == first.json
    assert len(openai_upstream.calls) == 2


async def test_a_method_that_is_not_there_is_named(gateway: Gateway, application: Any) -> None:
    async with aiohttp.ClientSession() as session, session.put(gateway.url + PATH, headers=gateway.headers()) as reply:
        assert reply.status == 405


def hang_for_a_moment(seconds: float = 0.2) -> Script:
    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await openai_answer()(request, body)

    return script
