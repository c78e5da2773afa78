"""Pages of what was used and what it cost: usage records to look at, budgets to set, alerts to acknowledge."""

import json
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter, RangeDateFilter
from unfold.paginator import InfinitePaginator
from unfold.utils import parse_date_str

from analytics import presentation
from analytics.models import Budget, BudgetAlert, UsageRecord, UsageState
from analytics.selectors import BudgetState, budgets_with_spend
from providers.admin.cells import NOTHING, Tone, aligned, clipped, code, label, moment, number
from providers.admin.pages import ReadOnlyAdmin, SwitchableAdmin
from providers.models import Provider
from routing.models import Persona

STATE_LABELS: dict[str, tuple[str, Tone, str]] = {
    UsageState.SETTLED: ("Answered", Tone.GOOD, "check_circle"),
    UsageState.CANCELLED: ("Cancelled", Tone.QUIET, "stop_circle"),
    UsageState.RELEASED: ("Failed", Tone.BAD, "error"),
    UsageState.EXPIRED: ("In doubt", Tone.WARN, "power_off"),
}
THRESHOLD_TONES = {50: Tone.INFO, 80: Tone.WARN, 100: Tone.BAD}


def money(nano: int | None) -> SafeString:
    return aligned(presentation.money(nano), title=presentation.exact_money(nano))


def request_page(record: UsageRecord) -> str:
    """Where a person reads why this route, what was tried, and the cost line by line."""
    return f"/dashboards/requests/{record.pk}/"


class DaysFilter(RangeDateFilter):  # type: ignore[misc]  # untyped
    """UTC days, both included. Unfold's own filters compare with moments of no time zone."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for suffix, lookup, days in (("_from", "gte", 0), ("_to", "lt", 1)):
            text = self.used_parameters.get(f"{self.parameter_name}{suffix}", "")
            parsed = parse_date_str(text)
            if parsed and parsed.year < MAXYEAR:  # the day after its last day does not exist
                day = datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": day + timedelta(days=days)})
        return queryset


class NamesFilter(admin.SimpleListFilter):
    """Records keep copies of names; the choices are today's names, not a search through every record."""

    source: Any
    column: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = self.source.objects.order_by(self.column).values_list(self.column, flat=True)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class ProviderNameFilter(NamesFilter):
    title = parameter_name = "provider"
    source, column = Provider, "name"


class PersonaNameFilter(NamesFilter):
    title = parameter_name = "persona"
    source, column = Persona, "slug"


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin[UsageRecord]):
    """Millions of rows: no count of them, no search through text, only what an index answers."""

    list_display = ["at", "outcome", "payer", "who", "route", "tries", "tokens", "cost", "took"]
    list_filter = [
        ("started_at", DaysFilter),
        ("team", AutocompleteSelectFilter),
        ("state", ChoicesCheckboxFilter),
        ProviderNameFilter,
        PersonaNameFilter,
    ]
    search_fields = ["request_id"]
    search_help_text = "A whole request id"
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ["-started_at"]
    list_fullwidth = True
    fieldsets = [
        (
            "The request",
            {"fields": ["page", "request_id", "outcome", "began", "who_paid", "asked", "door", "is_stream"]},
        ),
        ("The route", {"fields": ["policy", "persona", "served", "tried", "config_revision"]}),
        ("What it cost", {"fields": ["cost_exact", "counted", "counted_by", "price_used"]}),
        ("How long it took", {"fields": ["took", "ours"]}),
    ]
    readonly_fields = [
        *("page", "outcome", "began", "who_paid", "asked", "served", "tried"),
        *("cost_exact", "counted", "counted_by", "price_used", "took", "ours"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        rows = super().get_queryset(request)
        is_list = request.resolver_match is None or "object_id" not in request.resolver_match.kwargs
        return rows.defer("decision", "price") if is_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord], search_term: str
    ) -> tuple[QuerySet[UsageRecord], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            messages.info(request, f"“{search_term}” is not a request id: it has 32 hex digits.")
            return queryset.none(), False

    @admin.display(description="time", ordering="started_at")
    def at(self, record: UsageRecord) -> SafeString:
        return moment(record.started_at)

    @admin.display(description="outcome")
    def outcome(self, record: UsageRecord) -> SafeString:
        if record.state == UsageState.SETTLED and record.error_code:
            return label("Broke off", Tone.WARN, icon="warning", title=record.error_code)
        text, tone, icon = STATE_LABELS.get(record.state, (record.state, Tone.BAD, "help"))
        title = f"{record.get_state_display()} ({record.http_status} {record.error_code})"
        return label(text, tone, icon=icon, title=title)

    @admin.display(description="team")
    def payer(self, record: UsageRecord) -> SafeString:
        return clipped(record.team_name)

    @admin.display(description="key")
    def who(self, record: UsageRecord) -> SafeString:
        return clipped(record.key_name, title=f"{record.key_name}: rp_{record.key_prefix}_…")

    @admin.display(description="asked for → served by")
    def route(self, record: UsageRecord) -> SafeString:
        asked = record.persona or record.requested_model
        return clipped(f"{asked} → {record.deployment or 'nobody'}")

    @admin.display(description="tries")
    def tries(self, record: UsageRecord) -> SafeString:
        return number(len(record.attempts))

    @admin.display(description="tokens in → out")
    def tokens(self, record: UsageRecord) -> SafeString:
        read = record.input_tokens + record.cache_read_input_tokens + record.cache_creation_input_tokens
        return aligned(f"{presentation.tokens(read)} → {presentation.tokens(record.output_tokens)}")

    @admin.display(description="cost", ordering="cost_nano")
    def cost(self, record: UsageRecord) -> SafeString:
        return money(record.cost_nano)

    @admin.display(description="first / total", ordering="latency_ms")
    def took(self, record: UsageRecord) -> SafeString:
        return aligned(f"{presentation.duration(record.ttft_ms)} / {presentation.duration(record.latency_ms)}")

    @admin.display(description="of which ours")
    def ours(self, record: UsageRecord) -> str:
        return presentation.duration(record.overhead_ms)

    @admin.display(description="in full")
    def page(self, record: UsageRecord) -> SafeString:
        text = "Why this route, every attempt, and the cost line by line"
        return format_html('<a class="cell-link" href="{}">{} →</a>', request_page(record), text)

    @admin.display(description="began")
    def began(self, record: UsageRecord) -> str:
        return f"{record.started_at.astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC"

    @admin.display(description="paid by")
    def who_paid(self, record: UsageRecord) -> str:
        return f"{record.team_name}, with the key {record.key_name} (rp_{record.key_prefix}_…)"

    @admin.display(description="asked for")
    def asked(self, record: UsageRecord) -> SafeString:
        return code(record.requested_model)

    @admin.display(description="served by")
    def served(self, record: UsageRecord) -> SafeString:
        return code(record.deployment)

    @admin.display(description="tried")
    def tried(self, record: UsageRecord) -> SafeString:
        rows = (
            (attempt["deployment"], presentation.duration(attempt["latency_ms"]), attempt.get("failure") or "answered")
            for attempt in record.attempts
        )
        items = format_html_join("", "<li>{}: {} after {}</li>", ((name, end, after) for name, after, end in rows))
        return format_html('<ol class="cell-list">{}</ol>', items) if items else NOTHING

    @admin.display(description="cost")
    def cost_exact(self, record: UsageRecord) -> str:
        return presentation.exact_money(record.cost_nano)

    @admin.display(description="tokens")
    def counted(self, record: UsageRecord) -> str:
        counts = {
            "input": record.input_tokens,
            "read from cache": record.cache_read_input_tokens,
            "written to cache": record.cache_creation_input_tokens,
            "output": record.output_tokens,
        }
        text = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
        return f"{text} ({record.reasoning_tokens:,} of it reasoning)" if record.reasoning_tokens else text

    @admin.display(description="counted by")
    def counted_by(self, record: UsageRecord) -> str:
        return record.get_usage_source_display()

    @admin.display(description="price used")
    def price_used(self, record: UsageRecord) -> SafeString:
        return code(json.dumps(record.price)) if record.price else NOTHING


def spent_cell(state: BudgetState | None) -> SafeString:
    """A bar and its words: how much of the budget is spent in the current window."""
    if state is None:
        return NOTHING
    share = state.share
    tone = "bad" if share >= 1 else "warn" if share >= 0.8 else "good"
    text = f"{presentation.money(state.spent_nano)} of {presentation.money(state.limit_nano)}"
    unknown = f"; {state.unpriced:,} of unknown price not in it" if state.unpriced else ""
    return format_html(
        '<span class="cell-bar" title="{} spent since {}{}"><progress class="bar-{}" max="100" value="{}"></progress>'
        "<span>{} ({})</span></span>",
        text,
        f"{state.begins_at:%-d %b %Y}",
        unknown,
        tone,
        min(100, round(share * 100)),
        text,
        presentation.percent(share),
    )


@admin.register(Budget)
class BudgetAdmin(SwitchableAdmin[Budget]):
    list_display = ["team", "budget_duration", "spent", "state", "since"]
    list_select_related = ["team"]
    list_filter = ["is_active", ("budget_duration", ChoicesCheckboxFilter), ("team", AutocompleteSelectFilter)]
    search_fields = ["team__name"]
    search_help_text = "Team"
    autocomplete_fields = ["team"]
    readonly_fields = ["spent"]
    fieldsets = [
        ("Whose money", {"fields": ["team", "is_active"]}),
        ("How much", {"fields": [("max_budget", "budget_duration")]}),
        ("Spent so far", {"fields": ["spent"]}),
    ]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The spend of every budget is read once for the list."""
        changes = super().get_changelist_instance(request)
        states = spend_of_budgets(timezone.now())
        for budget in changes.result_list:
            budget.spend_now = states.get(budget.pk)
        return changes

    @admin.display(description="spent of the budget")
    def spent(self, budget: Budget) -> SafeString:
        if budget._state.adding:
            return NOTHING
        if hasattr(budget, "spend_now"):
            return spent_cell(budget.spend_now)
        return spent_cell(spend_of_budgets(timezone.now()).get(budget.pk))

    @admin.display(description="since", ordering="created_at")
    def since(self, budget: Budget) -> SafeString:
        return moment(budget.created_at)


def spend_of_budgets(now: datetime) -> dict[int, BudgetState]:
    return {state.budget.pk: state for state in budgets_with_spend(team_ids=None, now=now)}


class OpenAlertFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Acknowledged")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[BudgetAlert]) -> QuerySet[BudgetAlert]:
        return queryset.filter(acknowledged_at__isnull=self.value() == "yes") if self.value() else queryset


@admin.register(BudgetAlert)
class BudgetAlertAdmin(ReadOnlyAdmin[BudgetAlert]):
    list_display = ["opened", "team", "passed", "spent", "window", "acknowledged"]
    list_select_related = ["budget__team"]
    list_filter = [OpenAlertFilter, ("budget__team", AutocompleteSelectFilter)]
    search_fields = ["budget__team__name"]
    search_help_text = "Team"
    actions = ["acknowledge"]
    fields = ["opened", "team", "passed", "spent", "window", "acknowledged"]
    readonly_fields = ["opened", "team", "passed", "spent", "window", "acknowledged"]

    @admin.action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, rows: QuerySet[BudgetAlert]) -> None:
        changed = rows.filter(acknowledged_at=None).update(acknowledged_at=timezone.now())
        self.message_user(request, f"{changed} acknowledged.", messages.SUCCESS)

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("analytics.change_budgetalert")

    @admin.display(description="opened", ordering="opened_at")
    def opened(self, alert: BudgetAlert) -> SafeString:
        return moment(alert.opened_at)

    @admin.display(description="team", ordering="budget__team__name")
    def team(self, alert: BudgetAlert) -> str:
        return alert.budget.team.name

    @admin.display(description="passed", ordering="threshold")
    def passed(self, alert: BudgetAlert) -> SafeString:
        return label(f"{alert.threshold} %", THRESHOLD_TONES.get(alert.threshold, Tone.WARN))

    @admin.display(description="spent by then", ordering="spent_nano")
    def spent(self, alert: BudgetAlert) -> SafeString:
        return money(alert.spent_nano)

    @admin.display(description="of the budget")
    def window(self, alert: BudgetAlert) -> str:
        duration = alert.budget.get_budget_duration_display().lower()
        return f"${alert.budget.max_budget:,} per {duration}, from {alert.window_start:%-d %b %Y}"

    @admin.display(description="acknowledged", ordering="acknowledged_at")
    def acknowledged(self, alert: BudgetAlert) -> SafeString:
        return moment(alert.acknowledged_at) if alert.acknowledged_at else label("Open", Tone.WARN)
