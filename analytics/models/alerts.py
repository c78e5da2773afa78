"""What people are told about: rules, the alerts that they open, and the channels that carry the news.

An alert is one row per rule, subject, window and threshold. What happened to it is kept beside it, and what has to be
sent about it waits in an outbox until a channel has taken it.
"""

import hashlib
from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from analytics.domain.alerts import PARAMETERS, parameter_problem
from analytics.models.budgets import Budget
from analytics.models.outbox import OutboxRow
from providers.domain.egress import parse_networks
from providers.fields import SealedTextField
from routing.models import Team


class AlertKind(models.TextChoices):
    BUDGET_THRESHOLD = "budget_threshold", "Budget threshold"
    BUDGET_FORECAST = "budget_forecast", "Budget forecast"
    SPEND_ANOMALY = "spend_anomaly", "Unusual spend"
    UNPRICED_USAGE = "unpriced_usage", "Usage of unknown price"
    ZERO_COST = "zero_cost", "Priced usage that cost nothing"
    PROVIDER_DOWN = "provider_down", "Provider down"
    ERROR_RATE = "error_rate", "Error rate of a provider"
    LEDGER = "ledger", "Ledger not in order"


class Severity(models.IntegerChoices):
    INFO = 10, "Info"
    WARNING = 20, "Warning"
    CRITICAL = 30, "Critical"


class AlertState(models.TextChoices):
    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    SNOOZED = "snoozed", "Snoozed"
    RESOLVED = "resolved", "Resolved"


class AlertUnit(models.TextChoices):
    """What `value` and `limit` of an alert count."""

    NANO_USD = "nano_usd", "nano-USD"
    PERCENT = "percent", "%"
    REQUESTS = "requests", "requests"
    DIFFERENCES = "differences", "differences"
    NONE = "", "nothing"


class AlertRule(models.Model):
    """When to tell people. One row per kind, there from the first migration; `parameters` holds what was changed."""

    kind = models.CharField(max_length=30, unique=True, choices=AlertKind.choices)
    is_active = models.BooleanField("active", default=True, help_text="Off: nothing opens, and what is open resolves.")
    parameters = models.JSONField(default=dict, blank=True)

    history = HistoricalRecords()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.get_kind_display()

    def clean(self) -> None:
        for name, value in self.parameters.items():
            if problem := parameter_problem(self.kind, name, value):
                raise ValidationError({"parameters": problem})

    def parameters_now(self) -> dict[str, Any]:
        """Every parameter of this kind: as changed, else by default."""
        known = PARAMETERS.get(self.kind, {})
        return {name: self.parameters.get(name, parameter.default) for name, parameter in known.items()}


class Alert(models.Model):
    """Something that people should know. `subject` is what it is about, in a form that never changes.

    `value` and `limit` are in `unit`; `link` is a path of this site. The texts and figures are those of the last time
    that the condition was seen. At most one alert per rule, subject and threshold is not resolved.
    """

    rule = models.ForeignKey(AlertRule, on_delete=models.PROTECT, related_name="alerts")
    subject = models.CharField(max_length=160)
    window_starts_at = models.DateTimeField()
    threshold = models.CharField(max_length=10, blank=True)

    subject_name = models.CharField("about", max_length=200)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="alerts")
    budget = models.ForeignKey(Budget, null=True, blank=True, on_delete=models.CASCADE, related_name="alerts")
    severity = models.PositiveSmallIntegerField(choices=Severity.choices)
    title = models.CharField(max_length=200)
    text = models.TextField()
    link = models.CharField(max_length=300, blank=True)
    value = models.BigIntegerField(default=0)
    limit = models.BigIntegerField(null=True, blank=True)
    unit = models.CharField(max_length=20, choices=AlertUnit.choices, blank=True, default=AlertUnit.NONE)

    state = models.CharField(max_length=15, choices=AlertState.choices, default=AlertState.OPEN)
    opened_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    snoozed_until = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "subject", "window_starts_at", "threshold"], name="alert_once"),
            models.UniqueConstraint(
                fields=["rule", "subject", "threshold"],
                condition=~Q(state="resolved"),
                name="one_unresolved_alert_per_trouble",
            ),
        ]
        indexes = [models.Index(fields=["team", "-opened_at"], name="alert_team_latest")]

    def __str__(self) -> str:
        return self.title

    @property
    def fingerprint(self) -> str:
        """The same for the same rule, subject, window and threshold, for ever: 32 hex digits."""
        parts = (self.rule.kind, self.subject, self.window_starts_at.astimezone(UTC).isoformat(), self.threshold)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    @property
    def is_resolved(self) -> bool:
        return self.state == AlertState.RESOLVED


class AlertEventKind(models.TextChoices):
    OPENED = "opened", "Opened"
    REOPENED = "reopened", "Opened again"
    WOKEN = "woken", "Open after its snooze"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    SNOOZED = "snoozed", "Snoozed"
    RESOLVED = "resolved", "Resolved"


class AlertEvent(models.Model):
    """A transition of an alert, with what the alert said then. Never edited. `by` None: the platform itself."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=15, choices=AlertEventKind.choices)
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    title = models.CharField(max_length=200)
    text = models.TextField()
    value = models.BigIntegerField(default=0)
    until = models.DateTimeField(null=True, blank=True, help_text="Of a snooze.")

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.title}"


class ChannelKind(models.TextChoices):
    EMAIL = "email", "Email"
    APPRISE = "apprise", "Slack, Teams, PagerDuty …"
    WEBHOOK = "webhook", "Webhook of your own"


def validate_networks(value: str) -> None:
    try:
        parse_networks(tuple(value.split()))
    except ValueError as error:
        raise ValidationError(f"{error}. One network per line, for example 10.0.0.0/8.") from error


def validate_kinds(value: object) -> None:
    if not isinstance(value, list) or not all(kind in AlertKind.values for kind in value):
        raise ValidationError("Choose from the kinds of alerts that there are.")


class AlertChannel(models.Model):
    """Where news of alerts goes. Its address and its signing secret are sealed; `hint` is what people see of them."""

    name = models.CharField(max_length=80, unique=True, help_text="For example “On-call, Slack”.")
    kind = models.CharField("by", max_length=10, choices=ChannelKind.choices)
    target = SealedTextField(editable=False)
    signing_secret = SealedTextField(blank=True, default="", editable=False)
    hint = models.CharField("goes to", max_length=200, editable=False)
    allowed_networks = models.TextField(
        "allowed private networks",
        blank=True,
        validators=[validate_networks],
        help_text="For a webhook: only public addresses are called unless listed here, one network per line, for "
        "example 10.0.0.0/8. Only what is listed may be called by http://.",
    )
    minimum_severity = models.PositiveSmallIntegerField(
        "from severity", choices=Severity.choices, default=Severity.WARNING
    )
    kinds = models.JSONField(
        "kinds of alerts", default=list, blank=True, validators=[validate_kinds], help_text="None chosen: all."
    )
    team = models.ForeignKey(
        Team,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="alert_channels",
        help_text="Only alerts about this team. Empty: all alerts.",
    )
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords(excluded_fields=["target", "signing_secret"])

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertDelivery(OutboxRow):
    """A message for one channel. Its id goes along with every try, so that the other side can drop repetitions.

    Without an event it is a test.
    """

    event = models.ForeignKey(AlertEvent, null=True, blank=True, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")

    class Meta:
        ordering = ["-created_at", "id"]
        verbose_name_plural = "alert deliveries"
        constraints = [models.UniqueConstraint(fields=["event", "channel"], name="one_delivery_per_event_and_channel")]
        indexes = [models.Index(fields=["next_attempt_at"], condition=Q(state="waiting"), name="alert_delivery_due")]

    def __str__(self) -> str:
        return f"{self.channel_id}: {self.state}"
