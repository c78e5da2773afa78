"""Kept answers go when their day is over."""

from datetime import datetime

from analytics.models import IdempotentAnswer

BATCH = 1000


def idempotent_answers_expire(*, now: datetime) -> int:
    """Delete what is older than a day, some at a time, so that nobody who wants a key waits long; returns how many."""
    deleted = 0
    while True:
        some = list(
            IdempotentAnswer.objects.filter(expires_at__lte=now).order_by("expires_at").values_list("pk")[:BATCH]
        )
        if not some:
            return deleted
        deleted += IdempotentAnswer.objects.filter(pk__in=[pk for (pk,) in some], expires_at__lte=now).delete()[0]
