"""Strategies that look at what a request costs."""

from collections.abc import Sequence

from routing.domain.config import Policy
from routing.domain.strategies.protocol import Occasion, Option

NANO_PER_CENT = 10_000_000
LATE_MS = 60_000.0  # what is reckoned for a model of whose latency nobody knows


class LowestCost:
    """The cheapest of those that are good enough first; those that are not come last, the best of them first."""

    needs_quality = True
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return cheapest_first(options, policy)

    def score(self, option: Option, policy: Policy) -> float | None:
        return None if option.cost_nano is None else option.cost_nano / 1e9


class Balanced:
    """Quality less what the money and the time are worth to the operator: the highest difference first."""

    needs_quality = True
    needs_standing = True

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        def place(option: Option) -> tuple[bool, float, int, str]:
            score = self.score(option, policy)
            return score is None, -(score or 0.0), option.cost, option.name

        return sorted(options, key=place)

    def score(self, option: Option, policy: Policy) -> float | None:
        """None of a model whose price nobody knows: it is asked last."""
        if option.cost_nano is None:
            return None
        cents = option.cost_nano / NANO_PER_CENT
        seconds = (LATE_MS if option.latency_ms is None else option.latency_ms) / 1000
        return option.quality - policy.cost_weight * cents - policy.latency_weight * seconds


def cheapest_first(options: Sequence[Option], policy: Policy) -> list[Option]:
    """By cost, those below the policy's floor behind those above it, by quality."""
    floor = _floor(options, policy)
    return sorted(
        options,
        key=lambda one: (0, one.cost, one.name) if one.quality >= floor else (1, -one.quality, one.name),
    )


def _floor(options: Sequence[Option], policy: Policy) -> float:
    """The quality that is asked for: the policy's own floor, or near the best of these, whichever is higher."""
    floor = policy.quality_floor or 0.0
    if policy.within_of_best is not None and options:
        floor = max(floor, max(option.quality for option in options) - policy.within_of_best)
    return floor
