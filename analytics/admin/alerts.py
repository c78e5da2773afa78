"""Alerts: what is open, what was done about it, and what was sent."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter

from analytics.alerts_page import WORST_FIRST, figures_text
from analytics.models import Alert, AlertDelivery, AlertEvent, AlertState, DeliveryState, Severity
from analytics.services.alerts import Move, alert_move
from providers.admin.cells import NOTHING, Tone, aligned, clipped, label, moment, number
from providers.admin.pages import ReadOnlyAdmin, RowsToSee, change_url

STATE_TONES = {
    AlertState.OPEN: (Tone.BAD, "notifications_active"),
    AlertState.ACKNOWLEDGED: (Tone.WARN, "engineering"),
    AlertState.SNOOZED: (Tone.QUIET, "snooze"),
    AlertState.RESOLVED: (Tone.GOOD, "check_circle"),
}
SEVERITY_TONES = {
    Severity.CRITICAL: (Tone.BAD, "priority_high"),
    Severity.WARNING: (Tone.WARN, "warning"),
    Severity.INFO: (Tone.INFO, "info"),
}
DELIVERY_TONES = {
    DeliveryState.WAITING: (Tone.WARN, "schedule"),
    DeliveryState.SENT: (Tone.GOOD, "check_circle"),
    DeliveryState.FAILED: (Tone.BAD, "cancel"),
}
DONE = {
    Move.ACKNOWLEDGE: "acknowledged",
    Move.SNOOZE_HOUR: "snoozed for an hour",
    Move.SNOOZE_DAY: "snoozed for a day",
    Move.RESOLVE: "resolved",
}


def state_label(alert: Alert) -> SafeString:
    tone, icon = STATE_TONES[AlertState(alert.state)]
    until = f"until {alert.snoozed_until:%-d %b %Y %H:%M} UTC" if alert.snoozed_until else ""
    return label(alert.get_state_display(), tone, icon=icon, title=until)


def severity_label(severity: int) -> SafeString:
    tone, icon = SEVERITY_TONES[Severity(severity)]
    return label(Severity(severity).label, tone, icon=icon)


def delivery_label(delivery: AlertDelivery) -> SafeString:
    tone, icon = DELIVERY_TONES[DeliveryState(delivery.state)]
    return label(delivery.get_state_display(), tone, icon=icon, title=delivery.note)


class Timeline(RowsToSee):
    """What happened to an alert, and to whom it was told."""

    model = AlertEvent
    fields = ["when", "what", "who", "said", "told"]
    readonly_fields = ["when", "what", "who", "said", "told"]
    verbose_name_plural = "timeline"
    show_change_link = False
    tab = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("by").prefetch_related("deliveries__channel")

    @admin.display(description="when")
    def when(self, event: AlertEvent) -> SafeString:
        return moment(event.at)

    @admin.display(description="what")
    def what(self, event: AlertEvent) -> str:
        until = f" until {event.until:%-d %b %H:%M} UTC" if event.until else ""
        return f"{event.get_kind_display()}{until}"

    @admin.display(description="by")
    def who(self, event: AlertEvent) -> str:
        return str(event.by or "the platform")

    @admin.display(description="it said")
    def said(self, event: AlertEvent) -> SafeString:
        return clipped(event.title, title=event.text)

    @admin.display(description="told to")
    def told(self, event: AlertEvent) -> SafeString:
        rows = ((delivery.channel.name, delivery_label(delivery)) for delivery in event.deliveries.all())
        return format_html_join(" ", '<span class="cell-pair">{} {}</span>', rows) or NOTHING


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin[Alert]):
    list_display = ["title", "state_now", "how_bad", "figures", "since", "handled_by"]
    ordering = WORST_FIRST
    list_select_related = ["rule", "team", "acknowledged_by", "resolved_by"]
    list_filter = [
        ("state", ChoicesCheckboxFilter),
        ("severity", ChoicesCheckboxFilter),
        "rule",
        ("team", AutocompleteSelectFilter),
    ]
    search_fields = ["title", "subject_name", "team__name"]
    search_help_text = "Title, what it is about, or team"
    actions = ["acknowledge", "snooze_hour", "snooze_day", "resolve"]
    inlines = [Timeline]
    change_form_outer_before_template = "admin/analytics/alert/buttons.html"
    fieldsets = [
        ("What happened", {"fields": ["state_now", "how_bad", "text", "figures", "look"]}),
        ("Since when", {"fields": [("since", "seen"), ("acknowledged", "snoozed"), "resolved"]}),
        ("What it is", {"fields": ["kind", "about", "team", "print"]}),
    ]
    readonly_fields = [
        *("state_now", "how_bad", "text", "figures", "look", "since", "seen", "acknowledged", "snoozed", "resolved"),
        *("kind", "about", "team", "print"),
    ]

    def get_urls(self) -> list[URLPattern]:
        move = path("<path:object_id>/move/", self.admin_site.admin_view(self.move), name="analytics_alert_move")
        return [move, *super().get_urls()]

    def move(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A button of the alert's page: `move` is a `Move`."""
        alert = self.get_object(request, object_id)
        if alert is None or request.method != "POST" or request.POST.get("move") not in set(Move):
            raise Http404("No such alert, or nothing of that name can be done about it.")
        if not self.has_move_permission(request):
            raise PermissionDenied
        self._move(request, Move(request.POST["move"]), Alert.objects.filter(pk=alert.pk))
        return HttpResponseRedirect(change_url(alert))

    @admin.action(description="Acknowledge", permissions=["move"])
    def acknowledge(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        self._move(request, Move.ACKNOWLEDGE, rows)

    @admin.action(description="Snooze for an hour", permissions=["move"])
    def snooze_hour(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        self._move(request, Move.SNOOZE_HOUR, rows)

    @admin.action(description="Snooze for a day", permissions=["move"])
    def snooze_day(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        self._move(request, Move.SNOOZE_DAY, rows)

    @admin.action(description="Resolve", permissions=["move"])
    def resolve(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        self._move(request, Move.RESOLVE, rows)

    def _move(self, request: HttpRequest, move: Move, rows: QuerySet[Alert]) -> None:
        by, now = cast(User, request.user), timezone.now()
        changed = sum(alert_move(alert=alert, move=move, by=by, now=now) for alert in rows)
        level = messages.SUCCESS if changed else messages.WARNING
        rest = "" if changed else " Somebody was faster, or it is resolved."
        self.message_user(request, f"{changed} {DONE[move]}.{rest}", level)

    def has_move_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("analytics.change_alert")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        more = {"may_move": self.has_move_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, more)

    @admin.display(description="state", ordering="state")
    def state_now(self, alert: Alert) -> SafeString:
        return state_label(alert)

    @admin.display(description="severity", ordering="severity")
    def how_bad(self, alert: Alert) -> SafeString:
        return severity_label(alert.severity)

    @admin.display(description="about", ordering="subject_name")
    def about(self, alert: Alert) -> SafeString:
        return clipped(alert.subject_name)

    @admin.display(description="rule", ordering="rule")
    def kind(self, alert: Alert) -> str:
        return str(alert.rule)

    @admin.display(description="value", ordering="value")
    def figures(self, alert: Alert) -> SafeString:
        return aligned(figures_text(alert) or "–")

    @admin.display(description="since", ordering="opened_at")
    def since(self, alert: Alert) -> SafeString:
        return moment(alert.opened_at)

    @admin.display(description="last seen")
    def seen(self, alert: Alert) -> SafeString:
        return moment(alert.last_seen_at)

    @admin.display(description="handled by")
    def handled_by(self, alert: Alert) -> str:
        return str(alert.resolved_by or alert.acknowledged_by or "–")

    @admin.display(description="where to look")
    def look(self, alert: Alert) -> SafeString:
        if not alert.link:
            return NOTHING
        return format_html('<a class="cell-link" href="{}">{} →</a>', alert.link, alert.subject_name)

    @admin.display(description="acknowledged")
    def acknowledged(self, alert: Alert) -> SafeString:
        return _done(alert.acknowledged_at, alert.acknowledged_by)

    @admin.display(description="snoozed until")
    def snoozed(self, alert: Alert) -> SafeString:
        return moment(alert.snoozed_until)

    @admin.display(description="resolved")
    def resolved(self, alert: Alert) -> SafeString:
        return _done(alert.resolved_at, alert.resolved_by or "the platform")

    @admin.display(description="fingerprint")
    def print(self, alert: Alert) -> SafeString:
        return format_html('<code class="cell-code">{}</code>', alert.fingerprint)


def _done(at: Any, by: Any) -> SafeString:
    return format_html("{} by {}", moment(at), by) if at else NOTHING


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(ReadOnlyAdmin[AlertDelivery]):
    """The outbox: what waits, what was sent, and what was given up."""

    list_display = ["created", "channel", "about", "state_now", "tries", "next_try", "answer"]
    list_select_related = ["channel", "event__alert"]
    list_filter = [("state", ChoicesCheckboxFilter), ("channel", AutocompleteSelectFilter)]
    show_full_result_count = False
    fields = ["created", "channel", "about", "state_now", "tries", "next_try", "sent", "answer", "key"]
    readonly_fields = ["created", "channel", "about", "state_now", "tries", "next_try", "sent", "answer", "key"]

    @admin.display(description="created", ordering="created_at")
    def created(self, delivery: AlertDelivery) -> SafeString:
        return moment(delivery.created_at)

    @admin.display(description="about")
    def about(self, delivery: AlertDelivery) -> SafeString:
        if delivery.event is None:
            return clipped("A test")
        return clipped(str(delivery.event))

    @admin.display(description="state", ordering="state")
    def state_now(self, delivery: AlertDelivery) -> SafeString:
        return delivery_label(delivery)

    @admin.display(description="tries", ordering="attempts")
    def tries(self, delivery: AlertDelivery) -> SafeString:
        return number(delivery.attempts)

    @admin.display(description="next try")
    def next_try(self, delivery: AlertDelivery) -> SafeString:
        return moment(delivery.next_attempt_at) if delivery.state == DeliveryState.WAITING else NOTHING

    @admin.display(description="sent")
    def sent(self, delivery: AlertDelivery) -> SafeString:
        return moment(delivery.sent_at)

    @admin.display(description="last answer")
    def answer(self, delivery: AlertDelivery) -> SafeString:
        return clipped(delivery.note) if delivery.note else NOTHING

    @admin.display(description="message id")
    def key(self, delivery: AlertDelivery) -> SafeString:
        return format_html('<code class="cell-code">{}</code>', delivery.pk)
