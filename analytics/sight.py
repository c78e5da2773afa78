"""Whose figures a page may show, and which team it was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser, User

from routing.access import access_team, sees_every_team, teams_of
from routing.models import Team


@dataclass(frozen=True, slots=True)
class Sight:
    """`teams` are those to choose from; `team_ids` limits the selectors: None is everything there is."""

    teams: tuple[Team, ...]
    chosen: Team | None
    team_ids: tuple[int, ...] | None

    def slug_of(self, team_id: int) -> str:
        return next((team.slug for team in self.teams if team.pk == team_id), "")


def sight_of(user: User | AnonymousUser, query: Mapping[str, str]) -> Sight:
    """What `user` may see, narrowed to the team of `?team=<slug>`.

    :raises Http404: that team does not exist or is not theirs.
    """
    teams = tuple(teams_of(user).order_by("name"))
    if slug := query.get("team", ""):
        chosen = access_team(user, slug)
        return Sight(teams, chosen, (chosen.pk,))
    return Sight(teams, None, None if sees_every_team(user) else tuple(team.pk for team in teams))
