"""The admin's way to re-rate: from a price to a preview, then the corrections; and where they show afterwards."""

from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from analytics.admin import adjustments
from analytics.models import UsageAdjustment, UsageRecord
from providers.admin.pages import change_url, list_url
from providers.models import Price
from tests.admin_pages import page_of
from tests.factories import (
    NOON,
    CatalogueModelFactory,
    DeploymentFactory,
    MembershipFactory,
    PriceFactory,
    ProviderFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
WANTED = {"since": "2026-03-01", "reason": "the list was wrong"}


@pytest.fixture
def price() -> Price:
    return PriceFactory.create(
        model=CatalogueModelFactory.create(name="model"), input_usd=Decimal(3), output_usd=Decimal(5)
    )


@pytest.fixture
def record(price: Price) -> UsageRecord:
    """Billed a cent; it should have been $0.004."""
    return UsageRecordFactory.create()


def rerate_url(price: Price) -> str:
    return f"/admin/analytics/usageadjustment/rerate/?price={price.pk}"


def text_of(answer: Any) -> str:
    assert answer.status_code == 200
    return " ".join(unescape(answer.content.decode()).split())


def test_a_price_leads_to_its_re_rating_from_its_beginning(admin_client: Client, price: Price) -> None:
    answer = admin_client.get(page_of(price, "rerate"))
    assert answer.headers["Location"] == rerate_url(price)
    page = text_of(admin_client.get(rerate_url(price)))
    assert "$3.00 in / $5.00 out per 1M, from" in page
    assert 'value="2026-01-01"' in page


def test_a_price_that_has_not_begun_has_nothing_to_re_rate(admin_client: Client) -> None:
    soon = PriceFactory.create(effective_from=timezone.now() + timedelta(days=1))
    assert "Re-rate usage since" not in text_of(admin_client.get(change_url(soon)))
    page = text_of(
        admin_client.post(rerate_url(soon), {**WANTED, "since": f"{soon.effective_from:%Y-%m-%d}", "post": "1"})
    )
    assert "Nothing was used yet from that day on." in page


def test_the_page_shows_what_would_change_and_posts_it_when_told_to(
    admin_client: Client, price: Price, record: UsageRecord
) -> None:
    page = text_of(admin_client.post(rerate_url(price), WANTED))
    assert "Post 1 correction" in page
    assert "−$0.006000000" in page
    assert not UsageAdjustment.objects.exists()

    answer = admin_client.post(rerate_url(price), {**WANTED, "post": "1"}, follow=True)

    assert "1 requests corrected by −$0.0060 in all." in text_of(answer)
    [posted] = UsageAdjustment.objects.all()
    assert (posted.delta_nano, posted.reason) == (-6_000_000, "the list was wrong")
    assert posted.created_by is not None
    assert "Nothing would change." in text_of(admin_client.post(rerate_url(price), WANTED))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"reason": ""}, "This field is required."),
        ({"since": ""}, "This field is required."),
        ({"since": "soon"}, "Enter a valid date."),
        ({"since": "2999-01-01"}, "Nothing was used yet from that day on."),
        ({"reason": "x" * 201}, "at most 200 characters"),
    ],
)
def test_what_is_missing_or_makes_no_sense_is_said(
    admin_client: Client, price: Price, record: UsageRecord, fields: dict[str, str], complaint: str
) -> None:
    assert complaint in text_of(admin_client.post(rerate_url(price), {**WANTED, "post": "1", **fields}))
    assert not UsageAdjustment.objects.exists()


def test_what_stays_as_it_is_is_told(admin_client: Client, price: Price) -> None:
    Price.objects.update(output_usd=None)
    UsageRecordFactory.create(cost_nano=None)
    doubt = [{"deployment": "v/m", "failure": "timeout", "billed_nano": 9}]
    UsageRecordFactory.create(usage_source="bound", input_tokens=0, output_tokens=0, cost_nano=9, attempts=doubt)
    page = text_of(admin_client.post(rerate_url(price), WANTED))
    assert "1 requests stay unpriced" in page
    assert "1 requests stay as they are" in page


def test_more_requests_than_a_browser_waits_for_are_left_to_the_command(
    admin_client: Client, price: Price, record: UsageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjustments, "MOST_AT_ONCE", 0)
    page = text_of(admin_client.post(rerate_url(price), {**WANTED, "post": "1"}))
    assert f"manage.py rerate --price {price.pk} --from 2026-03-01" in page
    assert not UsageAdjustment.objects.exists()


def test_a_deployments_price_re_rates_the_deployment(admin_client: Client, price: Price, record: UsageRecord) -> None:
    deployment = DeploymentFactory.create(
        provider=ProviderFactory.create(name="vendor"), model=price.model, upstream_model="model"
    )
    own = PriceFactory.create(model=None, deployment=deployment, input_usd=Decimal(0), output_usd=Decimal(0))
    UsageRecordFactory.create(deployment="other/model")
    admin_client.post(rerate_url(own), {**WANTED, "post": "1"})
    assert list(UsageAdjustment.objects.values_list("request_id", "delta_nano")) == [(record.pk, -10_000_000)]


@pytest.mark.parametrize("number", ["", "0", "x", "9" * 30, "²"])
def test_a_price_that_does_not_exist_has_no_page(admin_client: Client, number: str) -> None:
    assert admin_client.get(f"/admin/analytics/usageadjustment/rerate/?price={number}").status_code == 404


def test_only_who_may_correct_costs_may_re_rate(client: Client, price: Price, record: UsageRecord) -> None:
    person = UserFactory.create(is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__in=["change_price", "view_usageadjustment"]))
    client.force_login(person)
    assert "Re-rate usage since" not in text_of(client.get(change_url(price)))
    for answer in (client.get(page_of(price, "rerate")), client.post(rerate_url(price), {**WANTED, "post": "1"})):
        assert answer.status_code == 403
    assert not UsageAdjustment.objects.exists()

    person.user_permissions.add(Permission.objects.get(codename="add_usageadjustment"))
    assert "Re-rate usage since" in text_of(client.get(change_url(price)))
    assert client.post(rerate_url(price), {**WANTED, "post": "1"}).status_code == 302


# --- where corrections show ---------------------------------------------------------------------------------------


def correct(record: UsageRecord, delta_nano: int, **fields: Any) -> UsageAdjustment:
    return UsageAdjustmentFactory.create(
        request_id=record.pk, started_at=record.started_at, delta_nano=delta_nano, **fields
    )


def test_corrections_are_listed_and_never_edited(admin_client: Client, record: UsageRecord) -> None:
    made = correct(record, -6_000_000, was_unpriced=True)
    page = text_of(admin_client.get(list_url(UsageAdjustment)))
    assert "−$0.006000000" in page
    assert "a corrected price (it was unpriced)" in page
    assert f"/dashboards/requests/{record.pk}/" in page
    assert admin_client.post(change_url(made), {"delta_nano": "0"}).status_code == 403
    assert admin_client.get("/admin/analytics/usageadjustment/add/").status_code == 403


def test_the_page_of_a_request_tells_what_was_billed_and_what_it_was_corrected_to(
    client: Client, record: UsageRecord
) -> None:
    person = UserFactory.create(username="ada")
    correct(record, -4_000_000, created_at=NOON, reason="list price of May", created_by=person)
    correct(record, -2_000_000, created_at=NOON + timedelta(days=1), reason="and a rebate")
    client.force_login(MembershipFactory.create(team=record.team).user)
    page = text_of(client.get(f"/dashboards/requests/{record.pk}/"))
    assert page.index("list price of May") < page.index("and a rebate")
    assert "(ada)" in page
    for by, then in (("−$0.004000000", "$0.006000000"), ("−$0.002000000", "$0.004000000")):
        assert f'{by}</td><td class="num">{then}</td>' in page
    assert "Billed $0.010000000, corrected to $0.004000000." in page


def test_the_page_of_a_request_that_was_unpriced_tells_so(client: Client, record: UsageRecord) -> None:
    UsageRecord.objects.update(cost_nano=None, price=None)
    correct(record, 4_000_000, was_unpriced=True)
    client.force_login(MembershipFactory.create(team=record.team).user)
    page = text_of(client.get(f"/dashboards/requests/{record.pk}/"))
    assert "unpriced at first" in page
    assert "Unpriced at first, corrected to $0.004000000." in page


def test_logs_show_what_a_request_costs_now_and_that_it_was_corrected(
    client: Client, admin_client: Client, record: UsageRecord
) -> None:
    UsageRecordFactory.create(key=record.key, cost_nano=20_000_000)
    UsageRecord.objects.filter(pk=record.pk).update(cost_nano=3_000_000_000)
    correct(record, -1_000_000_000)
    correct(record, -500_000_000)
    client.force_login(MembershipFactory.create(team=record.team).user)
    for page in (text_of(client.get("/dashboards/requests/")), text_of(admin_client.get(list_url(UsageRecord)))):
        assert ">$1.50<" in page
        assert ">$3.00<" not in page
        assert page.count("Billed $3.000000000, corrected since") == 1
    assert "$1.500000000 (billed $3.000000000, corrected since)" in text_of(admin_client.get(change_url(record)))
    rows = client.get("/dashboards/requests/?format=csv").getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert any(row.count("3000000000,-1500000000") == 1 for row in rows)
