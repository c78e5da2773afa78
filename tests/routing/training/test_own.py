"""A few graded prompts of one's own correct what other traffic taught."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.classification.artefact import Artefact
from routing.domain.classification.features import packed, read
from routing.domain.classification.quality import ArtefactQuality
from routing.domain.classification.types import UNKNOWN, Classification, PromptText, QualityQuestion
from routing.training.examples import GradedExample
from routing.training.figures import apgr
from routing.training.own import own_gain, own_quality_parts, shape
from routing.training.quality import Graded, fit_gain
from tests.routing.training import data


def classify(prompt: PromptText) -> Classification:
    return Classification(UNKNOWN, features=packed(read(prompt).buckets))


PAIRS = Graded.of(data.pair_examples(120), classify)


def scores_of(rows: Graded, fitted_on: Graded, cold: bool = False) -> list[float]:
    gain = own_gain(fitted_on, fit_gain(fitted_on, 0) if cold else None)
    return gain.scores([example.prompt.text for example in rows.examples], rows.tasks)


def columns(rows: Graded) -> tuple[list[float], list[float]]:
    strong, weak = rows.models.index("strong"), rows.models.index("weak")
    return rows.scores[:, strong].tolist(), rows.scores[:, weak].tolist()


@pytest.mark.parametrize("cold", [True, False])
def test_which_of_ones_own_prompts_need_the_strong_model_is_learned(cold: bool) -> None:
    known, asked = PAIRS.only(range(60)), PAIRS.only(range(60, 120))
    assert apgr(scores_of(asked, known, cold), *columns(asked)) > 0.7


def test_it_is_learned_the_same_twice() -> None:
    assert scores_of(PAIRS, PAIRS) == scores_of(PAIRS, PAIRS)


def test_a_score_does_not_depend_on_what_else_is_asked() -> None:
    alone = scores_of(PAIRS.only([3]), PAIRS)
    assert scores_of(PAIRS, PAIRS)[3] == pytest.approx(alone[0])


def test_grades_that_never_differ_teach_nothing() -> None:
    same = Graded.of(
        [GradedExample(PromptText(f"sum {number}"), {"strong": 1.0, "weak": 1.0}) for number in range(8)], classify
    )
    assert scores_of(same, same) == pytest.approx([0.0] * 8, abs=1e-9)


def test_one_grade_is_enough_to_run() -> None:
    assert len(scores_of(PAIRS, PAIRS.only([0]))) == 120


def test_the_shape_counts_numbers_sentences_and_parts() -> None:
    plain, sums = shape("Say hello"), shape("Tom has 3 apples. He eats half of 12, that is 50%. How many twice?")
    assert plain[1:] == [0.0] * 6
    assert all(value > 0 for value in sums)


@given(st.text(max_size=200))
def test_any_text_has_a_shape(text: str) -> None:
    assert len(shape(text)) == 7
    assert all(np.isfinite(shape(text)))


@pytest.mark.parametrize("text", ["1.2.3.4", "9" * 400, "1,,,2", "٣", "1e999", "..."])
def test_odd_numbers_have_a_size(text: str) -> None:
    assert all(np.isfinite(shape(text)))


def quality(others: list[GradedExample], own: list[GradedExample]) -> ArtefactQuality:
    everything = Graded.of([*others, *own], classify)
    parts = own_quality_parts(
        everything.only(range(len(others))), everything.only(range(len(others), len(everything.examples))), 0
    )
    return ArtefactQuality.of(Artefact("x", {"quality": parts.settings}, parts.arrays))


def grades(tag: str, small: float, count: int) -> list[GradedExample]:
    return [
        GradedExample(PromptText(f"{tag} question {number}"), {"big": 0.9, "small": small}, tag, str(number))
        for number in range(count)
    ]


def test_own_grades_outweigh_those_of_others() -> None:
    found = quality(grades("theirs", 1.0, 200), grades("mine", 0.0, 100)).estimate(QualityQuestion("small", ""))
    assert found.mean < 0.3


def test_a_few_own_grades_do_not() -> None:
    found = quality(grades("theirs", 1.0, 200), grades("mine", 0.0, 5)).estimate(QualityQuestion("small", ""))
    assert found.mean > 0.7


def test_own_kinds_of_traffic_are_told_apart_by_their_text() -> None:
    own = [*grades("poems", 1.0, 30), *grades("proofs", 0.0, 30)]
    one = quality(grades("theirs", 0.5, 50), own)
    poems, proofs = (
        one.estimate(QualityQuestion("small", "", classify(PromptText(f"{tag} question 99")))).mean
        for tag in ("poems", "proofs")
    )
    assert poems > proofs + 0.3


def test_there_may_be_no_others() -> None:
    assert quality([], grades("mine", 0.0, 40)).estimate(QualityQuestion("small", "")).mean < 0.2


def test_own_grades_need_no_tag() -> None:
    assert quality(grades("theirs", 1.0, 20), grades("", 0.0, 200)).estimate(QualityQuestion("small", "")).mean < 0.3
