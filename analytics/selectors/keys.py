"""What virtual keys are used for: this month's sums, and the latest request of each."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import OuterRef, Subquery

from analytics.domain.rollup import DayRange, Sums
from analytics.models import UsageRecord
from analytics.selectors.sums import usage_sums
from routing.models import VirtualKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse(Sums):
    """A key's requests since the month began; `last_used_at` looks back to its first day, None is never."""

    last_used_at: datetime | None


def keys_use(*, keys: Collection[VirtualKey], now: datetime) -> dict[int, KeyUse]:
    """The use of each of these keys by its id."""
    if not keys:
        return {}
    today = now.astimezone(UTC).date()
    sums = usage_sums("key_id", team_ids={key.team_id for key in keys}, days=DayRange(today.replace(day=1), today))
    last = _last_used({key.pk for key in keys})
    return {key.pk: KeyUse(last_used_at=last[key.pk], **sums.get((key.pk,), Sums()).values()) for key in keys}


def _last_used(key_ids: Collection[int]) -> dict[int, datetime | None]:
    """One look into the index per key: grouping the records would read every one of them."""
    latest = UsageRecord.objects.filter(key=OuterRef("pk")).order_by("-started_at").values("started_at")[:1]
    return dict(VirtualKey.objects.filter(pk__in=key_ids).values_list("pk", Subquery(latest)))
