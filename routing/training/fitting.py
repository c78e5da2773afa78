"""Fitting tables of weights to sparse features: stochastic gradient descent, one example after another.

Every fit is a function of its input and its seed: the order comes from a seeded generator, and the sums are taken in
that order, so the same input gives the same weights to the last bit on the same build of numpy.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.features import BUCKETS, Indices

Table = NDArray[np.float32]
Link = Literal["softmax", "logistic", "identity"]

_LARGEST: Final = 127  # of int8
_BIAS_PACE: Final = np.float32(0.05)  # the bias learns slower than the features: it must not answer for them


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how fast: `rate` falls to zero over the passes."""

    passes: int = 6
    rate: float = 4.0
    buckets: int = BUCKETS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """`table` is buckets x columns; a score is the sum of the rows over the root of their number, plus the bias."""

    table: Table
    bias: Table

    def scores(self, reading: Indices) -> Table:
        return np.asarray(self.table.take(reading, axis=0).sum(axis=0) * _share(reading) + self.bias, dtype=np.float32)


def _share(reading: Indices) -> np.float32:
    return np.float32(1.0 / np.sqrt(max(1, len(reading))))


def _answer(scores: Table, link: Link) -> Table:
    match link:
        case "softmax":
            grown = np.exp(scores - scores.max())
            return np.asarray(grown / grown.sum(), dtype=np.float32)
        case "logistic":
            return np.asarray(1.0 / (1.0 + np.exp(-scores)), dtype=np.float32)
        case "identity":
            return scores


def fit(
    readings: Sequence[Indices], targets: Table, weights: Table, link: Link, pace: Pace, start: Fitted | None = None
) -> Fitted:
    """Fit `targets` (examples x columns). `weights` is how much each example counts; 1 is usual. `start` is what to go
    on from, where something is known already."""
    columns = targets.shape[1]
    table = start.table.copy() if start else np.zeros((pace.buckets, columns), dtype=np.float32)
    bias = start.bias.copy() if start else np.zeros(columns, dtype=np.float32)
    if link == "identity" and start is None and len(targets):
        bias = np.asarray(np.average(targets, axis=0, weights=weights), dtype=np.float32)
    shares = [_share(reading) for reading in readings]
    order = np.random.default_rng(pace.seed)
    for done in range(pace.passes):
        rate = np.float32(pace.rate * (1 - done / pace.passes))
        for at in order.permutation(len(readings)):
            reading, share = readings[at], shares[at]
            rows = table.take(reading, axis=0)
            error = (_answer(rows.sum(axis=0) * share + bias, link) - targets[at]) * (weights[at] * rate)
            table[reading] = rows - error * share
            if link != "identity":
                bias -= _BIAS_PACE * error
    return Fitted(table, bias)


def quantised(table: Table) -> tuple[NDArray[np.int8], float]:
    """The table in bytes, and what one of their units is worth. The few largest weights are cut."""
    sizes = np.abs(table[table != 0])
    top = float(np.quantile(sizes, 0.9995)) if len(sizes) else 1.0
    scale = max(top, 1e-9) / _LARGEST
    whole: NDArray[np.int8] = np.clip(np.rint(table / np.float32(scale)), -_LARGEST, _LARGEST).astype(np.int8)
    return whole, scale


def balanced(sources: Sequence[str], labels: Sequence[str], power: float = 0.5, most: float = 4.0) -> Table:
    """A weight per example: no source drowns the others by its size, and every label weighs the same."""
    of_source = Counter(sources)
    raw = np.array([of_source[source] ** -power for source in sources])
    of_label: Counter[str] = Counter()
    for label, weight in zip(labels, raw.tolist(), strict=True):
        of_label[label] += weight
    even = raw / np.array([of_label[label] for label in labels])
    weights: Table = np.minimum(even * len(even) / max(even.sum(), 1e-12), most).astype(np.float32)
    return weights
