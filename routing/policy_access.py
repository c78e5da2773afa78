"""Who may change the rules of policies, and how. Pages and APIs ask here before they call `services.lifecycle`."""

from django.contrib.auth.models import AnonymousUser, User

from routing.models import PolicyDraft
from routing.services.lifecycle import is_editable_by, review_required

Person = User | AnonymousUser
PROPOSE = "routing.add_policydraft"
EDIT = "routing.change_routingpolicy"
REVIEW = "routing.approve_policydraft"


def may_edit_rules(user: Person) -> bool:
    """Directly, on the policy's page."""
    return user.has_perm(EDIT) and not review_required()


def may_propose(user: Person) -> bool:
    return user.has_perm(PROPOSE)


def may_review(user: Person) -> bool:
    """Approve, reject, publish and roll back."""
    return user.has_perm(REVIEW)


def may_edit_draft(user: Person, draft: PolicyDraft) -> bool:
    return isinstance(user, User) and may_propose(user) and is_editable_by(draft, user)


def is_author(user: Person, draft: PolicyDraft) -> bool:
    return user.pk is not None and draft.author_id == user.pk


def may_approve(user: Person, draft: PolicyDraft) -> bool:
    """Never one's own where a second pair of eyes is asked for; nor one whose author nobody knows."""
    is_foreign = draft.author_id is not None and not is_author(user, draft)
    return may_review(user) and (is_foreign or not review_required())


def may_withdraw(user: Person, draft: PolicyDraft) -> bool:
    return is_author(user, draft) or may_review(user)
