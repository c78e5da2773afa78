"""The classifier that ships: one table of weights, one sum per prompt, and no guess where the sum says little.

A prompt's score for a kind of work is the sum of its features' weights over the root of their number; the scores become
probabilities by a temperature that training fits on sources it had left out. Below the threshold the answer is UNKNOWN.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.artefact import Artefact, ArtefactError, array_of
from routing.domain.classification.features import BUCKETS, READING, WORDS, Indices, Reading, cut, packed, read
from routing.domain.classification.types import UNKNOWN, Classification, PromptText
from routing.domain.config import TaskType

WIDTH: Final = 8  # weights are gathered eight bytes at a time, as one number
EXPLAINED_WORDS: Final = 40
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Weights:
    """One int8 row per bucket. A row is read as a whole, so rows are filled up to eight columns."""

    rows: NDArray[np.uint64] = field(repr=False)
    columns: int
    scale: float
    bias: tuple[float, ...]

    @classmethod
    def of(cls, table: NDArray[np.int8], scale: float, bias: tuple[float, ...]) -> "Weights":
        columns = table.shape[1]
        filled = np.zeros((len(table), max(1, -(-columns // WIDTH)) * WIDTH), dtype=np.int8)
        filled[:, :columns] = table
        return cls(filled.view(np.uint64), columns, scale, bias)

    def scores(self, buckets: Indices) -> list[float]:
        """The sum of the rows over the root of their number, plus the bias: one number per column."""
        if not len(buckets):
            return list(self.bias)
        gathered = self.rows.take(buckets, axis=0).view(np.int8).astype(np.float32)
        sums = np.ones(len(buckets), dtype=np.float32) @ gathered.reshape(len(buckets), -1)
        share = self.scale / math.sqrt(len(buckets))
        return [share * total + bias for total, bias in zip(sums.tolist(), self.bias, strict=False)]


@dataclass(frozen=True, slots=True)
class WordContribution:
    """How much of the label's probability goes when the word does; negative speaks against the label."""

    word: str
    share: float


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    grown = [math.exp(score - top) for score in scores]
    total = sum(grown)
    return [value / total for value in grown]


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """Satisfies `TaskClassifier`. It has no state but its numbers: any number of threads may use one."""

    version: str
    tasks: tuple[TaskType, ...]
    weights: Weights
    seen_words: NDArray[np.bool_] = field(repr=False)
    temperature: float
    threshold: float

    @classmethod
    def of(cls, artefact: Artefact) -> "LinearClassifier":
        """Raises ArtefactError when the artefact is not one of a classifier, or of another reading of text."""
        settings = artefact.settings.get("task")
        if artefact.settings.get("reading") != READING or not isinstance(settings, dict):
            raise ArtefactError(f"The artefact was not trained for this classifier ({READING}). Train a new one.")
        try:
            tasks = tuple(TaskType(name) for name in settings["tasks"])
            scale, temperature = float(settings["scale"]), float(settings["temperature"])
            threshold, bias = float(settings["threshold"]), tuple(float(value) for value in settings["bias"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                f"The artefact's settings of the classifier are wrong: {error!r}. Train one."
            ) from error
        table = array_of(artefact, "task_weights", (BUCKETS, len(tasks)), "int8")
        seen = np.unpackbits(array_of(artefact, "seen_words", (WORDS // 8,), "uint8")).astype(np.bool_)
        if temperature <= 0 or len(bias) != len(tasks):
            raise ArtefactError("The artefact's temperature or bias is wrong. Train a new one.")
        return cls(artefact.version, tasks, Weights.of(table, scale, bias), seen, temperature, threshold)

    def probabilities(self, reading: Reading) -> list[float]:
        """One per task, in the order of `tasks`; they sum to 1."""
        return softmax([score / self.temperature for score in self.weights.scores(reading.buckets)])

    def classify(self, prompt: PromptText) -> Classification:
        """The kind of work, UNKNOWN below the threshold. Takes any text; never raises."""
        reading = read(prompt)
        probabilities = self.probabilities(reading)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        confidence = probabilities[best]
        return Classification(
            label=self.tasks[best] if confidence >= self.threshold else UNKNOWN,
            confidence=confidence,
            scores=dict(zip(self.tasks, probabilities, strict=True)),
            known=self.known(reading),
            features=packed(reading.buckets),
        )

    def known(self, reading: Reading) -> float:
        """The share of the words and pairs of words that training has seen, 0 to 1."""
        if not len(reading.words):
            return 0.0
        return int(np.count_nonzero(self.seen_words[reading.words])) / len(reading.words)

    def contributions(self, prompt: PromptText) -> tuple[WordContribution, ...]:
        """What each word did for the likeliest label: the prompt is read again without it, one word after another.

        Strongest first; at most 40 words. For explanations: it costs a classification per word.
        """
        text = cut(prompt.text)
        whole = self.probabilities(read(prompt))
        best = max(range(len(whole)), key=whole.__getitem__)
        found = []
        for word in list(dict.fromkeys(match.group().lower() for match in _WORD.finditer(text)))[:EXPLAINED_WORDS]:
            without = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", " ", text, flags=re.IGNORECASE)
            rest = self.probabilities(read(PromptText(without, prompt.system)))
            found.append(WordContribution(word, whole[best] - rest[best]))
        return tuple(sorted(found, key=lambda item: (-abs(item.share), item.word)))
