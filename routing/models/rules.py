"""What operators know better than any classifier."""

from django.db import models
from simple_history.models import HistoricalRecords

from routing.domain.config import TaskType
from routing.models.aliases import ModelAlias
from routing.models.names import slug_name


class RuleSubject(models.TextChoices):
    TEXT = "text", "The last human turn"
    TAG = "tag", "The request's tag (x-router-tag)"
    PERSONA = "persona", "The persona"
    HEADER = "header", "A header"


class RuleMatch(models.TextChoices):
    CONTAINS = "contains", "contains (any case)"
    EQUALS = "equals", "is"
    REGEX = "regex", "matches the regular expression (RE2)"


class RuleOutcome(models.TextChoices):
    TASK = "task", "is this kind of work"
    TIER = "tier", "goes to models of this cost tier first"
    ALIAS = "alias", "goes to this model first"


class RoutingRule(models.Model):
    """If this, then that; the first that fits decides. It holds for requests that a policy routes."""

    name = models.CharField(max_length=60, unique=True, validators=[slug_name])
    position = models.PositiveIntegerField("priority", default=0, help_text="Lower is looked at first.")
    is_active = models.BooleanField("active", default=True)
    subject = models.CharField("when", max_length=8, choices=RuleSubject.choices, default=RuleSubject.TEXT)
    header = models.CharField(max_length=60, blank=True, help_text="Of a header: its name, beginning with x-.")
    match = models.CharField(max_length=8, choices=RuleMatch.choices, default=RuleMatch.CONTAINS)
    pattern = models.CharField(max_length=500)
    outcome = models.CharField("then it", max_length=5, choices=RuleOutcome.choices, default=RuleOutcome.TASK)
    task_type = models.CharField(max_length=20, choices=TaskType.choices(), blank=True)
    tier = models.CharField("cost tier", max_length=20, blank=True)
    alias = models.ForeignKey(ModelAlias, null=True, blank=True, on_delete=models.PROTECT, related_name="rules")

    history = HistoricalRecords()

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name
