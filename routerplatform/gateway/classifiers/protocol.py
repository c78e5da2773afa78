"""What a plug-in is asked, what it may answer, and how it says that it cannot.

PlugInFailure(reason)    the built-in classifier takes over; the reason is a word for figures, the text for people
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Final, Literal, Protocol

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routing.domain.classification.types import UNKNOWN, Classification, PromptText
from routing.domain.config import TaskType

Reason = Literal["late", "raised", "nonsense", "busy", "unusable", "unreachable", "refused"]
Ask = Callable[[ChatRequest], Awaitable[list[Frame]]]
"""Sends a request of the platform's own through the gateway; raises PlugInFailure."""

LONGEST_REASON: Final = 200
WORD_FOR_UNKNOWN: Final = frozenset({"", "ANY", "UNKNOWN", "NONE", "OTHER"})


class PlugInFailure(Exception):
    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PlugIn(Protocol):
    """`most` is how many prompts it may be asked about at a time; until it `is_ready`, being late is no failure."""

    @property
    def most(self) -> int: ...

    @property
    def is_ready(self) -> bool: ...

    async def classify(self, prompt: PromptText) -> Any:
        """Anything that `classification_of` can read.

        :raises PlugInFailure: it cannot say.
        """
        ...


def classification_of(answer: Any, source: str) -> Classification:
    """A plug-in's answer, checked: a `Classification`, a task type or its name, or a mapping with `label` and, if it
    likes, `confidence`, `scores` and `reasons`.

    :raises PlugInFailure: it is none of these.
    """
    match answer:
        case Classification():
            found = answer
        case str():  # a `TaskType` is one
            found = Classification(task_named(answer))
        case Mapping():
            found = _of_mapping(answer)
        case _:
            raise PlugInFailure("nonsense", f"it answered with a {type(answer).__name__}")
    return replace(
        found,
        label=task_named(found.label),
        confidence=_share(found.confidence, "confidence"),
        scores=_scores(found.scores),
        source=source,
    )


def task_named(label: Any) -> TaskType:
    """In any case; ANY for the usual words for “unknown”.

    :raises PlugInFailure: no such task type.
    """
    name = str(label).strip().upper() if isinstance(label, str) else "?"
    if name in WORD_FOR_UNKNOWN:
        return UNKNOWN
    try:
        return TaskType(name)
    except ValueError:
        raise PlugInFailure("nonsense", f"“{str(label)[:40]}” is no task type") from None


def _of_mapping(answer: Mapping[Any, Any]) -> Classification:
    reasons = answer.get("reasons", ())
    if not isinstance(reasons, list | tuple) or not all(isinstance(reason, str) for reason in reasons):
        raise PlugInFailure("nonsense", "its reasons are no list of texts")
    return Classification(
        label=task_named(answer.get("label")),
        confidence=answer.get("confidence", 1.0),
        scores=answer.get("scores", {}),
        reasons=tuple(reason[:LONGEST_REASON] for reason in reasons[:10]),
    )


def _scores(scores: Any) -> dict[TaskType, float]:
    if not isinstance(scores, Mapping):
        raise PlugInFailure("nonsense", "its scores are no mapping")
    return {task_named(name): _share(score, "score") for name, score in scores.items()}


def _share(value: Any, what: str) -> float:
    is_share = isinstance(value, int | float) and isfinite(value) and 0 <= value <= 1
    if not is_share:
        raise PlugInFailure("nonsense", f"its {what} is no number from 0 to 1")
    return float(value)
