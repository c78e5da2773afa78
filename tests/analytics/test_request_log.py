"""The request log: keyset pages, filters, and who may see which record."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.models import UsageRecord, UsageState
from analytics.selectors import RequestFilters, names_used, request_detail, requests_page
from analytics.services.rollups import rollup_rebuild
from tests.factories import NOON, UsageRecordFactory, VirtualKeyFactory, mark_day

EVERYTHING = RequestFilters()
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def found(filters: RequestFilters, *, team_ids: list[int] | None = None) -> list[UsageRecord]:
    return list(requests_page(team_ids=team_ids, filters=filters).records)


def test_pages_show_every_record_once_the_latest_first_even_at_the_same_moment() -> None:
    key = VirtualKeyFactory.create()
    for number in range(7):
        UsageRecordFactory.create(key=key, at=NOON - (number // 3) * MINUTE)
    seen: list[UsageRecord] = []
    page = requests_page(team_ids=None, filters=EVERYTHING, limit=2)
    sizes = [len(page.records)]
    seen += page.records
    while page.next_before:
        page = requests_page(team_ids=None, filters=EVERYTHING, before=page.next_before, limit=2)
        sizes.append(len(page.records))
        seen += page.records

    assert sizes == [2, 2, 2, 1]
    assert len({record.pk for record in seen}) == 7
    assert [record.started_at for record in seen] == sorted((record.started_at for record in seen), reverse=True)


def test_a_page_that_is_just_full_is_the_last() -> None:
    for _ in range(2):
        UsageRecordFactory.create()

    assert requests_page(team_ids=None, filters=EVERYTHING, limit=2).next_before is None


def test_a_record_that_arrives_meanwhile_does_not_shift_the_next_page() -> None:
    first, second = (UsageRecordFactory.create(at=NOON - n * MINUTE) for n in range(2))
    page = requests_page(team_ids=None, filters=EVERYTHING, limit=1)
    UsageRecordFactory.create(at=NOON + MINUTE)

    after = requests_page(team_ids=None, filters=EVERYTHING, before=page.next_before, limit=1)

    assert (page.records, after.records) == ((first,), (second,))


def test_pages_lead_back_to_the_newest_through_the_same_records() -> None:
    for number in range(7):
        UsageRecordFactory.create(at=NOON - (number // 3) * MINUTE)
    pages = [requests_page(team_ids=None, filters=EVERYTHING, limit=3)]
    while position := pages[-1].next_before:
        pages.append(requests_page(team_ids=None, filters=EVERYTHING, before=position, limit=3))
    back = [pages[-1]]
    while position := back[-1].next_after:
        back.append(requests_page(team_ids=None, filters=EVERYTHING, after=position, limit=3))

    assert [len(page.records) for page in pages] == [3, 3, 1]
    assert [page.records for page in back] == [page.records for page in reversed(pages)]
    assert (pages[0].next_after, back[-1].next_before) == (None, pages[0].next_before)


def test_nothing_is_newer_than_the_newest() -> None:
    record = UsageRecordFactory.create()

    page = requests_page(team_ids=None, filters=EVERYTHING, after=(record.started_at, record.request_id))

    assert (page.records, page.next_before, page.next_after) == ((), None, None)


def test_names_are_those_of_a_teams_own_requests_whether_added_up_or_not() -> None:
    day = NOON.date()
    old = UsageRecordFactory.create(at=NOON - timedelta(days=1), persona="analyst", provider="groq", model="old")
    new = UsageRecordFactory.create(key=old.key, at=NOON, persona="", policy="cheap", provider="groq", model="new")
    UsageRecordFactory.create(at=NOON, persona="secret", policy="secret", provider="secret", model="secret")
    mark_day(day - timedelta(days=1))
    rollup_rebuild(day=day - timedelta(days=1))
    mark_day(day)

    names = names_used(team_ids=[new.team_id])

    assert names == {"persona": ["analyst"], "policy": ["cheap"], "provider": ["groq"], "model": ["new", "old"]}
    assert names_used(team_ids=[])["model"] == []


def test_a_page_is_one_query_and_leaves_the_heavy_columns_behind(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(3):
        UsageRecordFactory.create(attempts=[{"deployment": "a/b", "provider": "a"}], decision={"why": "x"})

    with django_assert_num_queries(1):
        records = found(EVERYTHING)
        assert [(record.team_name, len(record.attempts)) for record in records] != []
    assert "decision" in records[0].get_deferred_fields()


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ({"persona": "analyst"}, {"persona": "chatbot"}),
        ({"policy": "cheap"}, {}),
        ({"provider": "groq"}, {}),
        ({"model": "llama"}, {}),
        ({"door": "rest"}, {}),
        ({"state": UsageState.CANCELLED}, {}),
    ],
)
def test_each_filter_keeps_what_it_names(wanted: dict[str, Any], other: dict[str, Any]) -> None:
    match = UsageRecordFactory.create(**wanted)
    UsageRecordFactory.create(**other)

    assert found(RequestFilters(**wanted)) == [match]


def test_a_range_has_its_first_moment_and_not_its_last() -> None:
    first, _ = UsageRecordFactory.create(at=NOON), UsageRecordFactory.create(at=NOON + MINUTE)

    assert found(RequestFilters(begins_at=NOON, ends_before=NOON + MINUTE)) == [first]


def test_team_and_key_narrow_what_may_be_seen_but_never_widen_it() -> None:
    own, foreign = UsageRecordFactory.create(), UsageRecordFactory.create()
    visible = [own.team_id]

    assert found(EVERYTHING, team_ids=visible) == [own]
    assert found(RequestFilters(team_id=foreign.team_id), team_ids=visible) == []
    assert found(RequestFilters(key_id=foreign.key_id), team_ids=visible) == []
    assert found(RequestFilters(key_id=foreign.key_id)) == [foreign]
    assert found(EVERYTHING, team_ids=[]) == []


def test_errors_are_failures_and_broken_answers_but_not_cancelled_requests() -> None:
    failed = UsageRecordFactory.create(at=NOON, state=UsageState.RELEASED, error_code="upstream_failed")
    broken = UsageRecordFactory.create(at=NOON - MINUTE, error_code="upstream_stream_broken")
    UsageRecordFactory.create(state=UsageState.CANCELLED, error_code="client_closed_request")
    UsageRecordFactory.create()

    assert found(RequestFilters(errors_only=True)) == [failed, broken]


def test_a_detail_is_shown_to_its_team_only() -> None:
    record = UsageRecordFactory.create()

    assert request_detail(request_id=record.pk, team_ids=None) == record
    assert request_detail(request_id=record.pk, team_ids=[record.team_id]) == record
    assert request_detail(request_id=record.pk, team_ids=[record.team_id + 1]) is None
    assert request_detail(request_id=uuid.uuid4(), team_ids=None) is None
