"""What training is made of."""

from dataclasses import dataclass

from routing.domain.classification.types import Classification, PromptText
from routing.domain.config import TaskType

TASKS = (
    TaskType.CODING,
    TaskType.CREATIVE,
    TaskType.ANALYSIS,
    TaskType.COMPLEX_REASONING,
    TaskType.SIMPLE_QA,
)  # in this order wherever scores are columns


@dataclass(frozen=True, slots=True)
class TaskExample:
    """A prompt whose kind is known. `source` is where it is from: evaluation leaves whole sources out, and no source
    outweighs the others. `id` is the row's own, “” where it has none."""

    prompt: PromptText
    label: TaskType
    source: str
    licence: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class GradedExample:
    """A prompt and how good each model's answer was, 0 to 1. `tag` is the kind of traffic, “” where nobody said.

    `task` is what the classifier made of it at the time, for records that kept the features and not the text.
    """

    prompt: PromptText
    scores: dict[str, float]
    tag: str = ""
    id: str = ""
    task: Classification | None = None
