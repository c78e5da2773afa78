"""Vendors whose keys are in the environment: set up once, then only the key follows."""

import io
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command

from providers.catalogue import Catalogue, read_catalogue
from providers.catalogue_services import catalogue_load
from providers.fields import unseal
from providers.models import Deployment, Provider, ProviderKey
from routerplatform.demo import seed
from routerplatform.vendor_keys import vendor_providers_ensure
from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.models import AliasTarget, ModelAlias, PolicyCandidate
from routing.selectors import config_revision, config_rows
from tests.factories import ModelAliasFactory, PolicyCandidateFactory, ProviderFactory, ProviderKeyFactory

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OPENAI_SECRET = "sk-test-openai-0123456789"
OTHER_SECRET = "sk-test-another-9876543210"

pytestmark = pytest.mark.django_db


FULL = read_catalogue()
STARTERS = {name: FULL.entries[name] for names in FULL.start_with.values() for name in names}


@pytest.fixture(autouse=True)
def _catalogue(db: None) -> None:
    catalogue_load(now=NOW, catalogue=Catalogue(STARTERS, FULL.start_with))


@pytest.fixture
def demo(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    seed(now=NOW, demo_provider_port=8901, usage_per_day=0)


def ensure(**vendor_keys: str) -> list[str]:
    return vendor_providers_ensure(vendor_keys=vendor_keys, now=NOW)


def snapshot() -> ConfigSnapshot:
    return compile_snapshot(config_rows(now=NOW), now=NOW)


def order(policy: str) -> list[str]:
    return [candidate.alias.name for candidate in snapshot().policies[policy].candidates]


def secret_of(provider: str) -> str:
    return unseal(ProviderKey.objects.get(provider__name=provider, label="from environment").sealed)


# --- the first time -----------------------------------------------------------------------------------------------


def test_a_key_alone_makes_a_vendor_callable_by_its_models_names() -> None:
    assert ensure(openai=OPENAI_SECRET, anthropic="") == ["openai"]
    config = snapshot()
    luna = config.aliases["gpt-6-luna"].deployments[0]
    assert luna.name == "openai/gpt-6-luna"
    assert luna.endpoint.base_url == "https://api.openai.com/v1"
    assert luna.price
    assert luna.price.input == 100_000_000
    assert [credential.last4 for credential in luna.credentials] == ["6789"]
    assert secret_of("openai") == OPENAI_SECRET


@pytest.mark.parametrize("kind", ["openai", "anthropic", "groq", "gemini", "cohere"])
def test_every_vendor_of_the_settings_can_be_set_up(kind: str) -> None:
    assert ensure(**{kind: OTHER_SECRET}) == [kind]
    deployments = snapshot().deployments.values()
    assert 2 <= len(deployments) <= 5
    assert all(deployment.price for deployment in deployments)


def test_the_key_is_sealed_and_never_told(caplog: pytest.LogCaptureFixture, settings: Any) -> None:
    settings.VENDOR_KEYS = {"openai": OPENAI_SECRET}
    out = io.StringIO()
    with caplog.at_level(logging.DEBUG):
        call_command("vendor_keys", stdout=out)
    assert out.getvalue() == "Set up: openai.\n"
    assert OPENAI_SECRET not in caplog.text
    key = ProviderKey.objects.get()
    assert OPENAI_SECRET not in key.sealed
    assert OPENAI_SECRET not in str(list(ProviderKey.history.values()))


@pytest.mark.usefixtures("demo")
def test_real_models_go_before_the_demo_s_and_the_demo_stays_behind_them() -> None:
    ensure(openai=OPENAI_SECRET, anthropic=OTHER_SECRET)
    assert order("coding") == [
        "gpt-6.1-sol", "claude-sonnet-5-5", "demo-sage", "demo-deep", "demo-balanced", "demo-sage-mini",
    ]  # fmt: skip
    assert order("chat")[:3] == ["gpt-6-luna", "claude-haiku-5-5", "demo-swift"]
    config = snapshot()
    assert [deployment.name for deployment in config.aliases["fast"].deployments][:3] == [
        "openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "demo/demo-swift",
    ]  # fmt: skip
    assert config.aliases["smart"].deployments[0].name == "openai/gpt-6.1-sol"


@pytest.mark.usefixtures("demo")
def test_a_vendor_that_joins_later_stands_behind_the_first_and_before_the_demo() -> None:
    ensure(openai=OPENAI_SECRET)
    ensure(openai=OPENAI_SECRET, groq=OTHER_SECRET)
    assert order("analysis")[:3] == ["gpt-6.1-sol", "openai/gpt-oss-120b", "demo-deep"]


@pytest.mark.usefixtures("demo")
def test_candidates_that_an_operator_put_first_stay_first() -> None:
    ours = ModelAliasFactory.create(name="ours", deployments=[Deployment.objects.get(upstream_model="demo-deep")])
    AliasTarget.objects.filter(alias=ours).delete()
    for candidate in PolicyCandidate.objects.filter(policy__name="chat", group="preferred"):
        candidate.position += 1
        candidate.save()
    chat = PolicyCandidate.objects.filter(policy__name="chat")[0].policy
    PolicyCandidateFactory.create(policy=chat, alias=ours, position=0)
    ensure(openai=OPENAI_SECRET)
    assert order("chat")[:3] == ["ours", "gpt-6-luna", "demo-swift"]


# --- afterwards ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("demo")
def test_a_second_start_changes_nothing() -> None:
    ensure(openai=OPENAI_SECRET)
    revision = config_revision()
    assert ensure(openai=OPENAI_SECRET) == []
    assert config_revision() == revision


@pytest.mark.usefixtures("demo")
def test_what_the_operator_changed_afterwards_stays() -> None:
    ensure(openai=OPENAI_SECRET)
    PolicyCandidate.objects.get(policy__name="chat", alias__name="gpt-6-luna").delete()
    Deployment.objects.filter(upstream_model="gpt-5.2").update(is_active=False)
    ModelAlias.objects.get(name="gpt-4.1").delete()
    Provider.objects.filter(name="openai").update(label="Our contract")
    ProviderKey.objects.filter(provider__name="openai").update(is_active=False)

    ensure(openai=OTHER_SECRET)
    assert "gpt-6-luna" not in order("chat")
    assert not Deployment.objects.get(upstream_model="gpt-5.2").is_active
    assert not ModelAlias.objects.filter(name="gpt-4.1").exists()
    assert Provider.objects.get(name="openai").label == "Our contract"
    assert not ProviderKey.objects.get(provider__name="openai").is_active


def test_a_changed_key_replaces_the_sealed_one() -> None:
    ensure(openai=OPENAI_SECRET)
    ensure(openai=f"  {OTHER_SECRET}\n")
    key = ProviderKey.objects.get()
    assert unseal(key.sealed) == OTHER_SECRET
    assert key.last4 == "3210"
    assert key.rotated_at


def test_a_variable_that_is_gone_leaves_the_rows_alone() -> None:
    ensure(openai=OPENAI_SECRET)
    assert ensure(openai="") == []
    assert secret_of("openai") == OPENAI_SECRET


def test_an_operator_s_own_keys_are_kept_beside_the_environment_s() -> None:
    provider = ProviderFactory.create(name="openai", kind="openai", base_url="")
    ProviderKeyFactory.create(provider=provider, label="production")
    assert ensure(openai=OPENAI_SECRET) == []
    assert set(provider.keys.values_list("label", flat=True)) == {"production", "from environment"}
    assert not provider.deployments.exists()


@pytest.mark.parametrize("changes", [{"base_url": "https://proxy.example.com/v1"}, {"kind": "openai-compatible"}])
def test_a_vendor_s_key_never_goes_to_another_address(
    changes: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ProviderFactory.create(**{"name": "openai", "kind": "openai", "base_url": "", **changes})
    assert ensure(openai=OPENAI_SECRET) == []
    assert not ProviderKey.objects.exists()
    assert "not taken over" in caplog.text
    assert OPENAI_SECRET not in caplog.text


def test_a_key_that_no_header_can_carry_stops_nothing_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert ensure(openai="sk-with a space", groq=OTHER_SECRET) == ["groq"]
    assert "openai" in caplog.text
    assert "sk-with" not in caplog.text


def test_an_alias_that_somebody_already_named_like_a_model_keeps_its_targets() -> None:
    alias = ModelAliasFactory.create(name="gpt-6-luna")
    ensure(openai=OPENAI_SECRET)
    assert not alias.targets.exists()


def test_a_vendor_without_models_in_the_catalogue_is_set_up_with_its_key_alone() -> None:
    assert ensure(mistral=OTHER_SECRET, ai21=OTHER_SECRET) == ["mistral", "ai21"]
    assert secret_of("mistral") == OTHER_SECRET
    assert not Deployment.objects.filter(provider__name__in=["mistral", "ai21"]).exists()
    assert not ModelAlias.objects.exists()


# --- another address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "opened"),
    [
        ("https://eu.example.com/v1", ""),
        ("http://10.1.2.3:8080/v1", "10.1.2.3/32"),
        ("http://[::1]:8080/v1", "::1/128"),
        ("http://localhost:8080/v1", "127.0.0.0/8\n::1/128"),
        ("http://8.8.8.8/v1", ""),
    ],
)
def test_a_vendor_that_the_environment_moves_is_opened_there_and_nowhere_else(address: str, opened: str) -> None:
    keys = {"openai": OPENAI_SECRET}
    for _ in range(2):  # also a vendor that is there already
        vendor_providers_ensure(vendor_keys=keys, now=NOW, base_urls={"openai": address})
        provider = Provider.objects.get(name="openai")
        assert (provider.base_url, provider.allowed_networks) == (address, opened)
        assert secret_of("openai") == OPENAI_SECRET
    before = config_revision()
    vendor_providers_ensure(vendor_keys=keys, now=NOW, base_urls={"openai": address})
    assert config_revision() == before
