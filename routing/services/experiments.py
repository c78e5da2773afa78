"""Experiments begin, grow, end, and become a draft. What they find is read above this floor, where usage is known.

    draft -> running -> stopped | promoted

Every move locks the policy's row first, so that an experiment and a rollout of the same policy cannot begin at once,
and counts the configuration's revision up: gateways follow within two seconds.
"""

import secrets
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from routing.domain.config import Scope
from routing.domain.documents import PolicyDocument, document_to_json, same_rules
from routing.models import (
    DraftState,
    Experiment,
    ExperimentKind,
    ExperimentState,
    PolicyDraft,
    RoutingPolicy,
    VirtualKey,
    validate_stages,
)
from routing.policy_selectors import policy_complaints
from routing.services.lifecycle import draft_create, review_required
from routing.services.policy_rules import document_of
from routing.services.revision import config_revision_bump

TRIABLE: Final = (DraftState.DRAFT, DraftState.REVIEW, DraftState.APPROVED)
BY_THE_PLATFORM: Final = None
NO_BUDGET: Final = "Its own budget is zero: it would end at once. Leave it empty for none."
_SALT: Final = 16  # hex digits of a seed that are random; the rest are those of the rules


@transaction.atomic
def experiment_start(*, experiment: Experiment, by: User | None, now: datetime) -> None:
    """From now on a share of the policy's requests follows the challenger, or is asked again by it.

    :raises ValidationError: in words, all that stands in the way.
    """
    policy = _locked(experiment)
    if experiment.state != ExperimentState.DRAFT:
        raise ValidationError("It has been started before. Make a new experiment to try again.")
    problems = start_problems(experiment, policy=policy, now=now)
    if problems:
        raise ValidationError(problems)
    experiment.seed = secrets.token_hex(_SALT // 2) + rules_digest(document_of(experiment.challenger))
    experiment.state, experiment.started_at, experiment.stage_since = ExperimentState.RUNNING, now, now
    if experiment.kind == ExperimentKind.CANARY:
        experiment.percent = experiment.stages[0]
    _save(experiment, by, "started", "seed", "state", "started_at", "stage_since", "percent")


@transaction.atomic
def experiment_stop(*, experiment: Experiment, reason: str, by: User | None, now: datetime) -> bool:
    """All traffic follows the policy again; False if it does not run any more. The figures stay."""
    _locked(experiment)
    if experiment.state != ExperimentState.RUNNING:
        return False
    _end(experiment, ExperimentState.STOPPED, reason, by, now)
    return True


@transaction.atomic
def experiment_advance(*, experiment: Experiment, percent: int, now: datetime) -> bool:
    """The next stage of a canary; False if it is not where `experiment` says, or does not run any more."""
    seen = experiment.percent
    _locked(experiment)
    if experiment.state != ExperimentState.RUNNING or experiment.percent != seen:
        return False
    experiment.percent, experiment.stage_since = percent, now
    _save(experiment, BY_THE_PLATFORM, f"grown to {percent} %", "percent", "stage_since")
    return True


@transaction.atomic
def experiment_promote(*, experiment: Experiment, by: User | None, now: datetime) -> PolicyDraft:
    """A draft with the challenger's rules, for the usual way of a change. What was published since they were made is
    not undone: the draft is as stale as they are.

    A canary goes on until the draft is published: its share would else fall back to the old rules meanwhile.

    :raises ValidationError: it never ran; the rules of the challenger are not those that were tried any more.
    """
    policy = _locked(experiment)
    if experiment.state == ExperimentState.DRAFT:
        raise ValidationError("It has not been started: there is nothing to promote yet.")
    if (existing := promoted_draft(experiment)) is not None and existing.state in TRIABLE:
        return existing
    if rules_have_changed(experiment):
        raise ValidationError("The challenger’s rules were changed after the experiment began: others were tried.")
    tried = experiment.challenger
    draft = draft_create(
        policy=policy,
        by=by,
        title=promotion_title(experiment),
        note=f"The rules of “{tried.title}”, as the experiment tried them.",
        document=document_of(tried),
        base_version=tried.base_version,
    )
    if experiment.state == ExperimentState.RUNNING and experiment.kind != ExperimentKind.CANARY:
        _end(experiment, ExperimentState.PROMOTED, f"Promoted: draft “{draft.title}”.", by, now)
    elif experiment.state == ExperimentState.STOPPED:
        experiment.state = ExperimentState.PROMOTED
        _save(experiment, by, "promoted", "state")
    return draft


@transaction.atomic
def experiment_overtaken(*, experiment: Experiment, now: datetime) -> bool:
    """End it because its policy is not what it was compared with; promoted, when that is by its own draft."""
    policy = _locked(experiment)
    if experiment.state != ExperimentState.RUNNING:
        return False
    draft = promoted_draft(experiment)
    if draft is not None and draft.state == DraftState.PUBLISHED:
        _end(experiment, ExperimentState.PROMOTED, f"Published as version {policy.version}.", BY_THE_PLATFORM, now)
    else:
        reason = f"The policy has become version {policy.version}: its figures would mix two sets of rules."
        _end(experiment, ExperimentState.STOPPED, reason, BY_THE_PLATFORM, now)
    return True


# --- what may be asked ----------------------------------------------------------------------------------------------


def start_problems(experiment: Experiment, *, policy: RoutingPolicy, now: datetime) -> list[str]:
    """What stands in the way of starting, in words; empty when nothing does."""
    return [
        *_policy_problems(experiment, policy),
        *_draft_problems(experiment, policy, now),
        *_kind_problems(experiment, now),
    ]


def promotion_title(experiment: Experiment) -> str:
    return f"From experiment {experiment.name}"


def promoted_draft(experiment: Experiment) -> PolicyDraft | None:
    """The latest draft that was made from it."""
    return PolicyDraft.objects.filter(policy=experiment.policy_id, title=promotion_title(experiment)).first()


def rules_digest(document: PolicyDocument) -> str:
    """16 hex digits that are the same for the same rules, in every process."""
    encoded = msgspec.json.encode(document_to_json(document), order="deterministic")
    return blake2b(encoded, digest_size=8).hexdigest()


def rules_have_changed(experiment: Experiment) -> bool:
    """Whether the challenger says something else than when the experiment began: its seed remembers what it said."""
    return experiment.seed[_SALT:] != rules_digest(document_of(experiment.challenger))


def _policy_problems(experiment: Experiment, policy: RoutingPolicy) -> list[str]:
    problems = []
    if not policy.is_active:
        problems.append(f"The policy “{policy}” is switched off: it has no traffic.")
    running = policy.experiments.filter(state=ExperimentState.RUNNING).exclude(pk=experiment.pk).first()
    if running is not None:
        problems.append(f"The experiment “{running}” runs on this policy. Stop it first: one at a time.")
    if policy.drafts.filter(state=DraftState.ROLLING_OUT).exists():
        problems.append("A change of this policy is being rolled out. Wait for its end, or abort it.")
    return problems


def _draft_problems(experiment: Experiment, policy: RoutingPolicy, now: datetime) -> list[str]:
    challenger = experiment.challenger
    if challenger.policy_id != policy.pk:
        return [f"The draft “{challenger.title}” is one of another policy."]
    if challenger.state not in TRIABLE:
        return [f"The draft “{challenger.title}” is {challenger.get_state_display().lower()}: choose an open one."]
    if review_required() and experiment.kind != ExperimentKind.SHADOW and challenger.state != DraftState.APPROVED:
        return ["Its rules would serve callers: somebody else has to approve the draft first. A shadow can run now."]
    if challenger.base_version != policy.version:
        return [
            f"The draft was made from version {challenger.base_version}, in force is {policy.version}. Rebase it first."
        ]
    document = document_of(challenger)
    if same_rules(document, document_of(policy)):
        return ["The draft says the same as the policy in force: there is nothing to compare."]
    return [f"The draft “{challenger.title}”: {one}" for one in policy_complaints(policy, document, now=now)]


def _kind_problems(experiment: Experiment, now: datetime) -> list[str]:
    if experiment.kind == ExperimentKind.SHADOW:
        problems = [] if experiment.max_cost else ["A shadow needs a budget of its own, above zero."]
        return [*problems, *_payer_problems(experiment.payer, now)]
    problems = [NO_BUDGET] if experiment.max_cost == 0 else []
    if experiment.kind == ExperimentKind.CANARY:
        try:
            validate_stages(experiment.stages)
        except ValidationError as error:
            problems += error.messages
    return problems


def _payer_problems(payer: VirtualKey | None, now: datetime) -> list[str]:
    if payer is None:
        return ["A shadow needs a key that pays for the second answers."]
    if payer.revoked_at is not None or not payer.team.is_active or (payer.expires_at and payer.expires_at <= now):
        return [f"The key “{payer}” is not in force: choose another that pays."]
    if Scope.CHAT not in payer.scopes:
        return [f"The key “{payer}” may not ask models: it lacks the scope “{Scope.CHAT}”."]
    return []


# --- rows -----------------------------------------------------------------------------------------------------------


def _locked(experiment: Experiment) -> RoutingPolicy:
    """The policy, which nobody else changes meanwhile; `experiment` is read anew, and locked against an edit.

    :raises ValidationError: it has been deleted.
    """
    policy = RoutingPolicy.objects.select_for_update().get(pk=experiment.policy_id)
    rows = Experiment.objects.select_for_update(of=("self",)).select_related("challenger", "payer__team")
    try:
        experiment.refresh_from_db(from_queryset=rows)
    except Experiment.DoesNotExist as error:
        raise ValidationError("It has been deleted meanwhile.") from error
    return policy


def _end(experiment: Experiment, state: ExperimentState, reason: str, by: User | None, now: datetime) -> None:
    experiment.state, experiment.stopped_at, experiment.stop_reason = state, now, reason[:300]
    _save(experiment, by, str(state), "state", "stopped_at", "stop_reason")


def _save(experiment: Experiment, by: User | None, why: str, *columns: str) -> None:
    """With a row of history that names who and why; `by` None is the platform itself."""
    experiment._history_user = by  # type: ignore[attr-defined]  # of simple_history
    experiment._change_reason = why[:100]  # type: ignore[attr-defined]
    experiment.save(update_fields=columns)
    config_revision_bump()
