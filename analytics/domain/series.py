"""What dashboards show: spend by day and team, shares of a whole, totals beside those of the period before."""

from dataclasses import dataclass
from datetime import date

from analytics.domain.rollup import Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow(Sums):
    """A team's day."""

    day: date
    team_id: int
    team_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendShare(Sums):
    """One value of a dimension: `value` is an id or a name, for links; `share` is its part of the cost, 0 to 1."""

    value: int | str
    label: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Sums):
    """All requests of a period. Percentiles are over its latest answered requests; None when there are none."""

    p50_ms: float | None
    p95_ms: float | None
    previous: "Totals | None" = None

    @property
    def spend_nano(self) -> int:
        return self.cost_nano

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def shares(sums: dict[int | str, Sums], labels: dict[int | str, str]) -> list[SpendShare]:
    """Each value's part of the cost, the dearest first."""
    total = sum(one.cost_nano for one in sums.values())
    found = [
        SpendShare(value=value, label=labels[value], share=one.cost_nano / total if total else 0.0, **one.values())
        for value, one in sums.items()
    ]
    return sorted(found, key=lambda one: (-one.cost_nano, -one.requests, one.label))
