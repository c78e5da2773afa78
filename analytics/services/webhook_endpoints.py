"""Endpoints of webhooks: their addresses and secrets are checked, sealed on the way in, and never shown again."""

from dataclasses import dataclass, field
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from analytics.domain.webhooks import SECRETS_OVERLAP
from analytics.models import ChannelKind, DeliveryState, WebhookDelivery, WebhookEndpoint
from analytics.services.alert_channels import signing_secret_new, target_clean, target_hint
from providers.fields import seal

OFF_NOTE = "the endpoint was switched off"
# What a person edits: a secret that is changed meanwhile stays changed.
EDITED = [
    *("name", "target", "hint", "events", "team", "failures_per_minute", "allowed_networks", "is_active"),
    *("failing_since", "switched_off"),
]


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A signing secret, `whsec_…`: show it once and forget it. Until `old_until`, messages are signed with the one
    before too; None: there is none before."""

    secret: str = field(repr=False)
    old_until: datetime | None = None


@transaction.atomic
def endpoint_save(*, endpoint: WebhookEndpoint, address: str = "") -> NewSecret | None:
    """Save an endpoint; without an address, its own stays. A new one gets a signing secret, which is returned.

    An edit is a new beginning: how long it has failed so far counts no more.

    :raises ValidationError: in words, by `address`; of a new one without address too.
    """
    if not address and not endpoint.target:
        raise ValidationError({"address": "An endpoint needs one: https:// and where your program listens."})
    if address:
        clean = target_clean(ChannelKind.WEBHOOK, address, endpoint.allowed_networks)
        endpoint.target, endpoint.hint = seal(clean), target_hint(ChannelKind.WEBHOOK, clean)
    secret = None
    if not endpoint.signing_secret:
        secret = NewSecret(signing_secret_new())
        endpoint.signing_secret = seal(secret.secret)
    endpoint.failing_since, endpoint.switched_off = None, ""
    endpoint.save(update_fields=EDITED if endpoint.pk else None)
    if not endpoint.is_active:
        _drop_waiting(endpoint)
    return secret


@transaction.atomic
def endpoint_secret_rotate(*, endpoint: WebhookEndpoint, now: datetime) -> NewSecret:
    """A new signing secret. For a day messages carry two signatures, so that receivers can change in their own time;
    a secret that was about to go before is good no more."""
    row = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
    fresh = NewSecret(signing_secret_new(), now + SECRETS_OVERLAP)
    row.previous_secret, row.previous_until = row.signing_secret, fresh.old_until
    row.signing_secret = seal(fresh.secret)
    row.save(update_fields=["signing_secret", "previous_secret", "previous_until"])
    return fresh


@transaction.atomic
def endpoint_active_set(*, endpoint: WebhookEndpoint, is_active: bool, why: str = "") -> bool:
    """Switch it on or off; False when it already was so. Switched off, what waits for it is not sent any more."""
    row = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
    if row.is_active == is_active:
        return False
    row.is_active, row.failing_since, row.switched_off = is_active, None, "" if is_active else why[:300]
    row.save(update_fields=["is_active", "failing_since", "switched_off"])
    if not is_active:
        _drop_waiting(row)
    return True


def _drop_waiting(endpoint: WebhookEndpoint) -> None:
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=DeliveryState.WAITING)
    waiting.update(state=DeliveryState.FAILED, note=OFF_NOTE)
