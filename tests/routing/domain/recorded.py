"""Recorded decisions for tests: random configurations, requests and situations, and what is kept of them."""

from dataclasses import replace
from random import Random
from typing import Any

from providers.domain.types import Capability, Price
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import (
    Caller,
    Candidate,
    ConfigSnapshot,
    Ladder,
    Policy,
    Rule,
    Strategy,
    TaskType,
    Variant,
)
from routing.domain.decision import NoRoute, RoutePlan, decide
from routing.domain.draws import draw
from routing.domain.recording import Outcome, RecordedInputs, observed, recorded
from routing.domain.situation import Situation, Standing
from tests.routing.domain import build

TIERS = ("free", "economy", "standard", "premium")


def quality_at_random(question: QualityQuestion) -> QualityEstimate:
    """The same for the same question, whoever asks."""
    label = question.task.label.value if question.task else ""
    return QualityEstimate(draw(question.model, label, question.tag), 3, "drawn")


def random_snapshot(rng: Random, *, strategy: Strategy, tests_something: bool = False) -> ConfigSnapshot:
    """Six models in six aliases behind a default policy, and a policy of their own for coding."""
    deployments = [
        build.deployment(
            number,
            price=rng.choice([None, Price(number, rng.randrange(10**8, 10**10), rng.randrange(10**8, 10**11))]),
            expected_latency_ms=rng.choice([None, rng.randrange(50, 5_000)]),
            context_window=rng.choice([None, 500, 8_000]),
            capabilities=build.EVERYTHING - frozenset(rng.sample(sorted(build.EVERYTHING), rng.randrange(3))),
        )
        for number in range(1, 7)
    ]
    deployments = [replace(one, cost_tier=rng.choice(TIERS)) for one in deployments]
    aliases = [build.alias(f"alias-{one.id}", one) for one in deployments]
    policy = random_policy(rng, build.policy("default", version=4), aliases, strategy=strategy)
    coding = random_policy(
        rng, build.policy("coding", task_type=TaskType.CODING), aliases, strategy=Strategy.LOWEST_COST
    )
    coding = replace(coding, id=2)
    if tests_something:
        other = random_policy(rng, policy, aliases, strategy=strategy)
        policy = replace(policy, variants=(Variant("ab", "x:challenger", "x:control", 40, "s", "request", other),))
    made = build.snapshot(*aliases, policies=(policy, coding), default=policy)
    return replace(made, task_policies={TaskType.CODING: coding})


def random_policy(rng: Random, policy: Policy, aliases: list[Any], *, strategy: Strategy) -> Policy:
    """The policy by other rules, for which there is always a candidate."""
    chosen = rng.sample(aliases, rng.randrange(2, len(aliases) + 1))
    return replace(
        policy,
        candidates=tuple(
            Candidate(one, rng.random() < 0.2, rng.randrange(4), rng.choice([TaskType.ANY, TaskType.ANALYSIS]))
            for one in chosen
        ),
        strategy=strategy,
        quality_floor=rng.choice([None, 0.4, 0.8]),
        within_of_best=rng.choice([None, 0.1]),
        cost_weight=rng.choice([0.0, 0.1, 5.0]),
        latency_weight=rng.choice([0.0, 0.01]),
        is_sticky=rng.random() < 0.3,
        max_cost_nano=rng.choice([None, None, 2_000_000]),
        max_latency_ms=rng.choice([None, None, 2_500]),
        ladder=rng.choice([Ladder(), Ladder(50, 100, 70, None, 95)]),
    )


def random_request(rng: Random, number: int) -> tuple[Caller, Any, Situation]:
    """A caller, what it asks, and how things stood: standings change whenever somebody looks."""
    caller = build.caller(
        key_id=rng.randrange(5),
        team_id=rng.randrange(3),
        allowed_aliases=rng.choice([frozenset(), frozenset({"alias-1", "alias-2", "alias-3"})]),
    )
    request = build.request(
        input_tokens_estimate=rng.randrange(1, 1_000),
        max_tokens=rng.choice([None, 10, 400]),
        choices=rng.choice([1, 1, 2]),
        stream=rng.random() < 0.5,
        needs=rng.choice([frozenset(), frozenset({Capability.TOOL_CALLING})]),
    )
    situation = Situation(
        seed=f"0198-{number:08}",
        turn=number,
        task=rng.choice([None, *(Classification(label, rng.random(), known=0.5) for label in TaskType)]),
        rule=rng.choice(
            [None, None, Rule("r", "text", "", lambda text: True, TaskType.ANALYSIS, "economy", "alias-5")]
        ),
        tag=rng.choice(["", "nightly"]),
        conversation=rng.choice(["", "c1", "c2"]),
        pinned=rng.choice(["", "alpha/model-2", "alpha/model-3"]),
        cached_input=rng.choice([0, 300]),
        is_tool_loop=rng.random() < 0.1,
        usual_output=rng.choice([None, 50]),
        budget_used=rng.choice([0.0, 0.6, 0.8]),
        standing=lambda one: Standing(
            rng.choice([None, rng.random() * 3_000]), rng.randrange(4), rng.random(), rng.choice(["", "open"])
        ),
        quality=quality_at_random,
    )
    return caller, request, situation


def decided_at_random(
    rng: Random, number: int, snapshot: ConfigSnapshot, **outcome: Any
) -> tuple[RoutePlan, RecordedInputs] | None:
    """A decision and its record; None where nothing can serve."""
    caller, request, situation = random_request(rng, number)
    situation = observed(situation)
    try:
        plan = decide(snapshot, caller, request, situation)
    except NoRoute:
        return None
    values = {"http_status": 200, "input_tokens": 100, "output_tokens": 20, "cost_nano": 140_000, "latency_ms": 900.0}
    came = Outcome(plan.targets[0].name, **{**values, **outcome})
    return plan, recorded(plan, snapshot=snapshot, caller=caller, request=request, situation=situation, outcome=came)
