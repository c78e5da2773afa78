from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import connection
from django.db.utils import Error

from analytics.domain.usage import UsageEntry
from analytics.ledger.delivery import BadRecordError
from analytics.ledger.ledger import encode
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import DirtyHour, UsageRecord
from tests.analytics.ledger.samples import STARTED_AT, encoded, request_id, settled

MIDNIGHT = datetime(2026, 3, 11, tzinfo=UTC).timestamp()


@pytest.fixture
def store(db: None) -> SqlUsageStore:
    return SqlUsageStore()


def time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def row_of(entry: UsageEntry) -> dict[str, Any]:
    """What the ORM should give back for an entry."""
    values = msgspec.json.decode(msgspec.json.encode(entry))
    times = {name: time_of(values[name]) for name in ("started_at", "finished_at")}
    return {**values, **times, "request_id": UUID(entry.request_id)}


def saved(number: int) -> dict[str, Any]:
    return dict(UsageRecord.objects.values().get(pk=request_id(number)))


def test_the_columns_are_the_fields_of_an_entry() -> None:
    columns = {field.attname for field in UsageRecord._meta.concrete_fields}
    assert columns == set(UsageEntry.__struct_fields__) - {"kept"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cost_nano": None, "price": None, "ttft_ms": None, "attempts": (), "decision": {}},
        {"is_stream": True, "state": "cancelled", "http_status": 499, "error_code": "client_closed"},
        {"started_at": float(int(STARTED_AT)), "finished_at": STARTED_AT + 0.000001},
        {"started_at": 951_782_400.25, "finished_at": 4_102_444_799.999999},
        {"cost_nano": 2**62, "input_tokens": 2**53 + 1, "latency_ms": 0.1, "overhead_ms": 1e-9},
        {"team_name": "Zoë’s “team” \\ 100 %", "key_name": "%s %(a)s ?", "requested_model": "日本語/モデル 🚀"},
        {"decision": {"why": 'a "quote", a \\ and a\nline', "nested": [{"deep": [1, 2.5, None, True]}]}},
        {"price": {"input_usd": "0.15", "unit": 1_000_000, "none": None}},
    ],
)
def test_a_row_reads_back_as_the_entry_it_was(store: SqlUsageStore, changes: dict[str, Any]) -> None:
    entry = settled(1, **changes)
    assert store.ship(encoded(entry)).new == 1
    assert saved(1) == row_of(entry)


def test_a_row_is_what_the_orm_itself_would_have_written(store: SqlUsageStore) -> None:
    entries = [settled(1, ttft_ms=None, price=None), settled(2, started_at=STARTED_AT + 0.5, is_stream=True)]
    store.ship(encoded(*entries))
    shipped = raw_rows()
    UsageRecord.objects.all().delete()
    UsageRecord.objects.bulk_create([UsageRecord(**row_of(entry)) for entry in entries])
    for by_us, by_django in zip(shipped, raw_rows(), strict=True):
        for column, value in by_django.items():
            if column in {"attempts", "decision", "price"} and value is not None:
                assert msgspec.json.decode(by_us[column]) == msgspec.json.decode(value)
            else:
                assert by_us[column] == value, column


def raw_rows() -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM analytics_usagerecord ORDER BY request_id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_of_a_request_that_comes_twice_the_first_stays_and_only_new_rows_count(store: SqlUsageStore) -> None:
    assert store.ship(encoded(settled(1), settled(2))).new == 2
    assert store.ship(encoded(settled(2, cost_nano=9), settled(3), settled(3, cost_nano=9))).new == 1
    assert list(UsageRecord.objects.order_by("pk").values_list("cost_nano", flat=True)) == [1001, 1002, 1003]


def test_the_hours_of_new_rows_are_marked_dirty(store: SqlUsageStore) -> None:
    store.ship(encoded(settled(1, started_at=MIDNIGHT - 0.000001), settled(2, started_at=MIDNIGHT)))
    store.ship(encoded(settled(3, started_at=MIDNIGHT + 1), settled(4, started_at=MIDNIGHT + 2)))
    store.ship(encoded(settled(4, started_at=MIDNIGHT + 2)))
    assert dict(DirtyHour.objects.values_list("hour", "marks")) == {
        datetime(2026, 3, 10, 23, tzinfo=UTC): 1,
        datetime(2026, 3, 11, 0, tzinfo=UTC): 2,
    }


def test_names_longer_than_their_column_are_cut_not_refused(store: SqlUsageStore) -> None:
    store.ship(encoded(settled(1, requested_model="é" * 500, error_code="x" * 100)))
    assert saved(1)["requested_model"] == "é" * 200
    assert saved(1)["error_code"] == "x" * 60


def test_nul_characters_are_replaced(store: SqlUsageStore) -> None:
    store.ship([encode(settled(1, requested_model="a\0b"))])
    assert saved(1)["requested_model"] == "a\ufffdb"


@pytest.mark.parametrize(
    "changes",
    [
        {"http_status": -1},
        {"latency_ms": float("nan")},
        {"cost_nano": -1},
        {"input_tokens": 2**70},
        {"started_at": 1e300},
        {"team_id": "three"},
        {"door": None},
        {"is_stream": "perhaps"},
    ],
)
def test_a_batch_with_a_row_that_cannot_be_stored_is_refused_whole(
    store: SqlUsageStore, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadRecordError) as refusal:
        store.ship(encoded(settled(1), settled(2, **changes, key_name="private"), settled(3)))
    assert UsageRecord.objects.count() == DirtyHour.objects.count() == 0
    assert "private" not in str(refusal.value)
    assert store.ship(encoded(settled(1), settled(3))).new == 2


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_is_replaced() -> None:
    store = SqlUsageStore()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE analytics_dirtyhour RENAME TO away")
    try:
        with pytest.raises(Error):
            store.ship(encoded(settled(1)))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO analytics_dirtyhour")
    assert store.ship(encoded(settled(1))).new == 1
    store.close()
    assert store.ship(encoded(settled(1))).new == 0


def test_a_thousand_rows_are_one_short_transaction(store: SqlUsageStore) -> None:
    entries = encoded(*(settled(number) for number in range(1000)))
    began = datetime.now(UTC)
    assert store.ship(entries).new == 1000
    assert datetime.now(UTC) - began < timedelta(seconds=2)
    assert DirtyHour.objects.get().marks == 1
