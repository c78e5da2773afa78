"""Hard budgets from outside: what they refuse, what they cut short, where they send a request, what they charge.

Both vendors cost $1 per million tokens in and $2 out: 1,000 nano-USD a token in, 2,000 out. An answer of the scripted
vendors costs 22,000 (12 in, 5 out).
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from analytics.models import Budget, BudgetLease, BudgetWindow
from providers.models import Deployment
from routerplatform.application import Application
from routing.models import ModelAlias, RoutingPolicy, Team, VirtualKey
from tests.conftest import configure_two_vendors
from tests.doors.test_websocket import signed_in
from tests.factories import BudgetFactory, PersonaFactory
from tests.gateway import HELLO, Gateway, records, serving
from tests.gateway_path.changes import changed, price_forget, price_set
from tests.upstreams.scripted import Upstream, openai_answer, openai_stream, status

ANSWER_NANO = 12 * 1_000 + 5 * 2_000
Limit = Callable[..., Awaitable[Budget]]


@pytest.fixture
def limit(gateway: Gateway) -> Limit:
    """Give the caller's team (or what else is named) a budget, and wait until the gateway has it."""

    async def make(usd: str, **options: Any) -> Budget:
        made: list[Budget] = []

        def create() -> None:
            mode = options.pop("mode", "strict")
            [(scope, subject)] = options.items() or [("team", Team.objects.get())]
            whose = {"team": None, scope: subject}
            made.append(BudgetFactory(max_budget=Decimal(usd), scope=scope, mode=mode, **whose))

        await changed(gateway, create)
        await in_force(gateway)
        return made[0]

    return make


async def in_force(gateway: Gateway) -> None:
    """The gateway goes by the budgets as they are now."""
    for _ in range(600):
        health = (await gateway.get("/health")).json
        if health["budgets_revision"] == health["config_revision"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not take the budgets up")


async def window_of(budget: Budget, **wanted: int) -> BudgetWindow:
    """The budget's window, as soon as it is as wanted."""
    for _ in range(600):
        window = await BudgetWindow.objects.filter(budget=budget).afirst()
        if window is not None and all(getattr(window, name) == value for name, value in wanted.items()):
            return window
        await asyncio.sleep(0.05)
    raise AssertionError(f"not {wanted}: {window and vars(window)}")


async def test_a_strict_budget_is_charged_what_the_answer_cost(gateway: Gateway, limit: Limit) -> None:
    budget = await limit("1.00")
    reply = await gateway.chat(model="swift", max_tokens=100)
    assert reply.status == 200
    window = await window_of(budget, spent_nano=ANSWER_NANO)
    assert (window.overrun_nano, window.opening_nano) == (0, 0)
    [record] = await records()
    assert record.charges == {str(window.pk): ANSWER_NANO}
    assert record.budget["hold_nano"] >= 100 * 2_000 + 12 * 1_000
    assert "x-router-max-tokens" not in reply.headers


async def test_a_budget_of_nothing_lets_nothing_through(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    budget = await limit("0.00")
    for body in ({"model": "swift"}, {"model": "swift", "stream": True}, {"model": "auto", "max_tokens": 1}):
        reply = await gateway.chat(**body)
        assert (reply.status, reply.headers["x-should-retry"]) == (429, "false")
        assert (reply.error["code"], reply.error["type"]) == ("insufficient_quota", "insufficient_quota")
        assert reply.error["details"]["scope"] == "team"
        assert reply.error["details"]["budget_id"] == budget.pk
        assert reply.error["details"]["limit_usd"] == "0.000000000"
        assert reply.error["details"]["resets_at"].endswith("+00:00")
    assert (openai_upstream.calls, anthropic_upstream.calls) == ([], [])
    found = await records(3)
    assert {(record.state, record.cost_nano, record.error_code) for record in found} == {
        ("released", 0, "insufficient_quota")
    }


async def test_every_door_refuses_what_the_budget_does_not_allow(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    await limit("0.00")
    for path in ("/v1/chat/completions", "/api/v1/chat"):
        for stream in (False, True):
            reply = await gateway.post(path, {"model": "swift", "messages": HELLO, "stream": stream})
            assert (reply.status, reply.error["code"]) == (429, "insufficient_quota"), path
            assert reply.headers["x-should-retry"] == "false"
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", model="swift", messages=HELLO)
        [*_, error] = await socket.until("error", "done")
        assert (error["type"], error["code"]) == ("error", "insufficient_quota")
    assert openai_upstream.calls == []
    assert {record.error_code for record in await records(5)} == {"insufficient_quota"}


async def test_a_personas_budget_counts_what_is_asked_of_it_only(gateway: Gateway, limit: Limit) -> None:
    policy = await RoutingPolicy.objects.aget(name="default")
    persona = await sync_to_async(PersonaFactory)(slug="analyst", policy=policy, max_tokens=50)
    budget = await limit("1.00", persona=persona)
    assert (await gateway.chat(model="swift")).status == 200
    reply = await gateway.chat(model="analyst")
    assert (reply.status, reply.headers.get("x-router-max-tokens")) == (200, None)  # the persona says so itself
    await window_of(budget, spent_nano=ANSWER_NANO)


async def test_a_longest_answer_is_always_sent_under_a_strict_budget(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    await gateway.chat(model="swift")
    await limit("1.00")
    reply = await gateway.chat(model="swift")
    assert reply.headers["x-router-max-tokens"] == "4096"
    assert [call.body.get("max_tokens") for call in openai_upstream.calls] == [None, 4096]


async def test_an_answer_is_cut_to_what_the_budget_can_afford(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    await limit("0.01")  # 10,000,000 nano-USD: 5,000 tokens out at most, less the prompt
    await changed(
        gateway, lambda: Deployment.objects.update(max_output_tokens=60_000) and Deployment.objects.first().save()
    )
    reply = await gateway.chat(model="swift", max_tokens=60_000)
    assert reply.status == 200
    sent = int(reply.headers["x-router-max-tokens"])
    assert 64 <= sent < 5_000
    assert openai_upstream.calls[0].body["max_tokens"] == sent
    [record] = await records()
    assert record.budget["max_tokens"] == sent
    assert 10_000_000 - 2_000 < record.budget["hold_nano"] <= 10_000_000


async def test_where_the_first_candidate_is_too_dear_a_cheaper_one_serves(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_set("alpha", input="1000", output="60000"))
    await limit("0.05")
    reply = await gateway.chat(model="auto", max_tokens=1000)
    assert (reply.status, reply.headers["x-router-deployment"]) == (200, "beta/sage-1")
    assert openai_upstream.calls == []
    [record] = await records()
    skipped, chosen = record.decision["candidates"]
    assert (skipped["verdict"], chosen["verdict"]) == ("skipped", "fallback")
    assert "does not allow this request" in skipped["reason"]


async def test_a_price_that_nobody_knows_is_refused_under_a_strict_budget_only(gateway: Gateway, limit: Limit) -> None:
    await changed(gateway, lambda: price_forget("alpha"))
    assert (await gateway.chat(model="swift")).status == 200
    await limit("1.00")
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.error["code"]) == (400, "price_unknown")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "web_search"}]}, "the tool “web_search”"),
    ],
)
async def test_what_is_billed_beside_the_tokens_is_refused_under_a_strict_budget_only(
    gateway: Gateway, limit: Limit, extra: dict[str, Any], named: str
) -> None:
    assert (await gateway.chat(model="swift", **extra)).status == 200
    await limit("1.00")
    reply = await gateway.chat(model="swift", **extra)
    assert (reply.status, reply.error["code"]) == (400, "price_unknown")
    assert named in reply.error["message"]
    assert (await gateway.chat(model="swift", service_tier="default")).status == 200


@pytest.mark.parametrize("scope", ["team", "key", "alias"])
async def test_each_scope_refuses_its_own_and_names_itself(gateway: Gateway, limit: Limit, scope: str) -> None:
    models: dict[str, Any] = {"team": Team, "key": VirtualKey, "alias": ModelAlias}
    where = {"name": "swift"} if scope == "alias" else {}
    subject = await models[scope].objects.aget(**where)
    await limit("0.00", **{scope: subject})
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.error["details"]["scope"]) == (429, scope)


async def test_an_alias_without_money_sends_a_policys_request_to_the_next_candidate(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    alias = await ModelAlias.objects.aget(name="swift")
    await limit("0.00", alias=alias)
    reply = await gateway.chat(model="auto")
    assert (reply.status, reply.headers["x-router-deployment"]) == (200, "beta/sage-1")
    assert openai_upstream.calls == []


async def test_a_fallback_charges_each_alias_only_what_it_served(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    team = await limit("1.00")
    swift = await limit("1.00", alias=await ModelAlias.objects.aget(name="swift"))
    sage = await limit("1.00", alias=await ModelAlias.objects.aget(name="sage"))
    openai_upstream.play(status(503), openai_answer())
    reply = await gateway.chat(model="auto", max_tokens=50)
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    await window_of(team, spent_nano=ANSWER_NANO)
    await window_of(sage, spent_nano=ANSWER_NANO)
    [record] = await records()
    windows = {window.budget_id: str(window.pk) async for window in BudgetWindow.objects.all()}
    assert record.charges == {windows[team.pk]: ANSWER_NANO, windows[sage.pk]: ANSWER_NANO}
    assert (await BudgetWindow.objects.aget(budget=swift)).spent_nano == 0


async def test_a_soft_budget_only_counts_and_a_shadow_counts_what_it_would_have_refused(
    gateway: Gateway, limit: Limit
) -> None:
    soft = await limit("0.00", team=await Team.objects.aget(), mode="soft")
    shadow = await limit("0.00", key=await VirtualKey.objects.aget(), mode="shadow")
    reply = await gateway.chat(model="swift", max_tokens=10)
    assert (reply.status, reply.headers.get("x-router-max-tokens")) == (200, None)
    for budget, refused in ((soft, 0), (shadow, 1)):
        window = await window_of(budget, spent_nano=ANSWER_NANO)
        assert (window.overrun_nano, window.leased_nano, window.would_refuse) == (ANSWER_NANO, 0, refused)


async def test_what_a_failed_attempt_had_held_does_not_count_against_the_next_one(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    """One attempt may cost $0.006: there is room for one, and not for two at a time."""
    openai_upstream.play(status(500))
    for vendor in ("alpha", "beta"):
        await changed(gateway, lambda vendor=vendor: price_set(vendor, input="10", output="20"))
    shadow = await limit("0.01", mode="shadow")
    reply = await gateway.chat(model="auto", max_tokens=10)
    assert (reply.status, reply.headers["x-router-attempts"]) == (200, "2")
    window = await window_of(shadow, spent_nano=10 * ANSWER_NANO)
    assert window.would_refuse == 0


async def test_parallel_streams_never_spend_more_than_the_budget(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    """Each answer is billed 2,000 tokens out: $0.004012. A budget of $0.10 pays for 24 of them."""
    usage = {"prompt_tokens": 12, "completion_tokens": 2000, "total_tokens": 2012}
    openai_upstream.play(openai_stream("a", "b", usage=usage))
    budget = await limit("0.10")
    replies = await asyncio.gather(*(gateway.stream(model="swift", max_tokens=2000) for _ in range(60)))
    answered = [reply for reply in replies if reply.status == 200]
    assert {reply.error["code"] for reply in replies if reply.status != 200} == {"insufficient_quota"}
    spent = len(openai_upstream.calls) * 4_012_000
    assert 0 < spent <= 100_000_000
    assert len(answered) == len(openai_upstream.calls)
    window = await window_of(budget, spent_nano=spent)
    assert window.overrun_nano == 0


async def test_the_lease_goes_back_when_the_gateway_stops(
    transactional_db: None, application: Application, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)
    budget = await sync_to_async(BudgetFactory)(team=await Team.objects.aget(), mode="strict")
    async with serving(application) as url, aiohttp.ClientSession() as session:
        assert (await Gateway(url, session, key).chat(model="swift", max_tokens=10)).status == 200
        assert (await window_of(budget, spent_nano=ANSWER_NANO)).leased_nano > 0
        assert await BudgetLease.objects.acount() == 1
    assert (await window_of(budget, leased_nano=0)).spent_nano == ANSWER_NANO
    assert await BudgetLease.objects.acount() == 0


async def test_an_expected_budget_holds_the_usual_cost_and_counts_what_went_over(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    budget = await limit("1.00", team=await Team.objects.aget(), mode="expected")
    for _ in range(30):
        assert (await gateway.chat(model="swift", max_tokens=100_000)).status == 200
    found = await records(30)
    assert found[0].budget["hold_nano"] > 8_000_000  # nothing was known yet: 4,096 tokens
    assert found[-1].budget["hold_nano"] < 200_000  # five tokens are usual
    usage = {"prompt_tokens": 12, "completion_tokens": 4000, "total_tokens": 4012}
    openai_upstream.play(openai_answer("long", usage=usage))
    assert (await gateway.chat(model="swift", max_tokens=100_000)).status == 200
    await window_of(budget, spent_nano=30 * ANSWER_NANO + 12_000 + 8_000_000)


async def test_a_longer_stream_than_expected_holds_more_while_it_runs(
    gateway: Gateway, limit: Limit, openai_upstream: Upstream
) -> None:
    await limit("1.00", team=await Team.objects.aget(), mode="expected")
    for _ in range(21):
        await gateway.chat(model="swift")
    openai_upstream.play(openai_stream(*["word "] * 60))
    assert (await gateway.stream(model="swift")).done
    found = await records(22)
    assert found[-1].budget["hold_nano"] > 3 * found[-2].budget["hold_nano"]
