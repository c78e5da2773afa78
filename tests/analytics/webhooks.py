"""What the tests of webhooks have in common: endpoints on loopback, and a receiver that checks as its library would."""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Any

from analytics.domain.webhooks import EventKind
from analytics.models import WebhookDelivery, WebhookEndpoint
from analytics.services.webhook_endpoints import endpoint_save
from tests.upstreams.receiver import Received

LOOPBACK = "127.0.0.1/32"
ALL = [kind.value for kind in EventKind if kind is not EventKind.TEST]


def endpoint(url: str, *events: str, **fields: Any) -> tuple[WebhookEndpoint, str]:
    """A saved endpoint that is told of `events` (none: all of them), and its secret."""
    fields = {"name": f"Endpoint {WebhookEndpoint.objects.count()}", "allowed_networks": LOOPBACK} | fields
    row = WebhookEndpoint(events=list(events) or ALL, **fields)
    fresh = endpoint_save(endpoint=row, address=url)
    assert fresh is not None
    return row, fresh.secret


def told() -> list[WebhookDelivery]:
    """Every delivery, the first first."""
    return list(WebhookDelivery.objects.select_related("event", "endpoint").order_by("event__at", "created_at", "pk"))


def is_signed_with(call: Received, secret: str, *, now: datetime) -> bool:
    """As the Standard Webhooks specification tells receivers to do, with nothing of ours."""
    if abs(now.timestamp() - int(call.headers["webhook-timestamp"])) > 300:
        return False
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(one, expected) for one in call.headers["webhook-signature"].split())
