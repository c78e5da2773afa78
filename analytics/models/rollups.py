"""Sums of usage records, and which of them have to be made again."""

from django.db import models
from django.utils import timezone

from routing.models import Team, VirtualKey


class RollupSums(models.Model):
    """One combination of names in a stretch of time, and the sums of its records and their corrections."""

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
        abstract = True


class UsageRollup(RollupSums):
    """A UTC day, made of its hours."""

    day = models.DateField()

    class Meta:
        ordering = ["-day", "team_name"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "team", "key", "persona", "policy", "provider", "model"], name="usage_rollup_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.team_name} {self.model}"


class HourlyRollup(RollupSums):
    """An hour, made of its records. `hour` is the moment at which it begins."""

    hour = models.DateTimeField()

    class Meta:
        ordering = ["-hour", "team_name"]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "team", "key", "persona", "policy", "provider", "model"], name="hourly_rollup_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M} {self.team_name} {self.model}"


class DirtyHour(models.Model):
    """How often the records of an hour changed (`marks`), and how many of these changes its rollup contains.

    Both only grow, so that whoever computed an hour can tell whether the figures are newer than those that are there.
    """

    hour = models.DateTimeField(primary_key=True)
    marks = models.PositiveBigIntegerField(default=1)
    rolled_up = models.PositiveBigIntegerField(default=0, db_default=0)

    class Meta:
        indexes = [
            models.Index(fields=["hour"], condition=models.Q(marks__gt=models.F("rolled_up")), name="hours_to_roll_up")
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M}"


class UsageRetention(models.Model):
    """Records that started before a moment were dropped; their rollups stay as they are for ever."""

    before = models.DateTimeField(unique=True)
    records = models.PositiveBigIntegerField(default=0)
    dropped_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-before"]

    def __str__(self) -> str:
        return f"before {self.before:%Y-%m-%d}"


class LedgerCheck(models.Model):
    """One run of the ledger's own check. `differences` and `warnings` are lists of objects with `what` and `where`."""

    at = models.DateTimeField(default=timezone.now)
    first = models.DateField("from", null=True, blank=True)
    last = models.DateField("to", null=True, blank=True)
    duration_ms = models.PositiveIntegerField("took (ms)")
    records = models.PositiveBigIntegerField("records looked at")
    windows = models.PositiveIntegerField("budget windows looked at", default=0)
    dirty_hours = models.PositiveIntegerField("hours waiting for their rollup", default=0)
    difference_count = models.PositiveIntegerField("differences", default=0)
    differences = models.JSONField(default=list)
    warnings = models.JSONField(default=list)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["-at"], name="ledger_check_latest")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} UTC"
