"""What decisions were made from, out of a batch of journaled entries into their own table.

An entry carries it as `kept`. A batch in which no entry does is not read a second time.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import connection

from analytics.domain.decisions import KeptDecision
from analytics.models import DecisionRecord

MARK: Final = b'"kept":{'
SQLITE_ROWS: Final = 25  # in a statement
COLUMNS: Final = (
    "request_id", "at", "policy", "policy_version", "team_id", "task_type", "confidence", "inputs", "prompt", "label",
)  # fmt: skip


class _Entry(msgspec.Struct, frozen=True):
    """The part of a `UsageEntry` that a decision's row is made of."""

    request_id: UUID
    started_at: float
    team_id: int
    policy: str = ""
    policy_version: int = 0
    task_type: str = ""
    kept: KeptDecision | None = None


_read: Final = msgspec.json.Decoder(list[_Entry])


def insert_decisions(batch: bytes) -> None:
    """Insert the rows that are not there; the caller's transaction is that of their usage records.

    Raises what msgspec and Django raise of a batch that cannot be stored.
    """
    if MARK not in batch:
        return
    rows = [_row(entry, entry.kept) for entry in _read.decode(batch) if entry.kept is not None]
    if not rows:  # somebody has named something so
        return
    if connection.vendor == "sqlite":
        for start in range(0, len(rows), SQLITE_ROWS):
            some = rows[start : start + SQLITE_ROWS]
            _execute(_sqlite_statement(len(some)), [value for row in some for value in row])
    else:
        _execute(_postgresql_statement(), [list(column) for column in zip(*rows, strict=True)])


def _row(entry: _Entry, kept: KeptDecision) -> tuple[Any, ...]:
    """In the order of COLUMNS; names are cut to their columns, as those of usage records are."""
    at = datetime.fromtimestamp(entry.started_at, UTC)
    is_sqlite = connection.vendor == "sqlite"
    return (
        entry.request_id.hex if is_sqlite else entry.request_id,
        at.isoformat(" ")[:-6] if is_sqlite else at,
        entry.policy[:80],
        entry.policy_version,
        entry.team_id,
        entry.task_type[:20],
        kept.confidence,
        kept.inputs,
        kept.prompt,
        "",
    )


def _execute(statement: str, values: Sequence[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@cache
def _postgresql_statement() -> str:
    """A column is one parameter: an array."""
    fields = [DecisionRecord._meta.get_field(name) for name in COLUMNS]
    arrays = ", ".join(f"%s::{field.db_type(connection)}[]" for field in fields)
    return (
        f"INSERT INTO {DecisionRecord._meta.db_table} ({', '.join(COLUMNS)}) "  # noqa: S608 - names come from the model
        f"SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
    )


@cache
def _sqlite_statement(rows: int) -> str:
    places = f"({', '.join('%s' for _ in COLUMNS)})"
    return (
        f"INSERT INTO {DecisionRecord._meta.db_table} ({', '.join(COLUMNS)}) "  # noqa: S608 - names come from the model
        f"VALUES {', '.join([places] * rows)} ON CONFLICT DO NOTHING"
    )
