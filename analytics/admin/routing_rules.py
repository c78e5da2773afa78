"""The page of operators' rules, with how often each has fitted and a field to try them."""

from datetime import timedelta

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from analytics import presentation
from analytics.selectors.rules import rule_hits
from providers.admin.cells import aligned
from routing.admin.routing_rules import RoutingRuleAdmin
from routing.domain.config import Rule
from routing.domain.rules import compile_rule, matching_rule
from routing.models import RoutingRule
from routing.selectors import rule_rows

LONGEST_TRIAL = 20_000


class TrialForm(forms.Form):
    """A request as rules see it."""

    text = forms.CharField(
        label="The last human turn",
        required=False,
        max_length=LONGEST_TRIAL,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
    )
    tag = forms.CharField(label="Tag (x-router-tag)", required=False, max_length=200, widget=UnfoldAdminTextInputWidget)
    persona = forms.CharField(label="Persona", required=False, max_length=60, widget=UnfoldAdminTextInputWidget)
    header = forms.CharField(label="Header", required=False, max_length=60, widget=UnfoldAdminTextInputWidget)
    value = forms.CharField(label="Its value", required=False, max_length=200, widget=UnfoldAdminTextInputWidget)

    def fitting(self, rules: list[Rule]) -> Rule | None:
        """The rule that decides."""
        told = self.cleaned_data
        name = told["header"].strip().lower()
        return matching_rule(
            rules,
            text=lambda: str(told["text"]),
            tag=told["tag"],
            persona=told["persona"],
            hint=lambda header: told["value"] if header == name else "",
        )


@admin.register(RoutingRule)
class RoutingRuleWithHits(RoutingRuleAdmin):
    list_display = [*RoutingRuleAdmin.list_display, "hits_of_the_day", "hits_of_the_week"]
    list_before_template = "admin/analytics/rules/trial_link.html"

    def get_urls(self) -> list[URLPattern]:
        trial = path("try/", self.admin_site.admin_view(self.trial_view), name="routing_routingrule_try")
        return [trial, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingRule]:
        now = timezone.now()
        day, week = rule_hits(since=now - timedelta(days=1)), rule_hits(since=now - timedelta(days=7))
        return super().get_queryset(request).annotate(hits_day=day, hits_week=week)

    def trial_view(self, request: HttpRequest) -> HttpResponse:
        """Which rule fits what somebody types. Nothing of it is kept."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = TrialForm(request.POST or None)
        context = {**self.admin_site.each_context(request), "title": "Try the rules", "opts": self.opts, "form": form}
        if form.is_bound and form.is_valid():
            fits = form.fitting([compile_rule(row) for row in rule_rows()])
            found = RoutingRule.objects.filter(name=fits.name).select_related("alias").first() if fits else None
            context |= {"is_tried": True, "found": found, "consequence": self.consequence(found) if found else ""}
        return TemplateResponse(request, "admin/analytics/rules/trial.html", context)

    @admin.display(description="fitted, 24 h", ordering="hits_day")
    def hits_of_the_day(self, rule: RoutingRule) -> SafeString:
        return aligned(presentation.count(rule.hits_day))  # type: ignore[attr-defined]  # annotated

    @admin.display(description="7 days", ordering="hits_week")
    def hits_of_the_week(self, rule: RoutingRule) -> SafeString:
        return aligned(presentation.count(rule.hits_week))  # type: ignore[attr-defined]  # annotated
