"""What is believed before anything is known."""

from dataclasses import FrozenInstanceError, replace

import pytest

from routing.domain.classification.types import QualityQuestion
from routing.domain.situation import (
    NO_SITUATION,
    TIER_QUALITY,
    UNKNOWN_STANDING,
    Situation,
    Standing,
    quality_by_tier,
    unknown_standing,
)
from tests.routing.domain import build


def believed(tier: str) -> float:
    return quality_by_tier(QualityQuestion("model", tier, None, "")).mean


def test_a_dearer_tier_is_believed_to_answer_better() -> None:
    means = [believed(tier) for tier in ("free", "economy", "standard", "premium")]
    assert means == sorted(set(means))
    assert all(0 < mean < 1 for mean in means)


@pytest.mark.parametrize("tier", ["", "platinum"])
def test_an_unknown_tier_is_believed_to_be_the_usual_one(tier: str) -> None:
    assert believed(tier) == TIER_QUALITY["standard"]


def test_a_belief_says_that_nobody_has_graded_anything() -> None:
    estimate = quality_by_tier(QualityQuestion("model", "premium", None, ""))
    assert estimate.samples == 0
    assert estimate.basis == "tier premium"


def test_what_nobody_has_measured_is_free_and_in_service() -> None:
    standing = unknown_standing(build.deployment(1))
    assert standing is UNKNOWN_STANDING
    assert standing == Standing(None, 0, 1.0, "")


def test_an_empty_situation_asks_for_nothing() -> None:
    assert Situation() == NO_SITUATION
    assert (NO_SITUATION.seed, NO_SITUATION.task, NO_SITUATION.rule, NO_SITUATION.budget_used) == ("", None, None, 0.0)


def test_whom_a_situation_asks_is_no_part_of_what_it_is() -> None:
    one = Situation(seed="a", standing=lambda _: Standing(1.0))
    assert one == replace(one, standing=lambda _: Standing(2.0))
    assert one != replace(one, seed="b")


def test_a_situation_does_not_change_under_a_decision() -> None:
    with pytest.raises(FrozenInstanceError):
        NO_SITUATION.turn = 3  # type: ignore[misc]
