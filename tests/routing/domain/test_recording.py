"""A recorded decision, made again by the same rules, is the same decision."""

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from providers.domain.types import Capability, PromptDefaults
from routing.domain.config import Policy, Strategy
from routing.domain.decision import RoutePlan, decide
from routing.domain.recording import (
    Outcome,
    RecordedInputs,
    UnreadableInputs,
    is_sampled,
    observed,
    read_inputs,
    recalled,
    recorded,
    write_inputs,
)
from routing.domain.replay import replayed
from routing.domain.situation import NO_SITUATION, Situation, Standing, quality_by_tier
from tests.routing.domain import build
from tests.routing.domain.recorded import decided_at_random, quality_at_random, random_snapshot


def one_policy(**options: Any) -> tuple[Any, Policy]:
    models = [build.alias(f"alias-{number}", build.deployment(number)) for number in (1, 2, 3)]
    policy = build.policy("default", *models, version=2, **options)
    return build.snapshot(*models, policies=(policy,), default=policy), policy


def a_record(**changes: Any) -> RecordedInputs:
    snapshot, _ = one_policy()
    caller, request = build.caller(), build.request()
    situation = Situation(seed="0198-1", turn=1)
    plan = decide(snapshot, caller, request, situation)
    made = recorded(plan, snapshot=snapshot, caller=caller, request=request, situation=situation, outcome=Outcome())
    return msgspec.structs.replace(made, **changes)


def ordered(plan: RoutePlan) -> list[tuple[str, str, int | None, str]]:
    return [(one.deployment, one.verdict, one.estimated_cost_nano, one.reason) for one in plan.considered]


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("tests_something", [False, True])
def test_the_same_rules_decide_the_same_again_by_every_strategy(strategy: Strategy, tests_something: bool) -> None:
    rng = Random(f"{strategy} {tests_something}")
    compared = 0
    for number in range(150):
        snapshot = random_snapshot(rng, strategy=strategy, tests_something=tests_something)
        decided = decided_at_random(rng, number, snapshot)
        if decided is None:
            continue
        plan, inputs = decided
        again = replayed(
            read_inputs(write_inputs(inputs)), snapshot.policies[inputs.entry], snapshot, quality_at_random
        )
        assert again.targets == plan.targets
        assert ordered(again) == ordered(plan)
        assert (again.arm, again.policy, again.task_type, again.sticks) == (
            plan.arm, plan.policy, plan.task_type, plan.sticks,
        )  # fmt: skip
        compared += 1
    assert compared > 60


def test_a_record_reads_back_as_it_was_written() -> None:
    made = a_record(outcome=Outcome("alpha/model-1", 200, "", 10, 2, 3, 4, None, 5.5, 1.25, "hit"))
    assert read_inputs(write_inputs(made)) == made
    assert read_inputs(memoryview(write_inputs(made))) == made


def test_a_record_of_three_candidates_is_small() -> None:
    assert len(write_inputs(a_record())) < 320


def test_a_record_that_lacks_the_newest_fields_is_read_all_the_same() -> None:
    fields = msgspec.msgpack.decode(write_inputs(a_record()))
    assert read_inputs(msgspec.msgpack.encode(fields[:-2])).outcome == Outcome()


@pytest.mark.parametrize("packed", [b"", b"\xc1", msgspec.msgpack.encode(["one"]), msgspec.msgpack.encode({"a": 1})])
def test_what_is_no_record_is_said_to_be_none(packed: bytes) -> None:
    with pytest.raises(UnreadableInputs):
        read_inputs(packed)


def test_a_capability_that_this_version_does_not_know_is_told_apart() -> None:
    snapshot, _ = one_policy()
    with pytest.raises(UnreadableInputs, match="telepathy"):
        recalled(a_record(needs=("telepathy",)), snapshot, quality_by_tier)


def test_nothing_of_the_prompt_is_in_a_record() -> None:
    def secret() -> Any:
        raise AssertionError("nobody has to read the prompt")

    snapshot, _ = one_policy()
    request = build.request(conversation=secret, fields={"messages": msgspec.Raw(b'"my secret"')})
    situation = Situation(seed="0198-1")
    plan = decide(snapshot, build.caller(), request, situation)
    made = recorded(
        plan, snapshot=snapshot, caller=build.caller(), request=request, situation=situation, outcome=Outcome()
    )
    assert b"secret" not in write_inputs(made)


def test_what_a_persona_adds_is_in_the_record_itself() -> None:
    """A persona that is changed or deleted later does not change what was."""
    models = [build.alias(f"alias-{number}", build.deployment(number)) for number in (1, 2)]
    policy = build.policy("default", *models)
    persona = build.persona(
        "poet", policy, defaults=PromptDefaults(max_tokens=333), required=frozenset({Capability.VISION})
    )
    snapshot = build.snapshot(*models, policies=(policy,), personas=(persona,))
    request, situation = build.request("poet"), Situation(seed="0198-1")
    plan = decide(snapshot, build.caller(), request, situation)
    made = recorded(
        plan, snapshot=snapshot, caller=build.caller(), request=request, situation=situation, outcome=Outcome()
    )
    assert (made.persona, made.entry, made.max_tokens, made.needs) == ("poet", "default", 333, ("vision",))
    again = replayed(made, policy, replace(snapshot, personas={}))
    assert ordered(again) == ordered(plan)


def test_standings_are_recorded_as_the_decision_saw_them() -> None:
    looks: list[str] = []

    def standing(deployment: Any) -> Standing:
        looks.append(deployment.name)
        return Standing(latency_ms=float(len(looks)))

    snapshot, _ = one_policy(strategy=Strategy.LOWEST_LATENCY)
    situation = observed(Situation(seed="0198-1", standing=standing))
    request, caller = build.request(), build.caller()
    plan = decide(snapshot, caller, request, situation)
    made = recorded(plan, snapshot=snapshot, caller=caller, request=request, situation=situation, outcome=Outcome())
    assert [one.latency_ms for one in made.candidates] == [1.0, 2.0, 3.0]
    assert len(looks) == 3


def test_standings_nobody_asked_for_are_recorded_when_the_request_is_over() -> None:
    snapshot, _ = one_policy(strategy=Strategy.PRIORITY)
    situation = observed(Situation(seed="0198-1", standing=lambda one: Standing(7.0, 1, 0.5, "open")))
    request, caller = build.request(), build.caller()
    plan = decide(snapshot, caller, request, situation)
    made = recorded(plan, snapshot=snapshot, caller=caller, request=request, situation=situation, outcome=Outcome())
    assert {(one.latency_ms, one.in_flight, one.headroom, one.out_of_service) for one in made.candidates} == {
        (7.0, 1, 0.5, "open")
    }


def test_a_situation_without_a_policy_is_not_watched() -> None:
    assert observed(NO_SITUATION) is NO_SITUATION


def plan_of(percent: int) -> RoutePlan:
    snapshot, _ = one_policy(sample_percent=percent)
    return decide(snapshot, build.caller(), build.request(), Situation(seed="0198-1"))


def test_as_many_decisions_are_kept_as_the_policy_says() -> None:
    ids = [f"0198-{number}" for number in range(4_000)]
    assert all(is_sampled(plan_of(100), one) for one in ids[:100])
    assert not any(is_sampled(plan_of(0), one) for one in ids)
    half = plan_of(25)
    assert 0.22 < sum(is_sampled(half, one) for one in ids) / len(ids) < 0.28


def test_whose_decision_is_kept_at_a_share_is_kept_at_a_larger_one() -> None:
    ids = [f"0198-{number}" for number in range(1_000)]
    few, many = plan_of(10), plan_of(60)
    assert {one for one in ids if is_sampled(few, one)} < {one for one in ids if is_sampled(many, one)}


def test_a_request_that_names_its_model_has_no_decision_to_keep() -> None:
    snapshot, _ = one_policy()
    plan = decide(snapshot, build.caller(), build.request("alias-1"), NO_SITUATION)
    assert not is_sampled(plan, "0198-1")


def test_a_long_name_is_cut() -> None:
    snapshot, _ = one_policy()
    situation = Situation(seed="0198-1", tag="t" * 1_000)
    plan = decide(snapshot, build.caller(), build.request(), situation)
    made = recorded(
        plan, snapshot=snapshot, caller=build.caller(), request=build.request(), situation=situation,
        outcome=Outcome(),
    )  # fmt: skip
    assert made.tag == "t" * 200
