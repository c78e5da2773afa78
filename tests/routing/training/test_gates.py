"""An artefact that is worse than the old one, or than no router, does not take over."""

from typing import Any

import pytest

from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import TaskExample
from routing.training.figures import TaskFigures
from routing.training.gates import golden_figures, judged
from tests.routing.classification import build


def figures(**f1: float) -> TaskFigures:
    return TaskFigures(100, sum(f1.values()) / len(f1), 0.8, 0.9, f1)


def card(seen: tuple[float, float] | None = None, **unseen: tuple[float, float]) -> dict[str, Any]:
    """Pairs of quality for money with and without a router."""

    def told(pair: tuple[float, float]) -> dict[str, float]:
        return {"aiq": pair[0], "no_router": pair[1]}

    found: dict[str, Any] = {}
    if seen:
        found["seen"] = told(seen)
    if unseen:
        found["unseen"] = {tag: told(pair) for tag, pair in unseen.items()}
    return {"figures": found}


def test_as_good_as_before_passes() -> None:
    same = figures(CODING=0.8, CREATIVE=0.7)
    assert judged(card(), same, same).passed


def test_two_points_may_be_lost_and_no_more() -> None:
    old = figures(CODING=0.8, CREATIVE=0.7)
    assert judged(card(), figures(CODING=0.781, CREATIVE=0.9), old).passed
    verdict = judged(card(), figures(CODING=0.77, CREATIVE=0.9), old)
    assert verdict.complaints == ("CODING: F1 falls from 0.800 to 0.770; 0.02 is the most that may be lost.",)


def test_a_class_that_is_gone_is_lost() -> None:
    assert not judged(card(), figures(CREATIVE=0.9), figures(CODING=0.8, CREATIVE=0.7)).passed


def test_the_first_one_has_to_be_better_than_guessing() -> None:
    assert judged(card(), figures(CODING=0.6, CREATIVE=0.6)).passed
    assert not judged(card(), figures(CODING=0.2, CREATIVE=0.3)).passed


def test_no_golden_prompts_are_no_complaint() -> None:
    assert judged(card()).passed


def test_unseen_traffic_may_never_be_served_worse_than_without_a_router() -> None:
    assert judged(card(maths=(0.50, 0.48), law=(0.60, 0.61))).passed  # on average better
    [complaint] = judged(card(maths=(0.47, 0.48), law=(0.60, 0.61))).complaints
    assert complaint == "unseen traffic: quality for money is 0.5350, below 0.5450 without a router."


def test_nor_may_seen_traffic() -> None:
    assert not judged(card(seen=(0.70, 0.75))).passed
    assert judged(card(seen=(0.75, 0.75))).passed


def test_every_complaint_is_told() -> None:
    verdict = judged(card(seen=(0.1, 0.2), x=(0.1, 0.2)), figures(CODING=0.1), figures(CODING=0.9))
    assert len(verdict.complaints) == 3


def test_golden_prompts_are_asked_of_the_classifier_itself() -> None:
    golden = [
        TaskExample(PromptText("a python function"), TaskType.CODING, "x"),
        TaskExample(PromptText("a poem"), TaskType.CREATIVE, "x"),
        TaskExample(PromptText("the capital"), TaskType.CREATIVE, "x"),
    ]
    found = golden_figures(build.artefact(), golden)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.f1["CODING"] == 1.0
