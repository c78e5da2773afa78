"""Experiments: all of them, one with its arms side by side, and what may be done about it. Staff only."""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from analytics import experiments_page
from analytics.selectors.experiments import CHALLENGER, CONTROL, arm_results
from analytics.services.experiments import guards_now
from routing.models import Experiment, ExperimentState, ExperimentUnit
from routing.services.experiments import (
    experiment_promote,
    experiment_start,
    experiment_stop,
    promoted_draft,
    start_problems,
)

VIEW = "routing.view_experiment"
PER_PAGE = 50


@require_GET
@never_cache
@login_required
@permission_required(VIEW, raise_exception=True)
def experiment_list(request: HttpRequest) -> HttpResponse:
    """The latest first."""
    found = Experiment.objects.select_related("policy", "challenger")
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    lines = experiments_page.experiment_lines(list(page))
    context = {"lines": lines, "page": page, "now": timezone.now(), "may_add": _may_add(request)}
    return render(request, "dashboards/experiments.html", context)


@require_GET
@never_cache
@login_required
@permission_required(VIEW, raise_exception=True)
def one_experiment(request: HttpRequest, experiment_id: int) -> HttpResponse:
    """Arms side by side; of one that has not begun, what stands in the way."""
    now = timezone.now()
    rows = Experiment.objects.select_related("policy", "challenger", "payer__team", "created_by")
    experiment = get_object_or_404(rows, pk=experiment_id)
    control, challenger = arm_results(experiment, CONTROL), arm_results(experiment, CHALLENGER)
    is_draft = experiment.state == ExperimentState.DRAFT
    context: dict[str, Any] = {
        "experiment": experiment,
        "state": experiments_page.STATES[ExperimentState(experiment.state)],
        "share": experiments_page.share_in_words(experiment),
        "unit": experiments_page.UNITS[ExperimentUnit(experiment.unit)],
        "control": control,
        "challenger": challenger,
        "has_figures": bool(control.figures.requests or challenger.figures.requests),
        "lines": experiments_page.result_lines(control, challenger, least=experiment.min_samples),
        "guards": experiments_page.guard_lines(guards_now(experiment), experiment, challenger),
        "events": experiments_page.events_of(experiment),
        "is_ready": experiments_page.is_ready(experiment, challenger, now=now),
        "missing": experiments_page.missing_share(experiment, control, challenger),
        "problems": start_problems(experiment, policy=experiment.policy, now=now) if is_draft else [],
        "draft": promoted_draft(experiment),
        "may_change": experiments_page.may_change(request.user),
        "now": now,
    }
    return render(request, "dashboards/experiment.html", context)


@require_POST
@login_required
@permission_required(VIEW, raise_exception=True)
def act_on_experiment(request: HttpRequest, experiment_id: int) -> HttpResponse:
    """`move` is start, stop or promote. For those who may change experiments."""
    experiment = get_object_or_404(Experiment.objects.select_related("policy"), pk=experiment_id)
    if not experiments_page.may_change(request.user):
        raise PermissionDenied("Only those who may change experiments start, stop and promote them.")
    move = MOVES.get(request.POST.get("move", ""))
    if move is None:
        raise Http404("Nothing of that name can be done about an experiment.")
    try:
        return move(request, experiment)
    except ValidationError as error:
        for problem in error.messages:
            messages.error(request, problem)
    return redirect("analytics:experiment", experiment_id)


def _start(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    experiment_start(experiment=experiment, by=cast(User, request.user), now=timezone.now())
    messages.success(request, f"{experiment} runs. Gateways follow within 2 seconds.")
    return redirect("analytics:experiment", experiment.pk)


def _stop(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    by = cast(User, request.user)
    reason = request.POST.get("reason", "").strip() or f"Stopped by {by}."
    if experiment_stop(experiment=experiment, reason=reason, by=by, now=timezone.now()):
        messages.success(request, f"{experiment} is stopped. All requests follow the policy again within 2 seconds.")
    else:
        messages.warning(request, f"{experiment} did not run any more.")
    return redirect("analytics:experiment", experiment.pk)


def _promote(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    if not request.user.has_perm("routing.add_policydraft"):
        raise PermissionDenied("Promoting makes a draft of the policy: it takes the permission to add one.")
    draft = experiment_promote(experiment=experiment, by=cast(User, request.user), now=timezone.now())
    messages.success(request, f"“{draft.title}” is a draft of {experiment.policy} now. Submit it for review.")
    return redirect(reverse("admin:routing_policydraft_change", args=[draft.pk]))


MOVES: dict[str, Callable[[HttpRequest, Experiment], HttpResponse]] = {
    "start": _start,
    "stop": _stop,
    "promote": _promote,
}


def _may_add(request: HttpRequest) -> bool:
    return bool(request.user.is_staff and request.user.has_perm("routing.add_experiment"))
