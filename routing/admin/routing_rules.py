"""The page of operators' rules."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from providers.admin.cells import clipped
from providers.admin.pages import SwitchableAdmin, change_url
from providers.models import CostTier
from routing.domain.config import TASK_LABELS, TaskType
from routing.models import Persona, RoutingRule, RuleMatch, RuleOutcome, RuleSubject

NO_TASK = ("", "Choose a kind of work")
NO_TIER = ("", "Choose a cost tier")
# `subject` and `outcome` are what the form's fields have; on a page to look at there are none
CONDITIONS = {
    "header": "typeof subject === 'undefined' || subject === 'header'",
    "task_type": "typeof outcome === 'undefined' || outcome === 'task'",
    "tier": "typeof outcome === 'undefined' || outcome === 'tier'",
    "alias": "typeof outcome === 'undefined' || outcome === 'alias'",
}


class RoutingRuleAdmin(SwitchableAdmin[RoutingRule]):
    """What a floor above registers, with how often each rule has fitted."""

    list_display = ["name", "state", "condition", "consequence"]
    list_filter = ["is_active", ("subject", ChoicesCheckboxFilter), ("outcome", ChoicesCheckboxFilter)]
    list_select_related = ["alias"]
    search_fields = ["name", "pattern"]
    search_help_text = "Name or pattern"
    ordering = ["position", "name"]
    ordering_field = "position"
    hide_ordering_field = True
    autocomplete_fields = ["alias"]
    conditional_fields = CONDITIONS
    fieldsets = [
        (None, {"fields": ["name", "is_active"]}),
        ("When", {"fields": ["subject", "header", "match", "pattern"]}),
        ("Then the request", {"fields": ["outcome", "task_type", "tier", "alias"]}),
    ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "task_type":
            kinds = [(task.value, TASK_LABELS[task]) for task in TaskType if task is not TaskType.ANY]
            field.choices = [NO_TASK, *kinds]
        return field

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        if "tier" in form.base_fields:
            select = form.base_fields["task_type"].widget.__class__
            form.base_fields["tier"] = forms.ChoiceField(
                choices=[NO_TIER, *CostTier.choices], required=False, label="Cost tier", widget=select
            )
        return form

    def save_model(self, request: HttpRequest, obj: RoutingRule, form: Any, change: bool) -> None:
        """A new rule goes to the end; fields that the rule has emptied for itself are written too."""
        if not change:
            last = RoutingRule.objects.order_by("-position").values_list("position", flat=True).first()
            obj.position = 0 if last is None else last + 1
        obj.save()
        self._warn(request, obj)

    def _warn(self, request: HttpRequest, rule: RoutingRule) -> None:
        """Of what is allowed and hardly meant."""
        same = RoutingRule.objects.filter(
            is_active=True, subject=rule.subject, header=rule.header, match=rule.match, pattern__iexact=rule.pattern,
            position__lt=rule.position,
        ).first()  # fmt: skip
        if same is not None:
            what = "It is never reached: the rule {} fits the same requests and is looked at before."
            link = format_html('<a class="cell-link" href="{}">{}</a>', change_url(same), same)
            messages.warning(request, format_html(what, link))
        is_named = rule.subject == RuleSubject.PERSONA and rule.match == RuleMatch.EQUALS
        if is_named and not Persona.objects.filter(slug__iexact=rule.pattern, is_active=True).exists():
            messages.warning(request, f"There is no active persona “{rule.pattern}” at present.")

    @admin.display(description="when")
    def condition(self, rule: RoutingRule) -> SafeString:
        subject = f"The header {rule.header}" if rule.subject == RuleSubject.HEADER else rule.get_subject_display()
        verb = {RuleMatch.CONTAINS: "contains", RuleMatch.EQUALS: "is", RuleMatch.REGEX: "matches"}[
            RuleMatch(rule.match)
        ]
        return clipped(f"{subject} {verb} “{rule.pattern}”")

    @admin.display(description="then")
    def consequence(self, rule: RoutingRule) -> str:
        match rule.outcome:
            case RuleOutcome.TASK:
                return f"it is {rule.get_task_type_display().lower()}"
            case RuleOutcome.TIER:
                return f"models of the tier “{CostTier(rule.tier).label}” go first"
        return f"{rule.alias} goes first"
