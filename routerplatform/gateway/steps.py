"""What `serve` yields: `Opened` once, groups of frames, `Closed` once."""

from dataclasses import dataclass

from analytics.domain.usage import UsageEntry
from providers.domain.types import Deployment, Frame
from routing.domain.decision import RoutePlan


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer begins: a target has it. Comes first, once."""

    deployment: Deployment
    plan: RoutePlan
    attempts: int
    config_revision: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The answer is whole and on record. Comes last, once; its frames are the answer's last bytes."""

    frames: list[Frame]
    entry: UsageEntry


Step = Opened | list[Frame] | Closed
