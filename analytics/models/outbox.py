"""What alerts and webhooks have in common: a message that waits until the other side has it."""

import uuid

from django.db import models
from django.utils import timezone


class DeliveryState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    SENT = "sent", "Sent"
    FAILED = "failed", "Given up"


class OutboxRow(models.Model):
    """A message for one receiver, made in the transaction of what it tells.

    `next_attempt_at` is also the claim of the worker that is at it: a worker that dies leaves it to come due again.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveSmallIntegerField("tries", default=0)
    created_at = models.DateTimeField(default=timezone.now)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField("last answer", max_length=300, blank=True)

    class Meta:
        abstract = True
