"""The dashboards: spend per team, providers, the request log, keys. Every page shows only the reader's own teams."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from kombu.exceptions import OperationalError

from analytics import keys_page, request_page, spend_page
from analytics.budget_page import budget_lines
from analytics.exports import Cell, cost_cell, csv_response
from analytics.models import UsageState
from analytics.periods import PRESETS, Period, period_of
from analytics.route_why import policy_url, route_why
from analytics.selectors import (
    Dimension,
    RequestFilters,
    budgets_with_spend,
    names_used,
    provider_states,
    request_detail,
    requests_page,
    spend_by,
    spend_by_team_day,
    spend_totals,
)
from analytics.sight import Sight, sight_of
from providers.models import CatalogueModel, Provider
from providers.tasks import check_providers
from routing.access import access_key, can_issue_keys, teams_with_keys_by
from routing.forms import KeyForm
from routing.models import Persona, RoutingPolicy, VirtualKey
from routing.services import key_issue, key_revoke

ROWS_PER_PAGE = 50
UNFINISHED = {"today", "mtd"}  # a day or month that has only begun is less than a whole one
SUM_COLUMNS = (
    "requests", "errors", "unpriced", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "output_tokens",
)  # fmt: skip


# --- spend --------------------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def spend(request: HttpRequest) -> HttpResponseBase:
    """Spend per team and day, with everything in the address: range, team, table, order, `format=csv`."""
    now = timezone.now()
    sight = sight_of(request.user, request.GET)
    period = period_of(request.GET, today=now.date())
    by = spend_page.dimension_of(request.GET)
    if request.GET.get("format") == "csv":
        return _spend_csv(request, sight=sight, period=period, by=by)
    context = _spend_figures(sight, period, by, now) | {
        "sight": sight,
        "period": period,
        "presets": PRESETS,
        "now": now,
        "today": now.date(),
        "tabs": spend_page.TABS,
        "by": by,
        "table_label": spend_page.TABS[by],
        "sort": spend_page.sort_of(request.GET),
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    context["lines"] = spend_page.lines(
        context["shares"], by=by, sort=context["sort"], chart=context["chart"], sight=sight, period=period
    )
    return render(request, "dashboards/spend.html", context)


def _spend_figures(sight: Sight, period: Period, by: Dimension, now: datetime) -> dict[str, Any]:
    team_ids, start, end = sight.team_ids, period.days.first, period.days.last
    totals = spend_totals(team_ids=team_ids, start=start, end=end)
    is_unfinished = period.name in UNFINISHED
    if is_unfinished:
        totals = replace(totals, previous=None)
    shares = spend_by(by, team_ids=team_ids, start=start, end=end)
    if period.is_one_day:
        by_team = shares if by == "team" else spend_by("team", team_ids=team_ids, start=start, end=end)
        chart = spend_page.hour_chart(by_team, team_ids=team_ids, day=start)
    else:
        chart = spend_page.day_chart(spend_by_team_day(team_ids=team_ids, start=start, end=end), period.days)
    return {
        "totals": totals,
        "changes": spend_page.changes(totals),
        "is_unfinished": is_unfinished,
        "shares": shares,
        "chart": chart,
        "budgets": budget_lines(budgets_with_spend(team_ids=team_ids, now=now), now=now),
        "providers": provider_states(now=now),
        "ever_used": bool(
            totals.requests or requests_page(team_ids=team_ids, filters=RequestFilters(), limit=1).records
        ),
    }


def _spend_csv(request: HttpRequest, *, sight: Sight, period: Period, by: Dimension) -> HttpResponseBase:
    """By team: a row per day and team. By anything else: a row per value."""
    team_ids, start, end = sight.team_ids, period.days.first, period.days.last
    rows: Iterator[Sequence[Cell]]
    if by == "team":
        header = ["day", "team"]
        found = spend_by_team_day(team_ids=team_ids, start=start, end=end)
        rows = ([row.day.isoformat(), row.team_name, *_sums(row)] for row in found)
    else:
        header = [by]
        shares = spend_by(by, team_ids=team_ids, start=start, end=end)
        rows = ([row.label, *_sums(row)] for row in shares)
    name = f"spend-by-{by}-{period.days.first}-{period.days.last}"
    return csv_response(request, name=name, header=[*header, *SUM_COLUMNS, "cost_usd"], rows=rows)


def _sums(row: Any) -> list[Cell]:
    is_unknown = row.requests > 0 and row.unpriced == row.requests  # not a single price: no sum, least of all 0
    return [*(getattr(row, name) for name in SUM_COLUMNS), cost_cell(None if is_unknown else row.cost_nano)]


# --- providers ----------------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def provider_list(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    states = provider_states(now=now)
    context = {"states": states, "now": now, "checking": "checking" in request.GET}
    return render(request, "dashboards/providers.html", context)


@require_POST
@login_required
def check_now(request: HttpRequest) -> HttpResponse:
    """Have a worker check every active provider; staff only."""
    if not request.user.is_staff:
        raise PermissionDenied
    try:
        check_providers.delay(asked=True)
    except OperationalError:
        messages.error(request, "The check could not be queued: the queue of the workers does not answer.")
        return redirect("analytics:providers")
    said = "The workers are asked to check the providers. This page reloads itself once in a few seconds."
    messages.success(request, f"{said} If it then shows no new check, no worker is running.")
    return redirect("/dashboards/providers/?checking")


# --- requests -----------------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def request_log(request: HttpRequest) -> HttpResponseBase:
    """The log, the latest first; filters and position in the address, `format=csv` for all behind the filters."""
    now = timezone.now()
    sight = sight_of(request.user, request.GET)
    period = request_page.log_period(request.GET, today=now.date())
    filters = request_page.filters_of(request.GET, sight=sight, period=period)
    if request.GET.get("format") == "csv":
        records = request_page.all_records(team_ids=sight.team_ids, filters=filters)
        rows = ([_cell(getattr(record, name)) for name in request_page.CSV_FIELDS] for record in records)
        return csv_response(request, name=f"requests-{now:%Y-%m-%d}", header=request_page.CSV_FIELDS, rows=rows)
    before = request_page.position_of(request.GET.get("before", ""))
    after = request_page.position_of(request.GET.get("after", ""))
    page = requests_page(team_ids=sight.team_ids, filters=filters, before=before, after=after, limit=ROWS_PER_PAGE)
    if after is not None and page.next_after is None:  # less than a page is newer: show the latest, a whole one
        return redirect(_without_position(request))
    context = {
        "records": page.records,
        "older": request_page.position_text(page.next_before),
        "newer": request_page.position_text(page.next_after),
        "is_first": before is None and after is None,
        "filters": filters,
        "is_filtered": filters != RequestFilters(),
        "choices": _choices(sight, filters),
        "sight": sight,
        "period": period,
        "presets": PRESETS,
        "now": now,
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "dashboards/requests.html", context)


def _without_position(request: HttpRequest) -> str:
    kept = request.GET.copy()
    kept.pop("before", None)
    kept.pop("after", None)
    return f"{request.path}?{kept.urlencode()}" if kept else request.path


def _choices(sight: Sight, filters: RequestFilters) -> dict[str, Any]:
    """What the filters offer: all that is configured, or only what the teams that are looked at have used."""
    names = _names_configured() if sight.team_ids is None else names_used(team_ids=sight.team_ids)
    keys = VirtualKey.objects.select_related("team").order_by("team__name", "name")
    return {
        "states": UsageState.choices,
        "models": _offered(names["model"], filters.model),
        "providers": _offered(names["provider"], filters.provider),
        "personas": _offered(names["persona"], filters.persona),
        "policies": _offered(names["policy"], filters.policy),
        "virtual_keys": keys if sight.team_ids is None else keys.filter(team_id__in=sight.team_ids),
    }


def _names_configured() -> dict[str, Iterable[str]]:
    """From the configuration: it is small, the log is not."""
    models = CatalogueModel.objects.filter(deployments__isnull=False).order_by("name").distinct()
    return {
        "model": models.values_list("name", flat=True),
        "provider": Provider.objects.order_by("name").values_list("name", flat=True),
        "persona": Persona.objects.order_by("slug").values_list("slug", flat=True),
        "policy": RoutingPolicy.objects.order_by("name").values_list("name", flat=True),
    }


def _offered(names: Iterable[str], chosen: str) -> list[str]:
    """With the one that is in force, though it is configured no more: a form must not say “All” then."""
    known = list(names)
    return [*known, chosen] if chosen and chosen not in known else known


def _cell(value: Any) -> Cell:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return str(value) if isinstance(value, UUID) else value


@require_GET
@never_cache
@login_required
def one_request(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """One request: attempts, why this route, what it cost. Another team's is a 404 like any other unknown one."""
    sight = sight_of(request.user, {})
    record = request_detail(request_id=request_id, team_ids=sight.team_ids)
    if record is None:
        raise Http404("No such request.")
    context = {
        "record": record,
        "bars": request_page.attempt_bars(record),
        "why": route_why(record),
        "policy_url": policy_url(request.user, record),
        "bill": request_page.bill(record),
        "budget_part": request_page.budget_part(record),
        "corrections": request_page.corrections(record),
        "playground": request_page.playground_href(record, sight.slug_of(record.team_id)),
    }
    return render(request, "dashboards/request.html", context)


# --- keys ---------------------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def key_list(request: HttpRequest) -> HttpResponse:
    """The keys of the reader's teams. Who may issue and revoke them is told so by the buttons."""
    now = timezone.now()
    sight = sight_of(request.user, request.GET)
    page = Paginator(keys_page.keys_seen(sight), keys_page.KEYS_PER_PAGE).get_page(request.GET.get("page"))
    managed = {team.pk: team.is_active for team in teams_with_keys_by(request.user)}
    shown = [sight.chosen] if sight.chosen else sight.teams
    context = {
        "lines": keys_page.key_lines(list(page), managed=managed, now=now),
        "page": page,
        "may_issue": any(managed.get(team.pk) for team in shown),
        "sight": sight,
        "now": now,
    }
    return render(request, "dashboards/keys.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_key(request: HttpRequest) -> HttpResponse:
    """Issue a key. Its text is in the answer to the form and nowhere else: no session, message, cookie or address."""
    now = timezone.now()
    sight = sight_of(request.user, request.GET)
    teams = teams_with_keys_by(request.user).filter(is_active=True, pk__in=[team.pk for team in sight.teams])
    offered = list(teams)
    if not offered:
        raise PermissionDenied("Only the leads of a team issue its keys.")
    chosen = sight.chosen if sight.chosen in offered else offered[0] if len(offered) == 1 else None
    form = KeyForm(request.POST if request.method == "POST" else None, teams=teams, now=now, initial={"team": chosen})
    if not form.is_valid():
        return render(request, "dashboards/key_new.html", {"form": form})
    wanted = form.cleaned_data
    issued = key_issue(
        team=wanted["team"],
        name=wanted["name"],
        by=cast(User, request.user),
        scopes=wanted["scopes"],
        expires_at=form.expires_at(),
        allowed_models=wanted["allowed_models"],
    )
    context = {"key": issued.key, "secret": issued.secret, "base_url": request.build_absolute_uri("/v1")}
    return render(request, "dashboards/key_issued.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def revoke_key(request: HttpRequest, key_id: int) -> HttpResponse:
    """Ask first, then revoke. A key of another team is a 404 like an unknown one; a member's own team's is a 403."""
    key = access_key(request.user, key_id)
    if not can_issue_keys(request.user, key.team):
        raise PermissionDenied("Only the leads of a team revoke its keys.")
    now = timezone.now()
    if request.method == "GET" and key.revoked_at is None:
        [line] = keys_page.key_lines([key], managed={key.team_id}, now=now)
        return render(request, "dashboards/key_revoke.html", {"key": key, "line": line, "now": now})
    if request.method == "POST" and key_revoke(key=key, by=cast(User, request.user)):
        messages.success(request, f"{key} is revoked. Requests with it are refused within 2 seconds.")
    else:
        messages.warning(request, f"{key} had been revoked before.")
    return redirect("analytics:keys")
