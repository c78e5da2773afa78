"""The contract as people read it: lines of a terminal, and docs/contract.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.contract.promises import CHAPTERS, Promise
from tests.contract.verdicts import Check, Row, Verdict

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
HEAD: Final = """\
# The contract

What the platform promises, row by row, and how each row is tried. `script/contract` starts the platform as a user
does, drives every row from outside with clients that are not ours (the vendors' SDKs, grpcio, websockets, curl, plain
HTTP), and prints for each what it saw. It ends with an error when a single row is not kept, or has nothing that tries
it. The test suite runs it. This page is written by `script/contract --write`.
"""


def line(row: Row) -> str:
    """One row of the terminal's table: the promise, and below it what was seen."""
    return f"{row.promise.row:<4}{row.verdict.value:<9}{row.seconds:5.1f} s  {row.promise.says}\n{'':21}{row.saw}"


def summary(rows: Sequence[Row]) -> str:
    kept = sum(row.verdict is Verdict.KEPT for row in rows)
    missing = [row.promise.row for row in rows if row.verdict is not Verdict.KEPT]
    return f"{kept} of {len(rows)} promises are kept" + (f"; not: {', '.join(missing)}" if missing else "")


def document(promises: Sequence[Promise], checks: Mapping[str, Check]) -> str:
    """docs/contract.md: the same for the same rows and checks."""
    parts = [HEAD]
    for letter, title in CHAPTERS.items():
        rows = [promise for promise in promises if promise.row[0] == letter]
        lines = [f"| {one.row} | {one.says} | {_how(checks.get(one.row))} |" for one in rows]
        parts.append(
            "\n".join([f"## {title}\n", "| row | promise | how it is tried |", "| --- | --- | --- |", *lines, ""])
        )
    return "\n".join(parts)


def _how(check: Check | None) -> str:
    if check is None:
        return "not tried"
    return (check.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ").replace("|", "\\|")
