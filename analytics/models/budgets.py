"""Money that may be spent: budgets, their windows, and what each gateway process has set aside of them.

A gateway admits requests out of leases that it holds in memory; it takes and returns them in SQL. So a window's
`spent + leased` cannot pass its limit however many processes there are, and no request waits for the database.
"""

import zoneinfo
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from routing.models import ModelAlias, Persona, Team, VirtualKey


class BudgetScope(models.TextChoices):
    """What a budget is for; the value is also the name of the field that holds the subject."""

    TEAM = "team", "Team"
    KEY = "key", "Key"
    PERSONA = "persona", "Persona"
    ALIAS = "alias", "Model alias"


class BudgetDuration(models.TextChoices):
    DAY = "1d", "Day"
    WEEK = "7d", "7 days"
    DAYS_30 = "30d", "30 days"
    MONTH = "1mo", "Calendar month"
    TOTAL = "total", "In total"


class BudgetMode(models.TextChoices):
    STRICT = "strict", "Strict: never spends more"
    EXPECTED = "expected", "Expected: holds the usual cost, may pass the limit a little"
    SOFT = "soft", "Soft: only warns"
    SHADOW = "shadow", "Shadow: only counts what it would have refused"


def validate_time_zone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise ValidationError(f"“{value}” is no time zone. Use a name such as UTC or Europe/Berlin.")


class Budget(models.Model):
    """A limit on what a team, key, persona or model alias may spend per period.

    What it is for and how long a period is stays as it was created: the figures of its past would change their
    meaning. The amount, the mode and whether it is in force may change at any time.
    """

    scope = models.CharField("for a", max_length=10, choices=BudgetScope.choices, default=BudgetScope.TEAM)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.PROTECT, related_name="budgets")
    key = models.ForeignKey(VirtualKey, null=True, blank=True, on_delete=models.PROTECT, related_name="budgets")
    persona = models.ForeignKey(Persona, null=True, blank=True, on_delete=models.PROTECT, related_name="budgets")
    alias = models.ForeignKey(
        ModelAlias,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="budgets",
        verbose_name="model alias",
        help_text="Counts what is served through this alias, also when a policy chose it.",
    )
    max_budget = models.DecimalField(
        "budget (USD)",
        max_digits=12,
        decimal_places=2,
        validators=[MinValueValidator(Decimal(0))],
        help_text="At 0 nothing is served.",
    )
    soft_budget = models.DecimalField(
        "warn at (USD)",
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="An alert opens here too, besides 50, 80 and 100 % of the budget. Empty: no further one.",
    )
    budget_duration = models.CharField(
        "per",
        max_length=10,
        choices=BudgetDuration.choices,
        default=BudgetDuration.MONTH,
        help_text="Periods of 7 or 30 days begin on the day on which the budget was created.",
    )
    time_zone = models.CharField(
        max_length=60, default="UTC", validators=[validate_time_zone], help_text="Where its days and months begin."
    )
    mode = models.CharField(
        max_length=10,
        choices=BudgetMode.choices,
        default=BudgetMode.STRICT,
        help_text="Strict refuses a request before it could pass the limit.",
    )
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    history = HistoricalRecords()

    class Meta:
        ordering = ["scope", "team__name", "id"]
        constraints = [
            models.CheckConstraint(
                name="budget_has_its_subject",
                condition=Q(scope="team", team__isnull=False, key=None, persona=None, alias=None)
                | Q(scope="key", team=None, key__isnull=False, persona=None, alias=None)
                | Q(scope="persona", team=None, key=None, persona__isnull=False, alias=None)
                | Q(scope="alias", team=None, key=None, persona=None, alias__isnull=False),
            ),
            models.CheckConstraint(name="budget_not_negative", condition=Q(max_budget__gte=0)),
            *(
                models.UniqueConstraint(
                    name=f"one_active_budget_per_{scope}_and_period",
                    fields=[scope, "budget_duration"],
                    condition=Q(is_active=True, scope=scope),
                )
                for scope in ("team", "key", "persona", "alias")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: ${self.max_budget} {self.per}"

    @property
    def per(self) -> str:
        """“per day”, “in total”."""
        is_total = self.budget_duration == BudgetDuration.TOTAL
        return "in total" if is_total else f"per {self.get_budget_duration_display().lower()}"

    @property
    def subject(self) -> Team | VirtualKey | Persona | ModelAlias | None:
        """What the budget is for."""
        found: Team | VirtualKey | Persona | ModelAlias | None = getattr(self, self.scope)
        return found

    @property
    def limit_nano(self) -> int:
        return int(self.max_budget * 1_000_000_000)

    @property
    def is_hard(self) -> bool:
        """Whether it refuses requests."""
        return self.mode in {BudgetMode.STRICT, BudgetMode.EXPECTED}

    def clean(self) -> None:
        """The constraints of this table, in words for people."""
        if self.scope in BudgetScope.values and getattr(self, f"{self.scope}_id") is None:
            raise ValidationError({self.scope: f"Choose the {BudgetScope(self.scope).label.lower()} it is for."})
        for other in BudgetScope.values:
            if other != self.scope:
                setattr(self, other, None)
        if self.soft_budget is not None and self.soft_budget > (self.max_budget or 0):
            raise ValidationError({"soft_budget": "Warn at no more than the budget itself."})


class BudgetWindow(models.Model):
    """One period of a budget. A new period is a new row: nothing is ever reset.

    Amounts are nano-USD. `opening` was spent in the period before the budget existed, or was written off;
    `spent` counts exactly the records that name this window; `overrun` is the part of it that no lease covered.
    `ceiling` is the limit, or what is committed already when the limit was lowered below that.

    The id is `domain.budgets.window_id` of budget and start.
    """

    id = models.BigIntegerField(primary_key=True, editable=False)
    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="windows")
    starts_at = models.DateTimeField()
    ends_before = models.DateTimeField(null=True, blank=True)
    ceiling_nano = models.BigIntegerField()
    opening_nano = models.BigIntegerField(default=0)
    spent_nano = models.BigIntegerField(default=0)
    overrun_nano = models.BigIntegerField(default=0)
    leased_nano = models.BigIntegerField(default=0)
    would_refuse = models.PositiveBigIntegerField(default=0, help_text="Requests that a strict budget had refused.")
    wanted_at = models.DateTimeField(null=True, blank=True, help_text="When a process last asked in vain.")

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["budget", "starts_at"], name="budget_window_unique"),
            models.CheckConstraint(
                name="budget_window_within_its_ceiling",
                condition=Q(
                    ceiling_nano__gte=F("opening_nano") + F("spent_nano") - F("overrun_nano") + F("leased_nano")
                ),
            ),
            models.CheckConstraint(
                name="budget_window_not_negative", condition=Q(leased_nano__gte=0, overrun_nano__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget} from {self.starts_at:%Y-%m-%d}"


class BudgetLease(models.Model):
    """What one gateway process may spend of a window without asking. `held` of it waits for requests under way."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="leases")
    owner = models.CharField(max_length=60, help_text="The process, by the name of its journal.")
    amount_nano = models.BigIntegerField()
    held_nano = models.BigIntegerField(default=0)
    version = models.PositiveBigIntegerField(default=0, help_text="Counts changes that only the latest may make.")
    renewed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["window", "owner"]
        constraints = [
            models.UniqueConstraint(fields=["window", "owner"], name="budget_lease_unique"),
            models.CheckConstraint(name="budget_lease_not_negative", condition=Q(amount_nano__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.owner}: {self.amount_nano}"


class RaiseState(models.TextChoices):
    REVIEW = "review", "In review"
    APPLIED = "applied", "Applied"
    REJECTED = "rejected", "Rejected"
    WITHDRAWN = "withdrawn", "Withdrawn"


class BudgetRaise(models.Model):
    """A change of a budget's amount that somebody else has to approve, and what became of it."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="raises")
    amount_from = models.DecimalField("from (USD)", max_digits=12, decimal_places=2)
    amount_to = models.DecimalField("to (USD)", max_digits=12, decimal_places=2, validators=[MinValueValidator(0)])
    reason = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=RaiseState.choices, default=RaiseState.REVIEW)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    reviewed_at = models.DateTimeField(null=True)
    review_note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-created_at"]
        permissions = [("approve_budgetraise", "Can approve raises of budgets")]
        constraints = [
            models.UniqueConstraint(fields=["budget"], condition=Q(state="review"), name="one_open_raise_per_budget")
        ]

    def __str__(self) -> str:
        return f"{self.budget.subject}: ${self.amount_from:,} to ${self.amount_to:,}"
