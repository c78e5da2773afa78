"""Events are sent to endpoints: signed, at least once, and to none of them more than its share of a round.

An endpoint that fails is left alone for the rest of the round, so that it costs the others one time limit and no more.
One that takes nothing for days is switched off, which its page says.
"""

import json
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from analytics.domain.alert_messages import secret_key, signature_headers
from analytics.domain.webhooks import FAILING_FOR, EventKind, event_json
from analytics.models import DeliveryState, WebhookDelivery, WebhookEndpoint, WebhookEvent
from analytics.services.messengers import DeliveryError, webhook_endpoint, webhook_post
from analytics.services.outbox import (
    NOTE_CHARS,
    ROUND_S,
    outbox_claim,
    outbox_drop,
    outbox_put_back,
    outbox_sent,
)
from analytics.services.webhook_endpoints import OFF_NOTE, endpoint_active_set
from providers.fields import unseal

SHARE_S = 20.0  # of a round, for one endpoint

logger = logging.getLogger(__name__)


def webhooks_send(*, now: datetime, rng: Callable[[], float] = random.random) -> int:
    """Send what is due, endpoint by endpoint; returns how many messages were taken. Two runs at once share the work."""
    ends_at = time.monotonic() + ROUND_S
    due = WebhookDelivery.objects.filter(state=DeliveryState.WAITING, next_attempt_at__lte=now)
    endpoints = list(WebhookEndpoint.objects.filter(pk__in=due.values("endpoint")))
    sent = 0
    for endpoint in sorted(endpoints, key=lambda row: (row.failing_since is not None, rng())):  # the well ones first
        left_s = ends_at - time.monotonic()
        if left_s > 0:
            sent += _send_to(endpoint, min(left_s, SHARE_S), now, rng)
    return sent


def endpoint_test(*, endpoint: WebhookEndpoint, by: str, now: datetime) -> WebhookDelivery:
    """Send a made-up event at once, once; the delivery tells what came of it."""
    data = {"object": "test", "text": f"{by} has sent it from the page of this endpoint. Nothing is to be done."}
    with transaction.atomic():
        event = WebhookEvent.objects.create(kind=EventKind.TEST, at=now, team=endpoint.team, payload=data)
        delivery = WebhookDelivery.objects.create(
            event=event, endpoint=endpoint, state=DeliveryState.FAILED, attempts=1, created_at=now, next_attempt_at=now
        )
    try:
        delivery.note = delivery_post(delivery, now=now)[:NOTE_CHARS]
        delivery.state, delivery.sent_at = DeliveryState.SENT, now
    except DeliveryError as error:
        delivery.note = str(error)[:NOTE_CHARS]
    delivery.save(update_fields=["state", "note", "sent_at"])
    return delivery


def delivery_post(delivery: WebhookDelivery, *, now: datetime) -> str:
    """One try; returns what the other side said.

    :raises DeliveryError: it is to be tried again.
    """
    endpoint, event = delivery.endpoint, delivery.event
    body = json.dumps(event_json(event.pk, event.kind, event.at, event.payload)).encode()
    overlaps = bool(endpoint.previous_secret) and endpoint.previous_until is not None and now < endpoint.previous_until
    try:
        target = unseal(endpoint.target)
        headers = signature_headers(
            message_id=str(event.pk),
            at=now,
            body=body,
            key=secret_key(unseal(endpoint.signing_secret)),
            previous_key=secret_key(unseal(endpoint.previous_secret)) if overlaps else None,
        )
    except ImproperlyConfigured as error:
        raise DeliveryError(f"the endpoint's secrets cannot be decrypted: {error}") from None
    return webhook_post(webhook_endpoint(target, endpoint.allowed_networks), headers, body)


def _send_to(endpoint: WebhookEndpoint, for_s: float, now: datetime, rng: Callable[[], float]) -> int:
    """What is due for one endpoint, until it fails or its time is over; returns how many were taken."""
    sent = 0
    rows = WebhookDelivery.objects.filter(endpoint=endpoint)
    for claimed in outbox_claim(rows, now=now, for_s=for_s):
        delivery = WebhookDelivery.objects.select_related("endpoint", "event").get(pk=claimed.pk)
        if not delivery.endpoint.is_active:
            outbox_drop(delivery, OFF_NOTE)
            continue
        try:
            note = delivery_post(delivery, now=now)
        except DeliveryError as error:
            _failed(delivery, error, now, rng)
            break
        sent += outbox_sent(delivery, note, now=now)
        if delivery.endpoint.failing_since is not None:
            WebhookEndpoint.objects.filter(pk=endpoint.pk).update(failing_since=None)
    return sent


def _failed(delivery: WebhookDelivery, error: DeliveryError, now: datetime, rng: Callable[[], float]) -> None:
    endpoint = delivery.endpoint
    if outbox_put_back(delivery, str(error), now=now, rng=rng):
        logger.error("an event could not be delivered to %s: %s", endpoint.name, error)
    else:
        logger.warning("an event waits for %s, try %d: %s", endpoint.name, delivery.attempts, error)
    if error.status == HTTPStatus.GONE:  # Source: Standard Webhooks specification, “Deliverability” (1.0.0)
        _give_up(endpoint, f"it answered 410: it wants no more. {now:%-d %b %Y %H:%M} UTC")
    elif endpoint.failing_since is None:
        WebhookEndpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(failing_since=now)
    elif now - endpoint.failing_since >= FAILING_FOR:
        since = f"{endpoint.failing_since:%-d %b %Y %H:%M} UTC"
        _give_up(endpoint, f"it has taken nothing since {since}; at last: {error}")


def _give_up(endpoint: WebhookEndpoint, why: str) -> None:
    if endpoint_active_set(endpoint=endpoint, is_active=False, why=why):
        logger.error("the webhook endpoint %s was switched off: %s", endpoint.name, why)
