"""Events for other programs: where they go, what they say, and what waits until the other side has it."""

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from analytics.domain.webhooks import TEAM_KINDS, EventKind
from analytics.models.alerts import validate_networks
from analytics.models.outbox import DeliveryState, OutboxRow
from providers.fields import SealedTextField
from providers.models import BreakerOverride, Deployment
from routing.models import Team

KIND_CHOICES = [(kind.value, kind.value) for kind in EventKind if kind is not EventKind.TEST]


def validate_events(value: object) -> None:
    known = {kind for kind, _ in KIND_CHOICES}
    if not isinstance(value, list) or not value or not set(map(str, value)) <= known:
        raise ValidationError(f"Choose at least one of: {', '.join(sorted(known))}.")


class WebhookEndpoint(models.Model):
    """A program that is told of events. Address and signing secrets are sealed; `hint` is what people see of them.

    While `previous_secret` is good (`previous_until`), messages are signed with both. `failing_since` is when the first
    message failed since one was taken last; `switched_off` says why the platform itself has switched it off.
    """

    name = models.CharField(max_length=80, unique=True, help_text="For example “Billing, production”.")
    target = SealedTextField(editable=False)
    hint = models.CharField("goes to", max_length=200, editable=False)
    signing_secret = SealedTextField(editable=False)
    previous_secret = SealedTextField(blank=True, default="", editable=False)
    previous_until = models.DateTimeField(null=True, blank=True, editable=False)
    events = models.JSONField(default=list, validators=[validate_events], help_text="What it is told of.")
    team = models.ForeignKey(
        Team,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="webhook_endpoints",
        help_text="Only events of this team. Empty: of all teams, and of the platform itself.",
    )
    failures_per_minute = models.PositiveSmallIntegerField(
        "failed requests per minute",
        default=60,
        validators=[MinValueValidator(0), MaxValueValidator(600)],
        help_text="So many are told of one by one; the others of that minute are counted in one event. 0: all are.",
    )
    allowed_networks = models.TextField(
        "allowed private networks",
        blank=True,
        validators=[validate_networks],
        help_text="Only public addresses are called unless listed here, one network per line, for example 10.0.0.0/8. "
        "Only what is listed may be called by http://.",
    )
    is_active = models.BooleanField("active", default=True, help_text="Off: it is told nothing, later neither.")
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    switched_off = models.CharField("switched off because", max_length=300, blank=True, default="", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords(
        excluded_fields=["target", "signing_secret", "previous_secret", "previous_until", "failing_since"]
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """:raises ValidationError: a team's endpoint is to hear what is no team's."""
        others = sorted(set(self.events) - TEAM_KINDS) if isinstance(self.events, list) else []
        if self.team_id is not None and others:
            raise ValidationError(
                {"events": f"No team's own: {', '.join(others)}. Leave them out, or leave the team empty."}
            )


class WebhookEvent(models.Model):
    """Something that happened, as it is told. Written in the transaction of the fact; `payload` is its `data`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField("type", max_length=30)
    at = models.DateTimeField(default=timezone.now)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    payload = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "id"]
        indexes = [models.Index(fields=["-at"], name="webhook_event_latest")]

    def __str__(self) -> str:
        return self.kind


class WebhookDelivery(OutboxRow):
    """An event for one endpoint."""

    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")

    class Meta:
        ordering = ["-created_at", "id"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="one_delivery_per_event_and_endpoint")
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(state=DeliveryState.WAITING), name="webhook_delivery_due"
            ),
            models.Index(fields=["endpoint", "-created_at"], name="webhook_delivery_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id}: {self.state}"


class FailedRequest(models.Model):
    """A usage record of a failure that no endpoint was told of yet: written along with the record, gone a moment
    later. None is written while nobody wants to hear of failures."""

    request_id = models.UUIDField(primary_key=True)

    class Meta:
        ordering = ["request_id"]

    def __str__(self) -> str:
        return str(self.request_id)


class BreakerTold(models.Model):
    """What was told of a deployment's circuit breaker last, so that each turn is told once: what an operator makes it
    do, and whether its failures had it open. No row: neither."""

    deployment = models.OneToOneField(Deployment, primary_key=True, on_delete=models.CASCADE, related_name="+")
    override = models.CharField(max_length=10, choices=BreakerOverride.choices, blank=True, default="")
    is_open = models.BooleanField(default=False)

    class Meta:
        ordering = ["deployment"]
        verbose_name_plural = "breakers told"

    def __str__(self) -> str:
        return str(self.deployment_id)
