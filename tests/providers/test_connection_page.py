"""The two buttons of a provider's page that go over the network: test the connection, sync the models."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import UsageRecord
from providers.admin.pages import change_url
from providers.connection_check import KeyReport, connection_check
from providers.models import Deployment, Provider, ProviderCheck
from tests.admin_pages import page_of
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    ProviderFactory,
    ProviderKeyFactory,
    UserFactory,
)
from tests.upstreams.listing import ListingVendor, listing_vendor, openai_list

GOOD, BAD = "sk-a-good-key-0123456789", "an-odd-key-of-no-known-form"

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[ListingVendor]:
    with listing_vendor() as running:
        yield running


def provider_at(vendor: ListingVendor, *secrets: str, **more: Any) -> Provider:
    values = {"label": "Lab", "kind": "openai", "base_url": vendor.url, "allowed_networks": "127.0.0.1/32"} | more
    provider: Provider = ProviderFactory.create(**values)
    for number, secret in enumerate(secrets):
        ProviderKeyFactory.create(provider=provider, label=f"key {number}", secret=secret)
    return provider


def told(reports: list[KeyReport]) -> list[tuple[str, list[tuple[str, bool | None]]]]:
    return [(report.key[:5], [(finding.what, finding.is_good) for finding in report.findings]) for report in reports]


# --- the test -----------------------------------------------------------------------------------------------------


def test_every_active_key_is_tried_and_the_bad_one_is_named(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD, BAD, is_active=False)
    ProviderKeyFactory.create(provider=provider, label="off", is_active=False)
    vendor.refused = {BAD}

    reports = connection_check(provider=provider)

    assert told(reports) == [
        ("key 0", [("Address", True), ("List of models", True)]),
        ("key 1", [("Address", True), ("List of models", False)]),
    ]
    refused = reports[1].findings[1]
    assert refused.note.startswith("Refused the key (401)")
    assert refused.advice.startswith("Replace the key")
    assert BAD not in repr(reports)
    assert GOOD not in repr(reports)
    assert not ProviderCheck.objects.exists()


def test_a_model_is_asked_with_each_key_and_no_record_is_made(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD, BAD)
    deployment = DeploymentFactory.create(provider=provider, upstream_model="one", is_active=False)

    reports = connection_check(provider=provider, ask=deployment)

    assert [report.findings[-1].note for report in reports] == ["Answered.", "Answered."]
    posted = [(path, body) for path, _, body in vendor.asked if body]
    assert [path for path, _ in posted] == ["/v1/chat/completions"] * 2
    assert all(body["max_completion_tokens"] == 16 and body["model"] == "one" for _, body in posted)
    assert not UsageRecord.objects.exists()


def test_a_model_for_embeddings_is_asked_for_some(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    model = CatalogueModelFactory.create(capabilities=["embeddings"])
    vendor.answer = (
        200,
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "model": "m",
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    )
    [report] = connection_check(provider=provider, ask=DeploymentFactory.create(provider=provider, model=model))
    assert report.findings[-1].note == "Answered."
    assert vendor.asked[-1][0] == "/v1/embeddings"


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ((401, {"error": {"message": f"bad key {BAD}"}}), "Replace the key"),
        ((404, {"error": {"message": "The model `one` does not exist", "code": "model_not_found"}}), "Sync models"),
        ((429, {"error": {"message": "Slow down"}}), "Too many requests"),
        ((429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}), "the money"),
        ((500, {"error": {"message": "oops"}}), "status page"),
        ((200, "<html>welcome</html>"), "no API of this kind"),
    ],
)
def test_a_question_that_fails_says_what_to_do(vendor: ListingVendor, answer: tuple[int, Any], advice: str) -> None:
    provider = provider_at(vendor, BAD)
    vendor.answer = answer
    [report] = connection_check(provider=provider, ask=DeploymentFactory.create(provider=provider))
    assert report.findings[-1].is_good is False
    assert advice in report.findings[-1].advice
    assert BAD not in repr(report)


def test_a_list_that_anybody_may_read_is_no_proof_of_a_key(vendor: ListingVendor) -> None:
    [report] = connection_check(provider=provider_at(vendor, BAD, kind="openrouter"))
    assert "says nothing about the key" in report.findings[-1].advice


def test_a_vendor_without_a_list_is_neither_good_nor_bad(vendor: ListingVendor) -> None:
    vendor.listed = (404, {})
    [report] = connection_check(provider=provider_at(vendor, GOOD))
    assert report.findings[-1].is_good is None
    assert "version part" in report.findings[-1].advice


def test_a_private_address_is_not_called_and_the_model_not_asked(vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD, allowed_networks="")
    [report] = connection_check(provider=provider, ask=DeploymentFactory.create(provider=provider))
    [finding] = report.findings
    assert (finding.what, finding.is_good) == ("Address", False)
    assert "allowed private networks" in finding.note
    assert vendor.asked == []


def test_nobody_listening_is_told_with_what_to_look_at() -> None:
    provider = ProviderFactory.create(kind="vllm", base_url="http://127.0.0.1:9/v1", allowed_networks="127.0.0.1/32")
    [report] = connection_check(provider=provider)
    assert report.key == "Without a key"
    assert report.findings[-1].note.startswith("Could not be reached")
    assert "base URL" in report.findings[-1].advice


def test_no_key_and_a_key_of_another_installation_are_told_apart(vendor: ListingVendor) -> None:
    provider = provider_at(vendor)
    [report] = connection_check(provider=provider)
    assert report.findings[0].note == "OpenAI needs an active key."
    ProviderKeyFactory.create(provider=provider, sealed="0a0b0c0d:gAAAAAsomething")
    [report] = connection_check(provider=provider)
    assert "FIELD_KEYS" in report.findings[0].note
    assert vendor.asked == []


# --- its page -----------------------------------------------------------------------------------------------------


def test_the_page_asks_first_and_then_tells(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD, BAD)
    deployment = DeploymentFactory.create(provider=provider, upstream_model="one")
    vendor.refused = {BAD}
    url = page_of(provider, "test")

    before = admin_client.get(url).content.decode()
    assert "not in the usage records" in before
    assert vendor.asked == []
    page = admin_client.post(url, {"ask": "on", "deployment": deployment.pk}).content.decode()

    assert "Lists 2 models." in page
    assert "Answered." in page
    assert "Replace the key" in page
    assert GOOD not in page
    assert BAD not in page
    assert len([body for _, _, body in vendor.asked if body]) == 2


def test_no_model_is_asked_unless_that_is_ticked(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    deployment = DeploymentFactory.create(provider=provider)
    admin_client.post(page_of(provider, "test"), {"deployment": deployment.pk})
    assert [path for path, _, _ in vendor.asked] == ["/v1/models"]


def test_a_deployment_of_another_provider_cannot_be_asked(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    DeploymentFactory.create(provider=provider)
    elsewhere = DeploymentFactory.create()
    admin_client.post(page_of(provider, "test"), {"ask": "on", "deployment": elsewhere.pk})
    assert vendor.asked == []


# --- the page of models -------------------------------------------------------------------------------------------


def test_ticked_models_are_deployed_and_the_change_is_logged(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    DeploymentFactory.create(provider=provider, upstream_model="older")
    url = page_of(provider, "sync")

    page = admin_client.get(url).content.decode()
    assert page.count('name="model"') == 2
    assert "No longer listed" in page
    done = admin_client.post(url, {"model": ["two", "never-listed"]}, follow=True)

    assert done.redirect_chain == [(change_url(provider), 302)]
    assert "1 deployed: two" in done.content.decode()
    names = set(Deployment.objects.filter(provider=provider).values_list("upstream_model", flat=True))
    assert names == {"older", "two"}


def test_nothing_ticked_changes_nothing(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    done = admin_client.post(page_of(provider, "sync"), follow=True)
    assert "no new model was ticked" in done.content.decode()
    assert not Deployment.objects.exists()


def test_a_long_list_is_cut_and_searched(admin_client: Client, vendor: ListingVendor) -> None:
    provider = provider_at(vendor, GOOD)
    vendor.listed = (200, openai_list(*(f"model-{number}" for number in range(250)), "<b>odd</b>"))
    page = admin_client.get(page_of(provider, "sync")).content.decode()
    assert page.count('name="model"') == 200
    assert "51 more: search" in page
    page = admin_client.get(page_of(provider, "sync"), {"q": "ODD"}).content.decode()
    assert page.count('name="model"') == 1
    assert "<b>odd</b>" not in page
    assert "&lt;b&gt;odd" in page


def test_a_vendor_that_lists_nothing_is_told_on_the_page(admin_client: Client, vendor: ListingVendor) -> None:
    vendor.listed = (401, {"error": {"message": "no"}})
    page = admin_client.get(page_of(provider_at(vendor, GOOD), "sync")).content.decode()
    assert "refused the key (401)" in page
    assert "Test connection" in page


# --- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "sync"])
def test_only_those_who_may_change_the_provider_see_and_use_the_buttons(vendor: ListingVendor, name: str) -> None:
    provider = provider_at(vendor, GOOD)
    person, client = UserFactory.create(is_staff=True), Client()
    person.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client.force_login(person)
    assert page_of(provider, name) not in client.get(change_url(provider)).content.decode()
    assert client.get(page_of(provider, name)).status_code in {403, 404}
    assert client.post(page_of(provider, name)).status_code in {403, 404}
    person.user_permissions.add(Permission.objects.get(codename="change_provider"))
    client = Client()
    client.force_login(person)
    assert page_of(provider, name) in client.get(change_url(provider)).content.decode()
    assert client.get(page_of(provider, name)).status_code == 200


@pytest.mark.parametrize("name", ["test", "sync"])
def test_a_provider_that_is_not_there_is_not_found(admin_client: Client, name: str) -> None:
    assert admin_client.get(f"/admin/providers/provider/424242/{name}/").status_code == 404
