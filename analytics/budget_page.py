"""What the page of a budget shows, worked out from the selectors; and how budgets read everywhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from analytics import presentation
from analytics.budget_chart import BudgetChart, budget_chart
from analytics.charts import Slot
from analytics.domain.forecast import Forecast
from analytics.domain.rollup import DayRange, Stretch, hour_of
from analytics.models import Budget, BudgetDuration, BudgetLease, BudgetWindow
from analytics.selectors.budgets import BudgetState, budget_states
from analytics.selectors.subjects import stretch_of, subject_of, subject_sums
from analytics.services.budgets import GONE_AFTER

DAYS_SHOWN = 60
PAST_SHOWN = 12
LINES_SHOWN = 12
ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LeaseLine:
    """A gateway's part of the budget. One that is silent too long may be written off."""

    lease: BudgetLease
    is_gone: bool


@dataclass(frozen=True, slots=True)
class BudgetPage:
    state: BudgetState
    forecast: Forecast | None
    chart: BudgetChart
    is_by_hour: bool
    leases: tuple[LeaseLine, ...]
    past: tuple[BudgetWindow, ...]


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget among others."""

    state: BudgetState
    forecast: str
    is_running_out: bool
    resets: str


def budget_lines(states: Sequence[BudgetState], *, now: datetime) -> list[BudgetLine]:
    """All of them, or of many those of which the most is spent."""
    shown = most_spent(states, LINES_SHOWN)
    return [
        BudgetLine(
            state=state,
            forecast=forecast_words(state, state.forecast(now)),
            is_running_out=is_running_out(state, state.forecast(now)),
            resets=resets_words(state, now),
        )
        for state in shown
    ]


def most_spent(states: Sequence[BudgetState], count: int) -> list[BudgetState]:
    """The `count` of which the greatest share is spent, in their own order."""
    chosen = {id(state) for state in sorted(states, key=lambda state: -state.share)[:count]}
    return [state for state in states if id(state) in chosen]


def budget_page(budget: Budget, *, now: datetime) -> BudgetPage:
    """All about one budget in its current period, and what its earlier ones came to."""
    [state] = budget_states([budget], now=now)
    leases = BudgetLease.objects.filter(window_id=state.window_id).order_by("owner") if state.window_id else ()
    past = BudgetWindow.objects.filter(budget=budget, starts_at__lt=state.begins_at)[:PAST_SHOWN]
    return BudgetPage(
        state=state,
        forecast=state.forecast(now),
        chart=chart_of(state, now=now),
        is_by_hour=budget.budget_duration == BudgetDuration.DAY,
        leases=tuple(LeaseLine(lease, lease.renewed_at <= now - GONE_AFTER) for lease in leases),
        past=tuple(past),
    )


def chart_of(state: BudgetState, *, now: datetime) -> BudgetChart:
    """By UTC day, of a budget per day by hour; of a period without end the last DAYS_SHOWN days. What no record of
    these slots accounts for (it was spent before them, or written off) was there from the beginning."""
    by_hour = state.budget.budget_duration == BudgetDuration.DAY
    slots = _hours(state) if by_hour else _days(state, now)
    within = Stretch(max(state.begins_at, _begin(slots[0])), stretch_of(state.span).ends_before)
    subject = subject_of(state.budget)
    sums = subject_sums("hour" if by_hour else "day", subjects=[subject], within=within)
    spent = {moment.isoformat(): one.cost_nano for (*_, moment), one in sums.items()}
    past = sum(_begin(slot) <= now for slot in slots)
    before = max(0, state.spent_nano - sum(spent.values()))
    return budget_chart(slots, spent, before=before, limit=state.limit_nano, past=past)


def _days(state: BudgetState, now: datetime) -> list[Slot]:
    first, today = state.begins_at.astimezone(UTC).date(), now.astimezone(UTC).date()
    last = (state.ends_before - timedelta(microseconds=1)).astimezone(UTC).date() if state.ends_before else today
    days = DayRange(max(first, last - timedelta(days=DAYS_SHOWN - 1)), last).days()
    return [Slot(day.isoformat(), f"{day.day} {day:%b}", f"{day.day} {day:%B}") for day in days]


def _hours(state: BudgetState) -> list[Slot]:
    begin, end = hour_of(state.begins_at), stretch_of(state.span).ends_before
    hours = [begin + ONE_HOUR * n for n in range(25 + 1) if begin + ONE_HOUR * n < end]
    return [Slot(hour.isoformat(), f"{hour:%H}:00", f"{hour.day} {hour:%b, %H:%M} UTC") for hour in hours]


def _begin(slot: Slot) -> datetime:
    begin = datetime.fromisoformat(slot.key)
    return begin if begin.tzinfo else begin.replace(tzinfo=UTC)


# --- words --------------------------------------------------------------------------------------------------------


def resets_words(state: BudgetState, now: datetime) -> str:
    """How long until the next period: “in 3 d”."""
    if state.ends_before is None:
        return "never"
    left = int((state.ends_before - now).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if left >= size:
            return f"in {left // size}{presentation.NBSP}{unit}"
    return "in less than a minute"


def local_text(moment: datetime, time_zone: str) -> str:
    """A moment where the budget is, the zone named: “1 Dec 2026, 00:00 CET”."""
    there = moment.astimezone(ZoneInfo(time_zone))
    return f"{there.day} {there:%b %Y, %H:%M %Z}"


def forecast_words(state: BudgetState, forecast: Forecast | None) -> str:
    """What to expect, in a sentence without its full stop."""
    if state.spent_nano >= state.limit_nano:
        return "all of it is spent"
    if forecast is None:
        return "too little use for a forecast"
    if forecast.runs_out_at is not None:
        day = forecast.runs_out_at.astimezone(UTC)
        is_close = state.ends_before is not None and state.budget.budget_duration == BudgetDuration.DAY
        return f"runs out about {day.day} {day:%b}" + (f", {day:%H}:00 UTC" if is_close else "")
    if forecast.at_end_nano is None:
        return "lasts for more than a year"
    return f"lasts: about {presentation.money(forecast.at_end_nano)} by the end"


def is_running_out(state: BudgetState, forecast: Forecast | None) -> bool:
    return state.spent_nano >= state.limit_nano or (forecast is not None and forecast.runs_out_at is not None)
