"""Classifiers as operators write them: good ones, and every kind of bad one. Loaded by their dotted paths."""

import asyncio
import threading
from typing import Any, ClassVar

from routing.domain.classification.types import Classification, PromptText
from routing.domain.config import TaskType

asked: list[str] = []  # the texts that `Attentive` was asked about


class Sync:
    def classify(self, prompt: PromptText) -> Classification:
        label = TaskType.CODING if "code" in prompt.text else TaskType.CREATIVE
        return Classification(label, 0.9, {label: 0.9}, reasons=("a word",))


class Async:
    async def classify(self, prompt: PromptText) -> str:
        await asyncio.sleep(0)
        return "simple_qa"


class Attentive:
    def classify(self, prompt: PromptText) -> TaskType:
        asked.append(prompt.text)
        return TaskType.ANALYSIS


class Mapping:
    def classify(self, prompt: PromptText) -> dict[str, Any]:
        return {"label": "COMPLEX_REASONING", "confidence": 0.7, "scores": {"CODING": 0.3}, "reasons": ["it is long"]}


class Unsure:
    def classify(self, prompt: PromptText) -> str:
        return "unknown"


class Raising:
    def classify(self, prompt: PromptText) -> str:
        raise LookupError("no such table")


class AsyncRaising:
    async def classify(self, prompt: PromptText) -> str:
        raise LookupError("no such table")


class Exiting:
    def classify(self, prompt: PromptText) -> str:
        raise SystemExit(1)


class Moody:
    """Raises while it is in a bad mood."""

    is_bad: ClassVar[bool] = True

    def classify(self, prompt: PromptText) -> str:
        if Moody.is_bad:
            raise RuntimeError("not now")
        return "CODING"


class Hanging:
    """Until `go` is set."""

    go: ClassVar[threading.Event] = threading.Event()
    calls: ClassVar[int] = 0

    def classify(self, prompt: PromptText) -> str:
        Hanging.calls += 1
        Hanging.go.wait(60)
        return "CODING"


class Stubborn:
    """Async, and does not let itself be cancelled."""

    async def classify(self, prompt: PromptText) -> str:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                return "CODING"


class Nonsense:
    def classify(self, prompt: PromptText) -> Any:
        return NONSENSE[prompt.text]


NONSENSE: dict[str, Any] = {
    "a label of its own": "POETRY",
    "a number": 7,
    "nothing": None,
    "too sure": {"label": "CODING", "confidence": 1.5},
    "no number": {"label": "CODING", "confidence": "high"},
    "not a number": {"label": "CODING", "confidence": float("nan")},
    "odd scores": {"label": "CODING", "scores": ["CODING"]},
    "a score of nothing": {"label": "CODING", "scores": {"POETRY": 0.2}},
    "odd reasons": {"label": "CODING", "reasons": "because"},
    "no label": {"confidence": 0.5},
}


class WithArguments:
    def __init__(self, table: str) -> None:
        self.table = table

    def classify(self, prompt: PromptText) -> str:
        return self.table


class Silent:
    """Has no `classify`."""


def not_a_class(prompt: PromptText) -> str:
    return "CODING"
