"""Requests asked again by a shadow's rules: another key pays, and no caller notices."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from analytics.domain.budgets import window_id
from analytics.models import BudgetWindow, UsageRecord
from analytics.services.experiments import experiments_watch
from routerplatform.gateway.shadows import MOST_IN_FLIGHT
from routing.models import Experiment, ModelAlias, PolicyCandidate, RoutingPolicy, VirtualKey
from routing.services import key_revoke
from tests.factories import key_budget
from tests.gateway import HELLO, Gateway, alias, key, records, vendor
from tests.gateway_path.changes import changed
from tests.gateway_path.test_hard_budgets import in_force
from tests.gateway_path.test_metrics import grew, scraped
from tests.routing.trials import against_sage, started
from tests.upstreams.scripted import Upstream, hang, openai_answer, status

CHALLENGER, CONTROL = "trial:challenger", "trial:control"


def shadowed(**options: Any) -> Experiment:
    """Every request asked again by `sage`; a key of another team pays."""
    key(2, name="payer")
    payer = VirtualKey.objects.get(name="payer")
    return against_sage(kind="shadow", percent=100, payer=payer, max_cost=Decimal(5), **options)


def by_door(found: list[UsageRecord]) -> tuple[UsageRecord, UsageRecord]:
    [first] = [record for record in found if record.door != "shadow"]
    [second] = [record for record in found if record.door == "shadow"]
    return first, second


async def test_the_payer_is_billed_for_the_second_answer_and_the_caller_for_the_first(gateway: Gateway) -> None:
    await changed(gateway, shadowed)

    reply = await gateway.chat(model="auto")

    first, second = by_door(await records(2))
    assert reply.status == 200
    assert (first.deployment, first.arm) == ("alpha/swift-1", CONTROL)
    assert (second.deployment, second.arm, second.key_name) == ("beta/sage-1", CHALLENGER, "payer")
    assert (second.state, second.http_status) == ("settled", 200)
    assert second.team_id != first.team_id
    assert second.cost_nano is not None
    assert second.cost_nano > 0
    assert second.decision["mirrors"] == str(first.request_id)
    assert second.started_at > first.finished_at


async def test_a_stream_is_asked_again_as_a_stream(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    await changed(gateway, shadowed)

    reply = await gateway.stream(model="auto")

    first, second = by_door(await records(2))
    assert reply.done
    assert (first.is_stream, second.is_stream) == (True, True)
    assert second.ttft_ms is not None
    assert [call.body["stream"] for call in anthropic_upstream.calls] == [True]


async def test_embeddings_are_asked_again(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    vectors = {
        "data": [{"index": 0, "embedding": [0.5]}],
        "model": "m",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    openai_upstream.play(status(200, vectors))
    anthropic_upstream.play(status(200, {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 4}))

    def install() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        ways = {"vector": (openai_upstream.url, "openai-compatible"), "local": (anthropic_upstream.url, "ollama")}
        for name, (url, kind) in ways.items():
            made = vendor(f"{name}-vendor", url, f"{name}-1", kind=kind, capabilities=["embeddings"])
            alias(name, *made)
        PolicyCandidate.objects.create(policy=policy, alias=ModelAlias.objects.get(name="vector"), group="fallback")
        key(2, name="payer")
        payer = VirtualKey.objects.get(name="payer")
        local = ModelAlias.objects.get(name="local")
        started(policy, local, kind="shadow", percent=100, payer=payer, max_cost=Decimal(5))

    await changed(gateway, install)
    reply = await gateway.post("/v1/embeddings", {"model": "auto", "input": "one"})

    first, second = by_door(await records(2))
    assert reply.status == 200
    assert (first.deployment, second.deployment) == ("vector-vendor/vector-1", "local-vendor/local-1")
    assert (second.http_status, second.arm, second.input_tokens) == (200, CHALLENGER, 4)


async def test_a_request_with_results_of_tools_is_asked_again(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    await changed(gateway, shadowed)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
    ]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

    reply = await gateway.chat(model="auto", messages=messages, tools=tools)

    assert reply.status == 200
    _, second = by_door(await records(2))
    assert second.http_status == 200
    assert len(anthropic_upstream.calls) == 1


async def test_a_second_answer_that_hangs_delays_nobody_and_is_cut_at_the_end(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    anthropic_upstream.play(hang())
    await changed(gateway, shadowed)

    replies = [await gateway.chat(model="auto") for _ in range(3)]

    await anthropic_upstream.asked(3)
    assert {reply.status for reply in replies} == {200}
    assert {record.door for record in await records(3)} == {"chat-completions"}


async def test_what_is_too_much_at_once_is_left_out_and_counted(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    anthropic_upstream.play(hang())
    await changed(gateway, shadowed)
    before = await scraped(gateway)

    replies = await asyncio.gather(*(gateway.chat(model="auto") for _ in range(MOST_IN_FLIGHT + 8)))

    await anthropic_upstream.asked(MOST_IN_FLIGHT)
    after = await scraped(gateway)
    assert {reply.status for reply in replies} == {200}
    assert len(anthropic_upstream.calls) == MOST_IN_FLIGHT
    outcomes = {name: grew(before, after, "router_shadow_requests_total", outcome=name) for name in ("asked", "busy")}
    assert outcomes == {"asked": MOST_IN_FLIGHT, "busy": 8}


async def test_what_the_cache_answers_is_not_asked_again(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    await changed(gateway, shadowed)
    for _ in range(3):
        await gateway.chat(model="auto", temperature=0)
    found = await records(4)
    assert [record.cache for record in found if record.door != "shadow"] == ["miss", "hit", "hit"]
    assert len(anthropic_upstream.calls) == 1


async def test_vendors_are_told_to_keep_nothing_of_a_second_asking(gateway: Gateway, openai_upstream: Upstream) -> None:
    def the_other_way_round() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.candidates.filter(alias__name="swift").delete()
        key(2, name="payer")
        payer = VirtualKey.objects.get(name="payer")
        swift = ModelAlias.objects.get(name="swift")
        started(policy, swift, kind="shadow", percent=100, payer=payer, max_cost=Decimal(5))

    await changed(gateway, the_other_way_round)
    await gateway.chat(model="auto", store=True)

    await openai_upstream.asked()
    assert openai_upstream.calls[0].body["store"] is False


async def test_a_second_answer_that_fails_is_told_to_nobody(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    anthropic_upstream.play(status(400))
    await changed(gateway, shadowed)

    reply = await gateway.chat(model="auto")

    first, second = by_door(await records(2))
    assert (reply.status, first.error_code) == (200, "")
    assert second.error_code
    assert second.cost_nano == 0


async def test_a_first_answer_that_fails_is_asked_again_all_the_same(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    """Or the control would never look worse than it is."""
    openai_upstream.play(status(400))
    await changed(gateway, shadowed)

    reply = await gateway.chat(model="auto")

    first, second = by_door(await records(2))
    assert reply.status == 400
    assert (first.arm, second.arm, second.http_status) == (CONTROL, CHALLENGER, 200)
    assert len(anthropic_upstream.calls) == 1


async def test_nothing_is_asked_again_when_the_payer_has_no_money_left(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    def broke() -> None:
        shadowed()
        budget = key_budget(VirtualKey.objects.get(name="payer"), max_budget=Decimal("1.00"))
        now = datetime.now(UTC)
        begins_at = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        spend_all(budget.pk, begins_at)

    await changed(gateway, broke)
    await in_force(gateway)
    replies = await asyncio.gather(*(gateway.chat(model="auto") for _ in range(10)))

    assert {reply.status for reply in replies} == {200}
    assert {record.door for record in await records(10)} == {"chat-completions"}
    assert anthropic_upstream.calls == []


def spend_all(budget_id: int, begins_at: datetime) -> None:
    """The month's budget is used up."""
    BudgetWindow.objects.create(
        id=window_id(budget_id, begins_at),
        budget_id=budget_id,
        starts_at=begins_at,
        ends_before=None,
        ceiling_nano=10**9,
        spent_nano=10**9,
    )


async def test_nothing_is_asked_again_for_a_revoked_payer(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    await changed(gateway, shadowed)
    await changed(gateway, lambda: key_revoke(key=VirtualKey.objects.get(name="payer"), by=None))

    reply = await gateway.chat(model="auto")

    assert reply.status == 200
    assert len(await records(1)) == 1
    assert anthropic_upstream.calls == []


async def test_the_payers_own_limits_hold(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    def limited() -> None:
        shadowed()
        payer = VirtualKey.objects.get(name="payer")
        payer.rpm_limit = 1
        payer.save()

    await changed(gateway, limited)
    replies = [await gateway.chat(model="auto") for _ in range(5)]

    assert {reply.status for reply in replies} == {200}
    assert len(await records(6)) == 6
    assert len(anthropic_upstream.calls) == 1


async def test_a_shadow_ends_when_its_own_budget_is_used_up(gateway: Gateway) -> None:
    await changed(gateway, shadowed)
    await gateway.chat(model="auto")
    await records(2)

    def out_of_money() -> None:
        Experiment.objects.update(max_cost=Decimal("0.000001"))
        experiments_watch(now=timezone.now())

    await changed(gateway, out_of_money)
    await gateway.chat(model="auto")

    assert [record.arm for record in await records(3)].count(CHALLENGER) == 1
    stopped = await sync_to_async(Experiment.objects.get)()
    assert stopped.stop_reason.startswith("Its own budget is used up: the challenger has cost <$")


async def test_a_request_outside_of_the_share_is_in_no_arm(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    def none_of_this_key() -> None:
        experiment = shadowed(unit="key")
        Experiment.objects.filter(pk=experiment.pk).update(percent=0)
        experiment.policy.save()  # an edit that gateways notice

    await changed(gateway, none_of_this_key)

    await gateway.chat(model="auto")

    [record] = await records(1)
    assert record.arm == ""
    assert anthropic_upstream.calls == []


async def test_json_that_was_asked_for_is_checked(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer("Sure: {}"), openai_answer('{"a": 1}'))
    await changed(gateway, shadowed)

    for stream in (False, True):
        await gateway.chat(model="auto", response_format={"type": "json_object"}, stream=stream)
    await gateway.chat(model="auto")

    found = [record for record in await records(6) if record.door != "shadow"]
    assert [record.decision.get("json") for record in found] == ["invalid", "valid", None]
