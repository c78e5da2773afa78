"""What decisions were made from, what people say of the answers, and what other rules would have decided."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from providers.fields import SealedTextField
from routing.domain.config import TaskType
from routing.models import PolicyDraft, RoutingPolicy, Team


class DecisionRecord(models.Model):
    """What one routed request was decided from: `inputs` is a `routing.domain.recording.RecordedInputs`, in msgpack.

    No text of the prompt is part of it; where the policy keeps prompts, `prompt` is the last human turn, sealed.
    `label` is what a person says the kind of work is.
    """

    request_id = models.UUIDField("request", primary_key=True)
    at = models.DateTimeField()
    policy = models.CharField(max_length=80)
    policy_version = models.PositiveIntegerField(default=0)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, db_constraint=False, related_name="+")
    task_type = models.CharField("kind of work", max_length=20, blank=True)
    confidence = models.FloatField(null=True)
    inputs = models.BinaryField()
    prompt = SealedTextField(blank=True, default="", editable=False)
    label = models.CharField(max_length=20, choices=TaskType.choices(), blank=True)
    labelled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    labelled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-at"]
        indexes = [
            models.Index(fields=["policy", "at"], name="decision_policy_at"),
            models.Index(fields=["confidence"], condition=~Q(prompt="") & Q(label=""), name="decision_to_label"),
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class Thumb(models.TextChoices):
    UP = "up", "Good"
    DOWN = "down", "Bad"


class FeedbackSource(models.TextChoices):
    USER = "user", "A person"
    JUDGE = "judge", "A model that graded it"


class Feedback(models.Model):
    """What somebody says of an answer. `deployment` gave it: for a judge's grade not always the request's own."""

    decision_id = models.UUIDField("request", db_index=True)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=5, choices=FeedbackSource.choices, default=FeedbackSource.USER)
    deployment = models.CharField(max_length=200, blank=True)
    thumb = models.CharField(max_length=4, choices=Thumb.choices, blank=True)
    grade = models.FloatField(null=True, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)])
    text = models.TextField(blank=True, max_length=4000)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "feedback"
        constraints = [
            models.UniqueConstraint(fields=["decision_id", "source", "deployment"], name="one_feedback_per_answer")
        ]

    def __str__(self) -> str:
        return f"{self.thumb or self.grade} for {self.decision_id}"


class ReplayState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"


class Replay(models.Model):
    """Decisions of a time range made again by other rules. `document` is the rules as they were when it was asked for;
    when the policy's version is no longer `base_version`, what it found is stale."""

    policy = models.ForeignKey(RoutingPolicy, on_delete=models.CASCADE, related_name="replays")
    draft = models.ForeignKey(PolicyDraft, null=True, blank=True, on_delete=models.CASCADE, related_name="replays")
    base_version = models.PositiveIntegerField()
    document = models.JSONField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    state = models.CharField(max_length=10, choices=ReplayState.choices, default=ReplayState.WAITING)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    wants_cancel = models.BooleanField(default=False)
    result = models.JSONField(default=dict)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.policy}, {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"
