"""A decision as JSON: which keys there are, of which types, how figures are rounded, and what is left out."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routing.domain.classification.types import Classification
from routing.domain.config import Ladder, Rule, Strategy, TaskType
from routing.domain.decision import Considered, NoRoute, RoutePlan, decide
from routing.domain.explanation import candidate, explanation
from routing.domain.situation import Situation, Standing
from tests.routing.domain import build
from tests.routing.domain.worlds import world

NUMBERS = st.integers(0, 10**9)
ALWAYS = {"requested", "how", "persona", "policy", "strategy", "candidates"}
SOMETIMES = {"policy_version": int, "task": dict, "rule": str, "arm": str, "step": str, "sticks": bool}
OF_EACH = {"deployment": str, "alias": str, "verdict": str, "reason": str, "estimated_cost_nano": int | None}
OF_SOME = {"quality": float, "quality_basis": str, "latency_ms": float, "score": float, "is_fallback": bool}


def plan_of(number: int) -> RoutePlan:
    one = world(number)
    try:
        return decide(one.snapshot, one.caller, one.request, one.situation)
    except NoRoute:
        assume(False)
        raise


def planned(situation: Situation | None = None, **rules: Any) -> RoutePlan:
    """Two preferred models and a fallback, by these rules."""
    models = [build.alias(f"alias-{number}", build.deployment(number)) for number in (1, 2, 3)]
    policy = build.policy("default", *models[:2], fallbacks=(models[2],), version=rules.pop("version", 4), **rules)
    snapshot = build.snapshot(*models, policies=(policy,), default=policy)
    return decide(snapshot, build.caller(), build.request(), situation or Situation(seed="s"))


def is_of(value: object, kind: Any) -> bool:
    """A bool is no number here: a reader of JSON tells them apart."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


@given(NUMBERS)
@settings(max_examples=300)
def test_every_decision_is_told_with_known_keys_of_one_type_each(number: int) -> None:
    told = explanation(plan_of(number))
    assert told.keys() >= ALWAYS
    assert told.keys() <= ALWAYS | SOMETIMES.keys()
    for name in told.keys() & SOMETIMES.keys():
        assert is_of(told[name], SOMETIMES[name]), name
    for name in ALWAYS - {"candidates"}:
        assert type(told[name]) is str, name
    for one in told["candidates"]:
        assert one.keys() >= OF_EACH.keys()
        assert one.keys() <= OF_EACH.keys() | OF_SOME.keys()
        assert all(is_of(one[name], kind) for name, kind in (OF_EACH | OF_SOME).items() if name in one), one


@given(NUMBERS)
@settings(max_examples=300)
def test_every_decision_is_strict_json_and_comes_back_from_it(number: int) -> None:
    """Neither NaN nor Infinity: no strict reader, and no JSON column, takes those."""
    told = explanation(plan_of(number))
    assert json.loads(json.dumps(told, allow_nan=False)) == told


@given(NUMBERS)
@settings(max_examples=200)
def test_figures_are_rounded_to_what_they_are_good_for(number: int) -> None:
    for one in explanation(plan_of(number))["candidates"]:
        for name, digits in (("quality", 4), ("latency_ms", 1), ("score", 6)):
            if name in one:
                assert one[name] == round(one[name], digits), (name, one)


@given(NUMBERS)
@settings(max_examples=200)
def test_candidates_are_told_in_the_order_of_asking_and_those_left_out_say_why(number: int) -> None:
    plan = plan_of(number)
    told = explanation(plan)["candidates"]
    asked = [one for one in told if one["verdict"] != "skipped"]
    assert [one["deployment"] for one in asked] == [target.name for target in plan.targets]
    assert told[: len(asked)] == asked
    assert [one["verdict"] for one in asked] == ["chosen"] + ["fallback"] * (len(asked) - 1)
    assert all(one["reason"] for one in told[len(asked) :])
    assert not any(one["reason"] for one in asked)


@given(NUMBERS)
@settings(max_examples=200)
def test_a_quality_comes_with_what_it_is_based_on_and_only_where_the_strategy_asks(number: int) -> None:
    plan = plan_of(number)
    for one in explanation(plan)["candidates"]:
        assert ("quality" in one) == ("quality_basis" in one)
        if plan.followed is not None and not plan.followed.asks_for_task:
            assert "quality" not in one


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("latency_ms", [None, 0.0, 12.34])
def test_every_strategy_is_told_in_strict_json_whatever_is_known_of_the_models(
    strategy: Strategy, latency_ms: float | None
) -> None:
    """A model without a price or a latency has no infinite score."""
    bare = build.deployment(1, price=None, expected_latency_ms=None)
    full = build.deployment(2)
    models = [build.alias("bare", bare), build.alias("full", full)]
    policy = build.policy("default", *models, strategy=strategy, cost_weight=0.1, latency_weight=0.01)
    snapshot = build.snapshot(*models, policies=(policy,), default=policy)
    situation = Situation(seed="s", standing=lambda _: Standing(latency_ms, headroom=0.0))
    told = explanation(decide(snapshot, build.caller(), build.request(), situation))
    assert told["strategy"] == strategy.value
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_does_not_apply_is_left_out() -> None:
    assert explanation(planned(version=0)).keys() == ALWAYS


def test_everything_that_applies_is_told() -> None:
    situation = Situation(
        seed="s",
        task=Classification(TaskType.CODING, 0.123456, source="artefact", known=0.98765),
        rule=Rule("nightly", "tag", "", bool, tier="standard"),
        budget_used=0.8,
    )
    told = explanation(planned(situation, ladder=Ladder(cap_at=50, cap_tokens=100), strategy=Strategy.BEST_QUALITY))
    assert told["policy_version"] == 4
    assert told["task"] == {"label": "CODING", "confidence": 0.1235, "source": "artefact", "known": 0.9877}
    assert (told["rule"], told["strategy"]) == ("nightly", "best_quality")
    assert told["step"]
    assert "sticks" not in told


def test_the_kind_of_work_that_is_told_is_the_one_that_decided() -> None:
    """A rule overrules the classifier; how sure the classifier was of its own is still told."""
    situation = Situation(
        seed="s",
        task=Classification(TaskType.CODING, 0.9),
        rule=Rule("r", "text", "", bool, task_type=TaskType.CREATIVE),
    )
    assert explanation(planned(situation))["task"]["label"] == "CREATIVE"


def test_a_conversation_that_stays_where_it_is_says_so() -> None:
    situation = Situation(seed="s", conversation="c", pinned="alpha/model-2")
    told = explanation(planned(situation, is_sticky=True))
    assert told["sticks"] is True
    assert told["candidates"][0]["deployment"] == "alpha/model-2"


def test_a_fallback_of_the_policy_is_told_apart_from_a_second_choice() -> None:
    told = explanation(planned())["candidates"]
    assert [one.get("is_fallback", False) for one in told] == [False, False, True]


def test_a_model_by_its_own_name_has_no_policy_to_tell() -> None:
    alias = build.alias("swift", build.deployment(1))
    plan = decide(build.snapshot(alias), build.caller(), build.request("swift"))
    told = explanation(plan)
    assert (told["policy"], told["how"]) == ("", "model alias “swift”")
    assert told.keys() == ALWAYS
    assert told["candidates"][0].keys() <= OF_EACH.keys() | {"latency_ms"}


def test_a_figure_that_is_nought_is_told_and_one_that_nobody_looked_at_is_not() -> None:
    looked = Considered("a/b", "alias", "chosen", "", 0, 0.0, "graded", 0.0, 0.0)
    assert candidate(looked) == {
        "deployment": "a/b", "alias": "alias", "verdict": "chosen", "reason": "", "estimated_cost_nano": 0,
        "quality": 0.0, "quality_basis": "graded", "latency_ms": 0.0, "score": 0.0,
    }  # fmt: skip
    skipped = Considered("a/b", "alias", "skipped", "why", None)
    assert candidate(skipped).keys() == OF_EACH.keys()
    assert candidate(skipped)["estimated_cost_nano"] is None


def test_figures_are_rounded_once_at_the_end() -> None:
    looked = Considered("a/b", "x", "chosen", "", 1, 0.123456, "b", 12.3456, 0.123456789)
    told = candidate(looked)
    assert (told["quality"], told["latency_ms"], told["score"]) == (0.1235, 12.3, 0.123457)


def test_the_plan_itself_is_left_as_it_was() -> None:
    plan = planned()
    before = replace(plan)
    explanation(plan)["candidates"].clear()
    assert plan == before
    assert len(explanation(plan)["candidates"]) == 3
