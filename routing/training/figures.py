"""What an artefact is judged by: F1 per class, accuracy of the sure answers, and quality for money.

The definitions are the usual ones: APGR as in RouteLLM (Ong et al., June 2024: mean share of the gap between two models
that is recovered over all shares sent to the stronger); AIQ as in RouterBench (Hu et al., March 2024: mean quality
of the upper hull of quality over cost).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = Sequence[tuple[float, float]]  # cost, quality


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Shares, 0 to 1. `f1` is per label; `sure` is the accuracy of the 80 % that the model was surest of."""

    examples: int
    macro_f1: float
    accuracy: float
    sure: float
    f1: Mapping[str, float]


def task_figures(labels: Sequence[str], predicted: Sequence[str], confidences: Sequence[float]) -> TaskFigures:
    right = np.array([label == guess for label, guess in zip(labels, predicted, strict=True)])
    f1 = {}
    for name in sorted(set(labels)):
        hits = sum(label == guess == name for label, guess in zip(labels, predicted, strict=True))
        f1[name] = 2 * hits / (list(labels).count(name) + list(predicted).count(name))
    surest = np.argsort(-np.array(confidences), kind="stable")[: max(1, int(0.8 * len(right)))]
    return TaskFigures(
        examples=len(right),
        macro_f1=sum(f1.values()) / max(1, len(f1)),
        accuracy=float(right.mean()) if len(right) else 0.0,
        sure=float(right[surest].mean()) if len(right) else 0.0,
        f1=f1,
    )


def hull(points: Points) -> list[tuple[float, float]]:
    """The upper hull: what mixing two of the points at random can reach, cheapest first."""
    rising: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not rising or point[1] > rising[-1][1]:
            rising.append(point)
    kept: list[tuple[float, float]] = []
    for cost, quality in rising:
        while len(kept) >= 2 and (kept[-1][1] - kept[-2][1]) * (cost - kept[-2][0]) <= (quality - kept[-2][1]) * (
            kept[-1][0] - kept[-2][0]
        ):
            kept.pop()
        kept.append((cost, quality))
    return kept


def aiq(points: Points, cheapest: float, dearest: float, steps: int = 400) -> float:
    """Mean quality of the hull over the costs from the cheapest to the dearest model."""
    corners = hull(points)
    costs = np.linspace(cheapest, dearest, steps + 1)
    return float(np.interp(costs, [cost for cost, _ in corners], [quality for _, quality in corners]).mean())


def routed(estimates: NDArray[np.float64], scores: NDArray[np.float64], costs: NDArray[np.float64]) -> Points:
    """Where `argmax(estimate - x cost)` ends up for every price x that quality may have."""
    points = []
    for price in [0.0, *(10 ** (-3 + 4.3 * step / 60) for step in range(61))]:
        value = estimates - price * costs - 1e-12 * costs
        chosen = value.argmax(axis=1)
        points.append((float(costs[chosen].mean()), float(scores[np.arange(len(scores)), chosen].mean())))
    return points


def saved_at_best(points: Points, costs: NDArray[np.float64], scores: NDArray[np.float64]) -> float | None:
    """The share of the best single model's cost that routing saves at its quality; None if it is not reached."""
    means = scores.mean(axis=0)
    best = max(range(len(means)), key=lambda at: (means[at], -costs[at]))
    corners = [(float(costs.min()), hull(points)[0][1]), *hull(points)]
    for (cost, quality), (next_cost, next_quality) in pairwise(corners):
        if next_quality >= means[best]:
            step = next_quality - quality
            at = next_cost if step == 0 else cost + (next_cost - cost) * max(0.0, (means[best] - quality) / step)
            return 1.0 - float(min(next_cost, at)) / float(costs[best])
    return None


def apgr(estimates: Sequence[float], strong: Sequence[float], weak: Sequence[float]) -> float:
    """Average performance gap recovered, when the texts with the highest estimate go to the strong model first."""
    gain = np.array(strong) - np.array(weak)
    whole = float(gain.sum())
    if whole == 0:
        return 0.5
    order = np.argsort(-np.array(estimates), kind="stable")
    recovered = np.concatenate(([0.0], np.cumsum(gain[order]))) / whole
    return float(((recovered[:-1] + recovered[1:]) / 2).mean())
