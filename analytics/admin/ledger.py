"""Runs of the ledger's own check, to look at."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from analytics import presentation
from analytics.models import LedgerCheck
from providers.admin.cells import Tone, aligned, label, moment, number
from providers.admin.pages import ReadOnlyAdmin


class InOrderFilter(admin.SimpleListFilter):
    title = "result"
    parameter_name = "result"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("good", "In order"), ("bad", "Not in order")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LedgerCheck]) -> QuerySet[LedgerCheck]:
        match self.value():
            case "good":
                return queryset.filter(difference_count=0)
            case "bad":
                return queryset.filter(difference_count__gt=0)
            case _:
                return queryset


@admin.register(LedgerCheck)
class LedgerCheckAdmin(ReadOnlyAdmin[LedgerCheck]):
    """Each hour of the last week's records, once a day of all, and whenever somebody types `ledger_verify`."""

    list_display = ["when", "result", "found", "noticed", "range", "seen", "budgets", "waiting", "took"]
    list_filter = [InOrderFilter]
    fieldsets = [
        ("Result", {"fields": ["result", "table", "table_of_warnings"]}),
        ("What was looked at", {"fields": ["when", "range", "seen", "budgets", "waiting", "took"]}),
    ]
    readonly_fields = ["result", "table", "table_of_warnings", "when", "range", "seen", "budgets", "waiting", "took"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerCheck]:
        rows = super().get_queryset(request)
        is_list = request.resolver_match is None or "object_id" not in request.resolver_match.kwargs
        return rows.defer("differences") if is_list else rows

    @admin.display(description="at", ordering="at")
    def when(self, check: LedgerCheck) -> SafeString:
        return moment(check.at)

    @admin.display(description="result", ordering="difference_count")
    def result(self, check: LedgerCheck) -> SafeString:
        if check.difference_count:
            return label("Not in order", Tone.BAD, icon="error")
        return label("In order", Tone.GOOD, icon="check_circle")

    @admin.display(description="differences", ordering="difference_count")
    def found(self, check: LedgerCheck) -> SafeString:
        return number(check.difference_count)

    @admin.display(description="warnings")
    def noticed(self, check: LedgerCheck) -> SafeString:
        return number(len(check.warnings))

    @admin.display(description="days (UTC)")
    def range(self, check: LedgerCheck) -> str:
        if check.first is None or check.last is None:
            return "no usage yet"
        return f"{check.first:%-d %b %Y} to {check.last:%-d %b %Y}"

    @admin.display(description="records", ordering="records")
    def seen(self, check: LedgerCheck) -> SafeString:
        return number(check.records)

    @admin.display(description="budget windows", ordering="windows")
    def budgets(self, check: LedgerCheck) -> SafeString:
        return number(check.windows)

    @admin.display(description="hours to roll up", ordering="dirty_hours")
    def waiting(self, check: LedgerCheck) -> SafeString:
        return number(check.dirty_hours)

    @admin.display(description="took", ordering="duration_ms")
    def took(self, check: LedgerCheck) -> SafeString:
        return aligned(presentation.duration(check.duration_ms))

    @admin.display(description="differences")
    def table(self, check: LedgerCheck) -> SafeString:
        return _table(check.differences, hidden=check.difference_count - len(check.differences), with_proof=True)

    @admin.display(description="warnings")
    def table_of_warnings(self, check: LedgerCheck) -> SafeString:
        return _table(check.warnings, hidden=0, with_proof=False)


def _table(rows: list[dict[str, Any]], *, hidden: int, with_proof: bool) -> SafeString:
    if not rows:
        return format_html("{}", "None.")
    context = {"rows": rows, "hidden": hidden, "with_proof": with_proof}
    return mark_safe(render_to_string("components/ledger_rows.html", context))  # noqa: S308  # the template escapes
