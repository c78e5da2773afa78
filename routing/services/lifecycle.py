"""How a policy's rules change: a draft is proposed, reviewed, approved, published; or an edit is recorded at once.

With POLICY_REVIEW on, author and approver of a draft are different people and there is no other way. Who may do what
at all is `routing.policy_access`: pages and APIs ask there first. Each function holds the policy's row while it works,
so of two people who press the same button one is told that the other was first.
"""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from routing.domain.documents import PolicyDocument, same_rules
from routing.domain.policy_diff import Collision, rebased
from routing.models import DraftState, ExperimentState, PolicyDraft, RoutingPolicy
from routing.policy_selectors import policy_complaints
from routing.services.policy_rules import document_at, document_of, policy_locked, rules_write, version_ensure

CLOSED_NOTE_LENGTH: Final = 300
EDITABLE: Final = (DraftState.DRAFT, DraftState.REJECTED)


def review_required() -> bool:
    """Whether rules change only through drafts that somebody else has approved."""
    return bool(settings.POLICY_REVIEW)


@transaction.atomic
def draft_create(
    *,
    policy: RoutingPolicy,
    by: User | None,
    title: str,
    note: str = "",
    version: int | None = None,
    document: PolicyDocument | None = None,
    base_version: int | None = None,
) -> PolicyDraft:
    """A draft to edit: a copy of the rules in force, of what an older `version` said, or of `document`. It is made from
    what is in force, unless `base_version` says from which version its rules were made: that records no version.

    :raises ValidationError: no title, no such version, a model of it does not exist any more.
    """
    if base_version is None:
        base_version = version_ensure(policy=policy).number
    if document is None:
        document = document_of(policy_locked(policy)) if version is None else document_at(policy, version)
    draft = PolicyDraft(policy=policy, title=title, note=note, base_version=base_version, author=by)
    draft.full_clean(exclude=["policy", "author"], validate_constraints=False)
    draft.save()
    rules_write(owner=draft, document=document)
    return draft


@transaction.atomic
def draft_submit(*, draft: PolicyDraft, by: User, now: datetime | None = None) -> PolicyDraft:
    """Ask for a review of it.

    :raises ValidationError: it changes nothing, is stale, or cannot be published as it is.
    """
    locked = draft_locked(draft)
    required_state(locked, (DraftState.DRAFT,), "submitted")
    _require_author(locked, by, "submits")
    require_untried(locked)
    now = now or timezone.now()
    if same_rules(document_of(locked), document_of(locked.policy)):
        raise ValidationError("It changes nothing: its rules are those in force.")
    publishable(locked, now=now)
    draft_moved(
        locked, DraftState.REVIEW, submitted_at=now, reviewer=None, reviewed_at=None, review_note="", closed_note=""
    )
    return locked


@transaction.atomic
def draft_approve(
    *, draft: PolicyDraft, by: User, note: str = "", now: datetime | None = None, seen: datetime | None = None
) -> PolicyDraft:
    """Let it be published; by its author only where no second pair of eyes is asked for.

    `seen` is when what the reviewer has read was submitted: what was changed and submitted again since is not approved.

    :raises ValidationError: it is not in review, is not what was read, or was somebody's own; it is stale or cannot be
        published.
    """
    locked = draft_locked(draft)
    required_state(locked, (DraftState.REVIEW,), "approved")
    if seen is not None and locked.submitted_at != seen:
        raise ValidationError("It was taken back and submitted again since you opened this page. Read it again first.")
    if review_required() and (locked.author_id is None or locked.author_id == by.pk):
        raise ValidationError("Somebody else than its author has to approve it.")
    now = now or timezone.now()
    publishable(locked, now=now)
    draft_moved(locked, DraftState.APPROVED, reviewer=by, reviewed_at=now, review_note=note, closed_note="")
    return locked


@transaction.atomic
def draft_reject(*, draft: PolicyDraft, by: User, note: str, now: datetime | None = None) -> PolicyDraft:
    """Give it back, with what is wrong with it; its author may change it and submit it again."""
    locked = draft_locked(draft)
    required_state(locked, (DraftState.REVIEW, DraftState.APPROVED), "rejected")
    require_untried(locked)
    if not note.strip():
        raise ValidationError("Say what is wrong with it, so that its author can mend it.")
    draft_moved(locked, DraftState.REJECTED, reviewer=by, reviewed_at=now or timezone.now(), review_note=note)
    return locked


@transaction.atomic
def draft_reopen(*, draft: PolicyDraft, by: User) -> PolicyDraft:
    """Take it back for another edit; what was approved has to be approved again."""
    locked = draft_locked(draft)
    required_state(locked, (DraftState.REVIEW, DraftState.APPROVED, DraftState.REJECTED), "edited again")
    _require_author(locked, by, "takes it back")
    require_untried(locked)
    draft_moved(locked, DraftState.DRAFT, reviewer=None, reviewed_at=None, submitted_at=None, closed_note="")
    return locked


@transaction.atomic
def draft_withdraw(*, draft: PolicyDraft, by: User, note: str = "", now: datetime | None = None) -> PolicyDraft:
    """Give it up for good. A rollout is aborted first, an experiment stopped."""
    locked = draft_locked(draft)
    required_state(locked, (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.REJECTED), "withdrawn")
    require_untried(locked)
    said = note or f"Withdrawn by {by.get_username()}"
    draft_moved(locked, DraftState.WITHDRAWN, closed_at=now or timezone.now(), closed_note=said[:CLOSED_NOTE_LENGTH])
    return locked


@transaction.atomic
def draft_rebase(*, draft: PolicyDraft, by: User) -> PolicyDraft:
    """Make its change on top of what is in force now. What had been reviewed has to be reviewed again.

    :raises ValidationError: it is not stale, or both have changed the same fields: those are named.
    """
    locked = draft_locked(draft)
    required_state(locked, (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED, DraftState.REJECTED), "rebased")
    _require_author(locked, by, "rebases")
    require_untried(locked)
    policy = locked.policy
    version_ensure(policy=policy)
    if locked.base_version == policy.version:
        raise ValidationError(f"It is made from version {policy.version}, which is in force: there is nothing to do.")
    base, ours = document_at(policy, locked.base_version), document_of(locked)
    try:
        merged = rebased(base, document_of(policy), ours)
    except Collision as error:
        names = ", ".join(error.labels)
        raise ValidationError(
            f"Version {policy.version} and this draft have both changed: {names}. Make a new draft from what is in "
            "force and change it there."
        ) from error
    rules_write(owner=locked, document=merged)
    draft_moved(
        locked,
        DraftState.DRAFT,
        base_version=policy.version,
        reviewer=None,
        reviewed_at=None,
        submitted_at=None,
        closed_note="",
    )
    return locked


def draft_edited(*, draft: PolicyDraft, by: User) -> None:
    """After its form was saved: a rejected draft that is edited is a draft again."""
    if draft.state == DraftState.REJECTED:
        draft_reopen(draft=draft, by=by)


# --- what the moves have in common ----------------------------------------------------------------------------------


def draft_locked(draft: PolicyDraft) -> PolicyDraft:
    """The draft as it is now, its policy's row held until the transaction ends."""
    policy = policy_locked(draft.policy)
    locked = PolicyDraft.objects.get(pk=draft.pk)
    locked.policy = policy
    return locked


def is_editable_by(draft: PolicyDraft, user: User) -> bool:
    """Only its author edits a draft, so that nobody approves what is his own in part. One without an author, and one
    that an experiment tries, is edited by nobody."""
    return draft.state in EDITABLE and draft.author_id == user.pk and not is_tried(draft)


def is_tried(draft: PolicyDraft) -> bool:
    return draft.experiments.filter(state=ExperimentState.RUNNING).exists()


def require_untried(draft: PolicyDraft) -> None:
    """What an experiment tries stays as it is, approval included: its figures are about these rules, and callers may
    be served by them."""
    name = draft.experiments.filter(state=ExperimentState.RUNNING).values_list("name", flat=True).first()
    if name:
        raise ValidationError(f"The experiment {name} tries it. Stop that first.")


def is_stale(draft: PolicyDraft) -> bool:
    """Whether something else has been published since it was made."""
    return draft.base_version != draft.policy.version


def publishable(draft: PolicyDraft, *, now: datetime) -> None:
    """:raises ValidationError: with everything that keeps it from being put into force."""
    version_ensure(policy=draft.policy)
    if is_stale(draft):
        raise ValidationError(
            f"It was made from version {draft.base_version}, and version {draft.policy.version} is in force. Rebase it."
        )
    rules_checked(policy=draft.policy, document=document_of(draft), now=now)


def rules_checked(*, policy: RoutingPolicy, document: PolicyDocument, now: datetime) -> None:
    """:raises ValidationError: with every complaint against putting `document` into force."""
    found = policy_complaints(policy, document, now=now)
    if found:
        raise ValidationError([one.text for one in found])


def required_state(draft: PolicyDraft, states: tuple[DraftState, ...], what: str) -> None:
    if draft.state not in states:
        wanted = " or ".join(f"“{state.label.lower()}”" for state in states)
        raise ValidationError(
            f"It is “{draft.get_state_display().lower()}” by now: only what is {wanted} can be {what}."
        )


def _require_author(draft: PolicyDraft, by: User, what: str) -> None:
    if draft.author_id is not None and draft.author_id != by.pk:
        raise ValidationError(f"Only its author, {draft.author}, {what}.")


def draft_moved(draft: PolicyDraft, state: DraftState, **fields: object) -> None:
    for name, value in {"state": state, **fields}.items():
        setattr(draft, name, value)
    draft.save(update_fields=["state", *fields])
