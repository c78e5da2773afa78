"""Hours, days and sums: what a rollup holds, and which of them make up a stretch of time. Days are UTC days."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from heapq import nlargest
from itertools import pairwise
from typing import Self

ONE_DAY = timedelta(days=1)
ONE_HOUR = timedelta(hours=1)
MOST_STRETCHES = 100  # each is a condition of a query
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """From a moment to right before another. Aware datetimes."""

    begins_at: datetime
    ends_before: datetime

    def contains(self, moment: datetime) -> bool:
        return self.begins_at <= moment < self.ends_before


@dataclass(frozen=True, slots=True)
class Sources:
    """What to add up for a stretch of time: day rollups, hour rollups and records, each of their own stretches.

    Together they are that time and none overlaps another, but for records that arrived after those of their hour had
    been dropped: the rollup does not contain them, so both count.
    """

    days: tuple[DayRange, ...]
    hours: tuple[Stretch, ...]
    records: tuple[Stretch, ...]


def day_begins(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def hour_of(moment: datetime) -> datetime:
    """The full hour that `moment` lies in, in UTC: what rollups and marks call it."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def sources_of(
    span: DayRange | Stretch,
    *,
    dirty: Collection[datetime],
    dropped_before: datetime | None = None,
    by_hour: bool = False,
) -> Sources:
    """Where the sums of `span` are to be found while the rollups of the `dirty` hours are out of date.

    The records before `dropped_before` were dropped when their rollups were right. With `by_hour` no days are used.
    """
    late = [hour for hour in dirty if dropped_before and hour < dropped_before]
    inner = Stretch(_up(span.begins_at, ONE_HOUR), _down(span.ends_before, ONE_HOUR))
    clean = cut(inner, joined(set(dirty).difference(late)))
    records = cut(span, clean)
    days = [] if by_hour else _whole_days(span, records)
    hours = [part for one in clean for part in cut(one, days)]
    return Sources(
        days=tuple(DayRange(one.begins_at.date(), (one.ends_before - ONE_DAY).date()) for one in days),
        hours=tuple(hours),
        records=(*records, *(part for one in joined(late) for part in _shared(one, span))),
    )


def _whole_days(span: DayRange | Stretch, records: Iterable[Stretch]) -> list[Stretch]:
    """The days of `span` that none of `records` touches."""
    touched = [Stretch(_down(one.begins_at, ONE_DAY), _up(one.ends_before, ONE_DAY)) for one in records]
    return cut(Stretch(_up(span.begins_at, ONE_DAY), _down(span.ends_before, ONE_DAY)), touched)


def joined(hours: Iterable[datetime], *, at_most: int = MOST_STRETCHES) -> list[Stretch]:
    """The fewest stretches that cover these hours, in order. Above `at_most`, the nearest are joined into one."""
    ordered = sorted(set(hours))
    gaps = ((later - hour, later) for hour, later in pairwise(ordered) if later - hour > ONE_HOUR)
    begins = {hour for _, hour in nlargest(at_most - 1, gaps)}
    found: list[Stretch] = []
    for hour in ordered:
        if found and hour not in begins:
            found[-1] = Stretch(found[-1].begins_at, hour + ONE_HOUR)
        else:
            found.append(Stretch(hour, hour + ONE_HOUR))
    return found


def cut(whole: DayRange | Stretch, holes: Iterable[Stretch]) -> list[Stretch]:
    """What is left of a stretch without these others, in order. Nothing is left of one that ends before it begins."""
    found: list[Stretch] = []
    begins_at, ends_before = whole.begins_at, whole.ends_before
    for hole in sorted(holes, key=lambda one: one.begins_at):
        if begins_at < min(hole.begins_at, ends_before):
            found.append(Stretch(begins_at, min(hole.begins_at, ends_before)))
        begins_at = max(begins_at, hole.ends_before)
    return [*found, Stretch(begins_at, ends_before)] if begins_at < ends_before else found


def _shared(one: Stretch, span: DayRange | Stretch) -> list[Stretch]:
    shared = Stretch(max(one.begins_at, span.begins_at), min(one.ends_before, span.ends_before))
    return [shared] if shared.begins_at < shared.ends_before else []


def _down(moment: datetime, unit: timedelta) -> datetime:
    """The full hour or UTC day that `moment` lies in."""
    return moment - (moment - day_begins(moment.astimezone(UTC).date())) % unit


def _up(moment: datetime, unit: timedelta) -> datetime:
    return _down(moment + unit - timedelta(microseconds=1), unit)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which `share` (0 to 1) of all lie, interpolated linearly; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)
