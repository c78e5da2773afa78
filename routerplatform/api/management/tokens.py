"""Access tokens of whoever asks, to look at and to revoke. They are made by a person, on the page for it: a token must
not make another that outlives it."""

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.api.filters import YesNoFilter
from routerplatform.api.management.serializers import ManagedSerializer, Noun
from routerplatform.api.management.views import Shown
from routing.models import AccessToken
from routing.services.tokens import token_revoke


class AccessTokenSerializer(ManagedSerializer[AccessToken]):
    object = Noun("access_token")
    hint = serializers.SerializerMethodField(help_text="What is safe to show of it.")

    class Meta:
        model = AccessToken
        fields = (
            *("object", "id", "name", "hint", "is_read_only", "expires_at", "revoked_at", "last_used_at"),
            "created_at",
        )
        read_only_fields = fields

    def get_hint(self, token: AccessToken) -> str:
        return f"rt_{token.prefix}_…"


class AccessTokenFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_read_only = YesNoFilter()

    class Meta:
        model = AccessToken
        fields = ("name", "is_read_only")


class AccessTokenViews(Shown):
    """What your own programs present here."""

    model = AccessToken
    tag = "Access tokens"
    queryset = AccessToken.objects.all()
    serializer_class = AccessTokenSerializer
    filterset_class = AccessTokenFilters
    verbs = {"list": None, "retrieve": None, "revoke": None}

    def get_queryset(self) -> QuerySet[AccessToken]:
        return AccessToken.objects.filter(user=self.person.pk)

    @extend_schema(request=None, summary="Revoke an access token")
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: int) -> Response:
        """For good: the next request with it is refused."""
        token = self.get_object()
        token_revoke(token=token, by=self.person)
        return self.told(token)
