"""What the forms of teams, keys, aliases, policies and personas refuse, and in which words."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client

from providers.admin.pages import change_url, list_url
from routing.models import Membership, ModelAlias, Persona, RoutingPolicy, Team, VirtualKey
from tests.admin_pages import errors_of, submit, submit_new
from tests.factories import (
    DeploymentFactory,
    MembershipFactory,
    ModelAliasFactory,
    PersonaFactory,
    RoutingPolicyFactory,
    TeamFactory,
    UserFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db


def complaints(client: Client, table: type[Model], /, **fields: Any) -> str:
    """What the form for a new row says to these fields; the row must not have come into being."""
    before = table._default_manager.count()
    answer = submit_new(client, f"{list_url(table)}add/", **fields)
    assert answer.status_code == 200, "it was saved"
    assert table._default_manager.count() == before
    return errors_of(answer)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "Taken"}, "Team with this Name already exists"),
        ({"name": "n" * 81}, "at most 80 characters"),
        ({"slug": "taken"}, "Team with this Slug already exists"),
        ({"slug": "not a slug"}, "Enter a valid “slug”"),
        ({"slug": "naïve"}, "Enter a valid “slug”"),
        ({"slug": ""}, "This field is required"),
    ],
)
def test_a_team_is_refused_in_words(admin_client: Client, fields: dict[str, str], said: str) -> None:
    TeamFactory(name="Taken", slug="taken")
    assert said in complaints(admin_client, Team, **{"name": "Search", "slug": "search"} | fields)


def test_a_person_is_in_a_team_once(admin_client: Client) -> None:
    team, person = TeamFactory(), UserFactory()
    rows = {"memberships__TOTAL_FORMS": "2"}
    for number in range(2):
        rows |= {f"memberships__{number}__user": person.pk, f"memberships__{number}__role": "member"}
    assert "duplicate" in errors_of(submit(admin_client, change_url(team), **rows))
    assert not Membership.objects.exists()


def test_a_role_is_one_of_those_there_are(admin_client: Client) -> None:
    membership = MembershipFactory()
    answer = submit(admin_client, change_url(membership.team), memberships__0__role="emperor")
    assert "Select a valid choice" in errors_of(answer)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"team": ""}, "This field is required"),
        ({"team": "999999"}, "Select a valid choice"),
        ({"name": ""}, "This field is required"),
        ({"name": "n" * 81}, "at most 80 characters"),
        ({"scopes": []}, "This field is required"),
        ({"scopes": ["chat", "root"]}, "root is not one of the available choices"),
        ({"allowed_models": ["999999"]}, "999999 is not one of the available choices"),
        ({"expires_at_0": "2026-02-30", "expires_at_1": "00:00"}, "Enter a valid date"),
        ({"expires_at_0": "2999-01-01", "expires_at_1": "25:00"}, "Enter a valid time"),
        ({"expires_at_0": "2999-01-01", "expires_at_1": ""}, "Enter a valid time"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "This moment has passed"),
    ],
)
def test_a_virtual_key_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    wanted = {"team": TeamFactory().pk, "name": "bot", "scopes": ["chat"]}
    answer = complaints(admin_client, VirtualKey, **wanted | fields)
    assert said in answer
    assert "rp_" not in answer


def test_an_expired_key_may_be_renamed_but_not_given_another_moment_that_has_passed(admin_client: Client) -> None:
    key = VirtualKeyFactory(expires_at="2026-01-01T00:00:00Z")
    assert submit(admin_client, change_url(key), name="old bot").status_code == 302
    answer = submit(admin_client, change_url(key), expires_at_0="2026-01-02")
    assert "This moment has passed" in errors_of(answer)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "auto"}, "let the policy decide"),
        ({"name": "taken"}, "already exists"),
        ({"name": "two words"}, "starts with a letter or digit"),
        ({"name": "/fast"}, "starts with a letter or digit"),
        ({"name": "fast\x00"}, "Null characters are not allowed"),
        ({"description": "d" * 201}, "at most 200 characters"),
    ],
)
def test_an_alias_is_refused_in_words(admin_client: Client, fields: dict[str, str], said: str) -> None:
    ModelAliasFactory(name="taken")
    assert said in complaints(admin_client, ModelAlias, **{"name": "fast"} | fields)


def test_an_alias_names_a_deployment_once(admin_client: Client) -> None:
    deployment = DeploymentFactory()
    alias = ModelAliasFactory(deployments=[deployment])
    rows = {"targets__TOTAL_FORMS": "2", "targets__1__deployment": deployment.pk, "targets__1__position": "0"}
    assert "duplicate" in errors_of(submit(admin_client, change_url(alias), **rows))
    assert alias.targets.count() == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Every Day"}, "Lower-case letters"),
        ({"name": "taken"}, "already exists"),
        ({"task_type": "GARDENING"}, "Select a valid choice"),
        ({"max_cost_per_request": "-1"}, "greater than or equal to 0"),
        ({"max_cost_per_request": "0.0000001"}, "no more than 6 decimal places"),
        ({"max_cost_per_request": "cheap"}, "Enter a number"),
        ({"max_latency_ms": "-1"}, "greater than or equal to 0"),
        ({"max_latency_ms": "2.5"}, "Enter a whole number"),
        ({"required_capabilities": ["telepathy"]}, "telepathy"),
        ({"description": "d" * 301}, "at most 300 characters"),
        ({"is_default": "on"}, "The default policy needs at least one model"),
    ],
)
def test_a_policy_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    RoutingPolicyFactory(name="taken")
    assert said in complaints(admin_client, RoutingPolicy, **{"name": "everyday", "is_active": "on"} | fields)


def test_a_candidate_is_an_alias_of_a_known_group(admin_client: Client) -> None:
    policy = RoutingPolicyFactory(preferred=[ModelAliasFactory()])
    wrong = [("alias", "999999", "Select a valid choice"), ("group", "favourite", "Select a valid choice")]
    for field, value, said in [*wrong, ("alias", "", "This field is required")]:
        assert said in errors_of(submit(admin_client, change_url(policy), **{f"candidates__0__{field}": value}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slug": "Code Assistant"}, "Lower-case letters"),
        ({"slug": "taken"}, "already exists"),
        ({"slug": "auto"}, "let the policy decide"),
        ({"name": ""}, "This field is required"),
        ({"policy": ""}, "This field is required"),
        ({"policy": "999999"}, "Select a valid choice"),
        ({"temperature": "2.1"}, "less than or equal to 2"),
        ({"temperature": "-0.1"}, "greater than or equal to 0"),
        ({"temperature": "nan"}, "Enter a number"),
        ({"max_tokens": "0"}, "greater than or equal to 1"),
        ({"max_tokens": ""}, "This field is required"),
        ({"required_capabilities": ["mind_reading"]}, "mind_reading"),
    ],
)
def test_a_persona_is_refused_in_words(admin_client: Client, fields: dict[str, Any], said: str) -> None:
    PersonaFactory(slug="taken")
    wanted = {"slug": "analyst", "name": "Analyst", "policy": RoutingPolicyFactory().pk, "max_tokens": "100"}
    assert said in complaints(admin_client, Persona, **wanted | fields)


def test_a_persona_that_is_on_needs_a_policy_that_is_on(admin_client: Client) -> None:
    asleep = RoutingPolicyFactory(is_active=False)
    wanted = {"slug": "analyst", "name": "Analyst", "policy": asleep.pk, "max_tokens": "100"}
    assert "switched off" in complaints(admin_client, Persona, **wanted, is_active="on")
    answer = submit(admin_client, f"{list_url(Persona)}add/", **wanted, is_active="")
    assert answer.status_code == 302, errors_of(answer)
    persona = Persona.objects.get()
    chosen = {"action": "switch_on", "_selected_action": [persona.pk]}
    assert "switched off" in admin_client.post(list_url(Persona), chosen, follow=True).content.decode()
    persona.refresh_from_db()
    assert not persona.is_active
