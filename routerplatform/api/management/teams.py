"""Teams and the people in them. Staff see what the admin shows them; everybody else sees the teams that they are in."""

from typing import Any

import django_filters
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import RATE_LIMITS, ManagedSerializer, NamedRow, Noun
from routerplatform.api.management.views import VERBS, Managed
from routerplatform.api.permissions import may
from routing.access import teams_of
from routing.models import Membership, Team
from routing.services import kept_answers_purge

SEEN_BY_MEMBERS = {**VERBS, "list": None, "retrieve": None}


class TeamSerializer(ManagedSerializer[Team]):
    object = Noun("team")

    class Meta:
        model = Team
        read_only_fields = ("id", "created_at", "cache_purged_at")
        fields = ("object", "id", "name", "slug", "is_active", *RATE_LIMITS, "created_at", "cache_purged_at")


class TeamFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_active = YesNoFilter()

    class Meta:
        model = Team
        fields = ("name", "slug", "is_active")


class TeamViews(Managed):
    """Who pays: keys, budgets and spend hang on a team."""

    model = Team
    tag = "Teams"
    queryset = Team.objects.all()
    serializer_class = TeamSerializer
    filterset_class = TeamFilters
    verbs = SEEN_BY_MEMBERS

    def get_queryset(self) -> QuerySet[Team]:
        return Team.objects.all() if self.may("view") else teams_of(self.person)

    @extend_schema(request=None, summary="Forget the kept answers of a team")
    @action(detail=True, methods=["post"], url_path="purge-answers")
    def purge_answers(self, request: Request, pk: int) -> Response:
        """Equal requests are asked anew from now on; gateways know within two seconds."""
        team = self.get_object()
        kept_answers_purge(team=team, now=timezone.now())
        return self.told(team)


class MembershipSerializer(ManagedSerializer[Membership]):
    object = Noun("membership")
    user = NamedRow(slug_field="username", queryset=User.objects.all(), help_text="The person's user name.")
    team_name = serializers.CharField(source="team.name", read_only=True)

    class Meta:
        model = Membership
        fixed = ("team", "user")
        read_only_fields = ("id",)
        fields = ("object", "id", "team", "team_name", "user", "role")


class MembershipFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    team = IdFilter(field_name="team_id")
    user = django_filters.CharFilter(field_name="user__username")

    class Meta:
        model = Membership
        fields = ("team", "user", "role")


class MembershipViews(Managed):
    """A person in a team."""

    model = Membership
    tag = "Memberships"
    queryset = Membership.objects.select_related("team", "user")
    serializer_class = MembershipSerializer
    filterset_class = MembershipFilters
    verbs = SEEN_BY_MEMBERS

    def get_queryset(self) -> QuerySet[Membership]:
        rows = self.rows()
        return rows if self.may("view") else rows.filter(team__in=teams_of(self.person))

    def may(self, verb: str, row: Any = None) -> bool:
        """In the admin people are put into teams on the page of the team."""
        on_its_page = "view" if verb == "view" else "change"
        return super().may(verb, row) and may(self.request, on_its_page, Team)
