"""Which prompt templates there are to be named, and what they want filled in."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView
from routing.domain.templates import PromptTemplate, TemplateVersion


class VariableSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    required = serializers.BooleanField(  # type: ignore[assignment]  # declared fields do not stay attributes
        help_text="Otherwise its default stands in."
    )
    max_length = serializers.IntegerField(help_text="Characters.")


class TemplateSerializer(serializers.Serializer[Any]):
    """The version in force; its texts are not told."""

    name = serializers.CharField(help_text="What is sent as `template`.")
    description = serializers.CharField()
    version = serializers.IntegerField(allow_null=True, help_text="Null: none is in force yet.")
    versions = serializers.ListField(child=serializers.IntegerField(), help_text="All that “name@version” may say.")
    messages = serializers.IntegerField(help_text="How many go before the caller's own; 0: a system text alone.")
    variables = VariableSerializer(many=True)


class TemplatesView(GatewayView):
    @extend_schema(
        responses={200: TemplateSerializer(many=True), **schema.ERRORS},
        summary="List prompt templates",
        tags=["Catalogue"],
    )
    def get(self, request: Request) -> Response:
        snapshot, _ = self.caller(request)
        return Response([_told(one) for one in sorted(snapshot.templates.values(), key=lambda one: one.name)])


def _told(template: PromptTemplate) -> dict[str, Any]:
    current: TemplateVersion | None = template.versions.get(template.current)
    return {
        "name": template.name,
        "description": template.description,
        "version": current.number if current else None,
        "versions": sorted(template.versions),
        "messages": len(current.messages) if current else 0,
        "variables": [
            {
                "name": one.name,
                "description": one.description,
                "required": one.default is None,
                "max_length": one.max_length,
            }
            for one in (current.variables.values() if current else ())
        ],
    }
