"""Strategies that share requests out, whatever the models are like."""

from collections.abc import Sequence
from math import log

from routing.domain.config import Policy
from routing.domain.draws import draw
from routing.domain.strategies.protocol import Occasion, Option


class Priority:
    """As the operator has put them."""

    needs_quality = False
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return list(options)

    def score(self, option: Option, policy: Policy) -> float | None:
        return None


class Weighted:
    """By chance, each in proportion to its weight; a weight of 0 comes last. Source: Efraimidis and Spirakis, Weighted
    random sampling with a reservoir (2006): the order of the keys ln(u)/w is a weighted draw without replacement."""

    needs_quality = False
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        return sorted(options, key=lambda option: (-_key(option, occasion.seed), option.name))

    def score(self, option: Option, policy: Policy) -> float | None:
        return float(option.weight)


class RoundRobin:
    """Each in its turn; the others follow in the same circle."""

    needs_quality = False
    needs_standing = False

    def order(self, options: Sequence[Option], policy: Policy, occasion: Occasion) -> list[Option]:
        if not options:
            return []
        first = occasion.turn % len(options)
        return [*options[first:], *options[:first]]

    def score(self, option: Option, policy: Policy) -> float | None:
        return None


def _key(option: Option, seed: str) -> float:
    if not option.weight:
        return float("-inf")
    return log(draw("weight", seed, option.name) or 5e-324) / option.weight
