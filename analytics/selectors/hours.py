"""One day by its hours."""

from collections.abc import Collection
from datetime import date

from analytics.domain.rollup import DayRange, Sums
from analytics.selectors.sums import usage_sums


def spend_by_team_hour(*, team_ids: Collection[int] | None, day: date) -> dict[tuple[int, int], Sums]:
    """Sums of a UTC day by (hour of the day, team id)."""
    found = usage_sums("hour", "team_id", team_ids=team_ids, days=DayRange(day, day))
    return {(hour.hour, team_id): sums for (hour, team_id), sums in found.items()}
