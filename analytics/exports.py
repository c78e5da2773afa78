"""CSV for spreadsheets: streamed in batches, with cells that no spreadsheet takes for a formula."""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain, islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from analytics.presentation import usd

Cell = str | int | float | None
ROWS_AT_ONCE = 500
# Source: OWASP, "CSV Injection": a cell that begins with one of these may be run as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: Cell) -> Cell:
    """Text that a spreadsheet would run gets an apostrophe in front; numbers stay numbers."""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def cost_cell(nano: int | None) -> Cell:
    """USD with all nine decimals, never as 1E-7; empty when the price is unknown."""
    return None if nano is None else f"{usd(nano):.9f}"


def csv_response(
    request: HttpRequest, *, name: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]
) -> StreamingHttpResponse:
    """A download called `<name>.csv`. `rows` is read while it is sent, a batch at a time."""
    batches = _batches(chain([header], rows))
    # Django warns when an iterator is not of its server's own kind, and then reads it whole.
    content = _off_the_loop(batches) if isinstance(request, ASGIRequest) else batches
    response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _batches(rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    source = iter(rows)
    while batch := list(islice(source, ROWS_AT_ONCE)):
        text = StringIO()
        csv.writer(text).writerows([safe_cell(cell) for cell in row] for row in batch)
        yield text.getvalue()


async def _off_the_loop(batches: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(batches, None))
    while (batch := await following()) is not None:
        yield batch
