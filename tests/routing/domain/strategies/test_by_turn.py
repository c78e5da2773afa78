"""Sharing requests out: as the operator has put them, by weight, in turn."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.strategies.by_turn import Priority, RoundRobin, Weighted
from routing.domain.strategies.protocol import Occasion, Option
from tests.routing.domain.build import policy
from tests.routing.domain.strategies.options import option, options

RULES = policy("rules")
DRAWS = 20_000
CHI_SQUARE_3 = 16.27  # a fair draw passes it once in a thousand; the seeds are fixed, so it does or does not for ever


def drawn(weighed: list[Option]) -> list[list[str]]:
    return [
        [one.name for one in Weighted().order(weighed, RULES, Occasion(f"request-{number}", 0))]
        for number in range(DRAWS)
    ]


@given(given_options=options())
def test_priority_is_the_operators_order(given_options: list[Option]) -> None:
    assert Priority().order(given_options, RULES, Occasion("x", 9)) == given_options


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (7, 2, 1, 1), (1000, 1, 1, 1), (5, 90, 5, 1)])
def test_weights_converge(weights: tuple[int, ...]) -> None:
    weighed = [option(number, weight=weight) for number, weight in enumerate(weights)]
    hits = Counter(order[0] for order in drawn(weighed))
    expected = {one.name: DRAWS * one.weight / sum(weights) for one in weighed}
    assert sum((hits[name] - share) ** 2 / share for name, share in expected.items()) < CHI_SQUARE_3


def test_the_others_are_drawn_by_weight_too_when_the_first_fails() -> None:
    weighed = [option(0, weight=6), option(1, weight=3), option(2, weight=1)]
    after_the_first = [order[1] for order in drawn(weighed) if order[0] == "alpha/m000"]
    assert Counter(after_the_first)["alpha/m001"] / len(after_the_first) == pytest.approx(0.75, abs=0.02)


def test_a_weight_of_zero_is_only_asked_when_the_others_cannot() -> None:
    weighed = [option(0, weight=0), option(1, weight=1), option(2, weight=0)]
    assert {tuple(order) for order in drawn(weighed)} == {("alpha/m001", "alpha/m000", "alpha/m002")}


def test_more_weight_never_turns_a_request_away() -> None:
    """Who was drawn with less weight is drawn with more: nothing else moves when an operator raises a share."""
    before = [order[0] for order in drawn([option(0, weight=2), option(1, weight=5)])]
    after = [order[0] for order in drawn([option(0, weight=4), option(1, weight=5)])]
    assert not [1 for old, new in zip(before, after, strict=True) if old == "alpha/m000" and new != old]


@given(given_options=options(least=1), start=st.integers(0, 10**9))
def test_turns_go_round_evenly(given_options: list[Option], start: int) -> None:
    turns = range(start, start + 3 * len(given_options))
    orders = [RoundRobin().order(given_options, RULES, Occasion("", turn)) for turn in turns]
    assert set(Counter(order[0].name for order in orders).values()) == {3}
    for order in orders:  # and the fallbacks follow in the same circle
        place = given_options.index(order[0])
        assert order == given_options[place:] + given_options[:place]
