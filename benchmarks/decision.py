"""`python -m benchmarks.decision`: CPU that deciding costs a request, the gathering of its situation included.

Five models of five vendors, each behind an alias of its own, and a prompt of some 300 tokens. Nothing is sent.
Neighbours on the same core make the figures larger: the least of five rounds counts.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import uvloop

import routerplatform.settings  # noqa: F401  # what types of Django need at run time
from providers.domain.conversation import Conversation, Message, Role, TextPart
from providers.domain.types import Capability, ChatRequest, Credential, Deployment, Endpoint, Price, Wire
from providers.fleet.health import FleetHealth
from providers.transport import Transport
from routerplatform.gateway.classifiers.build import PlugIns
from routerplatform.gateway.conversation_pins import ConversationPins
from routerplatform.gateway.deployment_standings import DeploymentStandings
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.situations import Situations
from routerplatform.gateway.task_classifier import TaskClassifiers
from routing.domain.config import Alias, Caller, Candidate, ConfigSnapshot, Policy, Strategy, TaskType
from routing.domain.decision import decide
from routing.trained import TrainedArtefacts

MODELS: Final = 5
WORDS: Final = "Our customers report that the export of their invoices stops after the first page since Monday. "
CALLER: Final = Caller(
    key_id=1, key_prefix="", key_name="bench", team_id=1, team_name="bench", scopes=frozenset(),
    allowed_aliases=frozenset(), expires_at=None, revoked_at=None, team_active=True,
)  # fmt: skip
CASES: Final[Mapping[str, Strategy | None]] = {
    "a model by its name": None,
    "in order": Strategy.PRIORITY,
    "by weight": Strategy.WEIGHTED,
    "least busy first": Strategy.LEAST_BUSY,
    "quickest first": Strategy.LOWEST_LATENCY,
    "cheapest first, quality at least 0.6": Strategy.LOWEST_COST,
    "by kind of work": Strategy.TASK_BASED,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU per request: the whole, and of it the gathering."""

    whole_us: float
    situation_us: float


def deployment(number: int) -> Deployment:
    endpoint = Endpoint(number, f"vendor-{number}", "openai", (Wire.OPENAI,), "http://127.0.0.1/v1", 5.0, 60.0)
    return Deployment(
        id=number,
        name=f"vendor-{number}/model",
        endpoint=endpoint,
        upstream_model="model",
        model=f"model-{number}",
        credentials=(Credential(number, "key", "0001", ""),),
        capabilities=frozenset(Capability) - {Capability.EMBEDDINGS},
        context_window=128_000,
        max_output_tokens=8_192,
        cost_tier=("free", "economy", "standard", "premium")[number % 4],
        price=Price(number, number * 1_000_000_000, number * 2_000_000_000),
        expected_latency_ms=500 * number,
    )


def snapshot(strategy: Strategy | None) -> ConfigSnapshot:
    aliases = [Alias(f"alias-{number}", "", (deployment(number),)) for number in range(1, MODELS + 1)]
    policy = Policy(
        id=1,
        name="bench",
        task_type=TaskType.ANY,
        candidates=tuple(Candidate(alias, False) for alias in aliases),
        required=frozenset(),
        strategy=strategy or Strategy.PRIORITY,
        quality_floor=0.6,
    )
    return ConfigSnapshot(
        revision=1, compiled_at=datetime.now(UTC), callers_by_digest={}, callers_by_key_id={},
        aliases={alias.name: alias for alias in aliases},
        deployments={one.name: one for alias in aliases for one in alias.deployments},
        policies={policy.name: policy}, personas={}, default_policy=policy,
    )  # fmt: skip


def request(model: str, text: str) -> ChatRequest:
    said = Conversation((Message(Role.USER, (TextPart(text),)),))
    return ChatRequest(
        model=model, stream=True, wire=Wire.OPENAI, fields={}, conversation=lambda: said,
        needs=frozenset({Capability.STREAMING}), input_tokens_bound=1_300, input_tokens_estimate=300, max_tokens=500,
    )  # fmt: skip


def situations() -> Situations:
    """As a gateway has them, without Redis; none of these policies asks for a budget."""
    artefacts = TrainedArtefacts()
    artefacts.prepare("", lambda version: None)
    return Situations(
        budget_used=_no_budget,
        artefacts=artefacts,
        classifiers=TaskClassifiers(artefacts, PlugIns(Transport(), lambda name, reason: None)),
        pins=ConversationPins(),
        standings=DeploymentStandings(FleetHealth(None), RateLimits(None)),
    )


async def _no_budget(caller: Caller, persona: str) -> float:
    return 0.0


async def measure(strategy: Strategy | None, *, requests: int, is_cold: bool = False) -> Cost:
    """The least of five rounds. `is_cold`: each prompt is new, so that it has to be classified."""
    config, gathering = snapshot(strategy), situations()
    name = "alias-1" if strategy is None else "auto"
    best: Cost | None = None
    for round_ in range(5):
        asked = [
            request(name, f"{WORDS}{round_ * requests + number if is_cold else ''}{WORDS * 12}")
            for number in range(requests)
        ]
        gathered_s, began = 0.0, time.thread_time()
        for number, one in enumerate(asked):
            at = time.thread_time()
            found = await gathering.of(config, CALLER, one, {}, f"request-{number}")
            gathered_s += time.thread_time() - at
            decide(config, CALLER, one, found)
        cost = Cost((time.thread_time() - began) / requests * 1e6, gathered_s / requests * 1e6)
        best = cost if best is None or cost.whole_us < best.whole_us else best
    assert best is not None
    return best


def main() -> None:
    print(f"{'CPU per request, us':42}{'whole':>9}{'situation':>11}{'decision':>10}")
    for what, strategy in CASES.items():
        report(what, uvloop.run(measure(strategy, requests=2_000)))
    cold = uvloop.run(measure(Strategy.LOWEST_COST, requests=500, is_cold=True))
    report("cheapest first, classified anew", cold)


def report(what: str, cost: Cost) -> None:
    print(f"{what:42}{cost.whole_us:>9.1f}{cost.situation_us:>11.1f}{cost.whole_us - cost.situation_us:>10.1f}")


if __name__ == "__main__":
    main()
