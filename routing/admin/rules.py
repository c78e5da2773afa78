"""Pages of model aliases and personas."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from providers.admin.cells import NOTHING, Tone, capabilities_text, clipped, code, label, number, steps
from providers.admin.pages import CAPABILITY_CHOICES, SwitchableAdmin, change_url, rate_limit_section
from routing.admin.ordering import OrderedFormSet, OrderedRows, renumber
from routing.models import AliasTarget, CandidateGroup, ModelAlias, Persona, PolicyCandidate

IN_ORDER = Prefetch("targets", queryset=AliasTarget.objects.select_related("deployment__provider"))
TRIED = Prefetch("candidates", queryset=PolicyCandidate.objects.select_related("alias"))


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


@admin.register(Persona)
class PersonaAdmin(SwitchableAdmin[Persona]):
    list_display = ["name", "called", "state", "policy_link", "tried", "temperature", "longest_answer", "needs"]
    list_select_related = ["policy"]
    list_filter = ["is_active", ("policy", AutocompleteSelectFilter)]
    search_fields = ["name", "slug", "description"]
    search_help_text = "Name or description"
    autocomplete_fields = ["policy", "template"]
    prepopulated_fields = {"slug": ["name"]}
    checkbox_lists = {"required_capabilities": CAPABILITY_CHOICES}
    readonly_fields = ["models_tried"]
    fieldsets = [
        ("Who it is", {"fields": ["name", "slug", "description", "is_active"]}),
        ("What it is told", {"fields": ["system_prompt", ("template", "template_version")]}),
        ("Which models serve it", {"fields": ["policy", "models_tried", "required_capabilities"]}),
        ("Unless the request says otherwise", {"fields": [("temperature", "max_tokens")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Persona]:
        tried = Prefetch("policy__candidates", queryset=TRIED.queryset)
        return super().get_queryset(request).prefetch_related(tried)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Persona]) -> None:
        """Not those whose policy or template is switched off: nothing could serve them."""
        for persona in rows.filter(policy__is_active=False):
            messages.error(request, f"{persona} stays off: its policy {persona.policy} is switched off.")
        for persona in rows.filter(policy__is_active=True, template__is_active=False):
            messages.error(request, f"{persona} stays off: its template {persona.template} is switched off.")
        super().switch_on(request, rows.filter(policy__is_active=True).exclude(template__is_active=False))

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
