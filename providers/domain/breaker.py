"""The circuit breaker of a deployment: a state machine without a clock, a lock or a store.

A `Breaker` is what is known of one deployment's failures; every transition takes one and gives another, so that it can
be kept in memory, or shared by compare-and-set. All times are seconds since the epoch, by one clock.

    closed ── failures in a row, or a share of many ──> open ── after a while, one claim ──> half-open
      ^                                                  ^ └──────── its probe failed ──────────┘
      └───────────────────────────────────── its probe succeeded ───────────────────────────────┘
"""

from dataclasses import dataclass
from enum import StrEnum
from math import floor

from msgspec import Struct
from msgspec.structs import replace

from providers.domain.types import BreakerOverride

WINDOW_S = 30
CLAIM_S = 15.0  # a claim that is not renewed lapses: its prober is dead


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long: after `row` failures in a row, or when of at least `enough` attempts in
    `WINDOW_S` seconds `share` or more failed."""

    row: int = 5
    open_s: float = 60.0
    share: float = 0.5
    enough: int = 20


USUAL_RULES = BreakerRules()


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Second(Struct, frozen=True, array_like=True, gc=False):
    """How many attempts ended in one second, and how."""

    at: int
    succeeded: int = 0
    failed: int = 0


class Breaker(Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is known. `row` has the times of the failures since the last success, `window` what ended lately.

    `opened_at` is 0 while it is closed; `by_share` says that it was not a row of failures that opened it. `prober` has
    the claim to try, until `claimed_until`. `last_failure` is a FailureKind, for people.
    """

    row: tuple[float, ...] = ()
    window: tuple[Second, ...] = ()
    succeeded_at: float = 0.0
    opened_at: float = 0.0
    by_share: bool = False
    prober: str = ""
    claimed_until: float = 0.0
    last_failure: str = ""

    def is_claimed(self, now: float) -> bool:
        return bool(self.prober) and now < self.claimed_until

    def state(self, now: float) -> BreakerState:
        if not self.opened_at:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.is_claimed(now) else BreakerState.OPEN

    def probe_in_s(self, now: float, rules: BreakerRules) -> float:
        """How long nobody may try; 0 when somebody may now, and while it is closed."""
        return max(0.0, self.opened_at + rules.open_s - now) if self.opened_at else 0.0

    def is_due(self, now: float, rules: BreakerRules) -> bool:
        """It is open, and whoever claims it may try."""
        return bool(self.opened_at) and now >= self.opened_at + rules.open_s and not self.is_claimed(now)


PRISTINE = Breaker()


def succeeded(breaker: Breaker, *, seconds: tuple[Second, ...], at: float) -> Breaker:
    """Attempts ended well, the last of them at `at`. One that began before it opened says nothing of it now."""
    if breaker.opened_at:
        return breaker
    return replace(
        breaker,
        row=tuple(failed_at for failed_at in breaker.row if failed_at > at),
        window=_merged(breaker.window, seconds, at),
        succeeded_at=max(breaker.succeeded_at, at),
    )


def failed(breaker: Breaker, *, at: float, kind: str, rules: BreakerRules) -> Breaker:
    """An attempt failed in a way that speaks against the deployment."""
    if breaker.opened_at:
        return breaker
    row = (*breaker.row, at) if at >= breaker.succeeded_at else breaker.row
    window = _merged(breaker.window, (Second(floor(at), failed=1),), at)
    in_a_row = len(row) >= rules.row
    if in_a_row or _is_share_reached(window, rules):
        return Breaker(opened_at=at, by_share=not in_a_row, last_failure=kind, succeeded_at=breaker.succeeded_at)
    return replace(breaker, row=row, window=window, last_failure=kind)


def claimed(breaker: Breaker, *, prober: str, now: float, rules: BreakerRules) -> Breaker:
    """With the claim given to `prober`, if it is to be had: look whose it is afterwards."""
    if not breaker.is_due(now, rules):
        return breaker
    return replace(breaker, prober=prober, claimed_until=now + CLAIM_S)


def renewed(breaker: Breaker, *, prober: str, now: float) -> Breaker:
    """The prober is still at it."""
    return replace(breaker, claimed_until=now + CLAIM_S) if breaker.prober == prober else breaker


def released(breaker: Breaker, *, prober: str) -> Breaker:
    """The prober learned nothing; another may try at once."""
    return replace(breaker, prober="", claimed_until=0.0) if breaker.prober == prober else breaker


def probed(breaker: Breaker, *, prober: str, is_well: bool, at: float, kind: str = "") -> Breaker:
    """What the prober found; of no account once the claim has gone to another."""
    if breaker.prober != prober or not breaker.opened_at:
        return breaker
    if is_well:
        return Breaker(succeeded_at=at)
    return replace(breaker, opened_at=at, prober="", claimed_until=0.0, last_failure=kind or breaker.last_failure)


def tidied(breaker: Breaker, *, now: float) -> Breaker:
    """Without what no longer counts; `PRISTINE` when nothing is left that anybody needs to know."""
    if breaker.opened_at:
        return breaker
    window = _recent(breaker.window, now)
    if breaker.row or any(second.failed for second in window):
        return breaker if len(window) == len(breaker.window) else replace(breaker, window=window)
    return PRISTINE


def since(breaker: Breaker, reset_at: float) -> Breaker:
    """Without what was known at an operator's reset. A claim of then ends with it."""
    if not reset_at or breaker is PRISTINE:
        return breaker
    if breaker.opened_at:
        return PRISTINE if breaker.opened_at <= reset_at else breaker
    row = tuple(failed_at for failed_at in breaker.row if failed_at > reset_at)
    window = tuple(second for second in breaker.window if second.at >= reset_at)
    if len(row) == len(breaker.row) and len(window) == len(breaker.window):
        return breaker
    return replace(breaker, row=row, window=window)


class Advice(StrEnum):
    """What a breaker says to one more attempt."""

    ASK = "ask"
    PROBE = "probe"  # to be claimed first
    AVOID = "avoid"  # rather another; but if there is none, this one
    REFUSE = "refuse"


def advice(breaker: Breaker, override: BreakerOverride, *, now: float, rules: BreakerRules) -> Advice:
    """An operator's word comes first. What only a share of failures has opened still answers some requests, which is
    better than answering none."""
    if override:
        return Advice.REFUSE if override == "open" else Advice.ASK
    if not breaker.opened_at:
        return Advice.ASK
    if breaker.is_due(now, rules):
        return Advice.PROBE
    return Advice.AVOID if breaker.by_share else Advice.REFUSE


def _is_share_reached(window: tuple[Second, ...], rules: BreakerRules) -> bool:
    failures = sum(second.failed for second in window)
    attempts = failures + sum(second.succeeded for second in window)
    return attempts >= rules.enough and failures >= rules.share * attempts


def _merged(window: tuple[Second, ...], more: tuple[Second, ...], now: float) -> tuple[Second, ...]:
    counts = {second.at: second for second in _recent(window, now)}
    for second in _recent(more, now):
        known = counts.get(second.at, Second(second.at))
        counts[second.at] = Second(second.at, known.succeeded + second.succeeded, known.failed + second.failed)
    return tuple(counts[at] for at in sorted(counts))


def _recent(window: tuple[Second, ...], now: float) -> tuple[Second, ...]:
    return tuple(second for second in window if second.at > now - WINDOW_S - 1)
