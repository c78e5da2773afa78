"""Who may see which team, and who may issue its keys. Every page and API that shows a team's data asks here."""

from django.contrib.auth.models import AnonymousUser, User
from django.core.validators import slug_re
from django.db.models import QuerySet
from django.http import Http404

from routing.models import Membership, Team, TeamRole

SEES_EVERYTHING = "analytics.view_usagerecord"


def teams_of(user: User | AnonymousUser) -> QuerySet[Team]:
    """The teams whose spend and requests `user` may see: all for staff who may view usage, else one's own."""
    if sees_every_team(user):
        return Team.objects.all()
    if not user.is_authenticated or not user.is_active:
        return Team.objects.none()
    return Team.objects.filter(memberships__user=user)


def sees_every_team(user: User | AnonymousUser) -> bool:
    """Superusers, and staff with the permission to view usage records."""
    return user.is_active and user.is_staff and user.has_perm(SEES_EVERYTHING)


def access_team(user: User | AnonymousUser, slug: str) -> Team:
    """The team called `slug`.

    :raises Http404: there is none, or `user` may not see it: the two look alike.
    """
    if not slug_re.fullmatch(slug):  # a database refuses some of what is no slug: NUL, half a surrogate pair
        raise Http404("No such team.")
    try:
        return teams_of(user).get(slug=slug)
    except Team.DoesNotExist:
        raise Http404("No such team.") from None


def can_issue_keys(user: User | AnonymousUser, team: Team) -> bool:
    """Whether `user` may issue and revoke keys of `team`: its leads, and staff with the permission to add keys."""
    if not user.is_authenticated or not user.is_active:
        return False
    if user.is_superuser or (user.is_staff and user.has_perm("routing.add_virtualkey")):
        return True
    return Membership.objects.filter(team=team, user=user, role=TeamRole.LEAD).exists()
