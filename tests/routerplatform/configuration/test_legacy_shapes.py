"""Files of older routers by themselves, without a database: what they are taken for, and what is wrong in them."""

from collections.abc import Mapping
from decimal import Decimal

import pytest

from routerplatform.configuration.documents import (
    SECTIONS,
    AliasEntry,
    CandidateEntry,
    DeploymentEntry,
    Entry,
    ModelEntry,
    PersonaEntry,
    PolicyEntry,
    ProviderEntry,
    ProviderKeyEntry,
    inner_name,
)
from routerplatform.configuration.exporting import Stored
from routerplatform.configuration.files import NO_FORMAT, parsed_files
from routerplatform.configuration.legacy import env_report, is_env
from routerplatform.configuration.legacy_policies import capabilities_file, persona_policy_file
from routerplatform.configuration.shapes import NOT_LITERAL, Parsed
from routerplatform.vendor_keys import LABEL

MODEL = ModelEntry(label="M 1", vendor="Acme", capabilities=("streaming",))
NOTHING: Mapping[str, str] = {}


def stored(**sections: Mapping[str, Entry]) -> Stored:
    return Stored({section.name: sections.get(section.name, {}) for section in SECTIONS}, frozenset())


KNOWN = stored(
    models={"m-1": MODEL, "m-2": MODEL},
    providers={"acme": ProviderEntry(kind="openai", label="Ours", timeout_s=30)},
    deployments={"acme/m-1": DeploymentEntry(model="m-1", rpm_limit=60)},
    aliases={"fast": AliasEntry(targets=("acme/m-1",), description="Quick")},
    policies={
        "chat": PolicyEntry(models=(CandidateEntry(alias="fast", weight=3),), is_default=True),
        "own": PolicyEntry(models=(CandidateEntry(alias="fast", weight=3),), strategy="weighted"),
    },
    personas={
        "bot": PersonaEntry(name="Bot", policy="chat", system_prompt="Be kind.", temperature=0.5),
        "coder": PersonaEntry(name="Coder", policy="own", max_tokens=100),
    },
)


def taken(text: str, name: str = "file.yaml", *, there: Stored = KNOWN, around: Mapping[str, str] = NOTHING) -> Parsed:
    return parsed_files({name: text}, there, around)


def wrong(text: str) -> list[str]:
    return [str(one) for one in taken(text).problems]


# --- what a file is taken for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "hello: 1\n",
        "[]\n",
        "just text\n",
        "providers:\n  acme: {kind: openai, label: A}\n",  # ours, without its format
        "personas:\n  bot: {name: Bot, policy: chat}\n",
        "personas: {}\n",
        "personas:\n  bot: {preferred_models: [fast]}\nteams: {}\n",
        "models: {}\naliases: {}\n",
        "providers: [acme]\n",
        "policies: {}\n",
    ],
)
def test_what_has_none_of_the_shapes_is_refused(text: str) -> None:
    assert wrong(text) == [f"file.yaml:1: {NO_FORMAT}"]


@pytest.mark.parametrize(
    ("text", "name", "it_is"),
    [
        ("A=1\nB=2\n", "x", True),
        ("# only\n\nexport A=1\n", "x", True),
        ("a: 1\n", ".env", True),
        ("a: 1\n", "/etc/router/.env.production", True),
        ("", "production.env", True),
        ("", "x", False),
        ("# nothing\n", "x", False),
        ("A=1\nb: 2\n", "x", False),
        ("a: b=c\n", "x", False),
        ("1A=2\n", "x", False),
    ],
)
def test_variables_are_known_by_their_name_or_by_every_line(text: str, name: str, it_is: bool) -> None:
    assert is_env(text, name) is it_is


def test_a_variable_is_told_once_with_where_it_acts_and_never_with_its_value() -> None:
    text = "OPENAI_API_KEY=S3cret\nexport PORT=1\n# HIDDEN=1\nPORT=2\nFOO = S3cret\nCACHE_TTL=5\nnot a line\n"
    found = dict(env_report(text))
    assert list(found) == ["OPENAI_API_KEY", "PORT", "FOO", "CACHE_TTL"]
    assert found["FOO"] == ""
    assert "manage.py vendor_keys" in found["OPENAI_API_KEY"]
    assert "S3cret" not in str(found)
    notes = taken(text, ".env").warnings
    assert "  FOO: nothing reads it. See docs/settings.md for what there is" in notes
    assert "S3cret" not in "".join(notes)


# --- config.yaml ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: 5\n", "1: server: must be a mapping of fields"),
        ("server:\n  http_port: 0\n", "2: server.http_port: must be a whole number between 1 and 65535."),
        ("server:\n  grpc_prot: 5\n", "2: server.grpc_prot: is no field here. Did you mean grpc_port?"),
        ("server: {}\nserverr: {}\n", "2: serverr: is no part of config.yaml. Did you mean server?"),
        ("server: {}\nproviders: [a]\n", "2: providers: must be a mapping of names."),
        ("server: {}\nproviders:\n  acme:\n", "3: providers.acme: must be a mapping of fields"),
        ("providers:\n  acme:\n    default_model: 5\n", "3: providers.acme.default_model: must be text"),
        (
            "providers:\n  acme:\n    default_model: m-1\n    timeout: 0\n",
            "4: providers.acme.timeout: must be a number",
        ),
        ("providers:\n  acme:\n    default_model: m-3\n", "3: providers.acme.default_model: there is no model “m-3”."),
        ("providers:\n  opnai:\n    default_model: m-1\n", "2: providers.opnai: “opnai” is no kind of provider: say"),
        ("providers:\n  x:\n    default_model: m-1\n    kind: y\n", "4: providers.x.kind: “y” is no kind of provider"),
        ("providers:\n  acme:\n    default_model: m-1\n    models: [5]\n", "4: providers.acme.models[0]: must be text"),
        (
            "providers:\n  acme:\n    default_model: m-1\n    api_key: S3cret\n",
            f"4: providers.acme.api_key: {NOT_LITERAL}",
        ),
        (
            "providers:\n  acme:\n    default_model: m-1\n    token: S3cret\n",
            "4: providers.acme.token: is no field here.",
        ),
    ],
)
def test_a_mistake_in_config_yaml_has_its_line_and_key(text: str, said: str) -> None:
    [problem] = wrong(text)
    assert problem.startswith(f"file.yaml:{said}")
    assert "S3cret" not in problem


def test_what_config_yaml_leaves_out_stays_and_what_it_says_is_added() -> None:
    text = "providers:\n  acme:\n    default_model: m-2\n    models: [m-1]\n    timeout: 60\n    enabled: false\n"
    found = taken(text, around={"ACME_API_KEY": "x"})
    assert found.problems == []
    assert found.entries["providers"]["acme"] == ProviderEntry(
        kind="openai", label="Ours", timeout_s=60, is_active=False
    )
    assert found.entries["provider_keys"][inner_name("acme", LABEL)] == ProviderKeyEntry(api_key="${ACME_API_KEY}")
    assert found.entries["deployments"] == {
        "acme/m-2": DeploymentEntry(model="m-2"),
        "acme/m-1": DeploymentEntry(model="m-1", rpm_limit=60),
    }
    assert found.entries["aliases"] == {
        "m-2": AliasEntry(targets=("acme/m-2",)),
        "m-1": AliasEntry(targets=("acme/m-1",)),
        "acme": AliasEntry(targets=("acme/m-2",)),
    }
    assert found.managed == set()  # nothing is pruned for such a file


def test_a_model_that_two_providers_serve_is_one_alias() -> None:
    text = "providers:\n  acme: {default_model: m-1}\n  other: {default_model: m-1, kind: openai, api_key: 'env:A'}\n"
    found = taken(text)
    assert found.entries["aliases"]["m-1"] == AliasEntry(targets=("acme/m-1", "other/m-1"))


def test_ports_are_told_and_are_no_rows() -> None:
    found = taken("server: {http_port: 8080, grpc_port: 50051}\n", "config.yaml")
    assert found.problems == []
    assert [one.partition(" is no row")[0] for one in found.warnings] == ["server.http_port", "server.grpc_port"]
    assert "set PORT=8080 in the environment, or AI_ROUTER_CONFIG=config.yaml" in found.warnings[0]
    assert not any(found.entries.values())


# --- persona_policy.yaml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("preferred_models: fast", "preferred_models: must be a list."),
        (
            "preferred_models: [fast, fst]",
            "preferred_models[1]: there is no alias, deployment or deployed model “fst”. Did",
        ),
        ("fallback_models: [5]", "fallback_models[0]: must be text"),
        ("temperature: 3", "temperature: must be between 0 and 2."),
        ("max_tokens: 0", "max_tokens: must be a whole number of at least 1."),
        ("max_cost_per_request: -1", "max_cost_per_request: must be a number, 0 or more."),
        ("max_latency_ms: 99999999999", "max_latency_ms: must be a whole number of at most 2147483647."),
        ("prefered_models: [fast]", "prefered_models: is no field here. Did you mean preferred_models"),
    ],
)
def test_a_mistake_in_persona_policy_yaml_has_its_line_and_key(line: str, said: str) -> None:
    [problem] = wrong(f"personas:\n  bot:\n    {line}\n")
    assert problem.startswith(f"file.yaml:3: personas.bot.{said}")


def test_a_persona_keeps_what_its_file_does_not_say() -> None:
    found = taken("personas:\n  coder: {temperature: 0.1, fallback_models: [fast], max_cost_per_request: 0.5}\n")
    assert found.problems == []
    coder, own = found.entries["personas"]["coder"], found.entries["policies"]["own"]
    assert coder == PersonaEntry(name="Coder", policy="own", max_tokens=100, temperature=0.1)
    models = (CandidateEntry(alias="fast", weight=3, is_fallback=True),)
    assert own == PolicyEntry(models=models, strategy="weighted", max_cost_per_request=Decimal("0.5"))


def test_the_default_policy_is_not_changed_for_one_persona() -> None:
    found = taken("personas:\n  bot: {preferred_models: [acme/m-1, m-1]}\n")
    assert found.entries["personas"]["bot"] == PersonaEntry(
        name="Bot", policy="bot", system_prompt="Be kind.", temperature=0.5
    )
    assert list(found.entries["policies"]) == ["bot"]
    assert found.entries["aliases"]["m-1"] == AliasEntry(targets=("acme/m-1",))
    assert found.entries["aliases"]["acme/m-1"] == AliasEntry(targets=("acme/m-1",))


def test_personas_written_out_are_read_as_they_were() -> None:
    found = taken(persona_policy_file(KNOWN.documents))
    assert found.problems == []
    assert found.entries["personas"]["coder"] == KNOWN.documents["personas"]["coder"]
    assert found.entries["policies"]["own"] == KNOWN.documents["policies"]["own"]


# --- capabilities.yaml ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("context_window: 0", "context_window: must be a whole number of at least 1."),
        ("context_window: 128k", "context_window: must be a whole number of at least 1."),
        ("cost_tier: 5", "cost_tier: must be text"),
        ("contxt_window: 5", "contxt_window: is no field here. Did you mean context_window?"),
        ("strengths: [a]", "strengths: must be text"),
    ],
)
def test_a_mistake_in_capabilities_yaml_has_its_line_and_key(line: str, said: str) -> None:
    [problem] = wrong(f"models:\n  m-1:\n    {line}\n")
    assert problem.startswith(f"file.yaml:3: models.m-1.{said}")


@pytest.mark.parametrize("said", ["[vision, streaming]", "{vision: true, streaming: true, documents: false}"])
def test_capabilities_are_a_list_or_true_and_false(said: str) -> None:
    found = taken(f"models:\n  m-1: {{capabilities: {said}, cost_tier: low}}\n  m-9: {{provider: Acme}}\n")
    assert found.problems == []
    model = found.entries["models"]["m-1"]
    assert isinstance(model, ModelEntry)
    assert (set(model.capabilities), model.cost_tier, model.label) == ({"vision", "streaming"}, "economy", "M 1")
    assert found.entries["models"]["m-9"] == ModelEntry(label="m-9", vendor="Acme")


def test_models_written_out_are_read_as_they_were() -> None:
    found = taken(capabilities_file(KNOWN.documents))
    assert found.problems == []
    assert found.entries["models"] == KNOWN.documents["models"]


# --- several files ----------------------------------------------------------------------------------------------------


def test_files_of_different_shapes_are_read_together_and_meet_each_other() -> None:
    texts = {
        "config.yaml": "providers:\n  acme: {default_model: m-2}\n",
        "ours.yaml": "format: 1\nproviders:\n  acme: {kind: openai, label: A}\nteams:\n  a: {name: A}\n",
        ".env": "PORT=1\n",
        "broken.yaml": "a: [\n",
    }
    found = parsed_files(texts, KNOWN, NOTHING)
    assert str(found.problems[0]) == ("ours.yaml:3: providers.acme: stands in config.yaml:2 too. Keep one of the two.")
    assert "broken.yaml:" in str(found.problems[1])
    assert list(found.entries["teams"]) == ["a"]
    assert any(one.startswith(".env is read by the platform") for one in found.warnings)
