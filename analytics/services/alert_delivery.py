"""Messages about alerts are sent at least once, by whoever claims them, until the other side has them.

What waits is a row, made in the transaction of the alert's move. A try that fails is repeated with growing pauses for
a day, then given up, which the admin shows.
"""

import logging
import random
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urljoin

from django.conf import settings
from django.urls import reverse

from analytics.domain.alert_messages import AlertMessage
from analytics.models import Alert, AlertChannel, AlertDelivery, AlertEvent, DeliveryState, Severity
from analytics.services.messengers import DeliveryError, message_send
from analytics.services.outbox import NOTE_CHARS, outbox_claim, outbox_drop, outbox_put_back, outbox_sent

logger = logging.getLogger(__name__)


def deliveries_send(*, now: datetime, rng: Callable[[], float] = random.random) -> int:
    """Send what is due, the oldest first; returns how many the other side took. Two runs at once share the work."""
    return sum(_try(delivery, now, rng) for delivery in outbox_claim(AlertDelivery.objects.all(), now=now))


def channel_test(*, channel: AlertChannel, by: str, now: datetime) -> AlertDelivery:
    """Send a made-up message through `channel` at once, once; the delivery tells what came of it."""
    delivery = AlertDelivery.objects.create(channel=channel, attempts=1, created_at=now, next_attempt_at=now)
    try:
        note = message_send(channel=channel, message=test_message(delivery, by=by), now=now)
    except DeliveryError as error:
        delivery.state, delivery.note = DeliveryState.FAILED, str(error)[:NOTE_CHARS]
    else:
        delivery.state, delivery.note, delivery.sent_at = DeliveryState.SENT, note[:NOTE_CHARS], now
    delivery.save(update_fields=["state", "note", "sent_at"])
    return delivery


def _try(claimed: AlertDelivery, now: datetime, rng: Callable[[], float]) -> bool:
    """One attempt at a delivery that this worker has claimed."""
    rows = AlertDelivery.objects.select_related("channel", "event__alert__rule", "event__alert__team")
    delivery = rows.get(pk=claimed.pk)
    if delivery.event is None or not delivery.channel.is_active:
        outbox_drop(delivery, "the channel was switched off")
        return False
    try:
        note = message_send(channel=delivery.channel, message=message_of(delivery, delivery.event), now=now)
    except DeliveryError as error:
        _put_back(delivery, str(error), now, rng)
        return False
    return outbox_sent(delivery, note, now=now)


def _put_back(delivery: AlertDelivery, reason: str, now: datetime, rng: Callable[[], float]) -> None:
    if outbox_put_back(delivery, reason, now=now, rng=rng):
        logger.error("an alert could not be delivered to %s: %s", delivery.channel.name, reason)
    else:
        logger.warning("an alert waits for %s, try %d: %s", delivery.channel.name, delivery.attempts, reason)


# --- what is said ---------------------------------------------------------------------------------------------------


def message_of(delivery: AlertDelivery, event: AlertEvent) -> AlertMessage:
    """The same for every try: what the alert said at that move."""
    alert = event.alert
    return AlertMessage(
        id=str(delivery.pk),
        event=event.kind,
        at=event.at,
        alert_id=alert.pk,
        fingerprint=alert.fingerprint,
        rule=alert.rule.kind,
        severity=Severity(alert.severity).label.lower(),
        subject=alert.subject_name,
        team=alert.team.name if alert.team else "",
        title=event.title,
        text=event.text,
        url=alert_url(alert),
        opened_at=alert.opened_at,
        value=event.value,
        limit=alert.limit,
        unit=alert.unit,
    )


def test_message(delivery: AlertDelivery, *, by: str) -> AlertMessage:
    """Looks like a message about an alert, and says that it is none."""
    return AlertMessage(
        id=str(delivery.pk),
        event="test",
        at=delivery.created_at,
        alert_id=None,
        fingerprint="",
        rule="test",
        severity="info",
        subject="Router Platform",
        team="",
        title="This is a test",
        text=f"{by} has sent it from the page of this channel. Nothing is wrong, and nothing is to be done.",
        url=urljoin(settings.PUBLIC_URL, reverse("analytics:alerts")),
        opened_at=delivery.created_at,
        value=0,
        limit=None,
        unit="",
    )


def alert_url(alert: Alert) -> str:
    """Where a person reads about it, from outside."""
    return urljoin(settings.PUBLIC_URL, reverse("analytics:alert", args=[alert.pk]))
