"""The project's own prompts: patterns and slots in `templates/`, put together by a seed.

The patterns are this project's text, under its licence, and ship with it. A model that has seen only benchmarks
knows how benchmarks are worded; breadth of wording is what carries over to people, so every pattern is filled several
times and told in several registers: in a hurry, politely, with typing errors, under a system prompt.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import TASKS, TaskExample

TEMPLATES: Final = Path(__file__).parent / "templates"
LICENCE: Final = "as the project"
FILLINGS: Final = 6  # of a pattern with slots
TELLINGS: Final = 2  # of a fixed text
ONE_TEXT_CHARS: Final = 8  # below this a text is told as it is

_SLOT: Final = re.compile(r"\{([a-z_]+\d?)\}")
_NESTING: Final = 4
_PASTED: Final = frozenset({"passage", "snip"})
_LONG: Final = {TaskType.ANALYSIS: 0.35, TaskType.CODING: 0.3, TaskType.CREATIVE: 0.1}
_NUMBERS: Final = (*range(2, 11), 12, 14, 15, 16, 18, 20, 24, 25, 30, 32, 36, 40, 45, 48, 50, 60, 64, 72, 75)
_OPENERS: Final = (
    "please ", "Please ", "Can you ", "can you please ", "Could you ", "hey, ", "Hi! ", "Hello, ", "Help me: ",
    "I need help. ", "I need you to ", "Quick one: ", "ok now ", "Task: ", "Instruction: ", "Question: ", "USER: ",
    "Good morning. ",
)  # fmt: skip
_CLOSERS: Final = (
    " thanks", " Thank you!", " pls", " Be concise.", " Answer in English.", " Keep it short.", " Explain your answer.",
    " Use simple words.", " It is for my class.", " asap", " :)", "\n\nAnswer:", "\nOutput:", " Take your time.",
)  # fmt: skip


class Templates:
    """The texts of a folder of templates."""

    def __init__(self, folder: Path = TEMPLATES) -> None:
        self.patterns: dict[str, list[str]] = _read(folder / "patterns.json")  # by label
        self.slots: dict[str, list[str]] = _read(folder / "slots.json")  # by slot
        self.languages: dict[str, dict[str, list[str]]] = _read(folder / "languages.json")  # by language and label
        self.systems: dict[str, list[str]] = _read(folder / "systems.json")  # by label, or “any”

    def filled(self, pattern: str, rng: Random, long: float = 0.0) -> str:
        """The pattern with a value in each slot. Braces that name no slot are part of the text. `long` is how often
        what people paste is several times as long, 0 to 1."""

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name == "n":
                return str(rng.choice(_NUMBERS) if rng.random() < 0.8 else rng.randrange(2, 2000))
            if name not in self.slots:
                return match.group(0)
            parts = rng.randrange(2, 5) if name in _PASTED and rng.random() < long else 1
            return "\n\n".join(rng.choice(self.slots[name]) for _ in range(parts))

        text = pattern
        for _ in range(_NESTING):
            text, found = _SLOT.subn(value, text)
            if not found:
                break
        return text


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def with_noise(text: str, rate: float, rng: Random) -> str:
    """Typing errors: a share `rate` of the characters is dropped, doubled, swapped with the next or replaced."""
    letters = list(text)
    for position in range(len(letters)):
        if rng.random() >= rate:
            continue
        match rng.randrange(4):
            case 0:
                letters[position] = ""
            case 1:
                letters[position] *= 2
            case 2 if position + 1 < len(letters):
                letters[position], letters[position + 1] = letters[position + 1], letters[position]
            case _:
                letters[position] = rng.choice("abcdefghijklmnopqrstuvwxyz ")
    return "".join(letters)


def told(text: str, rng: Random) -> str:
    """The same request in another register."""
    if len(text) < ONE_TEXT_CHARS:
        return text
    if rng.random() < 0.2:
        opener = rng.choice(_OPENERS)
        text = opener + (text[0].lower() + text[1:] if text[1:2].islower() else text)
    if rng.random() < 0.1:
        text += rng.choice(_CLOSERS)
    manner = rng.random()
    if manner < 0.12:
        text = text.lower().rstrip("?.! ")
    elif manner < 0.14:
        text = text.upper()
    elif manner < 0.22:
        text = with_noise(text, 0.03, rng)
    return text


class _Writer:
    """Writes the prompts of one run."""

    def __init__(self, templates: Templates, seed: int) -> None:
        self.templates = templates
        self.rng = Random(seed)  # noqa: S311 - the same prompts for the same seed

    def example(self, text: str, label: TaskType, source: str) -> TaskExample:
        system = ""
        if self.rng.random() < 0.18:
            kind = label.value if self.rng.random() < 0.4 else "any"
            system = self.rng.choice(self.templates.systems[kind])
        return TaskExample(PromptText(told(text, self.rng), system), label, source, LICENCE)

    def of_pattern(self, pattern: str, label: TaskType, number: int) -> Iterator[TaskExample]:
        for _ in range(FILLINGS if _SLOT.search(pattern) else TELLINGS):
            yield self.example(
                self.templates.filled(pattern, self.rng, _LONG.get(label, 0.0)), label, f"own/{label.value}/{number}"
            )

    def of_language(self, language: str) -> Iterator[TaskExample]:
        for label in TASKS:
            for text in self.templates.languages[language].get(label.value, ()):
                for _ in range(TELLINGS):
                    yield self.example(text, label, f"own/{language}")


def own_prompts(seed: int, templates: Templates | None = None) -> list[TaskExample]:
    """Several thousand labelled prompts of the project's own. The same seed gives the same prompts, in order."""
    writer = _Writer(templates or Templates(), seed)
    found: dict[tuple[PromptText, TaskType], TaskExample] = {}
    for label in TASKS:
        for number, pattern in enumerate(writer.templates.patterns.get(label.value, ())):
            for example in writer.of_pattern(pattern, label, number):
                found.setdefault((example.prompt, label), example)
    for language in sorted(writer.templates.languages):
        for example in writer.of_language(language):
            found.setdefault((example.prompt, example.label), example)
    return list(found.values())


GOLDEN_SEED: Final = 20261121
_EVERY: Final = 8


def golden_prompts() -> list[TaskExample]:
    """The prompts on which an old and a new artefact are compared where nobody brings others: always the same ones."""
    return own_prompts(GOLDEN_SEED)[::_EVERY]
