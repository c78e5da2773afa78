"""The connection that a blocking store asks through: one a thread, told apart from a database that is away."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error, connection

from analytics.domain.idempotency import StoreAwayError


@contextmanager
def asked() -> Iterator[None]:
    """Around one question.

    :raises StoreAwayError: the database did not answer it; the next question opens a new connection.
    """
    try:
        yield
    except Error as error:
        connection.close()  # it may be dead
        raise StoreAwayError(str(error).partition("\n")[0]) from error
    finally:
        connection.queries_log.clear()  # DEBUG keeps every statement, answers and conversations and all
