"""The request log: pages by position, never by number, so that page 1000 costs as much as page 1."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from analytics.models import UsageRecord
from analytics.selectors.sums import FAILED, of_teams

Position = tuple[datetime, UUID]
HEAVY_FIELDS = ("decision", "price")


@dataclass(frozen=True, slots=True)
class RequestFilters:
    """What to look for; None and empty mean any. `begins_at` is included, `ends_before` is not."""

    begins_at: datetime | None = None
    ends_before: datetime | None = None
    team_id: int | None = None
    key_id: int | None = None
    persona: str = ""
    policy: str = ""
    provider: str = ""
    model: str = ""
    door: str = ""
    state: str = ""
    errors_only: bool = False


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Records, the latest first, without their `decision` and `price`. `next_before` is None on the last page."""

    records: tuple[UsageRecord, ...]
    next_before: Position | None


def requests_page(
    *, team_ids: Collection[int] | None, filters: RequestFilters, before: Position | None = None, limit: int = 50
) -> RequestPage:
    """The latest `limit` records that come before a position. One query."""
    rows = _matching(of_teams(UsageRecord.objects.defer(*HEAVY_FIELDS), team_ids), filters)
    if before is not None:
        moment, request_id = before
        # The first condition says nothing new, but it is the one that an index can begin at.
        rows = rows.filter(started_at__lte=moment).filter(Q(started_at__lt=moment) | Q(request_id__lt=request_id))
    found = list(rows.order_by("-started_at", "-request_id")[: limit + 1])
    records = tuple(found[:limit])
    last = records[-1] if len(found) > limit else None
    return RequestPage(records, (last.started_at, last.request_id) if last else None)


def request_detail(*, request_id: UUID, team_ids: Collection[int] | None) -> UsageRecord | None:
    """One record in full; None if there is none, or it belongs to another team."""
    return of_teams(UsageRecord.objects.filter(request_id=request_id), team_ids).first()


def _matching(rows: QuerySet[UsageRecord], filters: RequestFilters) -> QuerySet[UsageRecord]:
    wanted = {
        "started_at__gte": filters.begins_at,
        "started_at__lt": filters.ends_before,
        "team_id": filters.team_id,
        "key_id": filters.key_id,
        "persona": filters.persona,
        "policy": filters.policy,
        "provider": filters.provider,
        "model": filters.model,
        "door": filters.door,
        "state": filters.state,
    }
    rows = rows.filter(**{name: value for name, value in wanted.items() if value not in {None, ""}})
    return rows.filter(FAILED) if filters.errors_only else rows
