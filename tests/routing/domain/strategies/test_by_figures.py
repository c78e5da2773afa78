"""Orders that go by what is known of the models: load, quality, cost."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.config import Policy, Strategy, TaskType
from routing.domain.strategies import STRATEGIES
from routing.domain.strategies.protocol import Occasion, Option
from tests.routing.domain.build import policy
from tests.routing.domain.strategies.options import SHARES, option, options

NOW = Occasion("seed", 0)


def ordered(strategy: Strategy, given_options: list[Option], occasion: Occasion = NOW, **rules: Any) -> list[Option]:
    return STRATEGIES[strategy].order(given_options, policy("rules", **rules), occasion)


@given(given_options=options(least=1))
def test_the_least_busy_goes_first(given_options: list[Option]) -> None:
    first = ordered(Strategy.LEAST_BUSY, given_options)[0]
    assert first.in_flight == min(one.in_flight for one in given_options)


@given(given_options=options(least=1))
def test_the_quickest_goes_first_and_the_unknown_last(given_options: list[Option]) -> None:
    latencies = [one.latency for one in ordered(Strategy.LOWEST_LATENCY, given_options)]
    assert latencies == sorted(latencies)


@given(given_options=options(least=1))
def test_the_one_with_most_headroom_goes_first_and_among_those_the_least_busy(given_options: list[Option]) -> None:
    first = ordered(Strategy.USAGE_BASED, given_options)[0]
    most = max(one.headroom for one in given_options)
    assert first.headroom == most
    assert first.in_flight == min(one.in_flight for one in given_options if one.headroom == most)


@given(given_options=options(least=1))
def test_the_best_goes_first_and_among_equals_the_cheapest(given_options: list[Option]) -> None:
    first = ordered(Strategy.BEST_QUALITY, given_options)[0]
    best = max(one.quality for one in given_options)
    assert first.quality == best
    assert first.cost == min(one.cost for one in given_options if one.quality == best)


@given(given_options=options(least=1), floor=st.none() | SHARES)
def test_the_cheapest_that_is_good_enough_goes_first(given_options: list[Option], floor: float | None) -> None:
    first = ordered(Strategy.LOWEST_COST, given_options, quality_floor=floor)[0]
    enough = [one for one in given_options if one.quality >= (floor or 0)]
    if enough:
        assert first.quality >= (floor or 0)
        assert first.cost == min(one.cost for one in enough)
    else:
        assert first.quality == max(one.quality for one in given_options)


@given(given_options=options(least=1), data=st.data(), within=SHARES)
def test_close_to_the_best_is_a_floor_too(given_options: list[Option], data: st.DataObject, within: float) -> None:
    floor = data.draw(st.none() | st.sampled_from([one.quality for one in given_options]))
    first = ordered(Strategy.LOWEST_COST, given_options, quality_floor=floor, within_of_best=within)[0]
    assert first.quality >= max(floor or 0.0, max(one.quality for one in given_options) - within)


@given(given_options=options(least=1), data=st.data(), low=SHARES)
def test_a_higher_floor_never_chooses_something_cheaper(
    given_options: list[Option], data: st.DataObject, low: float
) -> None:
    high = data.draw(st.sampled_from([one.quality for one in given_options]))
    low = min(low, high)
    at_low = ordered(Strategy.LOWEST_COST, given_options, quality_floor=low)[0]
    at_high = ordered(Strategy.LOWEST_COST, given_options, quality_floor=high)[0]
    assert at_high.cost >= at_low.cost


@given(given_options=options(least=1), task=st.sampled_from(TaskType), floor=st.none() | SHARES)
def test_what_is_preferred_for_the_task_goes_first_the_rest_as_by_cost(
    given_options: list[Option], task: TaskType, floor: float | None
) -> None:
    found = ordered(Strategy.TASK_BASED, given_options, Occasion("", 0, task), quality_floor=floor)
    fits = [one for one in given_options if task is not TaskType.ANY and one.task_type is task]
    others = [one for one in given_options if one not in fits]
    assert found == fits + ordered(Strategy.LOWEST_COST, others, quality_floor=floor)


def balance(one: Option, rules: Policy) -> float:
    score = STRATEGIES[Strategy.BALANCED].score(one, rules)
    assert score is not None
    return score


@pytest.mark.parametrize(
    ("cost_weight", "latency_weight", "first"),
    [(0.0, 0.0, "good"), (1.0, 0.0, "cheap"), (0.0, 1.0, "quick"), (0.1, 0.01, "good")],
)
def test_balanced_follows_what_the_operator_says_a_cent_and_a_second_are_worth(
    cost_weight: float, latency_weight: float, first: str
) -> None:
    named = {
        "good": option(1, quality=0.9, cost_nano=20_000_000, latency_ms=4000.0),  # 2 cents, 4 s
        "cheap": option(2, quality=0.6, cost_nano=1_000_000, latency_ms=3000.0),
        "quick": option(3, quality=0.5, cost_nano=15_000_000, latency_ms=200.0),
    }
    found = ordered(Strategy.BALANCED, list(named.values()), cost_weight=cost_weight, latency_weight=latency_weight)
    assert found[0] is named[first]


def test_the_balance_is_in_the_units_that_the_operator_reads() -> None:
    rules = policy("rules", cost_weight=0.1, latency_weight=0.02)
    assert balance(option(1, quality=0.9, cost_nano=20_000_000, latency_ms=4000.0), rules) == pytest.approx(
        0.9 - 0.1 * 2 - 0.02 * 4
    )


@given(any_options=options(least=2), weight=st.floats(0, 50), more=st.floats(0, 50))
def test_money_that_is_worth_more_never_chooses_something_dearer(
    any_options: list[Option], weight: float, more: float
) -> None:
    given_options = [replace(one, cost_nano=one.cost_nano or 0) for one in any_options]
    low, high = sorted((weight, more))
    at_low = ordered(Strategy.BALANCED, given_options, cost_weight=low, latency_weight=0.0)[0]
    at_high = ordered(Strategy.BALANCED, given_options, cost_weight=high, latency_weight=0.0)[0]
    gain = balance(at_high, policy("rules", cost_weight=low)) - balance(at_low, policy("rules", cost_weight=low))
    assert at_high.cost <= at_low.cost or gain == pytest.approx(0, abs=1e-6)


def test_a_model_whose_price_nobody_knows_is_the_last_by_cost_and_by_balance() -> None:
    unpriced, priced = option(1, quality=0.99), option(2, quality=0.1, cost_nano=10**12)
    for strategy in (Strategy.LOWEST_COST, Strategy.BALANCED):
        assert ordered(strategy, [unpriced, priced], cost_weight=0.0, latency_weight=0.0)[-1] is unpriced
