"""What can be called and what it costs: models, their deployments, prices."""

from typing import Any

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from providers.breaker_services import breaker_reset
from providers.models import CatalogueModel, Deployment, Price, PriceSource
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import RATE_LIMITS, ManagedSerializer, Noun, capabilities_field
from routerplatform.api.management.views import Managed


class CatalogueModelSerializer(ManagedSerializer[CatalogueModel]):
    object = Noun("model")
    capabilities = capabilities_field()

    class Meta:
        model = CatalogueModel
        read_only_fields = ("id",)
        fields = (
            *("object", "id", "name", "label", "vendor", "status", "replaced_by", "capabilities", "context_window"),
            *("max_output_tokens", "cost_tier", "strengths", "list_price_per_1k"),
        )


class CatalogueModelFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    class Meta:
        model = CatalogueModel
        fields = ("name", "vendor", "status", "cost_tier")


class CatalogueModelViews(Managed):
    """What a model is, whoever serves it."""

    model = CatalogueModel
    tag = "Models"
    queryset = CatalogueModel.objects.all()
    serializer_class = CatalogueModelSerializer
    filterset_class = CatalogueModelFilters


class DeploymentSerializer(ManagedSerializer[Deployment]):
    object = Noun("deployment")
    name = serializers.CharField(source="__str__", read_only=True, help_text="provider/model, as callers may say it.")
    model_name = serializers.CharField(source="model.name", read_only=True)

    class Meta:
        model = Deployment
        fixed = ("provider",)
        read_only_fields = ("id", "breaker_reset_at")
        fields = (
            *("object", "id", "name", "provider", "model", "model_name", "upstream_model", "is_active"),
            *("max_output_tokens", "expected_latency_ms", "wire", "breaker", "breaker_reset_at", *RATE_LIMITS),
        )


class DeploymentFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    provider = IdFilter(field_name="provider_id")
    model = IdFilter(field_name="model_id")
    is_active = YesNoFilter()

    class Meta:
        model = Deployment
        fields = ("provider", "model", "upstream_model", "is_active", "breaker")


class DeploymentViews(Managed):
    """A model at a provider: the unit that a route ends at."""

    model = Deployment
    tag = "Deployments"
    queryset = Deployment.objects.select_related("provider", "model")
    serializer_class = DeploymentSerializer
    filterset_class = DeploymentFilters

    @extend_schema(request=None, summary="Reset a circuit breaker")
    @action(detail=True, methods=["post"], url_path="reset-breaker")
    def reset_breaker(self, request: Request, pk: int) -> Response:
        """Its failures so far are forgotten, everywhere within two seconds."""
        row = self.get_object()
        breaker_reset(deployment=row, now=timezone.now())
        return self.told(row)


class PriceSerializer(ManagedSerializer[Price]):
    object = Noun("price")
    has_begun = serializers.SerializerMethodField(help_text="From then on it is neither changed nor deleted.")

    class Meta:
        model = Price
        read_only_fields = ("id", "source")
        fields = (
            *(
                "object",
                "id",
                "model",
                "deployment",
                "source",
                "effective_from",
                "has_begun",
                "input_usd",
                "output_usd",
            ),
            *("cache_read_usd", "cache_write_usd", "cache_write_1h_usd", "per_request_usd", "tiers"),
        )

    def get_has_begun(self, price: Price) -> bool:
        return price.effective_from <= timezone.now()


class PriceFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    model = IdFilter(field_name="model_id")
    deployment = IdFilter(field_name="deployment_id")
    source = django_filters.ChoiceFilter(choices=PriceSource.choices)

    class Meta:
        model = Price
        fields = ("model", "deployment", "source")


class PriceViews(Managed):
    """What a model or a deployment costs from a date on. One that has begun stays: add another one instead."""

    model = Price
    tag = "Prices"
    queryset = Price.objects.select_related("model", "deployment")
    serializer_class = PriceSerializer
    filterset_class = PriceFilters

    def why_it_is_fixed(self, row: Any) -> str:
        return "This price has begun and stays as it is. Add another one that begins now or later."

    why_it_is_kept = why_it_is_fixed
