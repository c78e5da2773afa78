"""What can be done with a draft, by whom and when: each is a button on its page, a question, and a service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib.auth.models import User
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
)

from routing.admin.rule_fields import StagesField
from routing.models import DraftState, PolicyDraft, validate_stages
from routing.policy_access import is_author, may_approve, may_propose, may_review, may_withdraw
from routing.services.lifecycle import (
    draft_approve,
    draft_rebase,
    draft_reject,
    draft_reopen,
    draft_submit,
    draft_withdraw,
    is_stale,
)
from routing.services.rollouts import draft_abort, draft_advance, draft_publish, draft_schedule

STAGES: Final = [5, 25, 50, 100]
STAGE_MINUTES: Final = 10


class NothingToSay(forms.Form):
    """A question that is answered by its button alone."""


class NoteForm(forms.Form):
    note = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget, help_text="Kept with the draft.")


class ApprovalForm(NoteForm):
    """`submitted_at` says which submission the reviewer has read."""

    submitted_at = forms.DateTimeField(required=False, widget=forms.HiddenInput)


class AdvanceForm(forms.Form):
    """`percent` says from which stage on: who presses twice goes on once."""

    percent = forms.IntegerField(required=False, widget=forms.HiddenInput)


class ReasonForm(forms.Form):
    note = forms.CharField(
        label="What is wrong with it", widget=UnfoldAdminTextareaWidget, help_text="Its author reads it."
    )


class StagesForm(forms.Form):
    stages = StagesField(
        label="Shares of the requests (%)",
        validators=[validate_stages],
        help_text="Rising, the last one 100, for example 5, 25, 50, 100.",
    )
    stage_minutes = forms.IntegerField(
        label="Minutes per stage", min_value=1, max_value=43_200, widget=UnfoldAdminIntegerFieldWidget
    )


class ScheduleForm(forms.Form):
    publish_at = forms.SplitDateTimeField(
        label="Publish at",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="UTC. In its own stages, if it has any. Empty: when somebody publishes it.",
    )


Act = Callable[[PolicyDraft, User, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Move:
    """`act` does it and says what it did; `may` is asked when the button is shown and again when it is pressed."""

    label: str
    icon: str
    question: str
    explanation: tuple[str, ...]
    states: tuple[DraftState, ...]
    may: Callable[[User, PolicyDraft], bool]
    act: Act
    form: type[forms.Form] = NothingToSay
    tone: str = "primary"
    shows_changes: bool = False
    when: Callable[[PolicyDraft], bool] = lambda draft: True

    def is_open_to(self, user: User, draft: PolicyDraft) -> bool:
        return draft.state in self.states and self.when(draft) and self.may(user, draft)

    def initial(self, draft: PolicyDraft) -> dict[str, Any]:
        """What the form begins with."""
        own = len(draft.stages) > 1
        return {
            "stages": draft.stages if own else STAGES,
            "stage_minutes": draft.stage_minutes if own else STAGE_MINUTES,
            "publish_at": draft.publish_at,
            "submitted_at": draft.submitted_at.isoformat() if draft.submitted_at else "",
            "percent": draft.percent,
        }


def _submit(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_submit(draft=draft, by=by)
    return "Submitted: it waits for a review."


def _approve(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_approve(draft=draft, by=by, note=given["note"], seen=given["submitted_at"])
    return "Approved. It can be published."


def _reject(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_reject(draft=draft, by=by, note=given["note"])
    return "Rejected. Its author may change it and submit it again."


def _publish(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    published = draft_publish(draft=draft, stages=[100])
    return f"Published as version {published.version}. Gateways follow within 2 seconds."


def _publish_in_stages(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    published = draft_publish(draft=draft, stages=given["stages"], stage_minutes=given["stage_minutes"])
    return f"Version {published.version} is followed by {published.percent} % of the requests within 2 seconds."


def _schedule(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_schedule(draft=draft, at=given["publish_at"], now=timezone.now())
    at = given["publish_at"]
    return f"It is published on {at:%-d %b %Y at %H:%M} UTC." if at else "It is published when somebody does it."


def _advance(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    moved = draft_advance(draft=draft, at_stage=given["percent"] or draft.percent)
    if moved.state == DraftState.PUBLISHED:
        return f"Version {moved.version} is in force for all requests."
    return f"Version {moved.version} is followed by {moved.percent} % of the requests within 2 seconds."


def _abort(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_abort(draft=draft, note=given["note"] or f"Rollout aborted by {by.get_username()}")
    return "Aborted: within 2 seconds every request follows what is in force. The draft stays approved."


def _withdraw(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_withdraw(draft=draft, by=by, note=given["note"])
    return "Withdrawn. It stays to be read."


def _rebase(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    moved = draft_rebase(draft=draft, by=by)
    return f"It is made from version {moved.base_version} now. Look through it and submit it."


def _reopen(draft: PolicyDraft, by: User, given: Mapping[str, Any]) -> str:
    draft_reopen(draft=draft, by=by)
    return "It is a draft again. What was approved has to be approved again."


def _is_own(user: User, draft: PolicyDraft) -> bool:
    return is_author(user, draft) and may_propose(user)


def _may_review(user: User, draft: PolicyDraft) -> bool:
    return may_review(user)


MOVES: Final[dict[str, Move]] = {
    "submit": Move(
        "Submit for review",
        "send",
        "Submit",
        ("From then on it stays as it is until it is approved, rejected or taken back.",),
        (DraftState.DRAFT,),
        _is_own,
        _submit,
        shows_changes=True,
        when=lambda draft: not is_stale(draft),
    ),
    "approve": Move(
        "Approve",
        "task_alt",
        "Approve",
        ("Whoever may publish can put it into force from then on.",),
        (DraftState.REVIEW,),
        may_approve,
        _approve,
        form=ApprovalForm,
        shows_changes=True,
        when=lambda draft: not is_stale(draft),
    ),
    "publish": Move(
        "Publish now",
        "rocket_launch",
        "Publish",
        ("All requests follow it within 2 seconds. Other drafts of the policy have to be rebased then.",),
        (DraftState.APPROVED,),
        _may_review,
        _publish,
        shows_changes=True,
        when=lambda draft: not is_stale(draft),
    ),
    "publish-in-stages": Move(
        "Publish in stages",
        "trending_up",
        "Publish in stages",
        (
            "A share of the requests follows it first, always the same conversations; the share grows stage by stage.",
            "It stops by itself when the policy is changed otherwise meanwhile.",
        ),
        (DraftState.APPROVED,),
        _may_review,
        _publish_in_stages,
        form=StagesForm,
        shows_changes=True,
        when=lambda draft: not is_stale(draft),
    ),
    "advance": Move(
        "Advance",
        "fast_forward",
        "Go on to the next stage of",
        ("It does not wait for the end of this stage.",),
        (DraftState.ROLLING_OUT,),
        _may_review,
        _advance,
        form=AdvanceForm,
    ),
    "abort": Move(
        "Abort the rollout",
        "emergency_home",
        "Abort the rollout of",
        ("Within 2 seconds every request follows what is in force. The draft stays approved.",),
        (DraftState.ROLLING_OUT,),
        _may_review,
        _abort,
        form=NoteForm,
        tone="danger",
    ),
    "schedule": Move(
        "Schedule",
        "schedule",
        "Schedule",
        ("A worker publishes it then, if it is approved and nothing else was published meanwhile.",),
        (DraftState.APPROVED,),
        _may_review,
        _schedule,
        form=ScheduleForm,
        tone="default",
    ),
    "rebase": Move(
        "Rebase",
        "merge",
        "Rebase",
        (
            "Its changes are made on top of what is in force now. Where both have changed the same, it is named and "
            "nothing happens.",
            "What was approved has to be approved again.",
        ),
        (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.REJECTED),
        _is_own,
        _rebase,
        when=is_stale,
    ),
    "reopen": Move(
        "Edit again",
        "edit",
        "Edit",
        ("It becomes a draft again; what was approved has to be approved again.",),
        (DraftState.REVIEW, DraftState.APPROVED),
        _is_own,
        _reopen,
        tone="default",
    ),
    "reject": Move(
        "Reject",
        "undo",
        "Reject",
        ("It goes back to its author.",),
        (DraftState.REVIEW, DraftState.APPROVED),
        _may_review,
        _reject,
        form=ReasonForm,
        tone="danger",
    ),
    "withdraw": Move(
        "Withdraw",
        "block",
        "Withdraw",
        ("It is given up for good. It stays to be read.",),
        (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.REJECTED),
        may_withdraw,
        _withdraw,
        form=NoteForm,
        tone="default",
    ),
}
