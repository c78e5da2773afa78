"""Files brought into a database: what is written, refused, proposed and removed, by the commands as people run them."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from analytics.models import AlertChannel, AlertRule, Budget, BudgetRaise, RaiseState
from providers.domain.types import Capability
from providers.fields import unseal
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routerplatform.configuration.reading import MAX_PROBLEMS
from routing.models import (
    ConfigRevision,
    DraftState,
    Membership,
    ModelAlias,
    Persona,
    PolicyDraft,
    PromptTemplate,
    RoutingPolicy,
    RoutingRule,
    Team,
    VirtualKey,
)
from routing.services.policy_rules import document_of
from tests.factories import (
    AlertChannelFactory,
    BudgetFactory,
    CatalogueModelFactory,
    DeploymentFactory,
    PersonaFactory,
    PriceFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    TeamFactory,
    UserFactory,
    VirtualKeyFactory,
    served_alias,
)
from tests.routerplatform.configuration.installation import Ran, file_of, run

pytestmark = pytest.mark.django_db

ACME = """
format: 1
models:
  m-1: {label: M 1, vendor: Acme, capabilities: [streaming]}
providers:
  acme: {kind: openai-compatible, label: Acme, base_url: https://acme.example.com/v1}
deployments:
  acme/m-1: {model: m-1, rpm_limit: 60}
aliases:
  fast: {targets: [acme/m-1]}
policies:
  chat: {default: true, models: [{alias: fast}], strategy: priority}
personas:
  chatbot: {name: Chatbot, policy: chat, temperature: 0.7}
"""

Import = Callable[..., Ran]


@pytest.fixture
def imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Import:
    """`imported(text, "--plan")`: write a file, import it. Without options: `--apply`."""

    def do(text: str, *options: str) -> Ran:
        if not text.lstrip().startswith("format"):
            text = f"format: 1\n{text}"
        how = () if "--plan" in options or "--apply" in options else ("--apply",)
        return run(capsys, "config_import", file_of(tmp_path, text.lstrip()), *how, *options)

    return do


def refused(ran: Ran) -> list[str]:
    """The complaints, without the folder."""
    assert ran.code == 1, ran.out
    assert ran.lines[-1] == "Nothing was changed."
    return [line.rpartition("router.yaml:")[2] for line in ran.lines[:-1]]


def revision() -> int:
    return ConfigRevision.objects.get().revision


# --- plan and apply ---------------------------------------------------------------------------------------------------


def test_a_plan_tells_and_changes_nothing_and_its_exit_code_says_so(imported: Import) -> None:
    CatalogueModelFactory.create()
    before = revision()
    told = imported(ACME, "--plan")
    assert told.code == 2
    assert told.lines == [
        "+ model m-1",
        "+ provider acme",
        "+ deployment acme/m-1",
        "+ alias fast",
        "+ policy chat",
        "+ persona chatbot",
        "  Only in the database: 1 in models. They stay; --prune removes them.",
        "6 changes: 6 to add. Nothing was changed; --apply does it.",
    ]
    assert not Provider.objects.exists()
    assert revision() == before


def test_apply_writes_it_with_history_and_the_gateways_follow(imported: Import) -> None:
    UserFactory.create(username="ops")
    told = imported(ACME, "--by", "ops")
    assert told.code == 0, told.out
    assert told.lines[-1] == f"6 changes: 6 added. Gateways follow within 2 seconds (revision {revision()})."
    persona = Persona.objects.get(slug="chatbot")
    assert (persona.temperature, persona.policy.is_default, persona.policy.version) == (0.7, True, 1)
    assert [str(one.deployment) for one in ModelAlias.objects.get(name="fast").targets.all()] == ["acme/m-1"]
    line = Persona.history.get()
    assert (line.history_user.username, line.history_change_reason) == ("ops", "config_import")
    assert persona.policy.versions.get().author == User.objects.get(username="ops")
    assert imported(ACME, "--plan").lines == ["Nothing differs."]


def test_only_what_differs_is_written(imported: Import) -> None:
    imported(ACME)
    lines = Provider.history.count(), ModelAlias.history.count()
    told = imported(ACME.replace("temperature: 0.7", "temperature: 0.5").replace("rpm_limit: 60", "rpm_limit: 30"))
    assert told.lines[:-1] == [
        "~ deployment acme/m-1: rpm_limit 60 -> 30",
        "~ persona chatbot: temperature 0.7 -> 0.5",
    ]
    assert (Provider.history.count(), ModelAlias.history.count()) == lines


def test_one_bad_line_changes_nothing(imported: Import) -> None:
    told = imported(ACME.replace("temperature: 0.7", "temperature: 7"))
    assert refused(told) == ["13: personas.chatbot.temperature: must be between 0 and 2."]
    assert not Provider.objects.exists()


def test_what_only_the_tables_know_is_told_with_its_line_too(imported: Import) -> None:
    text = ACME.replace("capabilities: [streaming]", "capabilities: [streeming]")
    text = text.replace("strategy: priority", "strategy: cheapest").replace("https://acme", "ftp://acme")
    assert refused(imported(text)) == [
        "3: models.m-1.capabilities: Unknown capability: streeming. Known: "
        + ", ".join(sorted(known_capabilities()))
        + ".",
        "5: providers.acme.base_url: An address begins with https:// or http://.",
        "11: policies.chat.strategy: “cheapest” is none of its choices. There are: "
        + ", ".join(known_strategies())
        + ".",
    ]
    assert not CatalogueModel.objects.exists()


def known_capabilities() -> list[str]:
    return [one.value for one in Capability]


def known_strategies() -> list[str]:
    return sorted(str(value) for value, _ in RoutingPolicy._meta.get_field("strategy").flatchoices)


def test_many_problems_are_told_up_to_twenty(imported: Import) -> None:
    lines = [f"  p{number}: {{name: P, policy: none}}" for number in range(30)]
    told = imported("personas:\n" + "\n".join(lines))
    assert len(refused(told)) == MAX_PROBLEMS + 1
    assert told.lines[-2] == "and 10 more"


def test_a_plan_is_json_for_programs(imported: Import) -> None:
    imported(ACME)
    told = imported("personas:\n  chatbot: {name: Bot, policy: chat, temperature: 0.7}\n", "--plan", "--json").json
    fields = [{"field": "name", "before": "Chatbot", "after": "Bot"}]
    change = {"action": "change", "section": "personas", "name": "chatbot", "fields": fields}
    assert told["changes"] == [change]
    assert (told["applied"], told["counts"]) == (False, {"add": 0, "change": 1, "remove": 0})
    wrong = imported("personas:\n  x: {name: 5}\n", "--plan", "--json")
    assert wrong.code == 1
    assert [(one["line"], one["key"]) for one in wrong.json["problems"]] == [(3, "personas.x"), (3, "personas.x.name")]


# --- providers and their keys -----------------------------------------------------------------------------------------

KEYED = """
providers:
  acme:
    kind: openai-compatible
    label: Acme
    base_url: https://acme.example.com/v1
    keys:
      prod: {api_key: "%s"}
"""


def test_a_key_comes_from_the_environment_or_a_file_and_is_replaced_when_that_changes(
    imported: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-test-of-acme-1111")
    assert imported(KEYED % "${ACME_KEY}").lines[:2] == ["+ provider acme", "+ key of provider acme: prod"]
    key = ProviderKey.objects.get()
    assert (unseal(key.sealed), key.last4) == ("sk-test-of-acme-1111", "1111")
    assert imported(KEYED % "env:ACME_KEY", "--plan").lines == ["Nothing differs."]
    secret = tmp_path / "acme"
    secret.write_text("sk-test-of-acme-2222\n")
    told = imported(KEYED % f"file:{secret}")
    assert told.lines[0] == "~ key of provider acme: prod: api_key the stored one -> another one"
    assert "sk-test" not in told.out
    key.refresh_from_db()
    assert unseal(key.sealed) == "sk-test-of-acme-2222"


def test_a_new_key_whose_secret_is_not_there_is_refused_or_left_out(imported: Import, tmp_path: Path) -> None:
    [problem] = refused(imported(KEYED % "${ACME_KEY}"))
    assert problem.startswith(
        "9: providers.acme.keys.prod.api_key: the environment variable ACME_KEY is not set here. Set it, or take"
    )
    [problem] = refused(imported(KEYED % f"file:{tmp_path}/none"))
    assert "cannot be read: No such file or directory" in problem
    told = imported(KEYED % "${ACME_KEY}", "--without-secrets")
    assert told.lines[:2] == [
        "+ provider acme",
        "! providers.acme.keys.prod was left out: the environment variable ACME_KEY is not set here.",
    ]
    assert not ProviderKey.objects.exists()


def test_a_stored_key_stays_where_its_reference_leads_nowhere(imported: Import) -> None:
    key = ProviderKeyFactory.create(provider__name="acme", label="prod", secret="sk-test-of-acme-1111")
    text = KEYED % "${ACME_KEY}" + "    "
    told = imported(text.replace('"${ACME_KEY}"', '"${ACME_KEY}", ends_with: "9999"'))
    assert any("another one is stored (1111), and it stays" in line for line in told.lines)
    key.refresh_from_db()
    assert unseal(key.sealed) == "sk-test-of-acme-1111"


def test_a_literal_secret_is_refused_with_its_line_and_not_repeated(imported: Import) -> None:
    told = imported(KEYED % "sk-test-literal-0000")
    [problem] = refused(told)
    assert problem.startswith("9: providers.acme.keys.prod.api_key: must say where the secret is")
    assert "literal-0000" not in told.out


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("base_url: http://10.0.0.1/v1", "allowed_networks: http://10.0.0.1/v1 is not a public address."),
        ("base_url: https://me:secret-word@acme.example.com/", "base_url: An address has no user name or password"),
        ("base_url: ''", "base_url: OpenAI-compatible has no address of its own"),
        ("allowed_networks: [10.0.0.0/99]", "allowed_networks: '10.0.0.0/99' does not appear to be"),
        ("kind: opneai", "kind: “opneai” is none of its choices. Did you mean openai"),
        ("region: EU", "region: Lower-case letters, digits"),
    ],
)
def test_a_provider_is_refused_as_its_page_refuses_it(imported: Import, field: str, said: str) -> None:
    fields = {"kind": "openai-compatible", "label": "Acme", "base_url": "https://acme.example.com/v1"}
    name, _, value = field.partition(": ")
    lines = [f"    {key}: {one}" for key, one in (fields | {name: value}).items()]
    problems = refused(imported("providers:\n  acme:\n" + "\n".join(lines)))
    assert any(said in one for one in problems), problems
    assert "secret-word" not in "".join(problems)


def test_a_value_that_would_be_kept_otherwise_is_refused(imported: Import) -> None:
    networks = ACME.replace("label: Acme", "label: Acme, allowed_networks: [10.0.0.0/8 10.1.0.0/16]")
    assert "5: providers.acme.allowed_networks: would be kept as" in refused(imported(networks))[0]
    rule = "rules:\n  vip: {pattern: x, outcome: task, task_type: CODING, tier: premium}\n"
    assert "rules.vip.tier: would be kept as “none”" in refused(imported(rule))[0]


def test_prices_that_have_begun_stay_and_later_ones_may_change(imported: Import) -> None:
    PriceFactory.create(model__name="m-9", input_usd=Decimal(1), output_usd=Decimal(2))
    begun = "model_prices:\n  m-9:\n    2026-01-01T00:00:00Z: {input_usd: %s, output_usd: 2}\n"
    assert imported(begun % 1, "--plan").lines == ["Nothing differs."]
    [problem] = refused(imported(begun % 5))
    assert "This price has begun and stays as it is. Add another one" in problem
    later = begun % 1 + "    2031-01-01T00:00:00Z: {input_usd: %s, tiers: [{above: 1000, input_usd: 9}]}\n"
    assert imported(later % "0.5").lines[0] == "+ price of model m-9 from 2031-01-01T00:00:00Z"
    assert imported(later % "0.75").lines[0].endswith("input_usd 0.5 -> 0.75")
    assert Price.objects.get(effective_from__year=2031).tiers[0]["input_usd"] == "9"
    told = imported("model_prices:\n  m-9: {}\n", "--prune")
    assert told.lines[0] == "- price of model m-9 from 2031-01-01T00:00:00Z"
    assert "from 2026-01-01T00:00:00Z stays: it has begun" in told.lines[1]


def test_a_retired_model_is_taken_with_a_warning(imported: Import) -> None:
    newer = CatalogueModelFactory.create(name="m-2")
    CatalogueModelFactory.create(name="m-1", status="retired", replaced_by=newer)
    text = ACME.replace("models:\n  m-1: {label: M 1, vendor: Acme, capabilities: [streaming]}\n", "", 1)
    told = imported(text)
    assert told.code == 0, told.out
    assert "! deployment acme/m-1: its vendor has retired m-1. Use m-2 instead." in told.lines


# --- policies ---------------------------------------------------------------------------------------------------------


def test_changed_rules_are_a_version(imported: Import) -> None:
    imported(ACME)
    told = imported(ACME.replace("strategy: priority", "strategy: weighted"), "--by", UserFactory.create().username)
    assert told.lines[0] == "~ policy chat: strategy priority -> weighted"
    policy = RoutingPolicy.objects.get()
    assert (policy.strategy, policy.version) == ("weighted", 2)
    assert policy.versions.get(number=2).note == "Configuration file"


def test_rules_that_leave_a_persona_without_a_model_are_refused(imported: Import) -> None:
    imported(ACME)
    text = ACME.replace("strategy: priority", "required_capabilities: [vision]")
    problems = refused(imported(text))
    assert len(problems) == 2  # the persona, and “auto”
    assert all(one.startswith("11: policies.chat.models: It leaves") for one in problems)
    assert RoutingPolicy.objects.get().required_capabilities == []


def test_a_new_policy_may_wait_for_its_models(imported: Import) -> None:
    told = imported("policies:\n  later: {strategy: priority}\npersonas:\n  p: {name: P, policy: later}\n")
    assert told.code == 0
    assert any(line.startswith("! policy later: ") for line in told.lines)


def test_another_policy_becomes_the_default(imported: Import) -> None:
    imported(ACME)
    told = imported("policies:\n  other: {default: true, models: [{alias: fast}]}\n")
    assert told.code == 0, told.out
    assert RoutingPolicy.objects.get(is_default=True).name == "other"
    assert refused(imported("policies:\n  other: {models: [{alias: fast}]}\n"))[0].startswith(
        "3: policies.other: is the default policy, and stays it until"
    )


def test_a_policy_is_switched_off_when_its_personas_have_another(imported: Import) -> None:
    policy = RoutingPolicyFactory.create(name="old", preferred=[served_alias(name="fast")])
    RoutingPolicyFactory.create(name="new")
    PersonaFactory.create(slug="p", name="P", policy=policy)
    off = "policies:\n  old: {active: false, models: [{alias: fast}]}\n"
    assert "Give these personas another policy first" in refused(imported(off))[0]
    assert imported(off + "personas:\n  p: {name: P, policy: new}\n").code == 0
    policy.refresh_from_db()
    assert not policy.is_active


def test_with_review_on_rules_are_proposed_once_and_switches_take_effect(imported: Import, settings: Settings) -> None:
    imported(ACME)
    settings.POLICY_REVIEW = True
    ops = UserFactory.create(username="ops")
    text = ACME.replace("strategy: priority", "strategy: weighted, description: Talk")
    assert "say who proposes it, with --by USERNAME" in refused(imported(text))[0]
    told = imported(text, "--by", "ops")
    assert "! policy chat: the rules are a draft in review; somebody else has to approve it." in told.lines
    policy, draft = RoutingPolicy.objects.get(), PolicyDraft.objects.get()
    assert (policy.strategy, policy.description) == ("priority", "Talk")
    assert (draft.state, draft.author, document_of(draft).strategy) == (DraftState.REVIEW, ops, "weighted")
    again = imported(text, "--by", "ops")
    assert any("proposes these rules already: in review." in line for line in again.lines)
    assert PolicyDraft.objects.count() == 1


def test_with_review_on_a_new_policy_begins_without_rules(imported: Import, settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    UserFactory.create(username="ops")
    told = imported(ACME.replace("capabilities: [streaming]", "status: current"), "--by", "ops")
    assert told.code == 0, told.out
    assert not RoutingPolicy.objects.get().candidates.exists()
    assert PolicyDraft.objects.get().candidates.get().alias.name == "fast"


# --- templates, teams, keys, budgets, alerts --------------------------------------------------------------------------


def test_another_text_of_a_template_is_another_version(imported: Import) -> None:
    text = "templates:\n  greet:\n    system: Speak {{language}}.\n    variables: [{name: language}]\n"
    assert imported(text).lines[0] == "+ template greet"
    assert imported(text, "--plan").lines == ["Nothing differs."]
    assert imported(text.replace("Speak", "Write")).code == 0
    template = PromptTemplate.objects.get()
    assert (template.version, template.versions.count()) == (2, 2)
    [problem] = refused(imported(text.replace("{{language}}", "{{tongue}}")))
    assert problem.startswith("3: templates.greet")


def test_members_are_people_that_there_are(imported: Import) -> None:
    UserFactory.create(username="alice")
    text = "teams:\n  support:\n    name: Support\n    members:\n      alice: lead\n"
    assert imported(text).lines[:2] == ["+ team support", "+ member of team support: alice"]
    assert Membership.objects.get().role == "lead"
    assert "There is no account “bob” here" in refused(imported(text.replace("alice", "bob")))[0]
    assert imported(text.replace("alice: lead", "alice: member")).lines[0].endswith("role lead -> member")
    nobody = "teams:\n  support:\n    name: Support\n"  # says nothing of people
    assert imported(nobody, "--plan", "--prune").lines == ["Nothing differs."]
    assert imported(f"{nobody}    members: {{}}\n", "--prune").lines[0] == "- member of team support: alice"
    assert not Membership.objects.exists()


def test_a_key_is_limited_but_never_made(imported: Import) -> None:
    team, alias = TeamFactory.create(name="Support", slug="support"), served_alias(name="fast")
    key = VirtualKeyFactory.create(team=team, name="bot")
    text = "keys:\n  support/bot: {scopes: [chat], allowed_models: [fast], rpm_limit: 9}\n  support/new: {}\n"
    told = imported(text)
    assert told.lines[0] == (
        "~ virtual key support/bot: rpm_limit none -> 9, scopes chat, models -> chat, allowed_models none -> fast"
    )
    assert "Run manage.py create_key --team support --name new" in told.lines[1]
    assert told.lines[2].startswith("1 change: 1 changed.")
    key.refresh_from_db()
    assert (key.scopes, key.rpm_limit, list(key.allowed_models.all())) == (["chat"], 9, [alias])
    assert VirtualKey.objects.count() == 1
    past = refused(imported("keys:\n  support/bot: {expires_at: 2020-01-01T00:00:00Z}\n"))
    assert "This moment has passed. To stop a key at once, revoke it." in past[0]


def test_keys_of_one_name_are_told_apart_by_their_prefix(imported: Import, capsys: pytest.CaptureFixture[str]) -> None:
    team = TeamFactory.create(slug="support")
    one, other = VirtualKeyFactory.create_batch(2, team=team, name="bot")
    text = run(capsys, "config_export", "--only", "keys").out
    assert f"support/bot#{one.prefix}: {{}}" in text
    assert imported(f"keys:\n  support/bot#{other.prefix}: {{tpm_limit: 5}}\n").code == 0
    assert [VirtualKey.objects.get(pk=row.pk).tpm_limit for row in (one, other)] == [None, 5]


def test_budgets_are_made_changed_and_raised(imported: Import, settings: Settings) -> None:
    TeamFactory.create(name="Support", slug="support")
    text = "budgets:\n  team/support/1mo: {max_budget: %s}\n"
    assert imported(text % "100").lines[0] == "+ budget team/support/1mo"
    assert imported(text % "250.5").lines[0].endswith("max_budget 100 -> 250.5")
    assert BudgetRaise.objects.get().state == RaiseState.APPLIED
    settings.POLICY_REVIEW = True
    UserFactory.create(username="ops")
    told = imported(text % "300", "--by", "ops")
    assert "! budget team/support/1mo: the raise to $300 was proposed; somebody else has to approve it." in told.lines
    assert "waits for approval" in imported(text % "300", "--by", "ops").out
    assert imported(text % "50").code == 0  # lowering takes effect at once
    assert Budget.objects.get().max_budget == 50
    assert "stays UTC" in refused(imported(text % "50, time_zone: Europe/Berlin"))[0]


def test_alert_rules_and_channels(imported: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "alert_rules:\n  error_rate: {parameters: {percent: %s}}\n"
    assert imported(text % 30).code == 0
    assert AlertRule.objects.get(kind="error_rate").parameters == {"percent": 30}
    assert "Failed attempts above (%): from 1 to 99." in refused(imported(text % 300))[0]
    assert "Did you mean error_rate?" in refused(imported("alert_rules:\n  error_rat: {}\n"))[0]
    monkeypatch.setenv("OPS_MAIL", "ops@example.com")
    channel = "alert_channels:\n  Ops: {kind: email, address: '${OPS_MAIL}', kinds: [ledger]}\n"
    assert imported(channel).lines[0] == "+ alert channel Ops"
    row = AlertChannel.objects.get()
    assert (unseal(row.target), row.hint, row.kinds) == ("ops@example.com", "ops@example.com", ["ledger"])
    monkeypatch.setenv("OPS_MAIL", "no address")
    problems = refused(imported(channel))  # the address itself may hold a token
    assert problems == ["3: alert_channels.Ops.address: What it refers to is no address of this kind."]
    hook = channel.replace("kind: email", "kind: webhook").replace("Ops", "Hook")
    assert "A webhook needs one: say where it is." in refused(imported(hook))[0]


# --- prune ------------------------------------------------------------------------------------------------------------


def test_prune_removes_what_nothing_needs_and_says_why_the_rest_stays(imported: Import) -> None:
    imported(ACME)
    spare = DeploymentFactory.create(provider__name="spare", model__name="m-9")
    told = imported(
        "providers: {}\ndeployments:\n  acme/m-1: {model: m-1, rpm_limit: 60}\n"
        "models:\n  m-9: {label: M-9, vendor: X}\n",
        "--prune",
    )
    assert not Deployment.objects.filter(pk=spare.pk).exists()
    assert "- deployment spare/m-9" in told.lines
    assert "- provider spare" in told.lines
    assert "! provider acme stays: it is needed by 1 other (deployment)." in told.lines
    assert "! model m-1 stays: it is needed by 1 other (deployment)." in told.lines
    assert Provider.objects.get().name == "acme"


def test_prune_switches_off_what_money_hangs_on(imported: Import) -> None:
    budget, key = BudgetFactory.create(), ProviderKeyFactory.create(provider__name="acme")
    keep = "providers:\n  acme: {kind: openai-compatible, label: Acme, base_url: https://acme.example.com/v1}\n"
    told = imported(f"budgets: {{}}\n{keep}", "--prune")
    assert told.code == 0, told.out
    budget.refresh_from_db()
    key.refresh_from_db()
    assert (budget.is_active, key.is_active) == (False, False)
    assert imported(f"budgets: {{}}\n{keep}", "--plan", "--prune").lines == ["Nothing differs."]


def test_prune_leaves_keys_the_default_policy_and_kinds_of_alerts(imported: Import) -> None:
    imported(ACME)
    VirtualKeyFactory.create(team__slug="support", name="bot")
    AlertChannelFactory.create(name="Ops")
    told = imported("keys: {}\npolicies: {}\nalert_rules: {}\nalert_channels: {}\nrules: {}\n", "--prune")
    assert "! virtual key support/bot stays: keys are revoked, never deleted: revoke it in the admin." in told.lines
    assert "! policy chat stays: it is the default policy." in told.lines
    assert "- alert channel Ops" in told.lines
    assert VirtualKey.objects.get().revoked_at is None
    assert not AlertChannel.objects.exists()
    assert not RoutingRule.objects.exists()


def test_a_team_with_keys_stays(imported: Import) -> None:
    VirtualKeyFactory.create(team__slug="support")
    TeamFactory.create(slug="empty")
    told = imported("teams: {}\n", "--prune")
    assert told.lines[0] == "- team empty"
    assert "! team support stays: it is needed by 1 other (virtual key)." in told.lines
    assert Team.objects.get().slug == "support"
