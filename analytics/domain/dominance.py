"""When one model is no reason to keep another: as good, as able, no dearer, no slower. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from analytics.domain.rollup import Sums
from providers.domain.answer import Usage
from providers.domain.pricing import cost_nano, rates_for
from providers.domain.types import Capability, Deployment, Price, PriceTier
from routing.domain.situation import TIER_QUALITY

PRIOR_GRADES: Final = 15.0  # how many grades a cost tier's usual quality is worth; as in classification.quality
SLOWER_BY: Final = 1.1  # less is no difference that anybody measures


@dataclass(frozen=True, slots=True)
class Grades:
    """What people and judges have said of a model's answers: their sum, 0 to 1 each, and their number."""

    total: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """A deployment and what is known of it. `latency_ms` is the mean of its answers lately; None: nobody knows."""

    deployment: Deployment
    grades: Grades = Grades()
    latency_ms: float | None = None

    @property
    def quality(self) -> float:
        """The share of good answers: the tier's usual one, corrected by what was graded."""
        prior = TIER_QUALITY.get(self.deployment.cost_tier, TIER_QUALITY["standard"])
        return (self.grades.total + PRIOR_GRADES * prior) / (self.grades.number + PRIOR_GRADES)


@dataclass(frozen=True, slots=True)
class Dominance:
    """`better` does all that `worse` does, and costs less."""

    worse: Known
    better: Known


def dominated(known: Sequence[Known]) -> list[Dominance]:
    """Each that another one dominates, with the cheapest of those that no third one dominates, by name."""
    found = []
    for worse in known:
        betters = [one for one in known if dominates(one, worse)]
        best = [one for one in betters if not any(dominates(other, one) for other in betters)]
        if best:
            found.append(Dominance(worse, min(best, key=_dearness)))
    return sorted(found, key=lambda one: one.worse.deployment.name)


def dominates(one: Known, other: Known) -> bool:
    """Whether nothing speaks for the other. Where nobody knows a time, time does not speak for it; where nobody knows a
    price, nothing can be said."""
    this, that = one.deployment, other.deployment
    if this.id == that.id or not _compares(this, that) or one.quality < other.quality - 1e-9:
        return False
    if not _is_able(this, that) or (this.endpoint.region != that.endpoint.region and that.endpoint.region):
        return False
    if one.latency_ms is not None and other.latency_ms is not None and one.latency_ms > other.latency_ms * SLOWER_BY:
        return False
    return this.price is not None and that.price is not None and _is_cheaper(this.price, that.price)


def would_have_cost(used: Sums, price: Price) -> int | None:
    """The same requests and tokens at another price, in nano-USD; None where a rate is unknown. What long prompts cost
    more is left out: sums do not say how long each was."""
    plain = replace(price, tiers=(), per_request=0)
    usage = Usage(
        input_tokens=used.input_tokens,
        cache_read_input_tokens=used.cache_read_input_tokens,
        cache_creation_input_tokens=used.cache_creation_input_tokens,
        output_tokens=used.output_tokens,
    )
    tokens = cost_nano(usage, plain)
    return None if tokens is None else tokens + price.per_request * used.requests


def _compares(this: Deployment, that: Deployment) -> bool:
    """Models for embeddings do not: the vectors of one mean nothing to another."""
    return not any(Capability.EMBEDDINGS in one.capabilities for one in (this, that))


def _is_able(this: Deployment, that: Deployment) -> bool:
    return (
        that.capabilities <= this.capabilities
        and _at_least(this.context_window, that.context_window)
        and _at_least(this.max_output_tokens, that.max_output_tokens)
    )


def _at_least(this: int | None, that: int | None) -> bool:
    """None is no limit that anybody knows of."""
    return this is None or (that is not None and this >= that)


def _is_cheaper(this: Price, that: Price) -> bool:
    """No dearer in any bucket at any length, and less in one."""
    lengths = {0, *(tier.above + 1 for price in (this, that) for tier in price.tiers)}
    pairs = [pair for length in sorted(lengths) for pair in _rates(this, that, length)]
    pairs.append((this.per_request, that.per_request))
    if any(mine is None or theirs is None for mine, theirs in pairs):
        return False
    known = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    return all(mine <= theirs for mine, theirs in known) and any(mine < theirs for mine, theirs in known)


def _rates(this: Price, that: Price, length: int) -> Iterable[tuple[int | None, int | None]]:
    return zip(_buckets(rates_for(this, length)), _buckets(rates_for(that, length)), strict=True)


def _buckets(rates: Price | PriceTier) -> tuple[int | None, ...]:
    """Input, output, and what the cache's buckets cost: without a rate of their own, that of what they are part of."""
    read = rates.input if rates.cache_read is None else rates.cache_read
    write = rates.input if rates.cache_write is None else rates.cache_write
    return rates.input, rates.output, read, write, write if rates.cache_write_1h is None else rates.cache_write_1h


def _dearness(one: Known) -> tuple[int, int]:
    price = one.deployment.price
    assert price is not None  # of one that dominates
    return (price.input or 0) + (price.output or 0), one.deployment.id
