"""What two arms of an experiment tell apart, however often somebody looks: always-valid tests and intervals. Pure.

The usual p-value holds for one look at a size that was fixed before. A page that is opened ten times a day, and guards
that look twice a minute, need a test that may be looked at all the time: the mixture sequential probability ratio test.
With a difference d whose variance is V, and a normal mixture of variance tau^2 over what the difference may be:

    likelihood ratio = sqrt(V / (V + tau^2)) * exp(tau^2 d^2 / (2 V (V + tau^2)))

Under no difference it passes 1/alpha at any time at all with a probability of at most alpha; the differences that it
does not refuse are the interval. Variances are estimated, so the promise is that of large samples: guards and pages
wait for a minimum of requests per arm. Source: Johari, Koomen, Pekelis, Walsh: Always Valid Inference, Operations
Research 70(3), 2022, section 4 (arXiv 1512.04922); that estimated variances do: Waudby-Smith, Arbour, Sinha, Kennedy,
Ramdas, Annals of Statistics 52(6), 2024 (arXiv 2103.06476).
"""

from dataclasses import dataclass
from math import exp, expm1, log, log1p, sqrt
from typing import Final, Literal

ALPHA: Final = 0.05
SHARE_MIXTURE: Final = 0.1  # tau of a difference of shares: ten points is what a bad policy does to errors
RATIO_MIXTURE: Final = 0.2  # tau of the logarithm of a ratio: about a fifth more or less
FEWEST_MEASURED: Final = 10  # of an arm: the variance of fewer figures is so rough that equal arms are told apart
NO_VARIANCE: Final = 1e-100  # less cannot be reckoned with
ROUNDING: Final = 1e-9  # 0.075 - 0.025 is a little less than 0.05
MOST_REQUESTS: Final = 1_000_000  # a difference that needs more of them than this is told as none

Verdict = Literal["early", "unknown", "better", "worse", "alike"]


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `count` requests: errors, thumbs up, valid answers."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        return self.hits / self.count if self.count else None

    @property
    def variance_of_mean(self) -> float:
        """With one hit and one miss more than were seen: none seen of few is no certainty."""
        share = (self.hits + 1) / (self.count + 2)
        return share * (1 - share) / self.count


@dataclass(frozen=True, slots=True)
class Moments:
    """The mean of `count` figures above zero, and their variance."""

    count: int
    mean: float
    variance: float

    @property
    def variance_of_log(self) -> float:
        """Of the logarithm of the mean, by the delta method."""
        return self.variance / (self.count * self.mean**2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The challenger against the control. Shares: `change`, `low` and `high` are differences, 0.05 is five points.
    Means: relative, 0.05 is five per cent more. `p_value` is always valid. `more` is about how many requests per arm it
    takes until the difference as it is now is told apart from none; None: no sensible number of them."""

    verdict: Verdict
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float = 1.0
    more: int | None = None


def compared_shares(
    control: Share, challenger: Share, *, least: int, less_is_better: bool = True, alpha: float = ALPHA
) -> Comparison:
    """`least` requests per arm are too few for any verdict."""
    if not control.count or not challenger.count:
        return Comparison("early", more=least)
    difference = challenger.hits / challenger.count - control.hits / control.count
    variance = control.variance_of_mean + challenger.variance_of_mean
    half = half_width(variance, SHARE_MIXTURE, alpha)
    smallest = min(control.count, challenger.count)
    found = _Found(difference, variance, half, SHARE_MIXTURE, smallest)
    return found.judged(
        change=difference,
        low=max(-1.0, difference - half),
        high=min(1.0, difference + half),
        least=least,
        less_is_better=less_is_better,
        alpha=alpha,
    )


def compared_means(
    control: Moments, challenger: Moments, *, least: int, less_is_better: bool = True, alpha: float = ALPHA
) -> Comparison:
    """By the ratio of the means, which is what “slower by 20 %” says. `least` counts from `FEWEST_MEASURED` on."""
    least, smallest = max(least, FEWEST_MEASURED), min(control.count, challenger.count)
    if not smallest:
        return Comparison("early", more=least)
    if control.mean <= 0 or challenger.mean <= 0:  # of something that costs nothing there is no percentage
        return Comparison("early" if smallest < least else "unknown", more=max(0, least - smallest))
    difference = log(challenger.mean / control.mean)
    variance = control.variance_of_log + challenger.variance_of_log
    half = half_width(variance, RATIO_MIXTURE, alpha)
    found = _Found(difference, variance, half, RATIO_MIXTURE, smallest)
    return found.judged(
        change=expm1(difference),
        low=expm1(difference - half),
        high=expm1(min(difference + half, 50.0)),
        least=least,
        less_is_better=less_is_better,
        alpha=alpha,
    )


def p_value(difference: float, variance: float, mixture: float) -> float:
    """Of the look at hand; the least of all looks is always valid too."""
    if variance <= NO_VARIANCE:
        return 1.0 if difference == 0 else 0.0
    spread = mixture**2
    exponent = spread * difference**2 / (2 * variance * (variance + spread)) - 0.5 * log1p(spread / variance)
    return min(1.0, exp(-exponent)) if exponent > 0 else 1.0


def half_width(variance: float, mixture: float, alpha: float = ALPHA) -> float:
    """Of the interval that holds the true difference at all looks at once, but for a share `alpha` of experiments."""
    if variance <= NO_VARIANCE:
        return 0.0
    spread = mixture**2
    return sqrt(2 * variance * (variance + spread) / spread * (log(1 / alpha) + 0.5 * log1p(spread / variance)))


@dataclass(frozen=True, slots=True)
class _Found:
    """A difference on the scale on which it is about normal; `smallest` is the smaller arm."""

    difference: float
    variance: float
    half: float
    mixture: float
    smallest: int

    def judged(
        self, *, change: float, low: float, high: float, least: int, less_is_better: bool, alpha: float
    ) -> Comparison:
        p = p_value(self.difference, self.variance, self.mixture)
        if self.smallest < least:
            return Comparison("early", change, low, high, p, least - self.smallest)
        if abs(self.difference) > self.half:
            is_better = (self.difference < 0) is less_is_better
            return Comparison("better" if is_better else "worse", change, low, high, p, 0)
        more = self._more(alpha)
        return Comparison("alike" if more is None else "unknown", change, low, high, p, more)

    def _more(self, alpha: float) -> int | None:
        """How many requests per arm, at the same difference and spread, until the interval leaves zero."""
        few, many = self.smallest, self.smallest + MOST_REQUESTS
        if not self._is_told_at(many, alpha):
            return None
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._is_told_at(middle, alpha) else (middle, many)
        return many - self.smallest

    def _is_told_at(self, count: int, alpha: float) -> bool:
        return half_width(self.variance * self.smallest / count, self.mixture, alpha) < abs(self.difference)


# --- guards ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What an arm has come to. Latency is milliseconds until an answer was whole, of those that were; cost is nano-USD
    per request whose price is known, `spent_nano` that of all of them."""

    requests: int
    errors: Share
    latency: Moments
    cost: Moments
    spent_nano: int = 0


@dataclass(frozen=True, slots=True)
class Guards:
    """When an experiment ends by itself: at more errors (as a share), slower or dearer by so much (1.0 is twice).
    None: no such guard. Nothing but `max_cost_nano` is looked at below `least` requests per arm."""

    least: int
    errors: float
    latency: float | None = None
    cost: float | None = None
    max_cost_nano: int | None = None


@dataclass(frozen=True, slots=True)
class GuardState:
    """One guard as it stands. `limit` and `comparison.change` are on the same scale."""

    name: str  # "errors" | "latency" | "cost"
    limit: float
    comparison: Comparison

    @property
    def is_reached(self) -> bool:
        """The challenger is worse by the limit or more, be it by chance."""
        change = self.comparison.change
        return change is not None and change > 0 and change >= self.limit - ROUNDING

    @property
    def is_breached(self) -> bool:
        """At its limit or past it, and not by chance: the interval has left zero on the bad side."""
        return self.comparison.verdict == "worse" and self.is_reached


def guard_states(
    control: ArmFigures, challenger: ArmFigures, guards: Guards, *, alpha: float = ALPHA
) -> list[GuardState]:
    """The guards that are set, in the order of importance."""
    least = guards.least
    errors = compared_shares(control.errors, challenger.errors, least=least, alpha=alpha)
    states = [GuardState("errors", guards.errors, errors)]
    if guards.latency is not None:
        latency = compared_means(control.latency, challenger.latency, least=least, alpha=alpha)
        states.append(GuardState("latency", guards.latency, latency))
    if guards.cost is not None:
        cost = compared_means(control.cost, challenger.cost, least=least, alpha=alpha)
        states.append(GuardState("cost", guards.cost, cost))
    return states


def is_overspent(challenger: ArmFigures, guards: Guards) -> bool:
    """The challenger has cost what the experiment may cost."""
    return guards.max_cost_nano is not None and challenger.spent_nano >= guards.max_cost_nano


# --- stages of a canary ---------------------------------------------------------------------------------------------


def next_stage(stages: tuple[int, ...], percent: int) -> int | None:
    """The share after `percent`; None at the last."""
    return next((stage for stage in sorted(stages) if stage > percent), None)
