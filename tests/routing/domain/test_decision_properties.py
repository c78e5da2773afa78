"""What holds for every decision, whatever the configuration and the situation are."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.domain.types import Deployment, Price
from routing.domain.classification.types import Classification, QualityEstimate
from routing.domain.config import NO_LADDER, Candidate, Ladder, Policy, Rule, Strategy, TaskType, Variant
from routing.domain.decision import LadderRefusal, NoRoute, RoutePlan, chosen, decide
from routing.domain.eligibility import demand_of, reason_to_skip
from routing.domain.explanation import explanation
from routing.domain.situation import Situation
from tests.routing.domain.build import alias, caller, deployment, endpoint, persona, policy, request, snapshot
from tests.routing.domain.worlds import World, world

NUMBERS = st.integers(0, 10**9)
SWIFT, DEEP, SAGE = deployment(1, "swift"), deployment(2, "deep"), deployment(3, "sage")


def decided(given_world: World) -> RoutePlan | None:
    try:
        return decide(given_world.snapshot, given_world.caller, given_world.request, given_world.situation)
    except NoRoute:
        return None


def why_not(given_world: World, plan: RoutePlan, target: Deployment) -> str:
    """Why this target cannot serve, asked of the rules directly; empty when it can."""
    one = given_world
    who = one.snapshot.personas.get(plan.persona)
    limit = one.request.max_tokens or (who.defaults.max_tokens if who else None)
    demand = demand_of(
        one.request,
        required=who.required if who else frozenset(),
        policy=plan.followed,
        max_tokens=plan.step.capped(limit),
        situation=one.situation,
    )
    return reason_to_skip(target, demand, latency_ms=one.situation.standing(target).latency_ms)


@given(NUMBERS)
@settings(max_examples=500)
def test_no_target_is_one_that_cannot_serve(number: int) -> None:
    given_world = world(number)
    plan = decided(given_world)
    for target in plan.targets if plan else ():
        assert why_not(given_world, plan, target) == ""


@given(NUMBERS)
@settings(max_examples=500)
def test_every_candidate_is_accounted_for_once(number: int) -> None:
    given_world = world(number)
    plan = decided(given_world)
    if plan is None:
        return
    looked_at = [one.deployment for one in plan.considered]
    assert len(looked_at) == len(set(looked_at))
    served = [one.deployment for one in plan.considered if one.verdict != "skipped"]
    assert served == [target.name for target in plan.targets]
    assert len(plan.aliases) == len(plan.targets)
    assert [one.verdict for one in plan.considered].count("chosen") == 1
    assert all(bool(one.reason) == (one.verdict == "skipped") for one in plan.considered)
    candidates = chosen(given_world.snapshot, given_world.caller, given_world.request, given_world.situation)
    may_use = given_world.caller.allowed_aliases
    named = {one.name for _, name, one in candidates.candidates if not may_use or name in may_use}
    assert named <= set(looked_at)


@given(NUMBERS)
@settings(max_examples=300)
def test_only_what_the_key_may_use_serves(number: int) -> None:
    given_world = world(number)
    plan = decided(given_world)
    may_use = given_world.caller.allowed_aliases
    if plan and may_use:
        assert set(plan.aliases) <= may_use


@given(NUMBERS)
@settings(max_examples=300)
def test_ceilings_are_kept(number: int) -> None:
    given_world = world(number)
    plan = decided(given_world)
    if plan is None or plan.followed is None:
        return
    for one in plan.considered[: len(plan.targets)]:
        if plan.followed.max_cost_nano is not None:
            assert one.estimated_cost_nano is not None
            assert one.estimated_cost_nano <= plan.followed.max_cost_nano
    for target in plan.targets:
        if plan.followed.max_latency_ms is not None:
            assert (given_world.situation.standing(target).latency_ms or 0) <= plan.followed.max_latency_ms


@given(NUMBERS)
@settings(max_examples=300)
def test_a_loop_of_tool_calls_never_switches(number: int) -> None:
    given_world = world(number)
    situation = replace(given_world.situation, is_tool_loop=True)
    plan = decided(replace(given_world, situation=situation))
    if plan and plan.followed and situation.pinned in [target.name for target in plan.targets]:
        assert plan.targets[0].name == situation.pinned
        assert plan.sticks


@given(NUMBERS)
@settings(max_examples=300)
def test_the_same_question_has_the_same_answer(number: int) -> None:
    one, two = decided(world(number)), decided(world(number))
    assert (one and explanation(one)) == (two and explanation(two))


# --- conversations, rules and budgets meet ------------------------------------------------------------------------


def plan_of(rules: Policy, **situation: object) -> RoutePlan:
    return decide(snapshot(default=rules), caller(), request("auto"), Situation(seed="x", **situation))  # type: ignore[arg-type]


def two(**options: object) -> Policy:
    return policy("p", alias("swift", SWIFT), alias("deep", DEEP), **options)


def test_a_conversation_stays_where_the_policy_says_so() -> None:
    assert plan_of(two(is_sticky=True), pinned="alpha/deep").targets == (DEEP, SWIFT)
    assert plan_of(two(), pinned="alpha/deep").targets == (SWIFT, DEEP)
    assert not plan_of(two(), pinned="alpha/deep").sticks


def test_a_conversation_moves_when_its_model_is_gone_or_cannot() -> None:
    assert plan_of(two(is_sticky=True), pinned="alpha/gone").targets == (SWIFT, DEEP)
    small = deployment(2, "deep", context_window=50)
    rules = policy("p", alias("swift", SWIFT), alias("deep", small), is_sticky=True)
    assert plan_of(rules, pinned="alpha/deep").targets == (SWIFT,)


def test_a_conversation_moves_when_more_quality_is_asked_for() -> None:
    rules = two(is_sticky=True, strategy=Strategy.BEST_QUALITY, quality_floor=0.8)
    better = {"swift": 0.9, "deep": 0.7}
    figures = {"quality": lambda question: QualityEstimate(better[question.model], 9, "graded")}
    assert plan_of(rules, pinned="alpha/deep", **figures).targets == (SWIFT, DEEP)
    assert plan_of(rules, pinned="alpha/deep", is_tool_loop=True, **figures).targets == (DEEP, SWIFT)


def test_an_operators_rule_comes_before_a_conversations_habit() -> None:
    rule = Rule("to-sage", "tag", "", bool, alias="sage")
    rules = two(is_sticky=True)
    config = replace(snapshot(alias("sage", SAGE), default=rules))
    plan = decide(config, caller(), request("auto"), Situation(rule=rule, pinned="alpha/deep"))
    assert plan.targets == (SAGE, SWIFT, DEEP)
    assert plan.rule == "to-sage"


def test_a_rule_for_a_tier_puts_its_models_first_and_keeps_the_others() -> None:
    dear, cheap = replace(SWIFT, cost_tier="premium"), replace(DEEP, cost_tier="economy")
    rules = policy("p", alias("dear", dear), alias("cheap", cheap))
    rule = Rule("cheap", "tag", "", bool, tier="economy")
    assert plan_of(rules, rule=rule).targets == (cheap, dear)


def test_a_conversation_gives_way_to_a_budget_that_fills() -> None:
    cheap = replace(SWIFT, price=Price(1, 1, 1))
    rules = policy(
        "p", alias("deep", DEEP), alias("cheap", cheap), is_sticky=True, ladder=Ladder(cheaper_at=80, refuse_at=95)
    )
    assert plan_of(rules, pinned="alpha/deep", budget_used=0.79).targets == (DEEP, cheap)
    assert plan_of(rules, pinned="alpha/deep", budget_used=0.80).targets == (cheap, DEEP)
    with pytest.raises(LadderRefusal, match="95% of a budget is used"):
        plan_of(rules, budget_used=0.95)
    assert plan_of(replace(rules, ladder=NO_LADDER), budget_used=5.0).targets == (DEEP, cheap)


def test_work_is_handed_over_to_the_policy_for_it() -> None:
    coding = policy("coding", alias("deep", DEEP), task_type=TaskType.CODING)
    general = policy("general", alias("swift", SWIFT), strategy=Strategy.TASK_BASED)
    config = replace(snapshot(policies=(coding, general), default=general), task_policies={TaskType.CODING: coding})
    code = Situation(task=Classification(TaskType.CODING, 0.9))
    plan = decide(config, caller(), request("auto"), code)
    assert (plan.policy, plan.targets, plan.task_type) == ("coding", (DEEP,), TaskType.CODING)
    assert "for CODING hands over to policy “coding”" in plan.how
    assert decide(config, caller(), request("auto"), Situation()).targets == (SWIFT,)


def test_a_policy_with_models_of_its_own_for_the_work_keeps_it() -> None:
    coding = policy("coding", alias("deep", DEEP), task_type=TaskType.CODING)
    own = (Candidate(alias("swift", SWIFT), False), Candidate(alias("sage", SAGE), False, task_type=TaskType.CODING))
    general = replace(policy("general", strategy=Strategy.TASK_BASED), candidates=own)
    config = replace(snapshot(policies=(coding, general), default=general), task_policies={TaskType.CODING: coding})
    plan = decide(config, caller(), request("auto"), Situation(task=Classification(TaskType.CODING, 0.9)))
    assert (plan.policy, plan.targets) == ("general", (SAGE, SWIFT))


def test_what_an_operator_says_of_the_work_counts_more_than_the_classifier() -> None:
    rules = replace(
        policy("p", strategy=Strategy.TASK_BASED),
        candidates=(
            Candidate(alias("swift", SWIFT), False, task_type=TaskType.CODING),
            Candidate(alias("deep", DEEP), False, task_type=TaskType.CREATIVE),
        ),
    )
    creative = Classification(TaskType.CREATIVE, 0.99)
    assert plan_of(rules, task=creative).targets[0] is DEEP
    plan = plan_of(rules, task=creative, rule=Rule("code", "tag", "", bool, TaskType.CODING))
    assert (plan.targets[0], plan.task_type, plan.rule) == (SWIFT, TaskType.CODING, "code")


def test_what_the_vendor_has_in_its_cache_is_cheaper_to_go_on_with() -> None:
    price = Price(1, input=10**9, output=0, cache_read=10**8)
    a, b = deployment(1, "a", price=price), deployment(2, "b", price=replace(price, input=9 * 10**8))
    rules = policy("p", alias("a", a), alias("b", b), strategy=Strategy.LOWEST_COST)
    assert plan_of(rules).targets == (b, a)
    assert plan_of(rules, pinned="alpha/a", cached_input=80).targets == (a, b)


def test_a_policy_can_be_kept_to_regions() -> None:
    here = replace(deployment(1, "here"), endpoint=endpoint("eu-cloud", region="eu"))
    rules = policy("p", alias("x", DEEP), alias("here", here), regions=frozenset({"eu"}))
    plan = plan_of(rules)
    assert plan.targets == (here,)
    assert plan.considered[1].reason == "it is served in an unknown region; the policy allows eu"


def test_a_persona_follows_its_policys_variants() -> None:
    challenger = policy("p", alias("deep", DEEP), version=8)
    variant = Variant("rollout", "v8", "", 100, "seed", "request", challenger)
    rules = policy("p", alias("swift", SWIFT), version=7, variants=(variant,))
    config = snapshot(personas=(persona("analyst", rules),))
    plan = decide(config, caller(), request("analyst"), Situation(seed="x"))
    assert (plan.targets, plan.policy_version, plan.arm) == ((DEEP,), 8, "v8")
