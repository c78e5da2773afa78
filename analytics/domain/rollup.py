"""Days and sums: what a rollup holds, and which stretch of time a day is. Days are UTC days."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

ONE_DAY = timedelta(days=1)
DIMENSIONS = ("team_id", "key_id", "persona", "policy", "provider", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over requests. `unpriced` counts those of unknown price, which `cost_nano` cannot contain."""

    requests: int = 0
    errors: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    @property
    def tokens(self) -> int:
        """All of them: the buckets are disjoint."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens + self.output_tokens

    def values(self) -> dict[str, int]:
        """The sums alone, by name."""
        return {name: getattr(self, name) for name in SUM_NAMES}

    def plus(self, other: "Sums") -> "Sums":
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in SUM_NAMES})


SUM_NAMES = tuple(field.name for field in fields(Sums))


@dataclass(frozen=True, slots=True)
class DayRange:
    """Whole days, both ends included."""

    first: date
    last: date

    @property
    def begins_at(self) -> datetime:
        return day_begins(self.first)

    @property
    def ends_before(self) -> datetime:
        """The first moment after it."""
        return day_begins(self.last + ONE_DAY)

    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def previous(self) -> Self:
        """As many days, right before these."""
        return type(self)(self.first - (self.last - self.first) - ONE_DAY, self.first - ONE_DAY)


def day_begins(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def stretches(days: Iterable[date]) -> list[DayRange]:
    """The fewest ranges that cover exactly these days, in order."""
    found: list[DayRange] = []
    for day in sorted(set(days)):
        if found and found[-1].last + ONE_DAY == day:
            found[-1] = DayRange(found[-1].first, day)
        else:
            found.append(DayRange(day, day))
    return found


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which `share` (0 to 1) of all lie, interpolated linearly; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)
