"""Virtual keys: staff work with those that the admin shows them, leads issue and revoke their teams', members look."""

from datetime import datetime
from typing import Any, cast

import django_filters
from django.core.exceptions import ValidationError as RuleError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from providers.selectors import rate_limit_of
from routerplatform.api.errors import Conflict
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import (
    RATE_LIMITS,
    IdsOfRows,
    ManagedSerializer,
    NamesField,
    Noun,
    limits_of,
)
from routerplatform.api.management.views import VERBS, Edited, Shown
from routerplatform.gateway.errors import Forbidden
from routing.access import can_issue_keys, teams_of, teams_with_keys_by
from routing.domain.config import Scope
from routing.models import KeyState, ModelAlias, Team, VirtualKey
from routing.services import IssuedKey, key_issue, key_limit_set, key_revoke


class VirtualKeySerializer(ManagedSerializer[VirtualKey]):
    object = Noun("key")
    team_name = serializers.CharField(source="team.name", read_only=True)
    hint = serializers.SerializerMethodField(help_text="What is safe to show of it.")
    scopes = NamesField([one.value for one in Scope], required=False, allow_empty=False)
    allowed_models = IdsOfRows(
        ModelAlias.objects.all(), required=False, help_text="Ids of aliases; empty for all models."
    )
    state = serializers.SerializerMethodField()

    class Meta:
        model = VirtualKey
        fixed = ("team",)
        read_only_fields = ("id", "is_playground", "revoked_at", "created_at")
        fields = (
            *("object", "id", "team", "team_name", "name", "hint", "state", "scopes", "allowed_models"),
            *(*RATE_LIMITS, "is_playground", "expires_at", "revoked_at", "created_at"),
        )

    def get_hint(self, key: VirtualKey) -> str:
        return f"rp_{key.prefix}_…"

    def get_state(self, key: VirtualKey) -> KeyState:
        return key.state_at(timezone.now())

    def check_row(self, row: VirtualKey, attrs: dict[str, Any]) -> None:
        ends: datetime | None = attrs.get("expires_at")
        if ends is not None and ends <= timezone.now() and ends != getattr(self.instance, "expires_at", None):
            raise RuleError({"expires_at": "This moment has passed. To stop a key at once, revoke it."})

    def save_related(self, row: VirtualKey, attrs: dict[str, Any]) -> None:
        if "allowed_models" in attrs:
            row.allowed_models.set(attrs["allowed_models"])


class IssuedKeySerializer(VirtualKeySerializer):
    """A key in the one answer that has its secret."""

    secret = serializers.CharField(read_only=True, help_text="What applications present. Told this once.")

    class Meta(VirtualKeySerializer.Meta):
        fields = (*VirtualKeySerializer.Meta.fields, "secret")


class VirtualKeyFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    team = IdFilter(field_name="team_id")
    is_playground = YesNoFilter()
    state = django_filters.ChoiceFilter(choices=KeyState.choices, method="in_state")

    class Meta:
        model = VirtualKey
        fields = ("team", "name", "prefix", "is_playground", "state")

    def in_state(self, keys: QuerySet[VirtualKey], name: str, value: str) -> QuerySet[VirtualKey]:
        expired = Q(expires_at__lte=timezone.now())
        match value:
            case KeyState.REVOKED:
                return keys.exclude(revoked_at=None)
            case KeyState.EXPIRED:
                return keys.filter(expired, revoked_at=None)
        usable = keys.filter(Q(expires_at=None) | ~expired, revoked_at=None)
        return usable.filter(team__is_active=value == KeyState.ACTIVE)


class VirtualKeyViews(Shown, Edited):
    """What an application presents. A key is revoked, never deleted: usage hangs on it."""

    model = VirtualKey
    tag = "Keys"
    queryset = VirtualKey.objects.select_related("team").prefetch_related("allowed_models")
    serializer_class = VirtualKeySerializer
    filterset_class = VirtualKeyFilters
    verbs = {**VERBS, "list": None, "retrieve": None, "create": None, "revoke": None}

    def get_queryset(self) -> QuerySet[VirtualKey]:
        keys = self.rows()
        return keys if self.may("view") else keys.filter(team__in=teams_of(self.person))

    @extend_schema(
        responses={201: IssuedKeySerializer},
        description="Issues a key. `secret` is in this one answer and nowhere else: only an HMAC of it is stored.",
        examples=[
            OpenApiExample(
                "For a chat bot", value={"team": 3, "name": "support bot", "scopes": ["chat"]}, request_only=True
            )
        ],
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            serializer = self.get_serializer(data=request.data)
            is_staff = self.may("add")
            if not is_staff:  # to whoever may not see a team, it does not exist
                cast(Any, serializer).fields["team"].queryset = teams_of(self.person)
            wanted = self.body(serializer)
            if not is_staff:
                self._require_lead(wanted["team"])
            issued = issue(cast(VirtualKeySerializer, serializer).checked, wanted, self.person)
        fresh = self.rows().get(pk=issued.key.pk)
        fresh.secret = issued.secret  # on this object only, for this answer
        told = IssuedKeySerializer(fresh, context=self.get_serializer_context())
        return Response(told.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, summary="Revoke a virtual key")
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: int) -> Response:
        """For good; requests with it are refused within two seconds. One that is revoked already stays so."""
        key = self.get_object()
        if not (can_issue_keys(self.person, key.team) or self.may("change", key)):
            raise Forbidden("Only the leads of a team, and staff who may change virtual keys, revoke its keys.")
        key_revoke(key=key, by=self.person)
        return self.told(key)

    def why_it_is_fixed(self, row: Any) -> str:
        return "A revoked key stays as it is. Issue another one."

    def _require_lead(self, team: Team) -> None:
        """:raises Forbidden, Conflict:"""
        if not teams_with_keys_by(self.person).filter(pk=team.pk).exists():
            raise Forbidden("Only the leads of a team issue its keys.")
        if not team.is_active:
            raise Conflict(f"The team {team} is switched off: its keys would be refused.")


def issue(row: VirtualKey, wanted: dict[str, Any], by: Any) -> IssuedKey:
    """The key that `row` describes, by the services."""
    issued = key_issue(
        team=row.team,
        name=row.name,
        by=by,
        scopes=row.scopes,
        expires_at=row.expires_at,
        allowed_models=wanted.get("allowed_models", ()),
    )
    limits = limits_of(wanted)
    limit = rate_limit_of(limits["rpm_limit"], limits["tpm_limit"], limits["max_parallel_requests"])
    if limit is not None:
        key_limit_set(key=issued.key, limit=limit)
    return issued
