"""What holds for the figures of every replay: parts add up, shares are shares, JSON is strict, the dial is honest."""

import copy
import json
from dataclasses import replace
from math import log
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.domain.types import Price
from routing.domain.classification.types import QualityEstimate, QualityQuestion
from routing.domain.config import ConfigSnapshot, Policy, Strategy, TaskType
from routing.domain.dial import (
    CHEAPEST_WEIGHT,
    DEAREST_WEIGHT,
    FLOOR,
    WEIGHT,
    WITHIN,
    NothingToTurn,
    dialled,
    threshold_of,
)
from routing.domain.recording import Outcome, RecordedCandidate, RecordedInputs, RecordedTask, write_inputs
from routing.domain.replay import (
    Breaches,
    Latencies,
    Replayer,
    RouteShare,
    Side,
    Sums,
    TeamShare,
    snapshot_with,
    told,
    without_callers,
)
from tests.routing.domain import build
from tests.routing.domain.recorded import decided_at_random, quality_at_random, random_policy, random_snapshot


def _latencies(some: list[float | None]) -> Latencies:
    made = Latencies()
    for one in some:
        made.add(one)
    return made


COUNTS = st.integers(0, 10**6)
breaches = st.builds(Breaches, COUNTS, COUNTS, COUNTS, COUNTS)
latencies = st.lists(st.none() | st.floats(0, 10**6, allow_nan=False), max_size=20).map(_latencies)
sides = st.builds(Side, COUNTS, latencies, breaches)
sums = st.builds(
    Sums, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(-100, 100).map(float), sides, sides,
    st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.builds(RouteShare, COUNTS, COUNTS, COUNTS),
                    max_size=4),
    st.dictionaries(st.integers(1, 5), st.builds(TeamShare, COUNTS, COUNTS, COUNTS, COUNTS, breaches, breaches),
                    max_size=4),
)  # fmt: skip


def merged(*parts: Sums) -> Sums:
    whole = Sums()
    for part in parts:
        whole.merge(_copy(part))
    return whole


def _copy(part: Sums) -> Sums:
    return copy.deepcopy(part)


@given(sums, sums, sums)
@settings(max_examples=60)
def test_it_does_not_matter_in_which_order_parts_are_added(one: Sums, other: Sums, third: Sums) -> None:
    """Processes end when they end."""
    assert told(merged(one, other, third)) == told(merged(third, one, other))
    left = merged(one, other)
    left.merge(_copy(third))
    right = merged(other, third)
    right.merge(_copy(one))
    assert told(left) == told(right)


@given(sums)
@settings(max_examples=60)
def test_nothing_added_changes_nothing(some: Sums) -> None:
    assert told(merged(some, Sums())) == told(merged(Sums(), some)) == told(some)


@given(sums)
@settings(max_examples=60)
def test_what_a_replay_keeps_is_strict_json_with_the_dearest_first(some: Sums) -> None:
    found = told(some, by_name=lambda team_id: f"team {team_id}")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [one["requests"] for one in found["routes"]] == sorted(
        (one["requests"] for one in found["routes"]), reverse=True
    )
    assert [one["moved"] for one in found["teams"]] == sorted((one["moved"] for one in found["teams"]), reverse=True)
    assert all(one["team"] == f"team {one['team_id']}" for one in found["teams"])


def test_sums_begin_empty_each_time() -> None:
    """Defaults that are shared would add one replay to the next."""
    first = Sums()
    first.routes["a", "b"] = RouteShare(1)
    first.teams[1] = TeamShare(1)
    first.before.latencies.add(5.0)
    first.after.breaches.refused += 1
    assert told(Sums()) == {
        "requests": 0, "unreadable": 0, "unpriced": 0, "unclassified": 0, "moved": 0, "quality_change": 0.0,
        "before": _no_side(), "after": _no_side(), "routes": [], "teams": [],
    }  # fmt: skip


def _no_side() -> dict[str, Any]:
    return {
        "cost_nano": 0, "p50_ms": None, "p95_ms": None, "latency_unknown": 0, "over_cost": 0, "over_latency": 0,
        "refused": 0, "unserved": 0,
    }  # fmt: skip


@given(st.lists(st.floats(0.02, 10**6), min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
@settings(max_examples=100)
def test_a_percentile_is_that_of_the_sorted_list_to_two_percent(some: list[float], share: float) -> None:
    ranked = sorted(some)
    rank = max(1, -(-int(share * len(ranked) * 10**6) // 10**6))
    found = _latencies(list(some)).percentile(share)
    assert found == pytest.approx(ranked[min(rank, len(ranked)) - 1], rel=0.021, abs=0.1)


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, 1e-300])
def test_a_latency_of_nothing_is_a_short_one(latency_ms: float) -> None:
    assert _latencies([latency_ms]).percentile(0.5) == 0.0


@pytest.mark.parametrize("strategy", Strategy)
def test_figures_of_any_two_sets_of_rules_are_consistent(strategy: Strategy) -> None:
    rng = Random(f"figures {strategy}")
    snapshot = random_snapshot(rng, strategy=strategy)
    base = snapshot.policies["default"]
    draft = random_policy(
        rng, replace(base, version=5), list(snapshot.aliases.values()), strategy=rng.choice(list(Strategy))
    )
    made = [one for number in range(60) if (one := decided_at_random(rng, number, snapshot))]
    some = Replayer(snapshot, base, draft, quality_at_random).sums(write_inputs(inputs) for _, inputs in made)
    assert some.requests == len(made)
    assert 0 <= some.moved == sum(route.requests for route in some.routes.values()) <= some.requests
    assert sum(team.requests for team in some.teams.values()) == some.requests
    assert sum(team.moved for team in some.teams.values()) == some.moved
    assert sum(team.before_nano for team in some.teams.values()) == some.before.cost_nano
    assert sum(team.after_nano for team in some.teams.values()) == some.after.cost_nano
    assert all(before != after for before, after in some.routes)
    for side, name in ((some.before, "before"), (some.after, "after")):
        seen = side.latencies.counts.total() + side.latencies.unknown
        assert seen + side.breaches.unserved + side.breaches.refused == some.requests
        for field in Breaches.__struct_fields__:
            assert sum(getattr(getattr(team, name), field) for team in some.teams.values()) == getattr(
                side.breaches, field
            )


def test_turning_a_draft_into_what_is_in_force_is_the_way_back() -> None:
    """What moves from one set of rules to the other moves back by the same routes."""
    rng = Random("back")
    snapshot = random_snapshot(rng, strategy=Strategy.PRIORITY)
    base = snapshot.policies["default"]
    draft = replace(base, candidates=base.candidates[::-1], version=5)
    packed = [write_inputs(one[1]) for number in range(80) if (one := decided_at_random(rng, number, snapshot))]
    there = Replayer(snapshot, base, draft, quality_at_random).sums(packed)
    back = Replayer(snapshot, draft, base, quality_at_random).sums(packed)
    assert there.moved == back.moved > 0
    assert {(after, before): share.requests for (before, after), share in there.routes.items()} == {
        way: share.requests for way, share in back.routes.items()
    }
    assert there.quality_gain == pytest.approx(-back.quality_gain)


def test_the_configuration_itself_is_left_as_it_was() -> None:
    snapshot = random_snapshot(Random(3), strategy=Strategy.TASK_BASED)
    before = replace(snapshot)
    draft = replace(snapshot.policies["default"], task_type=TaskType.CREATIVE, version=9)
    changed = snapshot_with(snapshot, draft)
    assert snapshot == before
    assert changed.policies["default"] is draft
    assert changed.task_policies[TaskType.CREATIVE] is draft
    assert changed.task_policies[TaskType.CODING] is snapshot.task_policies[TaskType.CODING]
    assert without_callers(snapshot).callers_by_digest == {}


# --- the dial -----------------------------------------------------------------------------------------------------


def models(**options: Any) -> tuple[ConfigSnapshot, Policy]:
    """$1 to $10 per million tokens, each better than the one before, by less and less."""
    made = [build.deployment(n, f"m{n:02}", price=Price(n, n * 10**9, n * 10**9)) for n in range(1, 11)]
    aliases = [build.alias(one.model, one) for one in made]
    policy = build.policy("default", *aliases, **options)
    return build.snapshot(*aliases, policies=(policy,), default=policy), policy


def by_number(question: QualityQuestion) -> QualityEstimate:
    return QualityEstimate(0.5 + log(int(question.model[1:])) / 8, 9, "graded")


def dear(number: int, **changes: Any) -> RecordedInputs:
    """Answered by the dearest for 1.1 cents."""
    values: dict[str, Any] = {
        "seed": f"0198-{number}", "turn": number, "requested": "auto", "persona": "", "entry": "default",
        "policy": "default", "policy_version": 1, "key_id": 1, "team_id": 1, "allowed": (), "needs": (),
        "is_embedding": False, "input_tokens": 1_000, "max_tokens": 200, "choices": 1, "is_stream": False,
        "only_at": "", "task": RecordedTask("CODING", 0.9), "rule": None, "tag": "", "conversation": "", "pinned": "",
        "cached_input": 0, "is_tool_loop": False, "usual_output": None, "budget_used": 0.0,
        "candidates": (RecordedCandidate("alpha/m10", 900.0),),
        "outcome": Outcome("alpha/m10", 200, "", 1_000, 0, 0, 100, 11_000_000, 900.0),
    }  # fmt: skip
    return RecordedInputs(**(values | changes))


PACKED = [write_inputs(dear(number)) for number in range(6)]
DIALS: list[dict[str, Any]] = [
    {"strategy": Strategy.LOWEST_COST, "quality_floor": 1.0},
    {"strategy": Strategy.LOWEST_COST, "within_of_best": 0.0},
    {"strategy": Strategy.BALANCED, "cost_weight": 0.001},
]


@pytest.mark.parametrize("rules", DIALS, ids=lambda rules: f"{rules['strategy']}-{len(rules)}-{list(rules)[1]}")
@pytest.mark.parametrize("wanted", [-0.05, -0.3, -0.55, -0.85])
def test_what_the_dial_finds_saves_what_it_says_and_hardly_more(rules: dict[str, Any], wanted: float) -> None:
    snapshot, base = models(**rules)
    found = dialled(PACKED, snapshot, base, base, wanted=wanted, estimate=by_number)
    assert found.is_reached
    assert wanted - 0.2 < found.change <= wanted, "a step is a tenth of the cost"
    assert found.quality_change < 0
    turned = replace(base, **{found.field: found.value}, version=2)
    again = Replayer(snapshot, base, turned, by_number).sums(PACKED)
    assert (again.after.cost_nano - again.before.cost_nano) / again.before.cost_nano == pytest.approx(found.change)
    assert again.quality_gain / again.requests == pytest.approx(found.quality_change)


@pytest.mark.parametrize("rules", DIALS, ids=lambda rules: list(rules)[1])
def test_more_to_save_never_means_better_answers(rules: dict[str, Any]) -> None:
    snapshot, base = models(**rules)
    found = [dialled(PACKED, snapshot, base, base, wanted=-w / 10, estimate=by_number) for w in range(1, 9)]
    assert [one.quality_change for one in found] == sorted((one.quality_change for one in found), reverse=True)


@pytest.mark.parametrize("threshold", [FLOOR, WITHIN, WEIGHT], ids=lambda one: one.field)
def test_a_threshold_runs_from_the_best_to_the_cheapest_and_its_values_are_valid(threshold: Any) -> None:
    values = [threshold.value(at / 20) for at in range(21)]
    assert values == sorted(values, reverse=threshold is FLOOR)
    low, high = (CHEAPEST_WEIGHT, DEAREST_WEIGHT) if threshold is WEIGHT else (0.0, 1.0)
    assert (min(values), max(values)) == (low, high)
    policy = build.policy("p")
    assert getattr(threshold.turned(policy, 0.25), threshold.field) == 0.25
    assert getattr(policy, threshold.field) != 0.25


@pytest.mark.parametrize("strategy", Strategy)
def test_every_strategy_has_a_threshold_or_says_why_not(strategy: Strategy) -> None:
    policy = build.policy("p", strategy=strategy)
    try:
        assert threshold_of(policy).field in {"quality_floor", "cost_weight"}
        assert threshold_of(replace(policy, within_of_best=0.1)).field in {"within_of_best", "cost_weight"}
        assert policy.asks_for_task
    except NothingToTurn:
        assert strategy not in {Strategy.LOWEST_COST, Strategy.TASK_BASED, Strategy.BALANCED}


def test_the_dial_tries_only_what_it_can_price_read_and_what_the_policy_decided() -> None:
    snapshot, base = models(strategy=Strategy.LOWEST_COST, quality_floor=1.0)
    unpriced = dear(90, outcome=msgspec.structs.replace(dear(0).outcome, cost_nano=None))
    others = [unpriced, dear(91, entry="other", policy="other"), dear(92, needs=("telepathy",))]
    mixed = [*PACKED, *map(write_inputs, others), b"\xc1"]
    found = dialled(mixed, snapshot, base, base, wanted=-0.3, estimate=by_number)
    assert found == dialled(PACKED, snapshot, base, base, wanted=-0.3, estimate=by_number)
    assert found.requests == len(PACKED)


@pytest.mark.parametrize("packed", [[], [b"\xc1"], [write_inputs(dear(1, outcome=Outcome(cost_nano=0)))]])
def test_without_anything_that_cost_something_there_is_nothing_to_turn(packed: list[bytes]) -> None:
    snapshot, base = models(strategy=Strategy.BALANCED)
    with pytest.raises(NothingToTurn, match="None of the requests that were looked at cost anything"):
        dialled(packed, snapshot, base, base, wanted=-0.3)
