"""Where sums are found: rollups of days and hours, and records, without a gap and without counting anything twice."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.months import month_of
from analytics.domain.request_ids import CLOCKS_DIFFER, came_in_within
from analytics.domain.rollup import ONE_DAY, ONE_HOUR, DayRange, Sources, Stretch, cut, hour_of, joined, sources_of
from routerplatform.gateway.ids import new_request_id

BEGIN = datetime(2026, 2, 27, tzinfo=UTC)
HOURS = st.integers(0, 95).map(lambda n: BEGIN + n * ONE_HOUR)
MOMENTS = st.integers(0, 96 * 4).map(lambda n: BEGIN + n * timedelta(minutes=15))
SPANS = st.tuples(MOMENTS, MOMENTS).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: Stretch(*ends))


def found_in(sources: Sources, moment: datetime) -> list[str]:
    names = ("days", "hours", "records")
    return [name for name in names for one in getattr(sources, name) if one.begins_at <= moment < one.ends_before]


def quarters(span: Stretch) -> list[datetime]:
    length = (span.ends_before - span.begins_at) // timedelta(minutes=15)
    return [span.begins_at + n * timedelta(minutes=15) for n in range(length)]


@given(SPANS, st.sets(HOURS), st.booleans())
def test_every_moment_is_found_once_and_only_records_tell_of_dirty_hours(
    span: Stretch, dirty: set[datetime], by_hour: bool
) -> None:
    sources = sources_of(span, dirty=dirty, by_hour=by_hour)

    for moment in quarters(span):
        [place] = found_in(sources, moment)
        assert place == "records" or hour_of(moment) not in dirty
        assert place != "days" or not by_hour
    for moment in (span.begins_at - timedelta(microseconds=1), span.ends_before):
        assert found_in(sources, moment) == []


@given(st.sets(HOURS), st.integers(0, 96).map(lambda n: BEGIN + n * ONE_HOUR))
def test_what_was_dropped_is_found_in_rollups_and_what_came_later_in_both(
    dirty: set[datetime], dropped_before: datetime
) -> None:
    span = Stretch(BEGIN, BEGIN + 4 * ONE_DAY)

    sources = sources_of(span, dirty=dirty, dropped_before=dropped_before)

    for hour in (moment for moment in quarters(span) if moment < dropped_before):
        places = found_in(sources, hour)
        assert places[0] in {"days", "hours"}
        assert (len(places) > 1) >= (hour_of(hour) in dirty)


def test_clean_days_are_read_as_days_and_the_rest_of_a_dirty_one_as_hours() -> None:
    noon = BEGIN + 36 * ONE_HOUR

    sources = sources_of(DayRange(date(2026, 2, 27), date(2026, 3, 2)), dirty=[noon])

    assert sources.days == (
        DayRange(date(2026, 2, 27), date(2026, 2, 27)),
        DayRange(date(2026, 3, 1), date(2026, 3, 2)),
    )
    assert sources.hours == (
        Stretch(BEGIN + ONE_DAY, noon),
        Stretch(noon + ONE_HOUR, BEGIN + 2 * ONE_DAY),
    )
    assert sources.records == (Stretch(noon, noon + ONE_HOUR),)


def test_a_span_within_an_hour_is_read_from_records() -> None:
    span = Stretch(BEGIN + timedelta(minutes=10), BEGIN + timedelta(minutes=50))

    assert sources_of(span, dirty=[]) == Sources((), (), (span,))


@given(st.sets(HOURS), st.integers(1, 5))
def test_hours_are_joined_into_no_more_stretches_than_allowed(hours: set[datetime], at_most: int) -> None:
    found = joined(hours, at_most=at_most)

    assert len(found) <= at_most
    assert all(any(one.contains(hour) for one in found) for hour in hours)
    assert all(before.ends_before < after.begins_at for before, after in pairwise(found))
    if len(joined(hours)) <= at_most:
        assert sum((one.ends_before - one.begins_at) // ONE_HOUR for one in found) == len(hours)


def test_nothing_is_left_of_what_is_cut_away_or_was_nothing() -> None:
    day = Stretch(BEGIN, BEGIN + ONE_DAY)

    assert cut(day, [day]) == []
    assert cut(Stretch(BEGIN, BEGIN), []) == []
    assert cut(day, []) == [day]
    assert cut(day, [Stretch(BEGIN - ONE_DAY, BEGIN), Stretch(BEGIN + ONE_DAY, BEGIN + 2 * ONE_DAY)]) == [day]


@pytest.mark.parametrize(
    ("later", "begins", "ends"),
    [
        (0, datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (2, datetime(2027, 2, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)),
        (-12, datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_months_are_counted_over_the_end_of_the_year(later: int, begins: datetime, ends: datetime) -> None:
    assert month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), later=later) == Stretch(begins, ends)


def test_a_request_id_tells_when_the_request_came_in() -> None:
    moment = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
    of_that_moment = UUID(int=int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62)

    assert came_in_within(of_that_moment) == Stretch(moment - CLOCKS_DIFFER, moment + CLOCKS_DIFFER)
    assert came_in_within(UUID(new_request_id())) is not None


@pytest.mark.parametrize(
    "request_id",
    [UUID("8c5d2a04-6f0e-4c56-9d2f-0d3f4a1b2c3d"), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"), UUID(int=0)],
)
def test_an_id_without_a_time_of_this_world_tells_nothing(request_id: UUID) -> None:
    assert came_in_within(request_id) is None
