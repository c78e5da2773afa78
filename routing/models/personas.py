"""Roles that applications ask for by name."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from simple_history.models import HistoricalRecords

from providers.models import validate_capabilities
from routing.models.names import slug_name
from routing.models.policies import RoutingPolicy


class Persona(models.Model):
    """A role that an application asks for by name: a system prompt, defaults, and the policy that picks its model."""

    slug = models.CharField(
        max_length=60, unique=True, validators=[slug_name], help_text="What callers send as “persona” or as “model”."
    )
    name = models.CharField(max_length=80, help_text="The name people see.")
    description = models.CharField(max_length=300, blank=True)
    system_prompt = models.TextField(blank=True, help_text="Put before the conversation of every request.")
    policy = models.ForeignKey(RoutingPolicy, on_delete=models.PROTECT, related_name="personas")
    temperature = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(2)],
        help_text="Used when the request sets none and the model accepts one. Empty: the vendor's default.",
    )
    max_tokens = models.PositiveIntegerField(
        "longest answer (tokens)",
        default=4096,
        validators=[MinValueValidator(1)],
        help_text="Used when the request sets no limit.",
    )
    required_capabilities = models.JSONField(
        default=list, blank=True, validators=[validate_capabilities], help_text="Asked of every model that serves it."
    )
    is_active = models.BooleanField("active", default=True)

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.slug == "auto":
            raise ValidationError({"slug": "“auto” always means: let the policy decide."})
        if self.is_active and hasattr(self, "policy") and not self.policy.is_active:
            raise ValidationError({"policy": "This policy is switched off. Choose another, or switch it on first."})
