"""What kind of work a prompt is, and how well a model would do it: the words, and the interfaces of plug-ins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from routing.domain.config import TaskType

UNKNOWN = TaskType.ANY  # what a classifier says that is not sure enough


@dataclass(frozen=True, slots=True)
class PromptText:
    """What is classified: the last turn of a person, and the system prompt. Whoever reads them cuts them to size."""

    text: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Classification:
    """`label` is UNKNOWN below the classifier's own threshold. `confidence` and `scores` are probabilities, 0 to 1.

    `known` is the share of the prompt's features that training has seen: 1 is ordinary traffic, 0 is nothing like it.
    `features` are the hashed features that the quality estimate reads, in order; empty where a plug-in classified.
    """

    label: TaskType
    confidence: float = 1.0
    scores: Mapping[TaskType, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    source: str = "linear"
    known: float = 1.0
    features: Sequence[int] = ()


class TaskClassifier(Protocol):
    """Says what kind of work a prompt is. A bare label, as a `TaskType` or its name, is accepted too."""

    def classify(self, prompt: PromptText) -> Classification | TaskType | str: ...


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """Whose quality is asked for, and at what. `tier` is the deployment's cost tier; `tag` what the caller calls this
    kind of traffic, “” for nothing."""

    model: str
    tier: str
    task: Classification | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """The share of answers that would be good, 0 to 1. `samples` is how many graded answers it rests on; `basis` says
    in words which level of knowledge decided."""

    mean: float
    samples: int
    basis: str


class QualityEstimator(Protocol):
    """Estimates how well a model would do."""

    def estimate(self, question: QualityQuestion) -> QualityEstimate: ...
