from datetime import timedelta
from decimal import Decimal

from django.test import Client
from django.utils import timezone

from providers.admin.cells import usd_text
from providers.admin.pages import change_url, list_url
from providers.domain.types import Capability
from providers.models import CatalogueModel, Deployment
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import CatalogueModelFactory, DeploymentFactory, PriceFactory


def test_rates_are_shown_exactly_and_an_unknown_one_is_not_free() -> None:
    shown = [usd_text(Decimal(text)) for text in ("3", "0.075", "0.150000", "1234.5", "0")]
    assert shown == ["$3.00", "$0.075", "$0.15", "$1,234.50", "$0.00"]
    assert usd_text(None) == "unknown"


def test_capabilities_are_ticked_and_kept_as_a_list(admin_client: Client) -> None:
    model = CatalogueModelFactory(capabilities=["streaming"])
    page = admin_client.get(change_url(model))
    assert page.content.decode().count('type="checkbox" name="capabilities"') == len(Capability)
    submit(admin_client, change_url(model), capabilities=["streaming", "vision"])
    model.refresh_from_db()
    assert model.capabilities == ["streaming", "vision"]


def test_an_unknown_capability_is_refused(admin_client: Client) -> None:
    answer = submit(admin_client, change_url(CatalogueModelFactory()), capabilities=["telepathy"])
    assert "telepathy" in errors_of(answer)


def test_a_retired_model_names_its_successor(admin_client: Client) -> None:
    new = CatalogueModelFactory(name="model-new")
    CatalogueModelFactory(name="model-old", status="retired", replaced_by=new)
    page = admin_client.get(list_url(CatalogueModel)).content.decode()
    assert "Retired" in page
    assert "→ model-new" in page


def test_the_list_shows_the_price_that_bills_now(admin_client: Client) -> None:
    model = CatalogueModelFactory()
    now = timezone.now()
    PriceFactory(
        model=model, input_usd="9", output_usd="9", source="genai-prices", effective_from=now - timedelta(days=1)
    )
    PriceFactory(model=model, input_usd="0.15", output_usd="0.6", effective_from=now - timedelta(days=9))
    PriceFactory(model=model, input_usd="7", output_usd="7", effective_from=now + timedelta(days=1))
    assert "$0.15 / $0.60" in admin_client.get(list_url(CatalogueModel)).content.decode()


def test_a_deployments_own_price_comes_before_the_models(admin_client: Client) -> None:
    deployment = DeploymentFactory()
    PriceFactory(model=deployment.model)
    assert "$1.00 / $2.00" in admin_client.get(list_url(Deployment)).content.decode()
    PriceFactory(model=None, deployment=deployment, input_usd="4", output_usd="5")
    assert "$4.00 / $5.00" in admin_client.get(list_url(Deployment)).content.decode()


def test_a_price_that_has_begun_is_not_edited_and_the_page_says_why(admin_client: Client) -> None:
    price = PriceFactory(effective_from=timezone.now() - timedelta(days=1))
    page = admin_client.get(change_url(price))
    assert "it stays as it is" in page.content.decode()
    assert admin_client.post(change_url(price), {"input_usd": "0"}).status_code == 403
    assert admin_client.post(page_of(price, "delete"), {"post": "yes"}).status_code == 403
    price.refresh_from_db()
    assert price.input_usd == 1


def test_a_price_to_come_is_edited(admin_client: Client) -> None:
    price = PriceFactory(effective_from=timezone.now() + timedelta(days=1))
    answer = submit(admin_client, change_url(price), input_usd="2.5")
    assert answer.status_code == 302, errors_of(answer)
    price.refresh_from_db()
    assert price.input_usd == Decimal("2.5")


def test_the_models_page_leads_to_a_new_price_of_that_model(admin_client: Client) -> None:
    price = PriceFactory()
    model = price.model
    assert model is not None
    form = admin_client.get(page_of(model, "add-price")).headers["Location"]
    answer = submit(admin_client, form, input_usd="3", output_usd="0.075", source="override")
    assert answer.status_code == 302, errors_of(answer)
    assert list(model.prices.order_by("input_usd").values_list("input_usd", flat=True)) == [1, 3]
    assert "$0.075" in admin_client.get(change_url(model)).content.decode()


def test_a_model_that_is_served_is_not_deleted(admin_client: Client) -> None:
    deployment = DeploymentFactory()
    answer = admin_client.post(page_of(deployment.model, "delete"), {"post": "yes"}, follow=True)
    assert "1 deployment depends on it." in answer.content.decode()
    assert CatalogueModel.objects.exists()
