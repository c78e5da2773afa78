"""What applications may read about the platform: personas, providers, health."""

from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from providers.domain.types import Deployment
from providers.selectors import provider_health
from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView

# Anyone may ask: what exactly is wrong, database addresses among it, stands in the log.
PUBLIC_PROBLEM = "The configuration could not be refreshed; the log says why."


class PersonasView(GatewayView):
    @extend_schema(
        responses={200: schema.PersonaSerializer(many=True), **schema.ERRORS},
        summary="List personas",
        tags=["Catalogue"],
    )
    def get(self, request: Request) -> Response:
        snapshot, _ = self.caller(request)
        personas = sorted(snapshot.personas.values(), key=lambda persona: persona.slug)
        return Response(
            [
                {
                    "slug": persona.slug,
                    "name": persona.name,
                    "description": persona.description,
                    "policy": persona.policy.name,
                    "temperature": persona.defaults.temperature,
                    "max_tokens": persona.defaults.max_tokens,
                    "models": [candidate.alias.name for candidate in persona.policy.candidates],
                    "template": persona.template.label if persona.template else None,
                }
                for persona in personas
            ]
        )


class ProvidersView(GatewayView):
    @extend_schema(
        responses={200: schema.ProviderSerializer(many=True), **schema.ERRORS},
        summary="List providers",
        tags=["Catalogue"],
    )
    def get(self, request: Request) -> Response:
        snapshot, _ = self.caller(request)
        try:
            health = provider_health()
        except DatabaseError:  # the rest is in memory, and what is not known is called unknown
            health = {}
        by_provider: dict[str, list[Deployment]] = {}
        for deployment in sorted(snapshot.deployments.values(), key=lambda d: d.name):
            by_provider.setdefault(deployment.endpoint.name, []).append(deployment)
        return Response(
            [
                {
                    "name": name,
                    "kind": deployments[0].endpoint.kind,
                    "health": health.get(name, "unknown"),
                    "models": [_model(deployment) for deployment in deployments],
                }
                for name, deployments in by_provider.items()
            ]
        )


class HealthView(GatewayView):
    @extend_schema(
        responses={200: schema.HealthSerializer, 503: schema.HealthSerializer},
        summary="Health",
        tags=["Health"],
        auth=[],
    )
    def get(self, request: Request) -> Response:
        runtime = self.runtime(request)
        problem, config, ledger = runtime.problem(), runtime.config.status(), runtime.ledger.status()
        body = {
            "status": "unavailable" if problem else "ok",
            "problem": PUBLIC_PROBLEM if problem or config.problem else "",
            "config_revision": config.revision,
            "config_age_s": round(config.age_s, 1),
            "budgets_revision": ledger.budgets_revision,
            "unshipped_records": ledger.unshipped,
            "classifier": "failing" if runtime.situations.classifiers.plug_ins.problem else "ok",
        }
        return Response(body, status=503 if problem else 200)


def _model(deployment: Deployment) -> dict[str, Any]:
    price = deployment.price
    return {
        "deployment": deployment.name,
        "model": deployment.model,
        "capabilities": sorted(deployment.capabilities),
        "context_window": deployment.context_window,
        "max_output_tokens": deployment.max_output_tokens,
        "cost_tier": deployment.cost_tier,
        "input_usd_per_1m": _usd(price.input if price else None),
        "output_usd_per_1m": _usd(price.output if price else None),
    }


def _usd(rate_nano: int | None) -> float | None:
    return None if rate_nano is None else rate_nano / 1e9
