"""What other rules would have done, and what the difference comes to."""

import pickle
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from providers.domain.types import Capability, Price
from routing.domain.classification.types import QualityEstimate, QualityQuestion
from routing.domain.config import Candidate, ConfigSnapshot, Ladder, Policy, Strategy, TaskType
from routing.domain.dial import NothingToTurn, dialled
from routing.domain.recording import (
    Outcome,
    RecordedCandidate,
    RecordedInputs,
    RecordedTask,
    write_inputs,
)
from routing.domain.replay import (
    Latencies,
    Replayer,
    Sums,
    Verdict,
    cost_after,
    snapshot_with,
    told,
    without_callers,
)
from tests.routing.domain import build
from tests.routing.domain.recorded import decided_at_random, quality_at_random, random_snapshot

CHEAP, DEAR = Price(1, 10**9, 10**9), Price(2, 10**10, 10**10)  # $1 and $10 per million tokens, in and out


def two_models(**options: Any) -> tuple[ConfigSnapshot, Policy]:
    """A dear model in front of a cheap one."""
    dear = build.deployment(1, "dear", price=DEAR, expected_latency_ms=2_000)
    cheap = build.deployment(2, "cheap", price=CHEAP, expected_latency_ms=300)
    dear, cheap = replace(dear, cost_tier="premium"), replace(cheap, cost_tier="economy")
    aliases = [build.alias("dear", dear), build.alias("cheap", cheap)]
    policy = build.policy("default", *aliases, version=1, **options)
    return build.snapshot(*aliases, policies=(policy,), default=policy), policy


def cheap_first(policy: Policy, **changes: Any) -> Policy:
    return replace(policy, candidates=policy.candidates[::-1], version=2, **changes)


def a_request(number: int = 1, **changes: Any) -> RecordedInputs:
    """1,000 tokens in, 100 out, answered by the dear model for 1.1 cents."""
    values: dict[str, Any] = {
        "seed": f"0198-{number}", "turn": number, "requested": "auto", "persona": "", "entry": "default",
        "policy": "default", "policy_version": 1, "key_id": 1, "team_id": 1, "allowed": (), "needs": (),
        "is_embedding": False, "input_tokens": 1_000, "max_tokens": 200, "choices": 1, "is_stream": False,
        "only_at": "", "task": None, "rule": None, "tag": "", "conversation": "", "pinned": "", "cached_input": 0,
        "is_tool_loop": False, "usual_output": None, "budget_used": 0.0,
        "candidates": (RecordedCandidate("alpha/dear"), RecordedCandidate("alpha/cheap")),
        "outcome": Outcome("alpha/dear", 200, "", 1_000, 0, 0, 100, 11_000_000, 2_500.0),
    }  # fmt: skip
    return RecordedInputs(**(values | changes))


def sums_of(*requests: RecordedInputs, snapshot: ConfigSnapshot, base: Policy, draft: Policy) -> Sums:
    return Replayer(snapshot, base, draft).sums([write_inputs(one) for one in requests])


def test_a_request_that_goes_elsewhere_is_priced_there_with_the_tokens_it_had() -> None:
    snapshot, base = two_models()
    sums = sums_of(a_request(1), a_request(2), snapshot=snapshot, base=base, draft=cheap_first(base))
    assert (sums.requests, sums.moved, sums.unpriced) == (2, 2, 0)
    assert sums.before.cost_nano == 22_000_000
    assert sums.after.cost_nano == 2_200_000
    assert sums.routes["alpha/dear", "alpha/cheap"].requests == 2


def test_equal_rules_change_nothing_not_even_what_prices_have_become() -> None:
    snapshot, base = two_models()
    dearer_than_today = msgspec.structs.replace(a_request().outcome, cost_nano=99_000_000)
    sums = sums_of(a_request(outcome=dearer_than_today), snapshot=snapshot, base=base, draft=replace(base, version=2))
    assert (sums.moved, sums.before.cost_nano, sums.after.cost_nano) == (0, 99_000_000, 99_000_000)
    assert sums.routes == {}


@pytest.mark.parametrize("strategy", Strategy)
def test_equal_rules_move_no_request_by_any_strategy(strategy: Strategy) -> None:
    rng = Random(strategy)
    snapshot = random_snapshot(rng, strategy=strategy)
    base = snapshot.policies["default"]
    made = [decided_at_random(rng, number, snapshot) for number in range(100)]
    packed = [write_inputs(one[1]) for one in made if one]
    sums = Replayer(snapshot, base, replace(base, version=5), quality_at_random).sums(packed)
    assert sums.requests == len(packed)
    assert sums.moved == sums.unreadable == 0
    assert sums.before.cost_nano == sums.after.cost_nano == 140_000 * (len(packed) - sums.unpriced)


def test_a_kept_answer_costs_nothing_wherever_it_would_have_gone() -> None:
    snapshot, base = two_models()
    hit = msgspec.structs.replace(a_request().outcome, cost_nano=0, cache="hit")
    sums = sums_of(a_request(outcome=hit), snapshot=snapshot, base=base, draft=cheap_first(base))
    assert (sums.moved, sums.after.cost_nano) == (1, 0)


def test_what_nobody_knows_the_price_of_is_left_out_of_both_sums() -> None:
    snapshot, base = two_models()
    unpriced = replace(snapshot.deployments["alpha/cheap"], price=None)
    draft = cheap_first(base)
    alias = replace(draft.candidates[0].alias, deployments=(unpriced,))
    draft = replace(draft, candidates=(Candidate(alias, False), draft.candidates[1]))
    sums = sums_of(a_request(), snapshot=snapshot, base=base, draft=draft)
    assert (sums.moved, sums.unpriced, sums.before.cost_nano, sums.after.cost_nano) == (1, 1, 0, 0)


def test_the_vendors_cache_is_lost_with_the_move_and_kept_with_the_model() -> None:
    caching = build.EVERYTHING | {Capability.PROMPT_CACHING}
    price = Price(3, 10**9, 10**9, cache_read=10**8)
    target = build.deployment(2, "cheap", price=price, capabilities=caching)
    before, after = a_verdict("alpha/dear"), a_verdict(target)
    cached = msgspec.structs.replace(a_request().outcome, input_tokens=200, cache_read_input_tokens=800)
    assert cost_after(a_request(outcome=cached), before, after) == 1_100_000
    assert cost_after(a_request(outcome=cached, pinned="alpha/cheap"), before, after) == 380_000


def a_verdict(target: Any) -> Verdict:
    from_name = build.deployment(9, target.removeprefix("alpha/")) if isinstance(target, str) else target
    return Verdict(from_name)


def test_a_request_that_the_new_rules_refuse_costs_nothing_and_is_told() -> None:
    snapshot, base = two_models()
    draft = replace(base, ladder=Ladder(refuse_at=80), version=2)
    full, free = a_request(1, budget_used=0.9, team_id=7), a_request(2, budget_used=0.1)
    sums = sums_of(full, free, snapshot=snapshot, base=base, draft=draft)
    assert sums.after.breaches.refused == 1
    assert sums.teams[7].after.refused == 1
    assert sums.teams[1].after.refused == 0
    assert sums.after.cost_nano == 11_000_000
    assert sums.routes["alpha/dear", ""].requests == 1


def test_a_request_that_nobody_could_serve_is_told_by_team() -> None:
    snapshot, base = two_models()
    draft = replace(base, max_cost_nano=1, version=2)
    sums = sums_of(a_request(team_id=3), snapshot=snapshot, base=base, draft=draft)
    assert (sums.after.breaches.unserved, sums.teams[3].after.unserved) == (1, 1)
    assert sums.before.breaches.unserved == 0


def test_an_estimate_within_the_ceiling_may_still_come_to_more() -> None:
    """The ceiling is held against the estimate; a replay knows what it really came to."""
    snapshot, base = two_models(max_cost_nano=12_000_000)
    short = a_request(max_tokens=10, outcome=msgspec.structs.replace(a_request().outcome, cost_nano=13_000_000))
    sums = sums_of(short, snapshot=snapshot, base=base, draft=cheap_first(base))
    assert (sums.before.breaches.over_cost, sums.after.breaches.over_cost) == (1, 0)


def test_latency_goes_by_what_was_measured_then_and_else_by_what_is_expected() -> None:
    snapshot, base = two_models()
    slow = (RecordedCandidate("alpha/dear", 4_000.0), RecordedCandidate("alpha/cheap"))
    sums = sums_of(a_request(candidates=slow), snapshot=snapshot, base=base, draft=cheap_first(base))
    assert sums.before.latencies.percentile(0.95) == pytest.approx(4_000, rel=0.02)
    assert sums.after.latencies.percentile(0.95) == pytest.approx(300, rel=0.02)


def test_a_ceiling_on_latency_is_held_against_what_the_request_really_took() -> None:
    """It was expected to take 2 s, and took 2.5; of another model nobody knows."""
    snapshot, base = two_models(max_latency_ms=2_200)
    sums = sums_of(a_request(), snapshot=snapshot, base=base, draft=cheap_first(base))
    assert (sums.before.breaches.over_latency, sums.after.breaches.over_latency) == (1, 0)


def test_of_a_stream_the_time_until_it_began_counts() -> None:
    snapshot, base = two_models(max_latency_ms=2_200)
    began = msgspec.structs.replace(a_request().outcome, ttft_ms=400.0)
    sums = sums_of(a_request(is_stream=True, outcome=began), snapshot=snapshot, base=base, draft=base)
    assert sums.before.breaches.over_latency == 0


def test_a_policy_is_replayed_for_what_another_one_handed_to_it() -> None:
    """Requests enter “default”, which hands coding over to “coding”: a draft of “coding” changes where they go."""
    snapshot, base = two_models(strategy=Strategy.TASK_BASED)
    coding = replace(base, id=2, name="coding", task_type=TaskType.CODING, strategy=Strategy.PRIORITY)
    snapshot = replace(snapshot, policies={"default": base, "coding": coding}, task_policies={TaskType.CODING: coding})
    handed_over = a_request(policy="coding", task=RecordedTask("CODING", 0.9))
    sums = sums_of(handed_over, snapshot=snapshot, base=coding, draft=cheap_first(coding))
    assert (sums.requests, sums.moved, sums.after.cost_nano) == (1, 1, 1_100_000)


def test_what_another_policy_decided_is_none_of_its_business() -> None:
    snapshot, base = two_models()
    sums = sums_of(a_request(entry="other", policy="other"), snapshot=snapshot, base=base, draft=base)
    assert sums.requests == 0


def test_a_draft_takes_the_place_of_its_policy_everywhere() -> None:
    snapshot, base = two_models()
    coding = replace(base, id=2, name="coding", task_type=TaskType.CODING)
    snapshot = replace(snapshot, policies={"coding": coding}, task_policies={TaskType.CODING: coding})
    creative = replace(coding, task_type=TaskType.CREATIVE, version=9)
    changed = snapshot_with(snapshot, creative)
    assert changed.policies == {"coding": creative}
    assert changed.task_policies == {TaskType.CREATIVE: creative}


def test_a_policy_of_the_same_kind_of_work_keeps_its_place_if_its_name_comes_first() -> None:
    snapshot, base = two_models()
    first = replace(base, id=2, name="a", task_type=TaskType.CODING)
    snapshot = replace(snapshot, policies={"a": first}, task_policies={TaskType.CODING: first})
    later = replace(base, id=3, name="b", task_type=TaskType.CODING)
    assert snapshot_with(snapshot, later).task_policies == {TaskType.CODING: first}


def test_a_draft_that_leaves_its_kind_of_work_leaves_it_to_the_next_policy_by_name() -> None:
    coding = {"task_type": TaskType.CODING}
    first = build.policy("a-code", build.alias("swift", build.deployment(1)), **coding)
    second = replace(build.policy("b-code", build.alias("sage", build.deployment(2)), **coding), id=2)
    config = replace(build.snapshot(policies=(first, second)), task_policies={TaskType.CODING: first})
    for draft in (replace(first, task_type=TaskType.ANY), replace(first, candidates=())):
        assert snapshot_with(config, draft).task_policies == {TaskType.CODING: second}


def test_inputs_that_cannot_be_read_are_counted() -> None:
    snapshot, base = two_models()
    sums = Replayer(snapshot, base, base).sums(
        [b"\xc1", write_inputs(a_request()), write_inputs(a_request(needs=("telepathy",)))]
    )
    assert (sums.requests, sums.unreadable) == (1, 2)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    rng = Random("parts")
    snapshot = random_snapshot(rng, strategy=Strategy.LOWEST_COST)
    base = snapshot.policies["default"]
    everybody = tuple(Candidate(one, False) for one in snapshot.aliases.values())
    draft = replace(base, strategy=Strategy.WEIGHTED, candidates=everybody, is_sticky=False)
    made = [decided_at_random(rng, number, snapshot) for number in range(200)]
    packed = [write_inputs(one[1]) for one in made if one]
    whole, parts = Replayer(snapshot, base, draft).sums(packed), Sums()
    for start in range(0, len(packed), 17):
        parts.merge(Replayer(snapshot, base, draft).sums(packed[start : start + 17]))
    assert parts.moved > 0
    mine, other = told(parts), told(whole)
    assert mine.pop("quality_change") == pytest.approx(other.pop("quality_change"))
    assert mine == other


def test_what_a_replay_needs_can_be_handed_to_another_process() -> None:
    snapshot, base = two_models()
    sums = Replayer(without_callers(snapshot), base, cheap_first(base)).sums([write_inputs(a_request())])
    assert pickle.loads(pickle.dumps(without_callers(snapshot))) == without_callers(snapshot)  # noqa: S301 - our own
    again: Sums = pickle.loads(pickle.dumps(sums))  # noqa: S301 - our own
    assert told(again) == told(sums)


def test_quality_changes_by_the_difference_of_the_models_over_all_requests() -> None:
    snapshot, base = two_models()
    staying = a_request(2, allowed=("dear",))
    sums = sums_of(a_request(1), staying, snapshot=snapshot, base=base, draft=cheap_first(base))
    assert told(sums)["quality_change"] == pytest.approx((0.65 - 0.85) / 2)  # the tiers' priors
    assert (sums.moved, sums.unclassified) == (1, 2)


def test_percentiles_are_exact_to_two_percent() -> None:
    latencies = Latencies()
    for number in range(1, 1_001):
        latencies.add(float(number))
    latencies.add(None)
    assert latencies.percentile(0.5) == pytest.approx(500, rel=0.02)
    assert latencies.percentile(0.95) == pytest.approx(950, rel=0.02)
    assert latencies.unknown == 1
    assert Latencies().percentile(0.95) is None


# --- the dial -----------------------------------------------------------------------------------------------------


def three_models(**options: Any) -> tuple[ConfigSnapshot, Policy]:
    """$1, $4 and $10 per million tokens, whose answers are good in 60, 75 and 90 of 100 cases."""
    made = [
        build.deployment(number, name, price=Price(number, usd * 10**9, usd * 10**9))
        for number, name, usd in ((1, "small", 1), (2, "middle", 4), (3, "large", 10))
    ]
    aliases = [build.alias(one.model, one) for one in made]
    policy = build.policy("default", *aliases, **options)
    return build.snapshot(*aliases, policies=(policy,), default=policy), policy


def by_size(question: QualityQuestion) -> QualityEstimate:
    return QualityEstimate({"small": 0.6, "middle": 0.75, "large": 0.9}[question.model], 50, "graded")


def large_ones(count: int = 40) -> list[bytes]:
    outcome = Outcome("alpha/large", 200, "", 1_000, 0, 0, 100, 11_000_000, 900.0)
    return [write_inputs(a_request(number, outcome=outcome, candidates=())) for number in range(count)]


def test_the_dial_finds_the_highest_floor_that_saves_enough() -> None:
    snapshot, base = three_models(strategy=Strategy.LOWEST_COST, quality_floor=0.9)
    found = dialled(large_ones(), snapshot, base, base, wanted=-0.3, estimate=by_size)
    assert found.field == "quality_floor"
    assert 0.74 < found.value <= 0.75  # the middle model: 60 % less
    assert found.is_reached
    assert found.change == pytest.approx(-0.6, abs=0.001)
    assert found.quality_change == pytest.approx(-0.15)


def test_the_dial_turns_what_the_draft_goes_by() -> None:
    snapshot, base = three_models(strategy=Strategy.LOWEST_COST, within_of_best=0.0)
    found = dialled(large_ones(), snapshot, base, base, wanted=-0.8, estimate=by_size)
    assert (found.field, found.is_reached) == ("within_of_best", True)
    assert found.value == pytest.approx(0.3, abs=0.001)
    snapshot, base = three_models(strategy=Strategy.BALANCED, cost_weight=0.001)
    found = dialled(large_ones(), snapshot, base, base, wanted=-0.5, estimate=by_size)
    assert (found.field, found.is_reached) == ("cost_weight", True)
    assert found.change == pytest.approx(-0.6, abs=0.001)


def test_the_dial_says_how_far_it_goes_when_that_is_not_enough() -> None:
    snapshot, base = three_models(strategy=Strategy.LOWEST_COST, quality_floor=0.9)
    found = dialled(large_ones(), snapshot, base, base, wanted=-0.95, estimate=by_size)
    assert not found.is_reached
    assert found.change == pytest.approx(-0.9, abs=0.001)
    assert found.value == 0.0


def test_a_strategy_that_weighs_nothing_has_no_dial() -> None:
    snapshot, base = three_models(strategy=Strategy.PRIORITY)
    with pytest.raises(NothingToTurn, match="no threshold"):
        dialled(large_ones(), snapshot, base, base, wanted=-0.3)


def test_the_dial_needs_requests_that_cost_something() -> None:
    snapshot, base = three_models(strategy=Strategy.BALANCED)
    with pytest.raises(NothingToTurn, match="cost"):
        dialled([], snapshot, base, base, wanted=-0.3)
