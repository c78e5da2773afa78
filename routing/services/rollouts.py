"""Putting rules into force: at once, in stages, at an appointed time, or back to what an older version said."""

import logging
import secrets
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from routing.announcements import policy_rolled
from routing.models import DraftState, ExperimentState, PolicyDraft, PolicyVersion, RoutingPolicy, validate_stages
from routing.services.lifecycle import (
    CLOSED_NOTE_LENGTH,
    draft_locked,
    draft_moved,
    is_stale,
    publishable,
    require_untried,
    required_state,
    rules_checked,
)
from routing.services.policy_rules import (
    document_at,
    document_of,
    number_next,
    policy_locked,
    rules_write,
    version_ensure,
    version_record,
)
from routing.services.revision import config_revision_bump

log = logging.getLogger(__name__)

ALL: Final = 100


@transaction.atomic
def draft_schedule(*, draft: PolicyDraft, at: datetime | None, now: datetime) -> PolicyDraft:
    """Publish it at that moment, once it is approved; None: when somebody publishes it."""
    if at is not None and at <= now:
        raise ValidationError({"publish_at": "This moment has passed. Choose a later one, or publish it now."})
    locked = draft_locked(draft)
    required_state(locked, (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED), "scheduled")
    locked.publish_at = at
    locked.save(update_fields=["publish_at"])
    return locked


@transaction.atomic
def draft_publish(
    *,
    draft: PolicyDraft,
    stages: list[int] | None = None,
    stage_minutes: int | None = None,
    now: datetime | None = None,
) -> PolicyDraft:
    """Put it into force: for all requests, or for the first of `stages` (percentages, default: its own).

    Gateways follow within 2 seconds. Other drafts of the policy are stale from then on.

    :raises ValidationError: it is not approved, is stale, cannot be published, an experiment tries it; for stages:
        another is being rolled out, or an experiment runs on the policy.
    """
    now = now or timezone.now()
    locked = draft_locked(draft)
    required_state(locked, (DraftState.APPROVED,), "published")
    require_untried(locked)
    publishable(locked, now=now)
    locked.stages = locked.stages if stages is None else stages
    validate_stages(locked.stages)
    locked.stage_minutes = stage_minutes or locked.stage_minutes
    in_stages = locked.stages[0] < ALL
    if in_stages:
        _require_whole(locked.policy)
    locked.version = number_next(locked.policy)
    if in_stages:
        _begin(locked, now)
    else:
        _put_into_force(locked, now)
    return locked


@transaction.atomic
def draft_advance(*, draft: PolicyDraft, now: datetime | None = None, at_stage: int | None = None) -> PolicyDraft:
    """On to the next stage of its rollout; from the last one on it is in force. `at_stage` is the percentage from
    which to go on: a rollout that has left it meanwhile stays where it is.

    :raises ValidationError: it is not being rolled out, or what is in force has changed: then abort it.
    """
    now = now or timezone.now()
    locked = draft_locked(draft)
    required_state(locked, (DraftState.ROLLING_OUT,), "advanced")
    if at_stage is not None and locked.percent != at_stage:
        return locked
    publishable(locked, now=now)
    percent = next((stage for stage in locked.stages if stage > locked.percent), ALL)
    if percent >= ALL:
        _put_into_force(locked, now)
    else:
        draft_moved(locked, DraftState.ROLLING_OUT, percent=percent, stage_since=now)
        config_revision_bump()
        policy_rolled.send(PolicyDraft, draft=locked, at=now)
    return locked


@transaction.atomic
def draft_abort(*, draft: PolicyDraft, note: str) -> PolicyDraft:
    """Stop its rollout: every request follows what is in force. It stays approved and can be published again."""
    locked = draft_locked(draft)
    required_state(locked, (DraftState.ROLLING_OUT,), "aborted")
    _stop(locked, note)
    return locked


@transaction.atomic
def version_rollback(
    *, policy: RoutingPolicy, number: int, by: User | None, now: datetime | None = None
) -> PolicyVersion:
    """Put what version `number` said into force at once, as a new version. It needs no second pair of eyes: what was
    in force before has been approved before.

    :raises ValidationError: no such version, it is in force, or it cannot be put into force any more.
    """
    now = now or timezone.now()
    version_ensure(policy=policy)
    locked = policy_locked(policy)
    if number == locked.version:
        raise ValidationError(f"Version {number} is in force.")
    document = document_at(locked, number)
    rules_checked(policy=locked, document=document, now=now)
    rules_write(owner=locked, document=document)
    version = version_record(
        policy=locked, document=document, note=f"Back to version {number}", author=by, approver=by, at=now
    )
    _stop_others(locked, f"version {version.number} was published")
    policy.version = version.number
    return version


@transaction.atomic
def policy_edited(*, policy: RoutingPolicy, by: User | None, note: str = "Edited on its page") -> PolicyVersion:
    """After its rules were written directly: a version of their own, where they differ from the one before."""
    before = policy.version
    version = version_ensure(policy=policy, note=note, by=by)
    if version.number != before:
        _stop_others(policy, f"version {version.number} was published")
    return version


def policies_advance(*, now: datetime) -> int:
    """Publish what is due, go on with rollouts; how many drafts were moved. Safe to run twice at the same time.

    What cannot be published is not tried again and again: the draft says why and waits for somebody.
    """
    due = Q(state=DraftState.APPROVED, publish_at__lte=now) | Q(state=DraftState.ROLLING_OUT)
    drafts = PolicyDraft.objects.filter(due).select_related("policy")
    return sum(_advance_one(draft, now) for draft in drafts)


# --- one draft ------------------------------------------------------------------------------------------------------


def _advance_one(draft: PolicyDraft, now: datetime) -> bool:
    is_rolling = draft.state == DraftState.ROLLING_OUT
    if is_rolling and not is_stale(draft) and not _stage_is_over(draft, now):
        return False
    try:
        with transaction.atomic():
            if is_rolling:
                draft_advance(draft=draft, now=now, at_stage=draft.percent)
            else:
                _publish_due(draft, now)
    except ValidationError as error:
        return _give_up(draft, " ".join(error.messages), now)
    return True


def _stage_is_over(draft: PolicyDraft, now: datetime) -> bool:
    return draft.stage_since is None or draft.stage_since + timedelta(minutes=draft.stage_minutes) <= now


def _publish_due(draft: PolicyDraft, now: datetime) -> None:
    """Looks again: somebody may have published, rescheduled or withdrawn it since it was found."""
    locked = draft_locked(draft)
    if locked.state == DraftState.APPROVED and locked.publish_at is not None and locked.publish_at <= now:
        draft_publish(draft=locked, now=now)


@transaction.atomic
def _give_up(draft: PolicyDraft, why: str, now: datetime) -> bool:
    locked = draft_locked(draft)
    log.warning("policy draft not published", extra={"draft": locked.pk, "policy": locked.policy.name, "why": why})
    if locked.state == DraftState.ROLLING_OUT:
        _stop(locked, why)
        return True
    if locked.state == DraftState.APPROVED and locked.publish_at is not None and locked.publish_at <= now:
        note = f"Not published as scheduled: {why}"[:CLOSED_NOTE_LENGTH]
        draft_moved(locked, DraftState.APPROVED, publish_at=None, closed_note=note)
        return True
    return False


def _require_whole(policy: RoutingPolicy) -> None:
    """One thing at a time shares a policy's requests out."""
    other = policy.drafts.filter(state=DraftState.ROLLING_OUT).first()
    if other is not None:
        raise ValidationError(f"“{other.title}” is being rolled out. Abort that first, or wait until it is done.")
    experiment = policy.experiments.filter(state=ExperimentState.RUNNING).first()
    if experiment is not None:
        raise ValidationError(
            f"The experiment {experiment} runs on this policy. Stop that first, or publish for all requests at once."
        )


def _begin(draft: PolicyDraft, now: datetime) -> None:
    draft.save(update_fields=["stages", "stage_minutes"])
    draft_moved(
        draft,
        DraftState.ROLLING_OUT,
        version=draft.version,
        percent=draft.stages[0],
        stage_since=now,
        seed=secrets.token_hex(8),
        publish_at=None,
        closed_note="",
    )
    config_revision_bump()
    policy_rolled.send(PolicyDraft, draft=draft, at=now)


def _put_into_force(draft: PolicyDraft, now: datetime) -> None:
    policy, document = draft.policy, document_of(draft)
    rules_write(owner=policy, document=document)
    version_record(
        policy=policy,
        document=document,
        note=draft.title,
        author=draft.author,
        approver=draft.reviewer,
        draft=draft,
        at=now,
    )
    draft_moved(
        draft,
        DraftState.PUBLISHED,
        version=draft.version,
        percent=ALL,
        stages=draft.stages,
        stage_minutes=draft.stage_minutes,
        publish_at=None,
        closed_at=now,
        closed_note="",
    )
    _stop_others(policy, f"version {draft.version} was published")


def _stop_others(policy: RoutingPolicy, why: str) -> None:
    for other in policy.drafts.filter(state=DraftState.ROLLING_OUT):
        _stop(other, f"Rollout stopped: {why}")


def _stop(draft: PolicyDraft, note: str) -> None:
    draft_moved(
        draft,
        DraftState.APPROVED,
        percent=0,
        stage_since=None,
        publish_at=None,
        closed_note=note[:CLOSED_NOTE_LENGTH],
    )
    config_revision_bump()
    policy_rolled.send(PolicyDraft, draft=draft, at=timezone.now())
