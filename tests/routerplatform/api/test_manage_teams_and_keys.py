"""Teams, their people and their keys: what staff, leads, members and strangers see and do."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from routing.domain.keys import key_digest
from routing.models import Membership, Team, TeamRole, VirtualKey
from tests.factories import MembershipFactory, ModelAliasFactory, TeamFactory, UserFactory, VirtualKeyFactory
from tests.routerplatform.api.manager import Manager, in_team, of, staff, superuser

pytestmark = pytest.mark.django_db


@pytest.fixture
def team() -> Team:
    made: Team = TeamFactory(name="Search", slug="search")
    return made


# --- teams and people -----------------------------------------------------------------------------------------------


def test_a_team_is_made_limited_switched_off_and_kept_while_keys_hang_on_it() -> None:
    manager = superuser()
    row = manager.post("teams", name="Search", slug="search", rpm_limit=60).json
    path = f"teams/{row['id']}"
    assert manager.post("teams", name="Search", slug="other").refusal == (400, "invalid_request", "name")
    assert manager.patch(path, is_active=False, rpm_limit=None).json["is_active"] is False
    assert manager.patch(path, created_at="2026-01-01T00:00:00Z").refusal == (400, "invalid_request", "created_at")
    key = VirtualKeyFactory(team_id=row["id"])
    kept = manager.delete(path)
    assert kept.refusal == (409, "conflict", None)
    assert "1 virtual key depends on it" in kept.error["message"]
    assert manager.post(f"{path}/purge-answers").json["cache_purged_at"] is not None
    key.delete()
    assert manager.delete(path).status == 204


@pytest.mark.parametrize("role", list(TeamRole))
def test_its_people_see_their_team_and_change_nothing_of_it(team: Team, role: TeamRole) -> None:
    other = MembershipFactory()
    person = in_team(role, team)
    assert person.get("teams").ids == [team.pk]
    assert person.get(f"teams/{other.team_id}").refusal == (404, "not_found", None)
    assert [row["team"] for row in person.get("memberships").json["data"]] == [team.pk]
    assert person.get(f"memberships/{other.pk}").status == 404
    for answer in (
        person.post("teams", name="x", slug="x"),
        person.patch(f"teams/{team.pk}", name="x"),
        person.delete(f"teams/{team.pk}"),
        person.post(f"teams/{team.pk}/purge-answers"),
        person.post("memberships", team=team.pk, user="root", role="lead"),
        person.patch(f"memberships/{Membership.objects.get(team=team).pk}", role="lead"),
    ):
        assert answer.refusal == (403, "permission_denied", None)


def test_people_are_put_into_teams_by_who_may_change_teams(team: Team) -> None:
    UserFactory(username="ada")
    person = staff("routing.add_membership", "routing.change_membership", "routing.view_team", "routing.change_team")
    made = person.post("memberships", team=team.pk, user="ada", role="member")
    assert made.status == 201
    path = f"memberships/{made.json['id']}"
    manager = superuser()
    assert manager.patch(path, role="lead").json["role"] == "lead"
    assert manager.patch(path, user="root").refusal == (400, "invalid_request", "user")
    assert manager.post("memberships", team=team.pk, user="ada").status == 400
    assert manager.post("memberships", team=team.pk, user="nobody").refusal == (400, "invalid_request", "user")
    assert manager.get("memberships?user=ada").ids == [made.json["id"]]
    assert Membership.history.filter(id=made.json["id"]).earliest().history_user.username == "ops"
    assert manager.delete(path).status == 204
    half = staff("routing.add_membership", username="half")
    assert half.post("memberships", team=team.pk, user="ada").status == 403


# --- issuing --------------------------------------------------------------------------------------------------------


def test_a_key_is_issued_with_all_that_it_may_and_told_once(team: Team) -> None:
    manager, alias = superuser(), ModelAliasFactory()
    ends = (timezone.now() + timedelta(days=30)).isoformat()
    made = manager.post(
        "keys",
        team=team.pk,
        name="bot",
        scopes=["chat", "usage"],
        allowed_models=[alias.pk],
        expires_at=ends,
        rpm_limit=9,
    )
    assert made.status == 201
    key, secret = VirtualKey.objects.get(), made.json["secret"]
    assert key.digest == key_digest(settings.KEY_PEPPER.encode(), secret)
    assert (str(key.created_by), key.rpm_limit, list(key.allowed_models.all())) == ("root", 9, [alias])
    assert made.json["hint"] == f"rp_{key.prefix}_…"
    for answer in (manager.get(f"keys/{key.pk}"), manager.get("keys"), manager.patch(f"keys/{key.pk}", name="b")):
        assert secret not in str(answer.json)
        assert "secret" not in str(answer.json)
        assert "digest" not in str(answer.json)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["fly"]}, "scopes.0"),
        ({"allowed_models": [999]}, "allowed_models.0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"secret": "rp_aaaaaaaa_chosen"}, "secret"),
        ({"digest": "x"}, "digest"),
        ({"prefix": "x"}, "prefix"),
        ({"is_playground": True}, "is_playground"),
        ({"tpm_limit": 0}, "tpm_limit"),
        ({"team": 999}, "team"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_field(team: Team, wrong: dict[str, Any], param: str) -> None:
    answer = superuser().post("keys", {"team": team.pk, "name": "bot", **wrong})
    assert answer.refusal == (400, "invalid_request", param)
    assert not VirtualKey.objects.exists()


def test_a_lead_issues_and_revokes_the_keys_of_their_team(team: Team) -> None:
    person = MembershipFactory(team=team, role=TeamRole.LEAD).user
    lead = of(person)
    made = lead.post("keys", team=team.pk, name="bot")
    assert made.status == 201
    assert made.json["scopes"] == ["chat", "models"]
    assert VirtualKey.objects.get().created_by == person
    path = f"keys/{made.json['id']}"
    assert lead.patch(path, scopes=["usage"]).refusal == (403, "permission_denied", None)
    revoked = lead.post(f"{path}/revoke")
    assert (revoked.json["state"], revoked.json["revoked_at"] is None) == ("revoked", False)
    latest = VirtualKey.history.latest()
    assert (latest.history_user, latest.revoked_by) == (person, person)
    again = lead.post(f"{path}/revoke")
    assert (again.status, again.json["revoked_at"]) == (200, revoked.json["revoked_at"])


def test_a_lead_of_one_team_knows_nothing_of_another(team: Team) -> None:
    lead, key = in_team(TeamRole.LEAD, team), VirtualKeyFactory()
    assert lead.post("keys", team=key.team_id, name="bot").refusal == (400, "invalid_request", "team")
    unknown = lead.post("keys", team=10**6, name="bot").error["message"]
    assert lead.post("keys", team=key.team_id, name="bot").error["message"] == unknown.replace(
        "1000000", str(key.team_id)
    )
    assert lead.get("keys").ids == []
    for path in (f"keys/{key.pk}", f"keys?team={key.team_id}"):
        answer = lead.get(path)
        assert answer.status == 404 or answer.ids == []
    assert lead.post(f"keys/{key.pk}/revoke").refusal == (404, "not_found", None)
    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_member_looks_and_does_nothing(team: Team) -> None:
    member, key = in_team(TeamRole.MEMBER, team), VirtualKeyFactory(team=team)
    assert member.get("keys").ids == [key.pk]
    assert member.post("keys", team=team.pk, name="bot").refusal == (403, "permission_denied", None)
    assert member.post(f"keys/{key.pk}/revoke").refusal == (403, "permission_denied", None)


def test_a_team_that_is_off_gets_no_keys_from_its_lead(team: Team) -> None:
    lead = in_team(TeamRole.LEAD, team)
    Team.objects.update(is_active=False)
    assert lead.post("keys", team=team.pk, name="bot").refusal == (409, "conflict", None)


# --- changing -------------------------------------------------------------------------------------------------------


def test_a_key_is_changed_until_it_is_revoked(team: Team) -> None:
    manager, alias = superuser(), ModelAliasFactory()
    key = VirtualKeyFactory(team=team)
    path = f"keys/{key.pk}"
    changed = manager.patch(path, name="other", scopes=["usage"], allowed_models=[alias.pk], max_parallel_requests=2)
    assert {name: changed.json[name] for name in ("name", "scopes", "allowed_models", "max_parallel_requests")} == {
        "name": "other", "scopes": ["usage"], "allowed_models": [alias.pk], "max_parallel_requests": 2,
    }  # fmt: skip
    assert VirtualKey.history.latest().history_user.username == "root"
    assert manager.patch(path, allowed_models=[]).json["allowed_models"] == []
    assert manager.patch(path, team=TeamFactory().pk).refusal == (400, "invalid_request", "team")
    manager.post(f"{path}/revoke")
    late = manager.patch(path, name="late")
    assert late.refusal == (409, "conflict", None)
    assert "revoked" in late.error["message"]
    assert manager.delete(path).status == 405


def test_an_expiry_that_has_passed_may_stay(team: Team) -> None:
    key = VirtualKeyFactory(team=team, expires_at=timezone.now() - timedelta(days=1))
    manager: Manager = superuser()
    row = manager.get(f"keys/{key.pk}").json
    assert row["state"] == "expired"
    assert manager.patch(f"keys/{key.pk}", name="x", expires_at=row["expires_at"]).status == 200
