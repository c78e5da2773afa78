"""Who may call and which model serves: teams, virtual keys, model aliases, policies, personas, the config revision."""

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from providers.models import Deployment, RateLimitFields, validate_capabilities
from routing.domain.config import Scope, TaskType

slug_name = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*$", "Lower-case letters, digits, dot, dash and underscore; starts with a letter or digit."
)
callable_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", "Letters, digits and . _ : / - only; starts with a letter or digit."
)


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


class CacheMode(models.TextChoices):
    AUTOMATIC = "auto", "Requests at temperature 0"
    ALWAYS = "always", "Every request"
    NEVER = "never", "Nothing"


class RoutingPolicy(models.Model):
    """Which models may serve, in which order, and within which limits."""

    name = models.CharField(max_length=80, unique=True, validators=[slug_name])
    description = models.CharField(max_length=300, blank=True, help_text="What it is for, for your colleagues.")
    task_type = models.CharField(
        max_length=20,
        choices=TaskType.choices(),
        default=TaskType.ANY.value,
        help_text="The kind of work this policy is made for.",
    )
    is_default = models.BooleanField(
        "default",
        default=False,
        help_text="Serves requests for “auto” that name no persona. Exactly one policy is the default.",
    )
    is_active = models.BooleanField("active", default=True)
    max_cost_per_request = models.DecimalField(
        "cost ceiling per request (USD)",
        max_digits=10,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="A model whose estimated cost is above it, or whose price is unknown, is skipped. Empty: no ceiling.",
    )
    max_latency_ms = models.PositiveIntegerField(
        "latency ceiling (ms)",
        null=True,
        blank=True,
        help_text="Deployments that are expected to be slower are skipped. Empty: no ceiling.",
    )
    required_capabilities = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_capabilities],
        help_text="Every model of this policy must have them, whatever the request needs.",
    )

    cache_mode = models.CharField(
        "response cache",
        max_length=6,
        choices=CacheMode.choices,
        default=CacheMode.AUTOMATIC,
        help_text="Which answers are kept and given again to equal requests of the same team. A request can opt in or "
        "out by itself.",
    )
    cache_ttl_s = models.PositiveIntegerField(
        "kept for (s)",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Empty: as the platform’s settings say (CACHE_TTL, an hour).",
    )

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "routing policies"
        constraints = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="one_default_policy"),
            models.CheckConstraint(condition=Q(is_default=False) | Q(is_active=True), name="default_policy_is_active"),
        ]

    def __str__(self) -> str:
        return self.name

    def personas_served(self) -> list[str]:
        """The names of the active personas that need this policy to stay switched on."""
        return list(self.personas.filter(is_active=True).values_list("slug", flat=True)) if self.pk else []

    def clean(self) -> None:
        if not self.is_active and (served := self.personas_served()):
            raise ValidationError(
                {"is_active": f"Give these personas another policy first, or switch them off: {', '.join(served)}."}
            )


class CandidateGroup(models.TextChoices):
    PREFERRED = "preferred", "Preferred"
    FALLBACK = "fallback", "Fallback"


class PolicyCandidate(models.Model):
    """A model of a policy. Preferred ones are tried in order, then the fallbacks in order."""

    policy = models.ForeignKey(RoutingPolicy, on_delete=models.CASCADE, related_name="candidates")
    alias = models.ForeignKey(ModelAlias, on_delete=models.PROTECT, related_name="policy_candidates")
    group = models.CharField(max_length=10, choices=CandidateGroup.choices, default=CandidateGroup.PREFERRED)
    position = models.PositiveIntegerField(default=0, help_text="Lower is tried first.")

    history = HistoricalRecords()

    class Meta:
        # "preferred" sorts after "fallback", so the group is ordered downwards
        ordering = ["-group", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["policy", "alias"], name="policy_candidate_unique")]

    def __str__(self) -> str:
        return f"{self.get_group_display()} {self.position}: {self.alias}"


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


class ConfigRevision(models.Model):
    """One row: counts up with every edit of what the gateway compiles, in the edit's own transaction."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    revision = models.PositiveBigIntegerField(default=1)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_config_revision")]

    def __str__(self) -> str:
        return f"revision {self.revision}"
