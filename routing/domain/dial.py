"""Which threshold of a policy reaches a wanted change of cost, by trying values on recorded decisions. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from routing.domain.config import ConfigSnapshot, Policy, Strategy
from routing.domain.recording import Estimate, Recalled, RecordedInputs, UnreadableInputs, read_inputs, recalled
from routing.domain.replay import Replayer, Verdict, cost_after
from routing.domain.situation import quality_by_tier

TRIES: Final = 12
DEAREST_WEIGHT: Final = 100.0  # quality per US cent: beyond, only the cost decides
CHEAPEST_WEIGHT: Final = 0.001


class NothingToTurn(Exception):
    """The policy has no threshold that trades quality for cost, or there is nothing to try one on; in words."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """The value of `field` (a column of a policy) that comes nearest: `change` is of the cost, -0.3 is 30 % less;
    `quality_change` in shares of good answers. `is_reached` is False where even the cheapest value saves less."""

    field: str
    value: float
    change: float
    quality_change: float
    is_reached: bool
    requests: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number of a policy; `value` is its value at 0 (the best answers) to 1 (the cheapest), `turned` the policy with
    another one."""

    field: str
    value: Callable[[float], float]
    turned: Callable[[Policy, float], Policy]


def _weight(at: float) -> float:
    """On a logarithmic scale, four digits."""
    return float(f"{CHEAPEST_WEIGHT * (DEAREST_WEIGHT / CHEAPEST_WEIGHT) ** at:.4g}")


FLOOR: Final = Threshold(
    "quality_floor", lambda at: round(1 - at, 4), lambda policy, value: replace(policy, quality_floor=value)
)
WITHIN: Final = Threshold(
    "within_of_best", lambda at: round(at, 4), lambda policy, value: replace(policy, within_of_best=value)
)
WEIGHT: Final = Threshold("cost_weight", _weight, lambda policy, value: replace(policy, cost_weight=value))


def threshold_of(policy: Policy) -> Threshold:
    """What there is to turn.

    :raises NothingToTurn: its strategy does not weigh cost against quality.
    """
    match policy.strategy:
        case Strategy.BALANCED:
            return WEIGHT
        case Strategy.LOWEST_COST | Strategy.TASK_BASED:
            return WITHIN if policy.within_of_best is not None else FLOOR
    raise NothingToTurn(
        "This strategy does not weigh cost against quality: there is no threshold to turn. "
        "Choose “cheapest first” with a quality floor, or “quality against cost and time”."
    )


@dataclass(slots=True)
class _Tried:
    """Recorded decisions with what the rules in force make of them: that stays the same with every value."""

    inputs: RecordedInputs
    was: Recalled
    before: Verdict


def dialled(
    packed: Sequence[bytes | memoryview], snapshot: ConfigSnapshot, base: Policy, draft: Policy, *, wanted: float,
    estimate: Estimate = quality_by_tier,
) -> Dialled:  # fmt: skip
    """The value of the draft's threshold with the best answers of those that change the cost by `wanted` (-0.3: 30 %
    less) or more. Cost is taken to fall as the threshold is turned, which it does but for single requests.

    :raises NothingToTurn:
    """
    threshold = threshold_of(draft)
    tried = _prepared(packed, snapshot, base, draft, estimate)
    spent = sum(one.inputs.outcome.cost_nano or 0 for one in tried)
    if not spent:
        raise NothingToTurn("None of the requests that were looked at cost anything.")

    def at(position: float) -> Dialled:
        value = threshold.value(position)
        cost, gain = _outcome(tried, Replayer(snapshot, base, threshold.turned(draft, value), estimate))
        change = (cost - spent) / spent
        return Dialled(threshold.field, value, change, gain / len(tried), change <= wanted, len(tried))

    dearest, cheapest = 0.0, 1.0
    best = at(cheapest)
    if not best.is_reached:
        return best
    for _ in range(TRIES):
        middle = (dearest + cheapest) / 2
        found = at(middle)
        if found.is_reached:
            best, cheapest = found, middle
        else:
            dearest = middle
    return best


def _prepared(
    packed: Sequence[bytes | memoryview], snapshot: ConfigSnapshot, base: Policy, draft: Policy, estimate: Estimate
) -> list[_Tried]:
    """Those of known cost that the policy decided."""
    replayer, tried = Replayer(snapshot, base, draft, estimate), []
    for one in packed:
        try:
            inputs = read_inputs(one)
            was = recalled(inputs, snapshot, estimate)
        except UnreadableInputs:
            continue
        if base.name in {inputs.entry, inputs.policy} and inputs.outcome.cost_nano is not None:
            tried.append(_Tried(inputs, was, replayer.before(was, inputs)))
    return tried


def _outcome(tried: Sequence[_Tried], replayer: Replayer) -> tuple[int, float]:
    """Cost (nano-USD) and gain in quality (summed); what a model of unknown price would cost is what was paid."""
    cost, gain = 0, 0.0
    for one in tried:
        after = replayer.after(one.was, one.inputs)
        would_pay = cost_after(one.inputs, one.before, after)
        cost += (one.inputs.outcome.cost_nano or 0) if would_pay is None else would_pay
        if after.name != one.before.name:
            gain += replayer.gain(one.was.situation, one.before, after)
    return cost, gain
