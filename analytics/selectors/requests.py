"""The request log: pages by position, never by number, so that page 1000 costs as much as page 1."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from analytics.domain.request_ids import came_in_within
from analytics.domain.rollup import joined
from analytics.models import UsageRecord, UsageRollup
from analytics.selectors.adjustments import correction_nano
from analytics.selectors.sums import FAILED, dirty_hours, of_teams, records_of

Position = tuple[datetime, UUID]
HEAVY_FIELDS = ("decision", "price")
NAMES = ("persona", "policy", "provider", "model")


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
    """Records, the latest first, without their `decision` and `price`, with `correction_nano` (None: never corrected).

    What comes before `next_before` is older, what comes after `next_after` is newer; None when nothing is.
    """

    records: tuple[UsageRecord, ...]
    next_before: Position | None
    next_after: Position | None


def requests_page(
    *,
    team_ids: Collection[int] | None,
    filters: RequestFilters,
    before: Position | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> RequestPage:
    """The `limit` records next to a position of another page, or the latest. `after` wins. One query."""
    listed = UsageRecord.objects.defer(*HEAVY_FIELDS).annotate(correction_nano=correction_nano())
    rows = _matching(of_teams(listed, team_ids), filters)
    if after is not None:
        found = list(_after(rows, after).order_by("started_at", "request_id")[: limit + 1])
        records = tuple(reversed(found[:limit]))
        has_older, has_newer = bool(records), len(found) > limit
    else:
        older = rows if before is None else _before(rows, before)
        found = list(older.order_by("-started_at", "-request_id")[: limit + 1])
        records = tuple(found[:limit])
        has_older, has_newer = len(found) > limit, before is not None and bool(records)
    return RequestPage(
        records=records,
        next_before=_position(records[-1]) if has_older else None,
        next_after=_position(records[0]) if has_newer else None,
    )


def _position(record: UsageRecord) -> Position:
    return record.started_at, record.request_id


# The first condition of the two says nothing new, but it is the one that an index can begin at.


def _before(rows: QuerySet[UsageRecord], position: Position) -> QuerySet[UsageRecord]:
    moment, request_id = position
    return rows.filter(started_at__lte=moment).filter(Q(started_at__lt=moment) | Q(request_id__lt=request_id))


def _after(rows: QuerySet[UsageRecord], position: Position) -> QuerySet[UsageRecord]:
    moment, request_id = position
    return rows.filter(started_at__gte=moment).filter(Q(started_at__gt=moment) | Q(request_id__gt=request_id))


def request_detail(*, request_id: UUID, team_ids: Collection[int] | None) -> UsageRecord | None:
    """One record in full; None if there is none, or it belongs to another team."""
    return of_teams(with_id(UsageRecord.objects.all(), request_id), team_ids).first()


def with_id(rows: QuerySet[UsageRecord], request_id: UUID) -> QuerySet[UsageRecord]:
    """The record of a request, looked for where the records of its time are: an id alone is in no one partition."""
    rows, within = rows.filter(request_id=request_id), came_in_within(request_id)
    return rows.filter(started_at__gte=within.begins_at, started_at__lt=within.ends_before) if within else rows


def names_used(*, team_ids: Collection[int]) -> dict[str, list[str]]:
    """What the requests of these teams ran under, by NAMES, each in order and without the empty one.

    Two or three queries: like the sums, from the rollups, and from the records of the hours that they lack.
    """
    found = set(of_teams(records_of(joined(dirty_hours())), team_ids).order_by().values_list(*NAMES).distinct())
    found.update(of_teams(UsageRollup.objects.order_by(), team_ids).values_list(*NAMES).distinct())
    return {name: sorted({row[index] for row in found} - {""}) for index, name in enumerate(NAMES)}


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
