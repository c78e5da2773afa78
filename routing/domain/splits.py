"""Which side of an experiment or of a rollout a request is on: a draw that its own name decides."""

from dataclasses import dataclass

from routing.domain.config import Caller, Policy, Unit, Variant
from routing.domain.draws import draw
from routing.domain.situation import Situation


@dataclass(frozen=True, slots=True)
class Arm:
    """The rules to follow, and what usage records call this side; “” outside of experiments."""

    policy: Policy
    name: str = ""


def arm_of(policy: Policy, caller: Caller, situation: Situation) -> Arm:
    """The variant that the draw hits, else the policy itself. A shadow changes nothing about the request itself."""
    control = ""
    for variant in policy.variants:
        if variant.kind == "shadow":
            continue
        if is_drawn(variant, caller, situation):
            return Arm(variant.policy, variant.arm)
        control = control or variant.control
    return Arm(policy, control)


def is_drawn(variant: Variant, caller: Caller, situation: Situation) -> bool:
    """Whether the request is among the variant's `percent`. Who is in stays in as the share grows."""
    return draw("split", variant.seed, _unit(variant.unit, caller, situation)) * 100 < variant.percent


def _unit(unit: Unit, caller: Caller, situation: Situation) -> str:
    match unit:
        case "key":
            return str(caller.key_id)
        case "conversation":
            return situation.conversation or situation.seed
    return situation.seed
