"""Policies and what they said. Their rules change by drafts alone, so that four eyes are four eyes here too."""

from typing import Any

import django_filters
from django.core.exceptions import ValidationError as RuleError
from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.api.errors import FieldsRefused, told_as_conflict
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.documents import document_in_full
from routerplatform.api.management.serializers import ManagedSerializer, Noun, StrictSerializer, Username
from routerplatform.api.management.views import VERBS, Managed, Shown
from routerplatform.api.permissions import may
from routerplatform.gateway.errors import Forbidden
from routing.domain.documents import ConfigError, document_from_json
from routing.models import DraftCandidate, PolicyCandidate, PolicyVersion, RoutingPolicy
from routing.policy_access import may_review
from routing.selectors import policy_document
from routing.services import default_policy_set
from routing.services.rollouts import policy_edited, version_rollback

CANDIDATES = Prefetch("candidates", queryset=PolicyCandidate.objects.select_related("alias"))
DRAFTED = Prefetch("candidates", queryset=DraftCandidate.objects.select_related("alias"))
RULES_HELP = "The rules, money in nano-USD. What a request leaves out is as it usually is."


class Document(serializers.DictField):
    """The rules of a policy or a draft, its candidates loaded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"help_text": RULES_HELP, **options})

    def get_attribute(self, instance: Any) -> dict[str, object]:
        return document_in_full(policy_document(instance, instance.candidates.all()))

    def to_representation(self, value: Any) -> Any:
        return value

    def to_internal_value(self, data: Any) -> Any:
        return data


class RoutingPolicySerializer(ManagedSerializer[RoutingPolicy]):
    object = Noun("policy")
    document = Document(read_only=True)

    class Meta:
        model = RoutingPolicy
        read_only_fields = ("id", "is_default", "version")
        fields = ("object", "id", "name", "description", "is_active", "is_default", "version", "document")

    def check_row(self, row: RoutingPolicy, attrs: dict[str, Any]) -> None:
        if row.is_default and not row.is_active:
            raise RuleError({"is_active": "The default policy stays on. Make another policy the default first."})

    def create(self, validated_data: dict[str, Any]) -> RoutingPolicy:
        """Its rules are the usual ones, without models, until a draft of it is published."""
        row = super().create(validated_data)
        policy_edited(policy=row, by=self.context["request"].user, note="Created")
        return row


class RoutingPolicyFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_active = YesNoFilter()
    is_default = YesNoFilter()

    class Meta:
        model = RoutingPolicy
        fields = ("name", "is_active", "is_default", "strategy", "task_type")


class RollBackSerializer(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Its number.")


class RoutingPolicyViews(Managed):
    """Which models may serve, in which order, and within which limits. The rules are changed by drafts."""

    model = RoutingPolicy
    tag = "Policies"
    queryset = RoutingPolicy.objects.prefetch_related(CANDIDATES)
    serializer_class = RoutingPolicySerializer
    filterset_class = RoutingPolicyFilters
    verbs = {**VERBS, "roll_back": "view"}

    @extend_schema(request=None, summary="Make a policy the default")
    @action(detail=True, methods=["post"], url_path="make-default")
    def make_default(self, request: Request, pk: int) -> Response:
        """It serves “auto” from now on, and the former default is an ordinary policy."""
        policy = self.get_object()
        with told_as_conflict():
            default_policy_set(policy=policy)
        return self.told(policy)

    @extend_schema(
        request=RollBackSerializer,
        summary="Roll a policy back",
        examples=[OpenApiExample("To version 3", value={"version": 3}, request_only=True)],
    )
    @action(detail=True, methods=["post"], url_path="roll-back")
    def roll_back(self, request: Request, pk: int) -> Response:
        """What an older version said is put into force at once, as a new version. For who may approve changes."""
        policy = self.get_object()
        if not may_review(self.person):
            raise Forbidden("Only who may approve policy changes rolls a policy back.")
        number: int = self.body(RollBackSerializer(data=request.data))["version"]
        if not policy.versions.filter(number=number).exists():
            raise FieldsRefused([("version", f"{policy} has no version {number}.")])
        with told_as_conflict():
            version_rollback(policy=policy, number=number, by=self.person)
        return self.told(policy)


class PolicyVersionSerializer(ManagedSerializer[PolicyVersion]):
    object = Noun("policy_version")
    author = Username()
    approver = Username()
    document = serializers.SerializerMethodField(help_text=RULES_HELP)

    class Meta:
        model = PolicyVersion
        fields = ("object", "id", "policy", "number", "note", "draft", "author", "approver", "published_at", "document")
        read_only_fields = fields

    def get_document(self, version: PolicyVersion) -> dict[str, Any]:
        """As it was kept, where this release cannot read it."""
        try:
            return document_in_full(document_from_json(version.document))
        except ConfigError:
            return dict(version.document)


class PolicyVersionFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    policy = IdFilter(field_name="policy_id")
    number = IdFilter(field_name="number")

    class Meta:
        model = PolicyVersion
        fields = ("policy", "number")


class PolicyVersionViews(Shown):
    """What a policy said once it was published: never edited, never deleted."""

    model = PolicyVersion
    tag = "Policy versions"
    queryset = PolicyVersion.objects.select_related("author", "approver")
    serializer_class = PolicyVersionSerializer
    filterset_class = PolicyVersionFilters

    def may(self, verb: str, row: Any = None) -> bool:
        return may(self.request, verb, RoutingPolicy)
