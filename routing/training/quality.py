"""Training the estimates of quality: tables of grades, and linear heads that read the text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.artefact import Numbers
from routing.domain.classification.features import Indices, unpacked
from routing.domain.classification.quality import HEAD_BUCKETS, Trust, narrowed
from routing.domain.classification.types import Classification, PromptText
from routing.training.datasets import STRONG, WEAK
from routing.training.examples import TASKS, GradedExample
from routing.training.fitting import Fitted, Pace, balanced, fit, quantised

TIER_MEANS: Final = {"free": 0.60, "economy": 0.65, "standard": 0.74, "premium": 0.82}  # judgement: k answers' worth
_HEAD: Final = Pace(passes=6, rate=2.0, buckets=HEAD_BUCKETS)
_GAIN: Final = Pace(passes=6, rate=0.2, buckets=HEAD_BUCKETS)

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Graded:
    """Graded prompts, classified: one row of `scores` per example, one column per model; NaN where there is no grade.

    A classification holds all that is learned from a text, so records that kept no text will do as well.
    """

    examples: list[GradedExample]
    tasks: list[Classification]
    models: tuple[str, ...]
    scores: Scores

    @classmethod
    def of(cls, examples: Sequence[GradedExample], classify: Callable[[PromptText], Classification]) -> "Graded":
        models = tuple(sorted({model for example in examples for model in example.scores}))
        scores = np.full((len(examples), len(models)), np.nan, dtype=np.float32)
        for row, example in enumerate(examples):
            for model, score in example.scores.items():
                scores[row, models.index(model)] = score
        return cls(list(examples), [example.task or classify(example.prompt) for example in examples], models, scores)

    def only(self, rows: Sequence[int]) -> "Graded":
        picked = list(rows)
        return Graded(
            [self.examples[at] for at in picked], [self.tasks[at] for at in picked], self.models, self.scores[picked]
        )

    def complete(self) -> "Graded":
        """The prompts for which every model has a grade: only on those can a choice be judged."""
        return self.only(np.flatnonzero(~np.isnan(self.scores).any(axis=1)).tolist() if self.models else [])

    @property
    def readings(self) -> list[Indices]:
        return [narrowed(unpacked(task.features)) for task in self.tasks]

    @property
    def tags(self) -> list[str]:
        return [example.tag for example in self.examples]


@dataclass(frozen=True, slots=True)
class Sums:
    rows: tuple[str, ...]
    sums: Scores
    numbers: Scores


def summed(rows: tuple[str, ...], names: Sequence[str], scores: Scores) -> Sums:
    """Sum and number of grades by row name and model."""
    sums = np.zeros((len(rows), scores.shape[1]), dtype=np.float32)
    numbers = np.zeros_like(sums)
    for name, grades in zip(names, scores, strict=True):
        if name in rows:
            at = rows.index(name)
            sums[at] += np.nan_to_num(grades)
            numbers[at] += ~np.isnan(grades)
    return Sums(rows, sums, numbers)


def levelled(sums: Sums, answers: float) -> tuple[Scores, Scores]:
    """One row for everything, in which every tag weighs the same, as if each model had `answers` grades: a model is not
    good because the largest tag suits it."""
    seen = sums.numbers > 0
    means = np.divide(sums.sums, sums.numbers, out=np.zeros_like(sums.sums), where=seen)
    mean = np.divide(
        means.sum(axis=0), seen.sum(axis=0), out=np.zeros(means.shape[1], np.float32), where=seen.any(axis=0)
    )
    number = np.minimum(sums.numbers.sum(axis=0), answers).astype(np.float32)
    return (mean * number)[None, :], number[None, :]


def fit_clusters(data: Graded, tags: tuple[str, ...], seed: int) -> Fitted:
    targets = np.array([[tag == name for name in tags] for tag in data.tags], dtype=np.float32).reshape(-1, len(tags))
    weights = np.ones(len(targets), dtype=np.float32)
    return fit(data.readings, targets, weights, "softmax", Pace(_HEAD.passes, _HEAD.rate, _HEAD.buckets, seed))


def fit_heads(data: Graded, seed: int) -> Fitted:
    """One column per model. A missing grade is filled with the model's mean: it teaches nothing."""
    means = np.nan_to_num(np.nanmean(data.scores, axis=0)) if len(data.scores) else np.zeros(len(data.models))
    targets = np.where(np.isnan(data.scores), means, data.scores).astype(np.float32)
    weights = np.ones(len(targets), dtype=np.float32)
    return fit(data.readings, targets, weights, "logistic", Pace(_HEAD.passes, _HEAD.rate, _HEAD.buckets, seed))


def fit_gain(data: Graded, seed: int) -> Fitted:
    """How much better the strong model does. Domains weigh alike, so that the largest does not speak for all."""
    gains = (data.scores[:, data.models.index(STRONG)] - data.scores[:, data.models.index(WEAK)])[:, None]
    weights = balanced(data.tags, ["" for _ in data.tags], power=0.7, most=1.0)
    return fit(data.readings, gains, weights, "identity", Pace(_GAIN.passes, _GAIN.rate, _GAIN.buckets, seed))


@dataclass(frozen=True, slots=True)
class QualityParts:
    arrays: dict[str, Numbers]
    settings: dict[str, Any]


def quality_parts(data: Graded, pairs: Graded | None, trust: Trust, seed: int) -> QualityParts:
    """What the artefact keeps of grades."""
    tags = tuple(sorted(set(data.tags) - {""}))
    tasks = tuple(task.value for task in TASKS)
    by_tag = summed(tags, data.tags, data.scores)
    by_task = summed(tasks, [task.label.value for task in data.tasks], data.scores)
    everything = levelled(by_tag, 200.0)
    parts = QualityParts(
        {
            "models_sums": everything[0],
            "models_numbers": everything[1],
            "tasks_sums": by_task.sums,
            "tasks_numbers": by_task.numbers,
            "tags_sums": by_tag.sums,
            "tags_numbers": by_tag.numbers,
        },
        {
            "models": list(data.models),
            "tags": list(tags),
            "tasks": list(tasks),
            "tiers": TIER_MEANS,
            "gains": 1 if pairs else 0,
            "trust": {name: round(float(getattr(trust, name)), 6) for name in Trust.__dataclass_fields__},
        },
    )
    nothing = Fitted(np.zeros((HEAD_BUCKETS, 0), np.float32), np.zeros(0, np.float32))
    fitted = {
        "clusters": fit_clusters(data, tags, seed) if tags else nothing,
        "heads": fit_heads(data, seed) if data.models else nothing,
        "gain": fit_gain(pairs, seed) if pairs else nothing,
    }
    for name, model in fitted.items():
        parts.arrays[name], scale = quantised(model.table)
        parts.settings[name] = {"scale": scale, "bias": [round(value, 6) for value in model.bias.tolist()]}
    return parts
