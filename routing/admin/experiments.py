"""The page where an experiment is set up. It is started, followed and ended on its page of the dashboards."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.enums import ActionVariant

from providers.admin.cells import Tone, aligned, label, moment
from providers.admin.pages import HistoryAdmin, page_action
from routing.admin.rule_fields import list_field
from routing.models import Experiment, ExperimentKind, ExperimentState, PolicyDraft, validate_stages
from routing.services.experiments import NO_BUDGET, TRIABLE

STATES = {
    ExperimentState.DRAFT: (Tone.QUIET, "schedule"),
    ExperimentState.RUNNING: (Tone.GOOD, "science"),
    ExperimentState.STOPPED: (Tone.WARN, "stop_circle"),
    ExperimentState.PROMOTED: (Tone.INFO, "arrow_upward"),
}

OF_A_KIND = {"stages": ExperimentKind.CANARY, "stage_minutes": ExperimentKind.CANARY, "payer": ExperimentKind.SHADOW}
# `kind` is what the form's field has; on a page to look at there is no such field, and no such name
CONDITIONS = {
    name: f"typeof kind === 'undefined' || {condition}"
    for name, condition in {
        "percent": "kind !== 'canary'",
        **{name: f"kind === '{kind.value}'" for name, kind in OF_A_KIND.items()},
    }.items()
}


class ExperimentForm(ModelForm[Experiment]):
    """What can be said before it starts; what depends on the moment is looked at when it does."""

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        policy, challenger = cleaned.get("policy"), cleaned.get("challenger")
        if policy is not None and challenger is not None and challenger.policy_id != policy.pk:
            self.add_error("challenger", f"This is a draft of {challenger.policy}. Choose one of {policy}.")
        for name in ("guard_latency_percent", "guard_cost_percent"):
            if (cleaned.get(name) or 0) < 0:
                self.add_error(name, "Zero or more. Leave it empty for no such guard.")
        if cleaned.get("kind") == ExperimentKind.SHADOW:
            self._clean_shadow(cleaned)
        elif cleaned.get("max_cost") == 0:
            self.add_error("max_cost", NO_BUDGET)
        if cleaned.get("kind") == ExperimentKind.CANARY:
            try:
                validate_stages(cleaned.get("stages"))
            except ValidationError as error:
                self.add_error("stages", error)
        return cleaned

    def _clean_shadow(self, cleaned: dict[str, Any]) -> None:
        if cleaned.get("payer") is None:
            self.add_error("payer", "A shadow needs a key that pays for the second answers.")
        if not cleaned.get("max_cost"):
            self.add_error("max_cost", "A shadow needs a budget of its own, above zero.")


@admin.register(Experiment)
class ExperimentAdmin(HistoryAdmin[Experiment]):
    form = ExperimentForm
    list_display = ["name", "state_now", "kind_short", "policy", "challenger", "share", "began"]
    list_select_related = ["policy", "challenger__policy"]
    list_filter = [
        ("state", ChoicesCheckboxFilter),
        ("kind", ChoicesCheckboxFilter),
        ("policy", AutocompleteSelectFilter),
    ]
    search_fields = ["name", "policy__name", "challenger__title"]
    search_help_text = "Name, policy, or the draft that is tried"
    autocomplete_fields = ["policy", "payer"]
    actions_detail = ["results"]
    readonly_fields = ["stages_text"]
    conditional_fields = CONDITIONS
    fieldsets = [
        ("What is tried", {"fields": ["name", "policy", "challenger"]}),
        ("Whose requests", {"fields": ["kind", ("percent", "unit"), ("stages", "stage_minutes")]}),
        (
            "What it may cost",
            {"fields": [("max_cost", "payer")], "description": "A shadow’s second answers are billed to a key."},
        ),
        (
            "When it stops by itself",
            {
                "fields": [("guard_error_points", "guard_latency_percent"), ("guard_cost_percent", "min_samples")],
                "description": "The challenger against the control, when chance does not explain the difference.",
            },
        ),
    ]

    def has_change_permission(self, request: HttpRequest, obj: Experiment | None = None) -> bool:
        """What was asked stays as it was from the start on: its figures would change their meaning."""
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or obj.state == ExperimentState.DRAFT)

    def get_fieldsets(self, request: HttpRequest, obj: Experiment | None = None) -> Any:
        """A page to look at shows only what its kind looks at, and the shares of a canary as they are typed."""
        found = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return found
        return [(title, options | {"fields": _looked_at(options["fields"], obj.kind)}) for title, options in found]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return list_field(db_field) or super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "challenger":
            open_ones = PolicyDraft.objects.filter(state__in=TRIABLE).select_related("policy")
            kwargs["queryset"] = open_ones.order_by("policy__name", "-created_at")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Experiment | None = None) -> bool:
        """One that has run explains the arms of usage records."""
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or obj.state == ExperimentState.DRAFT)

    def save_model(self, request: HttpRequest, obj: Experiment, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user  # type: ignore[assignment]  # signed in
        elif not Experiment.objects.select_for_update().filter(pk=obj.pk, state=ExperimentState.DRAFT).exists():
            raise PermissionDenied("It has been started meanwhile: what is asked stays as it is.")
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Experiment, post_url_continue: Any = None) -> HttpResponse:
        """On to where it is started."""
        if {"_addanother", "_continue", "_popup"} & set(request.POST):
            return super().response_add(request, obj, post_url_continue)
        return HttpResponseRedirect(results_url(obj))

    @page_action(description="Results", url_path="results", icon="monitoring", variant=ActionVariant.PRIMARY)
    def results(self, request: HttpRequest, object_id: str) -> HttpResponse:
        experiment = self.get_object(request, object_id)
        if experiment is None:
            raise Http404("No such experiment.")
        return HttpResponseRedirect(results_url(experiment))

    @admin.display(description="stages")
    def stages_text(self, experiment: Experiment) -> str:
        return f"{', '.join(map(str, experiment.stages))} %"

    @admin.display(description="state", ordering="state")
    def state_now(self, experiment: Experiment) -> SafeString:
        tone, icon = STATES[ExperimentState(experiment.state)]
        return label(experiment.get_state_display(), tone, icon=icon, title=experiment.stop_reason)

    @admin.display(description="kind", ordering="kind")
    def kind_short(self, experiment: Experiment) -> str:
        return experiment.get_kind_display().partition(":")[0]

    @admin.display(description="share", ordering="percent")
    def share(self, experiment: Experiment) -> SafeString:
        return aligned(f"{experiment.percent} %")

    @admin.display(description="began", ordering="started_at")
    def began(self, experiment: Experiment) -> SafeString:
        url, at = results_url(experiment), moment(experiment.started_at)
        return format_html('<a class="cell-link" href="{}">{}</a>', url, at) if experiment.started_at else at


def _looked_at(rows: Iterable[str | Sequence[str]], kind: str) -> list[tuple[str, ...]]:
    groups = [(row,) if isinstance(row, str) else tuple(row) for row in rows]
    kept = [tuple(name for name in group if OF_A_KIND.get(name, kind) == kind) for group in groups]
    return [tuple("stages_text" if name == "stages" else name for name in group) for group in kept if group]


def results_url(experiment: Experiment) -> str:
    """Its page of the dashboards."""
    return reverse("analytics:experiment", args=[experiment.pk])
