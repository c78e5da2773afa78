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
    """The variant that the draw hits, else the policy itself.

    A shadow changes nothing about the request itself: those that it hits are asked again, and the first answers are
    what the second ones are compared with.
    """
    control = ""
    for variant in policy.variants:
        is_hit = is_drawn(variant, caller, situation)
        if is_hit and variant.kind != "shadow":
            return Arm(variant.policy, variant.arm)
        if is_hit or variant.kind != "shadow":
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
