"""The names that callers may send and what stands behind them: model aliases, personas, rules."""

from typing import Any

import django_filters
from django.db.models import Max, Prefetch
from rest_framework import serializers

from providers.models import Deployment
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import (
    RATE_LIMITS,
    IdsOfRows,
    ManagedSerializer,
    NamedRow,
    Noun,
    capabilities_field,
)
from routerplatform.api.management.views import Managed
from routerplatform.gateway.errors import Forbidden
from routing.models import AliasTarget, ModelAlias, Persona, PromptTemplate, RoutingRule
from routing.services.aliases import alias_deployments_set

OF_TARGETS = tuple(f"routing.{verb}_aliastarget" for verb in ("add", "change", "delete"))
IN_ORDER = Prefetch("targets", queryset=AliasTarget.objects.select_related("deployment__provider"))


class Targets(IdsOfRows):
    """Ids of deployments, in the order of trying."""

    def get_attribute(self, instance: ModelAlias) -> list[int]:
        return [target.deployment_id for target in instance.targets.all()]


class ModelAliasSerializer(ManagedSerializer[ModelAlias]):
    object = Noun("alias")
    deployments = Targets(
        Deployment.objects.all(),
        required=False,
        help_text="Ids, in the order of trying: the first that fits a request serves it.",
    )

    class Meta:
        model = ModelAlias
        read_only_fields = ("id",)
        fields = ("object", "id", "name", "description", "is_active", "deployments", *RATE_LIMITS)

    def save_related(self, row: ModelAlias, attrs: dict[str, Any]) -> None:
        """:raises Forbidden: in the admin the rows below an alias take permissions of their own."""
        if "deployments" in attrs:
            missing = [one for one in OF_TARGETS if not self.context["request"].user.has_perm(one)]
            if missing:
                raise Forbidden(f"You may not change what answers to an alias: that takes {', '.join(missing)}.")
            alias_deployments_set(alias=row, deployments=attrs["deployments"])


class ModelAliasFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_active = YesNoFilter()
    deployment = IdFilter(field_name="targets__deployment_id")

    class Meta:
        model = ModelAlias
        fields = ("name", "is_active", "deployment")


class ModelAliasViews(Managed):
    """A model name that callers may send, and the deployments that answer to it."""

    model = ModelAlias
    tag = "Aliases"
    queryset = ModelAlias.objects.prefetch_related(IN_ORDER)
    serializer_class = ModelAliasSerializer
    filterset_class = ModelAliasFilters


class ManagedPersonaSerializer(ManagedSerializer[Persona]):
    object = Noun("persona")
    required_capabilities = capabilities_field()
    policy_name = serializers.CharField(source="policy.name", read_only=True)
    template = NamedRow(
        slug_field="name",
        queryset=PromptTemplate.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of a prompt template; its system text follows `system_prompt`.",
    )

    class Meta:
        model = Persona
        read_only_fields = ("id",)
        fields = (
            *("object", "id", "slug", "name", "description", "system_prompt", "template", "template_version"),
            *("policy", "policy_name", "temperature", "max_tokens", "required_capabilities"),
            "is_active",
        )


class PersonaFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    policy = IdFilter(field_name="policy_id")
    is_active = YesNoFilter()

    class Meta:
        model = Persona
        fields = ("slug", "policy", "is_active")


class PersonaViews(Managed):
    """A role that an application asks for by name."""

    model = Persona
    tag = "Personas"
    queryset = Persona.objects.select_related("policy", "template")
    serializer_class = ManagedPersonaSerializer
    filterset_class = PersonaFilters


class RoutingRuleSerializer(ManagedSerializer[RoutingRule]):
    object = Noun("rule")

    class Meta:
        model = RoutingRule
        read_only_fields = ("id",)
        fields = (
            *("object", "id", "name", "position", "is_active", "subject", "header", "match", "pattern"),
            *("outcome", "task_type", "tier", "alias"),
        )

    def create(self, validated_data: dict[str, Any]) -> RoutingRule:
        """A new rule goes to the end, as on its page, unless it says where."""
        if "position" not in validated_data:
            last = RoutingRule.objects.aggregate(last=Max("position"))["last"]
            self.checked.position = 0 if last is None else last + 1
        return super().create(validated_data)


class RoutingRuleFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_active = YesNoFilter()
    alias = IdFilter(field_name="alias_id")

    class Meta:
        model = RoutingRule
        fields = ("name", "is_active", "subject", "outcome", "alias")


class RoutingRuleViews(Managed):
    """If this, then that: what operators know better than any classifier."""

    model = RoutingRule
    tag = "Rules"
    queryset = RoutingRule.objects.all()
    serializer_class = RoutingRuleSerializer
    filterset_class = RoutingRuleFilters
