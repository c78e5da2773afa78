"""How well a model would do, from what is known about it: general knowledge first, corrected by what was graded.

Each level is the posterior mean of its answers, the level above being the prior: (good + k x prior) / (answers + k).
So a level with few answers says almost what the level above says, and none is believed before it has evidence:

    cost tier <- model <- kind of work <- tag, or the cluster that the text resembles <- linear head

What comes from the text alone is believed as far as the text is familiar: q = prior + a (q - prior), where `a` goes
from 0, for text unlike anything trained on, to 1. Unknown traffic is routed as the policy would without any model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.artefact import Artefact, ArtefactError, array_of
from routing.domain.classification.features import BITS, Indices, unpacked
from routing.domain.classification.linear import Weights, softmax
from routing.domain.classification.types import UNKNOWN, Classification, QualityEstimate, QualityQuestion
from routing.domain.config import TaskType

HEAD_BITS: Final = 15  # the heads see fewer, wider buckets than the classifier: they are trained on less
HEAD_BUCKETS: Final = 1 << HEAD_BITS
NO_TIER_MEAN: Final = 0.7  # of a tier that nobody named

Table = NDArray[np.float32]


def narrowed(buckets: Indices) -> Indices:
    """The buckets as the heads number them."""
    return buckets >> np.uint32(BITS - HEAD_BITS)


@dataclass(frozen=True, slots=True)
class Counts:
    """Graded answers: their sum and their number, one row per kind of traffic, one column per model."""

    rows: tuple[str, ...]
    sums: Table = field(repr=False)
    numbers: Table = field(repr=False)

    def posterior(self, row: int, model: int, prior: float, k: float) -> float:
        number = float(self.numbers[row, model])
        return (float(self.sums[row, model]) + k * prior) / (number + k)


@dataclass(frozen=True, slots=True)
class Trust:
    """How far each level is believed. `prior_answers` is k. The shares are of the way from the level above."""

    prior_answers: float = 15.0
    cluster_share: float = 1.0
    head_share: float = 0.1
    gain_share: float = 0.5
    known_low: float = 0.35  # at or below this share of known words the text counts for nothing
    known_high: float = 0.55  # at or above it, for all it says

    def of(self, known: float) -> float:
        if self.known_high <= self.known_low:
            return 1.0
        return min(1.0, max(0.0, (known - self.known_low) / (self.known_high - self.known_low)))


@dataclass(frozen=True, slots=True)
class TextView:
    """What the text of one request says: how far to believe it, its likely clusters, a score per model, the gain."""

    trusted: float
    likely: list[float]
    heads: list[float]
    gain: float


@dataclass(frozen=True, slots=True)
class ArtefactQuality:
    """Satisfies `QualityEstimator`. `tiers` are means by cost tier; `gain` is how much better the dearer of two tiers
    does on a text than it does on average."""

    models: tuple[str, ...]
    tiers: Mapping[str, float]
    everything: Counts
    tasks: Counts
    tags: Counts
    clusters: Weights
    heads: Weights
    gain: Weights
    trust: Trust

    @classmethod
    def of(cls, artefact: Artefact) -> "ArtefactQuality":
        """Raises ArtefactError when the artefact holds no quality estimates that this version can read."""
        settings = artefact.settings.get("quality")
        if not isinstance(settings, dict):
            raise ArtefactError("The artefact holds no quality estimates. Train one with graded answers.")
        try:
            return _quality(artefact, settings)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtefactError):
                raise
            raise ArtefactError(f"The artefact's settings of quality are wrong: {error!r}. Train a new one.") from error

    def estimate(self, question: QualityQuestion) -> QualityEstimate:
        """The mean, how many answers it rests on, and the level that said the last word."""
        return self.estimate_of(question, self.view(question.task))

    def about(self, task: Classification | None) -> Callable[[QualityQuestion], QualityEstimate]:
        """As `estimate`, for questions about one text, which is looked at once."""
        view = self.view(task)
        return lambda question: self.estimate_of(question, view)

    def view(self, task: Classification | None) -> TextView | None:
        """What the text says, for all models at once; None where there is no text, or nothing known about its like."""
        if task is None or not len(task.features):
            return None
        trusted = self.trust.of(task.known)
        if not trusted:
            return None
        buckets = narrowed(unpacked(task.features))
        return TextView(
            trusted=trusted,
            likely=softmax(self.clusters.scores(buckets)) if self.clusters.columns else [],
            heads=self.heads.scores(buckets),
            gain=self.gain.scores(buckets)[0] - self.gain.bias[0] if self.gain.columns else 0.0,
        )

    def estimate_of(self, question: QualityQuestion, view: TextView | None) -> QualityEstimate:
        """As `estimate`, over the view of the question's text: one view serves every candidate of a request."""
        prior = self.tiers.get(question.tier, NO_TIER_MEAN)
        if question.model not in self.models:
            return self._by_tier(question.tier, prior, view)
        model = self.models.index(question.model)
        mean, samples, basis = self._counted(question, model, prior)
        if view is not None:
            if view.likely and question.tag not in self.tags.rows:
                mean += view.trusted * self.trust.cluster_share * (self._cluster(view.likely, model, mean) - mean)
                basis = "cluster"
            head = 1.0 / (1.0 + math.exp(-min(30.0, max(-30.0, view.heads[model]))))
            mean += view.trusted * self.trust.head_share * (head - mean)
        return QualityEstimate(min(1.0, max(0.0, mean)), samples, basis)

    def _counted(self, question: QualityQuestion, model: int, prior: float) -> tuple[float, int, str]:
        k, label = self.trust.prior_answers, question.task.label if question.task else UNKNOWN
        mean = self.everything.posterior(0, model, prior, k)
        samples, basis = int(self.everything.numbers[0, model]), "model"
        for counts, name, level in ((self.tasks, label.value, "task type"), (self.tags, question.tag, "tag")):
            if name and name in counts.rows:
                row = counts.rows.index(name)
                if number := int(counts.numbers[row, model]):
                    mean, samples, basis = counts.posterior(row, model, mean, k), number, level
        return mean, samples, basis if samples else "cost tier"

    def _cluster(self, likely: list[float], model: int, prior: float) -> float:
        k = self.trust.prior_answers
        return sum(share * self.tags.posterior(row, model, prior, k) for row, share in enumerate(likely))

    def _by_tier(self, tier: str, prior: float, view: TextView | None) -> QualityEstimate:
        """A model nobody graded: what its tier is worth; on hard texts a dear tier is worth more, a cheap one less."""
        if view is None or not view.gain or tier not in self.tiers:
            return QualityEstimate(prior, 0, "cost tier")
        side = 1 if prior > sum(self.tiers.values()) / len(self.tiers) else -1
        mean = prior + side * view.trusted * self.trust.gain_share * view.gain / 2
        return QualityEstimate(min(1.0, max(0.0, mean)), 0, "cost tier and gain")


def _quality(artefact: Artefact, settings: dict[str, Any]) -> ArtefactQuality:
    models = tuple(str(name) for name in settings["models"])
    width = len(models)

    def counts(name: str, rows: tuple[str, ...]) -> Counts:
        shape = (len(rows), width)
        return Counts(
            rows,
            array_of(artefact, f"{name}_sums", shape, "float32"),
            array_of(artefact, f"{name}_numbers", shape, "float32"),
        )

    def weights(name: str, columns: int) -> Weights:
        told = settings[name]
        bias = tuple(float(value) for value in told["bias"])
        if len(bias) != columns:
            raise ArtefactError(f"“{name}” of the artefact has {len(bias)} columns, not {columns}. Train a new one.")
        return Weights.of(array_of(artefact, name, (HEAD_BUCKETS, columns), "int8"), float(told["scale"]), bias)

    tags = tuple(str(name) for name in settings["tags"])
    return ArtefactQuality(
        models=models,
        tiers={str(tier): float(mean) for tier, mean in settings["tiers"].items()},
        everything=counts("models", ("all",)),
        tasks=counts("tasks", tuple(TaskType(name).value for name in settings["tasks"])),
        tags=counts("tags", tags),
        clusters=weights("clusters", len(tags)),
        heads=weights("heads", width),
        gain=weights("gain", int(settings["gains"])),
        trust=Trust(**{str(name): float(value) for name, value in settings["trust"].items()}),
    )
