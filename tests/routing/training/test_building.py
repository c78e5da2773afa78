"""A training is a function of its input: the same bytes twice, and a card that says what went in."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from routing.domain.classification.artefact import card_check, card_text, load
from routing.domain.classification.features import read
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import ArtefactQuality
from routing.domain.classification.types import UNKNOWN, Classification, PromptText, QualityQuestion
from routing.domain.config import TaskType
from routing.training.building import LEAST_COMPLETE, TrainingInput, train
from routing.training.examples import GradedExample, TaskExample
from routing.training.gates import judged
from routing.training.tasks import ReadExample
from tests.routing.training import data

GIVEN = TrainingInput(
    tasks=data.task_examples(),
    graded=data.graded_examples(120),
    pairs=data.pair_examples(),
    prices=data.PRICES,
    hashes={"a.jsonl": "abc"},
    seed=4,
    date="2026-11-21",
)


def quiet(line: str) -> None:
    """Nobody listens."""


TRAINED = train(GIVEN, quiet)


def test_two_trainings_are_identical_to_the_byte() -> None:
    again = train(GIVEN, quiet)
    assert again.data == TRAINED.data
    assert card_text(again.card) == card_text(TRAINED.card)


def test_another_process_trains_the_same() -> None:
    code = (
        "from routing.training.building import train; from tests.routing.training.test_building import GIVEN;"
        "print(train(GIVEN, lambda line: None).version)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout.strip() == TRAINED.version


def test_another_seed_is_another_artefact() -> None:
    other = train(replace(GIVEN, seed=5), quiet, evaluate=False)
    assert other.version != train(GIVEN, quiet, evaluate=False).version


def test_what_was_trained_serves() -> None:
    artefact = load(TRAINED.data)
    found = LinearClassifier.of(artefact).classify(PromptText("write a poem about a tree"))
    assert found.label is TaskType.CREATIVE
    quality = ArtefactQuality.of(artefact)
    poems = quality.estimate(QualityQuestion("small", "economy", found, "poems"))
    proofs = quality.estimate(QualityQuestion("small", "economy", found, "proofs"))
    assert poems.mean > proofs.mean + 0.3
    assert poems.basis == "tag"


def test_the_card_belongs_to_the_bytes_and_says_what_went_in() -> None:
    card = card_check(card_text(TRAINED.card), TRAINED.data)
    assert card["version"] == TRAINED.version
    assert card["bytes"] == len(TRAINED.data)
    assert (card["seed"], card["date"], card["goes_on_from"]) == (4, "2026-11-21", "")
    assert card["data"]["files_sha256"] == {"a.jsonl": "abc"}
    assert card["data"]["prompts"] == len(GIVEN.tasks)
    assert card["data"]["graded"] == 120
    assert sum(card["data"]["prompts_by_label"].values()) == len(GIVEN.tasks)
    assert card["data"]["licences"]["source0: CC0"] == sum(one.source == "source0" for one in GIVEN.tasks)


def test_the_card_has_the_figures_of_what_was_left_out() -> None:
    figures = TRAINED.card["figures"]
    assert figures["task"]["examples"] == len(GIVEN.tasks)
    assert set(figures["task"]["accuracy_by_left_out_source"]) == {f"source{number}" for number in range(4)}
    assert figures["task"]["lowest_f1"] == min(figures["task"]["f1"].values())
    assert set(figures["unseen"]) == {"poems", "proofs"}
    assert figures["seen_with_tag"]["aiq"] >= figures["seen"]["no_router"]
    assert 0 <= figures["pair_unseen_domains_apgr"] <= 1
    assert json.loads(card_text(TRAINED.card))["figures"] == figures


def test_the_artefact_passes_its_own_gates() -> None:
    assert judged(TRAINED.card).passed


def test_it_is_calibrated_on_what_was_left_out() -> None:
    settings = load(TRAINED.data).settings["task"]
    assert 0 < settings["threshold"] < 1
    assert settings["temperature"] > 0


def test_without_evaluation_there_are_no_figures_and_the_text_has_no_say_in_quality() -> None:
    fast = train(GIVEN, quiet, evaluate=False)
    assert fast.card["figures"] == {}
    settings = load(fast.data).settings
    assert (settings["task"]["temperature"], settings["task"]["threshold"]) == (1.0, 0.5)
    assert settings["quality"]["trust"]["head_share"] == 0


def test_without_grades_the_artefact_still_has_its_tiers() -> None:
    quality = ArtefactQuality.of(load(train(replace(GIVEN, graded=(), pairs=()), quiet).data))
    assert quality.models == ()
    premium, economy = (quality.estimate(QualityQuestion("any", tier)).mean for tier in ("premium", "economy"))
    assert premium > economy


def test_with_too_few_complete_grades_only_the_tables_count() -> None:
    few = train(replace(GIVEN, graded=data.graded_examples(LEAST_COMPLETE - 1)), quiet)
    assert "seen" not in few.card["figures"]
    quality = ArtefactQuality.of(load(few.data))
    assert (quality.trust.cluster_share, quality.trust.head_share) == (0, 0)
    assert quality.estimate(QualityQuestion("small", "", None, "poems")).samples > 0


def test_grades_of_single_models_are_enough_for_the_tables() -> None:
    usage = [
        GradedExample(PromptText(f"question {number}"), {("big", "small")[number % 2]: float(number % 2)}, "support")
        for number in range(150)
    ]
    trained = train(replace(GIVEN, graded=usage, pairs=()), quiet)
    assert "seen" not in trained.card["figures"]
    quality = ArtefactQuality.of(load(trained.data))
    small, big = (quality.estimate(QualityQuestion(model, "", None, "support")) for model in ("small", "big"))
    assert small.mean > 0.9
    assert big.mean < 0.1
    assert small.samples == big.samples == 75


def test_records_that_kept_features_and_no_text_teach_too() -> None:
    kept = [
        ReadExample(TaskExample(PromptText(""), TaskType.CREATIVE, "usage"), read(PromptText(f"zorp the {thing}")))
        for thing in data.THINGS
    ]
    classifier = LinearClassifier.of(load(train(replace(GIVEN, read=kept), quiet, evaluate=False).data))
    scores = classifier.classify(PromptText("zorp the hat")).scores
    assert max(scores, key=scores.__getitem__) is TaskType.CREATIVE


def test_grades_of_records_without_text_count_too() -> None:
    kept = Classification(UNKNOWN, features=(1, 2, 3))
    graded = [GradedExample(PromptText(""), {"small": 1.0}, "usage", task=kept) for _ in range(30)]
    quality = ArtefactQuality.of(load(train(replace(GIVEN, graded=graded, pairs=()), quiet, evaluate=False).data))
    assert quality.estimate(QualityQuestion("small", "", None, "usage")).samples == 30


def test_it_can_go_on_from_an_older_artefact() -> None:
    few = [TaskExample(PromptText(f"zorp the {thing}"), TaskType.CREATIVE, "mine") for thing in data.THINGS]
    trained = train(TrainingInput(tasks=few, start=load(TRAINED.data)), quiet, evaluate=False)
    assert trained.card["goes_on_from"] == TRAINED.version
    classifier = LinearClassifier.of(load(trained.data))
    for text, label in (("zorp the hat", TaskType.CREATIVE), ("who invented the tower", TaskType.SIMPLE_QA)):
        scores = classifier.classify(PromptText(text)).scores
        assert max(scores, key=scores.__getitem__) is label


@pytest.mark.parametrize("evaluate", [True, False])
def test_whoever_waits_is_told_how_far_it_is(evaluate: bool) -> None:
    told: list[str] = []
    train(GIVEN, told.append, evaluate=evaluate)
    assert told[0] == f"{len(GIVEN.tasks)} prompts with a kind of work, 120 graded, 60 pairs"
    assert (len(told) > 5) is evaluate
