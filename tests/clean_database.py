"""The database between two tests that commit: what a test left is taken out, and what `migrate` put in stays.

Django's own way is `flush`: it truncates every table, and has permissions, content types and schedules written anew.
That takes half a second for the few rows of a test. Here only tables that hold something are touched.
"""

from collections.abc import Iterable
from typing import Any

from django.core.management import call_command
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

ALIAS = "default"
CLEANING = "cleaning"  # the same database; a connection that stays open, because a fresh one has to learn every table

Rows = list[tuple[Any, ...]]


class CleanDatabase:
    """Made when the database is as `migrate` left it; `restore` brings it back to that."""

    def __init__(self) -> None:
        connections[CLEANING] = self._connection = _another(connections[ALIAS])
        self._tables = self._connection.introspection.django_table_names(only_existing=True, include_views=False)
        self._kept = self._learn()

    def restore(self) -> None:
        """Delete what was added. Where rows of `migrate` were changed, they are made again, by Django's flush."""
        connections[ALIAS].close()  # a transaction that a test left open ends here, else it would be waited for
        if not self._connection.is_usable():  # some tests end the sessions of everybody
            self._connection.close()
        with transaction.atomic(using=CLEANING), self._connection.cursor() as cursor:
            self._wait_for_writers(cursor)
            for table in self._filled(cursor):
                if table not in self._kept:  # in any order: references are checked when the transaction ends
                    cursor.execute(f"DELETE FROM {self._quoted(table)}")  # noqa: S608 - our own names
            is_intact = self._contents(cursor, self._kept) == self._kept
        if not is_intact:
            call_command("flush", verbosity=0, interactive=False, database=ALIAS)
            self._kept = self._learn()

    def close(self) -> None:
        self._connection.close()
        del connections[CLEANING]

    def _learn(self) -> dict[str, Rows]:
        with self._connection.cursor() as cursor:
            return self._contents(cursor, self._filled(cursor))

    def _wait_for_writers(self, cursor: CursorWrapper) -> None:
        """A thread of the test may be about to commit. TRUNCATE would wait for it; on SQLite every writer does."""
        if self._connection.vendor == "postgresql":
            cursor.execute(f"LOCK TABLE {', '.join(map(self._quoted, self._tables))} IN SHARE ROW EXCLUSIVE MODE")

    def _filled(self, cursor: CursorWrapper) -> list[str]:
        """The tables with a row in them."""
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {self._quoted(table)})"  # noqa: S608 - our own names
                for table in self._tables
            )
        )
        return [table for (table,) in cursor.fetchall()]

    def _contents(self, cursor: CursorWrapper, tables: Iterable[str]) -> dict[str, Rows]:
        contents = {}
        for table in tables:
            cursor.execute(f"SELECT * FROM {self._quoted(table)}")  # noqa: S608 - our own names
            contents[table] = sorted(cursor.fetchall(), key=repr)
        return contents

    def _quoted(self, table: str) -> str:
        return self._connection.ops.quote_name(table)


def _another(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    """A connection to the same database, with a name of its own."""
    return type(connection)(connection.settings_dict, alias=CLEANING)
