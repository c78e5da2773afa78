"""The SQL end of the ledger: a batch of journaled entries becomes rows, in one short transaction.

The gateway ships every request's row, so no Python loops over columns: PostgreSQL takes the whole batch as one JSON
parameter; SQLite, whose JSON functions parse the text again for every column (40 us a row against 8), takes values
that msgspec makes. Which columns there are is read from the model, once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from django.db import DataError, Error, IntegrityError, connection, models, transaction

from analytics.domain.usage import BudgetUse, UsageEntry
from analytics.domain.webhooks import EventKind
from analytics.ledger.decisions import insert_decisions
from analytics.ledger.delivery import BadRecordError, Shipment
from analytics.ledger.leasing import States, charge_windows, open_windows
from analytics.models import DirtyHour, FailedRequest, UsageRecord, WebhookEndpoint

Field = models.Field[Any, Any]
SQLITE_ROWS: Final = 25  # in a statement


class SqlUsageStore:
    """A `UsageStore` on the calling thread's connection to the default database."""

    def __init__(self) -> None:
        self._open_windows: set[int] = set()  # that are known to be there

    def ship(self, entries: Sequence[bytes], owner: str = "") -> Shipment:
        """Insert the rows that are not there, charge their budget windows, mark their hours dirty.

        Raises BadRecordError, django.db.Error.
        """
        batch = b"[" + b",".join(entries) + b"]"
        try:
            return self._ship(batch, frozenset(_failed(entries)), owner)
        except (DataError, IntegrityError, msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise BadRecordError(_first_line(error)) from error
        except Error:
            connection.close()  # it may be dead; the next batch opens a new one
            raise
        finally:
            connection.queries_log.clear()  # DEBUG keeps every statement, batch and all

    def _ship(self, batch: bytes, failed: frozenset[UUID], owner: str) -> Shipment:
        insert = _insert_sqlite if connection.vendor == "sqlite" else _insert_postgresql
        if connection.vendor == "sqlite" and not connection.in_atomic_block:
            # The journal is removed after this commit, so the commit itself has to survive a power cut.
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous=FULL")
        charged = _charged(batch)
        windows = {number for entry in charged.values() for number in entry.charges or ()}
        with transaction.atomic():
            open_windows(windows - self._open_windows)
            inserted = insert(batch, charged.keys() | failed)
            if inserted.rows:
                _mark_dirty(inserted.hours)
            if new_failures := failed.intersection(inserted.asked):
                _keep_failures(new_failures)
            insert_decisions(batch)
            states = _charge(owner, charged, inserted.asked) if charged else {}
        self._open_windows |= windows
        return Shipment(inserted.rows, states)

    def close(self) -> None:
        connection.close()


def _charge(owner: str, charged: Mapping[UUID, "Charges"], new: Collection[UUID]) -> States:
    """Charge for the new ones; the states are those of all windows."""
    costs: Counter[int] = Counter()
    would_refuse: Counter[int] = Counter()
    for request_id, entry in charged.items():
        for number, cost in (entry.charges or {}).items():
            costs[number] += cost if request_id in new else 0
        if request_id in new and entry.budget is not None:
            would_refuse.update(entry.budget.would_refuse)
    return charge_windows(owner, costs, would_refuse)


class Inserted(NamedTuple):
    """What was new of a batch: how many rows, their hours, and the ids among those that were asked for."""

    rows: int
    hours: set[str]
    asked: Collection[UUID]


class Charges(msgspec.Struct, frozen=True):
    """The part of a `UsageEntry` that its budget windows are concerned with."""

    request_id: UUID
    charges: dict[int, int] | None = None
    budget: BudgetUse | None = None


_read_charges: Final = msgspec.json.Decoder(list[Charges])


def _charged(batch: bytes) -> dict[UUID, Charges]:
    """The entries that charge a window. Most batches of an installation without budgets are not even read."""
    if b'"charges":{' not in batch:
        return {}
    return {entry.request_id: entry for entry in _read_charges.decode(batch) if entry.charges}


class Failed(msgspec.Struct, frozen=True):
    """The part of a `UsageEntry` that says whether its caller saw an error."""

    request_id: UUID
    state: str
    error_code: str


_read_failed: Final = msgspec.json.Decoder(Failed)
NO_ERROR: Final = b'"error_code":""'  # quotes of what a caller wrote are escaped


def _failed(entries: Iterable[bytes]) -> Iterator[UUID]:
    """The requests that ended in an error. Whoever left saw none. Most entries are not even read."""
    for text in entries:
        if NO_ERROR not in text:
            entry = _read_failed.decode(text)
            if entry.error_code and entry.state != "cancelled":
                yield entry.request_id


def _keep_failures(request_ids: Iterable[UUID]) -> None:
    """For a task to tell of, if anybody wants to hear of failures."""
    wanted = WebhookEndpoint.objects.filter(is_active=True).values_list("events", flat=True)
    if any(EventKind.REQUEST_FAILED in events for events in wanted):
        FailedRequest.objects.bulk_create([FailedRequest(request_id=one) for one in request_ids], ignore_conflicts=True)


def _insert_postgresql(batch: bytes, asked: Collection[UUID]) -> Inserted:
    with connection.cursor() as cursor:
        cursor.execute(_postgresql_statement(), [batch.decode()])
        rows = cursor.fetchall()
    new = {UUID(request_id) for _, request_id in rows} if asked else ()
    return Inserted(len(rows), {hour for hour, _ in rows}, new)


def _insert_sqlite(batch: bytes, asked: Collection[UUID]) -> Inserted:
    """The hours are those of all entries, new or not: an hour marked for nothing is only computed again. Which ids
    are new is looked up before: this transaction is the only one that writes."""
    present = set(UsageRecord.objects.filter(pk__in=asked).values_list("pk", flat=True)) if asked else set()
    insert = _sqlite_insert()
    rows = list(insert.rows(batch))
    with connection.wrap_database_errors:
        count = sum(
            connection.connection.execute(
                _sqlite_statement(len(some)), [value for row in some for value in row]
            ).rowcount
            for some in (rows[start : start + SQLITE_ROWS] for start in range(0, len(rows), SQLITE_ROWS))
        )
    return Inserted(count, {row[0][:13] + ":00:00" for row in rows}, set(asked) - present)


def _mark_dirty(hours: Iterable[str]) -> None:
    """In a fixed order, so that two processes cannot wait for each other."""
    table = DirtyHour._meta.db_table
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (hour, marks) VALUES (%s, 1) "  # noqa: S608 - a model's table name
            f"ON CONFLICT (hour) DO UPDATE SET marks = {table}.marks + 1",
            [(hour,) for hour in sorted(hours)],
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
        f"RETURNING to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00:00+00'), request_id::text"
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
    """How a batch goes into SQLite: `decode` gives its rows with the times first and the JSON columns last.

    `into` and `values` are the parts of the statement.
    """

    into: str
    values: str
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
        into=f"INSERT INTO {UsageRecord._meta.db_table} ({columns})",
        values=f"({values})",
        decode=msgspec.json.Decoder(list[row]).decode,  # type: ignore[valid-type]
        times=ranks.count(0),
        json_from=ranks.count(0) + ranks.count(1),
    )


@cache
def _sqlite_statement(rows: int) -> str:
    """For so many rows at once: the interpreter lock is let go once a statement, and the event loop wants it too."""
    insert = _sqlite_insert()
    return f"{insert.into} VALUES {', '.join([insert.values] * rows)} ON CONFLICT DO NOTHING"


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
            return "lower(replace(?, '-', ''))"
        case models.CharField():
            return f"substr(?, 1, {field.max_length})"
        case _:
            return "?"


def _utc_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ")[:-6]


def _json_text(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return None if text == "null" else text


def _first_line(error: Exception) -> str:
    """What is wrong; the lines below it would quote the row."""
    return str(error).partition("\n")[0]
