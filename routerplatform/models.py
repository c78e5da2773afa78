"""Batches that run in the background: what was asked, how far they are, what was answered."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from providers.fields import SealedTextField
from routing.models import Team, VirtualKey


class BatchState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


OPEN_STATES = (BatchState.WAITING, BatchState.RUNNING)


class BatchJob(models.Model):
    """A batch. Whoever has `worker` in hand runs it until `leased_until`, and renews that; then it is anybody's.

    Counts and sums are kept here, so that looking at a batch does not read its items. The caller's key is not kept:
    the job is asked in the name of the row `key`, and stops when that is revoked.
    """

    id = models.UUIDField("batch", primary_key=True, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    key = models.ForeignKey(VirtualKey, on_delete=models.CASCADE, related_name="+", verbose_name="virtual key")
    state = models.CharField(max_length=10, choices=BatchState.choices, default=BatchState.WAITING)
    shared = SealedTextField("shared fields (encrypted)", editable=False)
    max_parallel = models.PositiveSmallIntegerField("at a time")
    wants_cancel = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.CharField("why it ended early", max_length=500, blank=True)

    total = models.PositiveIntegerField("chats")
    ok = models.PositiveIntegerField("answered", default=0)
    failed = models.PositiveIntegerField("errors", default=0)
    cancelled = models.PositiveIntegerField(default=0)
    cost_nano = models.BigIntegerField("cost (nano-USD)", default=0)
    unpriced = models.PositiveIntegerField("of unknown price", default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)

    worker = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    queued_at = models.DateTimeField(null=True, editable=False)
    turn_at = models.DateTimeField(default=timezone.now, editable=False, help_text="Who waits longest is next.")
    created_at = models.DateTimeField("sent in", default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField("must end by")

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "batch"
        verbose_name_plural = "batches"
        indexes = [
            models.Index(fields=["team", "-created_at", "-id"], name="batch_team_latest"),
            models.Index(fields=["turn_at"], name="batch_open", condition=Q(state__in=["waiting", "running"])),
            models.Index(fields=["finished_at"], name="batch_over"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(total__gt=0, max_parallel__gt=0), name="batch_asks_something"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def over(self) -> int:
        """Items that have come to an end."""
        return self.ok + self.failed + self.cancelled


class ItemState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    OK = "ok", "Answered"
    ERROR = "error", "Error"
    CANCELLED = "cancelled", "Cancelled"


class BatchItem(models.Model):
    """One chat of a batch: what is asked is there as it came, its answer as /api/v1/chat would have given it.

    `tries` are the ids of the requests that were begun for it, the last one at the end: more than one where a worker
    was stopped in the middle, or a provider had no room.
    """

    job = models.ForeignKey(BatchJob, on_delete=models.CASCADE, related_name="items")
    index = models.PositiveIntegerField()
    custom_id = models.CharField(max_length=64, null=True)  # noqa: DJ001  # none is not the empty one
    state = models.CharField(max_length=10, choices=ItemState.choices, default=ItemState.WAITING)
    asked = SealedTextField("chat (encrypted)", editable=False)
    answer = SealedTextField("answer or error (encrypted)", blank=True, default="", editable=False)
    tries = models.JSONField(default=list)

    class Meta:
        ordering = ["index"]
        constraints = [models.UniqueConstraint(fields=["job", "index"], name="batch_item_unique")]
        indexes = [models.Index(fields=["job", "state", "index"], name="batch_item_next")]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.index}"
