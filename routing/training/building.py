"""One training, from examples to an artefact with its card."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from routing.domain.classification.artefact import Artefact, Numbers, dump, version_of
from routing.domain.classification.features import READING, Reading, read
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import Trust
from routing.training.examples import GradedExample, TaskExample
from routing.training.fitting import Fitted
from routing.training.quality import Graded, quality_parts
from routing.training.quality_figures import RoutingFigures, gated, pair_figures, seen_figures
from routing.training.tasks import (
    LeftOut,
    ReadExample,
    Told,
    fit_tasks,
    fitted_of,
    left_out,
    read_all,
    seen_words,
    task_arrays,
    temperature,
    threshold,
)

NO_EVIDENCE: Final = {"temperature": 1.0, "threshold": 0.5}
LEAST_COMPLETE: Final = 100  # prompts that every model has a grade for; with fewer the text has no say in quality


@dataclass(frozen=True, slots=True)
class TrainingInput:
    """`prices` is the cost of a model, in any unit, the same for all; `hashes` are of the files, for the card.

    `read` are labelled records that kept a prompt's features and not its text.
    """

    tasks: Sequence[TaskExample]
    read: Sequence[ReadExample] = ()
    graded: Sequence[GradedExample] = ()
    pairs: Sequence[GradedExample] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    start: Artefact | None = None  # an older artefact to go on from, where the data it was trained on are not at hand
    date: str = ""  # as whoever trains gives it: a clock would make two trainings differ


@dataclass(frozen=True, slots=True)
class TrainingResult:
    data: bytes
    card: dict[str, Any]

    @property
    def version(self) -> str:
        return version_of(self.data)


def train(given: TrainingInput, told: Told, evaluate: bool = True) -> TrainingResult:
    """Fit, calibrate and evaluate. The same input gives the same bytes. Without evaluation there is no calibration."""
    examples = [*read_all(given.tasks), *given.read]
    told(f"{len(examples)} prompts with a kind of work, {len(given.graded)} graded, {len(given.pairs)} pairs")
    start = fitted_of(given.start) if given.start else None
    held = left_out(examples, given.seed, told, start) if evaluate else None
    arrays, settings = _task_part(given, examples, held, start)
    figures: dict[str, Any] = {"task": _task_figures(held)} if held and held.examples else {}
    quality = _quality_part(given, {"reading": READING, "task": settings}, arrays, told, evaluate)
    figures |= quality.figures
    data = dump({"reading": READING, "task": settings, "quality": quality.settings}, arrays | quality.arrays)
    return TrainingResult(data, _card(given, data, figures))


@dataclass(frozen=True, slots=True)
class _QualityPart:
    arrays: dict[str, Numbers]
    settings: dict[str, Any]
    figures: dict[str, Any]


def _task_part(
    given: TrainingInput, examples: list[ReadExample], held: LeftOut | None, start: Fitted | None
) -> tuple[dict[str, Numbers], dict[str, Any]]:
    model = fit_tasks(examples, given.seed, start)
    graded = [example for example in given.graded or given.pairs if not example.task]
    familiar: list[Reading] = [read(example.prompt) for example in graded]
    words = seen_words(familiar or [item.reading for item in examples])
    arrays, settings = task_arrays(model, words)
    calibrated = NO_EVIDENCE
    if held is not None and held.examples:
        divided_by = temperature(held)
        calibrated = {"temperature": divided_by, "threshold": threshold(held, divided_by)}
    return arrays, {**settings, **calibrated}


def _quality_part(
    given: TrainingInput, settings: dict[str, Any], arrays: dict[str, Numbers], told: Told, evaluate: bool
) -> _QualityPart:
    classifier = LinearClassifier.of(Artefact("", settings, arrays))
    data = Graded.of(given.graded, classifier.classify)
    pairs = Graded.of(given.pairs, classifier.classify) if given.pairs else None
    trust = replace(Trust(), cluster_share=0.0, head_share=0.0)
    figures: dict[str, Any] = {}
    complete = data.complete() if evaluate else data.only([])
    if len(complete.examples) >= LEAST_COMPLETE:
        told("quality: kinds of traffic left out")
        trust, unseen = gated(complete, Trust(), given.prices, given.seed)
        figures["unseen"] = {tag: _routing(figure) for tag, figure in unseen.items()}
        figures["seen"] = _routing(seen_figures(complete, trust, given.prices, given.seed, with_tag=False))
        figures["seen_with_tag"] = _routing(seen_figures(complete, trust, given.prices, given.seed, with_tag=True))
    if evaluate and pairs is not None:
        told("pairs: domains left out")
        figures["pair_unseen_domains_apgr"] = round(pair_figures(pairs, given.seed), 4)
    parts = quality_parts(data, pairs, trust, given.seed)
    return _QualityPart(parts.arrays, parts.settings, figures)


def _routing(figure: RoutingFigures) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(figure).items()}


def _task_figures(held: LeftOut) -> dict[str, Any]:
    figures = held.figures()
    return {
        "examples": figures.examples,
        "macro_f1": round(figures.macro_f1, 4),
        "lowest_f1": round(min(figures.f1.values()), 4),
        "accuracy": round(figures.accuracy, 4),
        "accuracy_of_the_surest_80_percent": round(figures.sure, 4),
        "f1": {label: round(value, 4) for label, value in figures.f1.items()},
        "accuracy_by_left_out_source": {name: round(value, 4) for name, value in held.of_source().items()},
    }


def _card(given: TrainingInput, data: bytes, figures: dict[str, Any]) -> dict[str, Any]:
    licences = Counter(
        f"{example.source.partition('/')[0]}: {example.licence or 'not said'}" for example in given.tasks
    )
    return {
        "version": version_of(data),
        "bytes": len(data),
        "date": given.date,
        "seed": given.seed,
        "goes_on_from": given.start.version if given.start else "",
        "reading": READING,
        "numpy": np.__version__,
        "data": {
            "files_sha256": dict(given.hashes),
            "prompts": len(given.tasks),
            "graded": len(given.graded),
            "pairs": len(given.pairs),
            "prompts_by_label": dict(Counter(example.label.value for example in given.tasks)),
            "licences": dict(sorted(licences.items())),
        },
        "figures": figures,
        "how": "Sources, kinds of traffic and domains are left out of training in turn and asked afterwards.",
    }
