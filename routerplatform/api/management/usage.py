"""Usage records: what each request was, took and cost. Never what was asked or answered: no record has prompts."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import django_filters
from django import forms
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.models import UsageRecord, UsageState
from analytics.selectors.adjustments import correction_nano, corrections_of
from analytics.selectors.requests import HEAVY_FIELDS, request_detail
from analytics.selectors.sums import FAILED, of_teams
from routerplatform.api.budgets import usd_text
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import Noun
from routerplatform.api.management.views import Shown
from routerplatform.api.pagination import TimePages
from routing.access import sees_every_team, teams_of

TOKENS = (
    *("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("output_tokens", "reasoning_tokens"),
)


class UsageSerializer(serializers.ModelSerializer[UsageRecord]):
    """Amounts are exact decimal USD as text."""

    object = Noun("usage")
    id = serializers.UUIDField(source="request_id", help_text="The request's id.")
    cost_usd = serializers.SerializerMethodField(help_text="As it was billed; null: the price was not known.")
    correction_usd = serializers.SerializerMethodField(
        help_text="What re-rating has added or taken since; null: nothing was corrected."
    )
    attempts = serializers.SerializerMethodField(help_text="Calls to vendors that it took.")

    class Meta:
        model = UsageRecord
        fields = (
            *("object", "id", "started_at", "finished_at", "state", "door", "http_status", "error_code", "is_stream"),
            *("team", "team_name", "key", "key_name", "key_prefix", "persona", "policy", "policy_version", "arm"),
            *("task_type", "rule", "tag", "requested_model", "provider", "deployment", "model", *TOKENS),
            *("usage_source", "cost_usd", "correction_usd", "cache", "attempts", "config_revision"),
            *("ttft_ms", "latency_ms", "overhead_ms"),
        )
        read_only_fields = fields

    def get_cost_usd(self, record: UsageRecord) -> str | None:
        return None if record.cost_nano is None else usd_text(record.cost_nano)

    def get_correction_usd(self, record: Any) -> str | None:
        return None if record.correction_nano is None else usd_text(record.correction_nano)

    def get_attempts(self, record: UsageRecord) -> int:
        return len(record.attempts)


class UsageDetailSerializer(UsageSerializer):
    """With every attempt, the price that it was billed at, and why this route."""

    attempts = serializers.ListField(child=serializers.DictField())  # type: ignore[assignment]  # all of them here
    price = serializers.DictField(allow_null=True)
    decision = serializers.DictField()

    class Meta:
        model = UsageRecord
        fields = (*UsageSerializer.Meta.fields, "price", "decision")
        read_only_fields = fields


class Moment(forms.DateTimeField):
    """ISO 8601; UTC where no zone is given."""

    default_error_messages = {"invalid": "It is a moment such as 2026-11-21T17:00:00Z."}

    def to_python(self, value: Any) -> datetime | None:
        found = super().to_python(value)
        try:
            return found and found.astimezone(UTC)
        except OverflowError:  # in UTC it would be before year 1 or after 9999
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None


class MomentFilter(django_filters.DateTimeFilter):  # type: ignore[misc]  # untyped
    field_class = Moment


class UsageFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    team = IdFilter(field_name="team_id")
    key = IdFilter(field_name="key_id")
    policy_version = IdFilter(field_name="policy_version")
    since = MomentFilter(field_name="started_at", lookup_expr="gte")
    until = MomentFilter(field_name="started_at", lookup_expr="lt")
    state = django_filters.ChoiceFilter(choices=UsageState.choices)
    error = django_filters.CharFilter(field_name="error_code")
    failed = YesNoFilter(method="by_failure")

    class Meta:
        model = UsageRecord
        fields = (
            *("team", "key", "persona", "policy", "policy_version", "provider", "deployment", "model", "door", "tag"),
            *("state", "error", "failed", "since", "until"),
        )

    def by_failure(self, records: QuerySet[UsageRecord], name: str, value: bool) -> QuerySet[UsageRecord]:
        return records.filter(FAILED) if value else records.exclude(FAILED)


class UsageViews(Shown):
    """The latest first. Staff who may view usage records see all teams', everybody else their own teams'."""

    model = UsageRecord
    tag = "Usage"
    queryset = UsageRecord.objects.all()
    serializer_class = UsageSerializer
    filterset_class = UsageFilters
    pagination_class = TimePages
    lookup_field = "pk"
    lookup_value_converter = "uuid"
    verbs = {"list": None, "retrieve": None}

    def get_queryset(self) -> QuerySet[UsageRecord]:
        listed = UsageRecord.objects.defer(*HEAVY_FIELDS).annotate(correction_nano=correction_nano())
        return of_teams(listed, self._team_ids())

    @extend_schema(
        responses=UsageDetailSerializer, parameters=[OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH)]
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        request_id: UUID = kwargs["pk"]
        record: Any = request_detail(request_id=request_id, team_ids=self._team_ids())
        if record is None:
            raise Http404
        record.correction_nano = corrections_of(request_ids=[record.pk]).get(record.pk)
        return Response(UsageDetailSerializer(record, context=self.get_serializer_context()).data)

    def _team_ids(self) -> tuple[int, ...] | None:
        """None: everything there is."""
        if sees_every_team(self.person):
            return None
        return tuple(teams_of(self.person).values_list("pk", flat=True))
