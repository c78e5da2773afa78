"""Corrections of cost: a usage record is never edited, what was wrong about it is added beside it."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class UsageAdjustment(models.Model):
    """What a request cost more (or less) than its record says. Every sum of costs includes it.

    `delta_nano` is nano-USD. It counts at the time of the record (`started_at`), not of the correction. `was_unpriced`
    is set on the first adjustment of a record whose cost was unknown: the record is priced from then on.
    """

    request_id = models.UUIDField("request", db_index=True)
    started_at = models.DateTimeField(db_index=True)
    delta_nano = models.BigIntegerField("correction (nano-USD)")
    was_unpriced = models.BooleanField(default=False)
    price = models.JSONField("price used", null=True, blank=True)
    charges = models.JSONField(default=dict, help_text="Of which budget windows, by id (nano-USD).")
    reason = models.CharField(max_length=200)
    batch = models.UUIDField(help_text="All corrections of one run.")
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = "correction"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["request_id", "batch"], name="one_adjustment_per_request_and_batch")
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.delta_nano:+}"
