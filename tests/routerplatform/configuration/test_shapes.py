"""Entries out of a tree: unknown keys, wrong types, literal secrets, each with file, line and key."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerplatform.configuration.documents import (
    SECTIONS,
    CandidateEntry,
    DeploymentEntry,
    LadderEntry,
    PersonaEntry,
    PolicyEntry,
    PriceEntry,
    ProviderKeyEntry,
    inner_name,
)
from routerplatform.configuration.reading import read
from routerplatform.configuration.shapes import REFERENCE, Parsed, parse_into
from routing.domain.documents import CandidateDocument, LadderDocument, PolicyDocument

PERSONA = "personas:\n  chatbot:\n    name: Chatbot\n    policy: default\n"


def parsed(text: str) -> Parsed:
    found = Parsed()
    parse_into(found, read(text, "file.yaml"))
    return found


def told(text: str) -> list[str]:
    return [str(one) for one in parsed(text).problems]


def test_an_entry_has_the_defaults_of_what_it_leaves_out() -> None:
    found = parsed(PERSONA)
    assert found.problems == []
    assert found.entries["personas"]["chatbot"] == PersonaEntry(name="Chatbot", policy="default", max_tokens=4096)
    assert found.managed == {"personas"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("temperature: 3", "temperature: must be between 0 and 2."),
        ("temperature: warm", "temperature: must be between 0 and 2."),
        ("max_tokens: 0", "max_tokens: must be a whole number of at least 1."),
        ("max_tokens: 1.5", "max_tokens: must be a whole number of at least 1."),
        ("max_tokens: true", "max_tokens: must be a whole number of at least 1."),
        ("active: maybe", "active: must be true or false."),
        ("description: 5", "description: must be text (in quotes, if it looks like something else)."),
        ("required_capabilities: vision", "required_capabilities: must be a list."),
        ("required_capabilities: [vision, 5]", "required_capabilities[1]: must be text (in quotes, if it looks"),
        ("temprature: 1", "temprature: is no field here. Did you mean temperature or template?"),
        ("is_active: true", "is_active: is no field here. Did you mean active?"),
        ("template: off", "template: must be text (in quotes, if it looks like something else)."),
        ("policy_name: x", "policy_name: is no field here. Did you mean policy?"),
    ],
)
def test_a_wrong_field_is_told_with_file_line_and_key(line: str, said: str) -> None:
    [problem] = told(f"{PERSONA}    {line}\n")
    assert problem.startswith(f"file.yaml:5: personas.chatbot.{said}")


def test_a_missing_field_is_told_with_what_it_has_to_be() -> None:
    [problem] = told("personas:\n  chatbot: {name: A}\n")
    assert problem.startswith("file.yaml:2: personas.chatbot: policy is missing: text, not empty (in quotes, if")


def test_sections_and_names_have_to_be_mappings() -> None:
    assert told("- a\n") == ["file.yaml:1: must be a mapping of sections."]
    assert told("personas: [a]\n") == ["file.yaml:1: personas: must be a mapping of names."]
    assert told("personas:\n  a: 5\n") == [
        "file.yaml:2: personas.a: must be a mapping of fields; {} has all their defaults."
    ]
    assert told("personnas: {}\n") == ["file.yaml:1: personnas: is no section. Did you mean personas?"]
    assert told("personas:\n") == []  # an empty section is one


def test_a_choice_is_told_with_its_choices() -> None:
    [problem] = told("models:\n  m: {label: M, vendor: V, cost_tier: cheap}\n")
    assert problem.endswith("cost_tier: must be one of: economy, free, premium, standard.")


def test_what_lies_inside_is_an_entry_of_its_own() -> None:
    found = parsed(
        "providers:\n  acme:\n    kind: openai\n    label: A\n    keys:\n      prod: {api_key: '${ACME_KEY}'}\n"
        "deployments:\n  acme/m:\n    model: m\n    prices:\n      2026-01-01T01:00:00+01:00: {input_usd: 0.15}\n"
        "model_prices:\n  m:\n    2026-01-01T00:00:00Z: {output_usd: '2'}\n"
        "teams:\n  support:\n    name: Support\n    members: {alice: lead, bob: {role: member}}\n"
    )
    assert found.problems == []
    assert found.entries["provider_keys"] == {inner_name("acme", "prod"): ProviderKeyEntry(api_key="${ACME_KEY}")}
    assert found.entries["deployments"] == {"acme/m": DeploymentEntry(model="m")}
    moment = "2026-01-01T00:00:00Z"
    assert found.entries["deployment_prices"] == {inner_name("acme/m", moment): PriceEntry(input_usd=Decimal("0.15"))}
    assert found.entries["model_prices"] == {inner_name("m", moment): PriceEntry(output_usd=Decimal(2))}
    assert sorted(found.entries["members"]) == [inner_name("support", who) for who in ("alice", "bob")]
    assert found.place("provider_keys", inner_name("acme", "prod")).path == "providers.acme.keys.prod"


def test_a_price_begins_at_a_moment_with_a_zone_and_is_not_negative() -> None:
    assert told("model_prices:\n  m:\n    2026-01-01: {}\n") == [
        "file.yaml:3: model_prices.m.2026-01-01: must be a moment with its zone, for example 2026-01-31T00:00:00Z."
    ]
    for value in ("-1", "nan", "free"):
        [problem] = told(f"model_prices:\n  m:\n    2026-01-01T00:00:00Z:\n      input_usd: {value}\n")
        assert problem.endswith("input_usd: must be a number, 0 or more.")


def test_a_nested_list_is_told_at_its_item() -> None:
    text = "policies:\n  p:\n    models:\n      - {alias: a}\n      - alias: b\n        weight: -1\n        wieght: 2\n"
    assert told(text) == [
        "file.yaml:6: policies.p.models[1].weight: must be a whole number of at least 0.",
        "file.yaml:7: policies.p.models[1].wieght: is no field here. Did you mean weight?",
    ]


@pytest.mark.parametrize("secret", ["sk-live-1234567890", "$OPENAI_API_KEY", "${not valid}", "file:relative", "5"])
def test_a_literal_secret_is_refused_and_not_repeated(secret: str) -> None:
    text = f"providers:\n  acme:\n    kind: openai\n    label: A\n    keys:\n      prod:\n        api_key: {secret}\n"
    [problem] = told(text)
    assert problem.startswith("file.yaml:7: providers.acme.keys.prod.api_key: must say where the secret is")
    assert secret not in problem.replace("${NAME}", "")


@pytest.mark.parametrize("reference", ["${OPENAI_API_KEY}", "env:OPENAI_API_KEY", "file:/run/secrets/openai"])
def test_a_reference_is_no_secret(reference: str) -> None:
    assert REFERENCE.fullmatch(reference)


def test_the_same_entry_in_two_files_is_refused() -> None:
    found = Parsed()
    parse_into(found, read(PERSONA, "one.yaml"))
    parse_into(found, read(PERSONA, "two.yaml"))
    [problem] = found.problems
    assert str(problem) == "two.yaml:2: personas.chatbot: stands in one.yaml:2 too. Keep one of the two."


# --- policies ---------------------------------------------------------------------------------------------------------


def test_files_have_every_rule_that_a_policy_has() -> None:
    renamed = {"candidates": "models", "max_cost_nano": "max_cost_per_request", "required": "required_capabilities"}
    rules = {renamed.get(name, name) for name in PolicyDocument.__struct_fields__}
    assert set(PolicyEntry.__struct_fields__) - rules == {"description", "is_active", "is_default"}
    assert CandidateEntry.__struct_fields__ == CandidateDocument.__struct_fields__
    assert LadderEntry.__struct_fields__ == LadderDocument.__struct_fields__


def test_the_defaults_of_a_file_are_those_of_a_policy() -> None:
    assert PolicyEntry().rules() == PolicyDocument()
    assert msgspec.to_builtins(PolicyEntry()) == {}


@given(
    st.builds(
        PolicyDocument,
        candidates=st.lists(st.builds(CandidateDocument, alias=st.sampled_from(["a", "b"]))).map(tuple),
        max_cost_nano=st.none() | st.integers(0, 10**9).map(lambda micro: micro * 1000),
        quality_floor=st.none() | st.floats(0, 1),
        is_sticky=st.booleans(),
        ladder=st.builds(LadderDocument, cap_at=st.none() | st.integers(1, 100)),
        escalate_on=st.just(("refusal",)) | st.just(()),
    )
)
def test_rules_survive_the_way_into_a_file_and_back(rules: PolicyDocument) -> None:
    entry = PolicyEntry.of(rules, description="x", is_active=True, is_default=False)
    assert entry.rules() == rules


def test_every_section_says_what_refers_to_what() -> None:
    known = {section.name for section in SECTIONS}
    for section in SECTIONS:
        for field, of in section.refers:
            assert field in section.shape.__struct_fields__
            assert of in known
