"""Pages of routing policies: their rules, their versions, and the way to change them."""

from typing import Any, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Prefetch, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from providers.admin.cells import Tone, aligned, clipped, label, number, steps, usd
from providers.admin.pages import SwitchableAdmin, change_url, page_action
from routing.admin.ordering import renumber
from routing.admin.questions import Question, asked_page
from routing.admin.rule_fields import LOOKED_AT, RULE_SECTIONS, RuleCandidates, RulesPage, as_saved, sections_for
from routing.admin.words import policy_in_words
from routing.domain.config import TaskType
from routing.domain.policy_diff import policy_changes
from routing.models import OPEN_STATES, PolicyCandidate, RoutingPolicy
from routing.policy_access import may_propose, may_review
from routing.policy_selectors import version_lines
from routing.services import default_policy_set
from routing.services.lifecycle import draft_create, review_required
from routing.services.policy_rules import RULE_COLUMNS, document_at, document_of, version_ensure
from routing.services.rollouts import policy_edited, version_rollback

TRIED = Prefetch("candidates", queryset=PolicyCandidate.objects.select_related("alias"))
EDITED: Final = "Edited on its page"
CREATED: Final = "Created"
LONGEST_NUMBER: Final = 10  # digits


class CandidateRows(RuleCandidates):
    model = PolicyCandidate

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not review_required() and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not review_required() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not review_required() and super().has_delete_permission(request, obj)


class RoutingPolicyForm(ModelForm[RoutingPolicy]):
    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("is_default", self.instance.is_default) and not cleaned.get("is_active", True):
            self.add_error("is_active", "The default policy stays on. Make another policy the default first.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """That there is one default is seen to by `default_policy_set`, which unsets the former one."""
        return super()._get_validation_exclusions() | {"is_default"}  # type: ignore[misc,no-any-return]


class ProposalForm(forms.Form):
    """What a draft needs to begin with."""

    title = forms.CharField(
        max_length=120, label="What changes", widget=UnfoldAdminTextInputWidget, help_text="In a few words."
    )
    note = forms.CharField(
        required=False, label="Why", widget=UnfoldAdminTextareaWidget, help_text="For whoever approves it."
    )


@admin.register(RoutingPolicy)
class RoutingPolicyAdmin(RulesPage, SwitchableAdmin[RoutingPolicy]):
    form = RoutingPolicyForm
    list_display = ["name", "state", "order", "tried", "cost_ceiling", "latency_ceiling", "used_by", "in_force"]
    list_filter = ["is_active", ("strategy", ChoicesCheckboxFilter), ("task_type", ChoicesCheckboxFilter)]
    search_fields = ["name", "description", "candidates__alias__name"]
    search_help_text = "Name, description, or a model in it"
    inlines = [CandidateRows]
    actions_detail = ["propose"]
    change_form_outer_before_template = "admin/routing/routingpolicy/rule.html"
    list_before_template = "admin/providers/dominated_link.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingPolicy]:
        return super().get_queryset(request).prefetch_related(TRIED, "personas")

    # --- the form ---------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: RoutingPolicy | None = None) -> Any:
        named = ("What it is called", {"fields": ["name", "description", ("is_active", "is_default")]})
        if self.has_change_permission(request, obj) and not review_required():
            return [named, *RULE_SECTIONS]
        return [named, *sections_for(obj.strategy)] if obj else [named]

    def get_readonly_fields(self, request: HttpRequest, obj: RoutingPolicy | None = None) -> list[str]:
        """A default policy stops being it only when another becomes it. Rules that need a review are only shown."""
        default = ["is_default"] if obj and obj.is_default else []
        return [*default, *LOOKED_AT, *(RULE_COLUMNS if review_required() else ())]

    def obstacles(self, obj: RoutingPolicy) -> list[str]:
        found = super().obstacles(obj)
        return ["requests for “auto”", *found] if obj.is_default else found

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        policy = as_saved(context.get("original"), request)
        if policy is not None:
            context["original"] = policy
            candidates = list(policy.candidates.select_related("alias"))
            context["rule"] = policy_in_words(policy, candidates, list(policy.personas.all()))
            context["open_drafts"] = policy.drafts.filter(state__in=OPEN_STATES).select_related("author")
            context["lines"] = version_lines(policy)
            context["may_roll_back"] = may_review(request.user)
            context["review_required"] = review_required()
            context["may_propose"] = may_propose(request.user)
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: RoutingPolicy, form: Any, change: bool) -> None:
        """Whether it is the default is decided in `save_related`, when its models are saved too. What was in force
        before is a version of its own."""
        if change:
            version_ensure(policy=RoutingPolicy.objects.get(pk=obj.pk))
        if "is_default" in form.changed_data:
            obj.is_default = False
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        renumber(form.instance, "candidates")
        if "is_default" in form.changed_data:
            default_policy_set(policy=form.instance)
            messages.info(request, f"“auto” is now served by {form.instance}.")
        policy = RoutingPolicy.objects.get(pk=form.instance.pk)
        before = policy.version
        version = policy_edited(policy=policy, by=cast(User, request.user), note=EDITED if change else CREATED)
        if change and version.number != before:
            messages.info(request, f"These rules are version {version.number}. Gateways follow within 2 seconds.")

    # --- drafts and versions ----------------------------------------------------------------------------------------

    @page_action(
        description="Propose a change",
        url_path="propose",
        icon="edit_note",
        variant=ActionVariant.PRIMARY,
        permissions=["propose"],
    )
    def propose(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask what for, then open a draft: a copy of the rules in force, or of version `?version=`."""
        policy = self._policy(request, object_id)
        asked = request.GET.get("version", "")
        version = int(asked) if asked.isdecimal() and len(asked) < LONGEST_NUMBER else None
        form = ProposalForm(
            request.POST if request.method == "POST" else None,
            initial={"title": f"Back to version {version}" if version else ""},
        )
        if form.is_valid():
            try:
                draft = draft_create(policy=policy, by=cast(User, request.user), version=version, **form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, "Change the rules below, then submit the draft.")
                return HttpResponseRedirect(change_url(draft))
        said = f"The draft begins as a copy of {f'version {version}' if version else 'the rules in force'}."
        question = Question(f"Propose a change of {policy}", [said], "Open a draft", change_url(policy), form=form)
        return asked_page(self, request, "Propose a change", question)

    def roll_back(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Show what would change, then put an older version's rules into force."""
        policy = self._policy(request, object_id)
        if not may_review(request.user):
            raise PermissionDenied
        back = change_url(policy)
        if request.method == "POST":
            try:
                version = version_rollback(policy=policy, number=number, by=cast(User, request.user))
            except ValidationError as error:
                messages.error(request, " ".join(error.messages))
            else:
                self.log_change(request, policy, f"Rolled back to version {number}, as version {version.number}.")
                messages.success(
                    request,
                    f"What version {number} said is in force again, as version {version.number}. "
                    "Gateways follow within 2 seconds.",
                )
            return HttpResponseRedirect(back)
        try:
            changes = policy_changes(document_of(policy), document_at(policy, number))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(back)
        said = [
            f"What version {number} said is put into force for all requests at once, as a new version.",
            "It needs no further approval: it has been in force before.",
        ]
        question = Question(
            f"Roll {policy} back to version {number}?", said, "Roll back", back, tone="danger", changes=changes
        )
        return asked_page(self, request, "Roll back", question)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.roll_back)
        name = "routing_routingpolicy_roll_back"
        return [path("<path:object_id>/versions/<int:number>/roll-back/", view, name=name), *super().get_urls()]

    def has_propose_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_propose(request.user)

    def _policy(self, request: HttpRequest, object_id: str) -> RoutingPolicy:
        """:raises Http404: there is none, or its page is not this person's to see."""
        policy = self.get_object(request, object_id)
        if policy is None or not self.has_view_permission(request, policy):
            raise Http404("No such policy.")
        return policy

    # --- the list ---------------------------------------------------------------------------------------------------

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[RoutingPolicy]) -> None:
        if rows.filter(is_default=True).exists():
            messages.error(request, "The default policy stays on. Make another policy the default first.")
        needed = rows.filter(personas__is_active=True)
        for policy in needed.distinct():
            messages.error(request, f"{policy} stays on: it serves {', '.join(policy.personas_served())}.")
        super().switch_off(request, rows.filter(is_default=False).exclude(pk__in=needed.values("pk")))

    @admin.display(description="state", ordering="-is_default")
    def state(self, policy: RoutingPolicy) -> SafeString:
        return label("Default", Tone.INFO, icon="star") if policy.is_default else super().state(policy)

    @admin.display(description="order", ordering="strategy")
    def order(self, policy: RoutingPolicy) -> SafeString:
        task = "" if policy.task_type == TaskType.ANY else policy.get_task_type_display()
        tag = format_html('<span class="cell-tag">{}</span>', task) if task else ""
        return format_html("{}{}", policy.get_strategy_display(), tag)

    @admin.display(description="tries")
    def tried(self, policy: RoutingPolicy) -> SafeString:
        names = [candidate.alias.name for candidate in policy.candidates.all()]
        return steps(names) if names else label("No models", Tone.WARN, title="It can serve nothing.")

    @admin.display(description="cost ceiling", ordering="max_cost_per_request")
    def cost_ceiling(self, policy: RoutingPolicy) -> SafeString:
        return usd(policy.max_cost_per_request)

    @admin.display(description="latency ceiling", ordering="max_latency_ms")
    def latency_ceiling(self, policy: RoutingPolicy) -> SafeString:
        return number(policy.max_latency_ms, "ms")

    @admin.display(description="personas")
    def used_by(self, policy: RoutingPolicy) -> SafeString:
        return clipped(", ".join(persona.slug for persona in policy.personas.all()) or "–")

    @admin.display(description="version", ordering="version")
    def in_force(self, policy: RoutingPolicy) -> SafeString:
        return aligned(f"v{policy.version}" if policy.version else "–")
