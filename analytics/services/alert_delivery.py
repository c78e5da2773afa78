"""The outbox: messages about alerts are sent at least once, by whoever claims them, until the other side has them.

What waits is a row, made in the transaction of the alert's move. A try that fails is repeated with growing pauses for
a day, then given up, which the admin shows. Nothing here holds a transaction while it waits for a network.
"""

import logging
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urljoin
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.urls import reverse

from analytics.domain.alert_messages import AlertMessage
from analytics.domain.alerts import GIVEN_UP_AFTER, retry_after_s
from analytics.models import Alert, AlertChannel, AlertDelivery, AlertEvent, DeliveryState, Severity
from analytics.services.messengers import DeliveryError, message_send

logger = logging.getLogger(__name__)

CLAIMED_FOR = timedelta(minutes=5)  # longer than a task may run
ROUND_S = 60.0  # what is due later is the next round's
NOTE_CHARS = 300


def deliveries_send(*, now: datetime, rng: Callable[[], float] = random.random) -> int:
    """Send what is due, the oldest first; returns how many the other side took. Two runs at once share the work."""
    sent = 0
    ends_at = time.monotonic() + ROUND_S
    due = AlertDelivery.objects.filter(state=DeliveryState.WAITING, next_attempt_at__lte=now)
    for pk, due_at in list(due.order_by("next_attempt_at").values_list("pk", "next_attempt_at")):
        if time.monotonic() > ends_at:
            break
        claim = AlertDelivery.objects.filter(pk=pk, state=DeliveryState.WAITING, next_attempt_at=due_at)
        if claim.update(next_attempt_at=now + CLAIMED_FOR, attempts=F("attempts") + 1):
            sent += _try(pk, now, rng)
    return sent


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


def _try(pk: UUID, now: datetime, rng: Callable[[], float]) -> bool:
    """One attempt at a delivery that this worker has claimed."""
    delivery = AlertDelivery.objects.select_related("channel", "event__alert__rule", "event__alert__team").get(pk=pk)
    claimed = AlertDelivery.objects.filter(pk=pk, state=DeliveryState.WAITING, attempts=delivery.attempts)
    if delivery.event is None or not delivery.channel.is_active:
        claimed.update(state=DeliveryState.FAILED, note="the channel was switched off")
        return False
    try:
        note = message_send(channel=delivery.channel, message=message_of(delivery, delivery.event), now=now)
    except DeliveryError as error:
        _put_back(delivery, str(error), now, rng)
        return False
    return claimed.update(state=DeliveryState.SENT, sent_at=now, note=note[:NOTE_CHARS]) == 1


def _put_back(delivery: AlertDelivery, reason: str, now: datetime, rng: Callable[[], float]) -> None:
    again_at = now + timedelta(seconds=retry_after_s(delivery.attempts, rng()))
    is_over = again_at > delivery.created_at + GIVEN_UP_AFTER
    state = DeliveryState.FAILED if is_over else DeliveryState.WAITING
    claimed = AlertDelivery.objects.filter(pk=delivery.pk, state=DeliveryState.WAITING, attempts=delivery.attempts)
    claimed.update(state=state, next_attempt_at=again_at, note=reason[:NOTE_CHARS])
    if is_over:
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
