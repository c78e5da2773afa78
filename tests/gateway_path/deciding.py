"""N decisions over random worlds, told as one number: `digest_of(N)`.

Two processes that print the same have decided the same N times, whatever their hash seeds, and so does one that is
started again: each begins with empty memory.
"""

import hashlib
import random
from typing import Final

import msgspec

from providers.domain.types import ChatRequest
from routing.domain.decision import NoRoute, RoutePlan, decide
from routing.domain.situation import Situation
from tests.gateway_path.situation_parts import Parts, answered, parts, says
from tests.routing.domain.worlds import World, world

TEXTS: Final = (
    "Fix this Python function",
    "Write a poem about rain",
    "What is the capital of Peru?",
    "Summarise this: ",
)


def told(decided: World, request: ChatRequest, situation: Situation) -> bytes:
    """Everything that a plan says, or why there is none."""
    try:
        plan = decide(decided.snapshot, decided.caller, request, situation)
    except NoRoute as error:
        return msgspec.json.encode((str(error), error.considered))
    return msgspec.json.encode(facts(plan))


def facts(plan: RoutePlan) -> tuple[object, ...]:
    return (
        [target.name for target in plan.targets], plan.aliases, plan.considered, plan.policy, plan.policy_version,
        plan.how, plan.arm, plan.rule, plan.task_type, plan.step.name, plan.sticks, sorted(plan.escalate_on),
    )  # fmt: skip


async def gathered(own: Parts, number: int, drawn: World) -> tuple[ChatRequest, Situation]:
    """What a gateway gathers for a request of this world; now and then one is answered, and is learnt from."""
    chance = random.Random(number)
    asked = says(f"{chance.choice(TEXTS)} {number % 50}", model=drawn.request.model, tools=chance.random() < 0.2)
    hints = {"x-router-tag": chance.choice(["search", "chat"])} if chance.random() < 0.5 else {}
    found = await own.situations.of(drawn.snapshot, drawn.caller, asked, hints, f"request-{number}")
    if chance.random() < 0.5:
        try:
            plan = decide(drawn.snapshot, drawn.caller, asked, found)
        except NoRoute:
            return asked, found
        tally = answered(plan.targets[0], asked=asked, output_tokens=chance.randint(1, 500))
        tally.attempts[-1] = msgspec.structs.replace(tally.attempts[-1], latency_ms=float(chance.randint(1, 5_000)))
        own.situations.ended(plan, found, tally)
    return asked, found


async def digest_of(count: int) -> str:
    own, digest = parts(), hashlib.sha256()
    for number in range(count // 2):
        drawn = world(number)
        digest.update(told(drawn, drawn.request, drawn.situation))
        digest.update(told(drawn, *await gathered(own, number, drawn)))
    return digest.hexdigest()
