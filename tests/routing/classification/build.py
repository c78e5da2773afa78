"""Artefacts for tests: as small as they may be, with numbers whose effect can be worked out by hand."""

from typing import Any

import numpy as np

from routing.domain.classification.artefact import Artefact, Numbers
from routing.domain.classification.features import BUCKETS, READING, WORDS, read
from routing.domain.classification.quality import HEAD_BUCKETS
from routing.domain.classification.types import PromptText

TASKS = ["CODING", "CREATIVE", "ANALYSIS", "COMPLEX_REASONING", "SIMPLE_QA"]
LIKELY = {"CODING": "python function", "CREATIVE": "poem", "SIMPLE_QA": "capital"}


def task_weights(words: dict[str, str]) -> Numbers:
    """A table in which the features of a word speak for its label."""
    table = np.zeros((BUCKETS, len(TASKS)), dtype=np.int8)
    for label, word in words.items():
        table[read(PromptText(word)).buckets, TASKS.index(label)] = 100
    return table


def seen(*texts: str) -> Numbers:
    bits = np.zeros(WORDS, dtype=np.bool_)
    for text in texts:
        bits[read(PromptText(text)).words] = True
    return np.packbits(bits)


def task_settings(**changes: Any) -> dict[str, Any]:
    return {"tasks": TASKS, "scale": 0.05, "bias": [0.0] * 5, "temperature": 1.0, "threshold": 0.5, **changes}


def quality_settings(models: list[str], tags: list[str], **trust: float) -> dict[str, Any]:
    def nothing(columns: int) -> dict[str, Any]:
        return {"scale": 0.05, "bias": [0.0] * columns}

    return {
        "models": models,
        "tags": tags,
        "tasks": TASKS,
        "tiers": {"economy": 0.6, "premium": 0.8},
        "gains": 1,
        "trust": {"prior_answers": 10.0, "known_low": 0.0, "known_high": 0.0, **trust},
        "clusters": nothing(len(tags)),
        "heads": nothing(len(models)),
        "gain": nothing(1),
    }


def quality_arrays(models: int, tags: int) -> dict[str, Numbers]:
    """Nothing graded, nothing learned."""

    def counts(rows: int) -> Numbers:
        return np.zeros((rows, models), dtype=np.float32)

    def weights(columns: int) -> Numbers:
        return np.zeros((HEAD_BUCKETS, columns), dtype=np.int8)

    return {
        **{f"models_{kind}": counts(1) for kind in ("sums", "numbers")},
        **{f"tasks_{kind}": counts(len(TASKS)) for kind in ("sums", "numbers")},
        **{f"tags_{kind}": counts(tags) for kind in ("sums", "numbers")},
        "clusters": weights(tags),
        "heads": weights(models),
        "gain": weights(1),
    }


def artefact(**settings: Any) -> Artefact:
    """A classifier that knows three words."""
    return Artefact(
        version="test",
        settings={"reading": READING, "task": task_settings(**settings)},
        arrays={"task_weights": task_weights(LIKELY), "seen_words": seen("write a python function")},
    )
