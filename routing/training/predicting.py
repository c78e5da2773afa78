"""Predictions in the form that a scorer reads: one row per row, by id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routing.domain.classification.artefact import Artefact
from routing.domain.classification.features import unpacked
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import ArtefactQuality, narrowed
from routing.domain.classification.types import QualityQuestion
from routing.training.datasets import STRONG, WEAK, DatasetError, graded_examples, prompt_of, rows, tag_of
from routing.training.examples import GradedExample
from routing.training.own import own_gain, own_quality_parts
from routing.training.quality import Graded, fit_gain
from routing.training.quality_figures import quality_of


@dataclass(frozen=True, slots=True)
class PredictionInput:
    """`train` is graded traffic of others, `graded` of one's own. `with_tag` tells the estimates each row's source."""

    artefact: Artefact
    path: Path
    train: Path | None = None
    graded: Path | None = None
    with_tag: bool = False
    seed: int = 0


def task_predictions(given: PredictionInput) -> Iterator[dict[str, Any]]:
    """The likeliest label even where the classifier would say UNKNOWN; `sure` says whether it would not."""
    classifier = LinearClassifier.of(given.artefact)
    for number, row in enumerate(rows(given.path), 1):
        said = classifier.classify(prompt_of(row))
        best = max(said.scores, key=said.scores.__getitem__)
        yield {
            "id": row.get("id", number),
            "label": best.value,
            "confidence": round(said.confidence, 6),
            "sure": said.confidence >= classifier.threshold,
        }


def pair_predictions(given: PredictionInput) -> Iterator[dict[str, Any]]:
    """How much better the strong model will do. Needs `train` or `graded`, with grades of both."""
    classifier = LinearClassifier.of(given.artefact)
    others, own = (_graded(path, classifier) for path in (given.train, given.graded))
    if not others and not own:
        raise DatasetError("A pair needs graded prompts: name a file of them with --train, --graded, or both.")
    cold = fit_gain(others, given.seed) if others else None
    asked = list(rows(given.path))
    prompts = [prompt_of(row) for row in asked]
    tasks = [classifier.classify(prompt) for prompt in prompts]
    if own:
        scores = own_gain(own, cold).scores([prompt.text for prompt in prompts], tasks)
    else:
        scores = [float(cold.scores(narrowed(unpacked(task.features)))[0]) if cold else 0.0 for task in tasks]
    for number, (row, score) in enumerate(zip(asked, scores, strict=True), 1):
        yield {"id": row.get("id", number), "score": round(score, 8)}


def multi_predictions(given: PredictionInput) -> Iterator[dict[str, Any]]:
    """The expected quality of every model: of the artefact, or of `train` and `graded` where they are given."""
    classifier = LinearClassifier.of(given.artefact)
    quality = _quality(given, classifier)
    for number, row in enumerate(rows(given.path), 1):
        task = classifier.classify(prompt_of(row))
        tag = tag_of(row) if given.with_tag else ""
        view = quality.view(task)
        means = {
            model: round(quality.estimate_of(QualityQuestion(model, "", task, tag), view).mean, 6)
            for model in quality.models
        }
        yield {"id": row.get("id", number), "quality": means}


def _quality(given: PredictionInput, classifier: LinearClassifier) -> ArtefactQuality:
    others = graded_examples(given.train) if given.train else []
    own = graded_examples(given.graded) if given.graded else []
    if not others and not own:
        return ArtefactQuality.of(given.artefact)
    data = Graded.of([*others, *own], classifier.classify)
    first, last = range(len(others)), range(len(others), len(data.examples))
    if not own:
        return quality_of(data, ArtefactQuality.of(given.artefact).trust, given.seed)
    parts = own_quality_parts(data.only(first), data.only(last), given.seed)
    return ArtefactQuality.of(Artefact("", {"quality": parts.settings}, parts.arrays))


def _graded(path: Path | None, classifier: LinearClassifier) -> Graded | None:
    if path is None:
        return None
    examples: Sequence[GradedExample] = graded_examples(path)
    data = Graded.of(examples, classifier.classify)
    if not {STRONG, WEAK} <= set(data.models):
        raise DatasetError(f"{path}: every row needs “strong” and “weak”, or scores of models with those names.")
    return data
