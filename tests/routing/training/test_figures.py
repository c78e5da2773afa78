"""The figures are what their definitions say, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.training.figures import aiq, apgr, hull, routed, saved_at_best, task_figures


def test_f1_accuracy_and_the_surest() -> None:
    found = task_figures(["a", "a", "b", "b", "b"], ["a", "b", "b", "b", "a"], [0.9, 0.1, 0.8, 0.7, 0.6])
    assert found.examples == 5
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.f1 == {"a": pytest.approx(2 * 1 / 4), "b": pytest.approx(2 * 2 / 6)}
    assert found.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found.sure == pytest.approx(3 / 4)  # the one at 0.1 is not asked


def test_a_label_that_is_never_told_has_an_f1_of_zero() -> None:
    assert task_figures(["a", "b"], ["a", "a"], [1, 1]).f1["b"] == 0


def test_figures_of_nothing() -> None:
    assert task_figures([], [], []).macro_f1 == 0


def test_the_hull_leaves_out_what_mixing_beats() -> None:
    assert hull([(0.0, 0.0), (1.0, 0.2), (2.0, 1.0), (3.0, 0.9)]) == [(0.0, 0.0), (2.0, 1.0)]


def test_a_point_above_the_line_is_on_the_hull() -> None:
    assert hull([(0.0, 0.0), (1.0, 0.7), (2.0, 1.0)]) == [(0.0, 0.0), (1.0, 0.7), (2.0, 1.0)]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=30))
def test_a_hull_rises_in_cost_and_quality(points: list[tuple[float, float]]) -> None:
    corners = hull(points)
    assert corners == sorted(corners)
    assert [quality for _, quality in corners] == sorted(quality for _, quality in corners)
    assert corners[-1][1] == max(quality for _, quality in points)


def test_aiq_of_a_straight_line_is_its_middle() -> None:
    assert aiq([(0.0, 0.0), (1.0, 1.0)], 0.0, 1.0) == pytest.approx(0.5)


def test_aiq_of_one_price_is_the_best_quality() -> None:
    assert aiq([(1.0, 0.3), (1.0, 0.8)], 1.0, 1.0) == pytest.approx(0.8)


SCORES = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])  # the second model fails every other prompt
COSTS = np.array([1.0, 0.2])


def test_knowing_who_fails_saves_what_the_others_cost() -> None:
    points = routed(SCORES, SCORES, COSTS)
    assert max(quality for _, quality in points) == 1.0
    assert saved_at_best(points, COSTS, SCORES) == pytest.approx(1 - 0.6)


def test_knowing_nothing_saves_nothing() -> None:
    means = np.tile(SCORES.mean(axis=0), (4, 1))
    assert saved_at_best(routed(means, SCORES, COSTS), COSTS, SCORES) == pytest.approx(0.0)


def test_quality_that_is_not_reached_is_nothing_saved() -> None:
    assert saved_at_best([(0.2, 0.5)], COSTS, SCORES) is None


def test_equal_estimates_go_to_the_cheaper_model() -> None:
    assert routed(np.ones((3, 2)), np.ones((3, 2)), COSTS)[0][0] == pytest.approx(0.2)


def test_apgr_is_one_for_an_oracle_on_few_and_half_for_a_constant() -> None:
    strong, weak = [1.0] * 100, [0.0] + [1.0] * 99
    assert apgr([1.0] + [0.0] * 99, strong, weak) == pytest.approx(1.0, abs=0.01)
    assert apgr([0.0] + [1.0] * 99, strong, weak) == pytest.approx(0.0, abs=0.01)
    assert apgr([0.0] * 2, [1, 1], [0, 0]) == pytest.approx(0.5)


def test_apgr_without_a_gap_says_nothing() -> None:
    assert apgr([0.1, 0.9], [1, 0], [1, 0]) == 0.5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.floats(0, 1)), min_size=1, max_size=40))
def test_figures_are_shares(told: list[tuple[str, str, float]]) -> None:
    labels, predicted, confidences = (list(column) for column in zip(*told, strict=True))
    found = task_figures(labels, predicted, confidences)
    assert 0 <= found.accuracy <= 1
    assert 0 <= found.sure <= 1
    assert 0 <= found.macro_f1 <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_turning_the_order_round_turns_apgr_round(rows: list[tuple[float, bool, bool]]) -> None:
    scores = [float(number) for number, _ in enumerate(rows)]
    strong, weak = [float(one) for _, one, _ in rows], [float(one) for _, _, one in rows]
    assert apgr(scores, strong, weak) + apgr([-one for one in scores], strong, weak) == pytest.approx(1.0)


def test_a_router_that_is_right_is_worth_at_least_no_router() -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 2, (50, 3)).astype(float)
    costs = np.array([1.0, 0.3, 0.1])
    fixed = np.tile(scores.mean(axis=0), (50, 1))
    assert aiq(routed(scores, scores, costs), 0.1, 1.0) >= aiq(routed(fixed, scores, costs), 0.1, 1.0)
