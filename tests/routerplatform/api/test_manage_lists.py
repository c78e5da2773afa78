"""Lists: pages by cursor, filters by name, and as many queries for many rows as for few."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.models import BudgetRaise
from routing.models import AccessToken
from routing.services.lifecycle import draft_create
from routing.services.policy_rules import version_ensure
from routing.services.tokens import token_issue
from tests import factories as make
from tests.routerplatform.api.manager import Manager, superuser

pytestmark = pytest.mark.django_db


def policy_with_models() -> Any:
    return make.RoutingPolicyFactory(preferred=[make.ModelAliasFactory()], fallbacks=[make.ModelAliasFactory()])


ROWS: dict[str, Callable[[], Any]] = {
    "providers": make.ProviderFactory,
    "provider-keys": make.ProviderKeyFactory,
    "models": make.CatalogueModelFactory,
    "deployments": make.DeploymentFactory,
    "prices": make.PriceFactory,
    "aliases": lambda: make.ModelAliasFactory(deployments=[make.DeploymentFactory(), make.DeploymentFactory()]),
    "personas": make.PersonaFactory,
    "rules": make.RoutingRuleFactory,
    "policies": policy_with_models,
    "policy-versions": lambda: version_ensure(policy=policy_with_models(), by=make.UserFactory()),
    "policy-drafts": lambda: draft_create(policy=policy_with_models(), by=make.UserFactory(), title="change"),
    "teams": make.TeamFactory,
    "memberships": make.MembershipFactory,
    "keys": make.VirtualKeyFactory,
    "budgets": make.BudgetFactory,
    "budget-raises": lambda: BudgetRaise.objects.create(
        budget=make.BudgetFactory(), amount_from=1, amount_to=2, author=make.UserFactory()
    ),
    "usage": make.UsageRecordFactory,
    "access-tokens": lambda: token_issue(user=AccessToken.objects.first().user, name="more"),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("noun", ROWS)
def test_a_list_costs_as_many_queries_for_many_rows_as_for_few(noun: str) -> None:
    manager = superuser()
    manager.get("teams")  # notes the token's use
    ROWS[noun]()
    few = queries(manager, noun)
    for _ in range(4):
        ROWS[noun]()
    assert queries(manager, noun) == few


@pytest.mark.parametrize("noun", ROWS)
def test_pages_tell_every_row_once_and_one_row_reads_as_in_the_list(noun: str) -> None:
    manager = superuser()
    for _ in range(5):
        ROWS[noun]()
    everything = manager.get(noun).json
    assert (everything["object"], everything["has_more"], everything["next"]) == ("list", False, None)
    found, path = [], f"{noun}?limit=2"
    for _ in range(10):
        page = manager.get(path).json
        found += page["data"]
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        assert page["next"].startswith(f"/api/v1/manage/{noun}?")
        path = page["next"].removeprefix("/api/v1/manage/")
        assert page["next_cursor"] in path
    assert [row["id"] for row in found] == [row["id"] for row in everything["data"]]
    one = manager.get(f"{noun}/{found[0]['id']}").json
    assert one.keys() >= found[0].keys()
    assert {name: one[name] for name in ("id", "object")} == {name: found[0][name] for name in ("id", "object")}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("limit=%C2%B2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%C3%A4", "cursor"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk", "cursor"),
        ("nmae=acme", "nmae"),
        ("name=a&name=b", "name"),
        ("is_active=maybe", "is_active"),
        ("kind=telepathy", "kind"),
        ("name=%00", "name"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_by_name(query: str, param: str) -> None:
    answer = superuser().get(f"providers?{query}")
    assert answer.refusal == (400, "invalid_request", param)


def test_the_filters_that_there_are_are_named() -> None:
    assert "is_active, kind, name, region" in superuser().get("providers?label=x").error["message"].replace(
        "health, ", ""
    )


@pytest.mark.parametrize("value", ["x", "-1", str(2**63), "9" * 5000, "1e400", "1.5"])
def test_an_id_to_filter_by_is_a_number(value: str) -> None:
    assert superuser().get(f"deployments?provider={value}").refusal == (400, "invalid_request", "provider")


def test_rows_are_filtered_by_what_they_are_and_belong_to() -> None:
    manager = superuser()
    one, other = make.DeploymentFactory(is_active=False), make.DeploymentFactory()
    assert manager.get(f"deployments?provider={one.provider_id}").ids == [one.pk]
    assert manager.get("deployments?is_active=true").ids == [other.pk]
    assert manager.get(f"deployments?model={other.model_id}&is_active=false").ids == []
    alias = make.ModelAliasFactory(deployments=[one])
    make.ModelAliasFactory()
    assert manager.get(f"aliases?deployment={one.pk}").ids == [alias.pk]
    assert manager.get(f"providers?name={one.provider.name}").ids == [one.provider_id]


def test_keys_are_filtered_by_their_state() -> None:
    manager, before = superuser(), make.NOON
    active = make.VirtualKeyFactory(expires_at=None)
    expired = make.VirtualKeyFactory(expires_at=before)
    revoked = make.VirtualKeyFactory(revoked_at=before, expires_at=before - timedelta(days=1))
    off = make.VirtualKeyFactory(team__is_active=False)
    found = {state: manager.get(f"keys?state={state}") for state in ("active", "expired", "revoked", "team_off")}
    assert {state: answer.ids for state, answer in found.items()} == {
        "active": [active.pk], "expired": [expired.pk], "revoked": [revoked.pk], "team_off": [off.pk],
    }  # fmt: skip
    assert all(row["state"] == state for state, answer in found.items() for row in answer.json["data"])


def queries(manager: Manager, noun: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert manager.get(noun).status == 200
    return len(captured)
