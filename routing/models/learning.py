"""What classifies prompts and estimates quality: trained artefacts, and plug-ins."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models.aliases import ModelAlias


class RouterArtefact(models.Model):
    """A trained classifier with its quality tables. `version` is a hash of `data`; `card` says how it was trained and
    how well it does. None active: the one that the platform ships."""

    version = models.CharField(max_length=32, unique=True)
    data = models.BinaryField()
    card = models.JSONField(default=dict)
    note = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField("active", default=False)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    history = HistoricalRecords(excluded_fields=["data"])

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "trained artefact"
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_artefact")
        ]

    def __str__(self) -> str:
        return self.version


class ClassifierKind(models.TextChoices):
    DOTTED = "dotted", "Python class, by its dotted path"
    EMBEDDINGS = "embeddings", "Embeddings of a model, compared with examples"
    LLM = "llm", "A model is asked"
    WEBHOOK = "webhook", "A web address is asked"


class ClassifierPlugIn(models.Model):
    """Something else that says what kind of work a prompt is. While it fails or is late, the built-in one does."""

    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=ClassifierKind.choices)
    dotted_path = models.CharField(max_length=200, blank=True, help_text="module.Class with classify(prompt).")
    alias = models.ForeignKey(ModelAlias, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    url = models.URLField("address", blank=True)
    timeout_ms = models.PositiveIntegerField(
        "timeout (ms)", default=5, validators=[MinValueValidator(1), MaxValueValidator(10_000)]
    )
    is_active = models.BooleanField("active", default=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]
        verbose_name = "classifier"
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_classifier")
        ]

    def __str__(self) -> str:
        return self.name
