"""Budgets, to set, to watch and to steer."""

import zoneinfo
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from analytics import presentation
from analytics.admin.raises import raise_lines
from analytics.budget_page import budget_page, forecast_words, is_running_out, local_text, resets_words
from analytics.models import Budget, BudgetLease, BudgetMode, BudgetRaise, BudgetScope, RaiseState
from analytics.selectors import BudgetState
from analytics.selectors.budgets import budget_states, limit_before, rival_of
from analytics.services.budget_raises import budget_raise, raise_open, raise_propose
from analytics.services.budgets import REASON_LENGTH, budget_recall, lease_write_off
from providers.admin.cells import NOTHING, Tone, label
from providers.admin.pages import SwitchableAdmin, change_url, page_action
from providers.services import active_set

MODES: Final = {
    BudgetMode.STRICT: ("Strict", Tone.INFO, "lock"),
    BudgetMode.EXPECTED: ("Expected", Tone.INFO, "lock_open"),
    BudgetMode.SOFT: ("Soft", Tone.QUIET, "notifications"),
    BudgetMode.SHADOW: ("Shadow", Tone.QUIET, "visibility"),
}
FIXED: Final = ["scope", *BudgetScope.values, "budget_duration", "time_zone"]
WRITE_OFF_REASON_LENGTH: Final = 60  # what is left of the history's line beside the amount


def spent_cell(state: BudgetState | None) -> SafeString:
    """A bar and its words: what of the budget is spent in the current period, and what gateways hold of it."""
    if state is None:
        return NOTHING
    return mark_safe(render_to_string("components/budget_cell.html", {"state": state}).strip())  # noqa: S308  # escaped


class BudgetForm(forms.ModelForm[Budget]):
    def clean(self) -> dict[str, Any]:
        """That two budgets in force are for the same thing and period is a rule of the table; here it is said."""
        cleaned = super().clean() or {}
        wanted = Budget(pk=self.instance.pk)
        for name in ("scope", *BudgetScope.values, "budget_duration", "is_active"):
            setattr(wanted, name, cleaned.get(name, getattr(self.instance, name)))
        if wanted.is_active and (rival := rival_of(wanted)):
            self.add_error("budget_duration" if "budget_duration" in self.fields else "is_active", rival)
        amount = cleaned.get("max_budget")
        if (
            settings.POLICY_REVIEW
            and amount is not None
            and (before := limit_before(self.instance, amount)) is not None
        ):
            self._check_raise(before, cleaned)
        return cleaned

    def _check_raise(self, before: Decimal, cleaned: dict[str, Any]) -> None:
        """The amount stays as it is until somebody else has approved the new one; the rest of the form is saved."""
        if waiting := raise_open(self.instance):
            self.add_error("max_budget", f"A raise to ${waiting.amount_to:,} waits for approval already.")
        warn_at = cleaned.get("soft_budget")
        if warn_at is not None and warn_at > before:
            self.add_error(
                "soft_budget", f"Warn at no more than ${before:,}: that is the budget until the raise is approved."
            )


class RaiseForm(forms.Form):
    amount = forms.DecimalField(
        label="By (USD)",
        max_digits=12,
        decimal_places=2,
        validators=[MinValueValidator(Decimal("0.01"))],
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="Added to the limit of this period and of those that follow.",
    )
    reason = forms.CharField(
        max_length=REASON_LENGTH, widget=UnfoldAdminTextInputWidget, help_text="Kept in the history."
    )


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=WRITE_OFF_REASON_LENGTH, widget=UnfoldAdminTextInputWidget, help_text="Kept in the history."
    )


@admin.register(Budget)
class BudgetAdmin(SwitchableAdmin[Budget]):
    form = BudgetForm
    list_display = ["whose", "period", "how", "spent", "remaining", "resets", "state"]
    list_display_links = ["whose"]
    list_filter = [
        "is_active",
        ("scope", ChoicesCheckboxFilter),
        ("mode", ChoicesCheckboxFilter),
        ("budget_duration", ChoicesCheckboxFilter),
        ("team", AutocompleteSelectFilter),
    ]
    list_select_related = ["team", "key__team", "persona", "alias"]
    search_fields = ["team__name", "key__name", "key__prefix", "key__team__name", "persona__slug", "alias__name"]
    search_help_text = "Team, key, persona or model alias"
    autocomplete_fields = list(BudgetScope.values)
    conditional_fields = {scope: f"scope == '{scope}'" for scope in BudgetScope.values}
    change_form_outer_before_template = "admin/analytics/budget/now.html"
    change_form_before_template = "admin/analytics/budget/time_zones.html"
    actions_detail = ["raise_limit", "recall"]

    # --- the form ---------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        subject = ["subject_link"] if obj else ["scope", *BudgetScope.values]
        return [
            ("What it is for", {"fields": [*subject, ("budget_duration", "time_zone")]}),
            ("How much", {"fields": [("max_budget", "soft_budget"), "mode", "is_active"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> list[str]:
        """What would change the meaning of the past stays as it was created."""
        return ["subject_link", *FIXED] if obj else []

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "time_zone":
            field.widget.attrs["list"] = "time-zones"
        return field

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        budget = self.get_object(request, object_id) if object_id else None
        context: dict[str, Any] = {"time_zones": [] if budget else sorted(zoneinfo.available_timezones())}
        if budget is not None and request.method == "GET" and self.has_view_permission(request, budget):
            context |= page_context(budget, timezone.now())
        return super().changeform_view(request, object_id, form_url, (extra_context or {}) | context)

    @admin.display(description="for")
    def subject_link(self, budget: Budget) -> SafeString:
        subject = budget.subject
        if subject is None:
            return NOTHING
        tag = (
            f"{budget.get_scope_display().lower()}, of {budget.key.team}" if budget.key else budget.get_scope_display()
        )
        return format_html(
            '<a class="cell-link" href="{}">{}</a><span class="cell-tag">{}</span>', change_url(subject), subject, tag
        )

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: bool) -> None:
        """A higher amount is a raise, with all that belongs to one; whatever else was edited is saved in any case."""
        before = limit_before(obj, obj.max_budget) if change else None
        if before is None:
            super().save_model(request, obj, form, change)
            return
        wanted, obj.max_budget = obj.max_budget, before
        columns = {field.name for field in obj._meta.concrete_fields} - {"max_budget"}
        if edited := [name for name in form.changed_data if name in columns]:
            obj.save(update_fields=edited)
        try:
            raised = raise_propose(
                budget=obj, amount_to=wanted, by=cast(User, request.user), reason="Edited in the form"
            )
        except ValidationError as error:  # somebody was quicker
            messages.error(request, error.messages[0])
        else:
            tell(request, raised)

    # --- the list ---------------------------------------------------------------------------------------------------

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The spend of every budget is read once for the list."""
        changes = super().get_changelist_instance(request)
        states = states_by_budget((budget for budget in changes.result_list if budget.is_active), timezone.now())
        for budget in changes.result_list:
            budget.now = states.get(budget.pk)
        return changes

    @admin.display(description="for", ordering="scope")
    def whose(self, budget: Budget) -> SafeString:
        return format_html('{}<span class="cell-tag">{}</span>', budget.subject, budget.get_scope_display())

    @admin.display(description="period", ordering="budget_duration")
    def period(self, budget: Budget) -> str:
        zone = "" if budget.time_zone == "UTC" else f", {budget.time_zone}"
        return f"{budget.get_budget_duration_display()}{zone}"

    @admin.display(description="mode", ordering="mode")
    def how(self, budget: Budget) -> SafeString:
        return mode_label(budget)

    @admin.display(description="spent of the budget")
    def spent(self, budget: Any) -> SafeString:
        return spent_cell(budget.now)

    @admin.display(description="remaining")
    def remaining(self, budget: Any) -> SafeString:
        return money_cell(budget.now.remaining_nano) if budget.now else NOTHING

    @admin.display(description="starts again")
    def resets(self, budget: Any) -> SafeString:
        state: BudgetState | None = budget.now
        if state is None:
            return NOTHING
        at = local_text(state.ends_before, budget.time_zone) if state.ends_before else "Its period has no end."
        return format_html('<span class="cell-moment" title="{}">{}</span>', at, resets_words(state, timezone.now()))

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Budget]) -> None:
        """One at a time: of two budgets for the same, only one can be in force."""
        changed = 0
        for budget in rows.filter(is_active=False):
            if rival := rival_of(budget):
                messages.error(request, rival)
            else:
                changed += active_set(row=budget, is_active=True)
        self.message_user(request, f"{changed} switched on.", messages.SUCCESS if changed else messages.WARNING)

    # --- steering ---------------------------------------------------------------------------------------------------

    @page_action(
        description="Raise", url_path="raise", icon="add", variant=ActionVariant.PRIMARY, permissions=["steer"]
    )
    def raise_limit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        budget = self._budget(request, object_id)
        form = RaiseForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            wanted = form.cleaned_data
            try:
                raised = budget_raise(budget=budget, by=cast(User, request.user), **wanted)
            except ValidationError as error:
                form.add_error("amount", error)
            else:
                done = "Raised" if raised.state == RaiseState.APPLIED else "Asked for a raise"
                self.log_change(request, budget, f"{done} by ${wanted['amount']}: {wanted['reason']}")
                tell(request, raised)
                return HttpResponseRedirect(change_url(budget))
        [state] = budget_states([budget], now=timezone.now())
        more = {"needs_review": settings.POLICY_REVIEW, "waiting": raise_open(budget)}
        return self._question(request, "raise.html", "Raise a budget", budget, form=form, state=state, **more)

    @page_action(description="Recall idle leases", url_path="recall", icon="undo", permissions=["recall"])
    def recall(self, request: HttpRequest, object_id: str) -> HttpResponse:
        budget = self._budget(request, object_id)
        now = timezone.now()
        if request.method != "POST":
            return self._question(
                request, "recall.html", "Recall idle leases", budget, state=budget_states([budget], now=now)[0]
            )
        asked = budget_recall(budget=budget, by=cast(User, request.user), now=now)
        self.log_change(request, budget, f"Recalled idle leases; {asked} gateways had one.")
        messages.success(request, f"{asked} gateways are asked. What they do not need comes back within seconds.")
        return HttpResponseRedirect(change_url(budget))

    def write_off(self, request: HttpRequest, object_id: str, lease_id: int) -> HttpResponse:
        """Ask, then take the lease of a gateway that is gone for spent."""
        budget = self._budget(request, object_id)
        lease = BudgetLease.objects.filter(pk=lease_id, window__budget=budget).select_related("window").first()
        if lease is None:
            messages.warning(request, "This lease has ended meanwhile.")
            return HttpResponseRedirect(change_url(budget))
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            wanted = {"by": cast(User, request.user), "reason": form.cleaned_data["reason"], "now": timezone.now()}
            try:
                amount = lease_write_off(lease=lease, **wanted)
            except ValidationError as error:
                messages.error(request, error.messages[0])
            else:
                what = f"{presentation.money(amount)} of {lease.owner}"
                self.log_change(request, budget, f"Wrote off {what}: {form.cleaned_data['reason']}")
                messages.success(request, f"{what} count as spent.")
            return HttpResponseRedirect(change_url(budget))
        return self._question(request, "write_off.html", "Write off a lease", budget, form=form, lease=lease)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.write_off)
        name = "analytics_budget_write_off"
        return [path("<path:object_id>/leases/<int:lease_id>/write-off/", view, name=name), *super().get_urls()]

    def has_steer_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_change_permission(request)

    def has_recall_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Unfold decides on the button by it: there is nothing to recall where nothing is leased."""
        budget = self.get_object(request, str(object_id))
        leased = BudgetLease.objects.filter(window__budget=budget) if budget else BudgetLease.objects.none()
        return self.has_change_permission(request) and (request.method == "POST" or leased.exists())

    def _budget(self, request: HttpRequest, object_id: str) -> Budget:
        """:raises Http404: there is none, or its page is not this person's to change."""
        budget = self.get_object(request, object_id)
        if budget is None or not self.has_change_permission(request, budget):
            raise Http404("No such budget.")
        return budget

    def _question(self, request: HttpRequest, template: str, title: str, budget: Budget, **more: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "budget": budget}
        context |= {"budget_url": change_url(budget)} | more
        return TemplateResponse(request, f"admin/analytics/budget/{template}", context)


def tell(request: HttpRequest, raised: BudgetRaise) -> None:
    """What became of a raise, for whoever has just asked for it."""
    if raised.state == RaiseState.APPLIED:
        messages.success(request, f"The limit is ${raised.amount_to:,} now. Gateways know it within 2 seconds.")
    else:
        messages.warning(
            request,
            f"The raise to ${raised.amount_to:,} waits for approval by somebody else. Until then the limit stays "
            f"${raised.amount_from:,}.",
        )


def page_context(budget: Budget, now: datetime) -> dict[str, Any]:
    """What the upper part of a budget's page shows."""
    page = budget_page(budget, now=now)
    raises = raise_lines(budget)
    ends = page.state.ends_before
    return {
        "page": page,
        "now": now,
        "mode": mode_label(budget),
        "raises": raises,
        "waiting": next((line for line in raises if line.raised.state == RaiseState.REVIEW), None),
        "forecast_words": forecast_words(page.state, page.forecast),
        "is_running_out": is_running_out(page.state, page.forecast),
        "resets": resets_words(page.state, now),
        "resets_local": local_text(ends, budget.time_zone) if ends and budget.time_zone != "UTC" else "",
    }


def mode_label(budget: Budget) -> SafeString:
    text, tone, icon = MODES[BudgetMode(budget.mode)]
    return label(text, tone, icon=icon, title=budget.get_mode_display())


def money_cell(nano: int) -> SafeString:
    return format_html('<span class="cell-number">{}</span>', presentation.money(nano))


def states_by_budget(budgets: Iterable[Budget], now: datetime) -> dict[int, BudgetState]:
    return {state.budget.pk: state for state in budget_states(list(budgets), now=now)}
