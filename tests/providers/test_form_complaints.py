"""What the forms of providers, keys, models, deployments and prices refuse, and in which words."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from providers.admin.pages import change_url, list_url
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from tests.admin_pages import errors_of, submit, submit_new
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    PriceFactory,
    ProviderFactory,
    ProviderKeyFactory,
)

pytestmark = pytest.mark.django_db
VENDOR = {"label": "Acme", "name": "acme", "kind": "openai-compatible", "base_url": "https://acme.example/v1"}
MODEL = {"name": "swift-1", "label": "Swift", "vendor": "Acme", "cost_tier": "standard", "status": "current"}


def complaints(client: Client, table: type[Model], /, **fields: Any) -> str:
    """What the form for a new row says to these fields; the row must not have come into being."""
    before = table._default_manager.count()
    answer = submit_new(client, f"{list_url(table)}add/", **fields)
    assert answer.status_code == 200, "it was saved"
    assert table._default_manager.count() == before
    return errors_of(answer)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "Acme Inc"}, "Lower-case letters, digits, dot, dash and underscore"),
        ({"name": "-acme"}, "starts with a letter or digit"),
        ({"name": "acme/eu"}, "Lower-case letters"),
        ({"name": "a" * 61}, "at most 60 characters"),
        ({"name": "taken"}, "Provider with this Name already exists"),
        ({"label": ""}, "This field is required"),
        ({"kind": "telepathy"}, "Select a valid choice"),
        ({"base_url": "not an address"}, "Enter a valid URL"),
        ({"base_url": "ftp://acme.example/v1"}, "begins with https:// or http://"),
        ({"base_url": "javascript:alert(1)"}, "Enter a valid URL"),
        ({"base_url": "https://user:secret@acme.example/v1"}, "no user name or password"),
        ({"base_url": "https://acme.example/v1?key=1"}, "ends with its path"),
        ({"base_url": "https://acme.example/v1#part"}, "ends with its path"),
        ({"base_url": "http://127.0.0.1:8000/v1"}, "for example 127.0.0.1/32"),
        ({"base_url": "http://[::1]:8000/v1", "allowed_networks": "10.0.0.0/8"}, "for example ::1/128"),
        ({"base_url": ""}, "has no address of its own"),
        ({"timeout_s": "0"}, "greater than or equal to 1"),
        ({"timeout_s": "nan"}, "Enter a number"),
        ({"timeout_s": "inf"}, "Enter a number"),
        ({"timeout_s": "soon"}, "Enter a number"),
        ({"connect_timeout_s": "-1"}, "greater than or equal to 0.1"),
        ({"allowed_networks": "10.0.0.0/8 everywhere"}, "everywhere"),
        ({"allowed_networks": "10.0.0.1/8"}, "10.0.0.1/8 has host bits set"),
        ({"allowed_networks": "10.0.0.0/33"}, "One network per line"),
    ],
)
def test_a_provider_is_refused_in_words(admin_client: Client, fields: dict[str, str], said: str) -> None:
    ProviderFactory(name="taken")
    assert said in complaints(admin_client, Provider, **VENDOR | fields)


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.0/8"),
        ("http://localhost:8000/v1", ""),
        ("https://8.8.8.8/v1", ""),
    ],
)
def test_an_address_that_may_be_called_is_taken(admin_client: Client, url: str, networks: str) -> None:
    fields = VENDOR | {"base_url": url, "allowed_networks": networks}
    assert submit(admin_client, f"{list_url(Provider)}add/", **fields).status_code == 302


def test_the_vendors_own_address_may_be_left_empty(admin_client: Client) -> None:
    fields = VENDOR | {"kind": "openai", "base_url": ""}
    assert submit(admin_client, f"{list_url(Provider)}add/", **fields).status_code == 302


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "This field is required"),
        ("   ", "This field is required"),
        ("two words", "no spaces, line breaks or accents"),
        ("schlüssel-mit-umlaut", "no spaces, line breaks or accents"),
        ("line\nbreak", "no spaces, line breaks or accents"),
        ("tab\there", "no spaces, line breaks or accents"),
    ],
)
def test_a_key_is_refused_in_words_that_do_not_repeat_it(admin_client: Client, secret: str, said: str) -> None:
    url = f"{list_url(ProviderKey)}add/"
    answer = submit_new(admin_client, url, provider=ProviderFactory().pk, label="first", secret=secret)
    assert said in errors_of(answer)
    assert not ProviderKey.objects.exists()
    assert not secret.strip() or secret not in answer.content.decode()


def test_a_keys_label_is_used_once_at_a_provider_also_when_it_is_changed(admin_client: Client) -> None:
    first = ProviderKeyFactory(label="first")
    second = ProviderKeyFactory(label="second", provider=first.provider)
    taken = "Provider key with this Provider and Label already exists"
    new = {"provider": first.provider.pk, "label": "first", "secret": "sk-another-0001"}
    assert taken in complaints(admin_client, ProviderKey, **new)
    answer = submit(admin_client, change_url(second), label="first")
    assert taken in errors_of(answer)
    second.refresh_from_db()
    assert second.label == "second"


def test_a_keys_label_may_be_the_same_at_another_provider(admin_client: Client) -> None:
    ProviderKeyFactory(label="production")
    other = ProviderKeyFactory(label="test")
    assert submit(admin_client, change_url(other), label="production").status_code == 302


def test_two_new_keys_of_a_provider_need_two_labels(admin_client: Client) -> None:
    provider = ProviderFactory()
    rows = {"keys__TOTAL_FORMS": "2"}
    for number in range(2):
        rows |= {f"keys__{number}__label": "same", f"keys__{number}__secret": f"sk-number-000{number}"}
        rows[f"keys__{number}__is_active"] = "on"
    assert "label" in errors_of(submit(admin_client, change_url(provider), **rows))
    assert not ProviderKey.objects.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "taken"}, "already exists"),
        ({"name": "m" * 121}, "at most 120 characters"),
        ({"vendor": ""}, "This field is required"),
        ({"context_window": "-1"}, "greater than or equal to 0"),
        ({"context_window": "128k"}, "Enter a whole number"),
        ({"context_window": "9" * 20}, "less than or equal to"),
        ({"max_output_tokens": "1.5"}, "Enter a whole number"),
        ({"capabilities": ["telepathy"]}, "telepathy"),
        ({"cost_tier": "priceless"}, "Select a valid choice"),
        ({"status": "asleep"}, "Select a valid choice"),
        ({"list_price_per_1k": "1.1234567"}, "no more than 6 decimal places"),
        ({"list_price_per_1k": "NaN"}, "Enter a number"),
    ],
)
def test_a_model_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    CatalogueModelFactory(name="taken")
    assert said in complaints(admin_client, CatalogueModel, **MODEL | fields)


def test_a_model_that_is_still_offered_has_no_successor(admin_client: Client) -> None:
    successor = CatalogueModelFactory()
    said = complaints(admin_client, CatalogueModel, **MODEL, replaced_by=successor.pk)
    assert "Only a retired model is replaced" in said
    retired = MODEL | {"status": "retired"}
    assert (
        submit(admin_client, f"{list_url(CatalogueModel)}add/", **retired, replaced_by=successor.pk).status_code == 302
    )


def test_a_model_does_not_replace_itself(admin_client: Client) -> None:
    model = CatalogueModelFactory(status="retired")
    assert "replaces itself" in errors_of(submit(admin_client, change_url(model), replaced_by=model.pk))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"provider": ""}, "This field is required"),
        ({"provider": "999999"}, "Select a valid choice"),
        ({"model": "999999"}, "Select a valid choice"),
        ({"upstream_model": ""}, "This field is required"),
        ({"expected_latency_ms": "-5"}, "greater than or equal to 0"),
        ({"max_output_tokens": "many"}, "Enter a whole number"),
    ],
)
def test_a_deployment_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    wanted = {"provider": ProviderFactory().pk, "model": CatalogueModelFactory().pk, "upstream_model": "swift-1"}
    assert said in complaints(admin_client, Deployment, **wanted | fields)


def test_a_model_is_deployed_once_at_a_provider_also_when_it_is_renamed(admin_client: Client) -> None:
    first = DeploymentFactory(upstream_model="swift-1")
    second = DeploymentFactory(upstream_model="swift-2", provider=first.provider)
    taken = "already exists"
    new = {"provider": first.provider.pk, "model": first.model.pk, "upstream_model": "swift-1"}
    assert taken in complaints(admin_client, Deployment, **new)
    assert taken in errors_of(submit(admin_client, change_url(second), upstream_model="swift-1"))
    second.refresh_from_db()
    assert second.upstream_model == "swift-2"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input_usd": "-1"}, "greater than or equal to 0"),
        ({"output_usd": "free"}, "Enter a number"),
        ({"output_usd": "0.0000001"}, "no more than 6 decimal places"),
        ({"cache_read_usd": "123456789.5"}, "no more than 8 digits before the decimal point"),
        ({"per_request_usd": "-0.1"}, "greater than or equal to 0"),
        ({"per_request_usd": ""}, "This field is required"),
        ({"source": "a friend"}, "Select a valid choice"),
        ({"effective_from_0": "2026-02-30"}, "Enter a valid date"),
        ({"effective_from_0": "", "effective_from_1": ""}, "This field is required"),
    ],
)
def test_a_price_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    wanted = {"model": CatalogueModelFactory().pk, "input_usd": "1", "output_usd": "2"}
    assert said in complaints(admin_client, Price, **wanted | fields)


def test_a_price_is_for_a_model_or_for_a_deployment_and_not_for_both_or_neither(admin_client: Client) -> None:
    deployment = DeploymentFactory()
    both = {"model": deployment.model.pk, "deployment": deployment.pk}
    for wanted in (both, {}):
        assert "a model or for a deployment" in complaints(admin_client, Price, **wanted, input_usd="1")


def test_two_prices_do_not_begin_at_the_same_moment(admin_client: Client) -> None:
    tomorrow = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    price = PriceFactory(effective_from=tomorrow)
    moment = {"effective_from_0": f"{tomorrow:%Y-%m-%d}", "effective_from_1": f"{tomorrow:%H:%M:%S}"}
    said = complaints(admin_client, Price, model=price.model.pk, input_usd="3", **moment)
    assert "begins at this very moment" in said


def test_an_unknown_rate_is_left_empty_and_stays_unknown(admin_client: Client) -> None:
    model = CatalogueModelFactory()
    wanted = {"model": model.pk, "input_usd": "1", "output_usd": ""}
    assert submit(admin_client, f"{list_url(Price)}add/", **wanted).status_code == 302
    assert Price.objects.get(model=model).output_usd is None
    assert "A rate is unknown" in admin_client.get(list_url(Price)).content.decode()
