"""Days, windows, thresholds, percentiles and shares: pure rules."""

from datetime import UTC, date, datetime

import pytest

from analytics.domain.rollup import DayRange, Sums, percentile
from analytics.domain.series import shares

MARCH_1, MARCH_2, MARCH_3 = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)
CREATED = datetime(2026, 2, 27, 18, 30, tzinfo=UTC)
NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)


def midnight(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_the_range_before_has_as_many_days_and_ends_the_day_before() -> None:
    assert DayRange(MARCH_1, MARCH_3).previous() == DayRange(date(2026, 2, 26), date(2026, 2, 28))
    assert DayRange(MARCH_1, MARCH_1).previous() == DayRange(date(2026, 2, 28), date(2026, 2, 28))


def test_a_range_goes_from_midnight_to_midnight_utc() -> None:
    days = DayRange(MARCH_1, MARCH_2)

    assert (days.begins_at, days.ends_before) == (midnight(2026, 3, 1), midnight(2026, 3, 3))
    assert days.days() == [MARCH_1, MARCH_2]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([7], 0.95, 7), ([1, 2, 3, 4], 0.5, 2.5), ([30, 10, 20], 0.5, 20), ([0, 100], 0.95, 95)],
)
def test_percentiles_lie_between_the_nearest_values(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


def test_sums_add_up_field_by_field_and_tokens_are_all_four_buckets() -> None:
    one = Sums(
        requests=1, input_tokens=1, cache_read_input_tokens=20, cache_creation_input_tokens=300, output_tokens=4000
    )

    assert one.tokens == 4321
    assert one.plus(Sums(requests=2, cost_nano=5)) == Sums(
        requests=3,
        cost_nano=5,
        input_tokens=1,
        cache_read_input_tokens=20,
        cache_creation_input_tokens=300,
        output_tokens=4000,
    )


def test_shares_are_parts_of_the_cost_and_nothing_is_a_share_of_nothing() -> None:
    sums: dict[int | str, Sums] = {"a": Sums(cost_nano=1), "b": Sums(cost_nano=3, requests=9)}

    found = shares(sums, {"a": "A", "b": "B"})

    assert [(one.label, one.share, one.requests) for one in found] == [("B", 0.75, 9), ("A", 0.25, 0)]
    assert shares({"a": Sums(requests=1)}, {"a": "A"})[0].share == 0
