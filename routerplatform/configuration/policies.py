"""Policies out of files: their rules by the ways that there are for a change of them, with versions and, where it is
asked for, a second pair of eyes."""

from collections.abc import Iterator

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction

from routerplatform.configuration.documents import PolicyEntry
from routerplatform.configuration.task import Missing, Task, checked, found, keys_of, put
from routerplatform.configuration.writing import NOTE, author_of
from routing.domain.documents import PolicyDocument, same_rules
from routing.models import OPEN_STATES, ModelAlias, PolicyCandidate, RoutingPolicy
from routing.policy_selectors import policy_complaints
from routing.services import default_policy_set
from routing.services.lifecycle import draft_create, draft_submit, review_required
from routing.services.policy_rules import columns_of, document_of, rules_write, version_ensure
from routing.services.rollouts import policy_edited


def write_policy(task: Task, name: str, entry: PolicyEntry) -> None:
    """The switches at once; the rules at once, or as a draft that somebody else approves."""
    _check_columns(task, name, entry)
    for one in entry.models:
        found(ModelAlias, name=one.alias)
    row = RoutingPolicy.objects.filter(name=name).first()
    is_new = row is None
    if row is None:
        first = entry.is_default and not RoutingPolicy.objects.filter(is_default=True).exists()
        row = RoutingPolicy(name=name, is_default=first)
    elif row.is_active and not entry.is_active:  # its personas may get another one behind this
        task.later.append(("policies", name, lambda: _switch_off(name)))
    put(row, {"description": entry.description, "is_active": entry.is_active or (not is_new and row.is_active)})
    if entry.is_default and not row.is_default:
        task.later.append(("policies", name, lambda: default_policy_set(policy=found(RoutingPolicy, name=name))))
    rules = entry.rules()
    if is_new and not review_required():
        rules_write(owner=row, document=rules)
        policy_edited(policy=row, by=task.by, note=NOTE)
        task.later.append(("policies", name, lambda: _warn(task, name, rules)))
    elif not same_rules(document_of(row), rules):
        if review_required():
            task.later.append(("policies", name, lambda: _propose(task, name, rules, is_new=is_new)))
        else:
            version_ensure(policy=row)
            rules_write(owner=row, document=rules)
            policy_edited(policy=row, by=task.by, note=NOTE)
            task.later.append(("policies", name, lambda: _check(task, name, rules)))


def _check_columns(task: Task, name: str, entry: PolicyEntry) -> None:
    """As the table would refuse it, also where the rules become a draft.

    :raises ValidationError: see there.
    :raises Missing: what is wrong with a model of it has been told at its line.
    """
    names = [one.alias for one in entry.models]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise ValidationError({"models": f"“{twice[0]}” stands here twice. Keep it once."})
    without_cost = columns_of(
        msgspec.structs.replace(entry, max_cost_per_request=None).rules()
    )  # more digits than it takes
    row = RoutingPolicy(name=name, **without_cost | {"max_cost_per_request": entry.max_cost_per_request})
    checked(row, validate_unique=False, validate_constraints=False)
    if wrong := list(_wrong_models(entry)):
        for index, column, said in wrong:
            task.complain("policies", name, said, "models", index, column)
        raise Missing  # and told


def _wrong_models(entry: PolicyEntry) -> Iterator[tuple[int, str, str]]:
    """(index, column, what is wrong with it), by the table's own rules."""
    for index, one in enumerate(entry.models):
        candidate = PolicyCandidate(position=index, weight=one.weight, task_type=one.task_type)
        try:
            checked(candidate, exclude=["policy", "alias"], validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            yield from ((index, column, said) for column, texts in error.message_dict.items() for said in texts)


def _switch_off(name: str) -> None:
    row = found(RoutingPolicy, name=name)
    if row.is_default:
        raise ValidationError({"is_active": "The default policy stays on. Make another policy the default first."})
    put(row, {"is_active": False})


def _check(task: Task, name: str, rules: PolicyDocument) -> None:
    """Changed rules are refused where its page would refuse them; what nothing uses may wait for its models."""
    row = found(RoutingPolicy, name=name)
    is_used = row.is_default or bool(row.personas_served())
    for one in policy_complaints(row, rules, now=task.now):
        if one.field == "candidates" and not is_used:
            task.notes.append(f"policy {name}: {one.text}")
        else:
            task.complain("policies", name, one.text, *keys_of("policies", one.field or ""))


def _warn(task: Task, name: str, rules: PolicyDocument) -> None:
    """A new policy may be on its way: its provider's key comes later."""
    row = found(RoutingPolicy, name=name)
    task.notes += [f"policy {name}: {one.text}" for one in policy_complaints(row, rules, now=task.now)]


def _propose(task: Task, name: str, rules: PolicyDocument, *, is_new: bool) -> None:
    """A draft, submitted for review; one of the same rules that is open already is enough."""
    row, by = found(RoutingPolicy, name=name), author_of(task)
    for draft in row.drafts.filter(state__in=OPEN_STATES):
        if same_rules(document_of(draft), rules):
            state = draft.get_state_display().lower()
            task.notes.append(f"policy {name}: draft “{draft.title}” proposes these rules already: {state}.")
            return
    file = task.wanted.place("policies", name).file
    draft = draft_create(policy=row, by=by, title=f"From {file}"[:120], note=NOTE, document=rules)
    try:
        with transaction.atomic():
            draft_submit(draft=draft, by=by, now=task.now)
    except ValidationError as error:
        if not is_new:
            raise
        task.notes.append(f"policy {name}: its draft cannot be submitted yet: {' '.join(error.messages)}")
    else:
        task.notes.append(f"policy {name}: the rules are a draft in review; somebody else has to approve it.")
