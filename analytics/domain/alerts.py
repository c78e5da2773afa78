"""Budget windows and thresholds. A period has no reset job: the next one is simply another window."""

from datetime import date, datetime

from analytics.domain.rollup import day_begins

THRESHOLDS = (50, 80, 100)  # per cent of the budget


def window_start(duration: str, *, created_at: datetime, now: datetime) -> datetime:
    """The first moment of the window that `now` lies in. `duration` is a value of `BudgetDuration`; times are UTC.

    A total budget counts from the beginning of the day on which it was created.
    """
    if duration == "total":
        return day_begins(created_at.date())
    return day_begins(now.date() if duration == "1d" else now.date().replace(day=1))


def window_end(duration: str, *, now: datetime) -> datetime | None:
    """The first moment after the window; None when it never ends."""
    if duration == "total":
        return None
    if duration == "1d":
        return day_begins(date.fromordinal(now.toordinal() + 1))
    year, month = divmod(now.year * 12 + now.month, 12)
    return day_begins(date(year, month + 1, 1))


def thresholds_passed(*, spent_nano: int, limit_nano: int) -> tuple[int, ...]:
    """Those that the spend has reached, in whole numbers: no rounding can open an alert early."""
    return tuple(threshold for threshold in THRESHOLDS if spent_nano * 100 >= limit_nano * threshold)
