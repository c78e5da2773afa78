"""Spend of a range of days: by day and team, by any dimension, and in total."""

from collections.abc import Collection, Iterable
from datetime import date
from functools import reduce
from typing import Any, Literal

from django.db.models import F, Value
from django.db.models.functions import Concat

from analytics.domain.rollup import DayRange, Sums
from analytics.domain.series import SpendRow, SpendShare, Totals, shares
from analytics.percentile import Percentile
from analytics.selectors.sums import ANSWERED, of_teams, records_of, usage_sums
from routing.models import Team, VirtualKey

Dimension = Literal["team", "key", "persona", "policy", "model", "provider"]
COLUMNS: dict[Dimension, str] = {
    "team": "team_id",
    "key": "key_id",
    "persona": "persona",
    "policy": "policy",
    "model": "model",
    "provider": "provider",
}
LATENCY_SAMPLE = 20_000  # percentiles look at no more than the latest so many requests of a range


def spend_by_team_day(*, team_ids: Collection[int] | None, start: date, end: date) -> list[SpendRow]:
    """One row for each day and team with requests, by day, then by team name."""
    sums = usage_sums("day", "team_id", team_ids=team_ids, days=DayRange(start, end))
    names = _team_names({team_id for _, team_id in sums})
    rows = [
        SpendRow(day=day, team_id=team_id, team_name=names[team_id], **one.values())
        for (day, team_id), one in sums.items()
    ]
    return sorted(rows, key=lambda row: (row.day, row.team_name))


def spend_by(dimension: Dimension, *, team_ids: Collection[int] | None, start: date, end: date) -> list[SpendShare]:
    """The cost by one dimension, the dearest first. An empty name is shown as “none”."""
    found = usage_sums(COLUMNS[dimension], team_ids=team_ids, days=DayRange(start, end))
    sums: dict[int | str, Sums] = {value: one for (value,), one in found.items()}
    return shares(sums, _labels(dimension, sums))


def spend_totals(*, team_ids: Collection[int] | None, start: date, end: date, compare_previous: bool = True) -> Totals:
    """All of a range; with `compare_previous` also of as many days right before it."""
    days = DayRange(start, end)
    previous = _totals(team_ids, days.previous(), None) if compare_previous else None
    return _totals(team_ids, days, previous)


def _totals(team_ids: Collection[int] | None, days: DayRange, previous: Totals | None) -> Totals:
    sums = reduce(Sums.plus, usage_sums("team_id", team_ids=team_ids, days=days).values(), Sums())
    answered = records_of([days]).filter(ANSWERED).order_by("-started_at")
    latest = of_teams(answered, team_ids)[:LATENCY_SAMPLE]
    latency = latest.aggregate(p50_ms=Percentile("latency_ms", 0.5), p95_ms=Percentile("latency_ms", 0.95))
    return Totals(p50_ms=latency["p50_ms"], p95_ms=latency["p95_ms"], previous=previous, **sums.values())


def _labels(dimension: Dimension, values: Iterable[Any]) -> dict[Any, str]:
    if dimension == "team":
        return _team_names(values)
    if dimension == "key":
        shown = Concat(F("name"), Value(" ("), F("prefix"), Value("…)"))
        keys = VirtualKey.objects.filter(pk__in=list(values)).annotate(shown=shown)
        return {value: f"key {value}" for value in values} | dict(keys.values_list("pk", "shown"))
    return {value: str(value) or "none" for value in values}


def _team_names(team_ids: Iterable[int]) -> dict[int, str]:
    """The names of today, so that a team that was renamed is one team; a missing row still has a label."""
    names = dict(Team.objects.filter(pk__in=list(team_ids)).values_list("pk", "name"))
    return {team_id: names.get(team_id, f"team {team_id}") for team_id in team_ids}
