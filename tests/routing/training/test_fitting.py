"""Fitting finds what is there, the same every time, and survives being put into bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.classification.features import Indices
from routing.training.fitting import Fitted, Link, Pace, balanced, fit, quantised

PACE = Pace(passes=8, rate=2.0, buckets=16, seed=1)


def rows(*readings: list[int]) -> list[Indices]:
    return [np.array(reading, dtype=np.uint32) for reading in readings]


READINGS = rows([0, 1], [0, 2], [5, 6], [5, 7]) * 6
TARGETS = np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 6, dtype=np.float32)
ONES = np.ones(24, dtype=np.float32)


@pytest.mark.parametrize("link", ["softmax", "logistic", "identity"])
def test_it_learns_which_bucket_speaks_for_what(link: Link) -> None:
    model = fit(READINGS, TARGETS, ONES, link, PACE)
    left, right = model.scores(READINGS[0]), model.scores(READINGS[2])
    assert left[0] > left[1]
    assert right[1] > right[0]


def test_the_same_input_and_seed_give_the_same_weights() -> None:
    one, other = (fit(READINGS, TARGETS, ONES, "softmax", PACE) for _ in range(2))
    assert one.table.tobytes() == other.table.tobytes()
    assert one.bias.tobytes() == other.bias.tobytes()


def test_another_seed_is_another_order() -> None:
    other = fit(READINGS, TARGETS, ONES, "softmax", Pace(8, 2.0, 16, seed=2))
    assert other.table.tobytes() != fit(READINGS, TARGETS, ONES, "softmax", PACE).table.tobytes()


def test_an_identity_fit_starts_from_the_mean() -> None:
    targets = np.full((24, 1), 0.3, dtype=np.float32)
    model = fit(READINGS, targets, ONES, "identity", PACE)
    assert model.bias.tolist() == pytest.approx([0.3])
    assert np.abs(model.table).max() < 1e-4


def test_an_example_without_weight_teaches_nothing() -> None:
    weights = ONES.copy()
    weights[2::4] = weights[3::4] = 0
    model = fit(READINGS, TARGETS, weights, "softmax", PACE)
    assert np.abs(model.table[[5, 6, 7]]).max() == 0


def test_untouched_buckets_stay_empty() -> None:
    assert np.abs(fit(READINGS, TARGETS, ONES, "softmax", PACE).table[8:]).max() == 0


def test_an_older_model_is_gone_on_from() -> None:
    old = fit(READINGS, TARGETS, ONES, "softmax", PACE)
    kept = old.table.copy()
    new = fit(rows([9]), np.array([[1, 0]], dtype=np.float32), ONES[:1], "softmax", PACE, old)
    assert new.table[0].tolist() == old.table[0].tolist()
    assert new.table[9, 0] > 0
    assert old.table.tolist() == kept.tolist()


def test_no_examples_are_no_weights() -> None:
    model = fit([], np.zeros((0, 3), dtype=np.float32), ONES[:0], "identity", PACE)
    assert not model.table.any()
    assert model.bias.tolist() == [0, 0, 0]


def test_no_features_are_the_bias() -> None:
    model = Fitted(np.ones((4, 2), dtype=np.float32), np.array([0.5, -0.5], dtype=np.float32))
    assert model.scores(np.array([], dtype=np.uint32)).tolist() == [0.5, -0.5]


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40))
def test_bytes_are_close_to_the_weights(values: list[float]) -> None:
    table = np.array(values, dtype=np.float32)[:, None]
    whole, scale = quantised(table)
    assert whole.dtype == np.int8
    inside = np.abs(table) <= scale * 127
    assert np.abs(whole * scale - table)[inside].max(initial=0.0) <= scale * 0.51 + 1e-6


def test_an_empty_table_can_be_put_into_bytes() -> None:
    whole, scale = quantised(np.zeros((4, 0), dtype=np.float32))
    assert whole.shape == (4, 0)
    assert scale > 0
    assert not quantised(np.zeros((4, 2), dtype=np.float32))[0].any()


def test_a_large_source_does_not_drown_a_small_one() -> None:
    weights = balanced(["large"] * 90 + ["small"] * 10, ["a"] * 100, most=100.0)
    assert weights[:90].sum() < 90
    assert weights[95] == pytest.approx(3 * weights[0])


def test_every_label_weighs_the_same() -> None:
    weights = balanced(["one"] * 100, ["rare"] * 20 + ["usual"] * 80, most=100.0)
    assert weights[:20].sum() == pytest.approx(weights[20:].sum(), rel=1e-5)
    assert weights.mean() == pytest.approx(1.0)


def test_no_single_example_counts_for_more_than_the_most() -> None:
    assert balanced(["a"] * 99 + ["b"], ["x"] * 99 + ["y"], most=4.0).max() == pytest.approx(4.0)


def test_weights_without_examples_are_none() -> None:
    assert balanced([], []).shape == (0,)
