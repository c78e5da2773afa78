"""Kept decisions go when their time is over; the prompts among them perhaps sooner."""

from datetime import datetime, timedelta
from typing import Final

from analytics.models import DecisionRecord

BATCH: Final = 2_000


def decisions_expire(*, now: datetime, days: int) -> int:
    """Delete decisions older than so many days, some at a time; returns how many. 0 keeps all."""
    if not days:
        return 0
    old = DecisionRecord.objects.filter(at__lt=now - timedelta(days=days))
    deleted = 0
    while some := list(old.order_by("at").values_list("pk", flat=True)[:BATCH]):
        deleted += DecisionRecord.objects.filter(pk__in=some).delete()[0]
    return deleted


def prompts_expire(*, now: datetime, days: int) -> int:
    """Wipe prompts older than so many days, labelled or not; returns how many. 0 keeps them as long as the decision."""
    if not days:
        return 0
    old = DecisionRecord.objects.filter(at__lt=now - timedelta(days=days)).exclude(prompt="")
    wiped = 0
    while some := list(old.values_list("pk", flat=True)[:BATCH]):
        wiped += DecisionRecord.objects.filter(pk__in=some).update(prompt="")
    return wiped
