"""Who may call: teams, the people in them, virtual keys."""

from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from providers.models import RateLimitFields
from routing.domain.config import Scope
from routing.models.aliases import ModelAlias


class Team(RateLimitFields):
    """Who pays. Keys, budgets and spend hang on a team; its rate limits are for all of its keys together."""

    name = models.CharField(max_length=80, unique=True)
    slug = models.SlugField(max_length=80, unique=True, help_text="Used in addresses and exports.")
    is_active = models.BooleanField("active", default=True, help_text="Off: every key of the team is refused.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    cache_purged_at = models.DateTimeField(
        "response cache purged", null=True, blank=True, editable=False, help_text="Older answers are not given again."
    )

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TeamRole(models.TextChoices):
    MEMBER = "member", "Member: sees the team's spend and requests"
    LEAD = "lead", "Lead: also issues and revokes the team's keys"


class Membership(models.Model):
    """A person in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=TeamRole.choices, default=TeamRole.MEMBER)

    history = HistoricalRecords()

    class Meta:
        ordering = ["team", "user"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="membership_unique")]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"


def validate_scopes(value: object) -> None:
    known = {scope.value for scope in Scope}
    if not isinstance(value, list) or not value or not set(map(str, value)) <= known:
        raise ValidationError(f"Choose at least one of: {', '.join(sorted(known))}.")


def default_scopes() -> list[str]:
    return [Scope.CHAT.value, Scope.MODELS.value]


class KeyState(models.TextChoices):
    """What a key is good for at a moment. Only an active one is let in."""

    ACTIVE = "active", "Active"
    EXPIRED = "expired", "Expired"
    REVOKED = "revoked", "Revoked"
    TEAM_OFF = "team_off", "Team off"


class VirtualKey(RateLimitFields):
    """What an application presents. Only an HMAC of it is stored; the key is shown once, when it is issued."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=80, help_text="What uses this key, for example “support bot, production”.")
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The part that is safe to show.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=default_scopes, validators=[validate_scopes], help_text="What the key may do.")
    allowed_models = models.ManyToManyField(
        ModelAlias,
        blank=True,
        related_name="keys",
        help_text="Leave empty for all. Otherwise only these aliases may serve this key.",
    )
    is_playground = models.BooleanField(
        "playground", default=False, editable=False, help_text="Used by the team's people in the playground."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Refused from then on. Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )

    history = HistoricalRecords(excluded_fields=["digest"], m2m_fields=[allowed_models])

    class Meta:
        ordering = ["team", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["team"],
                condition=Q(is_playground=True, revoked_at__isnull=True),
                name="one_playground_key_per_team",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def state_at(self, now: datetime) -> KeyState:
        """Of several reasons to refuse it, the one that lasts longest."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyState.EXPIRED
        return KeyState.ACTIVE if self.team.is_active else KeyState.TEAM_OFF


class AccessToken(models.Model):
    """What a person's programs present to the management API, to do what that person may. Only an HMAC is stored.

    It is no virtual key: no model can be asked with it.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=80, help_text="What uses this token, for example “deploy pipeline”.")
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The part that is safe to show.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    is_read_only = models.BooleanField(
        "read only", default=True, help_text="Off: it may change whatever its owner may change."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Refused from then on. Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="To the hour.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords(excluded_fields=["digest", "last_used_at"])

    class Meta:
        ordering = ["user", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
