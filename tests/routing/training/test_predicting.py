"""Predictions are what the classes that serve would say, one per row, in the order of the rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing.domain.classification.artefact import Artefact, load
from routing.training.building import TrainingInput, train
from routing.training.datasets import DatasetError
from routing.training.figures import apgr
from routing.training.predicting import PredictionInput, multi_predictions, pair_predictions, task_predictions
from tests.routing.training import data


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    given = TrainingInput(tasks=data.task_examples(), graded=data.graded_examples(120), prices=data.PRICES)
    return load(train(given, lambda line: None).data)


@pytest.fixture
def given(artefact: Artefact, tmp_path: Path) -> PredictionInput:
    return PredictionInput(artefact, data.write(tmp_path / "in.jsonl", data.task_rows()))


def test_every_row_gets_a_label_even_where_the_classifier_is_unsure(given: PredictionInput) -> None:
    found = list(task_predictions(given))
    assert [row["id"] for row in found] == [row["id"] for row in data.task_rows()]
    right = sum(row["label"] == asked["label"] for row, asked in zip(found, data.task_rows(), strict=True))
    assert right / len(found) > 0.95
    assert {row["sure"] for row in found} <= {True, False}
    assert all(0 < row["confidence"] <= 1 for row in found)


def test_rows_without_an_id_are_numbered(given: PredictionInput, tmp_path: Path) -> None:
    path = data.write(tmp_path / "plain.jsonl", [{"prompt": "hi"}, {"prompt": "ho"}])
    assert [row["id"] for row in task_predictions(replace(given, path=path))] == [1, 2]


def pairs(given: PredictionInput, tmp_path: Path, **files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    written = {name: data.write(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()}
    path = data.write(tmp_path / "asked.jsonl", data.pair_rows())
    return list(pair_predictions(replace(given, path=path, **written)))


def recovered(found: list[dict[str, Any]]) -> float:
    rows = data.pair_rows()
    return apgr([row["score"] for row in found], [row["strong"] for row in rows], [row["weak"] for row in rows])


@pytest.mark.parametrize("names", [("train",), ("graded",), ("train", "graded")])
def test_a_pair_is_scored_from_either_kind_of_grades(given: PredictionInput, tmp_path: Path, names: tuple[str]) -> None:
    found = pairs(given, tmp_path, **dict.fromkeys(names, data.pair_rows(120)))
    assert [row["id"] for row in found] == [row["id"] for row in data.pair_rows()]
    assert recovered(found) > 0.7


def test_a_pair_without_grades_says_what_is_missing(given: PredictionInput) -> None:
    with pytest.raises(DatasetError, match="--train, --graded"):
        list(pair_predictions(given))


def test_grades_of_other_models_are_no_pair(given: PredictionInput, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="“strong” and “weak”"):
        pairs(given, tmp_path, train=data.graded_rows())


def multi(given: PredictionInput, tmp_path: Path, with_tag: bool = False, **files: Any) -> list[dict[str, Any]]:
    written = {name: data.write(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()}
    path = data.write(tmp_path / "asked.jsonl", data.graded_rows())
    return list(multi_predictions(replace(given, path=path, with_tag=with_tag, **written)))


def apart(found: list[dict[str, Any]]) -> float:
    """How much better the small model is thought to be at poems than at proofs."""
    small = [row["quality"]["small"] for row in found]
    return sum(small[1::2]) / len(small[1::2]) - sum(small[0::2]) / len(small[0::2])


def test_each_model_has_an_expected_quality(given: PredictionInput, tmp_path: Path) -> None:
    found = multi(given, tmp_path)
    assert len(found) == 40
    assert all(set(row["quality"]) == {"big", "small"} for row in found)
    assert all(0 <= value <= 1 for row in found for value in row["quality"].values())


def test_the_tag_is_told_only_when_asked_for(given: PredictionInput, tmp_path: Path) -> None:
    assert apart(multi(given, tmp_path, with_tag=True)) > 0.3


@pytest.mark.parametrize("names", [("train",), ("graded",), ("train", "graded")])
def test_graded_files_take_the_place_of_the_artefacts_grades(
    given: PredictionInput, tmp_path: Path, names: tuple[str]
) -> None:
    turned = [{**row, "scores": {"big": 1.0, "small": 1 - row["scores"]["small"]}} for row in data.graded_rows(120)]
    assert apart(multi(given, tmp_path, with_tag=True, **dict.fromkeys(names, turned))) < -0.3


def test_predictions_are_the_same_twice(given: PredictionInput, tmp_path: Path) -> None:
    rows = data.graded_rows(60)
    assert multi(given, tmp_path, train=rows) == multi(given, tmp_path, train=rows)
    assert pairs(given, tmp_path, graded=data.pair_rows()) == pairs(given, tmp_path, graded=data.pair_rows())
