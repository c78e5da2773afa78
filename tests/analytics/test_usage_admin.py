import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from analytics.models import UsageRecord
from providers.admin.pages import change_url, list_url
from tests.admin_pages import page_of
from tests.factories import (
    ProviderFactory,
    UsageRecordFactory,
)

pytestmark = pytest.mark.django_db


def listed(client: Client, **query: Any) -> list[UsageRecord]:
    return list(client.get(list_url(UsageRecord), query).context["cl"].result_list)


def test_a_record_is_looked_at_and_nothing_else(admin_client: Client) -> None:
    record = UsageRecordFactory()
    assert admin_client.get(change_url(record)).status_code == 200
    assert admin_client.post(change_url(record), {"cost_nano": "0"}).status_code == 403
    assert admin_client.post(page_of(record, "delete"), {"post": "yes"}).status_code == 403
    assert admin_client.get("/admin/analytics/usagerecord/add/").status_code == 403
    record.refresh_from_db()
    assert record.cost_nano == 10_000_000


def test_a_record_leads_to_its_request_page_and_shows_the_exact_cost(admin_client: Client) -> None:
    attempts = [
        {"deployment": "a/one", "provider": "a", "key_last4": "1111", "latency_ms": 90.0, "failure": "rate_limited"},
        {"deployment": "b/two", "provider": "b", "key_last4": "2222", "latency_ms": 700.0},
    ]
    record = UsageRecordFactory(cost_nano=1_234_567, attempts=attempts, cache_read_input_tokens=40)
    text = admin_client.get(change_url(record)).content.decode()
    assert f'href="/dashboards/requests/{record.pk}/"' in text
    assert "$0.001234567" in text
    assert "a/one: rate_limited after 90\N{NO-BREAK SPACE}ms" in text
    assert "b/two: answered after 700\N{NO-BREAK SPACE}ms" in text
    assert "40 read from cache" in text


def test_a_record_of_unknown_price_is_not_free(admin_client: Client) -> None:
    UsageRecordFactory(cost_nano=None)
    assert "unpriced" in admin_client.get(list_url(UsageRecord)).content.decode()


def test_a_record_is_found_by_its_whole_id(admin_client: Client) -> None:
    record, _ = UsageRecordFactory(), UsageRecordFactory()
    assert listed(admin_client, q=str(record.pk)) == [record]
    assert listed(admin_client, q=record.pk.hex) == [record]
    assert listed(admin_client, q=str(uuid.uuid4())) == []
    assert "is not a request id" in admin_client.get(list_url(UsageRecord), {"q": "0190"}).content.decode()


def test_records_are_filtered_by_team_provider_state_and_time(admin_client: Client) -> None:
    ProviderFactory(name="acme")
    old = UsageRecordFactory(at=datetime(2026, 1, 1, tzinfo=UTC))
    acme = UsageRecordFactory(provider="acme")
    failed = UsageRecordFactory(state="released", error_code="upstream_failed")
    assert listed(admin_client, provider="acme") == [acme]
    assert listed(admin_client, state__exact="released") == [failed]
    assert listed(admin_client, team__id__exact=old.team_id) == [old]
    assert listed(admin_client, started_at_to="2026-01-01") == [old]
    assert listed(admin_client, started_at_from="2026-01-01", started_at_to="2026-01-01") == [old]
    assert set(listed(admin_client, started_at_from="2026-01-02")) == {acme, failed}
    assert len(listed(admin_client, started_at_from="yesterday")) == 3


def test_the_list_reads_neither_the_decision_nor_the_number_of_all_rows(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    UsageRecordFactory()
    admin_client.get(list_url(UsageRecord))
    with django_assert_num_queries(9, exact=False) as queries:
        admin_client.get(list_url(UsageRecord))
    on_records = [query["sql"] for query in queries if 'FROM "analytics_usagerecord"' in query["sql"]]
    assert len(on_records) == 1
    assert "COUNT" not in on_records[0]
    assert '"decision"' not in on_records[0]
