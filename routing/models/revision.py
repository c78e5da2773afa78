"""The number that tells gateways of an edit."""

from django.db import models
from django.db.models import Q
from django.utils import timezone


class ConfigRevision(models.Model):
    """One row: counts up with every edit of what the gateway compiles, in the edit's own transaction."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    revision = models.PositiveBigIntegerField(default=1)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_config_revision")]

    def __str__(self) -> str:
        return f"revision {self.revision}"
