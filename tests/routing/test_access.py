import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.http import Http404

from routing.access import access_team, can_issue_keys, teams_of
from routing.models import Team, TeamRole
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


def allowed(user: User, codename: str) -> User:
    """The user as it is after being given a permission (Django remembers the former ones)."""
    user.user_permissions.add(Permission.objects.get(codename=codename))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def teams() -> list[Team]:
    return [TeamFactory(slug="search"), TeamFactory(slug="checkout")]


def test_a_member_sees_the_own_teams_only(teams: list[Team]) -> None:
    user = MembershipFactory(team=teams[0]).user
    assert list(teams_of(user)) == [teams[0]]
    assert access_team(user, "search") == teams[0]


def test_another_team_looks_like_none(teams: list[Team]) -> None:
    user = MembershipFactory(team=teams[0]).user
    said = []
    for slug in ("checkout", "no-such-team"):
        with pytest.raises(Http404) as refused:
            access_team(user, slug)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_superusers_see_every_team(teams: list[Team]) -> None:
    assert set(teams_of(UserFactory(is_superuser=True, is_staff=True))) == set(teams)


def test_staff_see_every_team_only_with_the_permission_to_view_usage(teams: list[Team]) -> None:
    staff = UserFactory(is_staff=True)
    assert not teams_of(staff).exists()
    assert set(teams_of(allowed(staff, "view_usagerecord"))) == set(teams)


def test_the_permission_alone_is_not_enough_for_people_who_are_not_staff(teams: list[Team]) -> None:
    assert not teams_of(allowed(UserFactory(), "view_usagerecord")).exists()


def test_nobody_and_the_deactivated_see_nothing(teams: list[Team]) -> None:
    gone = UserFactory(is_active=False, is_superuser=True, is_staff=True)
    MembershipFactory(team=teams[0], user=gone, role=TeamRole.LEAD)
    for user in (AnonymousUser(), gone):
        assert not teams_of(user).exists()
        assert not can_issue_keys(user, teams[0])


def test_leads_issue_keys_of_their_team_and_of_no_other(teams: list[Team]) -> None:
    lead = MembershipFactory(team=teams[0], role=TeamRole.LEAD).user
    MembershipFactory(team=teams[1], user=lead, role=TeamRole.MEMBER)
    assert can_issue_keys(lead, teams[0])
    assert not can_issue_keys(lead, teams[1])


def test_staff_issue_keys_with_the_permission_to_add_them(teams: list[Team]) -> None:
    staff = UserFactory(is_staff=True)
    assert not can_issue_keys(staff, teams[0])
    assert can_issue_keys(allowed(staff, "add_virtualkey"), teams[0])
    assert not can_issue_keys(allowed(UserFactory(), "add_virtualkey"), teams[0])
    assert can_issue_keys(UserFactory(is_staff=True, is_superuser=True), teams[0])
