"""Reading what training is fed: one JSON object per line, plain or gzipped.

| kind | fields |
|---|---|
| task | `prompt`, `label`; `source`, `licence`, `system`, `id` where known |
| graded | `prompt`, `scores` {model: 0 to 1}, or `strong` and `weak`; `source` or `domain` as the tag |
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import TASKS, GradedExample, TaskExample

STRONG, WEAK = "strong", "weak"


class DatasetError(ValueError):
    """A file that cannot be used. The message names the file, the line and what is wrong with it."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, in order. Raises DatasetError at the first line that is none."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}.") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: not JSON: {error}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise DatasetError(f"{path}, line {number}: an object with a text “prompt” is expected.")
        yield row


def task_examples(path: Path) -> list[TaskExample]:
    found = []
    names = {task.value for task in TASKS}
    for number, row in enumerate(rows(path), 1):
        if row.get("label") not in names:
            raise DatasetError(
                f"{path}, row {number}: label {row.get('label')!r} is none of {', '.join(sorted(names))}."
            )
        found.append(
            TaskExample(
                prompt=prompt_of(row),
                label=TaskType(row["label"]),
                source=str(row.get("source") or path.stem),
                licence=str(row.get("licence", "")),
                id=str(row.get("id", number)),
            )
        )
    return found


def graded_examples(path: Path) -> list[GradedExample]:
    return [graded_of(row, f"{path}, row {number}") for number, row in enumerate(rows(path), 1)]


def graded_of(row: dict[str, Any], where: str) -> GradedExample:
    raw = row.get("scores", {name: row[name] for name in (STRONG, WEAK) if name in row})
    try:
        scores = {str(model): float(score) for model, score in raw.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f"{where}: “scores” is {{model: number from 0 to 1}}.") from error
    if not scores or any(not 0.0 <= score <= 1.0 for score in scores.values()):
        raise DatasetError(f"{where}: grades are numbers from 0 to 1, one per model; there are none, or others.")
    return GradedExample(prompt_of(row), scores, tag_of(row), str(row.get("id", "")))


def tag_of(row: dict[str, Any]) -> str:
    return str(row.get("domain") or row.get("tag") or row.get("source") or "")


def prompt_of(row: dict[str, Any]) -> PromptText:
    return PromptText(row["prompt"], str(row.get("system", "")))


def fingerprint(paths: Sequence[Path]) -> dict[str, str]:
    """The hash of each file, for the card."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
