"""The admin's first page: what was spent, what is wrong, and where to look next."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from analytics import presentation
from analytics.admin.alerts import severity_label
from analytics.admin.budgets import spent_cell
from analytics.alerts_page import figures_text
from analytics.budget_page import most_spent
from analytics.charts import Slot, StackedBars, stacked_bars
from analytics.domain.rollup import DayRange
from analytics.domain.series import SpendRow, Totals
from analytics.models import Alert, AlertState, BudgetRaise, RaiseState
from analytics.selectors import budgets_with_spend, provider_states, spend_by_team_day, spend_totals
from providers.admin.cells import moment
from providers.admin.pages import change_url
from providers.admin.vendors import health_label
from providers.models import Health, Provider
from routerplatform.navigation import SIDEBAR
from routing.access import sees_every_team, teams_of
from routing.models import ConfigRevision

DAYS_SHOWN = 30
ALERTS_SHOWN = 5
BUDGETS_SHOWN = 8
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Card:
    """One figure, what it is made of, and how it changed against the days before."""

    title: str
    figure: str
    note: str
    change: presentation.Change | None = None


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold asks for it: the context of the first page. Nobody sees more than the teams that are theirs to see."""
    now = timezone.now()
    today = now.astimezone(UTC).date()
    days = DayRange(today - timedelta(days=DAYS_SHOWN - 1), today)
    team_ids = None if sees_every_team(request.user) else list(teams_of(request.user).values_list("pk", flat=True))
    totals = spend_totals(team_ids=team_ids, start=days.first, end=days.last)
    rows = spend_by_team_day(team_ids=team_ids, start=days.first, end=days.last)
    return context | {
        "title": "Overview",
        "now": now,
        "days_shown": DAYS_SHOWN,
        "cards": cards_of(totals),
        "chart": chart_of(rows, days) if rows else None,
        "budgets": [
            {"url": change_url(state.budget), "spent": spent_cell(state), "budget": state.budget}
            for state in most_spent(budgets_with_spend(team_ids=team_ids, now=now), BUDGETS_SHOWN)
        ],
        "providers": provider_rows(now) if request.user.has_perm("providers.view_provider") else None,
        "alerts": alert_rows(team_ids),
        "revision": ConfigRevision.objects.first(),
    }


def cards_of(totals: Totals) -> list[Card]:
    read = totals.input_tokens + totals.cache_read_input_tokens + totals.cache_creation_input_tokens
    before = totals.previous or Totals(p50_ms=None, p95_ms=None)
    requests = presentation.change(totals.requests, before.requests)
    errors = presentation.change(totals.error_share, before.error_share, less_is_better=True)
    latency = presentation.change(totals.p50_ms, before.p50_ms, less_is_better=True)
    unknown = f"{totals.unpriced:,} request{'' if totals.unpriced == 1 else 's'} of unknown price"
    unpriced = unknown if totals.unpriced else "every request has its price"
    sent = f"{presentation.tokens(read)} in, {presentation.tokens(totals.output_tokens)} out"
    share = presentation.percent(totals.error_share if totals.requests else None)
    slow = f"median; 95 % within {presentation.duration(totals.p95_ms)}"
    spend = presentation.change(totals.spend_nano, before.spend_nano)
    return [
        Card("Spend", presentation.money(totals.spend_nano), unpriced, spend),
        Card("Requests", presentation.count(totals.requests), f"{totals.requests / DAYS_SHOWN:,.0f} a day", requests),
        Card("Tokens", presentation.tokens(read + totals.output_tokens), sent),
        Card("Errors", share, "after all fallbacks", errors),
        Card("Time to answer", presentation.duration(totals.p50_ms), slow, latency),
    ]


def chart_of(rows: list[SpendRow], days: DayRange) -> StackedBars:
    """Dollars a day, stacked by team."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    titles: dict[str, str] = {}
    for row in rows:
        values[str(row.team_id)][row.day.isoformat()] = row.cost_nano / NANO
        titles[str(row.team_id)] = row.team_name
    slots = [Slot(day.isoformat(), f"{day.day} {day:%b}", f"{day.day} {day:%B}") for day in days.days()]
    return stacked_bars(slots, values, titles)


def provider_rows(now: datetime) -> list[dict[str, Any]]:
    """Every provider that is on, the worst first."""
    worst = {Health.DOWN: 0, Health.DEGRADED: 1, Health.UNKNOWN: 2, Health.HEALTHY: 3}
    states = [state for state in provider_states(now=now) if state.is_active]
    return [
        {
            "state": state,
            "url": change_url(Provider(pk=state.id)),
            "health": health_label(state.health, state.note),
            "checked": presentation.elapsed(state.checked_at, now),
            "requests": presentation.count(state.requests_24h),
            "p50": presentation.duration(state.p50_ms),
            "errors": presentation.percent(presentation.ratio(state.errors_24h, state.requests_24h)),
        }
        for state in sorted(states, key=lambda state: worst[Health(state.health)])
    ]


def alert_rows(team_ids: list[int] | None) -> list[dict[str, Any]]:
    """The worst and latest alerts that nobody has taken care of."""
    alerts = Alert.objects.filter(state=AlertState.OPEN).order_by("-severity", "-opened_at")
    if team_ids is not None:
        alerts = alerts.filter(team__in=team_ids)
    return [
        {
            "alert": alert,
            "url": change_url(alert),
            "severity": severity_label(alert.severity),
            "figures": figures_text(alert),
            "opened": moment(alert.opened_at),
        }
        for alert in alerts[:ALERTS_SHOWN]
    ]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold asks for it, on every page: the sidebar, with how many providers are down and how many alerts wait."""
    badges = {
        "Providers": Provider.objects.filter(is_active=True, health=Health.DOWN).count(),
        "Alerts": Alert.objects.filter(state=AlertState.OPEN).count(),
        "Budget raises": BudgetRaise.objects.filter(state=RaiseState.REVIEW).count(),
    }
    return [group | {"items": [_with_badge(item, badges) for item in group["items"]]} for group in SIDEBAR]


def _with_badge(item: dict[str, Any], badges: dict[str, int]) -> dict[str, Any]:
    count = badges.get(item["title"], 0)
    return item | {"badge": count} if count else item
