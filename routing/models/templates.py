"""Prompts that callers name instead of sending them."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models.names import callable_name


class PromptTemplate(models.Model):
    """A prompt that callers name: its versions say what, `version` is the number of the one in force, 0 before the
    first."""

    name = models.CharField(
        max_length=80,
        unique=True,
        validators=[callable_name],
        help_text="What callers send as “template”; “name@3” is version 3.",
    )
    description = models.CharField(max_length=300, blank=True, help_text="What it is for, for those who call it.")
    is_active = models.BooleanField("active", default=True)
    version = models.PositiveIntegerField("version in force", default=0, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def personas_told(self) -> list[str]:
        """The names of the active personas that need this template to stay switched on."""
        return list(self.personas.filter(is_active=True).values_list("slug", flat=True)) if self.pk else []

    def clean(self) -> None:
        if not self.is_active and (told := self.personas_told()):
            raise ValidationError(
                {"is_active": f"Give these personas another template first, or switch them off: {', '.join(told)}."}
            )


class PromptTemplateVersion(models.Model):
    """What a template says in one version: never edited, never deleted alone.

    `messages` and `variables` are lists of what `routing.domain.templates` calls `MessageDocument` and
    `VariableDocument`.
    """

    template = models.ForeignKey(PromptTemplate, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    system = models.TextField("system text", blank=True)
    messages = models.JSONField(default=list, blank=True)
    variables = models.JSONField(default=list, blank=True)
    note = models.CharField(max_length=300, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["template", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["template", "number"], name="prompt_template_version_unique"),
            models.CheckConstraint(condition=models.Q(number__gte=1), name="prompt_template_version_counts_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.template}@{self.number}"

    def save(self, *args: object, **kwargs: object) -> None:
        """:raises ValidationError: it is there already."""
        if not self._state.adding:
            raise ValidationError(f"{self} stays as it is: make a new version.")
        super().save(*args, **kwargs)  # type: ignore[arg-type]
