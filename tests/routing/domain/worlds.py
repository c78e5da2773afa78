"""Whole worlds by a number: a snapshot, a caller, a request and a situation, all of them drawn at random.

The same number is the same world in every process, so that decisions can be compared across them.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

from providers.domain.types import Capability, ChatRequest, Deployment, Price
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import (
    Alias,
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
from routing.domain.draws import draw
from routing.domain.situation import Situation, Standing
from tests.routing.domain.build import alias, caller, deployment, endpoint, persona, policy, request, snapshot

SOME_CAPABILITIES = (Capability.VISION, Capability.TOOL_CALLING, Capability.JSON_SCHEMA, Capability.PROMPT_CACHING)
REGIONS = ("", "eu", "us")
TIERS = ("free", "economy", "standard", "premium")


@dataclass(frozen=True)
class World:
    snapshot: ConfigSnapshot
    caller: Caller
    request: ChatRequest
    situation: Situation


def world(number: int) -> World:
    chance = random.Random(number)
    aliases = _aliases(chance)
    policies = [_policy(chance, f"policy-{index}", aliases) for index in range(chance.randint(1, 3))]
    personas = tuple(
        persona(f"persona-{index}", chance.choice(policies), required=_capabilities(chance, 0.15))
        for index in range(chance.randint(0, 2))
    )
    task_policies = {one.task_type: one for one in policies if one.task_type is not TaskType.ANY and one.candidates}
    config = replace(
        snapshot(*aliases, policies=tuple(policies), personas=personas, default=policies[0]),
        task_policies=task_policies,
    )
    names = ["auto", "auto", "auto", *(one.slug for one in personas), chance.choice(aliases).name]
    may_use = frozenset(one.name for one in aliases if chance.random() < 0.6) if chance.random() < 0.2 else frozenset()
    return World(
        config,
        caller(key_id=chance.randint(1, 5), allowed_aliases=may_use),
        request(
            chance.choice(names),
            needs=_capabilities(chance, 0.15),
            input_tokens_estimate=chance.choice([1, 100, 5_000, 20_000]),
            max_tokens=chance.choice([None, 16, 4_000]),
            choices=chance.choice([1, 1, 1, 3]),
        ),
        _situation(chance, aliases),
    )


def _aliases(chance: random.Random) -> list[Alias]:
    deployments = [_deployment(chance, number) for number in range(1, chance.randint(2, 9))]
    return [
        alias(f"alias-{index}", *chance.sample(deployments, chance.randint(0, min(3, len(deployments)))))
        for index in range(chance.randint(1, 6))
    ]


def _deployment(chance: random.Random, number: int) -> Deployment:
    options: dict[str, Any] = {
        "capabilities": _capabilities(chance, 0.7),
        "context_window": chance.choice([None, 4_000, 128_000]),
        "max_output_tokens": chance.choice([None, 1_000]),
        "expected_latency_ms": chance.choice([None, 300, 2_000, 20_000]),
        "price": None
        if chance.random() < 0.15
        else Price(number, chance.randint(0, 10**10), chance.randint(0, 10**10)),
    }
    built = deployment(number, f"m{number:03}", **options)
    return replace(built, cost_tier=chance.choice(TIERS), endpoint=endpoint(region=chance.choice(REGIONS)))


def _policy(chance: random.Random, name: str, aliases: list[Alias], depth: int = 0) -> Policy:
    chosen = chance.sample(aliases, chance.randint(0 if chance.random() < 0.1 else 1, len(aliases)))
    candidates = tuple(
        Candidate(one, chance.random() < 0.3, chance.randint(0, 5), chance.choice(list(TaskType))) for one in chosen
    )
    plain = policy(
        name,
        task_type=chance.choice(list(TaskType)),
        required=_capabilities(chance, 0.05),
        max_cost_nano=chance.choice([None, None, 10**6, 10**8]),
        max_latency_ms=chance.choice([None, None, 1_000]),
        version=chance.randint(1, 9),
        strategy=chance.choice(list(Strategy)),
        quality_floor=chance.choice([None, 0.5, 0.8]),
        within_of_best=chance.choice([None, 0.1]),
        cost_weight=chance.random(),
        latency_weight=chance.random() / 10,
        is_sticky=chance.random() < 0.4,
        regions=frozenset(chance.sample(REGIONS[1:], 1)) if chance.random() < 0.1 else frozenset(),
        ladder=Ladder(50, 100, 70, 80, 95) if chance.random() < 0.2 else Ladder(),
    )
    built = replace(plain, candidates=candidates)
    if depth or chance.random() < 0.7:
        return built
    return replace(built, variants=(_variant(chance, name, aliases),))


def _variant(chance: random.Random, name: str, aliases: list[Alias]) -> Variant:
    return Variant(
        kind=chance.choice(["rollout", "ab", "canary", "shadow"]),
        arm=f"{name}:challenger",
        control=f"{name}:control",
        percent=chance.randint(1, 100),
        seed=str(chance.random()),
        unit=chance.choice(["request", "conversation", "key"]),
        policy=_policy(chance, name, aliases, depth=1),
    )


def _situation(chance: random.Random, aliases: list[Alias]) -> Situation:
    deployments = sorted({one.name for every in aliases for one in every.deployments})
    rule = None
    if chance.random() < 0.2:
        rule = Rule("rule", "tag", "", bool, **chance.choice([{"tier": "economy"}, {"alias": aliases[0].name}]))
    seed = str(chance.random())
    return Situation(
        seed=seed,
        turn=chance.randint(0, 100),
        task=Classification(chance.choice(list(TaskType)), chance.random()) if chance.random() < 0.5 else None,
        rule=rule,
        conversation=chance.choice(["", "c1", "c2"]),
        pinned=chance.choice(["", *deployments]),
        cached_input=chance.choice([0, 50]),
        is_tool_loop=chance.random() < 0.2,
        usual_output=chance.choice([None, 40]),
        budget_used=chance.choice([0.0, 0.6, 0.75, 0.9]),
        standing=lambda one: Standing(draw("latency", seed, one.name) * 5_000, int(draw("busy", one.name) * 9)),
        quality=_quality,
    )


def _quality(question: QualityQuestion) -> QualityEstimate:
    return QualityEstimate(draw("quality", question.model), 0, "drawn")


def _capabilities(chance: random.Random, share: float) -> frozenset[Capability]:
    return frozenset(one for one in SOME_CAPABILITIES if chance.random() < share)
