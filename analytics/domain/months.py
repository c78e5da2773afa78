"""Calendar months in UTC: how usage records are kept, and for how long."""

from datetime import UTC, datetime

from analytics.domain.rollup import Stretch


def month_of(moment: datetime, *, later: int = 0) -> Stretch:
    """The month of `moment`, or the one so many months after it (before it, when negative)."""
    utc = moment.astimezone(UTC)
    number = utc.year * 12 + utc.month - 1 + later
    return Stretch(_begins(number), _begins(number + 1))


def _begins(number: int) -> datetime:
    year, month = divmod(number, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)
