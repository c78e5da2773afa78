"""When a budget will be spent, if it goes on as it does. Amounts are nano-USD. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from analytics.domain.budgets import Span

ONE_DAY = timedelta(days=1)
ENOUGH = timedelta(hours=1)  # less of a period says nothing about the rest of it
FAR = timedelta(days=366)  # nobody plans by what is further away


@dataclass(frozen=True, slots=True)
class Forecast:
    """`pace_nano` is per day. `runs_out_at` None: not in this period, or not within a year where it has no end.
    `at_end_nano` is what will be spent when the period ends; None where it does not."""

    pace_nano: int
    runs_out_at: datetime | None
    at_end_nano: int | None


def budget_forecast(
    *, spent_nano: int, limit_nano: int, span: Span, now: datetime, recent: Sequence[float] = ()
) -> Forecast | None:
    """Looks at the pace of the period so far and at the `recent` ones (per day), and believes the middle one: a single
    busy or idle day does not carry it away. None if there is too little to go by.
    """
    paces = list(recent)
    if now - span.starts_at >= ENOUGH:
        paces.append(spent_nano * (ONE_DAY / (now - span.starts_at)))
    pace = median(paces) if paces else 0.0
    if pace < 1:
        return None
    return Forecast(
        pace_nano=round(pace),
        runs_out_at=_runs_out_at(limit_nano - spent_nano, pace, span, now),
        at_end_nano=spent_nano + round(pace * ((span.ends_before - now) / ONE_DAY)) if span.ends_before else None,
    )


def _runs_out_at(left_nano: int, pace: float, span: Span, now: datetime) -> datetime | None:
    days_left = max(0, left_nano) / pace
    if days_left > FAR / ONE_DAY:
        return None
    runs_out_at = now + days_left * ONE_DAY
    return runs_out_at if span.contains(runs_out_at) else None
