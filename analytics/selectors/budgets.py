"""Budgets beside what was spent of them, from the same sums as the dashboards."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from analytics.domain.alerts import window_end, window_start
from analytics.domain.rollup import DayRange, Sums
from analytics.models import Budget
from analytics.selectors.sums import of_teams, usage_sums

NANO_PER_USD = Decimal(10**9)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its current window; `ends_before` is None when the window never ends."""

    budget: Budget
    begins_at: datetime
    ends_before: datetime | None
    spent_nano: int
    limit_nano: int
    unpriced: int

    @property
    def share(self) -> float:
        return self.spent_nano / self.limit_nano


def budgets_with_spend(*, team_ids: Collection[int] | None, now: datetime) -> list[BudgetState]:
    """Every active budget by team name."""
    budgets = of_teams(Budget.objects.filter(is_active=True), team_ids).select_related("team")
    windows = {
        budget: window_start(budget.budget_duration, created_at=budget.created_at, now=now)
        for budget in budgets.order_by("team__name", "budget_duration")
    }
    if not windows:
        return []
    days = DayRange(min(windows.values()).date(), now.astimezone(UTC).date())
    by_team = _by_team({budget.team_id for budget in windows}, days)
    return [_state(budget, begins_at, now, by_team[budget.team_id]) for budget, begins_at in windows.items()]


def _by_team(team_ids: set[int], days: DayRange) -> dict[int, dict[date, Sums]]:
    found: dict[int, dict[date, Sums]] = defaultdict(dict)
    for (team_id, day), sums in usage_sums("team_id", "day", team_ids=team_ids, days=days).items():
        found[team_id][day] = sums
    return found


def _state(budget: Budget, begins_at: datetime, now: datetime, by_day: dict[date, Sums]) -> BudgetState:
    spent = [sums for day, sums in by_day.items() if day >= begins_at.date()]
    return BudgetState(
        budget=budget,
        begins_at=begins_at,
        ends_before=window_end(budget.budget_duration, now=now),
        spent_nano=sum(sums.cost_nano for sums in spent),
        limit_nano=int(budget.max_budget * NANO_PER_USD),
        unpriced=sum(sums.unpriced for sums in spent),
    )
