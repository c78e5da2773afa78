"""Replays: asked for, run, cancelled, and turned into a threshold. What they compute is `routing.domain.replay`."""

import logging
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from analytics.models import Replay, ReplayState
from analytics.selectors.replays import inputs_between, inputs_count, inputs_sample
from routing.domain.classification.artefact import ArtefactError
from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot, Policy, Strategy
from routing.domain.dial import Dialled, NothingToTurn, dialled
from routing.domain.documents import (
    ConfigError,
    PolicyDocument,
    compile_policy,
    document_from_json,
    document_to_json,
    same_rules,
)
from routing.domain.replay import Sums, told
from routing.models import PolicyDraft, RoutingPolicy, Team
from routing.replaying import Rules, decided_apart, decided_here
from routing.selectors import artefact_data, config_rows
from routing.services.lifecycle import draft_edited, is_editable_by
from routing.services.policy_rules import document_at, document_of, rules_write
from routing.trained import SHIPPED, SHIPPED_FILE

LONGEST: Final = timedelta(days=92)
HERE_UP_TO: Final = 5_000  # inputs: beyond, starting processes is worth its second
PART_ROWS: Final = 2_000
TELL_EVERY_S: Final = 1.0
STALLED: Final = timedelta(seconds=90)
DIAL_ROWS: Final = 5_000
OPEN: Final = (ReplayState.WAITING, ReplayState.RUNNING)
BEAT: Final = "beat"  # in the result of one that runs: when it last said something

log = logging.getLogger(__name__)


# --- asking -------------------------------------------------------------------------------------------------------


@transaction.atomic
def replay_request(
    *,
    policy: RoutingPolicy,
    since: datetime,
    until: datetime,
    by: User,
    draft: PolicyDraft | None = None,
    document: PolicyDocument | None = None,
) -> Replay:
    """Ask for a replay of a range by the rules of `draft`, or by `document`. A worker runs it.

    :raises ValidationError: an empty or too long range, rules that do not compile, one of the draft is under way.
    """
    if (draft is None) == (document is None):
        raise ValidationError("Name a draft, or give the rules to replay by: one of the two.")
    if draft is not None and draft.policy_id != policy.pk:
        raise ValidationError(f"That draft changes {draft.policy}, not {policy}.")
    if since >= until:
        raise ValidationError("The range ends before it begins.")
    if until - since > LONGEST:
        raise ValidationError(f"A replay covers {LONGEST.days} days at most.")
    locked = RoutingPolicy.objects.select_for_update().get(pk=policy.pk)
    if draft is not None and Replay.objects.filter(draft=draft, state__in=OPEN).exists():
        raise ValidationError("A replay of this draft is under way. Wait for it, or cancel it.")
    rules = document_of(draft) if draft is not None else document
    assert rules is not None
    _compiled(rules, locked, draft.base_version if draft else locked.version)
    return Replay.objects.create(
        policy=locked,
        draft=draft,
        base_version=draft.base_version if draft else locked.version,
        document=document_to_json(rules),
        since=since,
        until=until,
        created_by=by,
    )


def _compiled(rules: PolicyDocument, policy: RoutingPolicy, version: int) -> None:
    """:raises ValidationError:"""
    try:
        compile_policy(rules, {}, policy_id=policy.pk, name=policy.name, version=version)
    except ConfigError as error:
        raise ValidationError(str(error)) from error


def replay_cancel(*, replay: Replay) -> bool:
    """Stop it: one that waits at once, one that runs within a second or two; False if it is over already."""
    now = timezone.now()
    changes = {"state": ReplayState.CANCELLED, "finished_at": now, "wants_cancel": True}
    if Replay.objects.filter(pk=replay.pk, state=ReplayState.WAITING).update(**changes):
        return True
    return bool(Replay.objects.filter(pk=replay.pk, state=ReplayState.RUNNING).update(wants_cancel=True))


def replay_fail(*, replay_id: int, why: str) -> bool:
    """It is over; `why` in words. False if it was over already."""
    changed = Replay.objects.filter(pk=replay_id, state__in=OPEN).update(
        state=ReplayState.FAILED, error=why[:300], finished_at=timezone.now(), result={}
    )
    return changed == 1


def replay_stalled(*, replay: Replay, now: datetime) -> bool:
    """End one whose worker says nothing any more; True if it was so."""
    if replay.state != ReplayState.RUNNING:
        return False
    beat = replay.result.get(BEAT)
    last = datetime.fromisoformat(beat) if beat else replay.started_at
    if last is None or now - last < STALLED:
        return False
    return replay_fail(replay_id=replay.pk, why="Its worker stopped in the middle. Start it again.")


# --- running ------------------------------------------------------------------------------------------------------


class _Cancelled(Exception):
    """Somebody wants no result any more."""


def replay_run(*, replay_id: int) -> bool:
    """Run a replay that waits; False if somebody else has it, or it was cancelled. Whatever happens, it ends."""
    started = Replay.objects.filter(pk=replay_id, state=ReplayState.WAITING).update(
        state=ReplayState.RUNNING, started_at=timezone.now(), result={BEAT: timezone.now().isoformat()}
    )
    if not started:
        return False
    replay = Replay.objects.select_related("policy").get(pk=replay_id)
    why = "It failed: the log of the worker says why."
    try:
        sums = _sums_of(replay)
        names = dict(Team.objects.filter(pk__in=sums.teams).values_list("pk", "name"))
        result = told(sums, by_name=lambda team_id: names.get(team_id, f"team {team_id}"))
        _end(replay_id, ReplayState.DONE, result=result)
        why = ""
    except _Cancelled:
        _end(replay_id, ReplayState.CANCELLED, result={})
        why = ""
    except (ConfigError, ArtefactError, ValidationError) as error:
        why = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    except BrokenProcessPool:
        why = "One of its processes was killed, for want of memory perhaps. Start it again, with a shorter range."
    finally:
        if why:
            replay_fail(replay_id=replay_id, why=why)
    return True


def _end(replay_id: int, state: ReplayState, *, result: dict[str, Any]) -> None:
    Replay.objects.filter(pk=replay_id, state=ReplayState.RUNNING).update(
        state=state, result=result, finished_at=timezone.now()
    )


def _sums_of(replay: Replay) -> Sums:
    rules = rules_of(replay, now=timezone.now())
    names = policies_read(rules)
    total = inputs_count(names, replay.since, replay.until)
    progress = _Progress(replay.pk, total)
    progress.tell()
    decided = decided_here if total <= HERE_UP_TO else decided_apart
    sums = Sums()
    with (
        closing(inputs_between(names, replay.since, replay.until, rows=PART_ROWS)) as parts,
        closing(decided(parts, rules)) as results,
    ):
        for size, part in results:
            sums.merge(part)
            progress.add(size)
    progress.tell()
    return sums


@dataclass(slots=True)
class _Progress:
    """Tells the row about once a second how far it is, and hears from it whether somebody wants to stop."""

    replay_id: int
    total: int
    done: int = 0
    told_at: float = 0.0

    def add(self, rows: int) -> None:
        """:raises _Cancelled:"""
        self.done += rows
        if time.monotonic() - self.told_at >= TELL_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """:raises _Cancelled:"""
        self.told_at = time.monotonic()
        changed = Replay.objects.filter(pk=self.replay_id, state=ReplayState.RUNNING, wants_cancel=False).update(
            done=self.done, total=max(self.total, self.done), result={BEAT: timezone.now().isoformat()}
        )
        if not changed:
            raise _Cancelled


# --- the rules of both sides --------------------------------------------------------------------------------------


def rules_of(replay: Replay, *, now: datetime) -> Rules:
    """Models, prices and the trained artefact as they are now; the policy as it was at the base, and as proposed.

    :raises ConfigError: the configuration does not compile.
    :raises ValidationError: what was in force then is not known.
    """
    snapshot = compile_snapshot(config_rows(now=now, with_callers=False), now=now)
    base = _policy(replay, snapshot, _base_document(replay), replay.base_version)
    draft = _policy(replay, snapshot, document_from_json(replay.document), replay.base_version + 1)
    return Rules(snapshot, base, draft, _artefact(snapshot.artefact))


def _base_document(replay: Replay) -> PolicyDocument:
    """A policy that has never been edited has no version yet: its rules are those of its first."""
    policy = replay.policy
    if policy.version == replay.base_version and not policy.versions.filter(number=replay.base_version).exists():
        return document_of(policy)
    return document_at(policy, replay.base_version)


def _policy(replay: Replay, snapshot: ConfigSnapshot, document: PolicyDocument, version: int) -> Policy:
    policy = replay.policy
    return compile_policy(document, snapshot.aliases, policy_id=policy.pk, name=policy.name, version=version)


def _artefact(version: str) -> bytes:
    """Of the one in force; empty where there is none, and cost tiers stand for quality."""
    data = artefact_data(version) if version != SHIPPED else None
    if data is not None:
        return data
    try:
        return SHIPPED_FILE.read_bytes()
    except OSError:
        return b""


def policies_read(rules: Rules) -> list[str]:
    """Whose decisions are looked at: also those that the policy has handed over by kind of work, or would."""
    names = {rules.base.name}
    if Strategy.TASK_BASED in {rules.base.strategy, rules.draft.strategy}:
        names |= {policy.name for policy in rules.snapshot.task_policies.values()}
    return sorted(names)


def is_outdated(replay: Replay) -> bool:
    """Whether the draft has been edited since."""
    return replay.draft is not None and not same_rules(document_of(replay.draft), document_from_json(replay.document))


# --- the dial -----------------------------------------------------------------------------------------------------


@transaction.atomic
def dial_request(*, replay: Replay, wanted: float) -> None:
    """Ask for the threshold that changes the cost by `wanted` (-0.3: 30 % less). A worker looks for it.

    :raises ValidationError: the replay is not done, or `wanted` is no saving.
    """
    if not -1 < wanted < 0:
        raise ValidationError("Say how much is to be saved: more than 0 % and less than 100 %.")
    locked = Replay.objects.select_for_update().get(pk=replay.pk)
    if locked.state != ReplayState.DONE:
        raise ValidationError("The dial needs a replay that is done.")
    locked.result = {**locked.result, "dial": {"wanted": wanted, "state": "waiting"}}
    locked.save(update_fields=["result"])


def dial_run(*, replay_id: int) -> bool:
    """Look for the threshold; False if nobody waits for one."""
    replay = Replay.objects.select_related("policy").filter(pk=replay_id, state=ReplayState.DONE).first()
    asked = replay.result.get("dial") if replay else None
    if replay is None or asked is None or asked["state"] != "waiting":
        return False
    try:
        rules = rules_of(replay, now=timezone.now())
        some = inputs_sample(policies_read(rules), replay.since, replay.until, rows=DIAL_ROWS)
        found = dialled(
            some, rules.snapshot, rules.base, rules.draft, wanted=asked["wanted"], estimate=rules.estimate()
        )
        told_of = _dial_told(found)
    except (ConfigError, ArtefactError, ValidationError, NothingToTurn) as error:
        why = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        told_of = {"state": "failed", "error": why}
    with transaction.atomic():
        locked = Replay.objects.select_for_update().get(pk=replay_id)
        if locked.result.get("dial") == asked:  # nobody has asked for another one meanwhile
            locked.result = {**locked.result, "dial": {"wanted": asked["wanted"], **told_of}}
            locked.save(update_fields=["result"])
    return True


def _dial_told(found: Dialled) -> dict[str, Any]:
    return {
        "state": "done",
        "field": found.field,
        "value": found.value,
        "change": round(found.change, 4),
        "quality_change": round(found.quality_change, 4),
        "is_reached": found.is_reached,
        "requests": found.requests,
    }


def dial_cancel(*, replay_id: int, why: str) -> None:
    """Nobody will look for it; `why` in words."""
    with transaction.atomic():
        locked = Replay.objects.select_for_update().get(pk=replay_id)
        asked = locked.result.get("dial")
        if asked and asked["state"] == "waiting":
            locked.result = {**locked.result, "dial": {**asked, "state": "failed", "error": why}}
            locked.save(update_fields=["result"])


@transaction.atomic
def dial_use(*, replay: Replay, by: User) -> PolicyDraft:
    """Write the threshold that was found into the draft.

    :raises ValidationError: there is none, or the draft is not this person's to edit now.
    """
    found, draft = replay.result.get("dial", {}), replay.draft
    if draft is None or found.get("state") != "done":
        raise ValidationError("There is no value to use.")
    if not is_editable_by(draft, by):
        raise ValidationError("Only its author edits a draft, and only before it is submitted.")
    document = msgspec.structs.replace(document_of(draft), **{found["field"]: found["value"]})
    rules_write(owner=draft, document=document)
    draft_edited(draft=draft, by=by)
    return draft
