"""What is written and what is said, without a database: files out of documents, and reports out of an outcome."""

import json
from collections.abc import Mapping
from decimal import Decimal

import pytest
import yaml

from routerplatform.configuration.applying import Outcome
from routerplatform.configuration.documents import (
    SECTIONS,
    AliasEntry,
    BudgetEntry,
    CandidateEntry,
    Entry,
    LadderEntry,
    MemberEntry,
    ModelEntry,
    PersonaEntry,
    PolicyEntry,
    PriceEntry,
    ProviderEntry,
    ProviderKeyEntry,
    TeamEntry,
    TierEntry,
    inner_name,
    said,
)
from routerplatform.configuration.exporting import Stored, exported, to_yaml
from routerplatform.configuration.planning import Change, FieldChange, Plan, in_words
from routerplatform.configuration.reading import Value, read
from routerplatform.configuration.secret_values import (
    looked_up,
    missing_problems,
    other_end_warnings,
    without,
)
from routerplatform.configuration.shapes import Parsed, parse_into
from routerplatform.management.commands.config_import import as_json, lines

MOMENT = "2030-01-01T00:00:00Z"


def documents(**sections: Mapping[str, Entry]) -> Mapping[str, Mapping[str, Entry]]:
    return {section.name: sections.get(section.name, {}) for section in SECTIONS}


# --- files out of documents -------------------------------------------------------------------------------------------

THERE = documents(
    models={"b": ModelEntry(label="B", vendor="V"), "a": ModelEntry(label="A", vendor="V")},
    providers={"acme": ProviderEntry(kind="openai", label="Acme")},
    provider_keys={inner_name("acme", "z > y"): ProviderKeyEntry(api_key="${A}")},
    model_prices={inner_name("a", MOMENT): PriceEntry(input_usd=Decimal("0.10"), tiers=(TierEntry(above=5),))},
    policies={"p": PolicyEntry(models=(CandidateEntry(alias="x", task_type="".join(["A", "NY"])),))},
    teams={"support": TeamEntry(name="Support", rpm_limit=5)},
    members={inner_name("support", "bob"): MemberEntry(), inner_name("support", "alice"): MemberEntry(role="lead")},
)


def test_sections_and_names_are_in_order_and_what_is_empty_is_left_out() -> None:
    file = exported(Stored(THERE, frozenset()))
    assert list(file) == ["format", "models", "providers", "model_prices", "policies", "teams"]
    assert list(file["models"]) == ["a", "b"]
    assert file["providers"]["acme"]["keys"] == {"z > y": {"api_key": "${A}"}}
    assert file["model_prices"] == {"a": {MOMENT: {"input_usd": Decimal("0.10"), "tiers": [{"above": 5}]}}}
    assert file["teams"] == {"support": {"rpm_limit": 5, "name": "Support"}}


def test_models_that_the_catalogue_looks_after_are_no_part_of_a_file() -> None:
    assert list(exported(Stored(THERE, frozenset({"a"})))["models"]) == ["b"]
    assert "models" not in exported(Stored(THERE, frozenset({"a", "b"})))


def test_people_and_single_sections_are_written_on_request() -> None:
    file = exported(Stored(THERE, frozenset()), only=["teams"], members=True)
    assert file == {
        "format": 1,
        "teams": {"support": {"rpm_limit": 5, "name": "Support", "members": {"alice": "lead", "bob": "member"}}},
    }
    assert exported(Stored(THERE, frozenset()), only=["rules"]) == {"format": 1}


def test_an_entry_says_no_default_however_that_came_to_be() -> None:
    """A text out of a database is equal to the default, and is not the default itself."""
    equal = "".join(["A", "NY"])
    assert said(CandidateEntry(alias="x", task_type=equal, weight=1)) == {"alias": "x"}
    assert said(PolicyEntry(strategy="".join(["prio", "rity"]), ladder=LadderEntry())) == {}
    assert said(PolicyEntry(is_default=True, is_sticky=True)) == {"default": True, "sticky": True}
    assert said(TeamEntry(name="x")) == {"name": "x"}


def test_a_written_file_is_read_as_what_it_was() -> None:
    text = to_yaml(exported(Stored(THERE, frozenset()), members=True))
    found = Parsed()
    parse_into(found, read(text, "x.yaml"))
    assert found.problems == []
    assert found.entries == THERE
    assert yaml.safe_load(text)["model_prices"]["a"][MOMENT]["input_usd"] == 0.1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (LadderEntry(), "none"),
        (LadderEntry(cap_at=50, refuse_at=90), "cap_at 50, refuse_at 90"),
        ((CandidateEntry(alias="a", is_fallback=True),), "a (fallback yes)"),
        ((TierEntry(above=200_000, input_usd=Decimal("0.30")),), "200000 (input_usd 0.3)"),
        (False, "no"),
        (0.5, "0.5"),
        ({}, "none"),
        ("tab\there", "tab�here"),
    ],
)
def test_what_lies_inside_an_entry_is_told_in_words(value: object, words: str) -> None:
    assert in_words(value) == words


# --- reports out of an outcome ----------------------------------------------------------------------------------------

CHANGES = [
    Change("add", "aliases", "fast", AliasEntry()),
    Change("change", "personas", "bot", PersonaEntry(name="B", policy="p"), (FieldChange("is_active", True, False),)),
    Change("change", "budgets", "team/a/1d", BudgetEntry(max_budget=Decimal(5)),
           (FieldChange("max_budget", Decimal("5.00"), Decimal("7.50")),)),
    Change("remove", "teams", "old"),
]  # fmt: skip


def test_a_report_has_a_line_for_each_change_then_what_else_there_is_then_how_much() -> None:
    outcome = Outcome(Plan(list(CHANGES), {"rules": 2, "aliases": 1}), notes=["a note."], warnings=["a warning."])
    assert list(lines(outcome)) == [
        "+ alias fast",
        "~ persona bot: active yes -> no",
        "~ budget team/a/1d: max_budget 5 -> 7.5",
        "- team old",
        "! a warning.",
        "! a note.",
        "  Only in the database: 1 in aliases, 2 in rules. They stay; --prune removes them.",
        "4 changes: 1 to add, 2 to change, 1 to remove. Nothing was changed; --apply does it.",
    ]


def test_what_was_done_is_told_with_the_revision_that_gateways_follow() -> None:
    outcome = Outcome(Plan(CHANGES[:1]), is_applied=True, revision=7)
    assert list(lines(outcome))[-1] == "1 change: 1 added. Gateways follow within 2 seconds (revision 7)."


@pytest.mark.parametrize(("left_out", "end"), [(0, "Nothing differs."), (2, "Nothing else differs.")])
def test_nothing_is_told_as_nothing_unless_something_could_not_be_made(left_out: int, end: str) -> None:
    assert list(lines(Outcome(Plan(), left_out=left_out))) == [end]


def test_a_report_for_programs_has_all_of_it_and_is_json() -> None:
    outcome = Outcome(Plan(list(CHANGES), {"rules": 2}), notes=["a note."], left_out=1)
    told = json.loads(json.dumps(as_json(outcome)))
    assert [one["action"] for one in told["changes"]] == ["add", "change", "change", "remove"]
    assert told["changes"][1]["fields"] == [{"field": "active", "before": True, "after": False}]
    assert told["changes"][2]["fields"] == [{"field": "max_budget", "before": "5", "after": "7.5"}]
    assert (told["counts"], told["only_in_database"]) == ({"add": 1, "change": 2, "remove": 1}, {"rules": 2})
    assert (told["applied"], told["left_out"], told["notes"], told["problems"]) == (False, 1, ["a note."], [])


# --- secrets that are not there ---------------------------------------------------------------------------------------

KEY = inner_name("acme", "prod")


def wanted(reference: str, ends_with: str = "") -> Parsed:
    found = Parsed()
    place = Value({"api_key": Value(reference, "x.yaml", 8, "providers.acme.keys.prod.api_key"),
                   "ends_with": Value(ends_with, "x.yaml", 9, "providers.acme.keys.prod.ends_with")},
                  "x.yaml", 7, "providers.acme.keys.prod")  # fmt: skip
    found.add("provider_keys", KEY, ProviderKeyEntry(api_key=reference, ends_with=ends_with), place)
    return found


def test_only_a_new_entry_needs_its_secret() -> None:
    asked = wanted("${ACME_KEY}")
    looked = looked_up(asked, {})
    [problem] = missing_problems(looked, asked, documents())
    assert str(problem).startswith(
        "x.yaml:8: providers.acme.keys.prod.api_key: the environment variable ACME_KEY is not"
    )
    there = documents(provider_keys={KEY: ProviderKeyEntry(api_key="${ACME_KEY}", ends_with="1111")})
    assert list(missing_problems(looked, asked, there)) == []
    assert list(missing_problems(looked_up(asked, {"ACME_KEY": "x"}), asked, documents())) == []


def test_what_is_left_out_is_taken_out_of_what_is_asked_and_told() -> None:
    asked = wanted("${ACME_KEY}")
    [note] = without(asked, looked_up(asked, {}), documents())
    assert note == "providers.acme.keys.prod was left out: the environment variable ACME_KEY is not set here."
    assert asked.entries["provider_keys"] == {}


def test_another_end_than_the_stored_one_is_told_where_the_secret_cannot_be_looked_up() -> None:
    asked = wanted("${ACME_KEY}", ends_with="2222")
    there = documents(provider_keys={KEY: ProviderKeyEntry(api_key="${ACME_KEY}", ends_with="1111")})
    [warning] = other_end_warnings(looked_up(asked, {}), asked, there)
    assert warning == (
        "x.yaml:9: providers.acme.keys.prod.ends_with: another one is stored (1111), and it stays: its reference is "
        "not set here."
    )
    assert list(other_end_warnings(looked_up(asked, {"ACME_KEY": "k"}), asked, there)) == []
    same = wanted("${ACME_KEY}", ends_with="1111")
    assert list(other_end_warnings(looked_up(same, {}), same, there)) == []
