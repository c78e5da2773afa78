"""Editing a draft as a whole, by something other than its page."""

from collections.abc import Mapping

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from routing.domain.documents import PolicyDocument
from routing.models import PolicyDraft
from routing.services.lifecycle import draft_edited, draft_locked, is_editable_by
from routing.services.policy_rules import rules_write


@transaction.atomic
def draft_change(
    *, draft: PolicyDraft, by: User, columns: Mapping[str, object], document: PolicyDocument | None = None
) -> PolicyDraft:
    """Write `columns` (none of its rules) and `document` (all of them), both checked already. A rejected draft is a
    draft again.

    :raises ValidationError: it is not `by`'s to edit, or not any more; a model of it does not exist.
    """
    locked = draft_locked(draft)
    if not is_editable_by(locked, by):
        raise ValidationError(
            f"It is “{locked.get_state_display().lower()}” by now, or somebody else's, or an experiment tries it: only "
            "its author edits a draft, before it is submitted. Reopen it first."
        )
    changed = [name for name, value in columns.items() if getattr(locked, name) != value]
    for name in changed:
        setattr(locked, name, columns[name])
    if changed:
        locked.save(update_fields=changed)
    if document is not None:
        rules_write(owner=locked, document=document)
    draft_edited(draft=locked, by=by)
    return locked
