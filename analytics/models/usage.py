"""One record per request, and what was corrected about it afterwards."""

from django.db import models
from django.db.models import Q

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


class CacheUse(models.TextChoices):
    NONE = "", "Not asked for"
    HIT = "hit", "Hit: answered from the cache"
    MISS = "miss", "Miss: answered by a provider, and kept"


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
    policy_version = models.PositiveIntegerField("version", default=0)
    arm = models.CharField(max_length=80, blank=True, default="", help_text="Its side of an experiment or a rollout.")
    task_type = models.CharField("kind of work", max_length=20, blank=True, default="")
    rule = models.CharField(max_length=60, blank=True, default="", help_text="The operator's rule that fitted it.")
    tag = models.CharField(max_length=60, blank=True, default="", help_text="What the caller calls such requests.")
    requested_model = models.CharField("asked for", max_length=200)
    provider = models.CharField(max_length=60, blank=True)
    deployment = models.CharField("served by", max_length=200, blank=True)
    model = models.CharField(max_length=120, blank=True)

    input_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_input_tokens = models.PositiveBigIntegerField("cache read tokens", default=0)
    cache_creation_input_tokens = models.PositiveBigIntegerField("cache write tokens", default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField("of which reasoning", default=0)
    cache_creation_1h_input_tokens = models.PositiveBigIntegerField(
        "of which kept for 1 hour", null=True, blank=True, help_text="Of what was written to the cache."
    )
    usage_source = models.CharField("counted by", max_length=10, choices=UsageSource.choices)
    cost_nano = models.BigIntegerField("cost (nano-USD)", null=True, blank=True)
    price = models.JSONField("price used", null=True, blank=True)
    charges = models.JSONField(null=True, blank=True, help_text="What each budget window was charged, by its id.")
    budget = models.JSONField(null=True, blank=True, help_text="What the budgets did to this request.")

    attempts = models.JSONField(default=list, help_text="Every try at a provider, in order.")
    decision = models.JSONField(default=dict, help_text="Why this route.")
    config_revision = models.PositiveBigIntegerField(default=0)
    ttft_ms = models.FloatField("first token (ms)", null=True, blank=True)
    latency_ms = models.FloatField("total (ms)")
    overhead_ms = models.FloatField("of which ours (ms)", default=0)
    cache = models.CharField("response cache", max_length=4, choices=CacheUse.choices, blank=True, default="")
    saved_nano = models.BigIntegerField(
        "saved by the cache (nano-USD)", null=True, blank=True, default=0, help_text="What a hit would have cost."
    )

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["-started_at", "-request_id"], name="usage_latest"),
            models.Index(fields=["team", "-started_at"], name="usage_team_latest"),
            models.Index(fields=["key", "-started_at"], name="usage_key_latest"),
            models.Index(fields=["provider", "-started_at"], name="usage_provider_latest"),
            models.Index(fields=["-started_at"], condition=~Q(error_code=""), name="usage_errors_latest"),
            models.Index(fields=["-started_at"], condition=Q(cost_nano=None), name="usage_unpriced_latest"),
            models.Index(fields=["policy", "-started_at"], condition=~Q(policy=""), name="usage_policy_latest"),
            models.Index(fields=["arm", "-started_at"], condition=~Q(arm=""), name="usage_arm_latest"),
            models.Index(fields=["rule", "-started_at"], condition=~Q(rule=""), name="usage_rule_latest"),
        ]
        constraints = [models.CheckConstraint(condition=Q(cost_nano__gte=0), name="usage_cost_not_negative")]

    def __str__(self) -> str:
        return str(self.request_id)
