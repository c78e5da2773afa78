"""When people are told, and how: the rules, and the channels that carry the news."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from analytics.admin.alerts import delivery_label, severity_label
from analytics.domain.alerts import PARAMETERS, Parameter, parameter_problem
from analytics.models import AlertChannel, AlertDelivery, AlertKind, AlertRule, ChannelKind, DeliveryState
from analytics.services.alert_channels import (
    alert_channel_save,
    signing_secret_clean,
    signing_secret_new,
    target_clean,
)
from analytics.services.alert_delivery import channel_test
from providers.admin.cells import Tone, active_label, clipped, label
from providers.admin.pages import HistoryAdmin, SwitchableAdmin, change_url, page_action

ABOUT = {
    AlertKind.BUDGET_THRESHOLD: "A budget has spent a share of what it has, or the amount at which it warns itself.",
    AlertKind.BUDGET_FORECAST: "At the rate of its period until now, a budget is used up before its period ends.",
    AlertKind.SPEND_ANOMALY: "A team spends far more than it does at this hour of the week.",
    AlertKind.UNPRICED_USAGE: "A model was used in the last hour whose price nobody knows.",
    AlertKind.ZERO_COST: "A model with a price was used in the last hour, and its requests cost nothing.",
    AlertKind.PROVIDER_DOWN: "An active provider is down, by its checks or by its traffic.",
    AlertKind.ERROR_RATE: "Too many attempts at a provider failed in the last 5 minutes.",
    AlertKind.LEDGER: "The hourly check of the ledger found what does not add up.",
}


class NumbersField(forms.CharField):
    """Whole numbers with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(f"{number:g}" for number in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        try:
            return [int(part) for part in str(value or "").split(",") if part.strip()]
        except ValueError:
            raise ValidationError("Whole numbers with commas between them, for example 50, 80, 100.") from None


class AlertRuleForm(ModelForm[AlertRule]):
    """A field for each parameter of the rule's kind; `rule_form` makes the class that has them."""

    class Meta:
        model = AlertRule
        fields = ["is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in self.instance.parameters_now().items():
            self.fields[name].initial = value

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        for name in self.instance.parameters_now():
            problem = parameter_problem(self.instance.kind, name, cleaned[name]) if name in cleaned else ""
            if problem:
                self.add_error(name, problem)
        return cleaned


def rule_form(kind: str) -> type[AlertRuleForm]:
    fields = {name: _parameter_field(parameter) for name, parameter in PARAMETERS.get(kind, {}).items()}
    return cast("type[AlertRuleForm]", type("KindOfRuleForm", (AlertRuleForm,), fields))


def _parameter_field(parameter: Parameter) -> forms.Field:
    shown = {"label": parameter.label, "help_text": parameter.help_text, "widget": UnfoldAdminTextInputWidget()}
    if parameter.is_list:
        return NumbersField(**shown)
    return forms.IntegerField(**shown) if isinstance(parameter.minimum, int) else forms.FloatField(**shown)


@admin.register(AlertRule)
class AlertRuleAdmin(HistoryAdmin[AlertRule]):
    list_display = ["called", "state", "tells_when", "by"]
    readonly_fields = ["called", "tells_when"]
    actions: list[str] = []

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AlertRule | None = None) -> bool:
        """There is one of each kind: a rule that is not wanted is switched off."""
        return False

    def get_form(self, request: HttpRequest, obj: AlertRule | None = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = rule_form(obj.kind if obj else "")
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> Any:
        sections: list[Any] = [("The rule", {"fields": ["called", "tells_when", "is_active"]})]
        names = list(PARAMETERS.get(obj.kind, {})) if obj else []
        if names and self.has_change_permission(request, obj):
            sections.append(("When", {"fields": names}))
        return sections

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        """Only what differs from the defaults is kept, so that a better default reaches who never changed it."""
        wanted = {name: form.cleaned_data[name] for name in PARAMETERS.get(obj.kind, {})}
        defaults = {name: parameter.default for name, parameter in PARAMETERS.get(obj.kind, {}).items()}
        obj.parameters = {name: value for name, value in wanted.items() if value != defaults[name]}
        obj.save(update_fields=["parameters", "is_active"])

    @admin.display(description="rule", ordering="kind")
    def called(self, rule: AlertRule) -> str:
        return rule.get_kind_display()

    @admin.display(description="tells when")
    def tells_when(self, rule: AlertRule) -> str:
        return ABOUT[AlertKind(rule.kind)]

    @admin.display(description="with")
    def by(self, rule: AlertRule) -> SafeString:
        known = PARAMETERS.get(rule.kind, {})
        told = [f"{known[name].label}: {_shown(value)}" for name, value in rule.parameters_now().items()]
        return clipped("; ".join(told) or "–")

    @admin.display(description="state", ordering="is_active")
    def state(self, rule: AlertRule) -> SafeString:
        return active_label(rule.is_active)


def _shown(value: Any) -> str:
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, list) else f"{value:,g}"


def _last(column: str) -> Subquery:
    latest = AlertDelivery.objects.filter(channel=OuterRef("pk")).order_by("-created_at")
    return Subquery(latest.values(column)[:1])


class AlertChannelForm(ModelForm[AlertChannel]):
    """Address and signing secret are taken and never given back: not in the page, not after an error.

    But for a signing secret that was made for a new channel: it is offered, to be copied to the receiver.
    """

    address = forms.CharField(
        label="Address",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Mail addresses with commas between them; an address of apprise such as slack://…; or the https:// "
        "address of your webhook. Stored encrypted, never shown again.",
    )
    secret = forms.CharField(
        label="Signing secret",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="For a webhook: its receiver checks with it that a message is ours. Copy it now; it is never shown "
        "again.",
    )

    class Meta:
        model = AlertChannel
        fields = ["name", "kind", "is_active", "minimum_severity", "kinds", "team", "allowed_networks"]
        widgets = {"allowed_networks": UnfoldAdminTextareaWidget(attrs={"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        secret = self.fields.get("secret")
        if self.instance.pk:
            self.fields["address"].required = False
            self.fields["address"].label = "Replace address"
            self.fields["address"].help_text = f"Leave empty to keep {self.instance.hint}."
            if secret:
                secret.label, secret.help_text = "Replace signing secret", "Leave empty to keep the one that is there."
        elif secret:
            secret.initial = signing_secret_new()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        kind, networks = cleaned.get("kind", self.instance.kind), cleaned.get("allowed_networks", "")
        is_webhook = kind == ChannelKind.WEBHOOK
        if not is_webhook:
            cleaned["secret"] = ""
        if self.instance.pk and "kind" in self.changed_data and not cleaned.get("address"):
            self.add_error("address", "Another kind needs another address.")
        if is_webhook and not cleaned.get("secret") and not self.instance.signing_secret:
            self.add_error("secret", "A webhook needs one.")
        try:
            if cleaned.get("address"):
                target_clean(kind, cleaned["address"], networks)
            if cleaned.get("secret"):
                signing_secret_clean(cleaned["secret"])
        except ValidationError as error:
            self.add_error(None, error)
        return cleaned


@admin.register(AlertChannel)
class AlertChannelAdmin(SwitchableAdmin[AlertChannel]):
    form = AlertChannelForm
    list_display = ["name", "kind", "hint", "from_severity", "for_kinds", "team", "state", "last"]
    list_select_related = ["team"]
    list_filter = ["is_active", "kind", ("team", AutocompleteSelectFilter)]
    search_fields = ["name", "hint"]
    search_help_text = "Name, or where it goes"
    autocomplete_fields = ["team"]
    checkbox_lists = {"kinds": AlertKind.choices}
    readonly_fields = ["hint"]
    actions_detail = ["test"]

    def get_fieldsets(self, request: HttpRequest, obj: AlertChannel | None = None) -> Any:
        where = ["kind", "address", "secret", "allowed_networks"]
        if obj is not None:
            where = ["kind", "hint", "address", "secret", "allowed_networks"]
        if not self.has_change_permission(request, obj) and obj is not None:
            where = ["kind", "hint", "allowed_networks"]
        return [
            ("The channel", {"fields": ["name", "is_active"]}),
            ("Where to", {"fields": where}),
            ("What it is told", {"fields": ["minimum_severity", "team", "kinds"]}),
        ]

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: Any, change: bool) -> None:
        wanted = form.cleaned_data
        alert_channel_save(channel=obj, address=wanted["address"], secret=wanted["secret"])

    @page_action(description="Send a test", url_path="test", icon="send", permissions=["test"])
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first; the answer says what came of it."""
        channel = self.get_object(request, object_id)
        if channel is None:
            raise Http404("No such channel.")
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Send a test",
            "opts": self.opts,
            "channel": channel,
            "channel_url": change_url(channel),
        }
        if request.method == "POST":
            delivery = channel_test(channel=channel, by=cast(User, request.user).get_username(), now=timezone.now())
            context["delivery"], context["arrived"] = delivery, delivery.state == DeliveryState.SENT
            context["label"] = delivery_label(delivery)
        return TemplateResponse(request, "admin/analytics/alertchannel/test.html", context)

    def has_test_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return super().has_change_permission(request)

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the latest delivery of each, read once for all."""
        return super().get_queryset(request).annotate(last_state=_last("state"), last_note=_last("note"))

    @admin.display(description="from", ordering="minimum_severity")
    def from_severity(self, channel: AlertChannel) -> SafeString:
        return severity_label(channel.minimum_severity)

    @admin.display(description="kinds of alerts")
    def for_kinds(self, channel: AlertChannel) -> SafeString:
        return clipped(", ".join(AlertKind(kind).label for kind in channel.kinds) or "All")

    @admin.display(description="last message")
    def last(self, channel: AlertChannel) -> SafeString:
        state: str = channel.last_state or ""  # type: ignore[attr-defined]  # annotated
        if not state:
            return label("None yet", Tone.QUIET)
        tones = {DeliveryState.SENT: Tone.GOOD, DeliveryState.FAILED: Tone.BAD}
        note = channel.last_note  # type: ignore[attr-defined]  # annotated
        return label(str(DeliveryState(state).label), tones.get(DeliveryState(state), Tone.WARN), title=note)
