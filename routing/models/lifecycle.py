"""Changes of policies on their way into force, and what has been in force."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models.aliases import ModelAlias
from routing.models.policies import CandidateRow, PolicyRules, RoutingPolicy


class DraftState(models.TextChoices):
    """Where a change stands; services.lifecycle moves it."""

    DRAFT = "draft", "Draft"
    REVIEW = "review", "In review"
    APPROVED = "approved", "Approved"
    ROLLING_OUT = "rolling_out", "Rolling out"
    PUBLISHED = "published", "Published"
    REJECTED = "rejected", "Rejected"
    WITHDRAWN = "withdrawn", "Withdrawn"


OPEN_STATES = (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.ROLLING_OUT)


def everybody_at_once() -> list[int]:
    return [100]


def validate_stages(value: object) -> None:
    """Percentages of the requests, rising to 100."""
    stages = value if isinstance(value, list) else []
    fits = all(type(one) is int and 1 <= one <= 100 for one in stages)  # True is no percentage
    if not fits or not stages or stages != sorted(set(stages)) or stages[-1] != 100:
        raise ValidationError("Name rising percentages that end with 100, for example 5, 25, 100.")


class PolicyDraft(PolicyRules):
    """A change of a policy, not yet in force: all of its rules as they are to be.

    `base_version` is the policy's version that it was made from: when that moves, the draft is stale. While it is
    rolled out, `percent` of the requests follow it, chosen by a hash that `seed` begins.
    """

    policy = models.ForeignKey(RoutingPolicy, on_delete=models.CASCADE, related_name="drafts")
    title = models.CharField(max_length=120, help_text="What changes, in a few words.")
    note = models.TextField("why", blank=True, help_text="For whoever approves it.")
    base_version = models.PositiveIntegerField(editable=False)
    state = models.CharField(max_length=12, choices=DraftState.choices, default=DraftState.DRAFT, editable=False)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="policy_drafts"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    submitted_at = models.DateTimeField(null=True, editable=False)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="reviewed_drafts"
    )
    reviewed_at = models.DateTimeField(null=True, editable=False)
    review_note = models.TextField(blank=True, editable=False)
    publish_at = models.DateTimeField(
        "publish at", null=True, blank=True, help_text="Once approved. Empty: when somebody publishes it."
    )
    stages = models.JSONField(
        default=everybody_at_once,
        validators=[validate_stages],
        help_text="Percentages of the requests that follow it, step by step. 100 alone: all at once.",
    )
    stage_minutes = models.PositiveIntegerField("minutes per stage", default=10, validators=[MinValueValidator(1)])
    percent = models.PositiveSmallIntegerField(default=0, editable=False)
    stage_since = models.DateTimeField(null=True, editable=False)
    seed = models.CharField(max_length=32, blank=True, editable=False)
    version = models.PositiveIntegerField(null=True, editable=False, help_text="The number that it gets or got.")
    closed_at = models.DateTimeField(null=True, editable=False)
    closed_note = models.CharField(max_length=300, blank=True, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["-created_at", "-id"]
        permissions = [("approve_policydraft", "Can approve and publish policy changes")]
        constraints = [
            models.UniqueConstraint(fields=["policy"], condition=Q(state="rolling_out"), name="one_rollout_per_policy")
        ]

    def __str__(self) -> str:
        return f"{self.policy}: {self.title}"


class DraftCandidate(CandidateRow):
    """A model of a draft."""

    draft = models.ForeignKey(PolicyDraft, on_delete=models.CASCADE, related_name="candidates")
    alias = models.ForeignKey(ModelAlias, on_delete=models.PROTECT, related_name="draft_candidates")

    class Meta:
        ordering = ["-group", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["draft", "alias"], name="draft_candidate_unique")]


class PolicyVersion(models.Model):
    """What a policy said once it was published: never edited, never deleted. `document` is its rules as
    `routing.domain.documents.PolicyDocument` writes them."""

    policy = models.ForeignKey(RoutingPolicy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    note = models.CharField(max_length=300, blank=True)
    draft = models.ForeignKey(PolicyDraft, null=True, on_delete=models.SET_NULL, related_name="+")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    approver = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    published_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["policy", "-number"]
        constraints = [models.UniqueConstraint(fields=["policy", "number"], name="policy_version_unique")]

    def __str__(self) -> str:
        return f"{self.policy} v{self.number}"
