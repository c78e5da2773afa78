"""What a request's id says about the request."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from analytics.domain.rollup import Stretch

CLOCKS_DIFFER = timedelta(days=1)  # the most by which the clock of a gateway may be wrong
MILLISECONDS_AT = 80  # of a version 7 UUID: its 48 highest bits. Source: RFC 9562, section 5.7


def came_in_at(request_id: UUID) -> datetime | None:
    """When the request of this id came in, by its gateway's clock; None for an id without a time in it."""
    if request_id.version != 7:
        return None
    try:
        return datetime.fromtimestamp((request_id.int >> MILLISECONDS_AT) / 1000, UTC)
    except (OverflowError, ValueError):  # a year that no calendar has
        return None


def came_in_within(request_id: UUID) -> Stretch | None:
    """When the request of this id came in, with room for clocks that go wrong; None for an id without a time in it."""
    at = came_in_at(request_id)
    try:
        return None if at is None else Stretch(at - CLOCKS_DIFFER, at + CLOCKS_DIFFER)
    except OverflowError:
        return None
