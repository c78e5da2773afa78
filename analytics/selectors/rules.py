"""How often operators' rules have fitted."""

from datetime import datetime

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

from analytics.models import UsageRecord


def rule_hits(*, since: datetime) -> Coalesce:
    """To annotate rules with: how many requests each has fitted. Reads the index of rules, not the records."""
    fitted = UsageRecord.objects.filter(rule=OuterRef("name"), started_at__gt=since).exclude(rule="")
    return Coalesce(Subquery(fitted.order_by().values("rule").annotate(hits=Count("pk")).values("hits")), 0)
