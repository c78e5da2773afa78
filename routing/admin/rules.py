"""Pages of model aliases, routing policies and personas."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Model, Prefetch, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.forms import PaginationInlineFormSet

from providers.admin.cells import NOTHING, Tone, capabilities_text, clipped, code, label, number, steps, usd
from providers.admin.pages import CAPABILITY_CHOICES, Rows, SwitchableAdmin, change_url, rate_limit_section
from routing.admin.words import policy_in_words
from routing.models import AliasTarget, CandidateGroup, ModelAlias, Persona, PolicyCandidate, RoutingPolicy
from routing.services import default_policy_set

IN_ORDER = Prefetch("targets", queryset=AliasTarget.objects.select_related("deployment__provider"))
TRIED = Prefetch("candidates", queryset=PolicyCandidate.objects.select_related("alias"))


class OrderedRows(Rows):
    """Rows whose order is the rule: dragged into place, counted anew when they are saved."""

    ordering_field = "position"
    hide_ordering_field = True
    tab = False
    show_change_link = False


def renumber(parent: Model, rows: str) -> None:
    """Number the rows of `parent` from 0, in each group. A new row has no position yet: it goes to the end."""
    counts: dict[str, int] = {}
    for row in getattr(parent, rows).order_by("position", "pk"):
        group = getattr(row, "group", "")
        position = counts.setdefault(group, 0)
        counts[group] += 1
        if row.position != position:
            row.position = position
            row.save(update_fields=["position"])


class OrderedFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # untyped
    """Puts new rows behind the others, whatever number the form gave them."""

    def save_new(self, form: ModelForm[Any], commit: bool = True) -> Any:
        form.instance.position = 1_000_000 + self.forms.index(form)
        return super().save_new(form, commit)


class TargetRows(OrderedRows):
    model = AliasTarget
    formset = OrderedFormSet
    fields = ["deployment", "position"]
    autocomplete_fields = ["deployment"]
    verbose_name, verbose_name_plural = "deployment", "deployments, in the order of trying"


@admin.register(ModelAlias)
class ModelAliasAdmin(SwitchableAdmin[ModelAlias]):
    list_display = ["name", "served_by", "state", "policies", "description"]
    list_filter = ["is_active", ("targets__deployment__provider", AutocompleteSelectFilter)]
    search_fields = ["name", "description", "targets__deployment__upstream_model"]
    search_help_text = "Name, or the model behind it"
    inlines = [TargetRows]
    fieldsets = [
        ("What callers send", {"fields": ["name", "description", "is_active"]}),
        rate_limit_section("Counts requests that name this alias and attempts where a policy chose it, of all teams."),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelAlias]:
        used = Count("policy_candidates", distinct=True)
        return super().get_queryset(request).prefetch_related(IN_ORDER).annotate(policies_using=used)

    def obstacles(self, obj: ModelAlias) -> list[str]:
        limited = obj.keys.count()
        keys = [f"{limited} virtual key{'s' if limited > 1 else ''} limited to it"] if limited else []
        return super().obstacles(obj) + keys

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        renumber(form.instance, "targets")

    @admin.display(description="served by")
    def served_by(self, alias: ModelAlias) -> SafeString:
        targets = [str(target.deployment) for target in alias.targets.all()]
        return steps(targets) if targets else label("Nothing", Tone.WARN, title="Requests for it are refused.")

    @admin.display(description="policies", ordering="policies_using")
    def policies(self, alias: ModelAlias) -> SafeString:
        return number(alias.policies_using)  # type: ignore[attr-defined]  # annotated


class CandidateFormSet(OrderedFormSet):
    """The models of a policy: none twice, and at least one when the policy is the default."""

    def clean(self) -> None:
        super().clean()
        chosen = [
            form.cleaned_data["alias"]
            for form in self.forms
            if not form.errors and form.cleaned_data.get("alias") and not form.cleaned_data.get("DELETE")
        ]
        if self.instance.is_default and not chosen:
            raise ValidationError("The default policy needs at least one model.")

    def get_unique_error_message(self, unique_check: Any) -> str:
        return "A model stands here twice. Keep it once: as preferred or as fallback."


class CandidateRows(OrderedRows):
    model = PolicyCandidate
    formset = CandidateFormSet
    fields = ["alias", "group", "position"]
    autocomplete_fields = ["alias"]
    verbose_name = "model"
    verbose_name_plural = "models, in the order of trying: preferred ones first, then the fallbacks"


class RoutingPolicyForm(ModelForm[RoutingPolicy]):
    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("is_default", self.instance.is_default) and not cleaned.get("is_active", True):
            self.add_error("is_active", "The default policy stays on. Make another policy the default first.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """That there is one default is seen to by `default_policy_set`, which unsets the former one."""
        return super()._get_validation_exclusions() | {"is_default"}  # type: ignore[misc,no-any-return]


@admin.register(RoutingPolicy)
class RoutingPolicyAdmin(SwitchableAdmin[RoutingPolicy]):
    form = RoutingPolicyForm
    list_display = ["name", "state", "task", "tried", "cost_ceiling", "latency_ceiling", "needs", "used_by"]
    list_filter = ["is_active", ("task_type", ChoicesCheckboxFilter)]
    search_fields = ["name", "description", "candidates__alias__name"]
    search_help_text = "Name, description, or a model in it"
    checkbox_lists = {"required_capabilities": CAPABILITY_CHOICES}
    inlines = [CandidateRows]
    fieldsets = [
        ("What it is for", {"fields": ["name", "description", "task_type", ("is_active", "is_default")]}),
        ("What it skips", {"fields": [("max_cost_per_request", "max_latency_ms"), "required_capabilities"]}),
        ("Which answers are kept", {"fields": [("cache_mode", "cache_ttl_s")]}),
    ]
    change_form_outer_before_template = "admin/routing/routingpolicy/rule.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingPolicy]:
        return super().get_queryset(request).prefetch_related(TRIED, "personas")

    def get_readonly_fields(self, request: HttpRequest, obj: RoutingPolicy | None = None) -> list[str]:
        """A default policy stops being it only when another becomes it."""
        return ["is_default"] if obj and obj.is_default else []

    def obstacles(self, obj: RoutingPolicy) -> list[str]:
        found = super().obstacles(obj)
        return ["requests for “auto”", *found] if obj.is_default else found

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        policy = context.get("original")
        if policy is not None:
            candidates = list(policy.candidates.select_related("alias"))
            context["rule"] = policy_in_words(policy, candidates, list(policy.personas.all()))
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: RoutingPolicy, form: Any, change: bool) -> None:
        """Whether it is the default is decided in `save_related`, when its models are saved too."""
        if "is_default" in form.changed_data:
            obj.is_default = False
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        renumber(form.instance, "candidates")
        if "is_default" in form.changed_data:
            default_policy_set(policy=form.instance)
            messages.info(request, f"“auto” is now served by {form.instance}.")

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

    @admin.display(description="made for", ordering="task_type")
    def task(self, policy: RoutingPolicy) -> str:
        return policy.get_task_type_display()

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

    @admin.display(description="needs")
    def needs(self, policy: RoutingPolicy) -> SafeString:
        return clipped(capabilities_text(policy.required_capabilities))

    @admin.display(description="personas")
    def used_by(self, policy: RoutingPolicy) -> SafeString:
        return clipped(", ".join(persona.slug for persona in policy.personas.all()) or "–")


@admin.register(Persona)
class PersonaAdmin(SwitchableAdmin[Persona]):
    list_display = ["name", "called", "state", "policy_link", "tried", "temperature", "longest_answer", "needs"]
    list_select_related = ["policy"]
    list_filter = ["is_active", ("policy", AutocompleteSelectFilter)]
    search_fields = ["name", "slug", "description"]
    search_help_text = "Name or description"
    autocomplete_fields = ["policy"]
    prepopulated_fields = {"slug": ["name"]}
    checkbox_lists = {"required_capabilities": CAPABILITY_CHOICES}
    readonly_fields = ["models_tried"]
    fieldsets = [
        ("Who it is", {"fields": ["name", "slug", "description", "is_active"]}),
        ("What it is told", {"fields": ["system_prompt"]}),
        ("Which models serve it", {"fields": ["policy", "models_tried", "required_capabilities"]}),
        ("Unless the request says otherwise", {"fields": [("temperature", "max_tokens")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Persona]:
        tried = Prefetch("policy__candidates", queryset=TRIED.queryset)
        return super().get_queryset(request).prefetch_related(tried)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Persona]) -> None:
        """Not those whose policy is switched off: nothing could serve them."""
        for persona in rows.filter(policy__is_active=False):
            messages.error(request, f"{persona} stays off: its policy {persona.policy} is switched off.")
        super().switch_on(request, rows.filter(policy__is_active=True))

    @admin.display(description="name in calls", ordering="slug")
    def called(self, persona: Persona) -> SafeString:
        return code(persona.slug)

    @admin.display(description="policy", ordering="policy__name")
    def policy_link(self, persona: Persona) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(persona.policy), persona.policy)

    @admin.display(description="tries")
    def tried(self, persona: Persona) -> SafeString:
        return steps([candidate.alias.name for candidate in persona.policy.candidates.all()])

    @admin.display(description="longest answer", ordering="max_tokens")
    def longest_answer(self, persona: Persona) -> SafeString:
        return number(persona.max_tokens, "tokens")

    @admin.display(description="needs")
    def needs(self, persona: Persona) -> SafeString:
        return clipped(capabilities_text(persona.required_capabilities))

    @admin.display(description="models tried")
    def models_tried(self, persona: Persona) -> SafeString:
        """The saved policy's models, each a link, in the order of trying."""
        if persona._state.adding:
            return NOTHING
        rows = (
            (change_url(row.alias), row.alias.name, " (fallback)" if row.group == CandidateGroup.FALLBACK else "")
            for row in persona.policy.candidates.all()
        )
        items = format_html_join("", '<li><a class="cell-link" href="{}">{}</a>{}</li>', rows)
        return format_html('<ol class="cell-list">{}</ol>', items) if items else NOTHING
