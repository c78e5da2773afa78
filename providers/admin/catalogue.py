"""Pages of models, deployments and what they cost."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, DecimalField, Field, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.enums import ActionVariant

from providers.admin.cells import NOTHING, Tone, code, label, marked, moment, number, usd, usd_text
from providers.admin.pages import (
    CAPABILITY_CHOICES,
    HistoryAdmin,
    M,
    Rows,
    RowsToSee,
    SwitchableAdmin,
    change_url,
    page_action,
    rate_limit_section,
)
from providers.admin.price_tiers import PlainDecimalField, PriceTiersField, count_text, price_text, tiers_text
from providers.admin.standing import BREAKER_ACTIONS, BreakerAdmin
from providers.admin.vendors import checked_along
from providers.models import CatalogueModel, CostTier, Deployment, ModelStatus, Price, PriceSource
from providers.selectors import price_rank

BACKDATED = timedelta(hours=1)  # a price that begins a little earlier than it is saved is one from now on
PRICE_COLUMNS = [
    *("begins", "source_label", "input_rate", "output_rate", "cache_read_rate", "cache_write_rate"),
    *("cache_write_1h_rate", "long_prompts"),
]
SOURCES = {PriceSource.GENAI_PRICES: "List", PriceSource.OVERRIDE: "Own", PriceSource.DEMO: "Demo"}
TIER_TONES = {
    CostTier.FREE: Tone.GOOD,
    CostTier.ECONOMY: Tone.GOOD,
    CostTier.STANDARD: Tone.INFO,
    CostTier.PREMIUM: Tone.WARN,
}


def price_at(own: Iterable[Price], of_model: Iterable[Price], at: datetime) -> Price | None:
    """What bills at a moment, of a deployment's own prices and its model's."""
    for rows in (own, of_model):
        if begun := [row for row in rows if row.effective_from <= at]:
            return max(begun, key=price_rank)
    return None


def price_cell(own: Iterable[Price], of_model: Iterable[Price] = ()) -> SafeString:
    """“in / out per 1M” of the price in force, with marks for long prompts and for a change that is announced."""
    price, start, announced = now_and_next(own, of_model, timezone.now())
    marks = [] if announced is None else [label(from_day(start), Tone.INFO, title=price_text(announced))]
    if price is None:
        unknown = label("Unknown", Tone.WARN, title="Requests are recorded without a cost until there is a price.")
        return marked("", [*marks, unknown])
    since = f"{price_text(price)}. {price.get_source_display()}, since {price.effective_from:%-d %b %Y}"
    if price.tiers:
        marks.append(label(f"above {count_text(price.tiers[0]['above'])}", Tone.QUIET, title=since))
    return marked(f"{usd_text(price.input_usd)} / {usd_text(price.output_usd)}", marks, title=since)


def price_sentences(own: Iterable[Price], of_model: Iterable[Price]) -> SafeString:
    """The price in force in words, since when, and the next change that is announced, a line each."""
    price, start, announced = now_and_next(own, of_model, timezone.now())
    lines = ["Unknown: requests are recorded without a cost until there is a price."]
    if price is not None:
        lines = [price_text(price), f"{price.get_source_display()}, since {price.effective_from:%-d %b %Y}"]
    if announced is not None:
        lines.append(f"{from_day(start).capitalize()}: {price_text(announced)}")
    return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in lines))


def now_and_next(
    own: Iterable[Price], of_model: Iterable[Price], now: datetime
) -> tuple[Price | None, datetime, Price | None]:
    """What bills now; and from when on something else does, and what, or None."""
    own, of_model = list(own), list(of_model)
    price = price_at(own, of_model, now)
    for start in sorted(row.effective_from for row in (*own, *of_model) if row.effective_from > now):
        if (announced := price_at(own, of_model, start)) != price:
            return price, start, announced
    return price, now, None


def from_day(start: datetime) -> str:
    """“from 1 Dec”, with the year when it is not this one."""
    year = "" if start.year == timezone.now().year else f" {start.year}"
    return f"from {start.astimezone(UTC):%-d %b}{year}"


class PriceColumns:
    """What a price shows of itself, in its own list and on the page of what it prices."""

    @admin.display(description="source", ordering="source")
    def source_label(self, price: Price) -> SafeString:
        tone = Tone.INFO if price.source == PriceSource.OVERRIDE else Tone.QUIET
        return label(SOURCES[PriceSource(price.source)], tone, title=price.get_source_display())

    @admin.display(description="from", ordering="effective_from")
    def begins(self, price: Price) -> SafeString:
        if price.effective_from <= timezone.now():
            return moment(price.effective_from)
        return label(from_day(price.effective_from), Tone.INFO, title=f"{price.effective_from:%-d %B %Y, %H:%M %Z}")

    @admin.display(description="in per 1M", ordering="input_usd")
    def input_rate(self, price: Price) -> SafeString:
        return usd(price.input_usd)

    @admin.display(description="out per 1M", ordering="output_usd")
    def output_rate(self, price: Price) -> SafeString:
        return usd(price.output_usd)

    @admin.display(description="cache read")
    def cache_read_rate(self, price: Price) -> SafeString:
        return usd(price.cache_read_usd)

    @admin.display(description="write")
    def cache_write_rate(self, price: Price) -> SafeString:
        return usd(price.cache_write_usd)

    @admin.display(description="write, 1 h")
    def cache_write_1h_rate(self, price: Price) -> SafeString:
        return usd(price.cache_write_1h_usd)

    @admin.display(description="long prompts")
    def long_prompts(self, price: Price) -> SafeString:
        return format_html('<span class="cell-steps">{}</span>', tiers_text(price)) if price.tiers else NOTHING


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
    list_before_template = "admin/providers/dominated_link.html"
    fieldsets = [
        ("What it is", {"fields": ["name", "label", "vendor", "strengths"]}),
        ("What it can do", {"fields": ["capabilities", ("context_window", "max_output_tokens")]}),
        ("What it costs", {"fields": [("cost_tier", "list_price_per_1k")]}),
        ("Is it still offered?", {"fields": [("status", "replaced_by")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CatalogueModel]:
        in_use = Count("deployments", filter=Q(deployments__is_active=True))
        return super().get_queryset(request).prefetch_related("prices").annotate(deployments_on=in_use)

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
class DeploymentAdmin(PricedAdmin[Deployment], BreakerAdmin, SwitchableAdmin[Deployment]):
    form = DeploymentForm
    priced_as = "deployment"
    actions = ["switch_on", "switch_off", *BREAKER_ACTIONS]
    actions_detail = ["add_price", "reset_breaker"]
    list_display = ["__str__", "model", "state", "breaker_now", "price_now", "expected_latency", "longest_answer"]
    list_select_related = ["provider", "model"]
    list_filter = ["is_active", "breaker", ("provider", AutocompleteSelectFilter), ("model", AutocompleteSelectFilter)]
    search_fields = ["upstream_model", "provider__name", "provider__label", "model__name"]
    search_help_text = "Model or provider"
    autocomplete_fields = ["provider", "model"]
    readonly_fields = ["price_in_words", "breaker_in_words"]
    inlines = [PriceRows]
    fieldsets = [
        ("What is called", {"fields": ["provider", "model", "upstream_model", "is_active"]}),
        ("What to expect", {"fields": [("expected_latency_ms", "max_output_tokens")]}),
        (
            "Circuit breaker",
            {
                "fields": ["breaker_in_words", "breaker"],
                "description": "After several failures nothing is sent here for a while, then one request tries it.",
            },
        ),
        rate_limit_section("At a limit, the next model of the route is asked instead; without one, callers get a 429."),
        (
            "What it costs",
            {"fields": ["price_in_words"], "description": "Its own price if it has one, else the model's."},
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).prefetch_related("prices", "model__prices")

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> list[str]:
        return [*self.readonly_fields, "provider"] if obj else list(self.readonly_fields)

    @admin.display(description="state", ordering="is_active")
    def state(self, deployment: Deployment) -> SafeString:
        if deployment.is_active and not deployment.provider.is_active:
            return label("Provider off", Tone.WARN, title="The deployment is active, its provider is not.")
        return super().state(deployment)

    @admin.display(description="in / out per 1M")
    def price_now(self, deployment: Deployment) -> SafeString:
        return price_cell(deployment.prices.all(), deployment.model.prices.all())

    @admin.display(description="price now")
    def price_in_words(self, deployment: Deployment) -> SafeString:
        if deployment._state.adding:
            return NOTHING
        return price_sentences(deployment.prices.all(), deployment.model.prices.all())

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
    readonly_fields = ["long_prompts"]
    actions_detail = ["rerate"]
    why = (
        "This price has begun, and requests may have been billed at it, so it stays as it is. To change what requests "
        "cost, add another price that begins now or later. To correct what they did cost, add one that begins then "
        "(an own price comes before the list), and re-rate the usage since."
    )

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        begun = obj is not None and not self.has_change_permission(request, obj)
        cache = ("cache_read_usd", "cache_write_usd", "cache_write_1h_usd")
        fieldsets: list[Any] = [
            ("What is priced", {"fields": [("model", "deployment")], "description": self.why if begun else None}),
            ("From when", {"fields": [("effective_from", "source")]}),
            ("Rates", {"fields": [("input_usd", "output_usd"), cache, "per_request_usd"]}),
            ("Long prompts", {"fields": ["long_prompts" if begun else "tiers"]}),
        ]
        return fieldsets

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "tiers":
            return PriceTiersField(required=False, label="Rates above a length", help_text=db_field.help_text)
        if isinstance(db_field, DecimalField):
            kwargs["form_class"] = PlainDecimalField
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @page_action(description="Re-rate usage since…", url_path="rerate", icon="calculate", permissions=["rerate"])
    def rerate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """On to the page of the floor above, which knows what was used."""
        if self.get_object(request, object_id) is None:
            raise Http404("No such row.")
        return HttpResponseRedirect(f"{reverse('admin:analytics_usageadjustment_rerate')}?price={object_id}")

    def has_rerate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Unfold decides on the button by it: nothing was used at a price that has not begun."""
        price = self.get_object(request, object_id) if object_id is not None else None
        return request.user.has_perm("analytics.add_usageadjustment") and (price is None or _has_begun(price))

    def save_model(self, request: HttpRequest, obj: Price, form: ModelForm[Price], change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.input_usd is None or obj.output_usd is None:
            said = "A rate is unknown: requests are recorded without a cost, and policies with a cost ceiling skip it."
            self.message_user(request, said, messages.WARNING)
        if not change and obj.effective_from < timezone.now() - BACKDATED:
            said = "It began in the past: what was used since then keeps its cost until you re-rate it."
            self.message_user(request, said, messages.INFO)

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and not _has_begun(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not _has_begun(obj)

    @admin.display(description="price of")
    def of(self, price: Price) -> SafeString:
        return code(str(price.deployment or price.model))


def _has_begun(price: Price | None) -> bool:
    return price is not None and price.effective_from <= timezone.now()
