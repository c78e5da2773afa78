"""What operators know better than any classifier."""

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.db import models
from simple_history.models import HistoricalRecords

from providers.models import CostTier
from routing.domain.config import TaskType
from routing.domain.rules import complaint_about_regex
from routing.models.aliases import ModelAlias
from routing.models.names import slug_name

HEADER_NAME: Final = re.compile(r"x-[a-z0-9_-]{1,58}")


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

    def clean(self) -> None:
        """What does not belong to the subject or the outcome is emptied; what is missing is asked for."""
        wrong: dict[str, str] = {}
        self.header = self.header.strip().lower() if self.subject == RuleSubject.HEADER else ""
        if self.subject == RuleSubject.HEADER and not HEADER_NAME.fullmatch(self.header):
            wrong["header"] = "Name a header that begins with x-, for example x-app. Others are not looked at."
        if self.match == RuleMatch.REGEX and (complaint := complaint_about_regex(self.pattern)):
            wrong["pattern"] = complaint
        wrong |= self._clean_outcome()
        if wrong:
            raise ValidationError(wrong)

    def _clean_outcome(self) -> dict[str, str]:
        self.task_type = self.task_type if self.outcome == RuleOutcome.TASK else ""
        self.tier = self.tier if self.outcome == RuleOutcome.TIER else ""
        self.alias = self.alias if self.outcome == RuleOutcome.ALIAS else None
        if self.outcome == RuleOutcome.TASK and self.task_type in {"", TaskType.ANY}:
            return {"task_type": "Say which kind of work it is."}
        if self.outcome == RuleOutcome.TIER and self.tier not in CostTier.values:
            return {"tier": f"Choose one of: {', '.join(CostTier.values)}."}
        if self.outcome == RuleOutcome.ALIAS and self.alias is None:
            return {"alias": "Choose the model that goes first."}
        if self.alias is not None and not self.alias.is_active:
            return {"alias": "This model alias is switched off. Choose another, or switch it on first."}
        return {}
