"""What `serve` yields: `Opened` once, groups of frames, `Closed` once."""

from dataclasses import dataclass

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import Deployment, Wire
from routing.domain.decision import RoutePlan
from routing.domain.limits import NO_STANDING, Standing


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer begins: a target has it. Comes first, once.

    `wire` is what the target was asked through: a caller who speaks it gets the target's own bytes. `max_tokens` is the
    limit that a budget has set to the answer, `standing` what is left of the caller's rate limits, `dropped` the tuning
    knobs that the target has no words for.
    """

    deployment: Deployment
    wire: Wire
    plan: RoutePlan
    attempts: int
    config_revision: int
    max_tokens: int | None = None
    standing: Standing = NO_STANDING
    dropped: tuple[str, ...] = ()
    vendor_request_id: str = ""
    cache: str = "none"  # or “hit”, “miss”
    budget_used: float = 0.0  # share of the fullest budget; 0 where the policy does not look at it


@dataclass(frozen=True, slots=True)
class Closed:
    """The answer is whole and on record. Comes last, once; its frames are the answer's last bytes."""

    frames: list[Frame]
    entry: UsageEntry


Step = Opened | list[Frame] | Closed
