"""Training the classifier, and finding out how good it is on sources that it has never seen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.artefact import Artefact, ArtefactError, Numbers
from routing.domain.classification.features import WORDS, Reading, read
from routing.domain.classification.linear import LinearClassifier, softmax
from routing.training.examples import TASKS, TaskExample
from routing.training.figures import TaskFigures, task_figures
from routing.training.fitting import Fitted, Pace, balanced, fit, quantised

FOLDS: Final = 12  # sources are left out one by one, or in this many groups where there are more
HIGHEST_THRESHOLD: Final = 0.95  # on data that are too easy everything is sure
COVERAGE: Final = 0.8  # the share of prompts that gets an answer; the others are UNKNOWN
GENTLE_PASSES: Final = 3
GENTLE_RATE: Final = 1.0
SEEN_TWICE: Final = 2  # a word that one prompt has used is not known yet
OWN: Final = "own"  # what the project wrote itself is training data, never a test

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReadExample:
    example: TaskExample
    reading: Reading


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What models that had not seen a prompt's source say of it: a row of scores per prompt, in order of `examples`."""

    examples: list[TaskExample]
    scores: NDArray[np.float64]

    def figures(self) -> TaskFigures:
        best = self.scores.argmax(axis=1)
        sure = [max(softmax(row)) for row in self.scores.tolist()]
        labels = [example.label.value for example in self.examples]
        return task_figures(labels, [TASKS[at].value for at in best], sure)

    def of_source(self) -> dict[str, float]:
        """Accuracy by source."""
        right: dict[str, list[bool]] = {}
        for example, at in zip(self.examples, self.scores.argmax(axis=1).tolist(), strict=True):
            right.setdefault(family(example.source), []).append(TASKS[at] is example.label)
        return {name: sum(hits) / len(hits) for name, hits in sorted(right.items())}


def family(source: str) -> str:
    """What is left out together: the templates of one collection, all languages of one author. A source that names
    a collection and a set, as “llmrouter/gsm8k”, is a set of its own."""
    head, _, _ = source.partition("/")
    return head if head in {OWN, "authored", "t0"} else source


def read_all(examples: Sequence[TaskExample]) -> list[ReadExample]:
    return [ReadExample(example, read(example.prompt)) for example in examples]


def fit_tasks(examples: Sequence[ReadExample], seed: int, start: Fitted | None = None) -> Fitted:
    """`start` is an older model whose data are not at hand: it is taught the examples gently, and forgets little."""
    targets = np.zeros((len(examples), len(TASKS)), dtype=np.float32)
    for row, item in enumerate(examples):
        targets[row, TASKS.index(item.example.label)] = 1.0
    sources = [item.example.source for item in examples]
    weights = balanced(sources, [item.example.label.value for item in examples])
    pace = Pace(passes=GENTLE_PASSES, rate=GENTLE_RATE, seed=seed) if start else Pace(seed=seed)
    return fit([item.reading.buckets for item in examples], targets, weights, "softmax", pace, start)


def fitted_of(artefact: Artefact) -> Fitted:
    """The weights of an artefact, to go on from. Raises ArtefactError when it holds no classifier of this version."""
    LinearClassifier.of(artefact)  # says what is wrong with it
    settings = artefact.settings["task"]
    if settings["tasks"] != [task.value for task in TASKS]:
        raise ArtefactError("The artefact knows other kinds of work. Train without going on from it.")
    table = artefact.arrays["task_weights"].astype(np.float32) * np.float32(settings["scale"])
    return Fitted(table, np.array(settings["bias"], dtype=np.float32))


def left_out(examples: Sequence[ReadExample], seed: int, told: Told, start: Fitted | None = None) -> LeftOut:
    """Each source is asked of a model trained on all the others. The project's own prompts are in every model."""
    families = sorted({family(item.example.source) for item in examples} - {OWN, "authored"})
    groups = [families[at::FOLDS] for at in range(min(FOLDS, len(families)))]
    found: list[tuple[TaskExample, list[float]]] = []
    for group in groups:
        told(f"left out: {', '.join(group)[:70]}")
        rest = [item for item in examples if family(item.example.source) not in group]
        model = fit_tasks(rest, seed, start)
        found += [
            (item.example, model.scores(item.reading.buckets).tolist())
            for item in examples
            if family(item.example.source) in group
        ]
    scores = np.array([scores for _, scores in found], dtype=np.float64).reshape(len(found), len(TASKS))
    return LeftOut([example for example, _ in found], scores)


def temperature(held: LeftOut) -> float:
    """What the scores are divided by, so that of the answers given with 0.8 four in five are right."""
    if not held.examples:
        return 1.0
    truth = [TASKS.index(example.label) for example in held.examples]

    def surprise(value: float) -> float:
        rows = held.scores / value
        rows = rows - rows.max(axis=1, keepdims=True)
        likely = rows[np.arange(len(rows)), truth] - np.log(np.exp(rows).sum(axis=1))
        return -float(likely.mean())

    return min((round(0.2 + 0.05 * step, 2) for step in range(97)), key=surprise)


def threshold(held: LeftOut, divided_by: float) -> float:
    """The confidence that the surest 80 % reach, rounded down, and 0.95 at most. 0.5 without evidence."""
    if not held.examples:
        return 0.5
    sure = sorted((max(softmax(row)) for row in (held.scores / divided_by).tolist()), reverse=True)
    reached = sure[min(len(sure) - 1, int(COVERAGE * len(sure)))]
    return min(HIGHEST_THRESHOLD, math.floor(reached * 10_000) / 10_000)


def seen_words(readings: Sequence[Reading]) -> NDArray[np.uint8]:
    """A bit per word that at least two prompts use."""
    counts = np.zeros(WORDS, dtype=np.uint16)
    for reading in readings:
        counts[np.unique(reading.words)] += 1
    return np.packbits(counts >= SEEN_TWICE)


def task_arrays(model: Fitted, words: NDArray[np.uint8]) -> tuple[dict[str, Numbers], dict[str, object]]:
    """What the artefact keeps of a classifier: numbers, and settings without temperature and threshold."""
    table, scale = quantised(model.table)
    settings = {
        "tasks": [task.value for task in TASKS],
        "scale": scale,
        "bias": [round(value, 6) for value in model.bias.tolist()],
    }
    return {"task_weights": table, "seen_words": words}, settings
