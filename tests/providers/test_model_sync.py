"""Model sync: what a vendor lists beside what is ours, and what becomes of ticked models."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.catalogue_services import catalogue_load
from providers.model_sync import ModelSync, listed_models_deploy, model_sync
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider
from providers.selectors import active_deployments
from tests.factories import CatalogueModelFactory, DeploymentFactory, PriceFactory, ProviderFactory, ProviderKeyFactory
from tests.upstreams.listing import ListingVendor, listing_vendor, openai_list

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[ListingVendor]:
    with listing_vendor() as running:
        yield running


def provider_at(vendor: ListingVendor, kind: str = "openai-compatible", **more: Any) -> Provider:
    provider: Provider = ProviderFactory.create(
        **{"name": "lab", "label": "Lab", "kind": kind, "base_url": vendor.url, "allowed_networks": "127.0.0.1/32"}
        | more
    )
    ProviderKeyFactory.create(provider=provider)
    return provider


def states(found: ModelSync) -> dict[str, str]:
    return {row.name: "gone" if row.is_gone else "new" if row.is_new else "deployed" for row in found.rows}


def deploy(provider: Provider, *names: str) -> list[Deployment]:
    return listed_models_deploy(provider=provider, rows=model_sync(provider=provider).rows, names=set(names), now=NOW)


# --- beside ours --------------------------------------------------------------------------------------------------


def test_new_deployed_and_gone_are_told_apart_and_nothing_changes(vendor: ListingVendor) -> None:
    provider = provider_at(vendor)
    for name in ("two", "older"):
        DeploymentFactory.create(provider=provider, upstream_model=name)
    DeploymentFactory.create(upstream_model="elsewhere")
    CatalogueModelFactory.create(name="one")

    found = model_sync(provider=provider)

    assert states(found) == {"one": "new", "older": "gone", "two": "deployed"}
    assert found.note == "lists 2 models"
    assert [row.in_catalogue for row in found.rows] == [True, False, False]
    assert Deployment.objects.filter(provider=provider, is_active=True).count() == 2


def test_a_short_name_that_is_deployed_is_not_gone(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, "ollama")
    DeploymentFactory.create(provider=provider, upstream_model="llama3.3")
    vendor.listed = (200, {"models": [{"name": "llama3.3:latest"}]})

    assert states(model_sync(provider=provider)) == {"llama3.3:latest": "deployed"}


def test_azure_s_own_names_of_deployments_are_never_gone(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, "azure-openai")
    DeploymentFactory.create(provider=provider, upstream_model="our-gpt")
    found = model_sync(provider=provider)

    assert not found.names_are_called
    assert states(found) == {"one": "new", "two": "new"}


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ((401, {"error": {"message": "no"}}), "refused the key"),
        ((404, {}), "does not list its models"),
        ((200, "<html>"), "not with a list of models"),
    ],
)
def test_a_vendor_that_lists_nothing_says_why(vendor: ListingVendor, listed: tuple[int, Any], said: str) -> None:
    vendor.listed = listed
    found = model_sync(provider=provider_at(vendor))
    assert found.rows == ()
    assert said in found.problem
    assert found.problem.startswith("Lab ")


def test_without_a_key_or_a_known_kind_nothing_is_asked(vendor: ListingVendor) -> None:
    keyless = ProviderFactory.create(kind="groq", base_url=vendor.url, allowed_networks="127.0.0.1/32")
    assert model_sync(provider=keyless).problem == "Groq needs an active key."
    strange = ProviderFactory.create(kind="openai-compatible", base_url=vendor.url)
    Provider.objects.filter(pk=strange.pk).update(kind="gone-with-an-upgrade")
    strange.refresh_from_db()
    assert "gone-with-an-upgrade" in model_sync(provider=strange).problem
    assert vendor.asked == []


# --- deploying ----------------------------------------------------------------------------------------------------


def test_ticked_models_are_deployed_once_with_what_the_vendor_says_and_no_guesses(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, "together")
    vendor.listed = (
        200,
        [
            {"id": "acme/talker", "type": "chat", "context_length": 65_536},
            {"id": "acme/vectors", "type": "embedding", "context_length": 512},
            {"id": "acme/painter", "type": "image"},
        ],
    )

    made = deploy(provider, "acme/talker", "acme/vectors", "not/listed")

    assert [str(row) for row in made] == ["lab/acme/talker", "lab/acme/vectors"]
    talker, vectors = (row.model for row in made)
    assert (talker.capabilities, talker.context_window, talker.vendor) == (["streaming"], 65_536, "Lab")
    assert (vectors.capabilities, vectors.context_window) == (["embeddings"], None)
    assert deploy(provider, "acme/talker") == []
    rows = {row.name: row for row in model_sync(provider=provider).rows}
    assert not rows["acme/painter"].can_be_called
    assert active_deployments(now=NOW)[made[0].pk].name == "lab/acme/talker"


def test_a_model_of_the_catalogue_is_used_as_it_stands_with_its_own_vendors_price(vendor: ListingVendor) -> None:
    catalogue_load(now=NOW)
    provider = provider_at(vendor, "openai", name="openai")
    vendor.listed = (200, openai_list("gpt-4.1-mini"))

    [made] = deploy(provider, "gpt-4.1-mini")

    assert "tool_calling" in made.model.capabilities
    assert not Price.objects.filter(deployment=made).exists()
    price = active_deployments(now=NOW)[made.pk].price
    assert price
    assert price.input == 400_000_000


def test_the_same_name_at_another_vendor_is_billed_at_that_vendors_price(vendor: ListingVendor) -> None:
    catalogue_load(now=NOW)
    provider = provider_at(vendor, "together")
    vendor.listed = (200, openai_list("openai/gpt-oss-120b"))

    [made] = deploy(provider, "openai/gpt-oss-120b")

    assert made.model.name == "openai/gpt-oss-120b"  # the catalogue has it from Groq
    [price] = Price.objects.filter(deployment=made)
    assert (price.source, price.input_usd) == (PriceSource.GENAI_PRICES, Decimal("0.15"))


def test_where_the_vendors_price_is_not_known_nobody_elses_is_taken_for_it(vendor: ListingVendor) -> None:
    provider = provider_at(vendor)
    PriceFactory.create(model=CatalogueModelFactory.create(name="one"))

    [made] = deploy(provider, "one")

    price = active_deployments(now=NOW)[made.pk].price
    assert price is not None
    assert (price.input, price.output) == (None, None)


def test_what_the_price_list_knows_of_an_unknown_model_is_taken(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, "openai", name="openai")
    vendor.listed = (200, openai_list("gpt-4o-mini"))

    [made] = deploy(provider, "gpt-4o-mini")

    assert made.model.context_window == 128_000
    assert Price.objects.get(deployment=made).input_usd == Decimal("0.15")
    assert CatalogueModel.history.get(name="gpt-4o-mini").history_change_reason == "model_sync"


# --- the command --------------------------------------------------------------------------------------------------


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("model_sync", *args, stdout=out)
    return out.getvalue()


def test_the_command_tells_in_words_and_as_json_and_deploys_on_request(vendor: ListingVendor) -> None:
    DeploymentFactory.create(provider=provider_at(vendor), upstream_model="older")

    told = run("lab")
    assert told.splitlines() == ["Lab lists 2 models.", "New (2): one, two", "No longer listed (1): older"]
    assert Deployment.objects.count() == 1
    report = json.loads(run("lab", "--json", "--deploy", "one"))
    assert (report["new"], report["created"], report["no_longer_listed"]) == (["one", "two"], ["lab/one"], ["older"])
    assert json.loads(run("lab", "--json"))["deployed"] == ["one"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nobody"], "There are: lab"),
        (["lab", "--deploy", "three"], "does not list three. Nothing was deployed"),
    ],
)
def test_the_command_names_what_is_wrong(vendor: ListingVendor, args: list[str], said: str) -> None:
    provider_at(vendor)
    with pytest.raises(CommandError, match=said):
        run(*args)
    assert not Deployment.objects.exists()
