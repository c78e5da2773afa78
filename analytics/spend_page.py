"""What the spend page shows, worked out from the selectors: chart, table, figures beside the period before."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args
from urllib.parse import urlencode

from django.urls import reverse

from analytics.charts import MAX_SERIES, Slot, StackedBars, stacked_bars
from analytics.domain.rollup import DayRange
from analytics.domain.series import SpendRow, SpendShare, Totals
from analytics.periods import Period
from analytics.presentation import Change, change, change_of_share, ratio
from analytics.selectors import Dimension
from analytics.selectors.hours import spend_by_team_hour
from analytics.sight import Sight

TABS: dict[Dimension, str] = {
    "team": "Team", "model": "Model", "persona": "Persona", "key": "Key", "provider": "Provider", "policy": "Policy",
}  # fmt: skip
SORTS: dict[str, Callable[[SpendShare], Any]] = {
    "label": lambda row: row.label.lower(),
    "requests": lambda row: row.requests,
    "errors": lambda row: row.errors,
    "input": lambda row: row.tokens - row.output_tokens,
    "output": lambda row: row.output_tokens,
    "cost": lambda row: row.cost_nano,
}
DEFAULT_SORT = "-cost"


@dataclass(frozen=True, slots=True)
class Changes:
    """Each headline figure against the period before; None where there is nothing to compare with."""

    spend: Change | None = None
    requests: Change | None = None
    tokens: Change | None = None
    errors: Change | None = None
    p50: Change | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table. `tone` is the team's colour in the chart, 0 for none; `href` leads to what is behind it."""

    row: SpendShare
    href: str
    tone: int

    @property
    def error_share(self) -> float | None:
        return ratio(self.row.errors, self.row.requests)


def changes(totals: Totals) -> Changes:
    before = totals.previous
    if before is None or not before.requests:
        return Changes()
    return Changes(
        spend=change(totals.cost_nano, before.cost_nano),
        requests=change(totals.requests, before.requests),
        tokens=change(totals.tokens, before.tokens),
        errors=change_of_share(totals.error_share, before.error_share),
        p50=change(totals.p50_ms, before.p50_ms, less_is_better=True),
    )


def dimension_of(query: Mapping[str, str]) -> Dimension:
    asked = query.get("by", "team")
    return next((known for known in get_args(Dimension) if known == asked), "team")


def sort_of(query: Mapping[str, str]) -> str:
    """A name of SORTS, with a minus in front for the greatest first."""
    asked = query.get("sort", DEFAULT_SORT)
    return asked if asked.removeprefix("-") in SORTS else DEFAULT_SORT


def lines(
    rows: list[SpendShare], *, by: Dimension, sort: str, chart: StackedBars, sight: Sight, period: Period
) -> list[Line]:
    """The rows in order, teams in their colours of `chart`, which sums up in the last one what has none of its own."""
    tones = {series.key: series.tone for series in chart.legend}
    ranked = sorted(rows, key=SORTS[sort.removeprefix("-")], reverse=sort.startswith("-"))
    return [
        Line(row, _href(row, by, sight, period), tones.get(str(row.value), MAX_SERIES) if by == "team" else 0)
        for row in ranked
    ]


def _href(row: SpendShare, by: Dimension, sight: Sight, period: Period) -> str:
    parameters = {"range": period.name}
    if period.name == "custom":
        parameters |= {"from": period.days.first.isoformat(), "to": period.days.last.isoformat()}
    if by == "team":
        slug = sight.slug_of(int(row.value))
        return f"{reverse('analytics:spend')}?{urlencode(parameters | {'team': slug, 'by': 'model'})}" if slug else ""
    if row.value == "":
        return ""
    if sight.chosen:
        parameters["team"] = sight.chosen.slug
    return f"{reverse('analytics:requests')}?{urlencode(parameters | {by: str(row.value)})}"


def day_chart(rows: list[SpendRow], days: DayRange) -> StackedBars:
    values: dict[str, dict[str, float]] = defaultdict(dict)
    titles: dict[str, str] = {}
    for row in rows:
        titles[str(row.team_id)] = row.team_name
        values[str(row.team_id)][row.day.isoformat()] = row.cost_nano
    slots = [Slot(day.isoformat(), f"{day:%-d %b}", f"{day:%A, %-d %b}") for day in days.days()]
    return stacked_bars(slots, values, titles)


def hour_chart(shares: list[SpendShare], *, team_ids: tuple[int, ...] | None, day: date) -> StackedBars:
    """The chart of a single day; `shares` by team name the teams."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for (hour, team_id), sums in spend_by_team_hour(team_ids=team_ids, day=day).items():
        values[str(team_id)][f"{hour:02}:00"] = sums.cost_nano
    titles = {team_id: f"team {team_id}" for team_id in values} | {str(one.value): one.label for one in shares}
    slots = [Slot(f"{hour:02}:00", f"{hour:02}:00", f"{hour:02}:00 to {hour:02}:59 UTC") for hour in range(24)]
    return stacked_bars(slots, values, titles)
