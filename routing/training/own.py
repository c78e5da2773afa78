"""Estimates for traffic of one's own, from a few hundred graded prompts of it.

What other traffic taught is the prior; the own grades correct it. A few hundred prompts are too few for gradient
descent over thousands of buckets but enough for ridge regression, which may also see the shape of a text: how long it
is, how many numbers it has. Across kinds of traffic shape misleads; within one it is the best there is.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.features import BITS, unpacked
from routing.domain.classification.quality import Trust, narrowed
from routing.domain.classification.types import Classification
from routing.training.datasets import STRONG, WEAK
from routing.training.fitting import Fitted
from routing.training.quality import Graded, QualityParts, levelled, quality_parts, summed

Matrix = NDArray[np.float64]

RIDGE_BITS: Final = 12
RIDGE: Final = 3.0
MOST_ROWS: Final = 3000  # the ridge solves a system of that size
PRIOR_GRADES: Final = 30.0  # how many own grades the means of other traffic are worth
OWN_TRUST: Final = Trust(prior_answers=10.0, cluster_share=1.0, head_share=0.2, known_low=0.0, known_high=0.0)
_SHAPE_WEIGHT: Final = 0.4
_COLD_WEIGHT: Final = 0.2
_NUMBER: Final = re.compile(r"\d[\d,.]*")
_PARTS: Final = re.compile(r"half|third|quarter|twice|times|double|each|every")


def shape(text: str) -> list[float]:
    """How long, how many numbers and sentences, whether parts and percentages are spoken of, and the largest number."""
    numbers = _NUMBER.findall(text)
    sizes = [_size(number) for number in numbers]
    return [
        math.log1p(len(text)),
        math.sqrt(len(numbers)),
        math.log1p(text.count(".") + text.count("?")),
        math.sqrt(len(set(numbers))),
        float("%" in text or "percent" in text),
        float(bool(_PARTS.search(text.lower()))),
        math.log1p(max(sizes, default=0.0)),
    ]


def _size(number: str) -> float:
    try:
        return min(float(number.replace(",", "").rstrip(".")), 1e12)
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True)
class OwnGain:
    """How much better the strong model does, by ridge regression over own prompts. Higher: ask the strong one."""

    mean: Matrix
    spread: Matrix
    weights: Matrix
    cold: Fitted | None

    def scores(self, texts: Sequence[str], tasks: Sequence[Classification]) -> list[float]:
        raw = _shapes(texts, tasks, self.cold)
        rows = _matrix(tasks, (raw - self.mean) / self.spread)
        return [float(value) for value in rows @ self.weights]


def own_gain(graded: Graded, cold: Fitted | None) -> OwnGain:
    """Fitted to the first 3,000 prompts. `cold` is what other traffic taught about the gain, where something did."""
    graded = graded.only(range(min(MOST_ROWS, len(graded.examples))))
    raw = _shapes([example.prompt.text for example in graded.examples], graded.tasks, cold)
    mean, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-9
    rows = _matrix(graded.tasks, (raw - mean) / spread)
    gains = (graded.scores[:, graded.models.index(STRONG)] - graded.scores[:, graded.models.index(WEAK)]).astype(float)
    gram = rows @ rows.T + RIDGE * np.eye(len(rows))
    return OwnGain(mean, spread, rows.T @ np.linalg.solve(gram, gains - gains.mean()), cold)


def _shapes(texts: Sequence[str], tasks: Sequence[Classification], cold: Fitted | None) -> Matrix:
    told = [float(cold.scores(narrowed(unpacked(task.features)))[0]) if cold else 0.0 for task in tasks]
    return np.array([[*shape(text), value] for text, value in zip(texts, told, strict=True)])


def _matrix(tasks: Sequence[Classification], shapes: Matrix) -> Matrix:
    hashed = np.zeros((len(tasks), 1 << RIDGE_BITS))
    for row, task in enumerate(tasks):
        buckets = unpacked(task.features) >> np.uint32(BITS - RIDGE_BITS)
        np.add.at(hashed[row], buckets, 1.0 / math.sqrt(max(1, len(buckets))))
    columns = shapes.shape[1] - 1
    weights = np.array([math.sqrt(_SHAPE_WEIGHT / columns)] * columns + [math.sqrt(_COLD_WEIGHT)])
    return np.hstack((hashed, np.clip(shapes, -3.0, 3.0) * weights))


def own_quality_parts(others: Graded, own: Graded, seed: int) -> QualityParts:
    """As `quality_parts`, for traffic of one's own: its tags, heads and means, with the means of others as a prior.

    `others` and `own` have the same models, in the same order.
    """
    parts = quality_parts(own, None, OWN_TRUST, seed)
    tags = tuple(sorted(set(others.tags)))
    elsewhere = levelled(summed(tags, others.tags, others.scores), PRIOR_GRADES) if tags else None
    mine = summed(("all",), ["all"] * len(own.examples), own.scores)
    total = replace(mine, sums=mine.sums + elsewhere[0], numbers=mine.numbers + elsewhere[1]) if elsewhere else mine
    parts.arrays["models_sums"], parts.arrays["models_numbers"] = total.sums, total.numbers
    return parts
