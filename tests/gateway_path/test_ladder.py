"""A policy's ladder from outside: what callers get as a budget fills, and what it costs.

Both vendors cost $1 per million tokens in and $2 out, unless a test says otherwise; an answer of theirs costs 22,000
nano-USD (12 in, 5 out). A budget of $1 is filled by what was spent before: its window's opening amount.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from pytest_django import Settings

from analytics.models import Budget, BudgetWindow
from analytics.services.budgets import budget_window_open
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.ladder import share_text
from routerplatform.gateway.runtime import Runtimes
from routing.models import CacheMode, RoutingPolicy, Team, VirtualKey
from tests.doors.test_websocket import signed_in
from tests.factories import BudgetFactory, PersonaFactory
from tests.gateway import HELLO, Gateway, Reply, records, serving
from tests.gateway_path.changes import changed, price_set
from tests.gateway_path.test_hard_budgets import in_force
from tests.upstreams.scripted import Upstream, openai_answer

USD = 10**9
ANSWER_NANO = 22_000
CAP, CHEAPER, CACHE, REFUSE = 50, 70, 80, 90
STEP, USED = "x-router-budget-step", "x-router-budget-used"
Filled = Callable[..., Awaitable[Budget]]


def ladder_set(**columns: int | None) -> None:
    policy = RoutingPolicy.objects.get(name="default")
    for column, value in columns.items():
        setattr(policy, f"ladder_{column}", value)
    policy.save()


@pytest.fixture
async def ladder(gateway: Gateway) -> None:
    """Answers of 100 tokens from 50 % on, cheaper models from 70, kept answers only from 80, nothing from 90."""
    steps = {"cap_percent": CAP, "cap_tokens": 100, "cheaper_percent": CHEAPER}
    await changed(gateway, lambda: ladder_set(**steps, cache_percent=CACHE, refuse_percent=REFUSE))


def budget_filled(percent: float, **options: Any) -> Budget:
    """A budget of $1 of which so much was spent before any request of the test."""
    scope, subject = options.pop("whose", None) or ("team", Team.objects.get())
    fields = {"max_budget": Decimal("1.00"), "mode": "strict", "scope": scope, "team": None, scope: subject} | options
    budget: Budget = BudgetFactory(**fields)
    fill(budget, percent)
    return budget


def fill(budget: Budget, percent: float) -> None:
    """What is spent by now is the window's `opening`; nothing of it has a record."""
    window = budget_window_open(budget=budget, now=timezone.now())
    opening = round(percent * int(budget.max_budget * USD) / 100)
    BudgetWindow.objects.filter(pk=window.pk).update(
        opening_nano=opening, ceiling_nano=max(opening, window.ceiling_nano)
    )


@pytest.fixture
def filled(gateway: Gateway) -> Filled:
    async def make(percent: float, **options: Any) -> Budget:
        made: list[Budget] = []
        await changed(gateway, lambda: made.append(budget_filled(percent, **options)))
        await in_force(gateway)
        return made[0]

    return make


def told(reply: Reply) -> tuple[str | None, str | None]:
    return reply.headers.get(STEP), reply.headers.get(USED)


# --- which step -----------------------------------------------------------------------------------------------------


async def test_without_budgets_a_ladder_changes_nothing(
    gateway: Gateway, ladder: None, openai_upstream: Upstream
) -> None:
    reply = await gateway.chat(model="auto", max_tokens=2000)
    assert (reply.status, *told(reply)) == (200, None, None)
    assert reply.headers.get("x-router-max-tokens") is None
    assert openai_upstream.calls[0].body["max_tokens"] == 2000
    [record] = await records()
    assert "step" not in record.decision


@pytest.mark.parametrize(
    ("at", "percent", "step"),
    [
        (50, 49.9999999, None),
        (50, 50, "cap"),
        (29, 29, "cap"),  # 0.29 * 100 is below 29
        (57, 57, "cap"),
        (1, 0.99, None),
        (100, 100, "cap"),
        (100, 130, "cap"),
    ],
)
async def test_a_step_begins_exactly_at_its_percentage(
    gateway: Gateway, filled: Filled, at: int, percent: float, step: str | None
) -> None:
    await changed(gateway, lambda: ladder_set(cap_percent=at, cap_tokens=77))
    await filled(percent, mode="soft")
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.headers.get(STEP)) == (200, step)
    assert reply.headers.get("x-router-max-tokens") == ("77" if step else None)


@pytest.mark.parametrize("mode", ["strict", "expected", "soft"])
@pytest.mark.parametrize("scope", ["team", "key", "persona"])
async def test_the_fullest_budget_of_key_team_or_persona_counts(
    gateway: Gateway, ladder: None, filled: Filled, mode: str, scope: str
) -> None:
    policy = await RoutingPolicy.objects.aget(name="default")
    persona = await sync_to_async(PersonaFactory)(slug="analyst", policy=policy)
    subject = {"team": await Team.objects.aget(), "key": await VirtualKey.objects.aget(), "persona": persona}[scope]
    await filled(10, whose=("team", await Team.objects.aget()), budget_duration="1d")
    await filled(60, whose=(scope, subject), mode=mode)
    assert told(await gateway.chat(model="analyst")) == ("cap", "0.60")
    of_no_persona = await gateway.chat(model="auto")
    assert told(of_no_persona) == ((None, None) if scope == "persona" else ("cap", "0.60"))


async def test_a_shadow_budget_and_a_model_alias_budget_are_no_reason(
    gateway: Gateway, ladder: None, filled: Filled
) -> None:
    await filled(95, mode="shadow")
    reply = await gateway.chat(model="auto")
    assert (reply.status, *told(reply)) == (200, None, None)


async def test_a_model_that_is_named_is_on_no_ladder(gateway: Gateway, ladder: None, filled: Filled) -> None:
    await filled(95)
    reply = await gateway.chat(model="swift", max_tokens=2000)
    assert (reply.status, *told(reply)) == (200, None, None)


async def test_what_is_held_for_requests_under_way_is_used(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream
) -> None:
    """One request holds up to $0.30 of a budget of $1 of which 30 % are spent: the next one is on the first step."""
    await changed(gateway, lambda: price_set("alpha", input="0", output="300"))
    await filled(30)
    answer = asyncio.Event()

    async def slow(request: Any, body: dict[str, Any]) -> Any:
        await answer.wait()
        return await openai_answer()(request, body)

    openai_upstream.play(slow, openai_answer())
    first = asyncio.create_task(gateway.chat(model="auto", max_tokens=1000))
    await openai_upstream.asked()
    second = await gateway.chat(model="auto", max_tokens=10)
    answer.set()
    assert told(second) == ("cap", "0.60")
    assert told(await first) == (None, None)


def test_a_share_is_rounded_down_and_never_below_its_own_percentage() -> None:
    assert [share_text(share) for share in (0.0, 0.29, 0.7999, 0.8, 0.999999, 1.0, 1.304)] == [
        "0.00", "0.29", "0.79", "0.80", "0.99", "1.00", "1.30",
    ]  # fmt: skip


# --- shorter answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strict", "soft"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "sent", "header"), [(None, 100, "100"), (5000, 100, "100"), (60, 60, None), (100, 100, None)]
)
async def test_answers_are_shortened_upstream_and_the_caller_is_told(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream,
    mode: str, stream: bool, asked: int | None, sent: int, header: str | None,
) -> None:  # fmt: skip
    await filled(CAP, mode=mode)
    limit = {} if asked is None else {"max_tokens": asked}
    reply = await gateway.chat(model="auto", stream=stream, **limit)
    assert (reply.status, reply.text, *told(reply)) == (200, "Hello", "cap", "0.50")
    assert reply.headers.get("x-router-max-tokens") == header
    assert openai_upstream.calls[0].body["max_tokens"] == sent
    [record] = await records()
    assert record.decision["step"] == "cap"
    assert record.budget.get("max_tokens") == (sent if header else None)
    assert record.cost_nano == ANSWER_NANO


async def test_the_cap_reaches_every_wire_and_a_caller_of_the_same_wire(
    gateway: Gateway, ladder: None, filled: Filled, anthropic_upstream: Upstream, openai_upstream: Upstream
) -> None:
    await filled(CAP, mode="soft")

    def sage_first() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        for candidate in policy.candidates.select_related("alias"):
            candidate.group = "preferred" if candidate.alias.name == "sage" else "fallback"
            candidate.save()

    await changed(gateway, sage_first)
    assert (await gateway.chat(model="auto", max_tokens=900)).status == 200
    body = {"model": "auto", "max_tokens": 900, "messages": HELLO}
    assert (await gateway.post("/v1/messages", body)).status == 200
    responses = {"model": "auto", "max_output_tokens": 900, "input": "Hello"}
    assert (await gateway.post("/v1/responses", responses)).status == 200
    assert [call.body["max_tokens"] for call in anthropic_upstream.calls] == [100, 100, 100]
    assert openai_upstream.calls == []


async def test_of_a_budgets_own_limit_and_the_caps_the_smaller_one_wins(
    gateway: Gateway, filled: Filled, openai_upstream: Upstream
) -> None:
    """$0.02 are left of the budget: about 9,900 tokens out. The cap is below that first, and then far above."""
    await changed(gateway, lambda: ladder_set(cap_percent=50, cap_tokens=3000))
    await changed(gateway, lambda: price_set("alpha", input="1", output="2000"))  # 2,000,000 nano-USD a token out
    await filled(80)
    reply = await gateway.chat(model="auto", max_tokens=5000)
    sent = int(reply.headers["x-router-max-tokens"])
    assert 64 <= sent <= 100  # what $0.20 are enough for
    assert openai_upstream.calls[0].body["max_tokens"] == sent
    await changed(gateway, lambda: ladder_set(cap_tokens=65))
    assert (await gateway.chat(model="auto", max_tokens=5000)).headers["x-router-max-tokens"] == "65"


# --- cheaper models -------------------------------------------------------------------------------------------------


async def test_cheaper_models_go_first_and_the_answer_still_has_its_cap(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_set("beta", input="0.1", output="0.2"))
    budget = await filled(CHEAPER - 1)
    assert (await gateway.chat(model="auto")).headers["x-router-deployment"] == "alpha/swift-1"
    await sync_to_async(fill)(budget, CHEAPER)
    replies = [await gateway.chat(model="auto")]
    while replies[-1].headers[STEP] == "cap" and len(replies) < 200:  # gateways look at a budget twice a second
        await asyncio.sleep(0.05)
        replies.append(await gateway.chat(model="auto"))
    reply = replies[-1]
    assert told(reply) == ("cheaper", "0.70")
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    assert anthropic_upstream.calls[-1].body["max_tokens"] == 100
    steps = {record.decision["step"]: record.cost_nano for record in await records(1 + len(replies))}
    assert steps == {"cap": ANSWER_NANO, "cheaper": ANSWER_NANO // 10}


# --- kept answers only ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_only_kept_answers_are_given_and_everything_else_is_refused(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream, stream: bool
) -> None:
    prompt = [{"role": "user", "content": f"Say {uuid4()}"}]
    asked = {"model": "auto", "messages": prompt, "temperature": 0, "stream": stream}
    first = await gateway.post("/v1/chat/completions", asked)
    for _ in range(500):  # it is kept a moment after it was given
        if (await gateway.post("/v1/chat/completions", asked)).headers["x-router-cache"] == "hit":
            break
        await asyncio.sleep(0.02)
    calls = len(openai_upstream.calls)
    budget = await filled(CACHE)
    hit = await gateway.post("/v1/chat/completions", asked)
    assert (hit.status, hit.headers["x-router-cache"], *told(hit)) == (200, "hit", "cache", "0.80")
    assert hit.text == first.text
    other = {**asked, "messages": HELLO + prompt}
    refused = await gateway.post("/v1/chat/completions", other)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "gives only answers that it has kept" in refused.error["message"]
    assert refused.error["details"]["budget_id"] == budget.pk
    assert refused.headers["x-should-retry"] == "false"
    assert told(refused) == ("cache", "0.80")
    assert len(openai_upstream.calls) == calls
    for _ in range(300):
        last = (await records())[-1]
        if last.error_code:
            break
        await asyncio.sleep(0.02)
    assert (last.state, last.cost_nano, last.error_code) == ("released", 0, "insufficient_quota")
    assert last.decision["step"] == "cache"


async def test_an_answer_that_the_cap_has_cut_is_not_given_to_anybody_else(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream
) -> None:
    async def cut(request: Any, body: dict[str, Any]) -> Any:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": "length"}
        return await openai_answer(choices=[choice])(request, body)

    openai_upstream.play(cut)
    await filled(CAP)
    prompt = [{"role": "user", "content": f"Say {uuid4()}"}]
    for expected in (1, 2):
        reply = await gateway.chat(model="auto", messages=prompt, temperature=0)
        assert (reply.status, reply.headers["x-router-cache"]) == (200, "miss")
        assert len(openai_upstream.calls) == expected
        await asyncio.sleep(0.1)


async def test_what_the_cache_does_not_apply_to_is_refused_as_well(
    gateway: Gateway, ladder: None, filled: Filled
) -> None:
    def never() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.cache_mode = CacheMode.NEVER
        policy.save()

    await changed(gateway, never)
    await filled(CACHE)
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.error["code"], *told(reply)) == (429, "insufficient_quota", "cache", "0.80")


# --- a refusal ------------------------------------------------------------------------------------------------------


async def test_every_door_refuses_at_the_last_step_and_says_when_it_starts_again(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream
) -> None:
    budget = await filled(REFUSE)
    for path in ("/v1/chat/completions", "/api/v1/chat"):
        for stream in (False, True):
            reply = await gateway.post(path, {"model": "auto", "messages": HELLO, "stream": stream})
            assert (reply.status, reply.error["code"], *told(reply)) == (429, "insufficient_quota", "refuse", "0.90")
            assert reply.headers["x-should-retry"] == "false"
            details = reply.error["details"]
            assert (details["scope"], details["budget_id"]) == ("team", budget.pk)
            assert details["resets_at"].endswith("+00:00")
            assert "90% of a budget is used, and from there on policy “default” refuses" in reply.error["message"]
            assert f"A new period begins at {details['resets_at']}" in reply.error["message"]
    anthropic = await gateway.post("/v1/messages", {"model": "auto", "max_tokens": 5, "messages": HELLO})
    assert (anthropic.status, anthropic.json["type"]) == (429, "error")
    assert openai_upstream.calls == []


async def test_a_budget_without_an_end_says_so(gateway: Gateway, ladder: None, filled: Filled) -> None:
    await filled(95, budget_duration="total")
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.error["details"]["resets_at"]) == (429, None)
    assert "It does not renew." in reply.error["message"]


# --- people ---------------------------------------------------------------------------------------------------------


async def test_a_person_gets_a_notice_with_the_route(
    gateway: Gateway, ladder: None, filled: Filled, openai_upstream: Upstream
) -> None:
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", messages=HELLO)
        [_, route, *_] = await socket.until("done", "error")
        assert "notice" not in route
        await filled(CAP)
        await socket.send(type="chat", id="2", messages=HELLO)
        [_, route, *_] = await socket.until("done", "error")
        assert route["notice"] == "50% of a budget is used: answers have at most 100 tokens"
        assert route["decision"]["step"] == "cap"
    whole = await gateway.post("/api/v1/chat", {"messages": HELLO})
    assert whole.json["notice"] == route["notice"]
    assert [call.body.get("max_tokens") for call in openai_upstream.calls] == [None, 100, 100]


async def test_a_person_is_refused_in_words(gateway: Gateway, ladder: None, filled: Filled) -> None:
    await filled(REFUSE)
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", messages=HELLO)
        [*_, error] = await socket.until("done", "error")
    assert (error["type"], error["code"], error["status"]) == ("error", "insufficient_quota", 429)
    assert "from there on policy “default” refuses" in error["message"]


# --- several gateways -----------------------------------------------------------------------------------------------


async def test_a_gateway_that_has_seen_no_request_knows_what_another_one_spent(
    gateway: Gateway, ladder: None, filled: Filled, settings: Settings, tmp_path: Path
) -> None:
    """Each answer of alpha costs $0.10 here: six fill the budget to 60 %."""
    await changed(gateway, lambda: price_set("alpha", input="0", output="20000"))
    settings.JOURNAL_DIR = tmp_path / "second"
    other = Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())
    async with serving(other) as url:
        second = Gateway(url, gateway.session, gateway.key)
        budget = await filled(0)
        await in_force(second)
        for _ in range(6):
            assert (await gateway.chat(model="auto", max_tokens=5)).status == 200
        await settled(budget, 6 * USD // 10)
        assert told(await second.chat(model="auto", max_tokens=5)) == ("cap", "0.60")
        await settled(budget, 7 * USD // 10)
        for _ in range(200):
            reply = await gateway.chat(model="swift", max_tokens=1)  # on no ladder
            assert reply.status == 200
            break
        reply = await second.chat(model="auto", max_tokens=5)
        assert reply.headers[STEP] == "cache" or reply.headers[STEP] == "cheaper"


async def settled(budget: Budget, nano: int) -> None:
    for _ in range(600):
        window = await BudgetWindow.objects.filter(budget=budget).afirst()
        if window is not None and window.spent_nano >= nano:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the spend did not arrive")
