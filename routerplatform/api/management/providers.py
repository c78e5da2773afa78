"""Providers and their keys. A key goes in and never comes out: its last four characters are all that is told of it."""

from typing import Any

import django_filters
from django.core.exceptions import ValidationError as RuleError
from rest_framework import serializers

from providers.models import Provider, ProviderKey
from providers.services import clean_secret, provider_key_add, provider_key_replace
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import LinesField, ManagedSerializer, Noun
from routerplatform.api.management.views import Managed


class ManagedProviderSerializer(ManagedSerializer[Provider]):
    object = Noun("provider")
    allowed_networks = LinesField(
        required=False, help_text="Private networks that may be called, for example 10.0.0.0/8."
    )

    class Meta:
        model = Provider
        fixed = ("name",)
        read_only_fields = ("id", "health", "health_note", "checked_at", "created_at")
        fields = (
            *("object", "id", "name", "label", "kind", "base_url", "region", "is_active"),
            *("timeout_s", "connect_timeout_s", "allowed_networks", "key_strategy"),
            *("health", "health_note", "checked_at", "created_at"),
        )


class ProviderFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    is_active = YesNoFilter()

    class Meta:
        model = Provider
        fields = ("name", "kind", "region", "health", "is_active")


class ProviderViews(Managed):
    """A vendor, a cloud, or a server of one's own."""

    model = Provider
    tag = "Providers"
    queryset = Provider.objects.all()
    serializer_class = ManagedProviderSerializer
    filterset_class = ProviderFilters


class ProviderKeySerializer(ManagedSerializer[ProviderKey]):
    object = Noun("provider_key")
    secret = serializers.CharField(
        write_only=True,
        required=False,
        max_length=10_000,
        style={"input_type": "password"},
        help_text="The key as the vendor shows it. Stored encrypted, never told again; another one replaces it.",
    )

    class Meta:
        model = ProviderKey
        fixed = ("provider",)
        read_only_fields = ("id", "last4", "created_at", "rotated_at")
        fields = ("object", "id", "provider", "label", "secret", "last4", "is_active", "created_at", "rotated_at")

    def check_row(self, row: ProviderKey, attrs: dict[str, Any]) -> None:
        secret = attrs.get("secret")
        if secret is None and self.instance is None:
            raise RuleError({"secret": "This field is required."})
        try:
            if secret is not None:
                clean_secret(secret)
        except RuleError as error:
            raise RuleError({"secret": error.messages}) from error

    def create(self, validated_data: dict[str, Any]) -> ProviderKey:
        row = self.checked
        return provider_key_add(
            provider=row.provider, label=row.label, secret=validated_data["secret"], is_active=row.is_active
        )

    def save_related(self, row: ProviderKey, attrs: dict[str, Any]) -> None:
        if "secret" in attrs:
            provider_key_replace(key=row, secret=attrs["secret"])


class ProviderKeyFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    provider = IdFilter(field_name="provider_id")
    is_active = YesNoFilter()

    class Meta:
        model = ProviderKey
        fields = ("provider", "label", "is_active")


class ProviderKeyViews(Managed):
    """A credential at a provider."""

    model = ProviderKey
    tag = "Provider keys"
    queryset = ProviderKey.objects.select_related("provider")
    serializer_class = ProviderKeySerializer
    filterset_class = ProviderKeyFilters
