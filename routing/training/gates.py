"""When a new artefact may take over. It has to be at least as good as the old one, and as no router at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from routing.domain.classification.artefact import Artefact
from routing.domain.classification.linear import LinearClassifier
from routing.training.examples import TaskExample
from routing.training.figures import TaskFigures, task_figures

MOST_LOST: Final = 0.02  # of F1, of any class
LEAST_MACRO_F1: Final = 0.5  # without anything to compare with: five classes by guessing are at 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """`complaints` is empty if the artefact may be activated; each says what is worse, and by how much."""

    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.complaints


def golden_figures(artefact: Artefact, golden: Sequence[TaskExample]) -> TaskFigures:
    """How the artefact does on prompts that stay the same from training to training. Unsure answers count as given."""
    classifier = LinearClassifier.of(artefact)
    predicted, confidences = [], []
    for example in golden:
        scores = classifier.classify(example.prompt).scores
        best = max(scores, key=scores.__getitem__)
        predicted.append(best.value)
        confidences.append(scores[best])
    return task_figures([example.label.value for example in golden], predicted, confidences)


def judged(card: dict[str, Any], new: TaskFigures | None = None, old: TaskFigures | None = None) -> Verdict:
    """May the artefact of this card take over? `new` and `old` are figures on the same golden prompts."""
    return Verdict((*_against_old(new, old), *_against_nothing(card)))


def _against_old(new: TaskFigures | None, old: TaskFigures | None) -> list[str]:
    if new is None:
        return []
    if old is None:
        if new.macro_f1 >= LEAST_MACRO_F1:
            return []
        return [f"macro-F1 on the golden prompts is {new.macro_f1:.3f}; {LEAST_MACRO_F1} is the least."]
    return [
        f"{label}: F1 falls from {was:.3f} to {new.f1.get(label, 0.0):.3f}; {MOST_LOST} is the most that may be lost."
        for label, was in sorted(old.f1.items())
        if new.f1.get(label, 0.0) < was - MOST_LOST
    ]


def _against_nothing(card: dict[str, Any]) -> list[str]:
    """On kinds of traffic that were left out, routing by the artefact is worth no less than not routing."""
    figures = card.get("figures", {})
    told = {
        "seen traffic": [figures["seen"]] if "seen" in figures else [],
        "unseen traffic": list(figures.get("unseen", {}).values()),
    }
    complaints = []
    for name, found in told.items():
        if not found:
            continue
        routed, fixed = (sum(figure[key] for figure in found) / len(found) for key in ("aiq", "no_router"))
        if routed < fixed - 5e-5:  # the card's figures have four digits
            complaints.append(f"{name}: quality for money is {routed:.4f}, below {fixed:.4f} without a router.")
    return complaints
