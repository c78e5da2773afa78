"""The model names that callers may send."""

from django.core.exceptions import ValidationError
from django.db import models
from simple_history.models import HistoricalRecords

from providers.models import Deployment, RateLimitFields
from routing.models.names import callable_name


class ModelAlias(RateLimitFields):
    """A model name that callers may send, and the deployments that answer to it, in order.

    Its rate limits are for all that is asked of it, by name or through a policy, whoever asks.
    """

    name = models.CharField(
        max_length=120, unique=True, validators=[callable_name], help_text="What callers put into “model”."
    )
    description = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField("active", default=True)

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]
        verbose_name = "model alias"
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.name in {"auto"}:
            raise ValidationError({"name": "“auto” always means: let the policy decide."})


class AliasTarget(models.Model):
    """One deployment behind an alias; the first that fits a request serves it, the others are fallbacks."""

    alias = models.ForeignKey(ModelAlias, on_delete=models.CASCADE, related_name="targets")
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="alias_targets")
    position = models.PositiveIntegerField(default=0, help_text="Lower is tried first.")

    history = HistoricalRecords()

    class Meta:
        ordering = ["position", "id"]
        constraints = [models.UniqueConstraint(fields=["alias", "deployment"], name="alias_target_unique")]

    def __str__(self) -> str:
        return f"{self.position}. {self.deployment}"
