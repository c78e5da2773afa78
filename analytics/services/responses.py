"""Kept responses go when their time is over."""

from datetime import datetime

from analytics.models import StoredResponse

BATCH = 500


def stored_responses_expire(*, now: datetime) -> int:
    """Delete what is over its time, some at a time, so that nobody who keeps one waits long; returns how many."""
    deleted = 0
    while True:
        some = list(StoredResponse.objects.filter(expires_at__lte=now).order_by("expires_at").values_list("pk")[:BATCH])
        if not some:
            return deleted
        deleted += StoredResponse.objects.filter(pk__in=[pk for (pk,) in some], expires_at__lte=now).delete()[0]
