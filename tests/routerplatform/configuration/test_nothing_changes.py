"""A file with one bad line changes nothing: every row of every table is what it was, and so is its history."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from routing.models import PolicyDraft
from tests.factories import BudgetFactory, TeamFactory, UserFactory
from tests.routerplatform.configuration.installation import (
    everything,
    file_of,
    run,
    set_secrets,
    small_installation,
)

pytestmark = pytest.mark.django_db

GOOD = """\
format: 1
models:
  new-1: {label: New 1, vendor: Acme, capabilities: [streaming]}
providers:
  beta: {kind: openai-compatible, label: Beta, base_url: https://beta.example.com/v1}
deployments:
  beta/new-1: {model: new-1}
aliases:
  new: {targets: [beta/new-1]}
  swift: {targets: [alpha/swift-2, alpha/vendor/swift-1], description: other, tpm_limit: 7}
templates:
  tone: {system: Be kind.}
teams:
  sales: {name: Sales}
  support: {name: Supporters}
budgets:
  team/support/1mo: {max_budget: 900, time_zone: Europe/Berlin}
  team/sales/1d: {max_budget: 9}
keys:
  support/bot / prod: {scopes: [chat], rpm_limit: 1}
alert_rules:
  budget_threshold: {parameters: {percents: [60]}}
policies:
  default: {default: true, models: [{alias: new}], description: other}
  second: {models: [{alias: new}]}
personas:
  chatbot: {name: Chatter, policy: second, template: tone}
rules:
  code: {pattern: stack trace, task_type: CODING}
"""


def with_line(section: str, *lines: str) -> str:
    """`GOOD` with more lines at the end of a section."""
    head, mark, rest = GOOD.partition(f"{section}:\n")
    entries, following, tail = rest.partition("\n" + next((one for one in rest.splitlines() if one[:1].strip()), "\0"))
    text = f"{entries}\n" + "".join(f"  {line}\n" for line in lines)
    return f"{head}{mark}{text}{following.removeprefix(chr(10))}{tail}"


BAD = {
    "no YAML": (GOOD + "personas: [\n", "is no YAML"),
    "a section twice": (GOOD + "teams: {}\n", "teams: stands here twice"),
    "an unknown section": (GOOD + "peronas: {}\n", "peronas: is no section. Did you mean personas?"),
    "a wrong type": (with_line("personas", "bad: {name: 5, policy: default}"), "personas.bad.name: must be text"),
    "a name of nothing": (with_line("aliases", "bad: {targets: [beta/new-2]}"), "Did you mean beta/new-1?"),
    "a table's rule": (with_line("models", "bad: {label: B, vendor: V, capabilities: [flying]}"), "Unknown capability"),
    "an address": (
        with_line("providers", "bad: {kind: openai, label: B, base_url: 'http://10.9.9.9'}"),
        "not a public",
    ),
    "an unknown kind": (with_line("providers", "bad: {kind: nothing, label: B}"), "is none of its choices"),
    "a name too long": (with_line("teams", f"{'x' * 90}: {{name: B}}"), "at most 80 characters"),
    "a name that is taken": (with_line("teams", "bad: {name: Sales}"), "Team with this Name already exists."),
    "a secret that is not there": (
        with_line("alert_channels", "bad: {kind: email, address: 'env:NOT_SET_HERE'}")
        if "alert_channels:" in GOOD
        else GOOD + "alert_channels:\n  bad: {kind: email, address: 'env:NOT_SET_HERE'}\n",
        "the environment variable NOT_SET_HERE is not set here",
    ),
    "a literal secret": (
        GOOD + "alert_channels:\n  bad: {kind: apprise, address: 'json://S3cret@host'}\n",
        "must say where the secret is",
    ),
    "an account that is not there": (
        GOOD.replace("  sales: {name: Sales}", "  sales: {name: Sales, members: {nobody: lead}}"),
        "There is no account “nobody” here.",
    ),
    "a budget's time zone": (GOOD.replace("Europe/Berlin", "UTC"), "stays Europe/Berlin"),
    "an amount": (GOOD.replace("max_budget: 900", "max_budget: 1.0e+30"), "no more than 12 digits"),
    "a cost": (
        with_line("policies", "bad: {max_cost_per_request: 1.0e+40}"),
        "policies.bad.max_cost_per_request: Ensure that there are no more than 10 digits",
    ),
    "a kind of work of a model": (
        with_line("policies", "bad: {models: [{alias: new, task_type: coding}]}"),
        "policies.bad.models[0].task_type: “coding” is none of its choices.",
    ),
    "the default switched off": (
        GOOD.replace("default: {default: true,", "default: {default: true, active: false,"),
        "policies.default",
    ),
    "a persona without a model": (
        GOOD.replace("models: [{alias: new}], description: other", "models: []"),
        "policies.default",
    ),
    "a moment that has passed": (GOOD.replace("rpm_limit: 1}", "expires_at: 2020-01-01T00:00:00Z}"), "has passed"),
    "a regular expression": (with_line("rules", "bad: {pattern: '[', match: regex, task_type: CODING}"), "rules.bad"),
    "an alert's parameter": (GOOD.replace("percents: [60]", "percent: 60"), "This rule has no parameter “percent”."),
    "a template's variable": (with_line("templates", "bad: {system: 'Say {{x}}.'}"), "templates.bad"),
    "a template that persons lack": (GOOD.replace("template: tone", "template: tune"), "Did you mean tone?"),
    "a tier's figure": (
        GOOD + "model_prices:\n  new-1:\n    2031-01-01T00:00:00Z:\n"
        "      tiers: [{above: 5, input_usd: 0.123456789012345}]\n",
        "model_prices.new-1.2031-01-01T00:00:00Z.tiers: Ensure that there are no more than",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_one_bad_line_changes_no_row_at_all(
    what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, said = BAD[what]
    small_installation()
    set_secrets(monkeypatch)
    before = everything()
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply", "--prune")
    assert said in told.out, told.out
    assert (told.code, told.lines[-1]) == (1, "Nothing was changed.")
    assert all(line.startswith(f"{tmp_path}/router.yaml:") for line in told.lines[:-1]), told.out
    assert everything() == before


def test_the_same_without_the_bad_line_goes_through_and_its_plan_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_installation()
    set_secrets(monkeypatch)
    file, before = file_of(tmp_path, GOOD), everything()
    planned = run(capsys, "config_import", file, "--plan", "--prune")
    assert planned.code == 2, planned.out
    assert everything() == before
    done = run(capsys, "config_import", file, "--apply", "--prune")
    assert done.code == 0, done.out
    assert done.lines[:-1] == planned.lines[:-1]
    assert done.lines[-1].startswith(planned.lines[-1].partition(":")[0])
    after = everything()
    assert after != before
    again = run(capsys, "config_import", file, "--apply")
    assert again.lines[-1] == "Nothing differs."
    assert everything() == after


def test_a_bad_line_in_the_last_of_several_files_counts_for_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = file_of(tmp_path, "format: 1\nteams:\n  a: {name: A}\n", "one.yaml")
    second = file_of(tmp_path, "format: 1\nteams:\n  b: {name: B}\n  a: {name: Other}\n", "two.yaml")
    third = file_of(tmp_path, "format: 1\nteams:\n  c: {name: 5}\n", "three.yaml")
    before = everything()
    told = run(capsys, "config_import", first, second, third, "--apply")
    assert told.lines == [
        f"{third}:3: teams.c.name: must be text, not empty (in quotes, if it looks like something else).",
        f"{second}:4: teams.a: stands in {first}:3 too. Keep one of the two.",
        "Nothing was changed.",
    ]
    assert everything() == before


def test_with_review_on_an_import_without_an_author_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Settings
) -> None:
    small_installation()
    settings.POLICY_REVIEW = True
    text = "format: 1\npolicies:\n  default: {default: true, models: [{alias: swift}], description: other}\n"
    before = everything()
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply")
    assert "2: " not in told.lines[0]
    assert (
        "router.yaml:3: policies.default: POLICY_REVIEW is on: say who proposes it, with --by USERNAME."
        in told.lines[0]
    )
    assert everything() == before


def test_with_review_on_no_plan_leaves_a_draft(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Settings
) -> None:
    small_installation()
    UserFactory.create(username="ops")
    settings.POLICY_REVIEW = True
    text = "format: 1\npolicies:\n  default: {default: true, models: [{alias: swift}]}\n"
    before = everything()
    told = run(capsys, "config_import", file_of(tmp_path, text), "--plan", "--by", "ops")
    assert told.code == 2
    assert any("the rules are a draft in review" in line for line in told.lines)
    assert everything() == before
    assert not PolicyDraft.objects.exists()


def test_a_configuration_that_would_not_compile_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Whatever slips through the tables: gateways would keep what they have, and nobody would know why."""
    small_installation()
    from_elsewhere = "format: 1\nteams:\n  sales: {name: Sales}\n"
    spoil_a_policy()
    before = everything()
    told = run(capsys, "config_import", file_of(tmp_path, from_elsewhere), "--apply")
    assert told.code == 1
    assert "router.yaml: with this the configuration would not compile, and no gateway would follow: " in told.lines[0]
    assert "unknown task type “coding”" in told.lines[0]
    assert everything() == before


def spoil_a_policy() -> None:
    """As no page and no file could: straight into the table."""
    from_the_side: Any = PolicyDraft._meta.apps.get_model("routing", "RoutingPolicy")
    from_the_side.objects.update(task_type="coding")


def test_a_budget_that_waits_for_a_raise_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Settings
) -> None:
    BudgetFactory.create(team=TeamFactory.create(slug="support"), max_budget=10)
    settings.POLICY_REVIEW = True
    before = everything()
    text = "format: 1\nbudgets:\n  team/support/1mo: {max_budget: 20}\n"
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply")
    assert "router.yaml:3: budgets.team/support/1mo: POLICY_REVIEW is on" in told.lines[0]
    assert everything() == before
