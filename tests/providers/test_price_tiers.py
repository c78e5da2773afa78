"""What long prompts cost: entered in a table, checked in words, shown with the price; and which price bills when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from providers.admin.catalogue import from_day, price_at
from providers.admin.pages import change_url, list_url
from providers.admin.price_tiers import PriceTiersField, price_text
from providers.domain.types import PriceTier
from providers.models import CatalogueModel, Deployment, Price
from providers.selectors import active_deployments, price_book, price_of
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import NOON, CatalogueModelFactory, DeploymentFactory, PriceFactory, ProviderKeyFactory

LONG = {
    "above": 200_000,
    "input_usd": "2.50",
    "output_usd": "15",
    "cache_read_usd": None,
    "cache_write_usd": None,
    "cache_write_1h_usd": None,
}


def cells(*texts: str) -> dict[str, str]:
    """The first line of the table as a browser sends it."""
    return {f"tiers_{n}": text for n, text in enumerate(texts)}


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (
            Price(input_usd=Decimal("1.25"), output_usd=Decimal(10), tiers=[LONG]),
            "$1.25 in / $10.00 out per 1M; above 200k in: $2.50 / $15.00",
        ),
        (
            Price(input_usd=None, output_usd=Decimal(0), tiers=[{**LONG, "above": 1_234, "input_usd": None}]),
            "unknown in / $0.00 out per 1M; above 1,234 in: unknown / $15.00",
        ),
        (
            Price(input_usd=Decimal(1), output_usd=Decimal(2), per_request_usd=Decimal("0.005")),
            "$1.00 in / $2.00 out per 1M + $0.005 per request",
        ),
    ],
)
def test_a_price_reads_as_a_sentence(price: Price, text: str) -> None:
    assert price_text(price) == text


@pytest.mark.parametrize(
    ("line", "tier"),
    [
        (("200000", "2.50", "15", "", "", ""), LONG),
        (("200,000", "$2.50", " 15 ", "", "", ""), LONG),
        (("200\u00a0000", "2.50", "15", "", "", ""), LONG),
    ],
)
def test_numbers_are_read_as_people_write_them(line: tuple[str, ...], tier: dict[str, Any]) -> None:
    assert PriceTiersField(required=False).clean([*line, *[""] * 12]) == [tier]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (("", "1", "2", "", "", ""), "Say above how many input tokens a tier begins"),
        (("many", "1", "2", "", "", ""), "Say above how many input tokens a tier begins"),
        (("0", "1", "2", "", "", ""), "Say above how many input tokens a tier begins"),
        (("200000", "dear", "2", "", "", ""), "“dear” is no price"),
        (("200000", "1", "-2", "", "", ""), "“-2” is no price"),
        (("200000", "1", "2", "1e999999", "", ""), "is no price"),
    ],
)
def test_what_is_no_tier_is_refused_in_words(line: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        PriceTiersField(required=False).clean([*line, *[""] * 12])


def test_lines_that_are_empty_or_missing_are_no_tiers() -> None:
    field = PriceTiersField(required=False)
    assert field.clean([""] * 18) == field.clean(None) == []
    assert not field.has_changed([], [""] * 18)
    assert field.has_changed([LONG], [""] * 18)
    assert field.has_changed([], ["x", *[""] * 17])


@pytest.mark.django_db
def test_tiers_are_entered_in_a_table_and_bill(admin_client: Client) -> None:
    model = CatalogueModelFactory.create()
    form = admin_client.get(page_of(model, "add-price")).headers["Location"]
    rates = {"input_usd": "1.25", "output_usd": "10", "source": "override"}

    refused = submit(admin_client, form, **rates, **cells("200000", "x"))
    assert "“x” is no price" in errors_of(refused)
    assert 'value="x"' in refused.content.decode()  # what was typed is still there

    answer = submit(admin_client, form, **rates, **cells("200,000", "2.5", "15", "", "3", "4"))

    assert answer.status_code == 302, errors_of(answer)
    price = Price.objects.get()
    assert price.tiers == [{**LONG, "input_usd": "2.5", "cache_write_usd": "3", "cache_write_1h_usd": "4"}]
    assert price_of(price).tiers == (PriceTier(200_000, 2_500_000_000, 15 * 10**9, None, 3 * 10**9, 4 * 10**9),)
    assert "above 200k in: $2.50 / $15.00" in admin_client.get(change_url(model)).content.decode()
    assert "above 200k in: $2.50 / $15.00" in admin_client.get(change_url(price)).content.decode()


@pytest.mark.django_db
def test_a_price_to_come_keeps_its_tiers_until_they_are_changed(admin_client: Client) -> None:
    price = PriceFactory.create(effective_from=timezone.now() + timedelta(days=1), tiers=[LONG])
    page = admin_client.get(change_url(price))
    assert 'name="tiers_0" value="200000"' in page.content.decode()
    submit(admin_client, change_url(price), input_usd="7")
    price.refresh_from_db()
    assert (price.input_usd, price.tiers) == (7, [LONG])
    submit(admin_client, change_url(price), **cells("", "", ""))
    price.refresh_from_db()
    assert price.tiers == []
    assert [line.tiers for line in price.history.all()] == [[], [LONG], [LONG]]


@pytest.mark.django_db
def test_the_table_of_prices_refuses_what_the_form_does_and_a_row_that_has_begun() -> None:
    price = PriceFactory.build(model=CatalogueModelFactory.create(), tiers=[LONG, LONG])
    with pytest.raises(ValidationError, match="Tiers go up"):
        price.full_clean()
    begun = PriceFactory.create(effective_from=timezone.now())
    begun.input_usd = Decimal(3)
    with pytest.raises(ValidationError, match="stays as it is"):
        begun.full_clean()


# --- which price bills --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_deployment_says_its_price_in_words_and_what_is_announced(admin_client: Client) -> None:
    deployment = DeploymentFactory.create()
    soon = timezone.now() + timedelta(days=3)
    PriceFactory.create(model=deployment.model, input_usd=Decimal("1.25"), output_usd=Decimal(10), tiers=[LONG])
    PriceFactory.create(model=deployment.model, effective_from=soon, input_usd=Decimal(4), output_usd=Decimal(20))
    page = admin_client.get(change_url(deployment)).content.decode()
    assert "$1.25 in / $10.00 out per 1M; above 200k in: $2.50 / $15.00" in page
    assert f"{from_day(soon).capitalize()}: $4.00 in / $20.00 out per 1M" in page
    for url in (list_url(Deployment), list_url(CatalogueModel), list_url(Price)):
        page = admin_client.get(url).content.decode()
        assert "above 200k" in page
        assert from_day(soon) in page
        assert "&lt;span" not in page


@pytest.mark.django_db
def test_an_announced_price_that_an_own_one_outranks_is_not_announced(admin_client: Client) -> None:
    deployment = DeploymentFactory.create()
    soon = timezone.now() + timedelta(days=3)
    PriceFactory.create(model=None, deployment=deployment)
    PriceFactory.create(model=deployment.model, effective_from=soon, source="genai-prices")
    assert from_day(soon) not in admin_client.get(list_url(Deployment)).content.decode()


@pytest.mark.django_db
def test_a_price_without_a_present_only_says_from_when(admin_client: Client) -> None:
    soon = timezone.now() + timedelta(days=3)
    deployment = DeploymentFactory.create()
    PriceFactory.create(model=deployment.model, effective_from=soon)
    page = admin_client.get(list_url(Deployment)).content.decode()
    assert "Unknown" in page
    assert from_day(soon) in page


@pytest.mark.parametrize(
    ("start", "text"),
    [(datetime(2019, 12, 1, tzinfo=UTC), "from 1 Dec 2019"), (datetime(2999, 1, 9, tzinfo=UTC), "from 9 Jan 2999")],
)
def test_a_day_of_another_year_has_its_year(start: datetime, text: str) -> None:
    assert from_day(start) == text
    assert from_day(timezone.now()).count(" ") == 2


@pytest.mark.django_db
def test_the_book_and_the_admin_and_the_gateway_agree_on_what_bills_when() -> None:
    deployment = DeploymentFactory.create(provider=ProviderKeyFactory.create().provider)
    name, model = str(deployment), deployment.model
    days = [NOON + timedelta(days=n) for n in range(5)]
    listed = PriceFactory.create(model=model, source="genai-prices", effective_from=days[0])
    PriceFactory.create(model=model, source="genai-prices", effective_from=days[2])
    own = PriceFactory.create(model=model, effective_from=days[1])
    deployed = PriceFactory.create(model=None, deployment=deployment, effective_from=days[3])
    PriceFactory.create()
    book = price_book()
    expected = [None, listed, own, own, deployed]

    for at, row in zip([NOON - timedelta(seconds=1), *days[:4]], expected, strict=True):
        price = active_deployments(now=at)[deployment.pk].price
        assert book.row_at(name, model.name, at) == row
        assert price_at(deployment.prices.all(), model.prices.all(), at) == row
        assert (price.id if price else None) == (row.pk if row else None)
    assert book.row_at("gone/model", model.name, days[4]) == own
    assert book.row_at("gone/model", "gone", days[4]) is None


@pytest.mark.django_db
def test_a_price_that_begins_in_the_past_says_how_to_correct_what_was_used(admin_client: Client) -> None:
    model = CatalogueModelFactory.create()
    url = f"/admin/providers/price/add/?model={model.pk}"
    began = {"effective_from_0": "2026-01-01", "effective_from_1": "00:00:00"}
    answer = submit(admin_client, url, input_usd="1", output_usd="2", source="override", **began)
    assert answer.status_code == 302, errors_of(answer)
    assert "until you re-rate it" in admin_client.get(list_url(Price)).content.decode()
