"""What it cost: one usage record per request, daily rollups of them, budgets that alert, and alerts."""

from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models import Team, VirtualKey


class UsageState(models.TextChoices):
    SETTLED = "settled", "Answered"
    CANCELLED = "cancelled", "Cancelled by the caller"
    RELEASED = "released", "Failed, nothing billed"
    EXPIRED = "expired", "Gateway stopped"


class UsageSource(models.TextChoices):
    PROVIDER = "provider", "Provider's own count"
    COUNTED = "counted", "Counted by the gateway"
    BOUND = "bound", "Upper bound, in doubt"
    NONE = "none", "Nothing used"


class UsageRecord(models.Model):
    """One request, final when it appears. Written by the ledger's shipper, never edited, never deleted by hand.

    Names are copied, so that a record reads the same years later. Money is nano-USD; a NULL cost is an unknown price.
    """

    request_id = models.UUIDField("request", primary_key=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=UsageState.choices)
    door = models.CharField(max_length=20, help_text="How the request came in.")
    http_status = models.PositiveSmallIntegerField("status")
    error_code = models.CharField("error", max_length=60, blank=True)
    is_stream = models.BooleanField("streamed", default=False)

    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_constraint=False, related_name="usage")
    key = models.ForeignKey(VirtualKey, on_delete=models.PROTECT, db_constraint=False, related_name="usage")
    team_name = models.CharField("team", max_length=80)
    key_name = models.CharField("key", max_length=80)
    key_prefix = models.CharField(max_length=16)
    persona = models.CharField(max_length=60, blank=True)
    policy = models.CharField(max_length=80, blank=True)
    requested_model = models.CharField("asked for", max_length=200)
    provider = models.CharField(max_length=60, blank=True)
    deployment = models.CharField("served by", max_length=200, blank=True)
    model = models.CharField(max_length=120, blank=True)

    input_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_input_tokens = models.PositiveBigIntegerField("cache read tokens", default=0)
    cache_creation_input_tokens = models.PositiveBigIntegerField("cache write tokens", default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField("of which reasoning", default=0)
    usage_source = models.CharField("counted by", max_length=10, choices=UsageSource.choices)
    cost_nano = models.BigIntegerField("cost (nano-USD)", null=True, blank=True)
    price = models.JSONField("price used", null=True, blank=True)

    attempts = models.JSONField(default=list, help_text="Every try at a provider, in order.")
    decision = models.JSONField(default=dict, help_text="Why this route.")
    config_revision = models.PositiveBigIntegerField(default=0)
    ttft_ms = models.FloatField("first token (ms)", null=True, blank=True)
    latency_ms = models.FloatField("total (ms)")
    overhead_ms = models.FloatField("of which ours (ms)", default=0)

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["-started_at", "-request_id"], name="usage_latest"),
            models.Index(fields=["team", "-started_at"], name="usage_team_latest"),
            models.Index(fields=["key", "-started_at"], name="usage_key_latest"),
            models.Index(fields=["provider", "-started_at"], name="usage_provider_latest"),
            models.Index(fields=["-started_at"], condition=~Q(error_code=""), name="usage_errors_latest"),
        ]
        constraints = [models.CheckConstraint(condition=Q(cost_nano__gte=0), name="usage_cost_not_negative")]

    def __str__(self) -> str:
        return str(self.request_id)


class UsageRollup(models.Model):
    """A day of one combination of names, recomputed from the records whenever its day was marked dirty."""

    day = models.DateField()
    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    team_name = models.CharField(max_length=80)
    key = models.ForeignKey(VirtualKey, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    persona = models.CharField(max_length=60, blank=True)
    policy = models.CharField(max_length=80, blank=True)
    provider = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=120, blank=True)
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    unpriced = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_input_tokens = models.PositiveBigIntegerField(default=0)
    cache_creation_input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0)
    latency_ms_sum = models.FloatField(default=0)

    class Meta:
        ordering = ["-day", "team_name"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "team", "key", "persona", "policy", "provider", "model"], name="usage_rollup_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.team_name} {self.model}"


class DirtyDay(models.Model):
    """A day whose records changed since its rollup was computed. `marks` counts up, so that a mark made while the
    day is being recomputed is not lost."""

    day = models.DateField(primary_key=True)
    marks = models.PositiveBigIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.day}"


class BudgetDuration(models.TextChoices):
    DAY = "1d", "Day"
    MONTH = "1mo", "Calendar month"
    TOTAL = "total", "Since it was created"


class Budget(models.Model):
    """A team's money. For now it warns; it does not yet refuse requests."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="budgets")
    max_budget = models.DecimalField(
        "budget (USD)",
        max_digits=12,
        decimal_places=2,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="An alert opens at 50, 80 and 100 % of it. Requests are not refused.",
    )
    budget_duration = models.CharField(
        "per", max_length=10, choices=BudgetDuration.choices, default=BudgetDuration.MONTH
    )
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["team"]
        constraints = [models.UniqueConstraint(fields=["team", "budget_duration"], name="budget_unique")]

    def __str__(self) -> str:
        return f"{self.team}: ${self.max_budget} per {self.get_budget_duration_display().lower()}"


class BudgetAlert(models.Model):
    """A budget passed a threshold in a window. Unique, so that a check may run any number of times."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="alerts")
    window_start = models.DateTimeField()
    threshold = models.PositiveSmallIntegerField("threshold (%)")
    spent_nano = models.BigIntegerField("spent (nano-USD)")
    opened_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(fields=["budget", "window_start", "threshold"], name="budget_alert_once")
        ]

    def __str__(self) -> str:
        return f"{self.budget}: {self.threshold} %"
