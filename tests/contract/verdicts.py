"""Which check proves which promise, and what came of trying them.

A row is kept only when its check was there, drove the platform from outside at least once, and told what it saw.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from tests.contract.promises import Promise


class Driven(Protocol):
    """What checks are given. `touches` counts what was done to the platform from outside."""

    touches: int


class NotKept(AssertionError):
    """What a check saw instead of what was promised."""


class Verdict(StrEnum):
    KEPT = "kept"
    NOT_KEPT = "NOT KEPT"
    NO_CHECK = "NO CHECK"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one promise; `saw` is the evidence, or what was wrong."""

    promise: Promise
    verdict: Verdict
    saw: str
    seconds: float = 0.0


Check = Callable[..., str]
CHECKS: Final[dict[str, Check]] = {}


def keeps(row: str) -> Callable[[Check], Check]:
    """Register a check: it returns what it saw in one sentence, and raises where the promise is broken. The first line
    of its docstring tells how the promise is driven."""

    def register(check: Check) -> Check:
        assert row not in CHECKS, f"two checks for {row}"
        assert check.__doc__, f"the check of {row} does not tell what it does"
        CHECKS[row] = check
        return check

    return register


def tried(promises: Iterable[Promise], checks: Mapping[str, Check], stage: Driven) -> Iterator[Row]:
    """Every promise in turn. A check may not end the run, whatever it meets."""
    for promise in promises:
        check = checks.get(promise.row)
        if check is None:
            yield Row(promise, Verdict.NO_CHECK, "nothing tries this promise")
            continue
        began, touched = time.monotonic(), stage.touches
        try:
            saw, verdict = check(stage), Verdict.KEPT
            if stage.touches == touched or not saw:
                saw, verdict = "its check did nothing to the platform", Verdict.NOT_KEPT
        except Exception as error:  # whatever a check meets belongs into its row
            saw, verdict = _in_one_line(error), Verdict.NOT_KEPT
        yield Row(promise, verdict, saw, time.monotonic() - began)


def are_all_kept(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(row.verdict is Verdict.KEPT for row in rows)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:400]
