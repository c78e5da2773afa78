"""A cascade from outside: which answers are not good enough, who is asked then, and what both cost.

Both vendors cost $1 per million tokens in and $2 out; an answer of theirs costs 22,000 nano-USD (12 in, 5 out). The
policy prefers `swift` (OpenAI's wire) and goes on to `sage` (Anthropic's).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from analytics.models import BudgetWindow, UsageRecord
from analytics.request_page import attempt_bars, bill
from providers.domain.answer import Finished, FinishReason, Frame, RefusalDelta, TextDelta, ToolCallStart
from providers.domain.types import Capability
from routerplatform.gateway.escalation import complaint, mean_logprob
from routing.domain.config import Escalation
from routing.models import ModelAlias, RoutingPolicy
from tests import gateway as configure
from tests.doors.test_websocket import signed_in
from tests.factories import BudgetFactory
from tests.gateway import HELLO, Gateway, Reply, records
from tests.gateway_path.changes import changed, price_forget, price_set
from tests.gateway_path.test_hard_budgets import in_force
from tests.routing.domain.build import request
from tests.upstreams.scripted import (
    Script,
    Upstream,
    anthropic_answer,
    frames,
    openai_answer,
    openai_chunk,
    openai_events,
    openai_stream,
    sse,
    status,
)

ANSWER_NANO = 22_000
JSON_OBJECT = {"response_format": {"type": "json_object"}}
EVERYTHING = [one.value for one in Escalation]
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def escalate_on(*reasons: str) -> Callable[[], None]:
    def edit() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.escalate_on = list(reasons)
        policy.save()

    return edit


@pytest.fixture
async def cascade(gateway: Gateway) -> None:
    """Escalates on everything there is."""
    await changed(gateway, escalate_on(*EVERYTHING))


@pytest.fixture
async def third(gateway: Gateway) -> AsyncIterator[Upstream]:
    """A further fallback, `deep`."""
    upstream = Upstream(openai_answer("Deep"))
    await upstream.start()

    def make() -> None:
        [deep] = configure.vendor("gamma", upstream.url, "deep-1")
        policy = RoutingPolicy.objects.get(name="default")
        policy.candidates.create(alias=configure.alias("deep", deep), group="fallback", position=5)
        policy.save()

    await changed(gateway, make)
    yield upstream
    await upstream.stop()


def says(message: dict[str, Any], finish: str = "stop", **choice: Any) -> Script:
    """An answer of OpenAI's wire with this message, whole or as a stream."""

    async def script(incoming: Any, body: dict[str, Any]) -> Any:
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
        if body.get("stream"):
            chunks: list[Any] = [openai_chunk({"role": "assistant", **message}), openai_chunk({}, finish)]
            chunks[0]["choices"][0] |= choice
            chunks += [{**openai_chunk({}), "choices": [], "usage": usage}, "[DONE]"]
            return await frames(*sse(*chunks))(incoming, body)
        whole = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}
        return await openai_answer(choices=[whole])(incoming, body)

    return script


def logprobs(*values: float) -> dict[str, Any]:
    return {"logprobs": {"content": [{"token": "x", "logprob": value, "top_logprobs": []} for value in values]}}


REFUSED = says({"content": None, "refusal": "I cannot help with that."})
FILTERED = says({"content": ""}, "content_filter")
EMPTY = says({"content": " \n"})
NO_JSON = says({"content": '{"name": "Ada"'})
UNSURE = says({"content": "Perhaps"}, **logprobs(-2.5, -1.5))


async def only_record() -> UsageRecord:
    """The one record; the lines of its page always add up to its cost."""
    [record] = await records()
    shown = await sync_to_async(bill)(record)
    if shown is not None and record.cost_nano is not None:
        assert sum(line.cost_nano or 0 for line in shown.lines) + shown.broken_nano == record.cost_nano
    return record


def attempts(record: UsageRecord) -> list[tuple[str, str, str, int | None]]:
    return [
        (one["deployment"], one.get("failure", ""), one.get("message", ""), one.get("billed_nano"))
        for one in record.attempts
    ]


# --- what is not good enough ----------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("script", "reason", "body"),
    [
        (REFUSED, "refusal", {}),
        (FILTERED, "refusal", {}),
        (EMPTY, "empty", {}),
        (NO_JSON, "invalid_json", JSON_OBJECT),
        (UNSURE, "low_logprob", {}),
    ],
    ids=["refused", "filtered", "empty", "no json", "unsure"],
)
async def test_the_next_model_is_asked_and_both_are_billed(
    gateway: Gateway, cascade: None, third: Upstream, openai_upstream: Upstream, anthropic_upstream: Upstream,
    script: Script, reason: str, body: dict[str, Any], stream: bool,
) -> None:  # fmt: skip
    openai_upstream.play(script)
    anthropic_upstream.play(anthropic_answer('{"name": "Ada"}'))
    third.play(openai_answer('{"name": "Ada"}'))
    who = "gamma/deep-1" if body else "beta/sage-1"  # Anthropic's API has no JSON mode
    reply = await gateway.chat(model="auto", stream=stream, **body)
    assert (reply.status, reply.text) == (200, '{"name": "Ada"}')
    assert reply.headers["x-router-deployment"] == who
    assert reply.headers["x-router-attempts"] == "2"
    record = await only_record()
    assert attempts(record) == [
        ("alpha/swift-1", "escalated", reason, ANSWER_NANO),
        (who, "", "", None),
    ]
    assert (record.cost_nano, record.state, record.http_status) == (2 * ANSWER_NANO, "settled", 200)
    assert (record.deployment, record.input_tokens, record.output_tokens) == (who, 12, 5)
    assert attempt_bars(record)[0].failure == "escalated"
    assert len(third.calls) + len(anthropic_upstream.calls) == 1


@both_ways
@pytest.mark.parametrize(
    ("script", "body"),
    [
        (says({"content": "Fine."}), {}),
        (says({"content": '{"name": "Ada"}'}), JSON_OBJECT),
        (says({"content": "no JSON, and none was asked for"}), {}),
        (says({"content": "Sure"}, **logprobs(-0.2, -0.4)), {"logprobs": True}),
        (
            says(
                {
                    "tool_calls": [
                        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
                    ]
                },
                "tool_calls",
            ),
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        ),
    ],
    ids=["text", "json", "no json asked", "sure", "a tool call"],
)
async def test_a_good_answer_is_given_as_it_is(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream,
    script: Script, body: dict[str, Any], stream: bool,
) -> None:  # fmt: skip
    openai_upstream.play(script)
    plain = await gateway.chat(model="swift", stream=stream, **body)
    held = await gateway.chat(model="auto", stream=stream, **body)
    assert (held.status, held.headers["x-router-attempts"]) == (200, "1")
    assert held.body == plain.body
    assert held.done == plain.done == stream
    assert anthropic_upstream.calls == []
    assert [record.cost_nano for record in await records(2)] == [ANSWER_NANO, ANSWER_NANO]


@pytest.mark.parametrize("script", [REFUSED, FILTERED, EMPTY, NO_JSON, UNSURE])
async def test_only_what_the_policy_names_is_a_reason(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, script: Script
) -> None:
    openai_upstream.play(script)
    assert (await gateway.chat(model="auto", logprobs=True, **JSON_OBJECT)).status == 200
    assert anthropic_upstream.calls == []
    await changed(gateway, escalate_on("low_logprob") if script is not UNSURE else escalate_on("empty", "refusal"))
    assert (await gateway.chat(model="auto", logprobs=True, **JSON_OBJECT)).status == 200
    assert anthropic_upstream.calls == []


async def test_a_model_that_is_named_has_no_cascade(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(EMPTY)
    assert (await gateway.chat(model="swift")).headers["x-router-attempts"] == "1"
    assert anthropic_upstream.calls == []


# --- whose answer is given ------------------------------------------------------------------------------------------


@both_ways
async def test_the_last_models_answer_is_always_given(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(EMPTY)
    anthropic_upstream.play(anthropic_answer(" "))
    reply = await gateway.chat(model="auto", stream=stream)
    assert (reply.status, reply.text, reply.headers["x-router-deployment"]) == (200, " ", "beta/sage-1")
    assert [one[1] for one in attempts(await only_record())] == ["escalated", ""]


@both_ways
async def test_three_models_in_a_row(
    gateway: Gateway,
    cascade: None,
    third: Upstream,
    openai_upstream: Upstream,
    anthropic_upstream: Upstream,
    stream: bool,
) -> None:
    openai_upstream.play(EMPTY)
    anthropic_upstream.play(anthropic_answer(" "))
    reply = await gateway.chat(model="auto", stream=stream)
    assert (reply.text, reply.headers["x-router-attempts"]) == ("Deep", "3")
    record = await only_record()
    assert record.cost_nano == 3 * ANSWER_NANO
    assert [one[3] for one in attempts(record)] == [ANSWER_NANO, ANSWER_NANO, None]


@both_ways
@pytest.mark.parametrize(
    ("failing", "failure"),
    [(status(400, {"error": {"message": "no"}}), "bad_request"), (status(401), "authentication")],
)
async def test_the_answer_that_was_held_back_is_given_when_nobody_else_answers(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream,
    stream: bool, failing: Script, failure: str,
) -> None:  # fmt: skip
    openai_upstream.play(UNSURE)
    anthropic_upstream.play(failing)
    reply = await gateway.chat(model="auto", stream=stream)
    assert (reply.status, reply.text) == (200, "Perhaps")
    assert reply.headers["x-router-deployment"] == "alpha/swift-1"
    assert reply.headers["x-router-attempts"] == "2"
    record = await only_record()
    assert attempts(record)[0] == ("alpha/swift-1", "", "low_logprob", None)
    assert attempts(record)[1][:2] == ("beta/sage-1", failure)
    assert (record.state, record.deployment, record.output_tokens, record.cost_nano) == (
        "settled", "alpha/swift-1", 5, ANSWER_NANO,
    )  # fmt: skip


async def test_a_stream_that_breaks_after_content_is_billed_and_the_caller_still_gets_a_whole_answer(
    gateway: Gateway, cascade: None, third: Upstream, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    """Nothing of it had reached the caller, so another one is asked."""
    openai_upstream.play(frames(*openai_events("Hel")[:2], end="cut"))
    reply = await gateway.stream(model="auto")
    assert (reply.text, reply.headers["x-router-deployment"], reply.done) == ("Bonjour", "beta/sage-1", True)
    record = await only_record()
    broken = attempts(record)[0]
    assert broken[1] == "stream_broken"
    assert broken[3] is not None
    assert record.cost_nano == ANSWER_NANO + broken[3]


async def test_when_the_one_that_is_asked_next_breaks_off_both_are_billed_and_the_first_answer_is_given(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(UNSURE)
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 12, "output_tokens": 1}}}
    pieces = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bon"}},
    ]
    raw = [f"event: {piece['type']}\ndata: {json.dumps(piece)}\n\n".encode() for piece in pieces]
    anthropic_upstream.play(frames(*raw, end="cut"))
    reply = await gateway.stream(model="auto")
    assert (reply.text, reply.done) == ("Perhaps", True)
    record = await only_record()
    assert [one[1] for one in attempts(record)] == ["", "stream_broken", "stream_broken"]  # it is tried once more
    beside = [one[3] for one in attempts(record)]
    assert beside[0] is None
    assert sum(nano or 0 for nano in beside) + ANSWER_NANO == record.cost_nano
    assert (record.deployment, record.output_tokens) == ("alpha/swift-1", 5)


async def test_an_answer_that_is_given_for_want_of_a_better_one_is_not_kept_for_others(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(UNSURE)
    anthropic_upstream.play(status(401))
    asked = {"messages": [{"role": "user", "content": f"Say {uuid4()}"}], "temperature": 0}
    for calls in (1, 2):
        reply = await gateway.chat(model="auto", **asked)
        assert (reply.text, reply.headers["x-router-cache"]) == ("Perhaps", "miss")
        assert len(openai_upstream.calls) == calls
        await asyncio.sleep(0.1)


async def test_a_vendors_filter_that_answers_with_an_error_is_a_refusal_too(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400, {"error": {"code": "content_filter", "message": "filtered"}}))
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.text) == (200, "Bonjour")
    await changed(gateway, escalate_on("empty"))
    assert (await gateway.chat(model="auto")).error["code"] == "content_filter"


async def test_when_all_fail_the_caller_gets_the_error(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(status(401))
    anthropic_upstream.play(status(401))
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.error["code"]) == (502, "upstream_credentials")
    assert (await only_record()).cost_nano == 0


@pytest.fixture
def one_attempt(settings: Settings) -> None:
    settings.MAX_ATTEMPTS = 1


async def test_attempts_that_are_used_up_are_a_reason_to_give_what_there_is(
    one_attempt: None, gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(NO_JSON)
    reply = await gateway.chat(model="auto", **JSON_OBJECT)
    assert (reply.status, reply.text) == (200, '{"name": "Ada"')
    assert attempts(await only_record()) == [("alpha/swift-1", "", "", None)]
    assert anthropic_upstream.calls == []


async def test_no_breaker_takes_an_escalation_for_a_failure(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    openai_upstream.play(EMPTY)
    for _ in range(25):
        reply = await gateway.chat(model="auto")
        assert reply.headers["x-router-attempts"] == "2"
    assert len(openai_upstream.calls) == 25


# --- money ----------------------------------------------------------------------------------------------------------


async def team_budget(gateway: Gateway, usd: str, **options: Any) -> Any:
    made: list[Any] = []

    def make() -> None:
        subject = options or {"team": configure.Team.objects.get()}
        [(scope, row)] = subject.items()
        fields = {"team": None, scope: row}
        made.append(BudgetFactory(max_budget=Decimal(usd), scope=scope, mode="strict", **fields))

    await changed(gateway, make)
    await in_force(gateway)
    return made[0]


async def spent_of(budget: Any, nano: int) -> None:
    for _ in range(600):
        window = await BudgetWindow.objects.filter(budget=budget).afirst()
        if window is not None and window.spent_nano == nano:
            return
        await sync_to_async(lambda: None)()
    raise AssertionError("the budget was not charged that")


async def test_budgets_cover_and_are_charged_both_attempts(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    team = await team_budget(gateway, "1.00")
    swift = await team_budget(gateway, "1.00", alias=await ModelAlias.objects.aget(name="swift"))
    sage = await team_budget(gateway, "1.00", alias=await ModelAlias.objects.aget(name="sage"))
    openai_upstream.play(EMPTY)
    assert (await gateway.chat(model="auto", max_tokens=50)).text == "Bonjour"
    record = await only_record()
    charged = {int(number) >> 34: nano for number, nano in record.charges.items()}
    assert charged == {team.pk: 2 * ANSWER_NANO, swift.pk: ANSWER_NANO, sage.pk: ANSWER_NANO}
    assert record.budget["hold_nano"] >= 2 * ANSWER_NANO


async def test_without_money_for_the_next_model_the_first_answer_is_given(
    gateway: Gateway, cascade: None, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_set("beta", input="1", output="100000"))
    await team_budget(gateway, "0.10")
    openai_upstream.play(UNSURE)
    reply = await gateway.chat(model="auto", max_tokens=100)
    assert (reply.status, reply.text) == (200, "Perhaps")
    assert anthropic_upstream.calls == []
    record = await only_record()
    assert attempts(record) == [("alpha/swift-1", "", "low_logprob", None)]
    assert record.cost_nano == ANSWER_NANO
    [_, skipped] = record.decision["candidates"]
    assert "does not allow this request" in skipped["reason"]


async def test_an_unknown_price_of_an_answer_that_is_not_given_leaves_the_cost_unknown(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_forget("alpha"))
    openai_upstream.play(EMPTY)
    assert (await gateway.chat(model="auto")).text == "Bonjour"
    record = await only_record()
    assert (record.cost_nano, attempts(record)[0][3]) == (None, None)


# --- doors ----------------------------------------------------------------------------------------------------------


async def test_other_doors_get_the_answer_of_the_second_model(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    openai_upstream.play(EMPTY)
    native: Reply = await gateway.post("/api/v1/chat", {"messages": HELLO})
    assert (native.json["content"], native.json["attempts"]) == ("Bonjour", 2)
    assert native.json["cost_usd"] == 2 * ANSWER_NANO / 1e9
    body = {"model": "auto", "max_tokens": 9, "messages": HELLO}
    assert (await gateway.post("/v1/messages", body)).json["content"][0]["text"] == "Bonjour"
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", messages=HELLO)
        seen = await socket.until("done", "error")
    assert "".join(frame["text"] for frame in seen if frame["type"] == "delta") == "Bonjour"
    assert next(frame for frame in seen if frame["type"] == "usage")["attempts"] == 2


async def test_a_held_stream_is_kept_alive_until_its_answer_is_there(
    keep_alive_soon: None, gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream(*"word " * 3, pause_s=0.1))
    reply = await gateway.stream(model="auto")
    assert reply.body.startswith(b":")  # comments, before anything of the answer
    assert (reply.text, reply.done) == ("word " * 3, True)


@pytest.fixture
def keep_alive_soon(settings: Settings) -> None:
    settings.STREAM_KEEP_ALIVE_S = 0.2


async def test_time_to_the_first_token_is_what_the_caller_has_seen(
    gateway: Gateway, cascade: None, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream("a", "b", "c", pause_s=0.1))
    assert (await gateway.stream(model="auto")).text == "abc"
    record = await only_record()
    assert record.ttft_ms >= 300


# --- the rules ------------------------------------------------------------------------------------------------------


def said(*events: Any, raw: bytes = b"") -> list[Frame]:
    return [Frame(raw, events)]


def wanting(*needs: Capability) -> Any:
    return request(needs=frozenset(needs))


STOP = Finished(FinishReason.STOP)


@pytest.mark.parametrize(
    ("frames_", "needs", "wanted", "found"),
    [
        (said(TextDelta("Hi"), STOP), (), EVERYTHING, None),
        (said(STOP), (), EVERYTHING, "empty"),
        (said(STOP), (), ["refusal", "invalid_json"], None),
        (said(RefusalDelta("No."), STOP), (), EVERYTHING, "refusal"),
        (said(RefusalDelta("No."), STOP), (), ["empty"], None),
        (said(Finished(FinishReason.CONTENT_FILTER)), (), ["empty"], "empty"),
        (said(ToolCallStart(0, "c", "f"), STOP), (Capability.JSON_MODE,), EVERYTHING, None),
        (said(TextDelta("[1,"), TextDelta("2]"), STOP), (Capability.JSON_SCHEMA,), EVERYTHING, None),
        (said(TextDelta("```json\n{}\n```"), STOP), (Capability.JSON_MODE,), EVERYTHING, "invalid_json"),
        (said(TextDelta("{" * 5000), STOP), (Capability.JSON_MODE,), EVERYTHING, "invalid_json"),
        (said(TextDelta('"\ud83d"'), STOP), (Capability.JSON_MODE,), EVERYTHING, "invalid_json"),
        (said(TextDelta("{} {}"), STOP), (Capability.JSON_MODE,), EVERYTHING, "invalid_json"),
    ],
)
def test_a_complaint_is_what_was_asked_to_be_looked_at(
    frames_: list[Frame], needs: tuple[Capability, ...], wanted: list[str], found: str | None
) -> None:
    reasons = frozenset(Escalation(one) for one in wanted)
    assert complaint(frames_, wanting(*needs), reasons) == (Escalation(found) if found else None)


@pytest.mark.parametrize(
    ("pieces", "mean"),
    [
        ([json.dumps({"choices": [logprobs(-1.0, -3.0)]})], -2.0),
        ([f"data: {json.dumps({'choices': [logprobs(-1.0)]})}\n\n", "data: [DONE]\n\n"], -1.0),
        ([json.dumps({"choices": [{"logprobs": {"token_logprobs": [None, -2.0], "tokens": ["a", "b"]}}]})], -2.0),
        (
            [json.dumps({"candidates": [{"logprobsResult": {
                "chosenCandidates": [{"logProbability": -0.5}],
                "topCandidates": [{"candidates": [{"logProbability": -9}]}],
            }}]})],
            -0.5,
        ),
        ([json.dumps({"logprobs": [{"text": "a", "logprobs": [-0.25, -0.75]}]})], -0.5),
        ([json.dumps({"message": {}, "logprobs": [{"token": "a", "logprob": -1.5, "top_logprobs": []}]})], -1.5),
        (
            [json.dumps({"choices": [{"logprobs": {"content": [
                {"token": "a", "logprob": -1, "top_logprobs": [{"token": "b", "logprob": -9}]}
            ]}}]})],
            -1.0,
        ),
        ([json.dumps({"choices": [logprobs(-9999.0, 0.0)]})], -10.0),
        ([json.dumps({"choices": [{"logprobs": None}]})], None),
        (["{\"logprob\": broken"], None),
        ([""], None),
        ([json.dumps({"choices": [{"message": {"content": "about logprobs"}}]})], None),
    ],
)  # fmt: skip
def test_how_sure_a_model_was_is_read_from_any_vendors_words(pieces: list[str], mean: float | None) -> None:
    assert mean_logprob([Frame(piece.encode(), ()) for piece in pieces]) == mean


def test_a_body_that_is_nested_without_end_is_no_answer_about_probabilities() -> None:
    raw = b'{"logprob": ' + b"[" * 100_000
    assert mean_logprob([Frame(raw, ())]) is None
