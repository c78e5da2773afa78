"""The incidents: alerts of the reader's own teams, and what their leads do about them."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from analytics import alerts_page
from analytics.models import Alert, AlertKind
from analytics.services.alerts import Move, alert_move
from analytics.sight import sight_of

SAID = {
    Move.ACKNOWLEDGE: "acknowledged: it is yours now",
    Move.SNOOZE_HOUR: "snoozed for an hour",
    Move.SNOOZE_DAY: "snoozed for a day",
    Move.RESOLVE: "resolved",
}


@require_GET
@never_cache
@login_required
def alert_list(request: HttpRequest) -> HttpResponse:
    """Every alert that the reader may see, the open ones first; filters in the address."""
    now = timezone.now()
    sight = sight_of(request.user, request.GET)
    filters = alerts_page.filters_of(request.GET)
    found = alerts_page.alerts_seen(sight, filters)
    page = Paginator(found, alerts_page.ALERTS_PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "lines": alerts_page.alert_lines(page, user=request.user),
        "page": page,
        "filters": filters,
        "is_filtered": filters != alerts_page.AlertFilters() or sight.chosen is not None,
        "states": alerts_page.STATES,
        "severities": alerts_page.SEVERITIES,
        "kinds": AlertKind.choices,
        "unresolved": alerts_page.alerts_seen(sight, alerts_page.AlertFilters(alerts_page.UNRESOLVED)).count(),
        "sight": sight,
        "now": now,
    }
    return render(request, "dashboards/alerts.html", context)


@require_GET
@never_cache
@login_required
def one_alert(request: HttpRequest, alert_id: int) -> HttpResponse:
    """One alert with all that happened to it. Another team's is a 404 like any other unknown one."""
    alert = _alert(request, alert_id)
    [line] = alerts_page.alert_lines([alert], user=request.user)
    events = alert.events.select_related("by").prefetch_related("deliveries__channel").order_by("-at", "-pk")
    context = {"line": line, "alert": alert, "events": events, "moves": Move, "now": timezone.now()}
    context["shows_deliveries"] = request.user.is_staff
    return render(request, "dashboards/alert.html", context)


@require_POST
@login_required
def act(request: HttpRequest, alert_id: int) -> HttpResponse:
    """`move` is a `Move`. For leads of the alert's team, and staff who may change alerts."""
    alert = _alert(request, alert_id)
    led = alerts_page.teams_led(request.user)
    if led is not None and alert.team_id not in led:
        raise PermissionDenied("Only the leads of its team act on an alert.")
    try:
        move = Move(request.POST.get("move", ""))
    except ValueError:
        raise Http404("Nothing of that name can be done about an alert.") from None
    if alert_move(alert=alert, move=move, by=cast(User, request.user), now=timezone.now()):
        messages.success(request, f"“{alert.title}” is {SAID[move]}.")
    else:
        messages.warning(request, f"“{alert.title}” had been taken care of before.")
    back = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        back, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return redirect(back if is_ours else "analytics:alert", *(() if is_ours else (alert.pk,)))


def _alert(request: HttpRequest, alert_id: int) -> Alert:
    alert = alerts_page.alerts_seen(sight_of(request.user, {})).filter(pk=alert_id).first()
    if alert is None:
        raise Http404("No such alert.")
    return alert
