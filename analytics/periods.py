"""Which days a page shows: a preset or a range of one's own, as its address says. Pure; days are UTC days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from analytics.domain.rollup import DayRange

PRESETS = {"today": "Today", "7d": "7 days", "30d": "30 days", "mtd": "This month"}
OTHER_NAMES = {"24h": "today"}
DEFAULT = "30d"
LONGEST_DAYS = 366
YEARS = range(2000, 2101)


@dataclass(frozen=True, slots=True)
class Period:
    """`name` is a preset or "custom"; `note` tells a person why the dates are not the ones asked for."""

    name: str
    days: DayRange
    note: str = ""

    @property
    def length(self) -> int:
        return (self.days.last - self.days.first).days + 1

    @property
    def is_one_day(self) -> bool:
        return self.length == 1


def period_of(query: Mapping[str, str], *, today: date) -> Period:
    """What `range`, `from` and `to` ask for; anything unreadable falls back to the default, with a note."""
    name = query.get("range", DEFAULT)
    name = OTHER_NAMES.get(name, name)
    if name == "custom":
        return _custom(query, today)
    if name not in PRESETS:
        return Period(DEFAULT, preset(DEFAULT, today), f"There is no range called “{name[:20]}”: these are 30 days.")
    return Period(name, preset(name, today))


def preset(name: str, today: date) -> DayRange:
    match name:
        case "today":
            return DayRange(today, today)
        case "mtd":
            return DayRange(today.replace(day=1), today)
        case _:
            return DayRange(today - timedelta(days=int(name.removesuffix("d")) - 1), today)


def _custom(query: Mapping[str, str], today: date) -> Period:
    first, last = _date(query.get("from", "")), _date(query.get("to", ""))
    if first is None or last is None:
        return Period(DEFAULT, preset(DEFAULT, today), "Both dates are needed, as YYYY-MM-DD: these are 30 days.")
    first, last = min(first, last), max(first, last)
    if (last - first).days >= LONGEST_DAYS:
        first = last - timedelta(days=LONGEST_DAYS - 1)
        return Period("custom", DayRange(first, last), f"Shown are the last {LONGEST_DAYS} days.")
    return Period("custom", DayRange(first, last))


def _date(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if found.year in YEARS else None
