"""The SQL end of the ledger: a batch of journaled entries becomes rows, in one short transaction.

The gateway ships every request's row, so no Python loops over columns: PostgreSQL takes the whole batch as one JSON
parameter; SQLite, whose JSON functions parse the text again for every column (40 us a row against 8), takes tuples
that msgspec makes. Which columns there are is read from the model, once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from django.db import DataError, Error, IntegrityError, connection, models, transaction

from analytics.domain.usage import UsageEntry
from analytics.ledger.delivery import BadRecordError
from analytics.models import DirtyDay, UsageRecord

Field = models.Field[Any, Any]


class SqlUsageStore:
    """A `UsageStore` on the calling thread's connection to the default database."""

    def ship(self, entries: Sequence[bytes]) -> int:
        """Insert the rows that are not there and mark their days dirty. Raises BadRecordError, django.db.Error."""
        batch = b"[" + b",".join(entries) + b"]"
        try:
            return _insert(batch)
        except (DataError, IntegrityError, msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise BadRecordError(_first_line(error)) from error
        except Error:
            connection.close()  # it may be dead; the next batch opens a new one
            raise
        finally:
            connection.queries_log.clear()  # DEBUG keeps every statement, batch and all

    def close(self) -> None:
        connection.close()


def _insert(batch: bytes) -> int:
    insert = _insert_sqlite if connection.vendor == "sqlite" else _insert_postgresql
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        # The journal is removed after this commit, so the commit itself has to survive a power cut.
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=FULL")
    with transaction.atomic():
        new, days = insert(batch)
        if new:
            _mark_dirty(days)
    return new


def _insert_postgresql(batch: bytes) -> tuple[int, set[str]]:
    with connection.cursor() as cursor:
        cursor.execute(_postgresql_statement(), [batch.decode()])
        days = [day for (day,) in cursor.fetchall()]
    return len(days), set(days)


def _insert_sqlite(batch: bytes) -> tuple[int, set[str]]:
    """The days are those of all entries, new or not: a day marked for nothing is only computed again."""
    insert = _sqlite_insert()
    rows = list(insert.rows(batch))
    with connection.cursor() as cursor:
        cursor.executemany(insert.statement, rows)
        return cursor.rowcount, {row[0][:10] for row in rows}


def _mark_dirty(days: Iterable[str]) -> None:
    """In a fixed order, so that two processes cannot wait for each other."""
    table = DirtyDay._meta.db_table
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (day, marks) VALUES (%s, 1) "  # noqa: S608 - a model's table name
            f"ON CONFLICT (day) DO UPDATE SET marks = {table}.marks + 1",
            [(day,) for day in sorted(days)],
        )


@cache
def _postgresql_statement() -> str:
    fields = UsageRecord._meta.concrete_fields
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(_postgresql_value(field) for field in fields)
    record = ", ".join(f'"{field.attname}" {_json_type(field)}' for field in fields)
    return (
        f"INSERT INTO {UsageRecord._meta.db_table} ({columns}) "  # noqa: S608 - names come from the model
        f"SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS entry({record}) ON CONFLICT DO NOTHING "
        f"RETURNING to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    )


def _json_type(field: Field) -> str:
    match field:
        case models.DateTimeField():
            return "double precision"  # seconds since the epoch
        case models.CharField():
            return "text"
        case _:
            return str(field.db_type(connection))


def _postgresql_value(field: Field) -> str:
    name = f'entry."{field.attname}"'
    match field:
        case models.DateTimeField():
            return f"to_timestamp({name})"
        case models.CharField():
            return f"left({name}, {field.max_length})"
        case _:
            return name


@dataclass(frozen=True, slots=True)
class SqliteInsert:
    """How a batch goes into SQLite: `decode` gives its rows with the times first and the JSON columns last."""

    statement: str
    decode: Callable[[bytes], list[msgspec.Struct]]
    times: int
    json_from: int

    def rows(self, batch: bytes) -> Iterator[tuple[Any, ...]]:
        """Times as Django writes them (`2026-03-10 12:00:00.000001`), `started_at` first; JSON as text, unread."""
        for row in self.decode(batch):
            values = msgspec.structs.astuple(row)
            yield (
                *map(_utc_text, values[: self.times]),
                *values[self.times : self.json_from],
                *map(_json_text, values[self.json_from :]),
            )


@cache
def _sqlite_insert() -> SqliteInsert:
    fields = sorted(UsageRecord._meta.concrete_fields, key=_sqlite_rank)  # stable: started_at stays the first time
    ranks = [_sqlite_rank(field) for field in fields]
    types = {field.name: field.type for field in msgspec.structs.fields(UsageEntry)}
    row_fields: list[tuple[str, Any]] = [
        (field.attname, msgspec.Raw if isinstance(field, models.JSONField) else types[field.attname])
        for field in fields
    ]
    row = msgspec.defstruct("Row", row_fields)
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(_sqlite_value(field) for field in fields)
    return SqliteInsert(
        statement=f"INSERT INTO {UsageRecord._meta.db_table} ({columns}) "  # noqa: S608 - names come from the model
        f"VALUES ({values}) ON CONFLICT DO NOTHING",
        decode=msgspec.json.Decoder(list[row]).decode,  # type: ignore[valid-type]
        times=ranks.count(0),
        json_from=ranks.count(0) + ranks.count(1),
    )


def _sqlite_rank(field: Field) -> int:
    match field:
        case models.DateTimeField():
            return 0
        case models.JSONField():
            return 2
        case _:
            return 1


def _sqlite_value(field: Field) -> str:
    match field:
        case models.UUIDField():
            return "lower(replace(%s, '-', ''))"
        case models.CharField():
            return f"substr(%s, 1, {field.max_length})"
        case _:
            return "%s"


def _utc_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ")[:-6]


def _json_text(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return None if text == "null" else text


def _first_line(error: Exception) -> str:
    """What is wrong; the lines below it would quote the row."""
    return str(error).partition("\n")[0]
