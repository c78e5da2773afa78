"""Strategies that look at how the models are doing now."""

from collections.abc import Sequence

from routing.domain.config import Policy
from routing.domain.strategies.protocol import Occasion, Option


class LeastBusy:
    """The one with the fewest requests under way first."""

    needs_quality = False
    needs_standing = True

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return sorted(options, key=lambda option: (option.in_flight, option.name))

    def score(self, option: Option, policy: Policy) -> float | None:
        return float(option.in_flight)


class LowestLatency:
    """The quickest first; those of which nobody knows come last."""

    needs_quality = False
    needs_standing = True

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return sorted(options, key=lambda option: (option.latency, option.name))

    def score(self, option: Option, policy: Policy) -> float | None:
        return option.latency_ms


class UsageBased:
    """The one with the most room under its rate limits first; among equals the least busy."""

    needs_quality = False
    needs_standing = True

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return sorted(options, key=lambda option: (-option.headroom, option.in_flight, option.name))

    def score(self, option: Option, policy: Policy) -> float | None:
        return option.headroom
