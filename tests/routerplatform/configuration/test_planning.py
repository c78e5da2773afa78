"""The comparison by itself: what is added, changed and removed, and how that is told."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from routerplatform.configuration.documents import (
    SECTIONS,
    AliasEntry,
    BudgetEntry,
    CandidateEntry,
    DeploymentEntry,
    Entry,
    KeyEntry,
    MessageEntry,
    ModelEntry,
    PersonaEntry,
    PolicyEntry,
    ProviderEntry,
    ProviderKeyEntry,
    TeamEntry,
    TemplateEntry,
    inner_name,
)
from routerplatform.configuration.planning import (
    Change,
    FieldChange,
    Plan,
    budget_parts,
    decimal_text,
    in_words,
    made_plan,
    reference_problems,
    settled,
    title,
)
from routerplatform.configuration.reading import Value, read
from routerplatform.configuration.shapes import Parsed, parse_into

CHATBOT = PersonaEntry(name="Chatbot", policy="default", temperature=0.7)


def there(**sections: dict[str, Entry]) -> dict[str, dict[str, Entry]]:
    return {section.name: sections.get(section.name, {}) for section in SECTIONS}


def asked(**sections: dict[str, Entry]) -> Parsed:
    found = Parsed()
    for section, entries in sections.items():
        found.managed.add(section)
        for name, entry in entries.items():
            found.add(section, name, entry, Value({}, "x.yaml", 1, f"{section}.{name}"))
    return found


def plan(current: Any, wanted: Parsed, *, prune: bool = False, replaced: Any = None) -> Plan:
    return made_plan(current, wanted, prune=prune, replaced=replaced or {})


def test_equal_things_are_no_change() -> None:
    assert plan(there(personas={"chatbot": CHATBOT}), asked(personas={"chatbot": CHATBOT})).changes == []


def test_a_plan_reads_like_a_diff() -> None:
    current = there(
        personas={"chatbot": CHATBOT, "gone": CHATBOT}, aliases={"fast": AliasEntry(targets=("a/b", "a/c"))}
    )
    wanted = asked(
        personas={"chatbot": PersonaEntry(name="Chatbot", policy="default", temperature=0.5), "new": CHATBOT},
        aliases={"fast": AliasEntry(targets=("a/c", "a/b"), is_active=False)},
    )
    found = plan(current, wanted, prune=True)
    assert [str(change) for change in found.changes] == [
        "~ alias fast: targets a/b, a/c -> a/c, a/b, active yes -> no",
        "~ persona chatbot: temperature 0.7 -> 0.5",
        "+ persona new",
        "- persona gone",
    ]
    assert found.counts() == {"add": 1, "change": 2, "remove": 1}


def test_without_prune_what_only_the_database_has_is_counted_and_stays() -> None:
    found = plan(there(personas={"a": CHATBOT, "b": CHATBOT}, rules={}), asked(personas={}))
    assert (found.changes, found.unmanaged) == ([], {"personas": 2})


def test_a_section_that_no_file_has_is_left_alone_by_prune() -> None:
    found = plan(there(personas={"a": CHATBOT}), asked(aliases={}), prune=True)
    assert found.changes == []


def test_what_is_referred_to_is_written_first_and_removed_last() -> None:
    sections: dict[str, dict[str, Entry]] = {
        "personas": {"p": CHATBOT},
        "policies": {"default": PolicyEntry()},
        "aliases": {"a": AliasEntry()},
        "providers": {"acme": ProviderEntry(kind="openai", label="A")},
    }
    order = ["providers", "aliases", "policies", "personas"]
    assert [one.section for one in plan(there(), asked(**sections)).changes] == order
    removed = plan(there(**sections), asked(**{key: {} for key in sections}), prune=True)
    assert [one.section for one in removed.changes] == order[::-1]


def test_a_model_that_replaces_another_is_written_before_it() -> None:
    models: dict[str, Entry] = {
        "a-old": ModelEntry(label="A", vendor="V", status="retired", replaced_by="b-new"),
        "b-new": ModelEntry(label="B", vendor="V"),
    }
    assert [one.name for one in plan(there(), asked(models=models)).changes] == ["b-new", "a-old"]


def test_a_secret_is_compared_by_whether_it_was_replaced_and_never_shown() -> None:
    name = inner_name("acme", "prod")
    current = there(provider_keys={name: ProviderKeyEntry(api_key="${A}", ends_with="1234")})
    wanted = asked(provider_keys={name: ProviderKeyEntry(api_key="file:/b", ends_with="")})
    assert plan(current, wanted).changes == []
    [change] = plan(current, wanted, replaced={("provider_keys", name): {"api_key"}}).changes
    assert str(change) == "~ key of provider acme: prod: api_key the stored one -> another one"
    assert change.as_json() == {
        "action": "change",
        "section": "provider_keys",
        "name": "prod",
        "of": "acme",
        "fields": [{"field": "api_key", "before": "the stored one", "after": "another one"}],
    }


def test_what_has_no_order_is_compared_without_one() -> None:
    assert settled(KeyEntry(scopes=("models", "chat", "chat"))) == settled(KeyEntry(scopes=("chat", "models")))
    policy = PolicyEntry(models=(CandidateEntry(alias="b", is_fallback=True), CandidateEntry(alias="a")))
    assert [one.alias for one in getattr(settled(policy), "models")] == ["a", "b"]  # noqa: B009


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        ("", "none"),
        ((), "none"),
        (True, "yes"),
        (0, "0"),
        (Decimal("0.150000"), "0.15"),
        (Decimal("100.00"), "100"),
        (Decimal(0), "0"),
        ({"percents": (50, 90)}, "percents=50, 90"),
        ((CandidateEntry(alias="a", weight=3), CandidateEntry(alias="b")), "a (weight 3), b"),
        (datetime(2030, 5, 1, tzinfo=UTC), "2030-05-01T00:00:00Z"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_a_value_in_words(value: object, words: str) -> None:
    assert in_words(value) == words


def test_a_long_text_is_told_by_its_lines() -> None:
    assert str(FieldChange("system_prompt", "a\nb\n", "a\nb\nc\n")) == "system_prompt: 2 lines -> 3 lines (+1)"
    assert str(FieldChange("system_prompt", "", "a\nb\nc")) == "system_prompt: none -> 3 lines (+3)"
    assert str(FieldChange("system_prompt", "a\nb\nc", "a")) == "system_prompt: 3 lines -> 1 line (-3 +1)"
    assert str(FieldChange("system_prompt", "a\nb\n", "a\nc\n")) == "system_prompt: 2 lines -> 2 lines (-1 +1)"
    assert (
        str(FieldChange("system_prompt", "a\nb\n", "b\na\n")) == "system_prompt: 2 lines -> 2 lines (in another order)"
    )


def test_long_texts_that_differ_late_are_told_from_there() -> None:
    before, after = "x" * 70 + " is one", "x" * 70 + " is another"
    assert str(FieldChange("description", before, after)) == (
        "description …xxxxxxxxxxx is one -> …xxxxxxxxxxx is another"
    )
    longer = str(FieldChange("description", "x" * 70, "x" * 90))
    assert longer == f"description …{'x' * 15} -> …{'x' * 35}"


def test_signs_that_a_terminal_would_act_upon_are_not_sent_to_it() -> None:
    assert in_words("red \x1b[31m\u202e text") == "red �[31m� text"
    assert "\x1b" not in str(FieldChange("description", "x" * 70 + "\x1b", "x" * 70))


def test_a_decimal_has_no_exponent_and_no_zeros_at_its_end() -> None:
    assert [decimal_text(Decimal(one)) for one in ("1E+3", "0.10", "1E-9", "0.0")] == [
        "1000",
        "0.1",
        "0.000000001",
        "0",
    ]


def test_lines_end_alike_whether_a_browser_or_a_file_brought_them() -> None:
    browser = PersonaEntry(name="P", policy="p", system_prompt="Be short.\r\nBe kind.\rNow.\n")
    assert settled(browser) == settled(PersonaEntry(name="P", policy="p", system_prompt="Be short.\nBe kind.\nNow.\n"))
    said = TemplateEntry(system="a\r\nb", messages=(MessageEntry(role="user", content="c\r\nd"),))
    assert settled(said) == TemplateEntry(system="a\nb", messages=(MessageEntry(role="user", content="c\nd"),))


@pytest.mark.parametrize(
    ("section", "name", "said"),
    [
        ("personas", "chatbot", "persona chatbot"),
        ("alert_channels", "a > b: c", "alert channel a > b: c"),
        ("provider_keys", inner_name("acme", "EU > old"), "key of provider acme: EU > old"),
        ("deployment_prices", inner_name("acme/m", "2030-01-01"), "price of deployment acme/m from 2030-01-01"),
        ("members", inner_name("support", "alice"), "member of team support: alice"),
    ],
)
def test_an_entry_has_a_title_whatever_signs_are_in_its_name(section: str, name: str, said: str) -> None:
    change = Change("add", section, name)
    assert title(section, name) == said
    assert str(change) == f"+ {said}"
    assert "\0" not in str(change.as_json())
    assert change.as_json()["name"] == (name.partition("\0")[2] or name)


# --- references -------------------------------------------------------------------------------------------------------


def wrong(text: str, **current: dict[str, Entry]) -> list[str]:
    found = Parsed()
    parse_into(found, read(text, "x.yaml"))
    assert found.problems == []
    return [str(one) for one in reference_problems(there(**current), found)]


def test_a_name_that_names_nothing_is_told_with_near_ones() -> None:
    assert wrong(
        "aliases:\n  smart:\n    targets:\n      - acme/gpt\n      - acme/gtp\n",
        deployments={"acme/gpt": DeploymentEntry(model="m")},
    ) == ["x.yaml:5: aliases.smart.targets[1]: there is no deployment “acme/gtp”. Did you mean acme/gpt?"]
    text = "policies:\n  p:\n    models:\n      - alias: smrat\n"
    assert wrong(text, aliases={"smart": AliasEntry()}) == [
        "x.yaml:4: policies.p.models[0].alias: there is no alias “smrat”. Did you mean smart?"
    ]


def test_names_of_the_files_themselves_count() -> None:
    assert wrong("policies:\n  p: {}\npersonas:\n  a: {name: A, policy: p}\n") == []


def test_a_deployment_is_called_by_its_provider() -> None:
    model: dict[str, Entry] = {"m": ModelEntry(label="M", vendor="V")}
    assert "must be called provider/model" in wrong("deployments:\n  gpt: {model: m}\n", models=model)[0]
    assert "there is no provider “acme”" in wrong("deployments:\n  acme/gpt: {model: m}\n", models=model)[0]
    assert "there is no model “m”" in wrong("model_prices:\n  m:\n    2026-01-01T00:00:00Z: {}\n")[0]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("team/support/1mo", ("team", "support", "1mo")),
        ("alias/vendor/model/1d", ("alias", "vendor/model", "1d")),
        ("key/support/bot / prod/total", ("key", "support/bot / prod", "total")),
        ("team/support", None),
        ("squad/support/1mo", None),
        ("team/support/2mo", None),
    ],
)
def test_a_budget_is_called_by_what_it_is_for(name: str, parts: tuple[str, str, str] | None) -> None:
    assert budget_parts(name) == parts


def test_what_replaces_a_model_does_not_lead_back_to_it() -> None:
    retired = "{label: M, vendor: V, status: retired, replaced_by: %s}"
    assert wrong(f"models:\n  a: {retired % 'a'}\n") == [
        "x.yaml:2: models.a.replaced_by: leads back here: a -> a. Name a model that is current."
    ]
    there_is: dict[str, Entry] = {"b": ModelEntry(label="B", vendor="V", status="retired", replaced_by="c")}
    there_is["c"] = ModelEntry(label="C", vendor="V", status="retired", replaced_by="a")
    [problem] = wrong(f"models:\n  a: {retired % 'b'}\n", models=there_is)
    assert "a -> b -> c -> a" in problem
    there_is["c"] = ModelEntry(label="C", vendor="V")
    assert wrong(f"models:\n  a: {retired % 'b'}\n", models=there_is) == []


def test_a_key_is_called_by_its_team() -> None:
    team: dict[str, Entry] = {"support": TeamEntry(name="Support")}
    assert wrong("keys:\n  support/bot: {}\n", teams=team) == []
    for name in ("bot", "support/", "support"):
        assert "must be called team/name, for example support/bot." in wrong(f"keys:\n  {name}: {{}}\n", teams=team)[0]
    assert wrong("keys:\n  suport/bot: {}\n", teams=team) == [
        "x.yaml:2: keys.suport/bot: there is no team “suport”. Did you mean support?"
    ]


def test_where_the_catalogue_was_never_loaded_that_is_what_helps() -> None:
    text = "providers:\n  acme: {kind: openai, label: A}\ndeployments:\n  acme/m: {model: m}\n"
    assert wrong(text) == [
        "x.yaml:4: deployments.acme/m.model: there is no model “m”. Run manage.py catalogue_load first: it brings the "
        "vendors' models."
    ]


def test_a_budget_of_nobody_is_refused() -> None:
    assert "there is no team “support”" in wrong("budgets:\n  team/support/1mo: {max_budget: 5}\n")[0]
    assert "must be called scope/subject/duration" in wrong("budgets:\n  support: {max_budget: 5}\n")[0]
    assert BudgetEntry(max_budget=Decimal(5)).mode == "strict"


def test_there_is_one_default_policy_and_it_is_replaced_not_dropped() -> None:
    default: dict[str, Entry] = {"old": PolicyEntry(is_default=True)}
    assert "stays it until" in wrong("policies:\n  old: {}\n", policies=default)[0]
    assert wrong("policies:\n  old: {}\n  new: {default: true}\n", policies=default) == []
    assert wrong("policies:\n  new: {}\n", policies=default) == []
    [problem] = wrong("policies:\n  a: {default: true}\n  b: {default: true}\n")
    assert problem == "x.yaml:3: policies.b.default: “a” is to be the default too. Keep one."
