"""What a request would have cost at another price, by its record: the arithmetic of corrections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analytics.domain.usage import ESCALATED
from providers.domain.answer import Usage
from providers.domain.failures import REACTIONS
from providers.domain.pricing import bound_nano, cost_nano
from providers.domain.types import Price

GATEWAY_STOPPED = "gateway_stopped"
IN_DOUBT = frozenset(str(kind) for kind, reaction in REACTIONS.items() if reaction.billed_in_doubt)


@dataclass(frozen=True, slots=True)
class Rated:
    """A record as far as its cost goes. `cost_nano` is as it was billed; None: nobody knew.

    `usage` has the tokens of the last attempt that was billed, upper bounds with `is_bound`. `adjusted_nano` is the
    sum of the corrections so far, None when there is none.
    """

    usage: Usage
    is_bound: bool
    cost_nano: int | None
    attempts: tuple[Mapping[str, Any], ...]
    adjusted_nano: int | None = None

    @property
    def now_nano(self) -> int | None:
        """The cost with its corrections. A record that had none has one from its first correction on."""
        if self.cost_nano is None:
            return self.adjusted_nano
        return self.cost_nano + (self.adjusted_nano or 0)


@dataclass(frozen=True, slots=True)
class Correction:
    """`delta_nano` is to be added to what the request costs now. It may be 0 for one that was unpriced."""

    delta_nano: int
    was_unpriced: bool


def corrected(record: Rated, price: Price) -> Correction | None:
    """What has to be added so that the request costs what it would have cost at `price`.

    None when nothing has to be, or when nobody can tell: a rate that it needs is unknown, or its attempts were not
    kept with what a bound is made of.
    """
    if is_beyond_knowing(record):
        return None
    fresh = _at(record, price)
    if fresh is None:
        return None
    cost, now = fresh + broken_nano(record.attempts), record.now_nano
    if now is None:
        return Correction(cost, was_unpriced=True)
    return Correction(cost - now, was_unpriced=False) if cost != now else None


def is_beyond_knowing(record: Rated) -> bool:
    """Whether the record does not say what its bill is made of: the bound of an attempt in doubt stands there without
    the tokens, or nowhere at all when nobody knew its price."""
    if not _has_tokens(record.usage) and record.is_bound:
        return True
    return record.cost_nano is None and any(map(_was_in_doubt, record.attempts[:-1]))


def _at(record: Rated, price: Price) -> int | None:
    if record.is_bound:
        return bound_nano(record.usage.all_input_tokens, record.usage.output_tokens, price)
    return cost_nano(record.usage, price)


def _has_tokens(usage: Usage) -> bool:
    return bool(usage.all_input_tokens or usage.output_tokens)


def _was_in_doubt(attempt: Mapping[str, Any]) -> bool:
    """Whether the vendor may have billed an attempt of which the record only says that nobody knew the price."""
    failure, status = attempt.get("failure", ""), attempt.get("http_status")
    if attempt.get("billed_nano") is not None:
        return False
    if failure == ESCALATED:
        return True
    if status is not None and status < 500:
        return False
    return failure == GATEWAY_STOPPED or (failure in IN_DOUBT)


def broken_nano(attempts: Iterable[Mapping[str, Any]]) -> int:
    """What attempts were billed whose tokens are not the record's."""
    return sum(attempt.get("billed_nano") or 0 for attempt in attempts)


def alias_of(deployment: str, candidates: Iterable[Mapping[str, Any]]) -> str:
    """Through which model alias a deployment was a candidate of a route; empty when it does not say."""
    return next((str(one.get("alias", "")) for one in candidates if one.get("deployment") == deployment), "")
