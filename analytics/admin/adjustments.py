"""Corrections of cost, to look at, and the page that makes them."""

from datetime import UTC, datetime, time
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from analytics import presentation
from analytics.admin.usage import DaysFilter, request_page
from analytics.models import UsageAdjustment, UsageRecord
from analytics.services.rerating import RATED_SOURCES, REASON_LENGTH, RerateReport, RerateScope, usage_rerate
from providers.admin.cells import aligned, clipped, moment
from providers.admin.pages import ReadOnlyAdmin, change_url, list_url
from providers.admin.price_tiers import price_text
from providers.models import Price

MOST_AT_ONCE = 50_000  # requests that a page may look at; more take too long for a browser to wait


class RerateForm(forms.Form):
    """`since` is a UTC day; the price's own beginning is the earliest that makes sense."""

    since = forms.DateField(
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        help_text="A day in UTC. Requests from then on are looked at.",
    )
    reason = forms.CharField(
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Stands beside every correction, for whoever wonders about the bill.",
    )

    def __init__(self, price: Price, data: Any = None) -> None:
        super().__init__(data, initial={"since": price.effective_from.astimezone(UTC).date()})
        self._price = price

    def scope(self, now: datetime) -> RerateScope:
        since = datetime.combine(self.cleaned_data["since"], time(), UTC)
        return RerateScope.of_price(self._price, since=since, until=now)

    def clean_since(self) -> Any:
        if self.cleaned_data["since"] > timezone.now().astimezone(UTC).date():
            raise ValidationError("Nothing was used yet from that day on.")
        return self.cleaned_data["since"]


@admin.register(UsageAdjustment)
class UsageAdjustmentAdmin(ReadOnlyAdmin[UsageAdjustment]):
    list_display = ["made", "of_request", "requested", "difference", "why", "by"]
    list_select_related = ["created_by"]
    list_filter = [("created_at", DaysFilter)]
    search_fields = ["reason"]
    search_help_text = "Reason"
    fieldsets = [
        ("The correction", {"fields": ["of_request", "requested", "difference", "why", "made", "by"]}),
        ("What it was made with", {"fields": ["price", "charges", "batch"]}),
    ]
    readonly_fields = ["of_request", "requested", "difference", "why", "made", "by"]

    @admin.display(description="corrected", ordering="created_at")
    def made(self, row: UsageAdjustment) -> SafeString:
        return moment(row.created_at)

    @admin.display(description="request")
    def of_request(self, row: UsageAdjustment) -> SafeString:
        url = request_page(UsageRecord(request_id=row.request_id))
        return format_html('<a class="cell-link" href="{}"><code class="cell-code">{}</code></a>', url, row.request_id)

    @admin.display(description="of", ordering="started_at")
    def requested(self, row: UsageAdjustment) -> SafeString:
        return moment(row.started_at)

    @admin.display(description="correction", ordering="delta_nano")
    def difference(self, row: UsageAdjustment) -> SafeString:
        return aligned(f"{'+' if row.delta_nano > 0 else ''}{presentation.exact_money(row.delta_nano)}")

    @admin.display(description="why")
    def why(self, row: UsageAdjustment) -> SafeString:
        return clipped(f"{row.reason} (it was unpriced)" if row.was_unpriced else row.reason)

    @admin.display(description="by")
    def by(self, row: UsageAdjustment) -> str:
        return str(row.created_by or "a command")

    # --- making them ------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.rerate)
        return [path("rerate/", view, name="analytics_usageadjustment_rerate"), *super().get_urls()]

    def rerate(self, request: HttpRequest) -> HttpResponse:
        """Say what would change, then, if wanted, change it. `?price=` names the price row."""
        if not request.user.has_perm("analytics.add_usageadjustment"):
            raise PermissionDenied
        price, now = _price(request.GET.get("price", "")), timezone.now()
        form = RerateForm(price, request.POST if request.method == "POST" else None)
        report = None
        if form.is_valid():
            scope = form.scope(now)
            if _is_too_much(scope):
                form.add_error("since", f"These are more than {MOST_AT_ONCE:,} requests: {_command(price, form)}")
            elif "post" in request.POST:
                report = usage_rerate(scope=scope, reason=form.cleaned_data["reason"], by=cast(User, request.user))
                messages.success(request, _done(report))
                return HttpResponseRedirect(list_url(UsageAdjustment))
            else:
                report = usage_rerate(scope=scope, reason=form.cleaned_data["reason"], dry_run=True)
        context = {
            **self.admin_site.each_context(request),
            "title": "Re-rate usage",
            "opts": self.opts,
            "price": price,
            "price_text": price_text(price),
            "price_url": change_url(price),
            "form": form,
            "report": report,
            "rows": _rows(report),
        }
        return TemplateResponse(request, "admin/analytics/usageadjustment/rerate.html", context)


def _price(text: str) -> Price:
    rows: QuerySet[Price] = Price.objects.select_related("model", "deployment__provider")
    found = rows.filter(pk=int(text)).first() if text.isascii() and text.isdecimal() and len(text) < 19 else None
    if found is None:
        raise Http404("No such price.")
    return found


def _is_too_much(scope: RerateScope) -> bool:
    """Counted no further than need be."""
    rows = UsageRecord.objects.filter(started_at__gte=scope.since, usage_source__in=RATED_SOURCES)
    rows = rows.filter(model=scope.model) if scope.model else rows.filter(deployment=scope.deployment)
    return rows.order_by().values("pk")[: MOST_AT_ONCE + 1].count() > MOST_AT_ONCE


def _command(price: Price, form: RerateForm) -> str:
    return f"use manage.py rerate --price {price.pk} --from {form.cleaned_data['since']:%Y-%m-%d}"


def _rows(report: RerateReport | None) -> list[dict[str, Any]]:
    """By model and team, the greatest difference first."""
    if report is None:
        return []
    return [
        {"model": model, "team": team, "row": row, "after_nano": row.before_nano + row.delta_nano}
        for (model, team), row in sorted(report.rows.items(), key=lambda item: -abs(item[1].delta_nano))
    ]


def _done(report: RerateReport) -> str:
    if not report.requests:
        return "Nothing had to be corrected any more."
    return f"{report.requests:,} requests corrected by {presentation.money(report.delta_nano)} in all."
