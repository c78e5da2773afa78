"""Spend as dashboards show it: from rollups where they are true, from the records where they are not."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.models import UsageRollup, UsageState
from analytics.selectors import Dimension, spend_by, spend_by_team_day, spend_totals
from analytics.selectors.sums import dirty_hours
from analytics.services.rollups import rollup_recompute, rollups_refresh
from routing.models import VirtualKey
from tests.factories import (
    NOON,
    TeamFactory,
    UsageRecordFactory,
    UsageRollupFactory,
    VirtualKeyFactory,
    mark_hour,
)

TODAY = NOON.date()
YESTERDAY = TODAY - timedelta(days=1)
ONE_DAY = timedelta(days=1)
CENT = 10_000_000

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create(team=TeamFactory.create(name="Search"), name="app")


def use(key: VirtualKey, *, days_ago: int = 0, **kwargs: Any) -> None:
    at = NOON - timedelta(days=days_ago)
    UsageRecordFactory.create(key=key, at=at, **kwargs)
    mark_hour(at)


def test_clean_days_come_from_rollups_and_dirty_ones_from_records(key: VirtualKey) -> None:
    UsageRollupFactory.create(key=key, day=YESTERDAY, requests=7, cost_nano=70)  # no records behind it
    UsageRollupFactory.create(key=key, day=TODAY, requests=9, cost_nano=90)  # out of date
    use(key, cost_nano=1)
    use(key, cost_nano=2)

    rows = spend_by_team_day(team_ids=None, start=YESTERDAY, end=TODAY)

    assert [(row.day, row.team_name, row.requests, row.cost_nano) for row in rows] == [
        (YESTERDAY, "Search", 7, 70),
        (TODAY, "Search", 2, 3),
    ]


def everything(key: VirtualKey) -> list[object]:
    dimensions: tuple[Dimension, ...] = ("team", "key", "persona", "policy", "model", "provider")
    span: dict[str, Any] = {"team_ids": None, "start": TODAY - 9 * ONE_DAY, "end": TODAY}
    return [spend_by_team_day(**span), spend_totals(**span), *(spend_by(name, **span) for name in dimensions)]


def test_every_figure_is_the_same_before_and_after_the_rollup(key: VirtualKey) -> None:
    other = VirtualKeyFactory.create()
    for number in range(24):
        use(
            (key, other)[number % 2],
            days_ago=number % 5,
            persona=("", "analyst")[number % 3 == 0],
            policy=f"policy {number % 2}",
            model=f"model {number % 4}",
            provider=f"vendor {number % 3}",
            cost_nano=None if number % 7 == 0 else number,
            cache_read_input_tokens=number,
            state=UsageState.RELEASED if number % 6 == 0 else UsageState.SETTLED,
        )
    raw = everything(key)

    for day in sorted({hour.date() for hour in dirty_hours()})[:3]:
        rollup_recompute(day=day)
    mixed = everything(key)
    rollups_refresh()

    assert UsageRollup.objects.count() > 10
    assert raw == mixed == everything(key)


def test_a_team_sees_itself_only_and_no_team_sees_nothing(key: VirtualKey) -> None:
    stranger = VirtualKeyFactory.create()
    for days_ago in (0, 1):
        use(key, days_ago=days_ago)
        use(stranger, days_ago=days_ago)
    rollup_recompute(day=YESTERDAY)
    span: dict[str, Any] = {"start": YESTERDAY, "end": TODAY}

    own: dict[str, Any] = {"team_ids": [key.team_id], **span}
    assert {row.team_id for row in spend_by_team_day(**own)} == {key.team_id}
    assert spend_totals(**own).requests == 2
    assert [share.value for share in spend_by("key", **own)] == [key.pk]
    nobody: dict[str, Any] = {"team_ids": [], **span}
    assert (spend_by_team_day(**nobody), spend_by("team", **nobody), spend_totals(**nobody).requests) == ([], [], 0)


def test_shares_carry_labels_and_what_is_not_named_is_none(key: VirtualKey) -> None:
    use(key, persona="analyst", cost_nano=3 * CENT)
    use(key, cost_nano=CENT)

    personas = spend_by("persona", team_ids=None, start=TODAY, end=TODAY)
    [of_key] = spend_by("key", team_ids=None, start=TODAY, end=TODAY)

    assert [(one.value, one.label, one.share) for one in personas] == [("analyst", "analyst", 0.75), ("", "none", 0.25)]
    assert (of_key.value, of_key.label) == (key.pk, f"app ({key.prefix}…)")


def test_a_renamed_team_is_one_team_under_its_name_of_today(key: VirtualKey) -> None:
    use(key, team_name="Search (old)")
    use(key, days_ago=1)
    key.team.name = "Find"
    key.team.save()

    assert [one.label for one in spend_by("team", team_ids=None, start=YESTERDAY, end=TODAY)] == ["Find"]


def test_totals_stand_beside_those_of_the_period_before(key: VirtualKey) -> None:
    for latency_ms in (100, 200, 300):
        use(key, latency_ms=latency_ms)
    use(key, latency_ms=9000, state=UsageState.RELEASED, error_code="upstream_failed", cost_nano=0)
    use(key, latency_ms=9000, state=UsageState.CANCELLED, error_code="client_closed_request", cost_nano=None)
    use(key, days_ago=1, cost_nano=5, latency_ms=50)

    totals = spend_totals(team_ids=None, start=TODAY, end=TODAY)

    assert (totals.requests, totals.errors, totals.unpriced, totals.spend_nano) == (5, 1, 1, 3 * CENT)
    assert (totals.input_tokens, totals.output_tokens, totals.tokens) == (5000, 1000, 6000)
    assert totals.p50_ms == 200
    assert totals.p95_ms == pytest.approx(290)
    assert totals.error_share == 0.2
    assert totals.previous is not None
    assert (totals.previous.spend_nano, totals.previous.p50_ms, totals.previous.previous) == (5, 50, None)


def test_nothing_is_zero_not_an_error() -> None:
    totals = spend_totals(team_ids=None, start=TODAY, end=TODAY, compare_previous=False)

    assert (totals.requests, totals.spend_nano, totals.p50_ms, totals.error_share, totals.previous) == (
        0,
        0,
        None,
        0,
        None,
    )


def test_an_answer_that_broke_is_an_error_although_it_was_billed(key: VirtualKey) -> None:
    use(key, error_code="upstream_stream_broken")
    use(key, state=UsageState.EXPIRED, error_code="gateway_stopped")

    assert spend_totals(team_ids=None, start=TODAY, end=TODAY).errors == 2


@pytest.mark.parametrize(
    ("read", "queries"),
    [
        (lambda span: spend_by_team_day(**span), 7),
        (lambda span: spend_by("key", **span), 7),
        (lambda span: spend_by("model", **span), 6),
        (lambda span: spend_totals(**span), 14),
    ],
)
def test_the_number_of_queries_does_not_grow(
    read: Callable[[dict[str, Any]], object], queries: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        use(VirtualKeyFactory.create(), days_ago=number, model=f"model {number}")

    with django_assert_max_num_queries(queries):
        read({"team_ids": None, "start": TODAY - 9 * ONE_DAY, "end": TODAY})
