"""Prompts for tests: small, made up, and easy to tell apart."""

import json
from pathlib import Path
from random import Random
from typing import Any

from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import GradedExample, TaskExample

TEXTS = {
    TaskType.CODING: ("write a {} function in python", "fix the bug in my {} code", "compile the {} class in java"),
    TaskType.CREATIVE: ("write a poem about a {}", "tell me a story of the {}", "compose a song for a {}"),
    TaskType.ANALYSIS: (
        "summarize the text about the {}",
        "compare the {} reports",
        "what is the tone of this {} review",
    ),
    TaskType.COMPLEX_REASONING: (
        "prove that {} is even",
        "solve the equation with {}",
        "how many {} are left if I take 3",
    ),
    TaskType.SIMPLE_QA: ("who invented the {}", "what is the capital of {}", "when was the {} built"),
}
THINGS = ("tree", "river", "clock", "boat", "tower", "cat", "lamp", "bridge", "stone", "bird", "train", "glass")
PRICES = {"big": 1.0, "small": 0.1}


def task_examples(sources: int = 4) -> list[TaskExample]:
    """Every text with every thing, spread over sources."""
    return [
        TaskExample(PromptText(text.format(thing)), label, f"source{number % sources}", "CC0", f"{label}{number}")
        for label, texts in TEXTS.items()
        for number, (text, thing) in enumerate((text, thing) for thing in THINGS for text in texts)
    ]


def graded_examples(count: int = 40) -> list[GradedExample]:
    """Two kinds of traffic: the small model does well with poems, only the big one with proofs."""
    found = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        if number % 2:
            prompt, tag, small = f"write a poem about a {thing} number {number}", "poems", 1.0
        else:
            prompt, tag, small = f"prove that {thing} {number} is even", "proofs", float(number % 10 == 0)
        found.append(GradedExample(PromptText(prompt), {"big": 1.0, "small": small}, tag, str(number)))
    return found


def pair_examples(count: int = 60) -> list[GradedExample]:
    """Long sums need the strong model, in every domain."""
    rng = Random(3)
    found = []
    for number in range(count):
        hard = number % 2
        terms = " plus ".join(str(rng.randrange(100)) for _ in range(12 if hard else 2))
        prompt = PromptText(f"what is {terms}, says {THINGS[number % len(THINGS)]}?")
        found.append(
            GradedExample(prompt, {"strong": 1.0, "weak": float(not hard)}, f"domain{number // 2 % 6}", str(number))
        )
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task_rows(sources: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "prompt": one.prompt.text,
            "label": one.label.value,
            "source": one.source,
            "licence": one.licence,
        }
        for one in task_examples(sources)
    ]


def graded_rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"id": one.id, "prompt": one.prompt.text, "scores": one.scores, "source": one.tag}
        for one in graded_examples(count)
    ]


def pair_rows(count: int = 60) -> list[dict[str, Any]]:
    return [{"id": one.id, "prompt": one.prompt.text, "domain": one.tag, **one.scores} for one in pair_examples(count)]
