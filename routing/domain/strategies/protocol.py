"""What a strategy is given and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.domain.types import Deployment
from routing.domain.config import Policy, TaskType

UNPRICED = 1 << 62  # sorts behind every price
UNTIMED = float("inf")


@dataclass(slots=True)  # not frozen: that would cost a microsecond for each option of each request
class Option:
    """A preferred model that can serve the request, with all that a strategy may look at.

    `position` is its place in the policy. `cost_nano` is what the request will probably cost there, None when nobody
    knows the price; `quality` the expected share of good answers, 0 to 1. `latency_ms`, `in_flight` and `headroom` are
    those of `situation.Standing`, with the deployment's own expectation where nothing was measured.
    """

    deployment: Deployment
    alias: str
    position: int
    weight: int = 1
    task_type: TaskType = TaskType.ANY
    cost_nano: int | None = None
    quality: float = 0.0
    quality_basis: str = ""
    latency_ms: float | None = None
    in_flight: int = 0
    headroom: float = 1.0

    @property
    def cost(self) -> int:
        return UNPRICED if self.cost_nano is None else self.cost_nano

    @property
    def latency(self) -> float:
        return UNTIMED if self.latency_ms is None else self.latency_ms

    @property
    def name(self) -> str:
        return self.deployment.name


@dataclass(frozen=True, slots=True)
class Occasion:
    """What else a choice may depend on: `seed` for draws, `turn` counts the policy's requests, `task` is the kind of
    work, ANY when nobody knows."""

    seed: str
    turn: int
    task: TaskType = TaskType.ANY


class OrderingStrategy(Protocol):
    """Puts options in the order in which they are asked; all of them, each once. Ties go by name.

    `needs_quality` and `needs_standing` say what it looks at: what nobody looks at is not computed.
    """

    needs_quality: bool
    needs_standing: bool

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]: ...

    def score(self, option: Option, policy: Policy) -> float | None:
        """The number that it goes by, for the explanation; None where there is none."""
        ...
