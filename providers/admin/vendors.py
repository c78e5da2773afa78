"""Pages of providers, their keys and their health checks."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Model, Q, QuerySet, URLField
from django.forms import ModelForm
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from providers.admin.cells import Tone, active_label, code, label, moment, number
from providers.admin.connection import ConnectionPages
from providers.admin.pages import ReadOnlyAdmin, Rows, RowsToSee, SwitchableAdmin
from providers.admin.standing import breakers_of, keys_at_rest, note_resting
from providers.models import Deployment, Health, Provider, ProviderCheck, ProviderKey
from providers.registry import PROVIDER_KINDS, kinds_without_address
from providers.services import clean_secret, provider_key_add, provider_key_replace

HEALTH_LABELS = {
    Health.UNKNOWN: (Tone.QUIET, "help"),
    Health.HEALTHY: (Tone.GOOD, "check_circle"),
    Health.DEGRADED: (Tone.WARN, "warning"),
    Health.DOWN: (Tone.BAD, "cancel"),
}
LATEST_CHECKS = 10
OF_ITS_PAST = {"health_now", "health_note", "checked", "breakers", "resting_keys"}  # a new provider has none


def health_label(health: str, note: str = "") -> SafeString:
    known = Health(health)
    tone, icon = HEALTH_LABELS[known]
    return label(str(known.label), tone, icon=icon, title=note)


class ProviderForm(ModelForm[Provider]):
    class Meta:
        widgets = {"allowed_networks": UnfoldAdminTextareaWidget(attrs={"rows": 3})}
        help_texts = {
            "kind": "Whose API this endpoint speaks. For a server that is not in the list, choose OpenAI-compatible.",
            "base_url": "Leave empty for the vendor’s own address, or the usual one of a server on this machine. To be "
            f"entered, with the version part, for {kinds_without_address()}.",
        }


def checked_along(left_out: set[str], row: Model) -> set[str]:
    """What a form need not look at. The provider of a row is only shown, yet names are unique at each provider:
    without it the form is content and the database is not."""
    return left_out if row._state.adding else left_out - {"provider"}


class ProviderKeyForm(ModelForm[ProviderKey]):
    """The secret is taken and never given back: not in the page, not after an error."""

    secret = forms.CharField(
        label="Key",
        help_text="As the vendor shows it; empty keeps the one that is there. Stored encrypted, never shown again.",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    class Meta:
        model = ProviderKey
        fields = ["provider", "label", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["secret"].required = False
            self.fields["secret"].label = "Replace key"
            self.fields["secret"].help_text = f"Leave empty to keep the key that ends with …{self.instance.last4}."

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        return clean_secret(secret) if secret else ""

    def _get_validation_exclusions(self) -> set[str]:
        return checked_along(super()._get_validation_exclusions(), self.instance)  # type: ignore[misc]


def save_key(form: ModelForm[ProviderKey]) -> ProviderKey:
    """Save a valid `ProviderKeyForm` through the services; the instance that the admin holds gets its row."""
    key, secret = form.instance, form.cleaned_data["secret"]
    if key._state.adding:
        added = provider_key_add(provider=key.provider, label=key.label, secret=secret, is_active=key.is_active)
        key.__dict__.update(added.__dict__)
        return key
    if edited := [name for name in form.changed_data if name in {"label", "is_active"}]:
        key.save(update_fields=edited)
    if secret:
        provider_key_replace(key=key, secret=secret)
    return key


class KeyRows(Rows):
    model = ProviderKey
    form = ProviderKeyForm
    fields = ["label", "ends_with", "secret", "is_active"]
    readonly_fields = ["ends_with"]
    can_delete = False
    verbose_name, verbose_name_plural = "key", "keys"

    @admin.display(description="ends with")
    def ends_with(self, key: ProviderKey) -> SafeString:
        return code(f"…{key.last4}" if key.pk else "")


class DeploymentRows(Rows):
    model = Deployment
    fields = ["model", "upstream_model", "expected_latency_ms", "max_output_tokens", "is_active"]
    autocomplete_fields = ["model"]
    can_delete = False


class CheckRows(RowsToSee):
    model = ProviderCheck
    fields = ["at", "result", "latency", "how", "note"]
    readonly_fields = ["at", "result", "latency", "how", "note"]
    verbose_name_plural = "latest checks"
    show_change_link = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The latest few of one provider; the whole list is a page of its own."""
        match = request.resolver_match
        checks = super().get_queryset(request).filter(provider_id=match.kwargs.get("object_id") if match else None)
        return checks.filter(pk__in=list(checks.order_by("-checked_at").values_list("pk", flat=True)[:LATEST_CHECKS]))

    @admin.display(description="checked")
    def at(self, check: ProviderCheck) -> SafeString:
        return moment(check.checked_at)

    @admin.display(description="result")
    def result(self, check: ProviderCheck) -> SafeString:
        return health_label(check.health)

    @admin.display(description="latency")
    def latency(self, check: ProviderCheck) -> SafeString:
        return number(check.latency_ms, "ms")

    @admin.display(description="how")
    def how(self, check: ProviderCheck) -> str:
        return "Real traffic" if check.is_passive else "Own call"


@admin.register(Provider)
class ProviderAdmin(ConnectionPages, SwitchableAdmin[Provider]):
    form = ProviderForm
    list_display = ["label", "called", "kind", "state", "health_now", "keys_in_use", "deployments_in_use", "checked"]
    list_filter = ["is_active", "health", "kind"]
    search_fields = ["name", "label", "base_url"]
    search_help_text = "Name or address"
    inlines = [KeyRows, DeploymentRows, CheckRows]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    readonly_fields = ["health_now", "health_note", "checked", "created", "breakers", "resting_keys"]
    fieldsets = [
        ("Who it is", {"fields": ["label", "name", "kind", "base_url"]}),
        ("State", {"fields": ["is_active", "health_now", "health_note", "checked", "breakers"]}),
        ("Keys", {"fields": ["key_strategy", "resting_keys"]}),
        ("Patience", {"fields": [("connect_timeout_s", "timeout_s")]}),
        ("Network", {"fields": ["allowed_networks"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                keys_on=Count("keys", filter=Q(keys__is_active=True), distinct=True),
                deployments_on=Count("deployments", filter=Q(deployments__is_active=True), distinct=True),
            )
        )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Provider | None:
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "GET":
            note_resting(request, found)
        return found

    def get_readonly_fields(self, request: HttpRequest, obj: Provider | None = None) -> list[str]:
        return [*self.readonly_fields, "name"] if obj else list(self.readonly_fields)

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        """A new provider has no health to show yet."""
        sections = super().get_fieldsets(request, obj)
        return sections if obj else [(title, _without_health(options)) for title, options in sections]

    def save_formset(
        self, request: HttpRequest, form: Any, formset: BaseInlineFormSet[Any, Any, Any], change: bool
    ) -> None:
        if formset.model is not ProviderKey:
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)  # fills in what the log of changes reads
        for row in formset.forms:
            if row.has_changed():
                save_key(row)

    @admin.display(description="name in calls", ordering="name")
    def called(self, provider: Provider) -> SafeString:
        return code(provider.name)

    @admin.display(description="state", ordering="is_active")
    def state(self, provider: Provider) -> SafeString:
        kind = PROVIDER_KINDS.get(provider.kind)
        if kind is None:
            return label(
                "Unknown kind", Tone.BAD, title=f"This version knows no “{provider.kind}”: nothing is sent to it."
            )
        if provider.is_active and kind.needs_key and not provider.keys_on:  # type: ignore[attr-defined]  # annotated
            return label("No key", Tone.WARN, title="It needs an active key before anything is sent to it.")
        return active_label(provider.is_active)

    @admin.display(description="health", ordering="health")
    def health_now(self, provider: Provider) -> SafeString:
        return health_label(provider.health, provider.health_note)

    @admin.display(description="keys")
    def keys_in_use(self, provider: Provider) -> SafeString:
        return number(provider.keys_on)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="deployments")
    def deployments_in_use(self, provider: Provider) -> SafeString:
        return number(provider.deployments_on)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="checked", ordering="checked_at")
    def checked(self, provider: Provider) -> SafeString:
        return moment(provider.checked_at, empty="never")

    @admin.display(description="circuit breakers")
    def breakers(self, provider: Provider) -> SafeString:
        return breakers_of(provider)

    @admin.display(description="keys at rest")
    def resting_keys(self, provider: Provider) -> SafeString:
        return keys_at_rest(provider)

    @admin.display(description="created")
    def created(self, provider: Provider) -> SafeString:
        return moment(provider.created_at)


def _without_health(options: Any) -> Any:
    shown = [name for name in options["fields"] if name not in OF_ITS_PAST]
    return {**options, "fields": shown}


@admin.register(ProviderKey)
class ProviderKeyAdmin(SwitchableAdmin[ProviderKey]):
    form = ProviderKeyForm
    list_display = ["label", "provider", "ends_with", "state", "created", "replaced"]
    list_select_related = ["provider"]
    list_filter = ["is_active", ("provider", AutocompleteSelectFilter)]
    search_fields = ["label", "last4", "provider__name", "provider__label"]
    search_help_text = "Label, provider, or the last 4 characters"
    autocomplete_fields = ["provider"]
    readonly_fields = ["ends_with", "created", "replaced"]

    def get_fieldsets(self, request: HttpRequest, obj: ProviderKey | None = None) -> Any:
        if obj is None:
            return [("The key", {"fields": ["provider", "label", "secret", "is_active"]})]
        return [
            ("The key", {"fields": ["provider", "label", "ends_with", "is_active"]}),
            ("Replace it", {"fields": ["secret", "created", "replaced"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: ProviderKey | None = None) -> list[str]:
        return [*self.readonly_fields, "provider"] if obj else list(self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        save_key(form)

    @admin.display(description="ends with")
    def ends_with(self, key: ProviderKey) -> SafeString:
        return code(f"…{key.last4}")

    @admin.display(description="state", ordering="is_active")
    def state(self, key: ProviderKey) -> SafeString:
        if key.is_active and not key.provider.is_active:
            return label("Provider off", Tone.WARN, title="The key is active, its provider is not.")
        return active_label(key.is_active)

    @admin.display(description="added", ordering="created_at")
    def created(self, key: ProviderKey) -> SafeString:
        return moment(key.created_at)

    @admin.display(description="last replaced", ordering="rotated_at")
    def replaced(self, key: ProviderKey) -> SafeString:
        return moment(key.rotated_at, empty="never")


@admin.register(ProviderCheck)
class ProviderCheckAdmin(ReadOnlyAdmin[ProviderCheck]):
    list_display = ["at", "provider", "result", "latency", "how", "note"]
    list_select_related = ["provider"]
    list_filter = ["health", ("provider", AutocompleteSelectFilter), "is_passive"]
    show_full_result_count = False

    at, result, latency, how = CheckRows.at, CheckRows.result, CheckRows.latency, CheckRows.how
