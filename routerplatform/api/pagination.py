"""Pages of lists by position: a cursor says behind which row the next page begins, so nothing is counted or skipped."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from routerplatform.gateway.errors import InvalidRequest

PAGE: Final = 50
LARGEST_PAGE: Final = 500
LARGEST_ID: Final = 2**63 - 1
LIMIT, CURSOR = "limit", "cursor"


class IdPages(BasePagination):
    """By id, the oldest row first. Rows that are added meanwhile come at the end; none is told twice or left out."""

    order: tuple[str, ...] = ("pk",)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """:raises InvalidRequest: `limit` or `cursor` is none."""
        limit = _limit(request)
        cursor = request.query_params.get(CURSOR, "")
        rows = self.behind(queryset, _opened(cursor)) if cursor else queryset
        found = list(rows.order_by(*self.order)[: limit + 1])
        page = found[:limit]
        self.cursor = _sealed(self.position(page[-1])) if len(found) > limit else None
        address = request.get_full_path()
        self.next = replace_query_param(address, CURSOR, self.cursor) if self.cursor else None
        return page

    def position(self, row: Model) -> str:
        return str(row.pk)

    def behind(self, rows: QuerySet[Any], position: str) -> QuerySet[Any]:
        if not (position.isascii() and position.isdecimal() and len(position) < 20 and int(position) <= LARGEST_ID):
            raise _no_cursor()
        return rows.filter(pk__gt=int(position))

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "object": "list",
                "data": data,
                "has_more": self.cursor is not None,
                "next_cursor": self.cursor,
                "next": self.next,
            }
        )

    # --- the OpenAPI document ---------------------------------------------------------------------------------------

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "string", "nullable": True}
        return {
            "type": "object",
            "required": ["object", "data", "has_more", "next_cursor", "next"],
            "properties": {
                "object": {"type": "string", "enum": ["list"]},
                "data": schema,
                "has_more": {"type": "boolean"},
                "next_cursor": {**text, "description": "Send it as “cursor” for the next page; null on the last."},
                "next": {**text, "description": "The address of the next page, below this host; null on the last."},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE}
        return [
            {"name": LIMIT, "in": "query", "schema": limit, "description": "Rows of a page."},
            {
                "name": CURSOR,
                "in": "query",
                "schema": {"type": "string"},
                "description": "`next_cursor` of the page before.",
            },
        ]


class TimePages(IdPages):
    """By `started_at`, the latest first. The first condition of the two says nothing new, but an index begins at it."""

    order = ("-started_at", "-request_id")

    def position(self, row: Any) -> str:
        return f"{row.started_at.isoformat()}_{row.request_id}"

    def behind(self, rows: QuerySet[Any], position: str) -> QuerySet[Any]:
        text, _, number = position.partition("_")
        try:
            moment, request_id = datetime.fromisoformat(text), UUID(number)
            moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):  # OverflowError: in UTC it would be before year 1 or after 9999
            raise _no_cursor() from None
        return rows.filter(started_at__lte=moment).filter(Q(started_at__lt=moment) | Q(request_id__lt=request_id))


def _limit(request: Request) -> int:
    text = request.query_params.get(LIMIT, str(PAGE))
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidRequest(f"“{LIMIT}” is a whole number from 1 to {LARGEST_PAGE}.", param=LIMIT)
    return limit


def _sealed(position: str) -> str:
    """Opaque, so that nobody builds one."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _no_cursor() from None


def _no_cursor() -> InvalidRequest:
    return InvalidRequest("“cursor” is not one that a list gave you. Begin without it.", param=CURSOR)
