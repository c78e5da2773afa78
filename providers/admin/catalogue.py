"""Pages of models, deployments and what they cost."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Prefetch, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.enums import ActionVariant

from providers.admin.cells import NOTHING, Tone, aligned, code, label, moment, number, usd, usd_text
from providers.admin.pages import (
    CAPABILITY_CHOICES,
    HistoryAdmin,
    M,
    Rows,
    RowsToSee,
    SwitchableAdmin,
    change_url,
    page_action,
)
from providers.admin.vendors import checked_along
from providers.models import CatalogueModel, CostTier, Deployment, ModelStatus, Price, PriceSource
from providers.selectors import price_rank

PRICE_COLUMNS = ["begins", "source_label", "input_rate", "output_rate", "cache_read_rate", "cache_write_rate"]
RATES = ["input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "per_request_usd"]
TIER_TONES = {
    CostTier.FREE: Tone.GOOD,
    CostTier.ECONOMY: Tone.GOOD,
    CostTier.STANDARD: Tone.INFO,
    CostTier.PREMIUM: Tone.WARN,
}


def begun_prices() -> Prefetch[str, QuerySet[Price], str]:
    """Prices that have begun, for `price_cell`."""
    return Prefetch("prices", queryset=Price.objects.filter(effective_from__lte=timezone.now()))


def price_cell(own: Iterable[Price], of_model: Iterable[Price] = ()) -> SafeString:
    """“in / out per 1M” of the price in force."""
    price = max(own, key=price_rank, default=None) or max(of_model, key=price_rank, default=None)
    if price is None:
        unknown = label("Unknown", Tone.WARN, title="Requests are recorded without a cost until there is a price.")
        return aligned(unknown)
    since = f"{price.get_source_display()}, since {price.effective_from:%-d %b %Y}"
    return aligned(f"{usd_text(price.input_usd)} / {usd_text(price.output_usd)}", title=since)


class PriceColumns:
    """What a price shows of itself, in its own list and on the page of what it prices."""

    @admin.display(description="source", ordering="source")
    def source_label(self, price: Price) -> SafeString:
        tone = Tone.INFO if price.source == PriceSource.OVERRIDE else Tone.QUIET
        return label(price.get_source_display(), tone)

    @admin.display(description="from", ordering="effective_from")
    def begins(self, price: Price) -> SafeString:
        return moment(price.effective_from)

    @admin.display(description="in per 1M", ordering="input_usd")
    def input_rate(self, price: Price) -> SafeString:
        return usd(price.input_usd)

    @admin.display(description="out per 1M", ordering="output_usd")
    def output_rate(self, price: Price) -> SafeString:
        return usd(price.output_usd)

    @admin.display(description="cache read per 1M")
    def cache_read_rate(self, price: Price) -> SafeString:
        return usd(price.cache_read_usd)

    @admin.display(description="cache write per 1M")
    def cache_write_rate(self, price: Price) -> SafeString:
        return usd(price.cache_write_usd)


class PriceRows(PriceColumns, RowsToSee):
    """Prices are added, never rewritten: a row that has begun may have billed."""

    model = Price
    fields = (*PRICE_COLUMNS,)
    readonly_fields = (*PRICE_COLUMNS,)
    verbose_name_plural = "prices"
    ordering = ["-effective_from"]


class PricedAdmin(HistoryAdmin[M]):
    """A page of what has prices; `priced_as` is the price's column for it."""

    priced_as: str
    actions_detail = ["add_price"]

    @page_action(
        description="Add a price",
        url_path="add-price",
        icon="add",
        variant=ActionVariant.PRIMARY,
        permissions=["price"],
    )
    def add_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if self.get_object(request, object_id) is None:
            raise Http404("No such row.")
        return HttpResponseRedirect(f"{reverse('admin:providers_price_add')}?{self.priced_as}={object_id}")

    def has_price_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("providers.add_price")


class DeploymentsOfModel(Rows):
    model = Deployment
    fields = ["provider", "upstream_model", "expected_latency_ms", "is_active"]
    autocomplete_fields = ["provider"]
    can_delete = False


@admin.register(CatalogueModel)
class CatalogueModelAdmin(PricedAdmin[CatalogueModel]):
    priced_as = "model"
    list_display = ["called", "vendor", "standing", "tier", "price_now", "context", "deployments_in_use"]
    list_select_related = ["replaced_by"]
    list_filter = [
        ("status", ChoicesCheckboxFilter),
        ("cost_tier", ChoicesCheckboxFilter),
        "vendor",
    ]
    search_fields = ["name", "label", "vendor", "strengths"]
    search_help_text = "Name, vendor, or what it is best for"
    autocomplete_fields = ["replaced_by"]
    checkbox_lists = {"capabilities": CAPABILITY_CHOICES}
    inlines = [DeploymentsOfModel, PriceRows]
    fieldsets = [
        ("What it is", {"fields": ["name", "label", "vendor", "strengths"]}),
        ("What it can do", {"fields": ["capabilities", ("context_window", "max_output_tokens")]}),
        ("What it costs", {"fields": [("cost_tier", "list_price_per_1k")]}),
        ("Is it still offered?", {"fields": [("status", "replaced_by")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CatalogueModel]:
        in_use = Count("deployments", filter=Q(deployments__is_active=True))
        return super().get_queryset(request).prefetch_related(begun_prices()).annotate(deployments_on=in_use)

    @admin.display(description="model", ordering="name")
    def called(self, model: CatalogueModel) -> SafeString:
        return format_html('<span class="cell-name" title="{}">{}</span>', model.label, model.name)

    @admin.display(description="status", ordering="status")
    def standing(self, model: CatalogueModel) -> SafeString:
        if model.status == ModelStatus.CURRENT:
            return label("Current", Tone.GOOD)
        badge = label("Retired", Tone.QUIET, title="The vendor no longer serves it.")
        if model.replaced_by is None:
            return badge
        url, name = change_url(model.replaced_by), model.replaced_by.name
        return format_html(
            '<span class="cell-pair">{} <a class="cell-link" href="{}">→ {}</a></span>', badge, url, name
        )

    @admin.display(description="tier", ordering="cost_tier")
    def tier(self, model: CatalogueModel) -> SafeString:
        return label(model.get_cost_tier_display(), TIER_TONES[CostTier(model.cost_tier)])

    @admin.display(description="in / out per 1M")
    def price_now(self, model: CatalogueModel) -> SafeString:
        return price_cell(model.prices.all())

    @admin.display(description="context (tokens)", ordering="context_window")
    def context(self, model: CatalogueModel) -> SafeString:
        return number(model.context_window)

    @admin.display(description="deployments", ordering="deployments_on")
    def deployments_in_use(self, model: CatalogueModel) -> SafeString:
        return number(model.deployments_on)  # type: ignore[attr-defined]  # annotated


class DeploymentForm(ModelForm[Deployment]):
    def _get_validation_exclusions(self) -> set[str]:
        return checked_along(super()._get_validation_exclusions(), self.instance)  # type: ignore[misc]


@admin.register(Deployment)
class DeploymentAdmin(PricedAdmin[Deployment], SwitchableAdmin[Deployment]):
    form = DeploymentForm
    priced_as = "deployment"
    list_display = ["__str__", "model", "state", "price_now", "expected_latency", "longest_answer"]
    list_select_related = ["provider", "model"]
    list_filter = ["is_active", ("provider", AutocompleteSelectFilter), ("model", AutocompleteSelectFilter)]
    search_fields = ["upstream_model", "provider__name", "provider__label", "model__name"]
    search_help_text = "Model or provider"
    autocomplete_fields = ["provider", "model"]
    readonly_fields = ["price_now"]
    inlines = [PriceRows]
    fieldsets = [
        ("What is called", {"fields": ["provider", "model", "upstream_model", "is_active"]}),
        ("What to expect", {"fields": [("expected_latency_ms", "max_output_tokens")]}),
        ("What it costs", {"fields": ["price_now"], "description": "Its own price if it has one, else the model's."}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        of_model = Prefetch("model__prices", queryset=begun_prices().queryset)
        return super().get_queryset(request).prefetch_related(begun_prices(), of_model)

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> list[str]:
        return [*self.readonly_fields, "provider"] if obj else list(self.readonly_fields)

    @admin.display(description="state", ordering="is_active")
    def state(self, deployment: Deployment) -> SafeString:
        if deployment.is_active and not deployment.provider.is_active:
            return label("Provider off", Tone.WARN, title="The deployment is active, its provider is not.")
        return super().state(deployment)

    @admin.display(description="in / out per 1M")
    def price_now(self, deployment: Deployment) -> SafeString:
        if deployment._state.adding:
            return NOTHING
        return price_cell(deployment.prices.all(), deployment.model.prices.all())

    @admin.display(description="expected", ordering="expected_latency_ms")
    def expected_latency(self, deployment: Deployment) -> SafeString:
        return number(deployment.expected_latency_ms, "ms")

    @admin.display(description="longest answer")
    def longest_answer(self, deployment: Deployment) -> SafeString:
        return number(deployment.max_output_tokens or deployment.model.max_output_tokens, "tokens")


@admin.register(Price)
class PriceAdmin(PriceColumns, HistoryAdmin[Price]):
    list_display = ["of", *PRICE_COLUMNS]
    list_select_related = ["model", "deployment__provider"]
    list_filter = [
        ("source", ChoicesCheckboxFilter),
        ("model", AutocompleteSelectFilter),
        ("deployment", AutocompleteSelectFilter),
    ]
    search_fields = ["model__name", "deployment__upstream_model", "deployment__provider__name"]
    search_help_text = "Model, deployment or provider"
    autocomplete_fields = ["model", "deployment"]
    why = (
        "This price has begun, and requests may have been billed at it, so it stays as it is. "
        "To change what requests cost, add another price that begins now or later."
    )

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        begun = obj is not None and not self.has_change_permission(request, obj)
        return [
            ("What is priced", {"fields": [("model", "deployment")], "description": self.why if begun else None}),
            ("From when", {"fields": [("effective_from", "source")]}),
            (
                "Rates",
                {"fields": [("input_usd", "output_usd"), ("cache_read_usd", "cache_write_usd"), "per_request_usd"]},
            ),
        ]

    def save_model(self, request: HttpRequest, obj: Price, form: ModelForm[Price], change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.input_usd is None or obj.output_usd is None:
            said = "A rate is unknown: requests are recorded without a cost, and policies with a cost ceiling skip it."
            self.message_user(request, said, messages.WARNING)

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and not _has_begun(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not _has_begun(obj)

    @admin.display(description="price of")
    def of(self, price: Price) -> SafeString:
        return code(str(price.deployment or price.model))


def _has_begun(price: Price | None) -> bool:
    return price is not None and price.effective_from <= timezone.now()
