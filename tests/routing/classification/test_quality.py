"""An estimate starts from what is generally known and moves as far as the evidence goes."""

from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.classification.artefact import Artefact, ArtefactError, Numbers
from routing.domain.classification.features import packed, read
from routing.domain.classification.quality import HEAD_BUCKETS, ArtefactQuality, Trust, narrowed
from routing.domain.classification.types import (
    UNKNOWN,
    Classification,
    PromptText,
    QualityEstimator,
    QualityQuestion,
)
from routing.domain.config import TaskType
from tests.routing.classification import build

MODELS, TAGS = ["big", "small"], ["code", "talk"]


def quality(arrays: dict[str, Numbers] | None = None, **trust: float) -> ArtefactQuality:
    settings = build.quality_settings(MODELS, TAGS, **trust)
    return ArtefactQuality.of(Artefact("x", {"quality": settings}, {**build.quality_arrays(2, 2), **(arrays or {})}))


def said(text: str = "", label: TaskType = UNKNOWN, known: float = 1.0) -> Classification:
    return Classification(label, known=known, features=packed(read(PromptText(text)).buckets) if text else ())


def table(rows: int, **cells: float) -> Numbers:
    """`r1c0=3` puts 3 into row 1, column 0."""
    found = np.zeros((rows, 2), dtype=np.float32)
    for name, value in cells.items():
        found[int(name[1]), int(name[3])] = value
    return found


def graded(level: str, rows: int, row: int, good: float, answers: float) -> dict[str, Numbers]:
    """Grades of the model “big”."""
    return {
        f"{level}_sums": table(rows, **{f"r{row}c0": good}),
        f"{level}_numbers": table(rows, **{f"r{row}c0": answers}),
    }


def speaks(column: int, columns: int, text: str, weight: int = 127) -> Numbers:
    found = np.zeros((HEAD_BUCKETS, columns), dtype=np.int8)
    found[narrowed(read(PromptText(text)).buckets), column] = weight
    return found


def test_it_is_a_quality_estimator() -> None:
    one: QualityEstimator = quality()
    assert one.estimate(QualityQuestion("big", "premium"))


@pytest.mark.parametrize(("tier", "mean"), [("economy", 0.6), ("premium", 0.8), ("no such", 0.7)])
def test_without_evidence_the_tier_is_all_there_is(tier: str, mean: float) -> None:
    for model in ("big", "never heard of"):
        found = quality().estimate(QualityQuestion(model, tier))
        assert (found.mean, found.samples, found.basis) == (pytest.approx(mean), 0, "cost tier")


def test_grades_move_the_mean_by_their_number() -> None:
    few = quality(graded("models", 1, 0, 1, 1)).estimate(QualityQuestion("big", "economy"))
    many = quality(graded("models", 1, 0, 90, 90)).estimate(QualityQuestion("big", "economy"))
    assert few.mean == pytest.approx((1 + 10 * 0.6) / 11)
    assert many.mean == pytest.approx((90 + 10 * 0.6) / 100)
    assert (few.samples, many.samples) == (1, 90)
    assert few.basis == many.basis == "model"


def test_grades_of_the_kind_of_work_build_on_those_of_the_model() -> None:
    arrays = {**graded("models", 1, 0, 50, 100), **graded("tasks", 5, 0, 10, 10)}
    found = quality(arrays).estimate(QualityQuestion("big", "economy", said(label=TaskType.CODING)))
    above = (50 + 10 * 0.6) / 110
    assert found.mean == pytest.approx((10 + 10 * above) / 20)
    assert (found.samples, found.basis) == (10, "task type")


def test_other_kinds_of_work_have_no_part_in_it() -> None:
    arrays = graded("tasks", 5, 0, 10, 10)
    found = quality(arrays).estimate(QualityQuestion("big", "economy", said(label=TaskType.CREATIVE)))
    assert found.mean == pytest.approx(0.6)


def test_the_tag_has_the_last_word_of_the_tables() -> None:
    arrays = {**graded("tasks", 5, 0, 10, 10), **graded("tags", 2, 1, 0, 40)}
    found = quality(arrays).estimate(QualityQuestion("big", "economy", said(label=TaskType.CODING), "talk"))
    assert found.mean == pytest.approx((10 * (10 + 6) / 20) / 50)
    assert (found.samples, found.basis) == (40, "tag")


def test_a_tag_nobody_graded_says_nothing() -> None:
    found = quality(graded("tags", 2, 1, 0, 40)).estimate(QualityQuestion("big", "economy", None, "code"))
    assert found.mean == pytest.approx(0.6)


def test_text_that_resembles_a_tag_is_estimated_as_that_tag() -> None:
    arrays = {**graded("tags", 2, 1, 0, 90), "clusters": speaks(1, 2, "tell me a story")}
    one = quality(arrays, cluster_share=1.0, head_share=0.0)
    like = one.estimate(QualityQuestion("big", "economy", said("tell me a story")))
    unlike = one.estimate(QualityQuestion("big", "economy", said("qqq zzz")))
    assert like.basis == "cluster"
    assert like.mean < 0.1 < unlike.mean < 0.6


def test_a_tag_that_is_known_needs_no_resemblance() -> None:
    arrays = {**graded("tags", 2, 1, 0, 90), "clusters": speaks(1, 2, "tell me a story")}
    one = quality(arrays, head_share=0.0)
    found = one.estimate(QualityQuestion("big", "economy", said("tell me a story"), "code"))
    assert found.mean == pytest.approx(0.6)


def test_the_head_moves_the_estimate_by_its_share() -> None:
    one = quality({"heads": speaks(0, 2, "hard sums")}, cluster_share=0.0, head_share=0.5)
    high = one.estimate(QualityQuestion("big", "economy", said("hard sums"))).mean
    other = one.estimate(QualityQuestion("small", "economy", said("hard sums"))).mean
    assert high == pytest.approx((0.6 + 1.0) / 2, abs=0.01)
    assert other == pytest.approx((0.6 + 0.5) / 2)


@pytest.mark.parametrize(("known", "moved"), [(0.0, 0.0), (0.4, 0.0), (0.5, 0.5), (0.6, 1.0), (1.0, 1.0)])
def test_unfamiliar_text_counts_for_less(known: float, moved: float) -> None:
    arrays = {"heads": speaks(0, 2, "hard sums")}
    one = quality(arrays, cluster_share=0.0, head_share=0.5, known_low=0.4, known_high=0.6)
    found = one.estimate(QualityQuestion("big", "economy", said("hard sums", known=known)))
    assert found.mean == pytest.approx(0.6 + moved * 0.2, abs=0.01)


def test_unknown_traffic_equals_the_policy_without_a_router() -> None:
    arrays = {
        **graded("tags", 2, 1, 0, 90),
        **graded("models", 1, 0, 30, 50),
        "heads": speaks(0, 2, "x"),
        "clusters": speaks(1, 2, "x"),
    }
    one = quality(arrays, known_low=0.4, known_high=0.6)
    plain = one.estimate(QualityQuestion("big", "economy"))
    assert one.estimate(QualityQuestion("big", "economy", said("x", known=0.1))) == plain


def test_on_hard_text_an_ungraded_model_of_a_dear_tier_gains_what_a_cheap_one_loses() -> None:
    one = quality({"gain": speaks(0, 1, "hard sums", 1)}, gain_share=0.5)
    dear = one.estimate(QualityQuestion("new", "premium", said("hard sums")))
    cheap = one.estimate(QualityQuestion("new", "economy", said("hard sums")))
    assert dear.mean > 0.8
    assert cheap.mean < 0.6
    assert dear.mean - 0.8 == pytest.approx(0.6 - cheap.mean)
    assert (dear.samples, dear.basis) == (0, "cost tier and gain")


def test_a_view_serves_every_model_of_a_request() -> None:
    arrays = {**graded("tags", 2, 1, 0, 90), "clusters": speaks(1, 2, "a story"), "heads": speaks(0, 2, "a story")}
    one = quality(arrays)
    task = said("a story")
    view = one.view(task)
    for model in (*MODELS, "new"):
        question = QualityQuestion(model, "economy", task)
        assert one.estimate_of(question, view) == one.estimate(question)


def test_there_is_no_view_of_no_text() -> None:
    assert quality().view(None) is None
    assert quality().view(said()) is None


@given(
    st.text(max_size=60),
    st.sampled_from([*MODELS, "new"]),
    st.sampled_from(["economy", "premium", ""]),
    st.sampled_from([*TAGS, "", "other"]),
    st.floats(0, 1),
)
def test_an_estimate_is_a_share_whatever_is_asked(text: str, model: str, tier: str, tag: str, known: float) -> None:
    arrays = {
        **graded("tags", 2, 1, 40, 40),
        "heads": speaks(0, 2, "abc"),
        "gain": speaks(0, 1, "abc"),
        "clusters": speaks(0, 2, "abc"),
    }
    found = quality(arrays).estimate(QualityQuestion(model, tier, said(text, known=known), tag))
    assert 0 <= found.mean <= 1
    assert found.samples >= 0


def test_features_that_came_as_a_list_are_as_good() -> None:
    task = said("hard sums")
    listed = Classification(UNKNOWN, features=list(task.features))
    one = quality({"heads": speaks(0, 2, "hard sums")})
    assert isinstance(task.features, array)
    assert one.estimate(QualityQuestion("big", "", listed)) == one.estimate(QualityQuestion("big", "", task))


def test_nothing_graded_at_all_is_an_artefact_too() -> None:
    settings = build.quality_settings([], [])
    one = ArtefactQuality.of(Artefact("x", {"quality": settings}, build.quality_arrays(0, 0)))
    found = one.estimate(QualityQuestion("any", "premium", said("hello")))
    assert found.mean == pytest.approx(0.8)


@pytest.mark.parametrize(
    "change",
    [
        {"models": None},
        {"tasks": ["NOTHING"]},
        {"trust": {"no such": 1.0}},
        {"heads": {"scale": 1.0, "bias": [0.0]}},
        {"tiers": {"economy": "much"}},
        {"gain": {}},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    settings = {**build.quality_settings(MODELS, TAGS), **change}
    with pytest.raises(ArtefactError, match="Train"):
        ArtefactQuality.of(Artefact("x", {"quality": settings}, build.quality_arrays(2, 2)))


def test_tables_of_another_shape_are_refused() -> None:
    arrays = {**build.quality_arrays(2, 2), "tags_sums": table(1)}
    with pytest.raises(ArtefactError, match="tags_sums"):
        ArtefactQuality.of(Artefact("x", {"quality": build.quality_settings(MODELS, TAGS)}, arrays))


def test_an_artefact_without_quality_is_refused() -> None:
    with pytest.raises(ArtefactError, match="no quality estimates"):
        ArtefactQuality.of(build.artefact())


def test_trust_without_bounds_is_whole() -> None:
    assert Trust(known_low=0.0, known_high=0.0).of(0.0) == 1.0
    assert Trust(known_low=0.2, known_high=0.4).of(0.3) == pytest.approx(0.5)
