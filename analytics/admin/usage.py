"""Usage records, to look at."""

import json
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter, RangeDateFilter
from unfold.paginator import InfinitePaginator
from unfold.utils import parse_date_str

from analytics import presentation
from analytics.models import UsageRecord, UsageState
from analytics.selectors.adjustments import correction_nano
from analytics.selectors.requests import with_id
from providers.admin.cells import NOTHING, Tone, aligned, clipped, code, label, marked, moment, number
from providers.admin.pages import ReadOnlyAdmin
from providers.models import Provider
from routing.models import Persona

STATE_LABELS: dict[str, tuple[str, Tone, str]] = {
    UsageState.SETTLED: ("Answered", Tone.GOOD, "check_circle"),
    UsageState.CANCELLED: ("Cancelled", Tone.QUIET, "stop_circle"),
    UsageState.RELEASED: ("Failed", Tone.BAD, "error"),
    UsageState.EXPIRED: ("In doubt", Tone.WARN, "power_off"),
}


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
        ("What it cost", {"fields": ["cost_exact", "counted", "counted_by", "price_used", "cache"]}),
        ("How long it took", {"fields": ["took", "ours"]}),
    ]
    readonly_fields = [
        *("page", "outcome", "began", "who_paid", "asked", "served", "tried"),
        *("cost_exact", "counted", "counted_by", "price_used", "took", "ours"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        rows = super().get_queryset(request)
        is_list = request.resolver_match is None or "object_id" not in request.resolver_match.kwargs
        rows = rows.annotate(correction_nano=correction_nano())
        return rows.defer("decision", "price") if is_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord], search_term: str
    ) -> tuple[QuerySet[UsageRecord], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return with_id(queryset, UUID(search_term.strip())), False
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
        correction: int | None = record.correction_nano  # type: ignore[attr-defined]  # annotated
        if correction is None:
            return money(record.cost_nano)
        billed = f"Billed {presentation.exact_money(record.cost_nano)}, corrected since."
        now = (record.cost_nano or 0) + correction
        mark = label("corr.", Tone.QUIET, title=billed)
        return marked(presentation.money(now), [mark], title=presentation.exact_money(now))

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
        correction: int | None = record.correction_nano  # type: ignore[attr-defined]  # annotated
        billed = presentation.exact_money(record.cost_nano)
        if correction is None:
            return billed
        return f"{presentation.exact_money((record.cost_nano or 0) + correction)} (billed {billed}, corrected since)"

    @admin.display(description="tokens")
    def counted(self, record: UsageRecord) -> str:
        for_an_hour = record.cache_creation_1h_input_tokens
        counts = {
            "input": record.input_tokens,
            "read from cache": record.cache_read_input_tokens,
            f"written to cache{f' ({for_an_hour:,} of it for an hour)' if for_an_hour else ''}": (
                record.cache_creation_input_tokens
            ),
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
