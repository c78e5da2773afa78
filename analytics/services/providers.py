"""Providers, judged by what became of real requests."""

from collections import defaultdict
from datetime import datetime, timedelta

from analytics.models import UsageRecord
from providers.domain.errors import FailureKind
from providers.domain.health import Traffic, judge_traffic, traffic_note
from providers.health_checks import health_record
from providers.models import Provider

FAILURES = frozenset(FailureKind)
TRAFFIC_WINDOW = timedelta(minutes=5)
TRAFFIC_SAMPLE = 2_000  # records; the latest ones say enough about now


def providers_judge(*, now: datetime) -> int:
    """Record the health of every provider that had enough attempts in the last 5 minutes; returns how many.

    Two runs at once may record the same verdict twice, which changes nothing.
    """
    traffic = recent_traffic(now)
    judged = 0
    for provider in Provider.objects.filter(name__in=traffic, is_active=True):
        health = judge_traffic(traffic[provider.name])
        if health is not None:
            note = traffic_note(traffic[provider.name])
            health_record(provider=provider, health=health, note=note, latency_ms=None, is_passive=True, now=now)
            judged += 1
    return judged


def recent_traffic(now: datetime) -> dict[str, Traffic]:
    """The attempts of the last 5 minutes by provider name."""
    records = UsageRecord.objects.filter(started_at__gt=now - TRAFFIC_WINDOW, started_at__lte=now)
    failures: dict[str, list[str]] = defaultdict(list)
    for attempts in records.order_by("-started_at").values_list("attempts", flat=True)[:TRAFFIC_SAMPLE]:
        for attempt in attempts:
            failure = attempt.get("failure", "")
            if not failure or failure in FAILURES:  # a caller who left says nothing about the provider
                failures[attempt["provider"]].append(failure)
    return {provider: Traffic(tuple(found)) for provider, found in failures.items()}
