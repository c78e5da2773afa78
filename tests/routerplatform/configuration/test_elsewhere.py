"""An export on an empty installation makes the same again; and what is stored as no file writes it is no difference."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from pytest_django import Settings

from analytics.models import AlertChannel, AlertRule
from providers.models import Deployment, ProviderKey
from routerplatform.configuration.reading import read
from routerplatform.configuration.shapes import Parsed, parse_into
from routing.models import ModelAlias, Persona, PromptTemplate, RoutingPolicy, Team, VirtualKey
from routing.services.templates import template_version_create
from tests.factories import (
    DeploymentFactory,
    PersonaFactory,
    PromptTemplateFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    VirtualKeyFactory,
    served_alias,
)
from tests.routerplatform.configuration.installation import (
    file_of,
    run,
    set_secrets,
    small_installation,
    wipe,
)

pytestmark = pytest.mark.django_db

SMALLEST = "format: 1\n"


def export(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    told = run(capsys, "config_export", *options)
    assert told.code == 0, told.out
    return told.out


def set_keys_of(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret with the end that the export remembers, for each key that it names."""
    for provider in yaml.safe_load(text).get("providers", {}).values():
        for key in provider.get("keys", {}).values():
            monkeypatch.setenv(key["api_key"].strip("${}"), f"sk-test-0123456789-{key.get('ends_with', '0000')}")


def issue_keys_of(text: str) -> None:
    """By hand, as the import says: `create_key` needs a person who copies the secret."""
    for name in yaml.safe_load(text).get("keys", {}):
        team, _, own = name.partition("/")
        VirtualKeyFactory.create(team=Team.objects.get(slug=team), name=own, scopes=["chat", "models"])


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_the_demo_installation_is_made_again_from_its_export(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("demo_data")
    text = export(capsys)
    file = file_of(tmp_path, text)
    assert run(capsys, "config_import", file, "--plan", "--prune").lines == ["Nothing differs."]
    call_command("demo_data", "--remove")
    wipe()
    assert export(capsys) == header() + SMALLEST
    set_keys_of(text, monkeypatch)
    first = run(capsys, "config_import", file, "--apply")
    assert first.code == 0, first.out
    names = yaml.safe_load(text)["keys"]
    assert sum("a file cannot make one" in line for line in first.lines) == len(names)
    issue_keys_of(text)
    assert run(capsys, "config_import", file, "--apply").code == 0
    assert export(capsys) == text
    assert run(capsys, "config_import", file, "--plan", "--prune").lines == ["Nothing differs."]


def header() -> str:
    return "".join(f"{line}\n" for line in HEADER_LINES)


HEADER_LINES = (
    "# Configuration of Router Platform. What a line leaves out has its default; secrets are never part of it.",
    "# `manage.py config_import FILE --plan` shows what it would change, `--apply` does it. "
    "See docs/configuration-files.md.",
)


def test_an_empty_installation_has_an_export_too_and_it_plans_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wipe()
    text = export(capsys)
    assert text == header() + SMALLEST
    assert run(capsys, "config_import", file_of(tmp_path, text), "--plan", "--prune").lines == ["Nothing differs."]


def test_a_model_of_a_catalogue_that_was_never_loaded_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = SMALLEST + "providers:\n  acme: {kind: openai, label: A}\ndeployments:\n  acme/m: {model: m}\n"
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply")
    assert "there is no model “m”. Run manage.py catalogue_load first" in told.lines[0]


# --- everything else that files have ----------------------------------------------------------------------------------


def test_templates_and_the_personas_that_take_them_are_made_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    template = PromptTemplateFactory.create(name="tone", description="How we speak")
    document = template_document()
    template_version_create(template=template, document=document, note="x", by=None)
    policy = RoutingPolicy.objects.create(name="chat")
    PersonaFactory.create(slug="bot", name="Bot", policy=policy, template=template)
    PersonaFactory.create(slug="fixed", name="Fixed", policy=policy, template=template, template_version=1)
    said = (
        "format: 1\ntemplates:\n  hello: {messages: [{role: user, content: Hi}, {role: assistant, content: 'Yes?'}]}\n"
    )
    assert run(capsys, "config_import", file_of(tmp_path, said), "--apply").code == 0
    text = export(capsys)
    assert yaml.safe_load(text)["templates"]["hello"]["messages"][1] == {"role": "assistant", "content": "Yes?"}
    entry = yaml.safe_load(text)["templates"]["tone"]
    assert entry["system"] == "Speak {{language}}.\nBe kind.\n"
    assert entry["variables"][0] == {"name": "language", "description": "Which", "default": "English"}
    file = file_of(tmp_path, text)
    assert run(capsys, "config_import", file, "--plan", "--prune").lines == ["Nothing differs."]
    wipe()
    told = run(capsys, "config_import", file, "--apply")
    assert told.code == 0, told.out
    assert export(capsys) == text
    assert Persona.objects.get(slug="bot").template == PromptTemplate.objects.get(name="tone")
    assert Persona.objects.get(slug="fixed").template_version == 1


def template_document() -> Any:
    text = SMALLEST + (
        "templates:\n  tone:\n    system: |\n      Speak {{language}}.\n      Be kind.\n"
        "    variables:\n      - {name: language, description: Which, default: English}\n"
    )
    found = Parsed()
    parse_into(found, read(text, "x.yaml"))
    return found.entries["templates"]["tone"].document()  # type: ignore[attr-defined]


def test_an_export_as_json_is_read_back_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_installation()
    RoutingPolicy.objects.update(cost_weight=0.00001, latency_weight=1e-09, description="1e5")
    Persona.objects.update(system_prompt="é “quoted” \\n \t 😀\nline")
    text, as_json = export(capsys, "--members"), export(capsys, "--members", "--json")
    assert json.loads(as_json)["policies"]["default"]["cost_weight"] == 0.00001
    for one in (text, as_json):
        told = run(capsys, "config_import", file_of(tmp_path, one), "--plan", "--prune")
        assert told.lines == ["Nothing differs."]
    set_secrets(monkeypatch)
    RoutingPolicy.objects.update(cost_weight=5)
    assert run(capsys, "config_import", file_of(tmp_path, as_json), "--apply").code == 0
    assert export(capsys, "--members") == text


def test_lines_that_a_browser_has_sent_are_no_difference(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A text area sends CR and LF, and a file has LF."""
    small_installation()
    Persona.objects.update(system_prompt="Be short.\r\nBe kind.\r\n", description="one\r\ntwo")
    ModelAlias.objects.update(description="one\r\ntwo")
    text = export(capsys)
    assert "    system_prompt: |\n      Be short.\n      Be kind.\n" in text
    assert "\r" not in text
    file = file_of(tmp_path, text)
    assert run(capsys, "config_import", file, "--plan", "--prune").lines == ["Nothing differs."]
    assert run(capsys, "config_import", file, "--apply").lines == ["Nothing differs."]


def test_names_may_have_any_sign_that_a_person_enters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_installation()
    set_secrets(monkeypatch)
    AlertChannel.objects.filter(name="hook").update(name="ops > night: #1")
    ProviderKey.objects.filter(label="old").update(label="EU > old, 1/2")
    VirtualKey.objects.update(name="bot > 'x' #1 / prod")
    AlertRule.objects.update(is_active=False)
    text = export(capsys)
    file = file_of(tmp_path, text)
    assert run(capsys, "config_import", file, "--plan", "--prune").lines == ["Nothing differs."]
    told = run(capsys, "config_import", file_of(tmp_path, text.replace("active: false", "active: true")), "--plan")
    assert "~ key of provider alpha: EU > old, 1/2: active no -> yes" in told.lines
    changed = text.replace("minimum_severity", "x").replace("ops > night: #1':", "ops > night: #1':\n    active: false")
    told = run(capsys, "config_import", file_of(tmp_path, changed), "--plan")
    assert "~ alert channel ops > night: #1: active yes -> no" in told.lines


def test_what_changed_by_hand_is_the_drift_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_installation()
    file = file_of(tmp_path, export(capsys))
    Deployment.objects.filter(upstream_model="swift-2").update(rpm_limit=61)
    Persona.objects.update(temperature=0.5)
    served_alias(name="extra")
    told = run(capsys, "config_import", file, "--plan", "--prune")
    assert told.code == 2
    assert told.lines[:2] == [
        "~ deployment alpha/swift-2: rpm_limit 61 -> 60",
        "~ persona chatbot: temperature 0.5 -> 0.7",
    ]
    assert "- alias extra" in told.lines
    as_json = run(capsys, "config_import", file, "--plan", "--prune", "--json")
    assert (as_json.code, as_json.json["counts"]["change"], as_json.json["applied"]) == (2, 2, False)


def test_a_key_that_is_gone_is_no_change_and_not_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = VirtualKeyFactory.create(team__slug="support", name="bot's key")
    file = file_of(tmp_path, export(capsys, "--only", "keys"))
    VirtualKey.objects.update(revoked_at=key.created_at)
    told = run(capsys, "config_import", file, "--plan")
    assert "Run manage.py create_key --team support --name 'bot'\"'\"'s key', then import again" in told.lines[0]
    assert told.lines[-1] == "Nothing else differs."
    assert run(capsys, "config_import", file, "--plan", "--json").json["left_out"] == 1


def test_a_ladder_and_models_are_told_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_installation()
    text = (
        "policies:\n  default:\n    default: true\n    models: [{alias: vendor/spare:1}, {alias: swift, weight: 3}]\n"
    )
    rest = (
        "    ladder: {cap_at: 40, refuse_at: 90}\n    strategy: weighted\n    quality_floor: 0.25\n    regions: [eu]\n"
        "    max_cost_per_request: 0.05\n    escalate_on: [refusal]\n"
    )
    told = run(capsys, "config_import", file_of(tmp_path, SMALLEST + text + rest), "--plan")
    assert told.lines[0] == (
        "~ policy default: models swift, vendor/spare:1 (fallback yes) -> vendor/spare:1, swift (weight 3), "
        "ladder cap_at 50 -> cap_at 40, refuse_at 90"
    )


# --- names that go, and names that come -------------------------------------------------------------------------------


def test_another_name_is_another_thing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing is guessed to be the same: the new one is added, and --prune removes the former one."""
    PersonaFactory.create(slug="bot", name="Bot", policy=RoutingPolicy.objects.create(name="chat"))
    text = export(capsys, "--only", "personas,policies")
    renamed = file_of(tmp_path, text.replace("  bot:", "  helper:"))
    told = run(capsys, "config_import", renamed, "--plan")
    assert told.lines[0] == "+ persona helper"
    assert "Only in the database: 1 in personas. They stay; --prune removes them." in told.lines[1]
    told = run(capsys, "config_import", renamed, "--apply", "--prune")
    assert told.lines[:2] == ["+ persona helper", "- persona bot"]
    assert Persona.objects.get().slug == "helper"
    assert Persona.history.filter(slug="bot", history_type="-").exists()


def test_a_renamed_alias_moves_its_policies_along(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Removed last, when nothing of the files names it any more."""
    RoutingPolicyFactory.create(name="chat", preferred=[served_alias(name="fast")])
    text = export(capsys, "--only", "aliases,policies").replace("fast", "quick")
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply", "--prune")
    assert told.lines[:3] == ["+ alias quick", "~ policy chat: models fast -> quick", "- alias fast"]
    assert list(ModelAlias.objects.values_list("name", flat=True)) == ["quick"]


def test_a_label_of_a_key_may_change_with_the_same_secret(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = DeploymentFactory.create(provider__name="acme", model__name="m")
    ProviderKeyFactory.create(provider=deployment.provider, label="old", secret="sk-test-of-acme-1111")
    monkeypatch.setenv("ACME_OLD_API_KEY", "sk-test-of-acme-1111")
    text = export(capsys, "--only", "providers").replace("      old:", "      new:")
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply", "--prune")
    assert told.lines[:2] == ["+ key of provider acme: new", "- key of provider acme: old"]
    assert dict(ProviderKey.objects.values_list("label", "is_active")) == {"new": True, "old": False}


def test_prune_with_review_on_leaves_policies_to_people(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Settings
) -> None:
    RoutingPolicyFactory.create(name="spare")
    settings.POLICY_REVIEW = True
    told = run(capsys, "config_import", file_of(tmp_path, SMALLEST + "policies: {}\n"), "--apply", "--prune")
    assert told.lines[0] == "! policy spare stays: POLICY_REVIEW is on: delete it in the admin."
    assert RoutingPolicy.objects.get().name == "spare"
