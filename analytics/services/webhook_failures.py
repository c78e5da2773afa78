"""Requests that failed, as the usage records tell: so many a minute one by one, the others counted in one event."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from analytics.domain.webhooks import DETAIL_CHARS, EventKind, Failure, event_id, summary_data, utc_text
from analytics.models import (
    DeliveryState,
    FailedRequest,
    UsageRecord,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from analytics.services.webhooks import deliveries_add

MOST_AT_ONCE = 1000
MINUTE = timedelta(minutes=1)


def failures_tell(*, now: datetime) -> int:
    """Make events of the failures that were recorded since; returns how many failures that were."""
    told = 0
    while count := _tell_some(now):
        told += count
    return told


@transaction.atomic
def _tell_some(now: datetime) -> int:
    """Whoever holds the endpoints' rows tells: two runs at once cannot both count up to the most of a minute."""
    active = WebhookEndpoint.objects.select_for_update(of=("self",)).filter(is_active=True).order_by("pk")
    endpoints = [row for row in active if EventKind.REQUEST_FAILED in row.events]
    ids = list(FailedRequest.objects.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE])
    if not ids:
        return 0
    found = UsageRecord.objects.filter(pk__in=ids).order_by("finished_at", "pk")
    records = list(found.select_related("team")) if endpoints else []
    one_by_one: dict[str, list[WebhookEndpoint]] = defaultdict(list)
    for endpoint in endpoints:
        seen = [row for row in records if endpoint.team_id in {None, row.team_id}]
        left = max(0, endpoint.failures_per_minute - _told_of_late(endpoint, now))
        for record in seen[:left]:
            one_by_one[str(record.pk)].append(endpoint)
        _count(endpoint, seen[left:], now)
    _events(records, one_by_one, now)
    FailedRequest.objects.filter(pk__in=ids).delete()
    return len(ids)


def _told_of_late(endpoint: WebhookEndpoint, now: datetime) -> int:
    """How many were told one by one in this minute."""
    rows = WebhookDelivery.objects.filter(endpoint=endpoint, event__kind=EventKind.REQUEST_FAILED)
    return rows.filter(event__at__gte=_minute(now), event__payload__object="request").count()


def _events(records: Sequence[UsageRecord], wanted: Mapping[str, Iterable[WebhookEndpoint]], now: datetime) -> None:
    for record in records:
        if endpoints := wanted.get(str(record.pk)):
            event = WebhookEvent.objects.create(
                pk=event_id("request.failed", record.pk),
                kind=EventKind.REQUEST_FAILED,
                at=now,
                team_id=record.team_id,
                payload=failure_data(record),
            )
            deliveries_add(event, endpoints, now=now)


def failure_data(record: UsageRecord) -> dict[str, Any]:
    """Nothing of what was asked or answered, and of keys only what may be shown."""
    return {
        "object": "request",
        "request_id": str(record.pk),
        "code": record.error_code,
        "status": record.http_status,
        "door": record.door,
        "team": {"name": record.team_name, "slug": record.team.slug},
        "key": {"id": record.key_id, "name": record.key_name, "prefix": record.key_prefix},
        "model": record.requested_model,
        "deployment": record.deployment,
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "started_at": utc_text(record.started_at),
        "finished_at": utc_text(record.finished_at),
    }


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """A vendor's own words stay here: they may quote the prompt."""
    return {
        "deployment": attempt.get("deployment", ""),
        "failure": str(attempt.get("failure", ""))[:DETAIL_CHARS],
        "status": attempt.get("http_status"),
        "latency_ms": attempt.get("latency_ms"),
    }


def _count(endpoint: WebhookEndpoint, records: Sequence[UsageRecord], now: datetime) -> None:
    """Add them to the summary of this minute, which is sent when the minute is over; of the next one, if it has been
    claimed already."""
    minute = _minute(now)
    while records:
        key = event_id("request.failed", endpoint.pk, minute)
        failures = [Failure(row.pk, row.error_code, row.finished_at) for row in records]
        delivery = WebhookDelivery.objects.select_for_update().filter(event_id=key, endpoint=endpoint).first()
        if delivery is None:
            event = WebhookEvent.objects.create(
                pk=key,
                kind=EventKind.REQUEST_FAILED,
                at=minute + MINUTE,
                team=endpoint.team,
                payload=summary_data(minute, failures, None),
            )
            due_at = max(now, minute + MINUTE)
            WebhookDelivery.objects.create(event=event, endpoint=endpoint, created_at=now, next_attempt_at=due_at)
            return
        if delivery.state == DeliveryState.WAITING and not delivery.attempts:
            event = WebhookEvent.objects.get(pk=key)
            event.payload = summary_data(minute, failures, event.payload)
            event.save(update_fields=["payload"])
            return
        minute += MINUTE


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)
