"""Roles that applications ask for by name."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from simple_history.models import HistoricalRecords

from providers.models import validate_capabilities
from routing.models.names import slug_name
from routing.models.policies import RoutingPolicy
from routing.models.templates import PromptTemplate


class Persona(models.Model):
    """A role that an application asks for by name: a system prompt, defaults, and the policy that picks its model."""

    slug = models.CharField(
        max_length=60, unique=True, validators=[slug_name], help_text="What callers send as “persona” or as “model”."
    )
    name = models.CharField(max_length=80, help_text="The name people see.")
    description = models.CharField(max_length=300, blank=True)
    system_prompt = models.TextField(blank=True, help_text="Put before the conversation of every request.")
    template = models.ForeignKey(
        PromptTemplate,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="personas",
        help_text="Its system text follows the system prompt; callers fill it in with “variables”.",
    )
    template_version = models.PositiveIntegerField(
        null=True, blank=True, help_text="Always this version of the template. Empty: the one in force."
    )
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
        self._check_template()

    def _check_template(self) -> None:
        """A persona adds a system text to every request, so its template has one and no messages.

        :raises ValidationError:
        """
        template = self.template
        if template is None:
            if self.template_version is not None:
                raise ValidationError({"template_version": "Choose a template first."})
            return
        if self.is_active and not template.is_active:
            raise ValidationError({"template": "This template is switched off. Choose another, or switch it on first."})
        number = template.version if self.template_version is None else self.template_version
        version = template.versions.filter(number=number).first()
        if version is None and self.template_version is None:
            raise ValidationError({"template": "This template has no version in force yet."})
        if version is None:
            raise ValidationError({"template_version": f"“{template}” has no version {number}."})
        if version.messages or not version.system:
            raise ValidationError(
                {"template": f"“{version}” has messages: a persona takes a template of a system text alone."}
            )
