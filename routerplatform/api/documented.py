"""What plain ASGI code answers, described for the OpenAPI document: no address leads to these views."""

from collections.abc import Callable
from typing import Any, Final

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from routerplatform.doors import schema

Endpoint = tuple[str, str, str, Callable[..., Any]]  # path, path as a pattern, method, view


def _described(**told: Any) -> type[APIView]:
    class Described(APIView):
        permission_classes = (AllowAny,)

        @extend_schema(tags=["Health"], **told)
        def get(self, request: Request) -> None:
            """Never called: `routerplatform.application` has answered by then."""

    return Described


DESCRIBED: Final[dict[str, type[APIView]]] = {
    "/v1/health": _described(
        operation_id="gateway_health",
        responses={200: schema.GatewayHealthSerializer, 503: schema.GatewayHealthSerializer},
        summary="Gateway health",
        description="Whether this gateway serves, and by which configuration. Needs no key.",
        auth=[],
    ),
    "/v1/providers/status": _described(
        operation_id="providers_status",
        responses={200: schema.ProviderStatusListSerializer, 401: schema.ErrorSerializer, 403: schema.ErrorSerializer},
        summary="Provider status",
        description="Circuit breakers and resting keys of every provider, as this gateway goes by them. A key of any "
        "scope will do.",
    ),
    "/health/live": _described(
        operation_id="health_live",
        responses={200: schema.ProbeSerializer},
        summary="Liveness",
        description="The process runs.",
        auth=[],
    ),
    "/health/ready": _described(
        operation_id="health_ready",
        responses={200: schema.ProbeSerializer, 503: schema.ProbeSerializer},
        summary="Readiness",
        description="The gateway can serve. Asks neither the database nor Redis.",
        auth=[],
    ),
}


def with_described(endpoints: list[Endpoint]) -> list[Endpoint]:
    """For drf-spectacular, before it looks at the views. `/chat` is `/chat/` once more."""
    own = [(path, path, "GET", view.as_view()) for path, view in DESCRIBED.items()]
    return [one for one in endpoints if one[0] != "/chat"] + own
