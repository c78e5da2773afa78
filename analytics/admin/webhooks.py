"""Webhooks: which programs are told of which events, and what became of each message."""

import json
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from analytics.admin.alerts import DELIVERY_TONES
from analytics.domain.webhooks import event_json
from analytics.models import ChannelKind, DeliveryState, WebhookDelivery, WebhookEndpoint
from analytics.models.webhooks import KIND_CHOICES
from analytics.services.alert_channels import target_clean
from analytics.services.webhook_delivery import endpoint_test
from analytics.services.webhook_endpoints import (
    NewSecret,
    endpoint_active_set,
    endpoint_save,
    endpoint_secret_rotate,
)
from analytics.services.webhooks import delivery_again
from providers.admin.cells import NOTHING, Tone, clipped, code, label, moment, number
from providers.admin.pages import ReadOnlyAdmin, SwitchableAdmin, change_url, page_action
from routing.admin.questions import Question, asked_page


def state_label(state: str, note: str) -> SafeString:
    tone, icon = DELIVERY_TONES[DeliveryState(state)]
    return label(str(DeliveryState(state).label), tone, icon=icon, title=note)


class WebhookEndpointForm(ModelForm[WebhookEndpoint]):
    """The address is taken and never given back: not in the page, not after an error."""

    address = forms.CharField(
        label="Address",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="https:// and where your program listens. Stored encrypted, never shown again.",
    )

    class Meta:
        model = WebhookEndpoint
        fields = ["name", "is_active", "events", "team", "failures_per_minute", "allowed_networks"]
        widgets = {"allowed_networks": UnfoldAdminTextareaWidget(attrs={"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "address" in self.fields:
            self.fields["address"].required = False
            self.fields["address"].label = "Replace address"
            self.fields["address"].help_text = f"Leave empty to keep {self.instance.hint}."

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        try:
            if cleaned.get("address"):
                target_clean(ChannelKind.WEBHOOK, cleaned["address"], cleaned.get("allowed_networks", ""))
        except ValidationError as error:
            self.add_error(None, error)
        return cleaned


class SecretRequest(HttpRequest):
    """The request that makes an endpoint carries its secret to its own answer, and nowhere else."""

    fresh: NewSecret


def _last(column: str) -> Subquery:
    latest = WebhookDelivery.objects.filter(endpoint=OuterRef("pk")).order_by("-created_at")
    return Subquery(latest.values(column)[:1])


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(SwitchableAdmin[WebhookEndpoint]):
    form = WebhookEndpointForm
    list_display = ["name", "hint", "told_of", "team", "state", "last"]
    list_select_related = ["team"]
    list_filter = ["is_active", ("team", AutocompleteSelectFilter)]
    search_fields = ["name", "hint"]
    search_help_text = "Name, or where it goes"
    autocomplete_fields = ["team"]
    checkbox_lists = {"events": KIND_CHOICES}
    readonly_fields = ["hint", "health"]
    actions_detail = ["test", "new_secret"]

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the latest delivery of each, read once for all."""
        return super().get_queryset(request).annotate(last_state=_last("state"), last_note=_last("note"))

    def get_fieldsets(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> Any:
        where = ["address", "allowed_networks"]
        if obj is not None:
            where = ["hint", *(where if self.has_change_permission(request, obj) else where[1:])]
        return [
            ("The endpoint", {"fields": ["name", "is_active", *(["health"] if obj else [])]}),
            ("Where to", {"fields": where}),
            ("What it is told", {"fields": ["events", "team", "failures_per_minute"]}),
        ]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """A new endpoint has one way on: to the page that shows its secret."""
        if context.get("original") is None:
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        secret = endpoint_save(endpoint=obj, address=form.cleaned_data["address"])
        if secret is not None:
            cast(SecretRequest, request).fresh = secret

    def response_add(
        self, request: HttpRequest, obj: WebhookEndpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_secret(request, obj, cast(SecretRequest, request).fresh)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        changed = sum(endpoint_active_set(endpoint=row, is_active=True) for row in rows)
        self.message_user(request, f"{changed} switched on.", messages.SUCCESS)

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        changed = sum(endpoint_active_set(endpoint=row, is_active=False) for row in rows)
        self.message_user(request, f"{changed} switched off.", messages.SUCCESS)

    @page_action(description="Send a test", url_path="test", icon="send", permissions=["test"])
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first; the answer says what came of it."""
        endpoint = self._endpoint(request, object_id)
        context = self._context(request, endpoint, "Send a test")
        if request.method == "POST":
            by = cast(User, request.user).get_username()
            delivery = endpoint_test(endpoint=endpoint, by=by, now=timezone.now())
            context["delivery"], context["arrived"] = delivery, delivery.state == DeliveryState.SENT
            context["label"] = state_label(delivery.state, delivery.note)
        return TemplateResponse(request, "admin/analytics/webhookendpoint/test.html", context)

    @page_action(description="New signing secret", url_path="new-secret", icon="key", permissions=["test"])
    def new_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first."""
        endpoint = self._endpoint(request, object_id)
        if request.method != "POST":
            said = ["For 24 hours messages are signed with the new secret and with the one of now. Give the new one to "
                    "the program that listens there within that time. A secret that was replaced before is good no "
                    "more."]  # fmt: skip
            question = Question(f"A new signing secret for “{endpoint}”?", said, "Make one", change_url(endpoint))
            return asked_page(self, request, "New signing secret", question)
        secret = endpoint_secret_rotate(endpoint=endpoint, now=timezone.now())
        self.log_change(request, endpoint, "New signing secret.")
        return self._show_secret(request, endpoint, secret)

    def has_test_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return super().has_change_permission(request)

    def _endpoint(self, request: HttpRequest, object_id: str) -> WebhookEndpoint:
        endpoint = self.get_object(request, object_id)
        if endpoint is None or not self.has_test_permission(request):
            raise Http404("No such endpoint.")
        return endpoint

    def _context(self, request: HttpRequest, endpoint: WebhookEndpoint, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "endpoint": endpoint,
            "endpoint_url": change_url(endpoint),
        }

    def _show_secret(self, request: HttpRequest, endpoint: WebhookEndpoint, secret: NewSecret) -> HttpResponse:
        """Once: it is part of this answer only, never of a session, a message, a cookie or a log."""
        context = {**self._context(request, endpoint, "Signing secret"), "secret": secret}
        answer = TemplateResponse(request, "admin/analytics/webhookendpoint/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.display(description="told of")
    def told_of(self, endpoint: WebhookEndpoint) -> SafeString:
        return clipped(", ".join(endpoint.events))

    @admin.display(description="state", ordering="is_active")
    def state(self, obj: WebhookEndpoint) -> SafeString:
        if obj.switched_off and not obj.is_active:
            return label("Given up", Tone.BAD, icon="cancel", title=obj.switched_off)
        if obj.is_active and obj.failing_since:
            return label("Failing", Tone.WARN, title=f"since {obj.failing_since:%-d %b %Y %H:%M} UTC")
        return super().state(obj)

    @admin.display(description="how it stands")
    def health(self, endpoint: WebhookEndpoint) -> str:
        if endpoint.switched_off and not endpoint.is_active:
            return f"Switched off by the platform: {endpoint.switched_off}. Switch it on when it listens again."
        if endpoint.failing_since:
            return f"It has taken nothing since {endpoint.failing_since:%-d %b %Y %H:%M} UTC."
        return "–"

    @admin.display(description="last message")
    def last(self, endpoint: WebhookEndpoint) -> SafeString:
        state: str = endpoint.last_state or ""  # type: ignore[attr-defined]  # annotated
        note: str = endpoint.last_note or ""  # type: ignore[attr-defined]  # annotated
        return state_label(state, note) if state else label("None yet", Tone.QUIET)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin[WebhookDelivery]):
    """The outbox: what waits, what was sent, and what was given up."""

    list_display = ["created", "endpoint", "about", "state_now", "tries", "next_try", "answer"]
    list_select_related = ["endpoint", "event"]
    list_filter = [("state", ChoicesCheckboxFilter), ("endpoint", AutocompleteSelectFilter)]
    search_fields = ["event__kind"]
    search_help_text = "Type of event"
    show_full_result_count = False
    fields = ["created", "endpoint", "about", "state_now", "tries", "next_try", "sent", "answer", "body"]
    readonly_fields = ["created", "endpoint", "about", "state_now", "tries", "next_try", "sent", "answer", "body"]
    actions = ["again"]

    @admin.action(description="Send again", permissions=["again"])
    def again(self, request: HttpRequest, rows: QuerySet[WebhookDelivery]) -> None:
        now = timezone.now()
        changed = sum(delivery_again(delivery=row, now=now) for row in rows)
        left = len(rows) - changed
        rest = f" {left} wait anyway, or their endpoint is switched off." if left else ""
        self.message_user(request, f"{changed} sent again.{rest}", messages.SUCCESS if changed else messages.WARNING)

    def has_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("analytics.change_webhookendpoint")

    @admin.display(description="created", ordering="created_at")
    def created(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.created_at)

    @admin.display(description="event")
    def about(self, delivery: WebhookDelivery) -> SafeString:
        return code(delivery.event.kind)

    @admin.display(description="state", ordering="state")
    def state_now(self, delivery: WebhookDelivery) -> SafeString:
        return state_label(delivery.state, delivery.note)

    @admin.display(description="tries", ordering="attempts")
    def tries(self, delivery: WebhookDelivery) -> SafeString:
        return number(delivery.attempts)

    @admin.display(description="next try")
    def next_try(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.next_attempt_at) if delivery.state == DeliveryState.WAITING else NOTHING

    @admin.display(description="sent")
    def sent(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.sent_at)

    @admin.display(description="last answer")
    def answer(self, delivery: WebhookDelivery) -> SafeString:
        return clipped(delivery.note) if delivery.note else NOTHING

    @admin.display(description="what it says")
    def body(self, delivery: WebhookDelivery) -> SafeString:
        event = delivery.event
        said = json.dumps(event_json(event.pk, event.kind, event.at, event.payload), indent=2, ensure_ascii=False)
        return format_html("<pre>{}</pre>", said)
