"""Which model serves: routing policies and the models that they choose from."""

import re
from decimal import Decimal
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from simple_history.models import HistoricalRecords

from providers.models import validate_capabilities
from routing.domain.config import Escalation, Strategy, TaskType
from routing.models.aliases import ModelAlias
from routing.models.names import slug_name

REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]
PERCENT = [MinValueValidator(1), MaxValueValidator(100)]


def validate_regions(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(one, str) and REGION.fullmatch(one) for one in value):
        raise ValidationError("Name regions in lower case, for example eu or us-east.")


def validate_escalations(value: object) -> None:
    known = {one.value for one in Escalation}
    if not isinstance(value, list) or not set(map(str, value)) <= known:
        raise ValidationError(f"Choose some of: {', '.join(sorted(known))}.")


class CacheMode(models.TextChoices):
    AUTOMATIC = "auto", "Requests at temperature 0"
    ALWAYS = "always", "Every request"
    NEVER = "never", "Nothing"


class PolicyRules(models.Model):
    """What a policy says about a request; the published policy and a draft of it have the same columns."""

    task_type = models.CharField(
        max_length=20,
        choices=TaskType.choices(),
        default=TaskType.ANY.value,
        help_text="The kind of work this policy is made for.",
    )
    strategy = models.CharField(
        max_length=20,
        choices=Strategy.choices(),
        default=Strategy.PRIORITY.value,
        help_text="How the preferred models are put in order. Fallbacks keep theirs, behind them.",
    )
    quality_floor = models.FloatField(
        null=True,
        blank=True,
        validators=SHARE,
        help_text="0 to 1: models that are expected to answer less well are only asked when no other can. Empty: none.",
    )
    within_of_best = models.FloatField(
        "close enough to the best",
        null=True,
        blank=True,
        validators=SHARE,
        help_text="0 to 1: how much worse than the best model a cheaper one may be expected to answer.",
    )
    cost_weight = models.FloatField(
        "what a cent is worth",
        default=0.1,
        validators=[MinValueValidator(0)],
        help_text="For “balanced”: how much quality (0 to 1) one US cent more has to bring.",
    )
    latency_weight = models.FloatField(
        "what a second is worth",
        default=0.01,
        validators=[MinValueValidator(0)],
        help_text="For “balanced”: how much quality (0 to 1) one second more has to bring.",
    )
    is_sticky = models.BooleanField(
        "keep a conversation where it is",
        default=False,
        help_text="The model that has answered a conversation goes on with it, unless it cannot.",
    )
    regions = models.JSONField(
        "allowed regions",
        default=list,
        blank=True,
        validators=[validate_regions],
        help_text="Only providers of these regions may serve, for example eu. Empty: all.",
    )
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
    ladder_cap_percent = models.PositiveSmallIntegerField(
        "shorten answers at (% of a budget)", null=True, blank=True, validators=PERCENT
    )
    ladder_cap_tokens = models.PositiveIntegerField(
        "to (tokens)", default=512, validators=[MinValueValidator(1)], help_text="The longest answer from then on."
    )
    ladder_cheaper_percent = models.PositiveSmallIntegerField(
        "prefer cheaper models at (%)", null=True, blank=True, validators=PERCENT
    )
    ladder_cache_percent = models.PositiveSmallIntegerField(
        "answer from the cache only at (%)", null=True, blank=True, validators=PERCENT
    )
    ladder_refuse_percent = models.PositiveSmallIntegerField("refuse at (%)", null=True, blank=True, validators=PERCENT)
    escalate_on = models.JSONField(
        "ask the next model when an answer",
        default=list,
        blank=True,
        validators=[validate_escalations],
        help_text="Cheap first: an answer that is no good costs too, and the next is asked. Streams wait for the end.",
    )
    sample_percent = models.PositiveSmallIntegerField(
        "decisions kept (%)",
        default=100,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Of how many requests the decision is kept, for replays and learning. Prompts are not part of it.",
    )
    keeps_prompts = models.BooleanField(
        "keep prompts for learning",
        default=False,
        help_text="The last human turn is kept with the decision, encrypted, for labelling and training.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        steps = [value for _, value in self.ladder_steps() if value is not None]
        if steps != sorted(set(steps)):
            raise ValidationError(
                {"ladder_cap_percent": "Each step has to come at a higher percentage than the one before."}
            )

    def ladder_steps(self) -> list[tuple[str, int | None]]:
        """(step, percent of a budget) in the order in which they come."""
        return [
            ("cap", self.ladder_cap_percent),
            ("cheaper", self.ladder_cheaper_percent),
            ("cache", self.ladder_cache_percent),
            ("refuse", self.ladder_refuse_percent),
        ]


class RoutingPolicy(PolicyRules):
    """Which models may serve, in which order, and within which limits. Its rules are those in force.

    `version` counts what has been published; who may change the rules, and how, is `services.lifecycle`.
    """

    name = models.CharField(max_length=80, unique=True, validators=[slug_name])
    description = models.CharField(max_length=300, blank=True, help_text="What it is for, for your colleagues.")
    is_default = models.BooleanField(
        "default",
        default=False,
        help_text="Serves requests for “auto” that name no persona. Exactly one policy is the default.",
    )
    is_active = models.BooleanField("active", default=True)
    version = models.PositiveIntegerField(default=0, editable=False)

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
        super().clean()
        if not self.is_active and (served := self.personas_served()):
            raise ValidationError(
                {"is_active": f"Give these personas another policy first, or switch them off: {', '.join(served)}."}
            )


class CandidateGroup(models.TextChoices):
    PREFERRED = "preferred", "Preferred"
    FALLBACK = "fallback", "Fallback"


class CandidateRow(models.Model):
    """A model that a policy chooses from. Preferred ones are tried first, by the policy's strategy, then the fallbacks
    in order."""

    alias = models.ForeignKey(ModelAlias, on_delete=models.PROTECT, related_name="+")
    group = models.CharField(max_length=10, choices=CandidateGroup.choices, default=CandidateGroup.PREFERRED)
    position = models.PositiveIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveIntegerField(default=1, help_text="For “weighted”: its share of the requests.")
    task_type = models.CharField(
        "preferred for",
        max_length=20,
        choices=TaskType.choices(),
        default=TaskType.ANY.value,
        help_text="For “by task”: goes first for this kind of work.",
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.get_group_display()} {self.position}: {self.alias}"


class PolicyCandidate(CandidateRow):
    """A model of a policy, in force."""

    policy = models.ForeignKey(RoutingPolicy, on_delete=models.CASCADE, related_name="candidates")
    alias = models.ForeignKey(ModelAlias, on_delete=models.PROTECT, related_name="policy_candidates")

    history = HistoricalRecords()

    class Meta:
        # "preferred" sorts after "fallback", so the group is ordered downwards
        ordering = ["-group", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["policy", "alias"], name="policy_candidate_unique")]
