"""Policies against each other, on real traffic."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models.access import VirtualKey
from routing.models.lifecycle import PolicyDraft
from routing.models.names import slug_name
from routing.models.policies import RoutingPolicy


class ExperimentKind(models.TextChoices):
    AB = "ab", "A/B: a share of the requests follows the challenger"
    CANARY = "canary", "Canary: a share that grows while all is well"
    SHADOW = "shadow", "Shadow: a share is asked again, and that answer thrown away"


class ExperimentUnit(models.TextChoices):
    """What stays on one side."""

    REQUEST = "request", "Each request"
    CONVERSATION = "conversation", "A conversation"
    KEY = "key", "A virtual key"


class ExperimentState(models.TextChoices):
    DRAFT = "draft", "Not started"
    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"
    PROMOTED = "promoted", "Promoted"


def canary_stages() -> list[int]:
    return [5, 25, 50, 100]


class Experiment(models.Model):
    """The policy in force against the rules of a draft. What it finds is read from usage records by their `arm`.

    A shadow's requests are those of `payer`, a virtual key: its budgets and limits hold, and `max_cost` ends it.
    """

    name = models.CharField(max_length=60, unique=True, validators=[slug_name])
    policy = models.ForeignKey(RoutingPolicy, on_delete=models.PROTECT, related_name="experiments")
    challenger = models.ForeignKey(
        PolicyDraft, on_delete=models.PROTECT, related_name="experiments", help_text="The draft whose rules are tried."
    )
    kind = models.CharField(max_length=8, choices=ExperimentKind.choices, default=ExperimentKind.AB)
    unit = models.CharField(max_length=12, choices=ExperimentUnit.choices, default=ExperimentUnit.CONVERSATION)
    percent = models.PositiveSmallIntegerField(
        "share of the challenger (%)", default=10, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    stages = models.JSONField(default=canary_stages, blank=True, help_text="Of a canary: the shares, step by step.")
    stage_minutes = models.PositiveIntegerField("minutes per stage", default=30, validators=[MinValueValidator(1)])
    stage_since = models.DateTimeField(null=True, editable=False)
    seed = models.CharField(max_length=32, blank=True, editable=False)
    payer = models.ForeignKey(
        VirtualKey,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Of a shadow: the key that pays for the second answers.",
    )
    max_cost = models.DecimalField(
        "own budget (USD)",
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="The experiment ends when the challenger has cost so much. A shadow needs one.",
    )
    guard_error_points = models.FloatField(
        "stop at more errors (percentage points)", default=5.0, validators=[MinValueValidator(0)]
    )
    guard_latency_percent = models.FloatField("stop when slower by (%)", null=True, blank=True, default=100.0)
    guard_cost_percent = models.FloatField("stop when dearer by (%)", null=True, blank=True)
    min_samples = models.PositiveIntegerField(
        "look from (requests per arm)", default=50, validators=[MinValueValidator(1)]
    )
    state = models.CharField(
        max_length=8, choices=ExperimentState.choices, default=ExperimentState.DRAFT, editable=False
    )
    started_at = models.DateTimeField(null=True, editable=False)
    stopped_at = models.DateTimeField(null=True, editable=False)
    stop_reason = models.CharField(max_length=300, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["policy"], condition=Q(state="running"), name="one_running_experiment_per_policy"
            )
        ]

    def __str__(self) -> str:
        return self.name
