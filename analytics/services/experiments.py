"""Experiments that run by themselves: guards stop them, canaries grow. Safe to run twice, also at the same time."""

import logging
from datetime import datetime, timedelta

from django.db import DatabaseError

from analytics.domain.experiments import (
    ALPHA,
    ArmFigures,
    GuardState,
    guard_states,
    is_overspent,
    next_stage,
)
from analytics.presentation import money, percent
from analytics.selectors.experiments import CHALLENGER, CONTROL, arm_figures, guards_of
from routing.models import DraftState, Experiment, ExperimentKind, ExperimentState
from routing.services.experiments import (
    experiment_advance,
    experiment_overtaken,
    experiment_stop,
    rules_have_changed,
)

logger = logging.getLogger(__name__)


def experiments_watch(*, now: datetime) -> int:
    """Look at every experiment that runs; returns how many were stopped or have grown. One that cannot be looked at is
    logged, and the others go on."""
    moved = 0
    running = Experiment.objects.filter(state=ExperimentState.RUNNING).select_related("policy", "challenger")
    for experiment in running:
        try:
            moved += experiment_watch(experiment, now=now)
        except (DatabaseError, ArithmeticError, LookupError, TypeError, ValueError):
            logger.exception("the experiment %s could not be looked at", experiment)
    return moved


def experiment_watch(experiment: Experiment, *, now: datetime) -> bool:
    """Whether it was stopped or has grown."""
    if experiment.policy.version != experiment.challenger.base_version:
        return experiment_overtaken(experiment=experiment, now=now)
    if reason := _reason_to_stop(experiment):
        logger.warning("experiment %s is stopped: %s", experiment, reason)
        return experiment_stop(experiment=experiment, reason=reason, by=None, now=now)
    following = stage_due(experiment, now=now)
    return following is not None and experiment_advance(experiment=experiment, percent=following, now=now)


def stage_due(experiment: Experiment, *, now: datetime) -> int | None:
    """The share that a canary may grow to now: its stage has lasted, and enough requests were seen in it."""
    if experiment.kind != ExperimentKind.CANARY or experiment.stage_since is None:
        return None
    if now < experiment.stage_since + timedelta(minutes=experiment.stage_minutes):
        return None
    seen = arm_figures(experiment, CHALLENGER, since=experiment.stage_since)
    if seen.requests < experiment.min_samples:
        return None
    return next_stage(tuple(experiment.stages), experiment.percent)


def guards_now(experiment: Experiment) -> list[GuardState]:
    """The guards as they stand over the whole experiment, and of a canary over its stage where that is worse."""
    control, challenger = arm_figures(experiment, CONTROL), arm_figures(experiment, CHALLENGER)
    return _guards(experiment, control, challenger)


def _guards(experiment: Experiment, control: ArmFigures, challenger: ArmFigures) -> list[GuardState]:
    guards = guards_of(experiment)
    if experiment.kind != ExperimentKind.CANARY:
        return guard_states(control, challenger, guards)
    # What goes wrong only under more load is soon seen in the stage, and hardly in the sum of all. The chance of a
    # false alarm is shared out between all stages and the whole.
    alpha = ALPHA / (1 + len(experiment.stages))
    whole = guard_states(control, challenger, guards, alpha=alpha)
    if experiment.stage_since == experiment.started_at:
        return whole
    stage = arm_figures(experiment, CHALLENGER, since=experiment.stage_since)
    return [
        part if part.is_breached else all_of_it
        for part, all_of_it in zip(guard_states(control, stage, guards, alpha=alpha), whole, strict=True)
    ]


def _reason_to_stop(experiment: Experiment) -> str:
    """In words; empty while all is well."""
    if rules_have_changed(experiment):
        return "The challenger’s rules were changed while it ran: its figures would mix two sets of rules."
    if not experiment.policy.is_active:
        return f"The policy “{experiment.policy}” was switched off."
    if experiment.policy.drafts.filter(state=DraftState.ROLLING_OUT).exists():
        return "A change of the policy is being rolled out: its figures would mix three sets of rules."
    control, challenger = arm_figures(experiment, CONTROL), arm_figures(experiment, CHALLENGER)
    if is_overspent(challenger, guards_of(experiment)):
        return f"Its own budget is used up: the challenger has cost {money(challenger.spent_nano)}."
    breached = [state for state in _guards(experiment, control, challenger) if state.is_breached]
    return f"Guard: {breached_in_words(breached[0])}." if breached else ""


def breached_in_words(state: GuardState) -> str:
    """“the challenger fails 8.0 percentage points more often than the control (guard: 5.0)”."""
    change = state.comparison.change or 0.0
    match state.name:
        case "errors":
            points, limit = f"{change * 100:.1f}", f"{state.limit * 100:g}"
            return f"the challenger fails {points} percentage points more often than the control (guard: {limit})"
        case "latency":
            return f"the challenger is {percent(change)} slower than the control (guard: {percent(state.limit)})"
    return f"the challenger is {percent(change)} dearer than the control (guard: {percent(state.limit)})"
