"""What holds for every way to put models in order, whatever the models are like."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.config import Policy, Strategy, TaskType
from routing.domain.strategies import STRATEGIES
from routing.domain.strategies.protocol import Occasion, Option
from tests.routing.domain.build import policy
from tests.routing.domain.strategies.options import SHARES, option, options

EVERY = pytest.mark.parametrize("strategy", list(Strategy))
BY_FIGURES = pytest.mark.parametrize(
    "strategy", [one for one in Strategy if one not in {Strategy.PRIORITY, Strategy.ROUND_ROBIN}]
)
occasions = st.builds(Occasion, st.text(max_size=8), st.integers(0, 10**6), st.sampled_from(TaskType))


def rules(**options: Any) -> Policy:
    return policy("rules", **options)


@st.composite
def any_rules(draw: st.DrawFn) -> Policy:
    return rules(
        quality_floor=draw(st.none() | SHARES),
        within_of_best=draw(st.none() | SHARES),
        cost_weight=draw(st.floats(0, 100)),
        latency_weight=draw(st.floats(0, 100)),
    )


def names(ordered: list[Option]) -> list[str]:
    return [one.name for one in ordered]


@EVERY
@given(given_options=options(), policy=any_rules(), occasion=occasions)
def test_every_option_is_asked_exactly_once(
    strategy: Strategy, given_options: list[Option], policy: Policy, occasion: Occasion
) -> None:
    ordered = STRATEGIES[strategy].order(given_options, policy, occasion)
    assert sorted(names(ordered)) == sorted(names(given_options))


@EVERY
@given(given_options=options(), policy=any_rules(), occasion=occasions)
def test_the_same_occasion_gives_the_same_order(
    strategy: Strategy, given_options: list[Option], policy: Policy, occasion: Occasion
) -> None:
    way = STRATEGIES[strategy]
    assert way.order(given_options, policy, occasion) == way.order(list(given_options), policy, occasion)


@BY_FIGURES
@given(given_options=options(), policy=any_rules(), occasion=occasions, seed=st.integers())
def test_the_order_of_the_operator_does_not_matter_to_what_goes_by_figures(
    strategy: Strategy, given_options: list[Option], policy: Policy, occasion: Occasion, seed: int
) -> None:
    if strategy is Strategy.TASK_BASED:  # keeps the operator's order among those that are preferred for the task
        occasion = Occasion(occasion.seed, occasion.turn)
    shuffled = random.Random(seed).sample(given_options, len(given_options))
    way = STRATEGIES[strategy]
    assert names(way.order(shuffled, policy, occasion)) == names(way.order(given_options, policy, occasion))


@BY_FIGURES
def test_ties_go_by_name(strategy: Strategy) -> None:
    equal = [option(number, cost_nano=5, quality=0.5, latency_ms=9.0, weight=0) for number in (3, 1, 2)]
    ordered = STRATEGIES[strategy].order(equal, rules(), Occasion("seed", 0))
    assert names(ordered) == ["alpha/m001", "alpha/m002", "alpha/m003"]


@EVERY
def test_there_may_be_nothing_or_very_much_to_order(strategy: Strategy) -> None:
    way = STRATEGIES[strategy]
    assert way.order([], rules(), Occasion("seed", 3)) == []
    many = [option(number, cost_nano=number % 7, quality=number % 5 / 5) for number in range(500)]
    assert len(way.order(many, rules(quality_floor=0.5), Occasion("seed", 3))) == 500


@EVERY
@given(given_options=options(least=1), policy=any_rules())
def test_a_score_is_a_number_or_nothing(strategy: Strategy, given_options: list[Option], policy: Policy) -> None:
    scores = [STRATEGIES[strategy].score(one, policy) for one in given_options]
    assert all(score is None or score == score for score in scores)  # noqa: PLR0124 - not NaN


def test_every_strategy_that_can_be_chosen_is_there() -> None:
    assert set(STRATEGIES) == set(Strategy)
