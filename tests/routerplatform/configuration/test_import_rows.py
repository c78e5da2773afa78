"""Rows of each kind, written and refused as their own pages would: what `test_import.py` does not go through."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from analytics.models import Budget
from providers.models import Deployment, Provider, ProviderKey
from routing.models import AliasTarget, ModelAlias, Persona, PromptTemplate, RoutingPolicy, RoutingRule, VirtualKey
from tests.factories import (
    BudgetFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    RoutingPolicyFactory,
    TeamFactory,
    UserFactory,
    VirtualKeyFactory,
    key_budget,
    served_alias,
)
from tests.routerplatform.configuration.installation import Ran, file_of, run

pytestmark = pytest.mark.django_db

Import = Callable[..., Ran]


@pytest.fixture
def imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Import:
    def do(text: str, *options: str) -> Ran:
        return run(capsys, "config_import", file_of(tmp_path, f"format: 1\n{text}"), *(options or ("--apply",)))

    return do


def complaint(ran: Ran) -> str:
    """The only one, without the folder."""
    [line, end] = ran.lines
    assert (ran.code, end) == (1, "Nothing was changed.")
    return line.rpartition("router.yaml:")[2]


def test_targets_are_put_in_order_without_touching_what_stays(imported: Import) -> None:
    one, two, three = (DeploymentFactory.create(provider__name=f"p{n}", model__name=f"m{n}") for n in (1, 2, 3))
    alias = ModelAliasFactory.create(name="fast", deployments=[one, two])
    kept = AliasTarget.objects.get(deployment=two).pk
    told = imported("aliases:\n  fast: {targets: [p2/m2, p3/m3]}\n")
    assert told.lines[0] == "~ alias fast: targets p1/m1, p2/m2 -> p2/m2, p3/m3"
    assert [one.deployment for one in alias.targets.all()] == [two, three]
    assert AliasTarget.objects.get(deployment=two).pk == kept
    twice = imported("aliases:\n  fast: {targets: [p2/m2, p2/m2]}\n")
    assert complaint(twice) == "3: aliases.fast.targets: A deployment stands here twice. Keep it once."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aliases:\n  auto: {}\n", "3: aliases.auto: “auto” always means: let the policy decide."),
        ("aliases:\n  'a b': {}\n", "3: aliases.a b: Letters, digits and . _ : / - only"),
        ("teams:\n  'A Team': {name: A}\n", "3: teams.A Team: Enter a valid"),
        ("policies:\n  p: {ladder: {cap_at: 90, refuse_at: 50}}\n", "3: policies.p.ladder.cap_at: Each step"),
        ("policies:\n  p: {regions: [EU]}\n", "3: policies.p.regions: Name regions in lower case"),
        ("policies:\n  p: {max_cost_per_request: 0.0000001}\n", "max_cost_per_request: Ensure that there are no more"),
        (
            "policies:\n  p: {models: [{alias: fast}, {alias: fast}]}\n",
            "models: “fast” stands here twice. Keep it once.",
        ),
        ("policies:\n  p: {active: false, default: true}\n", "3: policies.p"),
        ("rules:\n  r: {pattern: '(', match: regex, task_type: CODING}\n", "3: rules.r.pattern: "),
        (
            "rules:\n  r: {pattern: x, subject: header, header: cookie, task_type: CODING}\n",
            "3: rules.r.header: Name a",
        ),
        ("personas:\n  p: {name: P, policy: 'off'}\n", "3: personas.p.policy: This policy is switched off."),
        ("personas:\n  p: {name: P, policy: p1, template_version: 2}\n", "template_version: Choose a template first."),
        (
            "budgets:\n  alias/fast/1d: {max_budget: 5, soft_budget: 6}\n",
            "soft_budget: Warn at no more than the budget",
        ),
        ("budgets:\n  alias/fast/1d: {max_budget: 5, time_zone: Mars}\n", "time_zone: “Mars” is no time zone."),
        ("deployments:\n  acme/m: {model: m, wire: telegraph}\n", "wire: “telegraph” is none of its choices."),
    ],
)
def test_a_row_is_refused_as_its_page_refuses_it(imported: Import, text: str, said: str) -> None:
    DeploymentFactory.create(provider__name="acme", model__name="m")
    served_alias(name="fast")
    RoutingPolicyFactory.create(name="off", is_active=False)
    RoutingPolicyFactory.create(name="p1")
    assert said in complaint(imported(text))
    assert not RoutingRule.objects.exists()
    assert not Budget.objects.exists()


def test_a_rule_sends_to_an_alias_of_the_same_file(imported: Import) -> None:
    deployment = DeploymentFactory.create(provider__name="acme", model__name="m")
    text = "rules:\n  vip: {subject: tag, match: equals, pattern: vip, outcome: alias, alias: best, position: 2}\n"
    told = imported(f"aliases:\n  best: {{targets: [{deployment}]}}\n{text}")
    assert told.code == 0, told.out
    assert RoutingRule.objects.get().alias == ModelAlias.objects.get(name="best")


def test_a_persona_takes_a_template_of_the_same_file(imported: Import) -> None:
    RoutingPolicyFactory.create(name="chat")
    text = "templates:\n  tone: {system: Be kind.}\npersonas:\n  bot: {name: Bot, policy: chat, template: tone}\n"
    told = imported(text)
    assert told.code == 0, told.out
    assert Persona.objects.get().template == PromptTemplate.objects.get()
    assert imported(text, "--plan", "--prune").lines == ["Nothing differs."]
    stays = imported("templates: {}\n", "--apply", "--prune")
    assert stays.lines[0] == "! template tone stays: it is needed by 1 other (persona)."


def test_budgets_of_every_scope_are_found_by_name(imported: Import, capsys: pytest.CaptureFixture[str]) -> None:
    team, alias = TeamFactory.create(slug="support"), served_alias(name="vendor/fast")
    key = VirtualKeyFactory.create(team=team, name="bot")
    PersonaFactory.create(slug="chatbot", name="Chatbot")
    names = ["team/support/7d", "key/support/bot/1d", "persona/chatbot/total", "alias/vendor/fast/30d"]
    told = imported("budgets:\n" + "".join(f"  {name}: {{max_budget: 5}}\n" for name in names))
    assert told.code == 0, told.out
    assert {one.subject for one in Budget.objects.all()} == {team, alias, key, Persona.objects.get()}
    assert all(f"  {name}:" in run(capsys, "config_export", "--only", "budgets").out for name in names)


def test_the_budget_in_force_is_the_one_that_a_file_means(imported: Import) -> None:
    team = TeamFactory.create(slug="support")
    former, current = BudgetFactory.create(team=team, is_active=False), BudgetFactory.create(team=team)
    assert imported("budgets:\n  team/support/1mo: {max_budget: 70}\n").code == 0
    assert [Budget.objects.get(pk=one.pk).max_budget for one in (former, current)] == [100, 70]


def test_what_belongs_to_a_revoked_key_is_no_part_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    key = VirtualKeyFactory.create(team__slug="support", name="bot")
    key_budget(key)
    VirtualKey.objects.update(revoked_at=key.created_at)
    assert "bot" not in run(capsys, "config_export").out


def test_services_below_name_who_imported_too(imported: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-test-of-acme-1111")
    UserFactory.create(username="ops")
    text = "providers:\n  acme:\n    kind: openai\n    label: A\n    keys:\n      prod: {api_key: 'env:ACME_KEY'}\n"
    assert imported(text, "--apply", "--by", "ops").code == 0
    assert ProviderKey.history.get().history_user.username == "ops"
    assert Provider.history.get().history_user.username == "ops"


def test_a_refused_row_is_told_once_and_not_by_all_that_need_it(imported: Import) -> None:
    text = """\
models:
  m: {label: M, vendor: V, capabilities: [flying]}
providers:
  acme: {kind: openai, label: A}
deployments:
  acme/m: {model: m}
aliases:
  fast: {targets: [acme/m]}
policies:
  chat: {models: [{alias: fast}]}
personas:
  bot: {name: Bot, policy: chat}
"""
    assert complaint(imported(text)).startswith("3: models.m.capabilities: Unknown capability: flying.")
    assert not Deployment.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_end_as_one_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The second waits, and compares itself with what the first has written."""
    RoutingPolicyFactory.create(name="chat")
    files = [
        file_of(tmp_path, f"format: 1\npersonas:\n  bot: {{name: Bot {number}, policy: chat}}\n", f"{number}.yaml")
        for number in range(4)
    ]
    ends: list[int] = []

    def bring_in(file: str) -> None:
        try:
            ends.append(run(capsys, "config_import", file, "--apply").code)
        finally:
            connection.close()

    threads = [threading.Thread(target=bring_in, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert ends == [0, 0, 0, 0]
    persona = Persona.objects.get()
    assert persona.name in {f"Bot {number}" for number in range(4)}
    assert Persona.history.filter(slug="bot", history_type="+").count() == 1
    assert RoutingPolicy.objects.get().version == 0
