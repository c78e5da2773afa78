"""What was corrected about requests since they were recorded."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import BigIntegerField, OuterRef, Subquery, Sum

from analytics.models import UsageAdjustment


def correction_nano() -> Subquery:
    """For `annotate` of usage records: what corrections add to a record's cost (nano-USD), NULL without any."""
    rows = UsageAdjustment.objects.filter(request_id=OuterRef("pk")).order_by().values("request_id")
    return Subquery(rows.values(total=Sum("delta_nano")), output_field=BigIntegerField())


def adjustments_of_request(*, request_id: UUID) -> list[UsageAdjustment]:
    """The corrections of one request, the first one first. One query."""
    rows = UsageAdjustment.objects.filter(request_id=request_id).select_related("created_by")
    return list(rows.order_by("created_at", "pk"))


def corrections_of(*, request_ids: Collection[UUID]) -> dict[UUID, int]:
    """What corrections add to the cost of requests (nano-USD), of those that have any. One query."""
    rows = UsageAdjustment.objects.filter(request_id__in=request_ids).order_by()
    return dict(rows.values_list("request_id").annotate(Sum("delta_nano")))
