"""What is true at the moment of a decision and stands in no configuration. Gathered before, so deciding is pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from providers.domain.types import Deployment
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import Rule


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment does. `latency_ms` is what it takes at present until an answer begins (of streams) or is whole;
    None: nobody knows. `headroom` is the free share of its rate limits, 1 without any. `out_of_service` says why it is
    not asked now, “” when it is."""

    latency_ms: float | None = None
    in_flight: int = 0
    headroom: float = 1.0
    out_of_service: str = ""


UNKNOWN_STANDING: Final = Standing()
TIER_QUALITY: Final = {"free": 0.55, "economy": 0.65, "standard": 0.75, "premium": 0.85}  # a prior, before any grade


def unknown_standing(deployment: Deployment) -> Standing:
    return UNKNOWN_STANDING


def quality_by_tier(question: QualityQuestion) -> QualityEstimate:
    """What is believed of a model of which nothing is known but its cost tier."""
    return QualityEstimate(TIER_QUALITY.get(question.tier, TIER_QUALITY["standard"]), 0, f"tier {question.tier}")


@dataclass(frozen=True, slots=True)
class Situation:
    """`seed` is the request's own (its id), for everything that is drawn; `turn` counts the requests of a policy.

    `conversation` is the same for all turns of one, “” where nobody can tell; `pinned` is the deployment that has
    answered it, and `cached_input` how many tokens of the prompt it has read before. `usual_output` is how long answers
    of this kind are, in tokens; None: nobody knows. `budget_used` is the share of the fullest budget that applies, 0 to
    1 and above.
    """

    seed: str = ""
    turn: int = 0
    task: Classification | None = None
    rule: Rule | None = None
    tag: str = ""
    conversation: str = ""
    pinned: str = ""
    cached_input: int = 0
    is_tool_loop: bool = False
    usual_output: int | None = None
    budget_used: float = 0.0
    standing: Callable[[Deployment], Standing] = field(default=unknown_standing, compare=False)
    quality: Callable[[QualityQuestion], QualityEstimate] = field(default=quality_by_tier, compare=False)


NO_SITUATION: Final = Situation()
