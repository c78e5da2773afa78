"""Pages of policy drafts: what would change, what speaks against it, and who does what next."""

from collections.abc import Mapping
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.forms import Form, ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter

from providers.admin.cells import NOTHING, Tone, aligned, label, moment
from providers.admin.pages import HistoryAdmin, change_url
from routing.admin.draft_moves import MOVES
from routing.admin.ordering import renumber
from routing.admin.questions import Question, asked_page
from routing.admin.rule_fields import LOOKED_AT, RULE_SECTIONS, RuleCandidates, RulesPage, as_saved, sections_for
from routing.domain.policy_diff import policy_changes
from routing.domain.policy_words import rules_in_words
from routing.models import DraftCandidate, DraftState, PolicyDraft
from routing.policy_access import is_author, may_edit_draft
from routing.policy_selectors import policy_complaints
from routing.services.lifecycle import EDITABLE, draft_edited, draft_locked, is_stale, is_tried, review_required
from routing.services.policy_rules import document_at, document_of, version_ensure

TONES: Mapping[str, tuple[Tone, str]] = {
    DraftState.DRAFT: (Tone.QUIET, "edit_note"),
    DraftState.REVIEW: (Tone.WARN, "rate_review"),
    DraftState.APPROVED: (Tone.INFO, "task_alt"),
    DraftState.ROLLING_OUT: (Tone.INFO, "trending_up"),
    DraftState.PUBLISHED: (Tone.GOOD, "check_circle"),
    DraftState.REJECTED: (Tone.BAD, "undo"),
    DraftState.WITHDRAWN: (Tone.QUIET, "block"),
}
OPEN = (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.ROLLING_OUT, DraftState.REJECTED)


class DraftRows(RuleCandidates):
    """Who may edit the draft edits its models."""

    model = DraftCandidate

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and may_edit_draft(request.user, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # of whoever sees the page


@admin.register(PolicyDraft)
class PolicyDraftAdmin(RulesPage, HistoryAdmin[PolicyDraft]):
    list_display = ["title", "policy_link", "state_label", "share", "base", "by", "made", "approved_by", "due"]
    list_display_links = ["title"]
    list_select_related = ["policy", "author", "reviewer"]
    list_filter = [
        ("state", ChoicesCheckboxFilter),
        ("policy", AutocompleteSelectFilter),
        ("author", AutocompleteSelectFilter),
    ]
    search_fields = ["title", "note", "policy__name"]
    search_help_text = "What changes, why, or the policy"
    inlines = [DraftRows]
    change_form_outer_before_template = "admin/routing/policydraft/panel.html"

    # --- the form ---------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: PolicyDraft | None = None) -> Any:
        about = ("What changes, and why", {"fields": ["title", "note"]})
        goes = ("How it goes into force", {"fields": ["publish_at", ("stages", "stage_minutes")]})
        if obj is None or self.has_change_permission(request, obj):
            return [about, *RULE_SECTIONS, goes]
        looked_at = ("How it goes into force", {"fields": ["publish_at", ("stages_shown", "stage_minutes")]})
        return [about, *sections_for(obj.strategy), looked_at]

    def get_readonly_fields(self, request: HttpRequest, obj: PolicyDraft | None = None) -> list[str]:
        return list(LOOKED_AT)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A draft begins on the page of its policy."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PolicyDraft | None = None) -> bool:
        """It is withdrawn, and stays to be read."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: PolicyDraft | None = None) -> bool:
        """Whoever sees policies may see what is proposed for them."""
        user = cast(User, request.user)
        may_see = user.has_perm("routing.view_routingpolicy") or user.has_perm("routing.approve_policydraft")
        return super().has_view_permission(request, obj) or may_see

    def has_change_permission(self, request: HttpRequest, obj: PolicyDraft | None = None) -> bool:
        return isinstance(obj, PolicyDraft) and may_edit_draft(request.user, obj)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        draft = as_saved(context.get("original"), request)
        if draft is not None:
            refused = [
                str(said) for rows in context["inline_admin_formsets"] for said in rows.formset.non_form_errors()
            ]
            context |= {"original": draft, "refused": refused} | self._panel(request, draft)
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: PolicyDraft, form: ModelForm[PolicyDraft], change: bool) -> None:
        """Looks again, with the policy's row held: it may have been submitted a moment ago."""
        if not may_edit_draft(request.user, draft_locked(obj)):
            raise PermissionDenied
        super().save_model(request, obj, form, change)
        draft_edited(draft=obj, by=cast(User, request.user))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        renumber(form.instance, "candidates")

    def response_change(self, request: HttpRequest, obj: PolicyDraft) -> HttpResponse:
        """Back to its own page: what comes next is there."""
        if "_save" in request.POST:
            messages.success(request, "The draft is saved. Below is what it changes.")
            return HttpResponseRedirect(change_url(obj))
        return super().response_change(request, obj)

    def _panel(self, request: HttpRequest, draft: PolicyDraft) -> dict[str, Any]:
        """What stands above the form."""
        user = cast(User, request.user)
        document, is_open = document_of(draft), draft.state in OPEN
        return {
            "state": state_label(draft),
            "rule": rules_in_words(document),
            "timeline": timeline(draft),
            "changes": changes_of(draft),
            "complaints": policy_complaints(draft.policy, document, now=timezone.now()) if is_open else [],
            "is_open": is_open,
            "is_stale": is_open and is_stale(draft),
            "moves": [(name, move) for name, move in MOVES.items() if move.is_open_to(user, draft)],
            "waits_for": waits_for(user, draft),
            "policy_url": change_url(draft.policy),
        }

    # --- the moves --------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.move)
        return [path("<int:object_id>/<slug:name>/", view, name="routing_policydraft_move"), *super().get_urls()]

    def move(self, request: HttpRequest, object_id: int, name: str) -> HttpResponse:
        """Ask, then do it. Looks again at what was offered: the page may be old, and its reader somebody else."""
        if name not in MOVES:
            return self._not_a_move(request, object_id, name)
        move = MOVES[name]
        draft = self._draft(request, object_id)
        user = cast(User, request.user)
        if not move.may(user, draft):
            raise PermissionDenied
        if request.method == "POST":  # a change that nobody recorded makes it stale, and its page has to say so
            version_ensure(policy=draft.policy)
        form = move.form(request.POST if request.method == "POST" else None, initial=move.initial(draft))
        if request.method == "POST" and form.is_valid():
            try:
                said = move.act(draft, user, form.cleaned_data)
            except ValidationError as error:
                _complain(form, error)
            else:
                self.log_change(request, draft, said)
                messages.success(request, said)
                return HttpResponseRedirect(change_url(draft))
        question = Question(
            f"{move.question} “{draft.title}”?",
            move.explanation,
            move.label,
            change_url(draft),
            tone=move.tone,
            form=form,
            changes=changes_of(draft) if move.shows_changes else (),
        )
        return asked_page(self, request, move.label, question)

    def _not_a_move(self, request: HttpRequest, object_id: int, name: str) -> HttpResponse:
        """The addresses of Django's own pages have the same shape."""
        match name:
            case "change":
                return self.change_view(request, str(object_id))
            case "history":
                return self.history_view(request, str(object_id))
            case "delete":
                return self.delete_view(request, str(object_id))
        raise Http404("No such page of a draft.")

    def _draft(self, request: HttpRequest, object_id: int) -> PolicyDraft:
        """:raises Http404: there is none, or it is not this person's to see."""
        draft = self.get_queryset(request).select_related("policy", "author").filter(pk=object_id).first()
        if draft is None or not self.has_view_permission(request, draft):
            raise Http404("No such draft.")
        return draft

    # --- the list ---------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[PolicyDraft]:
        return super().get_queryset(request).select_related("policy", "author", "reviewer")

    @admin.display(description="policy", ordering="policy__name")
    def policy_link(self, draft: PolicyDraft) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(draft.policy), draft.policy)

    @admin.display(description="state", ordering="state")
    def state_label(self, draft: PolicyDraft) -> SafeString:
        return state_label(draft)

    @admin.display(description="share", ordering="percent")
    def share(self, draft: PolicyDraft) -> SafeString:
        return aligned(f"{draft.percent} %" if draft.percent else "–")

    @admin.display(description="from", ordering="base_version")
    def base(self, draft: PolicyDraft) -> SafeString:
        stale = draft.state in OPEN and is_stale(draft)
        return label(f"v{draft.base_version}, stale", Tone.WARN) if stale else aligned(f"v{draft.base_version}")

    @admin.display(description="author", ordering="author__username")
    def by(self, draft: PolicyDraft) -> str | SafeString:
        return str(draft.author) if draft.author else NOTHING

    @admin.display(description="made", ordering="created_at")
    def made(self, draft: PolicyDraft) -> SafeString:
        return moment(draft.created_at)

    @admin.display(description="reviewed by", ordering="reviewer__username")
    def approved_by(self, draft: PolicyDraft) -> str | SafeString:
        return str(draft.reviewer) if draft.reviewer else NOTHING

    @admin.display(description="goes into force", ordering="publish_at")
    def due(self, draft: PolicyDraft) -> SafeString:
        return moment(draft.publish_at or draft.closed_at if draft.state == DraftState.PUBLISHED else draft.publish_at)


def state_label(draft: PolicyDraft) -> SafeString:
    tone, icon = TONES[draft.state]
    return label(draft.get_state_display(), tone, icon=icon)


def changes_of(draft: PolicyDraft) -> list[Any]:
    """Compared with what is in force; of a closed draft, with what it was made from."""
    after = document_of(draft)
    if draft.state in OPEN:
        return policy_changes(document_of(draft.policy), after)
    try:
        return policy_changes(document_at(draft.policy, draft.base_version), after)
    except ValidationError:
        return []


def timeline(draft: PolicyDraft) -> list[tuple[str, str, Any, bool]]:
    """(what, who, when, is done) in the order in which it happens."""
    rejected = draft.state == DraftState.REJECTED
    approved = draft.state in (DraftState.APPROVED, DraftState.ROLLING_OUT, DraftState.PUBLISHED)
    reviewed = ("Rejected" if rejected else "Approved", str(draft.reviewer or ""), draft.reviewed_at)
    steps = [
        ("Proposed", str(draft.author or ""), draft.created_at, True),
        ("In review", "", draft.submitted_at, draft.submitted_at is not None),
        (*reviewed, approved or rejected),
    ]
    if draft.state == DraftState.ROLLING_OUT or len(draft.stages) > 1:
        rolling = draft.state == DraftState.ROLLING_OUT
        share = f"{draft.percent} % of the requests" if rolling else ", ".join(f"{one} %" for one in draft.stages)
        steps.append(("Rolling out", share, draft.stage_since, rolling or draft.state == DraftState.PUBLISHED))
    if draft.state == DraftState.WITHDRAWN:
        return [*steps, ("Withdrawn", "", draft.closed_at, True)]
    version = f"version {draft.version}" if draft.state == DraftState.PUBLISHED else ""
    return [*steps, ("In force", version, draft.closed_at or draft.publish_at, draft.state == DraftState.PUBLISHED)]


def waits_for(user: User, draft: PolicyDraft) -> str:
    """In words, whose turn it is; empty when nobody's."""
    match draft.state:
        case DraftState.REVIEW if review_required() and is_author(user, draft):
            return "Somebody else has to approve it: a second pair of eyes is asked for here."
        case DraftState.REVIEW if review_required() and draft.author is None:
            return "Its author is gone, so nobody can approve it: withdraw it, and propose it again."
        case DraftState.REVIEW:
            return "It waits for a review."
        case DraftState.APPROVED if draft.publish_at:
            return "It goes into force at the appointed time."
        case DraftState.APPROVED:
            return "It waits for somebody to publish it."
        case state if state in EDITABLE and is_tried(draft):
            return "An experiment tries it: its rules stay as they are until that is stopped."
        case state if state in EDITABLE and not is_author(user, draft):
            return f"Only its author, {draft.author or 'who is gone'}, edits it."
    return ""


def _complain(form: Form, error: ValidationError) -> None:
    if hasattr(error, "error_dict") and set(error.error_dict) <= set(form.fields):
        form.add_error(None, error)
    else:
        form.add_error(None, error.messages)
