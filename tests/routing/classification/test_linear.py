"""The classifier adds up, says how sure it is, and says nothing rather than guess."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.classification.artefact import Artefact, ArtefactError
from routing.domain.classification.features import BUCKETS, read
from routing.domain.classification.linear import LinearClassifier, Weights, softmax
from routing.domain.classification.types import UNKNOWN, PromptText, TaskClassifier
from routing.domain.config import TaskType
from tests.routing.classification import build

CLASSIFIER = LinearClassifier.of(build.artefact())


def test_it_is_a_task_classifier() -> None:
    one: TaskClassifier = CLASSIFIER
    assert one.classify(PromptText("python function"))


@pytest.mark.parametrize(("text", "label"), [("a python function", "CODING"), ("poem", "CREATIVE")])
def test_words_that_speak_for_a_label_give_it(text: str, label: str) -> None:
    found = CLASSIFIER.classify(PromptText(text))
    assert found.label == label
    assert found.confidence == max(found.scores.values()) >= 0.5
    assert found.source == "linear"


def test_scores_are_probabilities() -> None:
    scores = CLASSIFIER.classify(PromptText("a python poem")).scores
    assert sum(scores.values()) == pytest.approx(1)
    assert len(scores) == 5
    assert UNKNOWN not in scores


def test_below_the_threshold_it_does_not_know() -> None:
    found = CLASSIFIER.classify(PromptText("zzz qqq"))
    assert found.label is UNKNOWN
    assert found.confidence < 0.5


def test_the_threshold_is_the_artefacts() -> None:
    strict = LinearClassifier.of(build.artefact(threshold=0.99999))
    text = PromptText("a python poem")
    assert CLASSIFIER.classify(text).label is TaskType.CODING
    assert strict.classify(text).label is UNKNOWN


def test_a_higher_temperature_is_less_sure() -> None:
    warm = LinearClassifier.of(build.artefact(temperature=4.0))
    text = PromptText("a python function")
    assert warm.classify(text).confidence < CLASSIFIER.classify(text).confidence


def test_a_bias_is_added() -> None:
    biased = LinearClassifier.of(build.artefact(bias=[0.0, 0.0, 0.0, 0.0, 9.0]))
    assert biased.classify(PromptText("zzz")).label is TaskType.SIMPLE_QA


def test_what_is_known_is_the_share_of_words_and_pairs_that_training_saw() -> None:
    assert CLASSIFIER.classify(PromptText("write a python function")).known == 1.0
    assert CLASSIFIER.classify(PromptText("quux blarg")).known == 0.0
    assert 0 < CLASSIFIER.classify(PromptText("write a quux")).known < 1
    assert CLASSIFIER.classify(PromptText("")).known == 0.0


def test_the_features_are_those_that_were_read() -> None:
    found = CLASSIFIER.classify(PromptText("a poem", "be kind"))
    assert list(found.features) == read(PromptText("a poem", "be kind")).buckets.tolist()


def test_two_classifications_of_a_text_are_equal() -> None:
    assert CLASSIFIER.classify(PromptText("a poem")) == CLASSIFIER.classify(PromptText("a poem"))


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=200))
def test_no_text_makes_it_raise(text: str) -> None:
    found = CLASSIFIER.classify(PromptText(text, text))
    assert 0 < found.confidence <= 1
    assert 0 <= found.known <= 1


@given(st.text(max_size=80))
def test_no_text_makes_an_explanation_raise(text: str) -> None:
    for found in CLASSIFIER.contributions(PromptText(text)):
        assert -1 <= found.share <= 1


def test_the_word_that_decided_leads_the_explanation() -> None:
    found = CLASSIFIER.contributions(PromptText("please write me a poem today"))
    assert found[0].word == "poem"
    assert found[0].share > 0.1
    assert {item.word for item in found} == {"please", "write", "me", "a", "poem", "today"}


def test_a_word_that_speaks_against_the_label_is_negative() -> None:
    found = {item.word: item.share for item in CLASSIFIER.contributions(PromptText("a capital python function"))}
    assert found["capital"] < 0 < found["python"]


def test_an_explanation_ends_after_forty_words() -> None:
    text = " ".join(f"word{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(90))
    assert len(CLASSIFIER.contributions(PromptText(text))) == 40


def test_signs_in_a_word_are_no_pattern() -> None:
    assert CLASSIFIER.contributions(PromptText("c++ (a*b) [x] $ ^ poem"))


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ["NO_SUCH_TASK"]},
        {"scale": "large"},
        {"temperature": 0},
        {"bias": [0.0]},
        {"threshold": None},
        {"tasks": None},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match="Train"):
        LinearClassifier.of(build.artefact(**changes))


def test_an_artefact_of_another_reading_is_refused() -> None:
    good = build.artefact()
    with pytest.raises(ArtefactError, match="not trained for this classifier"):
        LinearClassifier.of(Artefact("x", {**good.settings, "reading": "letters"}, good.arrays))


def test_an_artefact_without_a_classifier_is_refused() -> None:
    good = build.artefact()
    with pytest.raises(ArtefactError):
        LinearClassifier.of(Artefact("x", {"reading": good.settings["reading"]}, good.arrays))


def test_weights_of_another_shape_are_refused() -> None:
    good = build.artefact()
    arrays = {**good.arrays, "task_weights": np.zeros((BUCKETS, 4), dtype=np.int8)}
    with pytest.raises(ArtefactError, match="task_weights"):
        LinearClassifier.of(Artefact("x", good.settings, arrays))


@pytest.mark.parametrize("columns", [1, 5, 8, 9, 17])
def test_a_table_of_any_width_adds_up_as_plain_arithmetic_does(columns: int) -> None:
    rng = np.random.default_rng(columns)
    table = rng.integers(-127, 128, (64, columns)).astype(np.int8)
    bias = tuple(rng.normal(size=columns).tolist())
    picked = np.array([1, 5, 9, 40, 63], dtype=np.uint32)
    expected = table[picked].astype(float).sum(axis=0) * 0.02 / np.sqrt(5) + np.array(bias)
    assert Weights.of(table, 0.02, bias).scores(picked) == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_table_without_columns_has_no_scores() -> None:
    assert Weights.of(np.zeros((8, 0), dtype=np.int8), 1.0, ()).scores(np.array([1], dtype=np.uint32)) == []


def test_no_features_are_the_bias() -> None:
    weights = Weights.of(np.ones((8, 2), dtype=np.int8), 1.0, (0.25, -1.0))
    assert weights.scores(np.array([], dtype=np.uint32)) == [0.25, -1.0]


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_softmax_sums_to_one_whatever_the_scores(scores: list[float]) -> None:
    found = softmax(scores)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in found)
