"""The card of a trained artefact, read for people. Cards are JSON from elsewhere: what is missing is a dash."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from routing.domain.config import TASK_LABELS, TaskType
from routing.trained import SHIPPED_FILE

NOTHING = "–"
Shares = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Card:
    """`accuracy` is the share of prompts whose kind was told right, `saved` the share of cost saved at the quality of
    the best single model; both as text. The rest is for the artefact's own page."""

    version: str
    date: str
    accuracy: str
    saved: str
    prompts: int | None
    graded: int | None
    pairs: int | None
    by_kind: Shares
    left_out: Shares
    unseen: list[tuple[str, str, str]]
    licences: list[tuple[str, int]]
    files: list[tuple[str, str]]


def card_of(card: object) -> Card:
    """Whatever is in it: nothing raises."""
    told = _mapping(card)
    figures, data = _mapping(told.get("figures")), _mapping(told.get("data"))
    task = _mapping(figures.get("task"))
    return Card(
        version=str(told.get("version", NOTHING)),
        date=str(told.get("date") or NOTHING),
        accuracy=_percent(task.get("accuracy")),
        saved=_percent(_mapping(figures.get("seen")).get("saved")),
        prompts=_whole(data.get("prompts")),
        graded=_whole(data.get("graded")),
        pairs=_whole(data.get("pairs")),
        by_kind=[(_kind(name), _percent(value)) for name, value in _mapping(task.get("f1")).items()],
        left_out=_shares(task.get("accuracy_by_left_out_source")),
        unseen=[
            (str(name), _percent(_mapping(value).get("aiq")), _percent(_mapping(value).get("no_router")))
            for name, value in _mapping(figures.get("unseen")).items()
        ],
        licences=[(str(name), _whole(value) or 0) for name, value in _mapping(data.get("licences")).items()],
        files=[(str(name), str(value)[:12]) for name, value in _mapping(data.get("files_sha256")).items()],
    )


@cache
def shipped_card() -> Card:
    """Of the artefact that the platform ships; empty where its card is not installed."""
    try:
        return card_of(json.loads(SHIPPED_FILE.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return card_of({})


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shares(value: object) -> Shares:
    return [(str(name), _percent(share)) for name, share in _mapping(value).items()]


def _kind(name: str) -> str:
    return str(TASK_LABELS[TaskType(name)]) if name in set(TaskType) else str(name)


def _percent(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.1%}".replace("%", "\N{NO-BREAK SPACE}%") if is_number else NOTHING


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
