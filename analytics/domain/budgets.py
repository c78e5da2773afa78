"""Budgets as the request path knows them: which apply to a request, and which window of time they are in.

A period has no reset job: the next one is simply another window.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

Scope = Literal["team", "key", "persona", "alias"]
Mode = Literal["strict", "expected", "soft", "shadow"]
_DAYS = {"1d": 1, "7d": 7, "30d": 30}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time; `ends_before` None is for ever. Aware datetimes."""

    starts_at: datetime
    ends_before: datetime | None

    def contains(self, moment: datetime) -> bool:
        return self.starts_at <= moment and (self.ends_before is None or moment < self.ends_before)


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """A budget in force. `subject` is the id of the team or key, or the name of the persona or alias."""

    id: int
    name: str
    scope: Scope
    subject: int | str
    limit_nano: int
    duration: str  # a value of BudgetDuration
    time_zone: str
    mode: Mode
    created_at: datetime

    @property
    def is_hard(self) -> bool:
        """Whether it refuses requests."""
        return self.mode in {"strict", "expected"}

    def span_at(self, now: datetime) -> Span:
        """The period that `now` lies in."""
        return span_of(self.duration, time_zone=self.time_zone, created_at=self.created_at, now=now)


def span_of(duration: str, *, time_zone: str, created_at: datetime, now: datetime) -> Span:
    """The window of a budget that `now` lies in. `duration` is a value of `BudgetDuration`.

    Days and months begin at midnight in `time_zone`, also when that day has 23 or 25 hours. Periods of 7 and 30 days
    are counted from the day on which the budget was created; a total counts from the beginning of that day.
    """
    zone = ZoneInfo(time_zone)
    first, today = created_at.astimezone(zone).date(), now.astimezone(zone).date()
    if duration == "total":
        return Span(_midnight(first, zone), None)
    if duration == "1mo":
        begins = today.replace(day=1)
        year, month = divmod(begins.year * 12 + begins.month, 12)
        return Span(_midnight(begins, zone), _midnight(date(year, month + 1, 1), zone))
    days = _DAYS[duration]
    begins = today - timedelta(days=(today - first).days % days)
    return Span(_midnight(begins, zone), _midnight(begins + timedelta(days=days), zone))


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone)


_SECONDS = 34  # bits of a window's id that say when it starts, as seconds since the epoch: enough until 2514


def window_id(budget_id: int, starts_at: datetime) -> int:
    """The id of a budget's window. It follows from what the window is, so that a gateway can name one that no
    database has seen yet."""
    return budget_id << _SECONDS | int(starts_at.timestamp())


def window_of_id(number: int) -> tuple[int, datetime]:
    """The inverse of `window_id`: (budget id, start)."""
    return number >> _SECONDS, datetime.fromtimestamp(number & ((1 << _SECONDS) - 1), UTC)


class BudgetBook:
    """The budgets in force, by what they are for. Immutable."""

    def __init__(self, budgets: Iterable[BudgetTerms]) -> None:
        self._by_subject: dict[tuple[str, int | str], tuple[BudgetTerms, ...]] = {}
        for terms in budgets:
            subject = (terms.scope, terms.subject)
            self._by_subject[subject] = (*self._by_subject.get(subject, ()), terms)

    def __bool__(self) -> bool:
        return bool(self._by_subject)

    def applying_to(self, scope: Scope, subject: int | str) -> tuple[BudgetTerms, ...]:
        return self._by_subject.get((scope, subject), ())
