"""One day by its hours, from the records themselves."""

from collections.abc import Collection
from datetime import UTC, date

from django.db.models.functions import ExtractHour

from analytics.domain.rollup import DayRange, Sums
from analytics.selectors.sums import of_teams, record_sums, records_of


def spend_by_team_hour(*, team_ids: Collection[int] | None, day: date) -> dict[tuple[int, int], Sums]:
    """Sums of a UTC day by (hour of the day, team id)."""
    records = of_teams(records_of([DayRange(day, day)]), team_ids)
    found = record_sums("hour", "team_id", records=records.annotate(hour=ExtractHour("started_at", tzinfo=UTC)))
    return {(int(hour), int(team_id)): sums for (hour, team_id), sums in found.items()}
