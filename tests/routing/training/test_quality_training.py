"""Grades become tables and heads, and routing by them is worth at least as much as not routing."""

from dataclasses import replace

import numpy as np
import pytest

from routing.domain.classification.features import packed, read
from routing.domain.classification.quality import Trust
from routing.domain.classification.types import UNKNOWN, Classification, PromptText, QualityQuestion
from routing.domain.config import TaskType
from routing.training.examples import GradedExample
from routing.training.quality import Graded, Sums, fit_gain, levelled, quality_parts, summed
from routing.training.quality_figures import (
    RoutingFigures,
    gated,
    pair_figures,
    quality_of,
    seen_figures,
    unseen_figures,
)
from tests.routing.training import data

WHOLE = Trust(known_low=0.0, known_high=0.0)


def classify(prompt: PromptText) -> Classification:
    label = TaskType.CREATIVE if "poem" in prompt.text else UNKNOWN
    return Classification(label, features=packed(read(prompt).buckets))


GRADED = Graded.of(data.graded_examples(), classify)
PAIRS = Graded.of(data.pair_examples(), classify)


def mean(tag: str = "", text: str = "", model: str = "small", trust: Trust = WHOLE) -> float:
    task = classify(PromptText(text)) if text else None
    return quality_of(GRADED, trust, 0).estimate(QualityQuestion(model, "", task, tag)).mean


def test_models_are_columns_in_order_of_name() -> None:
    assert GRADED.models == ("big", "small")
    assert GRADED.scores.shape == (40, 2)


def test_a_model_without_a_grade_has_none() -> None:
    some = Graded.of([GradedExample(PromptText("a"), {"x": 1.0}), GradedExample(PromptText("b"), {"y": 0.0})], classify)
    assert np.isnan(some.scores).tolist() == [[False, True], [True, False]]
    assert some.complete().examples == []
    assert len(GRADED.complete().examples) == 40


def test_a_record_that_kept_no_text_has_its_classification() -> None:
    kept = Classification(TaskType.CODING, features=packed(read(PromptText("fix it")).buckets))
    found = Graded.of([GradedExample(PromptText(""), {"x": 1.0}, task=kept)], classify)
    assert found.tasks == [kept]


def test_grades_are_summed_by_row_and_model() -> None:
    scores = np.array([[1, 0.5], [np.nan, 1], [1, 1]], dtype=np.float32)
    found = summed(("a", "b"), ["a", "a", "nobody"], scores)
    assert found.sums.tolist() == [[1, 1.5], [0, 0]]
    assert found.numbers.tolist() == [[1, 2], [0, 0]]


def test_a_large_tag_does_not_decide_how_good_a_model_is() -> None:
    sums = Sums(("large", "small"), np.array([[900.0], [0.0]], np.float32), np.array([[1000.0], [10.0]], np.float32))
    total, number = levelled(sums, 200.0)
    assert number.tolist() == [[200.0]]
    assert (total / number).tolist() == [[pytest.approx(0.45)]]


def test_the_tag_tells_where_the_small_model_does_well() -> None:
    assert mean("poems") > 0.8
    assert mean("proofs") < 0.4


def test_the_text_tells_it_too() -> None:
    assert mean(text="write a poem about a hat") > mean(text="prove that 7 is even") + 0.3


def test_where_the_text_has_no_say_all_texts_are_equal() -> None:
    none = replace(WHOLE, cluster_share=0.0, head_share=0.0)
    assert mean(text="prove that 7 is even", trust=none) == mean(text="prove it", trust=none)


def test_the_heads_and_tables_are_the_same_twice() -> None:
    one, other = (quality_parts(GRADED, PAIRS, WHOLE, 3) for _ in range(2))
    assert one.settings == other.settings
    assert {name: array.tobytes() for name, array in one.arrays.items()} == {
        name: array.tobytes() for name, array in other.arrays.items()
    }


def test_nothing_graded_makes_parts_too() -> None:
    parts = quality_parts(Graded.of([], classify), None, WHOLE, 0)
    assert parts.settings["models"] == []
    assert parts.arrays["heads"].shape[1] == 0


def test_the_gain_is_higher_where_the_strong_model_is_needed() -> None:
    gain = fit_gain(PAIRS, 0)
    hard = [float(gain.scores(reading)[0]) for reading in PAIRS.readings[1::2]]
    easy = [float(gain.scores(reading)[0]) for reading in PAIRS.readings[0::2]]
    assert min(hard) > max(easy)


def test_domains_that_were_left_out_are_told_apart() -> None:
    assert pair_figures(PAIRS, 0) > 0.7


def test_one_domain_cannot_be_left_out() -> None:
    assert pair_figures(PAIRS.only([at for at, tag in enumerate(PAIRS.tags) if tag == "domain1"]), 0) == 0.5


@pytest.mark.parametrize("with_tag", [True, False])
def test_routing_of_seen_traffic_saves_what_the_small_model_can_do(with_tag: bool) -> None:
    found = seen_figures(GRADED, WHOLE, data.PRICES, 0, with_tag)
    assert found.examples == 40
    assert found.gain > 0
    assert found.saved is not None
    assert found.saved > 0.3


def test_without_trust_routing_is_worth_just_what_no_router_is() -> None:
    none = replace(WHOLE, cluster_share=0.0, head_share=0.0)
    plain = Graded(
        GRADED.examples, [replace(task, label=UNKNOWN) for task in GRADED.tasks], GRADED.models, GRADED.scores
    )
    for found in unseen_figures(plain, none, data.PRICES, 0).values():
        assert found.aiq == pytest.approx(found.no_router)


def test_each_kind_of_traffic_is_left_out_in_turn() -> None:
    found = unseen_figures(GRADED, WHOLE, data.PRICES, 0)
    assert set(found) == {"poems", "proofs"}
    assert all(isinstance(one, RoutingFigures) for one in found.values())


def misleading() -> Graded:
    """What the text promises in one kind of traffic is false in the other."""
    examples = []
    for number in range(60):
        tag = ("one", "two")[number % 2]
        easy = number // 2 % 2
        small = float(easy if tag == "one" else not easy)
        word = "please" if easy else "carefully"
        prompt = PromptText(f"{word} do thing {data.THINGS[number % 12]}")
        examples.append(GradedExample(prompt, {"big": 0.6, "small": small}, tag, str(number)))
    return Graded.of(examples, lambda prompt: replace(classify(prompt), label=UNKNOWN))


def test_the_text_loses_its_say_when_it_misleads_on_unseen_traffic() -> None:
    graded = misleading()
    eager = replace(WHOLE, head_share=1.0)
    assert sum(one.gain for one in unseen_figures(graded, eager, data.PRICES, 0).values()) < 0
    trust, figures = gated(graded, eager, data.PRICES, 0)
    assert trust.head_share < 1.0
    assert sum(one.gain for one in figures.values()) >= -1e-9


def test_the_text_keeps_its_say_when_it_helps() -> None:
    none = replace(WHOLE, cluster_share=0.0, head_share=0.0)
    assert gated(GRADED, none, data.PRICES, 0)[0] == none
