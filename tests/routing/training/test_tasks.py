"""Training learns from all sources but the one it is judged on, and says how sure it may be."""

from random import Random

import numpy as np
import pytest

from routing.domain.classification.artefact import Artefact, ArtefactError
from routing.domain.classification.features import READING, WORDS, read
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import TASKS, TaskExample
from routing.training.prompts import with_noise
from routing.training.tasks import (
    LeftOut,
    family,
    fit_tasks,
    fitted_of,
    left_out,
    read_all,
    seen_words,
    task_arrays,
    temperature,
    threshold,
)
from tests.routing.classification import build
from tests.routing.training import data

EXAMPLES = read_all(data.task_examples())
MODEL = fit_tasks(EXAMPLES, seed=1)


def quiet(line: str) -> None:
    """Nobody listens."""


def said(text: str) -> TaskType:
    return TASKS[int(MODEL.scores(read(PromptText(text)).buckets).argmax())]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("write a function in python please", TaskType.CODING),
        ("tell me a story", TaskType.CREATIVE),
        ("summarize the text", TaskType.ANALYSIS),
        ("solve the equation", TaskType.COMPLEX_REASONING),
        ("who invented it", TaskType.SIMPLE_QA),
    ],
)
def test_it_learns_the_kinds_of_work(text: str, label: TaskType) -> None:
    assert said(text) is label


def test_it_learns_the_same_twice() -> None:
    again = fit_tasks(read_all(data.task_examples()), seed=1)
    assert again.table.tobytes() == MODEL.table.tobytes()


def test_each_source_is_asked_of_a_model_that_has_not_seen_it() -> None:
    told: list[str] = []
    held = left_out(EXAMPLES, 1, told.append)
    assert told == [f"left out: source{number}" for number in range(4)]
    assert sorted(example.id for example in held.examples) == sorted(item.example.id for item in EXAMPLES)
    assert held.figures().macro_f1 > 0.9
    assert set(held.of_source()) == {f"source{number}" for number in range(4)}


def test_a_label_that_only_one_source_has_cannot_be_found_without_it() -> None:
    alone = [
        TaskExample(one.prompt, one.label, "alone" if one.label is TaskType.CODING else "rest", id=one.id)
        for one in data.task_examples()
    ]
    held = left_out(read_all(alone), 1, quiet)
    assert held.of_source()["alone"] == 0.0


def test_the_projects_own_prompts_are_never_a_test() -> None:
    own = [TaskExample(one.prompt, one.label, "own/de", id=one.id) for one in data.task_examples()]
    held = left_out(read_all([*own, *data.task_examples(2)]), 1, quiet)
    assert {family(example.source) for example in held.examples} == {"source0", "source1"}


def test_with_nothing_but_own_prompts_there_is_no_evidence() -> None:
    own = read_all([TaskExample(one.prompt, one.label, "own/en") for one in data.task_examples()])
    held = left_out(own, 1, quiet)
    assert held.examples == []
    assert temperature(held) == 1.0
    assert threshold(held, 1.0) == 0.5


def test_more_sources_than_folds_are_left_out_in_groups() -> None:
    told: list[str] = []
    left_out(read_all(data.task_examples(30)), 1, told.append)
    assert len(told) == 12


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("t0/one_template", "t0"),
        ("t0/another", "t0"),
        ("authored/de", "authored"),
        ("own/CODING/7", "own"),
        ("llmrouter/gsm8k", "llmrouter/gsm8k"),
        ("plain", "plain"),
    ],
)
def test_templates_of_one_collection_are_left_out_together(source: str, name: str) -> None:
    assert family(source) == name


def held_with(scores: list[list[float]], labels: list[TaskType]) -> LeftOut:
    examples = [TaskExample(PromptText("x"), label, "s") for label in labels]
    return LeftOut(examples, np.array(scores, dtype=np.float64))


def test_a_model_that_is_too_sure_is_cooled() -> None:
    sure_and_wrong = [[9.0, 0, 0, 0, 0]] * 10
    labels = [TASKS[0]] * 6 + [TASKS[1]] * 4
    assert temperature(held_with(sure_and_wrong, labels)) > 2
    assert temperature(held_with([[1.0, 0, 0, 0, 0]] * 10, [TASKS[0]] * 10)) < 1


def test_the_threshold_lets_four_in_five_through() -> None:
    scores = [[float(number), 0, 0, 0, 0] for number in range(100)]
    held = held_with(scores, [TASKS[0]] * 100)
    limit = threshold(held, 50.0)
    sure = [np.exp(row[0] / 50) / (np.exp(row[0] / 50) + 4) for row in scores]
    assert sum(value >= limit for value in sure) == pytest.approx(80, abs=2)


def test_a_word_is_known_when_two_prompts_use_it() -> None:
    readings = [read(PromptText(text)) for text in ("red red boat", "blue boat")]
    known = np.unpackbits(seen_words(readings)).astype(bool)
    assert len(known) == WORDS
    assert known[read(PromptText("boat")).words].all()
    assert not known[read(PromptText("red")).words].any()


def test_what_is_kept_classifies_as_what_was_fitted() -> None:
    arrays, settings = task_arrays(MODEL, seen_words([item.reading for item in EXAMPLES]))
    classifier = LinearClassifier.of(
        Artefact("x", {"reading": READING, "task": {**settings, "temperature": 1.0, "threshold": 0.0}}, arrays)
    )
    same = sum(classifier.classify(item.example.prompt).label is said(item.example.prompt.text) for item in EXAMPLES)
    assert same == len(EXAMPLES)


def test_labels_are_kept_under_typing_errors() -> None:
    rng = Random(1)
    texts = [item.example.prompt.text for item in EXAMPLES]
    kept = sum(said(with_noise(text, 0.02, rng)) is said(text) for text in texts)
    assert kept / len(texts) >= 0.95


def test_an_artefact_can_be_gone_on_from() -> None:
    arrays, settings = task_arrays(MODEL, seen_words([]))
    whole = {**settings, "temperature": 1.0, "threshold": 0.5}
    old = fitted_of(Artefact("x", {"reading": READING, "task": whole}, arrays))
    assert np.median(np.abs(old.table - MODEL.table)[MODEL.table != 0]) < 0.02
    taught = [TaskExample(PromptText(f"zorp the {thing}"), TaskType.CREATIVE, "mine") for thing in data.THINGS]
    new = fit_tasks(read_all(taught), 1, old)
    assert TASKS[int(new.scores(read(PromptText("zorp the hat")).buckets).argmax())] is TaskType.CREATIVE
    assert TASKS[int(new.scores(read(PromptText("who invented the tower")).buckets).argmax())] is TaskType.SIMPLE_QA


def test_an_artefact_of_other_kinds_of_work_cannot() -> None:
    other = build.artefact(tasks=list(reversed(build.TASKS)))
    with pytest.raises(ArtefactError, match="other kinds of work"):
        fitted_of(other)
