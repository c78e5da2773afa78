"""What a gateway keeps of the decisions that it makes."""

import asyncio
from typing import Any

from asgiref.sync import sync_to_async

from analytics.models import DecisionRecord, UsageRecord
from providers.domain.conversation import Conversation, Message, Role, TextPart, ToolResultPart
from providers.fields import unseal
from routerplatform.gateway.recordings import last_human_turn
from routing.config_store import ConfigStore
from routing.domain.config import ConfigSnapshot
from routing.domain.recording import RecordedInputs, read_inputs
from routing.domain.replay import replayed
from routing.models import RoutingPolicy
from routing.services import config_revision_bump
from tests.gateway import Gateway, records
from tests.upstreams.scripted import Upstream, drop


async def decisions() -> list[DecisionRecord]:
    """They are shipped in the same transaction as their usage records."""
    return await sync_to_async(lambda: list(DecisionRecord.objects.order_by("at")))()


async def change(**rules: Any) -> None:
    """Edit the default policy, and wait until the gateway has looked at the configuration again."""

    def edit() -> None:
        RoutingPolicy.objects.filter(name="default").update(**rules)
        config_revision_bump()

    await sync_to_async(edit)()
    await asyncio.sleep(0.3)


async def snapshot() -> ConfigSnapshot:
    store = ConfigStore(poll_s=60)
    await store.refresh()
    try:
        return store.current()
    finally:
        await store.close()


async def only() -> tuple[UsageRecord, DecisionRecord, RecordedInputs]:
    [usage] = await records()
    [decision] = await decisions()
    return usage, decision, read_inputs(bytes(decision.inputs))


async def test_a_routed_request_keeps_what_it_was_decided_from_and_what_came_of_it(gateway: Gateway) -> None:
    reply = await gateway.chat(model="auto", max_tokens=50)
    assert reply.status == 200
    usage, decision, inputs = await only()
    assert decision.pk == usage.pk
    assert (decision.policy, decision.team_id, decision.at) == ("default", usage.team_id, usage.started_at)
    assert (inputs.seed, inputs.entry, inputs.policy, inputs.max_tokens) == (
        str(usage.pk), "default", "default", 50,
    )  # fmt: skip
    assert [one.deployment for one in inputs.candidates] == ["alpha/swift-1", "beta/sage-1"]
    outcome = inputs.outcome
    assert (outcome.deployment, outcome.http_status, outcome.cost_nano) == ("alpha/swift-1", 200, usage.cost_nano)
    assert (outcome.input_tokens, outcome.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert (outcome.latency_ms, outcome.ttft_ms) == (usage.latency_ms, usage.ttft_ms)


async def test_what_is_kept_decides_the_same_again(gateway: Gateway) -> None:
    await gateway.chat(model="auto")
    usage, _, inputs = await only()
    held = await snapshot()
    plan = replayed(inputs, held.policies["default"], held)
    assert [one.name for one in plan.targets] == ["alpha/swift-1", "beta/sage-1"]
    asked = {one["deployment"]: one["estimated_cost_nano"] for one in usage.decision["candidates"]}
    assert {one.deployment: one.estimated_cost_nano for one in plan.considered} == asked


async def test_of_a_request_that_names_its_model_nothing_is_kept(gateway: Gateway) -> None:
    assert (await gateway.chat(model="swift")).status == 200
    await records()
    assert await decisions() == []


async def test_no_prompt_is_kept_unless_the_policy_says_so(gateway: Gateway) -> None:
    await gateway.chat(model="auto", messages=[{"role": "user", "content": "my secret"}])
    _, decision, _ = await only()
    assert decision.prompt == ""
    assert b"secret" not in bytes(decision.inputs)


async def test_a_policy_that_keeps_prompts_keeps_the_last_human_turn_encrypted(gateway: Gateway) -> None:
    await change(keeps_prompts=True)
    messages = [
        {"role": "user", "content": "the first"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": "the last " + "x" * 5_000},
    ]
    await gateway.chat(model="auto", messages=messages)
    _, decision, _ = await only()
    assert "the last" not in decision.prompt
    assert unseal(decision.prompt) == ("the last " + "x" * 5_000)[:4_000]


async def test_a_policy_that_samples_nothing_keeps_nothing(gateway: Gateway) -> None:
    await change(sample_percent=0)
    await gateway.chat(model="auto")
    [usage] = await records()
    assert usage.policy == "default"
    assert await decisions() == []


async def test_a_request_that_failed_is_kept_with_its_failure(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(drop())
    anthropic_upstream.play(drop())
    reply = await gateway.chat(model="auto")
    assert reply.status >= 500
    _, _, inputs = await only()
    assert inputs.outcome.http_status == reply.status
    assert inputs.outcome.error_code != ""


async def test_a_fallback_is_kept_as_what_served(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(drop())
    openai_upstream.play(drop())
    assert (await gateway.chat(model="auto")).status == 200
    _, _, inputs = await only()
    assert inputs.candidates[0].deployment == "alpha/swift-1"
    assert inputs.outcome.deployment in {"alpha/swift-1", "beta/sage-1"}


async def test_streams_are_kept_like_whole_answers(gateway: Gateway) -> None:
    await gateway.stream(model="auto")
    _, _, inputs = await only()
    assert inputs.is_stream
    assert inputs.outcome.ttft_ms is not None


def test_the_last_human_turn_is_no_result_of_a_tool() -> None:
    said = Message(Role.USER, (TextPart("question"), TextPart("more")))
    tool = Message(Role.USER, (ToolResultPart("1", "42"),))
    answer = Message(Role.ASSISTANT, (TextPart("let me see"),))
    assert last_human_turn(Conversation((said, answer, tool))) == "question\nmore"
    assert last_human_turn(Conversation((answer,))) == ""
