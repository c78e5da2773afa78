"""What holds of any comparison of figures: no nonsense, no side taken, no false alarm at few requests."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.domain.experiments import (
    ALPHA,
    FEWEST_MEASURED,
    ArmFigures,
    Comparison,
    Guards,
    Moments,
    Share,
    compared_means,
    compared_shares,
    guard_states,
    half_width,
    is_overspent,
    next_stage,
    p_value,
)

EXAMPLES = settings(max_examples=150, deadline=None)
VERDICTS = {"early", "unknown", "better", "worse", "alike"}
OTHER_WAY = {"better": "worse", "worse": "better"}

shares = st.integers(0, 100_000).flatmap(lambda count: st.builds(Share, st.integers(0, count), st.just(count)))
seen_shares = shares.filter(lambda share: share.count > 0)
means = st.floats(1e-3, 1e12)
spreads = st.floats(0.0, 20.0)  # the standard deviation as a multiple of the mean
moments = st.builds(
    lambda count, mean, spread: Moments(count, mean, (mean * spread) ** 2), st.integers(0, 100_000), means, spreads
)
seen_moments = moments.filter(lambda found: found.count > 0)
alike_moments = st.builds(  # within what a float can tell of a ratio and of its inverse
    lambda count, mean, spread: Moments(count, mean, (mean * spread) ** 2),
    st.integers(1, 100_000), st.floats(1.0, 1_000.0), st.floats(0.01, 20.0),
)  # fmt: skip
variances = st.floats(1e-12, 10.0)
differences = st.floats(-1.0, 1.0)
leasts = st.integers(1, 2_000)


def is_sound(found: Comparison) -> bool:
    """The figures are numbers, in order, and the verdict says what they say."""
    assert found.verdict in VERDICTS
    assert 0.0 <= found.p_value <= 1.0
    assert found.more is None or found.more >= 0
    if found.change is None or found.low is None or found.high is None:
        return found.verdict in {"early", "unknown"} and found.change == found.low == found.high
    assert all(math.isfinite(value) for value in (found.change, found.low, found.high))
    assert found.low <= found.change <= found.high
    if found.verdict in OTHER_WAY:
        assert found.low > 0 or found.high < 0
    return True


# --- no nonsense --------------------------------------------------------------------------------------------------


@EXAMPLES
@given(shares, shares, leasts, st.booleans())
def test_a_comparison_of_shares_is_sound(one: Share, two: Share, least: int, less_is_better: bool) -> None:
    found = compared_shares(one, two, least=least, less_is_better=less_is_better)
    assert is_sound(found)
    assert found.low is None or -1.0 <= found.low
    assert found.high is None or found.high <= 1.0


@EXAMPLES
@given(moments, moments, leasts, st.booleans())
def test_a_comparison_of_means_is_sound(one: Moments, two: Moments, least: int, less_is_better: bool) -> None:
    found = compared_means(one, two, least=least, less_is_better=less_is_better)
    assert is_sound(found)
    assert found.low is None or found.low >= -1.0  # nothing is cheaper by more than all of it


@EXAMPLES
@given(st.sampled_from([0.0, 1e-12, 1.0]), st.sampled_from([0.0, 5e-324, 1.0, 1e300]), st.floats(0.001, 1.0))
def test_p_values_and_widths_are_numbers_at_every_end_of_the_scale(
    diff: float, variance: float, mixture: float
) -> None:
    assert 0.0 <= p_value(diff, variance, mixture) <= 1.0
    assert not math.isnan(half_width(variance, mixture))


@pytest.mark.parametrize("seen", [Moments(500, 0.0, 0.0), Moments(500, -1.0, 3.0)])
def test_what_costs_nothing_gets_no_percentage_on_either_side(seen: Moments) -> None:
    paid = Moments(500, 1e6, 1e9)
    for found in (compared_means(seen, paid, least=50), compared_means(paid, seen, least=50)):
        assert (found.verdict, found.change, found.more) == ("unknown", None, 0)
    assert compared_means(seen, Moments(20, 1e6, 1e9), least=50).more == 30


# --- no side is taken ---------------------------------------------------------------------------------------------


@EXAMPLES
@given(seen_shares, seen_shares, leasts)
def test_arms_of_shares_that_change_places_change_nothing_but_the_sign(one: Share, two: Share, least: int) -> None:
    there, back = compared_shares(one, two, least=least), compared_shares(two, one, least=least)
    assert back.change == -(there.change or 0.0)
    assert (back.low, back.high) == (-(there.high or 0.0), -(there.low or 0.0))
    assert (back.p_value, back.more) == (there.p_value, there.more)
    assert back.verdict == OTHER_WAY.get(there.verdict, there.verdict)


@EXAMPLES
@given(alike_moments, alike_moments, leasts)
def test_arms_of_means_that_change_places_turn_the_ratio_round(one: Moments, two: Moments, least: int) -> None:
    there, back = compared_means(one, two, least=least), compared_means(two, one, least=least)
    assert there.change is not None
    assert back.change is not None
    assert (1 + there.change) * (1 + back.change) == pytest.approx(1.0)
    assert back.p_value == pytest.approx(there.p_value)
    assert back.verdict == OTHER_WAY.get(there.verdict, there.verdict)


@EXAMPLES
@given(seen_shares, seen_shares)
def test_what_is_better_is_turned_round_where_more_is_better(one: Share, two: Share) -> None:
    less = compared_shares(one, two, least=1)
    more = compared_shares(one, two, least=1, less_is_better=False)
    assert more.verdict == OTHER_WAY.get(less.verdict, less.verdict)
    assert (more.change, more.p_value) == (less.change, less.p_value)


@EXAMPLES
@given(st.integers(50, 10_000), means, st.floats(0.01, 5.0), st.floats(1e-3, 1e3))
def test_the_unit_in_which_something_is_measured_does_not_matter(
    count: int, mean: float, spread: float, factor: float
) -> None:
    one, two = Moments(count, mean, (mean * spread) ** 2), Moments(count, 1.5 * mean, (mean * spread) ** 2)
    scaled = [Moments(count, arm.mean * factor, arm.variance * factor**2) for arm in (one, two)]
    found, again = compared_means(one, two, least=50), compared_means(*scaled, least=50)
    assert again.change == pytest.approx(found.change)
    assert again.p_value == pytest.approx(found.p_value, abs=1e-9)


# --- more requests ------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.integers(2, 40))
def test_the_interval_of_a_share_shrinks_with_requests_at_the_same_rate(
    count: int, hits: int, other: int, times: int
) -> None:
    one, two = min(hits, count), min(other, count)
    few = compared_shares(Share(one, count), Share(two, count), least=1)
    many = compared_shares(Share(one * times, count * times), Share(two * times, count * times), least=1)
    assert few.high is not None and few.low is not None and many.high is not None and many.low is not None  # noqa: PT018
    assert many.high - many.low <= few.high - few.low + 1e-12


@EXAMPLES
@given(variances, st.floats(1.01, 1_000.0), st.sampled_from([0.1, 0.2]))
def test_less_variance_is_a_narrower_interval(variance: float, factor: float, mixture: float) -> None:
    assert half_width(variance, mixture) < half_width(variance * factor, mixture)


@EXAMPLES
@given(variances, st.floats(0.0001, 0.5), st.sampled_from([0.1, 0.2]))
def test_a_smaller_chance_of_a_false_alarm_takes_a_wider_interval(
    variance: float, alpha: float, mixture: float
) -> None:
    assert half_width(variance, mixture, alpha / 2) > half_width(variance, mixture, alpha)


@EXAMPLES
@given(variances, differences, st.floats(1.01, 5.0))
def test_a_greater_difference_is_never_less_sure(variance: float, difference: float, factor: float) -> None:
    assert p_value(difference * factor, variance, 0.1) <= p_value(difference, variance, 0.1)
    assert p_value(-difference, variance, 0.1) == p_value(difference, variance, 0.1)


@pytest.mark.parametrize(("one", "two"), [(20, 32), (0, 9), (200, 215), (380, 390)])
def test_the_number_of_requests_that_is_promised_is_about_the_least_that_does(one: int, two: int) -> None:
    found = compared_shares(Share(one, 400), Share(two, 400), least=50)
    assert found.more is not None

    def told_at(count: float) -> bool:
        arms = (Share(round(hits / 400 * count), round(count)) for hits in (one, two))
        return compared_shares(*arms, least=50).verdict in OTHER_WAY

    assert told_at((400 + found.more) * 1.05)
    assert not told_at((400 + found.more) * 0.9)


# --- how often it errs, with seeds ----------------------------------------------------------------------------------


def measured(values: list[float]) -> Moments:
    mean = sum(values) / len(values)
    return Moments(len(values), mean, sum((value - mean) ** 2 for value in values) / len(values))


@pytest.mark.parametrize("spread", [0.2, 0.5, 1.2])
def test_a_minimum_of_one_request_does_not_make_guards_of_time_and_cost_cry_wolf(spread: float) -> None:
    """A single figure has no variance, and two have next to none: they would tell equal arms apart every time."""
    rng = random.Random(11)
    runs = 400
    false = 0
    for _ in range(runs):
        arms: tuple[list[float], list[float]] = ([], [])
        for _ in range(40):
            for arm in arms:
                arm.append(rng.lognormvariate(6, spread))
            if compared_means(measured(arms[0]), measured(arms[1]), least=1).verdict in OTHER_WAY:
                false += 1
                break
    assert false <= ALPHA * runs


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5])
def test_a_minimum_of_one_request_does_not_make_the_guard_of_errors_cry_wolf(rate: float) -> None:
    rng = random.Random(12)
    runs = 400
    false = 0
    for _ in range(runs):
        hits = [0, 0]
        for count in range(1, 81):
            for side in (0, 1):
                hits[side] += rng.random() < rate
            if compared_shares(Share(hits[0], count), Share(hits[1], count), least=1).verdict in OTHER_WAY:
                false += 1
                break
    assert false <= ALPHA * runs


def test_arms_of_unequal_size_keep_the_promise_too() -> None:
    """A canary of 5 %: the interval holds the true difference at all looks."""
    rng = random.Random(13)
    runs, left = 300, 0
    for _ in range(runs):
        control, challenger = 0, 0
        for look in range(1, 13):
            control += sum(rng.random() < 0.1 for _ in range(200))
            challenger += sum(rng.random() < 0.15 for _ in range(10))
            found = compared_shares(Share(control, look * 200), Share(challenger, look * 10), least=50)
            if found.verdict != "early" and not (found.low or 0.0) <= 0.05 <= (found.high or 0.0):
                left += 1
                break
    assert left <= ALPHA * runs


def test_few_measures_are_early_however_small_the_minimum_is_and_it_says_how_many_it_takes() -> None:
    found = compared_means(Moments(1, 500.0, 0.0), Moments(1, 5_000.0, 0.0), least=1)
    assert (found.verdict, found.more) == ("early", FEWEST_MEASURED - 1)
    enough = FEWEST_MEASURED
    assert compared_means(Moments(enough, 500.0, 1.0), Moments(enough, 5_000.0, 1.0), least=1).verdict == "worse"


# --- guards, exactly at their limits --------------------------------------------------------------------------------


def figures(
    requests: int, errors: int = 0, *, latency: float = 500.0, cost: float = 1e6, spent_nano: int = 0
) -> ArmFigures:
    """Hardly any variance: what differs is told apart."""
    answered = requests - errors
    return ArmFigures(
        requests, Share(errors, requests), Moments(answered, latency, 1.0), Moments(answered, cost, 1.0), spent_nano
    )


@pytest.mark.parametrize(("errors", "is_breached"), [(499, False), (500, True), (501, True)])
@pytest.mark.parametrize("already", [0, 250, 1_000])
def test_the_guard_of_errors_stops_at_its_limit_and_not_below(already: int, errors: int, is_breached: bool) -> None:
    control, challenger = figures(10_000, already), figures(10_000, already + errors)
    [state] = guard_states(control, challenger, Guards(least=50, errors=0.05))
    assert state.is_breached is is_breached


@pytest.mark.parametrize(("latency", "is_breached"), [(749.0, False), (750.0, True), (751.0, True), (250.0, False)])
def test_the_guard_of_latency_stops_at_its_limit_and_not_below(latency: float, is_breached: bool) -> None:
    states = guard_states(figures(400), figures(400, latency=latency), Guards(least=50, errors=1.0, latency=0.5))
    assert states[1].is_breached is is_breached


@pytest.mark.parametrize(("cost", "is_breached"), [(1.19e6, False), (1.2e6, True), (0.1e6, False)])
def test_the_guard_of_cost_stops_at_its_limit_and_not_below(cost: float, is_breached: bool) -> None:
    states = guard_states(figures(400), figures(400, cost=cost), Guards(least=50, errors=1.0, cost=0.2))
    assert states[1].is_breached is is_breached


def test_a_guard_of_nothing_stops_at_any_difference_that_is_no_chance_and_not_at_none() -> None:
    guards = Guards(least=50, errors=0.0, latency=0.0, cost=0.0)
    assert not any(state.is_breached for state in guard_states(figures(400), figures(400), guards))
    worse = guard_states(figures(400), figures(400, 80, latency=600.0, cost=2e6), guards)
    assert all(state.is_breached for state in worse)


@EXAMPLES
@given(seen_shares, seen_shares, st.floats(0.0, 1.0))
def test_no_guard_of_errors_stops_a_challenger_that_fails_less(one: Share, two: Share, limit: float) -> None:
    worse, better = sorted((one, two), key=lambda share: share.hits / share.count, reverse=True)
    nothing = Moments(0, 0.0, 0.0)
    arms = [ArmFigures(share.count, share, nothing, nothing) for share in (worse, better)]
    assert not any(state.is_breached for state in guard_states(arms[0], arms[1], Guards(least=1, errors=limit)))


@pytest.mark.parametrize(("spent", "is_over"), [(999_999_999, False), (1_000_000_000, True), (1_000_000_001, True)])
def test_a_budget_is_used_up_from_its_last_nano_dollar_on(spent: int, is_over: bool) -> None:
    guards = Guards(least=1, errors=1.0, max_cost_nano=10**9)
    assert is_overspent(figures(1, spent_nano=spent), guards) is is_over


# --- stages ---------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.sets(st.integers(1, 99), max_size=8))
def test_a_canary_goes_through_each_of_its_stages_once_and_ends_with_everybody(some: set[int]) -> None:
    stages = (*sorted(some), 100)
    walked, at = [], 0
    while (following := next_stage(stages, at)) is not None:
        walked.append(following)
        at = following
    assert tuple(walked) == stages
