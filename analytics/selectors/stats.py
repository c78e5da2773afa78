"""The figures that a program asks for: what a stretch of time cost, how long answers took, how many came to a good end.

Cost, requests and failures are those of the dashboards (`usage_sums`): rollups where they are right, records elsewhere.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from django.db.models import QuerySet, Sum

from analytics.domain.rollup import Stretch, Sums, sources_of
from analytics.selectors.sums import (
    consistent_read,
    daily_of,
    dirty_hours,
    hourly_of,
    of_teams,
    records_dropped_before,
    records_of,
    usage_sums,
)

NO_MODEL = "none"  # requests that came to no model: refused, or failed before one was asked


@dataclass(frozen=True, slots=True)
class Use:
    """Sums, and the milliseconds that all these requests took together."""

    sums: Sums = field(default_factory=Sums)
    waited_ms: float = 0.0

    @property
    def success_rate(self) -> float | None:
        """The share that did not fail, 0 to 1; None without requests. One that its caller gave up did not fail."""
        return (self.sums.requests - self.sums.errors) / self.sums.requests if self.sums.requests else None

    @property
    def avg_latency_ms(self) -> float | None:
        """The mean over all requests, whatever became of them; None without any."""
        return self.waited_ms / self.sums.requests if self.sums.requests else None

    def plus(self, other: "Use") -> "Use":
        return Use(self.sums.plus(other.sums), self.waited_ms + other.waited_ms)


@dataclass(frozen=True, slots=True)
class Stats:
    total: Use
    by_model: dict[str, Use]  # the busiest first


def usage_stats(*, team_ids: Collection[int] | None, span: Stretch) -> Stats:
    """The figures of `span`, exact at one moment. `team_ids` None is all teams, an empty collection is none."""
    with consistent_read():
        sums = usage_sums("model", team_ids=team_ids, days=span)
        waited = _waited_ms(team_ids, span)
    by_model = {model or NO_MODEL: Use(one, waited.get(model, 0.0)) for (model,), one in sums.items()}
    busiest = sorted(by_model.items(), key=lambda item: (-item[1].sums.requests, item[0]))
    return Stats(reduce(Use.plus, by_model.values(), Use()), dict(busiest))


def _waited_ms(team_ids: Collection[int] | None, span: Stretch) -> dict[str, float]:
    """By model, from the same rows as `usage_sums`."""
    sources = sources_of(span, dirty=dirty_hours(span), dropped_before=records_dropped_before())
    rows: list[tuple[QuerySet[Any], str]] = [
        (daily_of(sources.days), "latency_ms_sum"),
        (hourly_of(sources.hours), "latency_ms_sum"),
        (records_of(sources.records), "latency_ms"),
    ]
    found: dict[str, float] = {}
    for some, column in rows:
        for model, waited_ms in of_teams(some, team_ids).order_by().values_list("model").annotate(ms=Sum(column)):
            found[model] = found.get(model, 0.0) + (waited_ms or 0.0)
    return found
