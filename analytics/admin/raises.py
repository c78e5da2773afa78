"""Raises of budgets: those that wait for a second person, and what became of the others."""

from dataclasses import dataclass
from typing import Any, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from analytics.models import Budget, BudgetRaise, RaiseState
from analytics.selectors.budgets import budget_states
from analytics.services.budget_raises import is_stale, may_decide, raise_apply, raise_reject, raise_withdraw
from providers.admin.cells import NOTHING, Tone, aligned, clipped, label, moment
from providers.admin.pages import ReadOnlyAdmin, change_url, page_action

STATES: Final = {
    RaiseState.REVIEW: ("In review", Tone.WARN, "hourglass_top"),
    RaiseState.APPLIED: ("Applied", Tone.GOOD, "check"),
    RaiseState.REJECTED: ("Rejected", Tone.BAD, "block"),
    RaiseState.WITHDRAWN: ("Withdrawn", Tone.QUIET, "undo"),
}
LINES_SHOWN: Final = 12
NOTE_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class RaiseLine:
    """A raise as the page of its budget shows it. `url` is empty for whom its own page is closed."""

    raised: BudgetRaise
    state: SafeString
    is_stale: bool
    url: str


def raise_lines(budget: Budget) -> list[RaiseLine]:
    """The latest raises of a budget."""
    rows = BudgetRaise.objects.filter(budget=budget).select_related("author", "reviewer", "budget")[:LINES_SHOWN]
    return [RaiseLine(row, state_label(row), is_stale(row), change_url(row)) for row in rows]


def state_label(raised: BudgetRaise) -> SafeString:
    text, tone, icon = STATES[RaiseState(raised.state)]
    if is_stale(raised):
        return label("Outdated", Tone.BAD, icon="sync_problem", title="The budget’s amount has changed since.")
    return label(text, tone, icon=icon)


class NoteForm(forms.Form):
    note = forms.CharField(
        max_length=NOTE_LENGTH, required=False, widget=UnfoldAdminTextInputWidget, help_text="Kept with the raise."
    )

    def __init__(self, data: Any = None, *, is_required: bool) -> None:
        super().__init__(data)
        self.fields["note"].required = is_required
        if is_required:
            self.fields["note"].help_text = "Why, for whoever has asked for it."


@admin.register(BudgetRaise)
class BudgetRaiseAdmin(ReadOnlyAdmin[BudgetRaise]):
    list_display = ["of", "change", "why", "asked", "state_now", "decided"]
    list_display_links = ["of"]
    list_select_related = ["budget__team", "budget__key", "budget__persona", "budget__alias", "author", "reviewer"]
    list_filter = [("state", ChoicesCheckboxFilter)]
    search_fields = [
        "budget__team__name",
        "budget__key__name",
        "budget__persona__slug",
        "budget__alias__name",
        "reason",
    ]
    search_help_text = "Team, key, persona, model alias or reason"
    fieldsets = [
        ("The raise", {"fields": ["budget_link", "change", "why", "asked"]}),
        ("What became of it", {"fields": ["state_now", "decided", "note"]}),
    ]
    readonly_fields = ["budget_link", "change", "why", "asked", "state_now", "decided", "note"]
    actions_detail = ["approve", "reject", "withdraw"]

    # --- the cells --------------------------------------------------------------------------------------------------

    @admin.display(description="budget", ordering="budget")
    def of(self, row: BudgetRaise) -> SafeString:
        budget = row.budget
        return format_html(
            '{}<span class="cell-tag">{}, {}</span>', budget.subject, budget.get_scope_display(), budget.per
        )

    @admin.display(description="budget")
    def budget_link(self, row: BudgetRaise) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(row.budget), row.budget)

    @admin.display(description="raise")
    def change(self, row: BudgetRaise) -> SafeString:
        return aligned(f"${row.amount_from:,} → ${row.amount_to:,}")

    @admin.display(description="why")
    def why(self, row: BudgetRaise) -> SafeString:
        return clipped(row.reason) if row.reason else NOTHING

    @admin.display(description="asked for", ordering="created_at")
    def asked(self, row: BudgetRaise) -> SafeString:
        return format_html('{}<span class="cell-tag">{}</span>', moment(row.created_at), row.author or "nobody known")

    @admin.display(description="state", ordering="state")
    def state_now(self, row: BudgetRaise) -> SafeString:
        return state_label(row)

    @admin.display(description="decided", ordering="reviewed_at")
    def decided(self, row: BudgetRaise) -> SafeString:
        if row.reviewed_at is None:
            return NOTHING
        return format_html(
            '{}<span class="cell-tag">{}</span>', moment(row.reviewed_at), row.reviewer or "nobody known"
        )

    @admin.display(description="note")
    def note(self, row: BudgetRaise) -> str | SafeString:
        return row.review_note or NOTHING

    # --- deciding ---------------------------------------------------------------------------------------------------

    @page_action(
        description="Approve", url_path="approve", icon="check", variant=ActionVariant.PRIMARY, permissions=["approve"]
    )
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        raised = self._raise(request, object_id, self.has_approve_permission(request, object_id))
        form = NoteForm(request.POST if request.method == "POST" else None, is_required=False)
        if not form.is_valid():
            return self._question(request, raised, form, "approve")
        return self._done(request, raised, form, "approve")

    @page_action(description="Reject", url_path="reject", icon="block", permissions=["reject"])
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        raised = self._raise(request, object_id, self.has_reject_permission(request, object_id))
        form = NoteForm(request.POST if request.method == "POST" else None, is_required=True)
        if not form.is_valid():
            return self._question(request, raised, form, "reject")
        return self._done(request, raised, form, "reject")

    @page_action(description="Withdraw", url_path="withdraw", icon="undo", permissions=["withdraw"])
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        raised = self._raise(request, object_id, self.has_withdraw_permission(request, object_id))
        form = NoteForm(request.POST if request.method == "POST" else None, is_required=False)
        if request.method != "POST":
            return self._question(request, raised, form, "withdraw")
        form.is_valid()
        return self._done(request, raised, form, "withdraw")

    def _done(self, request: HttpRequest, raised: BudgetRaise, form: NoteForm, what: str) -> HttpResponse:
        """Decide, and go back to the raise; who was too late is told."""
        by, note = cast(User, request.user), form.cleaned_data.get("note", "")
        try:
            match what:
                case "approve":
                    raise_apply(raised=raised, by=by, note=note)
                    said = f"The limit is ${raised.amount_to:,} now. Gateways know it within 2 seconds."
                case "reject":
                    raise_reject(raised=raised, by=by, note=note)
                    said = f"Rejected. The limit stays ${raised.budget.max_budget:,}."
                case _:
                    raise_withdraw(raised=raised, by=by)
                    said = f"Withdrawn. The limit stays ${raised.budget.max_budget:,}."
        except ValidationError as error:
            messages.error(request, error.messages[0])
        else:
            self.log_change(request, raised, f"{STATES_DONE[what]}: {note}".rstrip(": "))
            messages.success(request, said)
        return HttpResponseRedirect(change_url(raised))

    def _question(self, request: HttpRequest, raised: BudgetRaise, form: NoteForm, what: str) -> HttpResponse:
        [state] = budget_states([raised.budget], now=timezone.now())
        context = {
            **self.admin_site.each_context(request),
            "title": f"{what.capitalize()} a raise",
            "opts": self.opts,
            "raised": raised,
            "raise_url": change_url(raised),
            "state": state,
            "form": form if what != "withdraw" else None,
            "what": what,
            "is_stale": is_stale(raised),
        }
        return TemplateResponse(request, "admin/analytics/budgetraise/decide.html", context)

    # --- who may ----------------------------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may ask for a raise, or approve one, sees them too."""
        also = ("analytics.change_budget", "analytics.approve_budgetraise")
        return super().has_view_permission(request, obj) or any(map(request.user.has_perm, also))

    def has_approve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Unfold decides on the button by it: there is none to one's own raise, and to one that has been decided."""
        raised = self._waiting(request, object_id)
        return (
            raised is not None and may_decide(raised, cast(User, request.user)) and not self._is_late(request, raised)
        )

    def has_reject_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        raised = self._waiting(request, object_id)
        return raised is not None and may_decide(raised, cast(User, request.user))

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        raised = self._waiting(request, object_id)
        return raised is not None and raised.author_id == request.user.pk

    def _is_late(self, request: HttpRequest, raised: BudgetRaise) -> bool:
        """Whether approving it comes to nothing; who has sent the form by then is told so."""
        return request.method != "POST" and is_stale(raised)

    def _waiting(self, request: HttpRequest, object_id: Any) -> BudgetRaise | None:
        """The raise of the page, while somebody has to decide on it; in any state for a form that was sent."""
        raised = self.get_object(request, str(object_id)) if object_id else None
        is_open = raised is not None and (raised.state == RaiseState.REVIEW or request.method == "POST")
        return raised if is_open else None

    def _raise(self, request: HttpRequest, object_id: str, is_allowed: bool) -> BudgetRaise:
        """:raises Http404: there is none, or this person may not decide on it."""
        raised = self.get_object(request, object_id)
        if raised is None or not is_allowed:
            raise Http404("No such raise.")
        return raised


STATES_DONE: Final = {"approve": "Approved", "reject": "Rejected", "withdraw": "Withdrawn"}
