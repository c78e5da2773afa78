"""Facts of all floors become events for webhooks, and a worker is told as soon as they are committed."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone
from kombu.exceptions import OperationalError

from analytics.services.webhooks import (
    breaker_override_tell,
    deliveries_waiting,
    key_revoked_tell,
    policy_published_tell,
    policy_rolled_tell,
    provider_health_tell,
)
from analytics.tasks import deliver_webhooks
from providers.announcements import provider_health_changed
from providers.models import Deployment, Provider
from routing.announcements import key_revoked, policy_published, policy_rolled
from routing.models import PolicyDraft, PolicyVersion, VirtualKey


@receiver(key_revoked)
def _key_revoked(key: VirtualKey, by: User | None, at: datetime, **_: Any) -> None:
    key_revoked_tell(key=key, by=by, at=at)


@receiver(policy_published)
def _policy_published(version: PolicyVersion, **_: Any) -> None:
    policy_published_tell(version=version)


@receiver(policy_rolled)
def _policy_rolled(draft: PolicyDraft, at: datetime, **_: Any) -> None:
    policy_rolled_tell(draft=draft, at=at)


@receiver(provider_health_changed)
def _provider_health(provider: Provider, before: str, health: str, note: str, at: datetime, **_: Any) -> None:
    provider_health_tell(provider=provider, before=before, health=health, note=note, at=at)


@receiver(post_save, sender=Deployment)
def _deployment_saved(
    instance: Deployment, created: bool, raw: bool = False, update_fields: Collection[str] | None = None, **_: Any
) -> None:
    """By whichever way its breaker was forced. What is not written with the row may be old."""
    is_written = update_fields is None or "breaker" in update_fields
    if is_written and not raw and not (created and not instance.breaker):
        breaker_override_tell(deployment=instance, at=timezone.now())


@receiver(deliveries_waiting)
def _deliveries_waiting(**_: Any) -> None:
    transaction.on_commit(_deliver)


def _deliver() -> None:
    """If the queue does not answer, the next round sends them."""
    with suppress(OperationalError):
        deliver_webhooks.delay()
