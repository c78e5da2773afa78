"""What the pages of a policy and of a draft have in common: the fields of the rules, and the checks when they are
saved."""

from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Field, TextField
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.widgets import UnfoldAdminTextInputWidget

from providers.admin.cells import capabilities_text
from providers.admin.pages import CAPABILITY_CHOICES, Choices
from routing.admin.ordering import OrderedFormSet, OrderedRows
from routing.domain.config import BY_QUALITY, Escalation, Strategy, TaskType
from routing.domain.documents import same_rules
from routing.domain.policy_checks import Complaint
from routing.domain.policy_diff import ESCALATION_WORDS
from routing.domain.policy_words import STRATEGY_HELP
from routing.models import CandidateGroup, PolicyDraft, PolicyRules, RoutingPolicy
from routing.policy_selectors import policy_complaints
from routing.selectors import policy_document
from routing.services.policy_rules import RULE_COLUMNS, document_of

Owner = TypeVar("Owner", RoutingPolicy, PolicyDraft)

ESCALATION_CHOICES: Choices = [
    (Escalation.REFUSAL.value, "Refuses"),
    (Escalation.EMPTY.value, "Is empty"),
    (Escalation.INVALID_JSON.value, "Is no valid JSON, though JSON was asked for"),
    (Escalation.LOW_LOGPROB.value, "Is unsure (low log probability)"),
]
NOTE_LINES = 3
CHECKBOX_LISTS: dict[str, Choices] = {
    "required_capabilities": CAPABILITY_CHOICES,
    "escalate_on": ESCALATION_CHOICES,
}
RULE_SECTIONS: list[tuple[str, dict[str, Any]]] = [
    (
        "Which model goes first",
        {
            "fields": [
                ("task_type", "strategy"),
                "strategy_help",
                ("quality_floor", "within_of_best"),
                ("cost_weight", "latency_weight"),
            ]
        },
    ),
    ("What it skips", {"fields": [("max_cost_per_request", "max_latency_ms"), "regions", "required_capabilities"]}),
    (
        "As a budget fills",
        {
            "classes": ["tab"],
            "fields": [
                ("ladder_cap_percent", "ladder_cap_tokens"),
                ("ladder_cheaper_percent", "ladder_cache_percent"),
                "ladder_refuse_percent",
            ],
        },
    ),
    ("Conversations and second tries", {"classes": ["tab"], "fields": ["is_sticky", "escalate_on"]}),
    ("Kept answers", {"classes": ["tab"], "fields": [("cache_mode", "cache_ttl_s")]}),
    ("Learning", {"classes": ["tab"], "fields": ["sample_percent", "keeps_prompts"]}),
]
RELEVANT: dict[str, frozenset[Strategy]] = {  # the strategies that look at a field
    "quality_floor": BY_QUALITY,
    "within_of_best": frozenset({Strategy.LOWEST_COST, Strategy.TASK_BASED}),
    "cost_weight": frozenset({Strategy.BALANCED}),
    "latency_weight": frozenset({Strategy.BALANCED}),
}
# `strategy` is what the form's field has; on a page to look at there is no such field, and no such name
CONDITIONS = {
    field: "typeof strategy === 'undefined' || "
    + " || ".join(f"strategy === '{one.value}'" for one in sorted(strategies))
    for field, strategies in RELEVANT.items()
}


class NamesField(forms.CharField):
    """A JSON list of names, typed with commas between them."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [part.strip() for part in (value or "").split(",") if part.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(initial) != self.to_python(data))


class StagesField(NamesField):
    """Percentages, typed with commas between them."""

    def to_python(self, value: Any) -> Any:
        parts = super().to_python(value)
        try:
            return [int(str(part).removesuffix("%").strip()) for part in parts]
        except ValueError:
            raise ValidationError("Name percentages with commas between them, for example 5, 25, 100.") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return super().has_changed(initial, data)
        except ValidationError:
            return True


LIST_FIELDS: dict[str, type[NamesField]] = {"regions": NamesField, "stages": StagesField}


def list_field(db_field: Field[Any, Any]) -> forms.Field | None:
    """The form's field for a JSON column that is typed as a list; None for other columns."""
    made = LIST_FIELDS.get(db_field.name)
    if made is None:
        return None
    return made(
        label=capfirst(db_field.verbose_name),
        help_text=db_field.help_text,
        required=not db_field.blank,
        initial=db_field.get_default(),
        validators=list(db_field.validators),
    )


SHOWN = {  # how a page to look at shows a JSON list
    "regions": "regions_shown",
    "required_capabilities": "capabilities_shown",
    "escalate_on": "escalations_shown",
    "stages": "stages_shown",
}
LOOKED_AT = ("strategy_help", *SHOWN.values())


def sections_for(strategy: str) -> list[tuple[str, dict[str, Any]]]:
    """The sections of a page to look at: without the fields that this strategy does not look at."""
    shown = []
    for title, options in RULE_SECTIONS:
        rows = [row if isinstance(row, tuple) else (row,) for row in options["fields"] if row != "strategy_help"]
        kept = [_relevant(row, strategy) for row in rows]
        shown.append((title, options | {"fields": [row for row in kept if row]}))
    return shown


def _relevant(row: tuple[str, ...], strategy: str) -> tuple[str, ...]:
    return tuple(SHOWN.get(name, name) for name in row if strategy in RELEVANT.get(name, {strategy}))


def strategy_help() -> SafeString:
    """What each order means; the stylesheet shows the one that is chosen."""
    rows = ((one.value, STRATEGY_HELP[one]) for one in Strategy)
    return format_html(
        '<div class="strategy-help">{}</div>',
        format_html_join("", '<p data-strategy="{}">{}</p>', rows),
    )


class RulesFormSet(OrderedFormSet):
    """The models of a policy or a draft: none twice; and all that speaks against the rules as a whole, said at once.

    Rules that are saved as they were are not checked: a description can be changed whatever has become of the models.
    """

    instance: RoutingPolicy | PolicyDraft

    def clean(self) -> None:
        super().clean()
        policy = self.instance if isinstance(self.instance, RoutingPolicy) else self.instance.policy
        chosen = self._chosen()
        if isinstance(self.instance, RoutingPolicy) and policy.is_default and not chosen:
            raise ValidationError("The default policy needs at least one model.")
        if any(self.errors) or not _rules_are_valid(self.instance):
            return  # said at the fields
        document = policy_document(self.instance, chosen)
        if self.instance.pk and same_rules(document, document_of(type(self.instance).objects.get(pk=self.instance.pk))):
            return
        found = [one for one in policy_complaints(policy, document, now=timezone.now()) if not self._forgives(one)]
        if found:
            raise ValidationError([one.text for one in found])

    def _chosen(self) -> list[Any]:
        """The rows as they will be, in the order of trying."""
        kept = [
            form.instance
            for form in self.forms
            if not form.errors and form.cleaned_data.get("alias") and not form.cleaned_data.get("DELETE")
        ]
        last = len(kept) + 1_000_000
        return sorted(
            kept,
            key=lambda row: (row.group == CandidateGroup.FALLBACK, row.position if row.pk else last + kept.index(row)),
        )

    def _forgives(self, complaint: Complaint) -> bool:
        """A policy that nothing uses yet may be set up before its models are."""
        policy = self.instance if isinstance(self.instance, RoutingPolicy) else None
        is_unused = policy is not None and not policy.is_default and not policy.personas_served()
        return is_unused and complaint.field == "candidates"

    def get_unique_error_message(self, unique_check: Any) -> str:
        return "A model stands here twice. Keep it once: as preferred or as fallback."


class CandidateForm(forms.ModelForm[Any]):
    """What only some strategies look at may be left empty."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in {"weight", "task_type"} & self.fields.keys():
            self.fields[name].required = False

    def clean_weight(self) -> int:
        given: int | None = self.cleaned_data["weight"]
        return 1 if given is None else given

    def clean_task_type(self) -> str:
        given: str = self.cleaned_data["task_type"]
        return given or TaskType.ANY.value


class RuleCandidates(OrderedRows):
    """The models, inline."""

    form = CandidateForm
    formset = RulesFormSet
    fields = ["alias", "group", "weight", "task_type", "position"]
    autocomplete_fields = ["alias"]
    verbose_name = "model"
    verbose_name_plural = "models, in the order of trying: preferred ones first, then the fallbacks"


class RulesPage:
    """Mixed into the admin of a policy and of a draft, before its base."""

    checkbox_lists = CHECKBOX_LISTS
    conditional_fields = CONDITIONS

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        field = list_field(db_field)
        if field is not None:
            return field
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if isinstance(db_field, TextField):
            field.widget.attrs["rows"] = NOTE_LINES
        return field

    @admin.display(description="what that means")
    def strategy_help(self, obj: Any) -> SafeString:
        return strategy_help()

    @admin.display(description="allowed regions")
    def regions_shown(self, obj: PolicyRules) -> str:
        return ", ".join(obj.regions) or "All"

    @admin.display(description="required capabilities")
    def capabilities_shown(self, obj: PolicyRules) -> str:
        return capabilities_text(obj.required_capabilities)

    @admin.display(description="ask the next model when an answer")
    def escalations_shown(self, obj: PolicyRules) -> str:
        return ", ".join(ESCALATION_WORDS.get(name, name) for name in obj.escalate_on) or "–"

    @admin.display(description="stages")
    def stages_shown(self, obj: PolicyDraft) -> str:
        return ", ".join(f"{stage} %" for stage in obj.stages)


def as_saved(owner: Owner | None, request: HttpRequest) -> Owner | None:
    """The row as the database has it: a form that was refused has already written into the one at hand."""
    if owner is None or request.method != "POST":
        return owner
    return type(owner)._default_manager.get(pk=owner.pk)


def _rules_are_valid(owner: RoutingPolicy | PolicyDraft) -> bool:
    others = {field.name for field in owner._meta.concrete_fields} - set(RULE_COLUMNS)
    try:
        owner.clean_fields(exclude=others)
        owner.clean()
    except ValidationError:
        return False
    return True
