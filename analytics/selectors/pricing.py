"""Usage whose cost is not what it should be: of unknown price, or free where the price book says that it is not."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Sum

from analytics.models import UsageAdjustment, UsageRecord
from providers.selectors import price_book

TOKENS = F("input_tokens") + F("cache_read_input_tokens") + F("cache_creation_input_tokens") + F("output_tokens")


@dataclass(frozen=True, slots=True)
class OddUsage:
    """Requests of one deployment that cost nothing we know of. `tokens` is all of them, in and out."""

    model: str
    deployment: str
    requests: int
    tokens: int
    first_at: datetime
    last_at: datetime


def unpriced_usage(since: datetime, until: datetime) -> list[OddUsage]:
    """Requests from `since` to before `until` whose cost is unknown and was not corrected since, the most first."""
    corrected = UsageAdjustment.objects.filter(request_id=OuterRef("pk"), was_unpriced=True)
    return _odd(_between(since, until).filter(~Exists(corrected), cost_nano=None))


def zero_cost_usage(since: datetime, until: datetime) -> list[OddUsage]:
    """Requests that used tokens and cost nothing, of deployments that are not free by the price book, the most first.

    A deployment counts as free if every price that was in force between the two moments was.
    """
    corrected = UsageAdjustment.objects.filter(request_id=OuterRef("pk")).exclude(delta_nano=0)
    free = _between(since, until).filter(~Exists(corrected), cost_nano=0).exclude(usage_source="cache")
    found = _odd(free.annotate(tokens_used=TOKENS).filter(tokens_used__gt=0))
    if not found:
        return []
    book = price_book()
    return [odd for odd in found if book.charges_for_tokens(odd.deployment, odd.model, odd.first_at, odd.last_at)]


def _between(since: datetime, until: datetime) -> QuerySet[UsageRecord]:
    return UsageRecord.objects.filter(started_at__gte=since, started_at__lt=until).exclude(Q(deployment="", model=""))


def _odd(records: QuerySet[UsageRecord]) -> list[OddUsage]:
    grouped = records.values("model", "deployment").annotate(
        requests=Count("pk"), tokens=Sum(TOKENS), first_at=Min("started_at"), last_at=Max("started_at")
    )
    return [OddUsage(**row) for row in grouped.order_by("-requests", "deployment")]
