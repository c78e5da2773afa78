"""Providers, keys, models, deployments, prices, aliases, personas, rules: what is written, and what is refused."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from providers.fields import unseal
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routing.models import AliasTarget, ModelAlias, Persona, RoutingRule
from tests import factories as make
from tests.routerplatform.api.manager import Manager, staff, superuser

pytestmark = pytest.mark.django_db
SECRET = "sk-made-up-0123456789"


@pytest.fixture
def manager() -> Manager:
    return superuser()


def needs(noun: str) -> dict[str, Any]:
    """What a new row takes at least, with what it hangs on made along."""
    match noun:
        case "providers":
            return {"name": "acme", "label": "Acme", "kind": "openai-compatible", "base_url": "https://acme.example/v1"}
        case "provider-keys":
            return {"provider": make.ProviderFactory().pk, "label": "production", "secret": SECRET}
        case "models":
            return {"name": "acme-1", "label": "Acme 1", "vendor": "Acme"}
        case "deployments":
            provider, model = make.ProviderFactory(), make.CatalogueModelFactory()
            return {"provider": provider.pk, "model": model.pk, "upstream_model": "acme-1"}
        case "prices":
            return {"model": make.CatalogueModelFactory().pk, "input_usd": "1.5", "output_usd": "2"}
        case "aliases":
            return {"name": "clever", "deployments": [make.DeploymentFactory().pk, make.DeploymentFactory().pk]}
        case "personas":
            return {"slug": "helper", "name": "Helper", "policy": make.RoutingPolicyFactory().pk}
        case _:
            return {"name": "traces", "pattern": "traceback", "task_type": "CODING"}


CHANGES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "providers": (Provider, {"region": "eu", "timeout_s": 30.0, "is_active": False}),
    "provider-keys": (ProviderKey, {"label": "other", "is_active": False}),
    "models": (CatalogueModel, {"cost_tier": "premium", "capabilities": ["vision"], "context_window": 9000}),
    "deployments": (Deployment, {"upstream_model": "acme-2", "rpm_limit": 60, "breaker": "open"}),
    "aliases": (ModelAlias, {"description": "the clever one", "tpm_limit": 1000}),
    "personas": (Persona, {"temperature": 0.5, "system_prompt": "Be brief.", "required_capabilities": ["vision"]}),
    "rules": (RoutingRule, {"pattern": "stack trace", "position": 3}),
}


@pytest.mark.parametrize("noun", CHANGES)
def test_a_row_is_added_changed_and_deleted(manager: Manager, noun: str) -> None:
    table, changes = CHANGES[noun]
    made = manager.post(noun, needs(noun))
    assert made.status == 201, made.json
    path = f"{noun}/{made.json['id']}"
    changed = manager.patch(path, **changes)
    assert changed.status == 200
    assert {name: changed.json[name] for name in changes} == changes
    kept = table._default_manager.get(pk=made.json["id"])
    assert {name: getattr(kept, name) for name in changes} == changes
    history = [one.history_user.username for one in table.history.filter(id=kept.pk)]
    assert history == ["root"] * 2
    assert manager.delete(path).status == 204
    assert not table._default_manager.filter(pk=kept.pk).exists()
    assert table.history.filter(id=kept.pk).latest().history_type == "-"


@pytest.mark.parametrize(
    ("noun", "wrong", "param"),
    [
        ("providers", {"name": "Acme Inc"}, "name"),
        ("providers", {"kind": "telepathy"}, "kind"),
        ("providers", {"base_url": "https://user:pw@acme.example/v1"}, "base_url"),
        ("providers", {"base_url": "http://[::1"}, "base_url"),
        ("providers", {"base_url": "http://10.0.0.1/v1"}, "allowed_networks"),
        ("providers", {"base_url": ""}, "base_url"),
        ("providers", {"allowed_networks": ["10.0.0.0/99"]}, "allowed_networks"),
        ("providers", {"allowed_networks": "10.0.0.0/8"}, "allowed_networks"),
        ("providers", {"timeout_s": "inf"}, "timeout_s"),
        ("providers", {"timeout_s": 0}, "timeout_s"),
        ("providers", {"health": "healthy"}, "health"),
        ("providers", {"id": 7}, "id"),
        ("providers", {"colour": "red"}, "colour"),
        ("provider-keys", {"secret": "two words"}, "secret"),
        ("provider-keys", {"secret": "  "}, "secret"),
        ("provider-keys", {"last4": "6789"}, "last4"),
        ("provider-keys", {"provider": 999}, "provider"),
        ("models", {"capabilities": ["telepathy"]}, "capabilities.0"),
        ("models", {"capabilities": ["vision", "vision"]}, "capabilities"),
        ("models", {"context_window": -1}, "context_window"),
        ("models", {"context_window": 2**70}, "context_window"),
        ("models", {"list_price_per_1k": "much"}, "list_price_per_1k"),
        ("deployments", {"rpm_limit": 0}, "rpm_limit"),
        ("deployments", {"wire": "telegraph"}, "wire"),
        ("deployments", {"breaker_reset_at": "2026-01-01T00:00:00Z"}, "breaker_reset_at"),
        ("prices", {"input_usd": "-1"}, "input_usd"),
        ("prices", {"source": "demo"}, "source"),
        ("prices", {"model": None}, "deployment"),
        ("prices", {"tiers": [{"above": -5}]}, "tiers"),
        ("aliases", {"name": "auto"}, "name"),
        ("aliases", {"deployments": [999]}, "deployments.0"),
        ("aliases", {"deployments": 7}, "deployments"),
        ("personas", {"slug": "auto"}, "slug"),
        ("personas", {"temperature": 3}, "temperature"),
        ("personas", {"max_tokens": 0}, "max_tokens"),
        ("rules", {"match": "regex", "pattern": "("}, "pattern"),
        ("rules", {"outcome": "tier"}, "tier"),
        ("rules", {"subject": "header", "header": "cookie"}, "header"),
    ],
)
def test_what_the_admin_refuses_is_refused_here_by_field(
    manager: Manager, noun: str, wrong: dict[str, Any], param: str
) -> None:
    answer = manager.post(noun, needs(noun) | wrong)
    assert answer.refusal == (400, "invalid_request", param)
    assert answer.error["message"].startswith(param)
    assert manager.get(noun).ids == []


def test_all_complaints_are_told_at_once(manager: Manager) -> None:
    answer = manager.post("providers", name="Acme Inc", colour="red", size=3)
    told = {one["param"] for one in answer.error["details"]["errors"]}
    assert told == {"colour", "size"}  # unknown fields first: then it is clear what was meant
    answer = manager.post("providers", name="Acme Inc")
    assert {one["param"] for one in answer.error["details"]["errors"]} == {"name", "label", "kind"}


def test_a_row_that_is_there_already_is_refused_in_words(manager: Manager) -> None:
    wanted = needs("deployments")
    manager.post("deployments", wanted)
    assert manager.post("deployments", wanted).refusal == (400, "invalid_request", None)
    other = manager.post("deployments", wanted | {"upstream_model": "other"}).json["id"]
    assert manager.patch(f"deployments/{other}", upstream_model="acme-1").status == 400
    taken = needs("provider-keys")
    manager.post("provider-keys", taken)
    assert manager.post("provider-keys", taken).status == 400


@pytest.mark.parametrize(
    ("noun", "field"), [("providers", "name"), ("provider-keys", "provider"), ("deployments", "provider")]
)
def test_what_stays_as_it_was_created_is_refused(manager: Manager, noun: str, field: str) -> None:
    row = manager.post(noun, needs(noun)).json
    other = "other" if field == "name" else make.ProviderFactory().pk
    answer = manager.patch(f"{noun}/{row['id']}", **{field: other})
    assert answer.refusal == (400, "invalid_request", field)
    assert manager.patch(f"{noun}/{row['id']}", **{field: row[field]}).status == 200


# --- ETags ----------------------------------------------------------------------------------------------------------


def test_a_change_of_something_that_was_changed_meanwhile_is_refused(manager: Manager) -> None:
    made = manager.post("aliases", needs("aliases"))
    path, etag = f"aliases/{made.json['id']}", made.headers["etag"]
    assert manager.get(path).headers["etag"] == etag
    first = manager.patch(path, if_match=etag, description="one")
    assert first.status == 200
    late = manager.patch(path, if_match=etag, description="two")
    assert late.refusal == (412, "changed_meanwhile", None)
    assert manager.delete(path, if_match=etag).status == 412
    assert manager.get(path).json["description"] == "one"
    assert manager.patch(path, if_match="*", description="three").status == 200
    assert manager.delete(path, if_match=manager.get(path).headers["etag"]).status == 204


def test_what_changes_by_itself_makes_no_other_etag(manager: Manager) -> None:
    made = manager.post("providers", needs("providers"))
    Provider.objects.update(health="down", checked_at=timezone.now())
    assert manager.get(f"providers/{made.json['id']}").headers["etag"] == made.headers["etag"]


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_providers_key_goes_in_and_never_comes_out(manager: Manager) -> None:
    made = manager.post("provider-keys", needs("provider-keys"))
    row = ProviderKey.objects.get()
    assert unseal(row.sealed) == SECRET
    path = f"provider-keys/{row.pk}"
    replaced = manager.patch(path, secret=f"  {SECRET}-new  ")
    assert (replaced.json["last4"], made.json["last4"]) == ("-new", "6789")
    assert replaced.json["rotated_at"] is not None
    row.refresh_from_db()
    assert unseal(row.sealed) == f"{SECRET}-new"
    refused = manager.patch(path, secret="sk-made-up\nheader: injected")
    answers = [made, replaced, refused, manager.get(path), manager.get("provider-keys")]
    assert refused.refusal == (400, "invalid_request", "secret")
    for answer in answers:
        assert "sk-made-up" not in str(answer.json)
        assert "sealed" not in str(answer.json)


def test_a_providers_key_takes_a_secret(manager: Manager) -> None:
    wanted = needs("provider-keys")
    del wanted["secret"]
    assert manager.post("provider-keys", wanted).refusal == (400, "invalid_request", "secret")


# --- what hangs on a row --------------------------------------------------------------------------------------------


def test_what_something_hangs_on_stays_and_says_why(manager: Manager) -> None:
    alias = make.ModelAliasFactory(deployments=[make.DeploymentFactory()])
    deployment = alias.targets.get().deployment
    make.VirtualKeyFactory().allowed_models.add(alias)
    for path, why in {
        f"providers/{deployment.provider_id}": "1 deployment depends on it",
        f"models/{deployment.model_id}": "1 deployment depends on it",
        f"deployments/{deployment.pk}": "1 alias target depends on it",
        f"aliases/{alias.pk}": "1 virtual key limited to it depends on it",
    }.items():
        answer = manager.delete(path)
        assert answer.refusal == (409, "conflict", None)
        assert why in answer.error["message"]
    assert "Switch it off instead" in answer.error["message"]
    assert ModelAlias.objects.exists()


def test_a_price_that_has_begun_is_neither_changed_nor_deleted(manager: Manager) -> None:
    begun = manager.post("prices", needs("prices")).json
    assert (begun["has_begun"], begun["source"], begun["input_usd"]) == (True, "override", "1.500000")
    for answer in (manager.patch(f"prices/{begun['id']}", input_usd="9"), manager.delete(f"prices/{begun['id']}")):
        assert answer.refusal == (409, "conflict", None)
        assert "Add another one" in answer.error["message"]
    later = (timezone.now() + timedelta(days=30)).isoformat()
    announced = manager.post("prices", model=begun["model"], input_usd="9", output_usd="9", effective_from=later).json
    assert manager.patch(f"prices/{announced['id']}", input_usd="8").json["input_usd"] == "8.000000"
    assert manager.delete(f"prices/{announced['id']}").status == 204
    assert Price.objects.count() == 1


# --- of their own ---------------------------------------------------------------------------------------------------


def test_the_deployments_of_an_alias_are_put_in_order(manager: Manager) -> None:
    row = manager.post("aliases", needs("aliases")).json
    first, second = row["deployments"]
    third = make.DeploymentFactory().pk
    path = f"aliases/{row['id']}"
    assert manager.patch(path, deployments=[third, first]).json["deployments"] == [third, first]
    kept = AliasTarget.objects.filter(alias=row["id"]).values_list("deployment_id", "position")
    assert list(kept) == [(third, 0), (first, 1)]
    assert AliasTarget.history.filter(deployment_id=second, history_type="-").exists()
    assert manager.patch(path, description="x").json["deployments"] == [third, first]
    assert manager.patch(path, deployments=[first, first]).refusal == (400, "invalid_request", "deployments")


def test_the_rows_below_an_alias_take_permissions_of_their_own() -> None:
    alias = make.ModelAliasFactory(deployments=[make.DeploymentFactory()])
    manager = staff("routing.view_modelalias", "routing.change_modelalias")
    assert manager.patch(f"aliases/{alias.pk}", description="x").status == 200
    answer = manager.patch(f"aliases/{alias.pk}", description="y", deployments=[])
    assert answer.refusal == (403, "permission_denied", None)
    assert "routing.delete_aliastarget" in answer.error["message"]
    alias.refresh_from_db()
    assert (alias.description, alias.targets.count()) == ("x", 1)


def test_a_circuit_breaker_is_reset(manager: Manager) -> None:
    deployment = make.DeploymentFactory()
    answer = manager.post(f"deployments/{deployment.pk}/reset-breaker")
    assert answer.json["breaker_reset_at"] is not None
    viewer = staff("providers.view_deployment")
    assert viewer.post(f"deployments/{deployment.pk}/reset-breaker").status == 403


def test_a_rule_that_changes_its_outcome_forgets_the_former_one(manager: Manager) -> None:
    row = manager.post("rules", needs("rules")).json
    changed = manager.patch(f"rules/{row['id']}", outcome="tier", tier="premium").json
    assert (changed["outcome"], changed["tier"], changed["task_type"]) == ("tier", "premium", "")
    assert RoutingRule.objects.get().task_type == ""


def test_a_persona_needs_a_policy_that_is_on(manager: Manager) -> None:
    off = make.RoutingPolicyFactory(is_active=False)
    answer = manager.post("personas", needs("personas") | {"policy": off.pk})
    assert answer.refusal == (400, "invalid_request", "policy")
