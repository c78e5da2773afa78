"""What each rule finds now: figures are read, the domain decides, and the words are put together here.

Every text says what happened, since when, how much, and what to do: it may be read at three in the morning.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Min, Sum
from django.urls import reverse

from analytics.domain.alerts import (
    HOUR,
    error_rate,
    forecast_counts,
    hours_before,
    spend_anomaly,
    thresholds_passed,
)
from analytics.domain.rollup import Stretch
from analytics.models import AlertKind, AlertUnit, Budget, BudgetMode, HourlyRollup, Severity, UsageRollup
from analytics.presentation import count, money, percent
from analytics.selectors.budgets import BudgetState, budgets_with_spend
from analytics.selectors.pricing import OddUsage, unpriced_usage, zero_cost_usage
from analytics.selectors.sums import usage_sums
from analytics.services.providers import recent_traffic
from providers.domain.health import traffic_note
from providers.models import Health, Provider
from routing.models import Team

Parameters = Mapping[str, Any]
FORECAST_STAYS_FROM = 0.9  # of the limit: a forecast around it does not open and resolve by the hour
DIFFERENCES_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to tell. `opens` False keeps an alert that is there, and makes none.

    `window_starts_at` None: the trouble has no period of its own; an alert about it goes on for as long as it does.
    """

    subject: str
    subject_name: str
    severity: Severity
    title: str
    text: str
    link: str = ""
    threshold: str = ""
    value: int = 0
    limit: int | None = None
    unit: AlertUnit = AlertUnit.NONE
    team_id: int | None = None
    budget_id: int | None = None
    window_starts_at: datetime | None = None
    opens: bool = True


# --- budgets --------------------------------------------------------------------------------------------------------


def budget_threshold_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per threshold that a budget has reached, and one for its own `soft_budget`."""
    for state in _budgets(now):
        passed = thresholds_passed(
            spent_nano=state.spent_nano, limit_nano=state.limit_nano, percents=parameters["percents"]
        )
        for threshold in passed:
            yield _threshold_finding(state, threshold)
        soft_nano = int((state.budget.soft_budget or 0) * 10**9)
        if soft_nano and state.spent_nano >= soft_nano:
            yield _soft_finding(state, soft_nano)


def _threshold_finding(state: BudgetState, threshold: int) -> Finding:
    severity = Severity.CRITICAL if threshold >= 100 else Severity.WARNING if threshold >= 80 else Severity.INFO
    spent = f"{money(state.spent_nano)} of {money(state.limit_nano)} {_since(state)}"
    if threshold < 100:
        todo = "Look at what spends it; raise the budget if that is as it should be."
    elif state.budget.is_hard:
        todo = "Requests that it applies to are refused now. Raise the budget, or let it be until its next period."
    else:
        todo = "It refuses nothing: spending goes on. Raise the budget, or stop what spends it."
    unpriced = f" {count(state.unpriced)} requests of unknown price are not in it." if state.unpriced else ""
    return _budget_finding(
        state,
        severity=severity,
        threshold=str(threshold),
        limit=state.limit_nano,
        title=f"{state.budget.subject} has spent {threshold} % of its budget",
        text=f"{_name(state.budget)} has spent {spent}.{unpriced} {_ends(state)} {todo}",
    )


def _soft_finding(state: BudgetState, soft_nano: int) -> Finding:
    return _budget_finding(
        state,
        severity=Severity.WARNING,
        threshold="soft",
        limit=soft_nano,
        title=f"{state.budget.subject} has spent {money(soft_nano)}, where its budget warns",
        text=f"{_name(state.budget)} has spent {money(state.spent_nano)} {_since(state)}: its budget of "
        f"{money(state.limit_nano)} warns at {money(soft_nano)}. {_ends(state)} Look at what spends it.",
    )


def budget_forecast_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding for each budget that will not last until the end of its period."""
    for state in _budgets(now):
        spent = {"spent_nano": state.spent_nano, "limit_nano": state.limit_nano}
        if not forecast_counts(**spent, begins_at=state.begins_at, now=now, parameters=parameters):
            continue
        ahead = state.forecast(now)
        runs_out_at = (ahead and ahead.runs_out_at) or state.ends_before
        if ahead is None or ahead.at_end_nano is None or runs_out_at is None or state.spent_nano >= state.limit_nano:
            continue
        if ahead.at_end_nano < state.limit_nano * FORECAST_STAYS_FROM:
            continue
        yield _budget_finding(
            state,
            severity=Severity.WARNING,
            limit=state.limit_nano,
            opens=ahead.at_end_nano > state.limit_nano,
            title=f"The budget of {state.budget.subject} lasts until {runs_out_at.astimezone(UTC):%-d %b} at this rate",
            text=f"{_name(state.budget)} has spent {money(state.spent_nano)} of {money(state.limit_nano)} "
            f"{_since(state)}. At this rate it comes to {money(ahead.at_end_nano)} by the end of "
            f"the period, and the budget is used up on {_when(runs_out_at)}. {_ends(state)} "
            "Raise it in time, or look at what spends it.",
        )


def _budgets(now: datetime) -> list[BudgetState]:
    """Those that people are told about: a shadow budget only counts."""
    states = budgets_with_spend(team_ids=None, now=now)
    return [state for state in states if state.budget.mode != BudgetMode.SHADOW]


def _budget_finding(state: BudgetState, **told: Any) -> Finding:
    budget = state.budget
    return Finding(
        subject=f"budget:{budget.pk}",
        subject_name=str(budget.subject),
        link=reverse("admin:analytics_budget_change", args=[budget.pk]),
        value=state.spent_nano,
        unit=AlertUnit.NANO_USD,
        team_id=budget.team_id or (budget.key.team_id if budget.key else None),
        budget_id=budget.pk,
        window_starts_at=state.begins_at,
        **told,
    )


def _name(budget: Budget) -> str:
    """“Team Search”, “Key app 1”."""
    return f"{budget.get_scope_display()} {budget.subject}"


def _since(state: BudgetState) -> str:
    return f"since {_when(state.begins_at)}"


def _ends(state: BudgetState) -> str:
    return f"The period ends on {_when(state.ends_before)}." if state.ends_before else "It is a total budget."


# --- spend ----------------------------------------------------------------------------------------------------------


def spend_anomaly_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per team that spends far more in this hour, or spent in the last one, than it does at that time."""
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = (this_hour, this_hour - HOUR)
    spent = usage_sums("hour", "team_id", team_ids=None, days=Stretch(hours[1], this_hour + HOUR))
    began = _first_days()
    teams = Team.objects.in_bulk({team_id for _, team_id in spent})
    told: set[int] = set()
    for hour in hours:
        usual = _spent_by_team(hours_before(hour))
        for (_, team_id), sums in sorted((key, sums) for key, sums in spent.items() if key[0] == hour):
            before = [past for past in hours_before(hour) if began.get(team_id, now) <= past]
            history = [usual[team_id].get(past, 0) for past in before]
            found = spend_anomaly(sums.cost_nano, history, parameters)
            if found is None or team_id in told or team_id not in teams:
                continue
            told.add(team_id)
            name, length = teams[team_id].name, "so far " if hour == this_hour else ""
            yield Finding(
                subject=f"team:{team_id}",
                subject_name=name,
                severity=Severity.WARNING,
                title=f"{name} spends {money(sums.cost_nano)} an hour instead of {money(found.usual_nano)}",
                text=f"Team {name} has spent {money(sums.cost_nano)} {length}in the hour from {_when(hour)}. In the "
                f"{len(history)} weeks before, it was {money(found.usual_nano)} at this time (median); up to "
                f"{money(found.limit_nano)} counts as usual. Look at its latest requests, and revoke the key if "
                "nobody knows why.",
                link=f"{reverse('analytics:requests')}?range=today&team={teams[team_id].slug}",
                value=sums.cost_nano,
                limit=found.limit_nano,
                unit=AlertUnit.NANO_USD,
                team_id=team_id,
            )


def _spent_by_team(hours: Sequence[datetime]) -> dict[int, dict[datetime, int]]:
    """By team and hour, from the hourly rollups: of hours this old, what is still dirty changes no median."""
    rows = HourlyRollup.objects.filter(hour__in=hours).order_by().values_list("team_id", "hour")
    found: dict[int, dict[datetime, int]] = defaultdict(dict)
    for team_id, hour, cost_nano in rows.annotate(cost=Sum("cost_nano")):
        found[team_id][hour] = cost_nano
    return found


def _first_days() -> dict[int, datetime]:
    """When each team began to use models: weeks before that are no history of spending nothing."""
    rows = UsageRollup.objects.order_by().values_list("team_id")
    return {team_id: datetime(day.year, day.month, day.day, tzinfo=UTC) for team_id, day in rows.annotate(Min("day"))}


def unpriced_usage_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per model that was used in the last hour and whose price nobody knows."""
    for odd in _enough(unpriced_usage(now - HOUR, now), parameters):
        yield _odd_finding(
            odd,
            title=f"The price of {odd.model or odd.deployment} is not known",
            text=f"{_used(odd)} It has no price, so the cost is missing in every sum and no budget counts it. Enter "
            "the price in the admin, then run `manage.py rerate`, which corrects what was recorded.",
        )


def zero_cost_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per model whose requests of the last hour cost nothing, though its price says that they do."""
    for odd in _enough(zero_cost_usage(now - HOUR, now), parameters):
        yield _odd_finding(
            odd,
            title=f"{odd.model or odd.deployment} has a price, but its requests cost nothing",
            text=f"{_used(odd)} All of them were recorded at $0.00 though the price list says otherwise. Check the "
            "prices of the model and of its deployment, then run `manage.py rerate`.",
        )


def _enough(found: Iterable[OddUsage], parameters: Parameters) -> list[OddUsage]:
    return [odd for odd in found if odd.tokens > 0 and odd.requests >= parameters["requests"]]


def _used(odd: OddUsage) -> str:
    requests = f"{count(odd.requests)} request{'' if odd.requests == 1 else 's'}"
    return (
        f"{requests} with {count(odd.tokens)} tokens went to {odd.deployment or odd.model} since {_when(odd.first_at)}."
    )


def _odd_finding(odd: OddUsage, *, title: str, text: str) -> Finding:
    name = odd.deployment or odd.model
    return Finding(
        subject=f"deployment:{name}"[:160],
        subject_name=name,
        severity=Severity.WARNING,
        link=reverse("admin:providers_price_changelist"),
        value=odd.requests,
        unit=AlertUnit.REQUESTS,
        title=title,
        text=text,
    )


# --- providers ------------------------------------------------------------------------------------------------------


def provider_down_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per active provider that is down."""
    for provider in Provider.objects.filter(is_active=True, health=Health.DOWN):
        seen = f"As of {_when(provider.checked_at)}: " if provider.checked_at else ""
        reason = provider.health_note or "no reason was recorded"
        yield Finding(
            subject=f"provider:{provider.name}",
            subject_name=provider.label,
            severity=Severity.CRITICAL,
            title=f"{provider.label} is down",
            text=f"{seen}{reason}. Requests fall back to other providers where a policy has some; models that only it "
            "serves fail. Look at its status page, check its key, or switch the provider off until it is back.",
            link=reverse("admin:providers_provider_change", args=[provider.pk]),
        )


def error_rate_findings(parameters: Parameters, now: datetime) -> Iterator[Finding]:
    """A finding per provider that fails too often. One that is down has its alert already."""
    traffic = recent_traffic(now)
    for provider in Provider.objects.filter(name__in=traffic, is_active=True):
        seen = traffic[provider.name]
        attempts, failed = len(seen.failures), len(seen.blamed)
        rate = error_rate(attempts=attempts, failed=failed, parameters=parameters)
        if rate is None:
            continue
        yield Finding(
            subject=f"provider:{provider.name}",
            subject_name=provider.label,
            severity=Severity.WARNING,
            title=f"{percent(failed / attempts)} of the requests to {provider.label} fail",
            text=f"In the 5 minutes before {_when(now)}, {traffic_note(seen)}. Callers are served by fallbacks where "
            "a policy has some. Look at the errors in the request log, and switch the provider off if it gets worse.",
            link=f"{reverse('analytics:requests')}?range=today&provider={provider.name}&errors=1",
            value=round(rate.percent),
            limit=round(parameters["percent"]),
            unit=AlertUnit.PERCENT,
            opens=rate.opens and provider.health != Health.DOWN,
        )


# --- the ledger -----------------------------------------------------------------------------------------------------


def ledger_findings(differences: Sequence[str], *, subject: str, opens: bool = True) -> list[Finding]:
    """At most one finding, about everything that is not in order."""
    if not differences:
        return []
    told = "; ".join(differences[:DIFFERENCES_TOLD])
    more = f"; and {len(differences) - DIFFERENCES_TOLD} more" if len(differences) > DIFFERENCES_TOLD else ""
    return [
        Finding(
            subject=subject,
            subject_name="The ledger",
            severity=Severity.CRITICAL,
            title="The ledger is not in order",
            text=f"Its check found what does not add up: {told}{more}. Run `manage.py ledger_verify` for all of it. "
            "Records are the truth: `manage.py rollup_costs` recomputes sums from them.",
            value=len(differences),
            unit=AlertUnit.DIFFERENCES,
            opens=opens,
        )
    ]


def _when(moment: datetime | None) -> str:
    """“10 Mar 2026, 12:00 UTC”."""
    return f"{moment.astimezone(UTC):%-d %b %Y, %H:%M} UTC" if moment else "an unknown time"


FINDERS: dict[AlertKind, Callable[[Parameters, datetime], Iterable[Finding]]] = {
    AlertKind.BUDGET_THRESHOLD: budget_threshold_findings,
    AlertKind.BUDGET_FORECAST: budget_forecast_findings,
    AlertKind.SPEND_ANOMALY: spend_anomaly_findings,
    AlertKind.UNPRICED_USAGE: unpriced_usage_findings,
    AlertKind.ZERO_COST: zero_cost_findings,
    AlertKind.PROVIDER_DOWN: provider_down_findings,
    AlertKind.ERROR_RATE: error_rate_findings,
}
