"""Who may see which team, and who may issue its keys. Every page and API that shows a team's data asks here."""

from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.validators import slug_re
from django.db.models import Q, QuerySet
from django.http import Http404

from routing.domain.keys import key_digest
from routing.models import AccessToken, Team, TeamRole, VirtualKey

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


def access_key(user: User | AnonymousUser, key_id: int) -> VirtualKey:
    """The key with this id, its team and people loaded.

    :raises Http404: there is none, or it is of a team that `user` may not see: the two look alike.
    """
    keys = VirtualKey.objects.select_related("team", "created_by", "revoked_by")
    try:
        return keys.get(pk=key_id, team__in=teams_of(user))
    except VirtualKey.DoesNotExist:
        raise Http404("No such key.") from None


def teams_with_keys_by(user: User | AnonymousUser) -> QuerySet[Team]:
    """The teams whose keys `user` may issue and revoke: those they lead; all for staff who may add keys."""
    if not user.is_authenticated or not user.is_active:
        return Team.objects.none()
    if user.is_superuser or (user.is_staff and user.has_perm("routing.add_virtualkey")):
        return Team.objects.all()
    return Team.objects.filter(memberships__user=user, memberships__role=TeamRole.LEAD)


def can_issue_keys(user: User | AnonymousUser, team: Team) -> bool:
    """Whether `user` may issue and revoke keys of `team`."""
    return teams_with_keys_by(user).filter(pk=team.pk).exists()


def token_in_force(text: str, *, now: datetime) -> AccessToken | None:
    """The access token that `text` is, its person loaded; None of one that is unknown, revoked, expired, or of somebody
    who is not active any more."""
    tokens = AccessToken.objects.select_related("user").filter(Q(expires_at=None) | Q(expires_at__gt=now))
    digest = key_digest(settings.KEY_PEPPER.encode(), text)
    return tokens.filter(digest=digest, revoked_at=None, user__is_active=True).first()
