"""Always-valid tests and intervals: what they promise is simulated, however often somebody looks."""

import random
from collections.abc import Callable, Iterator

import pytest

from analytics.domain.experiments import (
    ALPHA,
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

TOLD = {"better", "worse"}
RUNS = 1_000
LEAST = 50


def shares_as_they_come(
    rng: random.Random, one: float, other: float, *, looks: int, every: int
) -> Iterator[Comparison]:
    hits = [0, 0]
    for look in range(1, looks + 1):
        for side, rate in enumerate((one, other)):
            hits[side] += sum(rng.random() < rate for _ in range(every))
        yield compared_shares(Share(hits[0], look * every), Share(hits[1], look * every), least=LEAST)


def means_as_they_come(
    draws: tuple[Callable[[], float], Callable[[], float]], *, looks: int, every: int
) -> Iterator[Comparison]:
    sums, squares = [0.0, 0.0], [0.0, 0.0]
    for look in range(1, looks + 1):
        for side, draw in enumerate(draws):
            values = [draw() for _ in range(every)]
            sums[side] += sum(values)
            squares[side] += sum(value * value for value in values)
        yield compared_means(
            *(moments_of(look * every, total, square) for total, square in zip(sums, squares, strict=True)),
            least=LEAST,
        )


def moments_of(count: int, total: float, square: float) -> Moments:
    mean = total / count
    return Moments(count, mean, square / count - mean * mean)


def is_ever_told(looks: Iterator[Comparison]) -> bool:
    return any(look.verdict in TOLD for look in looks)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_equal_error_rates_are_told_apart_in_at_most_one_run_of_twenty(rate: float) -> None:
    rng = random.Random(5)
    false = sum(is_ever_told(shares_as_they_come(rng, rate, rate, looks=20, every=25)) for _ in range(RUNS))
    assert false <= ALPHA * RUNS


@pytest.mark.parametrize("spread", [0.5, 1.2])
def test_equal_costs_are_told_apart_in_at_most_one_run_of_twenty(spread: float) -> None:
    """Log-normal, as costs and latencies are."""
    rng = random.Random(6)
    draws = (lambda: rng.lognormvariate(0, spread), lambda: rng.lognormvariate(0, spread))
    false = sum(is_ever_told(means_as_they_come(draws, looks=20, every=25)) for _ in range(RUNS))
    assert false <= ALPHA * RUNS


def test_the_interval_holds_the_true_difference_at_all_looks_in_nineteen_runs_of_twenty() -> None:
    rng = random.Random(7)
    left = 0
    for _ in range(RUNS):
        looks = [look for look in shares_as_they_come(rng, 0.2, 0.3, looks=20, every=25) if look.verdict != "early"]
        left += any(not (look.low or 0.0) <= 0.1 <= (look.high or 0.0) for look in looks)
    assert left <= ALPHA * RUNS


def test_a_challenger_that_fails_far_more_often_is_told_in_nearly_every_run() -> None:
    rng = random.Random(8)
    told = sum(is_ever_told(shares_as_they_come(rng, 0.02, 0.2, looks=20, every=25)) for _ in range(200))
    assert told >= 195


def test_a_challenger_that_is_slower_by_a_half_is_told_in_nearly_every_run() -> None:
    rng = random.Random(9)
    draws = (lambda: rng.lognormvariate(0, 0.6), lambda: 1.5 * rng.lognormvariate(0, 0.6))
    told = sum(is_ever_told(means_as_they_come(draws, looks=20, every=25)) for _ in range(200))
    assert told >= 195


def test_an_interval_leaves_zero_exactly_where_the_p_value_passes_alpha() -> None:
    for variance in (1e-6, 1e-4, 0.01):
        edge = half_width(variance, 0.1)
        assert p_value(edge, variance, 0.1) == pytest.approx(ALPHA)
        assert p_value(edge * 1.01, variance, 0.1) < ALPHA < p_value(edge * 0.99, variance, 0.1)


def test_more_requests_narrow_the_interval_and_never_raise_doubt_about_a_difference() -> None:
    widths = [half_width(1.0 / count, 0.1) for count in (50, 500, 5_000, 50_000)]
    assert widths == sorted(widths, reverse=True)
    doubts = [p_value(0.05, 0.25 / count, 0.1) for count in (50, 500, 5_000, 50_000)]
    assert doubts == sorted(doubts, reverse=True)


def test_few_requests_are_no_verdict_whatever_they_say() -> None:
    found = compared_shares(Share(0, 9), Share(9, 9), least=10)
    assert (found.verdict, found.more) == ("early", 1)


@pytest.mark.parametrize(("control", "challenger"), [(Share(0, 0), Share(3, 9)), (Share(3, 9), Share(0, 0))])
def test_an_arm_without_requests_has_no_difference_to_tell(control: Share, challenger: Share) -> None:
    found = compared_shares(control, challenger, least=10)
    assert (found.verdict, found.change, found.more) == ("early", None, 10)


def test_what_is_better_depends_on_what_is_counted() -> None:
    few, many = Share(10, 400), Share(200, 400)
    assert compared_shares(many, few, least=10).verdict == "better"
    assert compared_shares(many, few, least=10, less_is_better=False).verdict == "worse"
    cheap, dear = Moments(400, 1.0, 0.5), Moments(400, 3.0, 2.0)
    assert compared_means(dear, cheap, least=10).verdict == "better"
    assert compared_means(cheap, dear, least=10).verdict == "worse"


def test_it_says_how_many_more_requests_it_takes_and_keeps_its_word() -> None:
    found = compared_shares(Share(20, 400), Share(32, 400), least=50)
    assert found.verdict == "unknown"
    assert found.more is not None
    count = 400 + found.more
    at_the_same_rates = compared_shares(Share(round(0.05 * count), count), Share(round(0.08 * count), count), least=50)
    assert at_the_same_rates.verdict == "worse"


def test_no_difference_is_no_promise_of_one() -> None:
    found = compared_shares(Share(20, 400), Share(20, 400), least=50)
    assert (found.verdict, found.change, found.more) == ("alike", 0.0, None)


def test_a_mean_is_compared_by_its_ratio() -> None:
    found = compared_means(Moments(500, 200.0, 400.0), Moments(500, 300.0, 400.0), least=50)
    assert found.verdict == "worse"
    assert found.change == pytest.approx(0.5)
    assert found.low is not None
    assert found.high is not None
    assert 0.4 < found.low < 0.5 < found.high < 0.6


def test_what_costs_nothing_on_one_side_has_no_percentage() -> None:
    found = compared_means(Moments(500, 0.0, 0.0), Moments(500, 300.0, 400.0), least=50)
    assert (found.verdict, found.change) == ("unknown", None)
    assert compared_means(Moments(0, 0.0, 0.0), Moments(500, 3.0, 4.0), least=50).verdict == "early"


def test_figures_that_never_vary_are_told_at_once() -> None:
    assert compared_means(Moments(50, 1.0, 0.0), Moments(50, 2.0, 0.0), least=50).verdict == "worse"
    assert compared_means(Moments(50, 1.0, 0.0), Moments(50, 1.0, 0.0), least=50).verdict == "alike"


def figures(*, errors: int = 0, latency_ms: float = 500.0, cost_nano: float = 1e6, requests: int = 400) -> ArmFigures:
    answered = requests - errors
    return ArmFigures(
        requests=requests,
        errors=Share(errors, requests),
        latency=Moments(answered, latency_ms, latency_ms**2 / 4),
        cost=Moments(answered, cost_nano, cost_nano**2 / 4),
        spent_nano=round(answered * cost_nano),
    )


GUARDS = Guards(least=LEAST, errors=0.05, latency=0.5, cost=0.5)


@pytest.mark.parametrize(
    ("challenger", "breached"),
    [
        (figures(), []),
        (figures(errors=80), ["errors"]),
        (figures(latency_ms=1_000.0), ["latency"]),
        (figures(cost_nano=3e6), ["cost"]),
        (figures(errors=80, latency_ms=1_000.0, cost_nano=3e6), ["errors", "latency", "cost"]),
        (figures(latency_ms=600.0), []),  # slower, but not by as much as the guard lets pass
        (figures(errors=400), ["errors"]),
    ],
)
def test_a_guard_is_breached_past_its_limit(challenger: ArmFigures, breached: list[str]) -> None:
    states = guard_states(figures(), challenger, GUARDS)
    assert [state.name for state in states if state.is_breached] == breached


def test_a_limit_that_chance_may_have_passed_is_no_breach() -> None:
    [errors, *_] = guard_states(figures(requests=60), figures(requests=60, errors=4), GUARDS)
    assert errors.comparison.change == pytest.approx(4 / 60)
    assert errors.comparison.verdict == "unknown"
    assert not errors.is_breached


def test_a_guard_waits_for_its_minimum_of_requests() -> None:
    [errors, *_] = guard_states(figures(), figures(requests=49, errors=49), GUARDS)
    assert not errors.is_breached
    [errors, *_] = guard_states(figures(), figures(requests=50, errors=50), GUARDS)
    assert errors.is_breached


def test_guards_that_are_not_set_are_not_looked_at() -> None:
    guards = Guards(least=LEAST, errors=0.05)
    assert [state.name for state in guard_states(figures(), figures(), guards)] == ["errors"]


def test_a_challenger_has_overspent_from_its_last_cent_on() -> None:
    spent = figures().spent_nano
    assert is_overspent(figures(), Guards(least=1, errors=1.0, max_cost_nano=spent))
    assert not is_overspent(figures(), Guards(least=1, errors=1.0, max_cost_nano=spent + 1))
    assert not is_overspent(figures(), Guards(least=1, errors=1.0))


def test_a_canary_goes_from_stage_to_stage() -> None:
    stages = (5, 25, 50, 100)
    assert [next_stage(stages, percent) for percent in (0, 5, 25, 50, 100)] == [5, 25, 50, 100, None]
