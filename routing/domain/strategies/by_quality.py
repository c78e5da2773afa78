"""Strategies that look at how well a model is expected to do."""

from collections.abc import Sequence

from routing.domain.config import Policy, TaskType
from routing.domain.strategies.by_cost import cheapest_first
from routing.domain.strategies.protocol import Occasion, Option


class BestQuality:
    """The best first; among equals the cheapest."""

    needs_quality = True
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return sorted(options, key=lambda option: (-option.quality, option.cost, option.name))

    def score(self, option: Option, policy: Policy) -> float | None:
        return option.quality


class TaskBased:
    """Those that are preferred for this kind of work first, as the operator has put them; the others as by cost."""

    needs_quality = True
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        fits = [one for one in options if occasion.task is not TaskType.ANY and one.task_type is occasion.task]
        others = [one for one in options if one not in fits]
        return fits + cheapest_first(others, policy)

    def score(self, option: Option, policy: Policy) -> float | None:
        return option.quality
