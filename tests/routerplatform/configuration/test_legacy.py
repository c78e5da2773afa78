"""The four files of older routers: recognised by their shape, brought in, and two of them written again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from django.utils import timezone

from providers.catalogue_services import catalogue_load
from providers.models import CatalogueModel, Deployment, Provider, ProviderKey
from routing.models import ModelAlias, Persona, RoutingPolicy
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    RoutingPolicyFactory,
    served_alias,
)
from tests.routerplatform.configuration.installation import Ran, file_of, run

pytestmark = pytest.mark.django_db

CONFIG = """\
server:
  grpc_port: 50051
  http_port: 8080
providers:
  openai:
    default_model: gpt-4o-mini
    api_key: ${OPENAI_API_KEY}
  anthropic:
    default_model: claude-3-5-sonnet-20240620
    api_key: ${ANTHROPIC_API_KEY}
"""

Import = Callable[..., Ran]


@pytest.fixture
def imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Import:
    """`imported(text, "config.yaml")`: write the file, import it."""

    def do(text: str, name: str, how: str = "--apply") -> Ran:
        return run(capsys, "config_import", file_of(tmp_path, text, name), how)

    return do


@pytest.fixture
def _vendor_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-of-openai-1111")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-of-anthropic-2222")


# --- config.yaml ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_vendor_keys")
def test_providers_come_with_their_default_models(imported: Import) -> None:
    catalogue_load(now=timezone.now())
    told = imported(CONFIG, "config.yaml")
    assert told.code == 0, told.out
    assert sorted(Provider.objects.values_list("name", "kind")) == [("anthropic", "anthropic"), ("openai", "openai")]
    assert sorted(map(str, Deployment.objects.all())) == ["anthropic/claude-3-5-sonnet-20240620", "openai/gpt-4o-mini"]
    for name, target in (("openai", "openai/gpt-4o-mini"), ("gpt-4o-mini", "openai/gpt-4o-mini")):
        assert [str(one.deployment) for one in ModelAlias.objects.get(name=name).targets.all()] == [target]
    assert ProviderKey.objects.get(provider__name="openai").last4 == "1111"
    assert (
        "! deployment anthropic/claude-3-5-sonnet-20240620: its vendor has retired claude-3-5-sonnet-20240620. "
        "Use claude-sonnet-5-5 instead." in told.lines
    )
    [port, grpc] = [line for line in told.lines if "is no row of the database" in line]
    assert port.startswith(
        "! server.http_port is no row of the database: set PORT=8080 in the environment, or AI_ROUTER"
    )
    assert "GRPC_PORT=50051" in grpc
    assert imported(CONFIG, "config.yaml", "--plan").lines[-1] == "Nothing differs."


def test_a_provider_without_a_key_is_told_and_one_without_a_known_model_refused(imported: Import) -> None:
    CatalogueModelFactory.create(name="gpt-4o-mini")
    told = imported("providers:\n  openai: {default_model: gpt-4o-mini}\n", "config.yaml")
    assert "! provider openai has no key yet: set OPENAI_API_KEY and import again, or enter one." in told.lines
    told = imported("providers:\n  openai:\n    default_model: gpt-4o-mni\n", "config.yaml")
    assert (
        "config.yaml:3: providers.openai.default_model: there is no model “gpt-4o-mni”. Did you mean gpt-4o" in told.out
    )
    told = imported("providers:\n  mine: {default_model: gpt-4o-mini}\n", "config.yaml")
    assert "“mine” is no kind of provider: say `kind:`." in told.out
    told = imported("server: {http_port: 99999}\nextra: 1\n", "config.yaml")
    assert "server.http_port: must be a whole number between 1 and 65535." in told.out
    assert "extra: is no part of config.yaml." in told.out


def test_a_server_of_ones_own_brings_its_models_along(imported: Import) -> None:
    text = "providers:\n  ollama:\n    default_model: llama3.1\n    models: [phi4]\n    timeout: 300\n"
    told = imported(text, "config.yaml")
    assert told.code == 0, told.out
    provider = Provider.objects.get()
    assert (provider.allowed_networks.split(), provider.timeout_s) == (["127.0.0.1/32", "::1/128"], 300)
    assert set(CatalogueModel.objects.values_list("name", flat=True)) == {"llama3.1", "phi4"}
    assert imported(text, "config.yaml", "--plan").lines[-1] == "Nothing differs."


def test_what_the_file_leaves_out_stays_as_it_is(imported: Import) -> None:
    deployment = DeploymentFactory.create(provider__name="mine", provider__region="eu", model__name="m-1")
    ModelAliasFactory.create(name="mine", deployments=[DeploymentFactory.create()])
    told = imported("providers:\n  mine: {default_model: m-1, enabled: true}\n", "config.yaml")
    assert told.code == 0, told.out
    assert Provider.objects.get(name="mine").region == "eu"
    targets = [one.deployment for one in ModelAlias.objects.get(name="mine").targets.all()]
    assert (targets[0], len(targets)) == (deployment, 2)


def test_a_literal_key_in_config_yaml_is_refused_and_not_repeated(imported: Import) -> None:
    told = imported("providers:\n  openai:\n    default_model: m\n    api_key: sk-test-literal\n", "config.yaml")
    assert told.code == 1
    assert "config.yaml:4: providers.openai.api_key: must say where the secret is" in told.out
    assert "sk-test-literal" not in told.out


# --- persona_policy.yaml ----------------------------------------------------------------------------------------------

PERSONAS = """\
personas:
  code_assistant:
    temperature: 0.2
    preferred_models: [smart]
    fallback_models: [m-1]
    max_cost_per_request: 0.05
"""


def test_personas_bring_their_rules_along(imported: Import) -> None:
    served_alias(name="smart")
    DeploymentFactory.create(provider__name="acme", model__name="m-1")
    told = imported(PERSONAS, "persona_policy.yaml")
    assert told.code == 0, told.out
    persona = Persona.objects.get()
    assert (persona.name, persona.temperature, persona.policy.name) == ("Code assistant", 0.2, "code_assistant")
    models = [(one.alias.name, one.group) for one in persona.policy.candidates.all()]
    assert models == [("smart", "preferred"), ("m-1", "fallback")]
    assert [str(one.deployment) for one in ModelAlias.objects.get(name="m-1").targets.all()] == ["acme/m-1"]
    assert imported(PERSONAS, "persona_policy.yaml", "--plan").lines[-1] == "Nothing differs."


def test_a_policy_that_others_follow_is_not_changed_for_one_persona(imported: Import) -> None:
    shared = RoutingPolicyFactory.create(name="coding", preferred=[served_alias(name="smart")], is_sticky=True)
    PersonaFactory.create(slug="code_assistant", policy=shared, system_prompt="Mind the tests.")
    PersonaFactory.create(slug="other", policy=shared)
    DeploymentFactory.create(model__name="m-1")
    assert imported(PERSONAS, "persona_policy.yaml").code == 0
    persona = Persona.objects.get(slug="code_assistant")
    assert (persona.policy.name, persona.system_prompt) == ("code_assistant", "Mind the tests.")
    Persona.objects.filter(slug="other").delete()
    Persona.objects.filter(slug="code_assistant").update(policy=shared)
    refused = imported(PERSONAS, "persona_policy.yaml")  # nobody has entered a price
    assert "its price is unknown and the policy sets a cost ceiling" in refused.out
    assert imported(PERSONAS.replace("0.05", "null"), "persona_policy.yaml").code == 0
    shared.refresh_from_db()
    assert (shared.version, shared.is_sticky, shared.candidates.count()) == (2, True, 2)


def test_a_model_that_nobody_knows_is_told_at_its_line(imported: Import) -> None:
    served_alias(name="smart")
    told = imported("personas:\n  a:\n    preferred_models:\n      - smart\n      - smrat\n", "persona_policy.yaml")
    assert told.code == 1
    assert (
        "persona_policy.yaml:5: personas.a.preferred_models[1]: there is no alias, deployment or deployed model "
        "“smrat”. Did you mean smart?" in told.out
    )
    assert not Persona.objects.exists()


def test_personas_are_written_and_read_again(capsys: pytest.CaptureFixture[str], imported: Import) -> None:
    fast, smart = served_alias(name="fast"), served_alias(name="smart")
    policy = RoutingPolicyFactory.create(name="p", preferred=[fast], fallbacks=[smart], strategy="weighted")
    PersonaFactory.create(slug="chatbot", name="Chatbot", policy=policy, temperature=0.7)
    text = run(capsys, "config_export", "--format", "persona_policy").out
    assert yaml.safe_load(text) == {
        "personas": {
            "chatbot": {
                "name": "Chatbot",
                "temperature": 0.7,
                "max_tokens": 4096,
                "preferred_models": ["fast"],
                "fallback_models": ["smart"],
                "strategy": "weighted",
                "task_type": "ANY",
            }
        }
    }
    assert imported(text, "persona_policy.yaml", "--plan").lines == ["Nothing differs."]
    told = imported(text.replace("0.7", "0.5").replace("weighted", "priority"), "persona_policy.yaml")
    assert told.code == 0
    assert (RoutingPolicy.objects.get().strategy, Persona.objects.get().temperature) == ("priority", 0.5)


# --- capabilities.yaml ------------------------------------------------------------------------------------------------


def test_capabilities_change_what_they_name_and_make_what_is_not_there(imported: Import) -> None:
    CatalogueModelFactory.create(name="m-1", capabilities=["streaming"], context_window=1000, strengths="Prose")
    text = """\
models:
  m-1:
    capabilities: {streaming: true, vision: true, tool_calling: false}
    cost_tier: high
  m-2:
    provider: Acme
    capabilities: [streaming]
    context_window: 8192
"""
    told = imported(text, "capabilities.yaml")
    assert told.lines[:2] == [
        "~ model m-1: capabilities streaming -> streaming, vision, cost_tier standard -> premium",
        "+ model m-2",
    ]
    one, two = CatalogueModel.objects.order_by("name")
    assert (one.context_window, one.strengths) == (1000, "Prose")
    assert (two.vendor, two.context_window, two.cost_tier) == ("Acme", 8192, "standard")
    told = imported("models:\n  m-1: {capabilities: [streeming], cost_tier: dear}\n", "capabilities.yaml")
    assert "capabilities.yaml:2: models.m-1.capabilities: Unknown capability: streeming." in told.out
    assert "models.m-1.cost_tier: “dear” is none of its choices." in told.out


def test_capabilities_are_written_and_read_again(capsys: pytest.CaptureFixture[str], imported: Import) -> None:
    catalogue_load(now=timezone.now())
    text = run(capsys, "config_export", "--format", "capabilities").out
    models = yaml.safe_load(text)["models"]
    assert len(models) == CatalogueModel.objects.count() > 20
    assert models["gpt-4o-mini"]["context_window"] == 128_000
    assert imported(text, "capabilities.yaml", "--plan").lines == ["Nothing differs."]
    before = run(capsys, "config_export").out
    assert "models:" not in before  # the catalogue looks after them


# --- .env -------------------------------------------------------------------------------------------------------------


def test_an_env_file_is_told_about_and_its_values_are_not(imported: Import) -> None:
    text = """\
# keys
OPENAI_API_KEY=sk-test-of-openai
export AI_ROUTER_MAX_RETRIES=3
CIRCUIT_BREAKER_TIMEOUT = 60
CACHE_TTL=3600
MAX_BODY_BYTES=5
FAVOURITE_COLOUR=blue
"""
    told = imported(text, ".env")
    assert told.code == 0
    assert told.lines[-1] == "Nothing differs."
    said = dict(line.removeprefix("! ").strip().split(": ", 1) for line in told.lines[1:-1])
    assert said["OPENAI_API_KEY"] == "key of a provider: it is set up at the next start (manage.py vendor_keys)"
    assert said["AI_ROUTER_MAX_RETRIES"] == "retries of a request: MAX_ATTEMPTS less one"
    assert said["CIRCUIT_BREAKER_TIMEOUT"] == "seconds that a circuit breaker stays open"
    assert said["MAX_BODY_BYTES"] == "a setting, see docs/settings.md"
    assert said["FAVOURITE_COLOUR"].startswith("nothing reads it")
    assert "sk-test" not in told.out
    assert "blue" not in told.out
