"""The platform's own pages beside the dashboards: signing in and out, and the playground."""

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django.views.generic import RedirectView

from routerplatform.gateway.page_tokens import LIFETIME_S, PageTokens
from routing.access import access_team, teams_of
from routing.models import Persona
from routing.selectors import persona_variables
from routing.services import playground_key_for


@require_GET
@never_cache
@login_required
def playground(request: HttpRequest) -> HttpResponse:
    """The chat page; all else happens over the WebSocket."""
    personas = list(Persona.objects.filter(is_active=True).order_by("name"))
    shown = ("slug", "name", "description", "system_prompt", "temperature", "max_tokens")
    variables = persona_variables()
    context: dict[str, Any] = {
        "teams": teams_of(request.user).filter(is_active=True).order_by("name"),
        "personas": personas,
        "personas_data": [
            {name: getattr(persona, name) for name in shown} | {"variables": variables.get(persona.slug, [])}
            for persona in personas
        ],
    }
    return render(request, "playground/playground.html", context)


@require_POST
def playground_token(request: HttpRequest) -> JsonResponse:
    """`{"team": slug}` -> `{"token", "expires_at"}`: the WebSocket's password for the team's playground key.

    401 when signed out, 400 when the body is not that, 404 when the person may not see the team.
    """
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Sign in again."}, status=401)
    slug = _asked_team(request.body)
    if slug is None:
        return JsonResponse({"detail": "Send a JSON object with the team's slug in “team”."}, status=400)
    team = access_team(request.user, slug)
    key = playground_key_for(team=team, by=request.user)
    expires_at = timezone.now() + timedelta(seconds=LIFETIME_S)
    token = PageTokens().issue(key_id=key.pk, user_id=request.user.pk)
    return JsonResponse({"token": token, "expires_at": expires_at.isoformat()})


def _asked_team(body: bytes) -> str | None:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or nested to no end
        return None
    slug = asked.get("team") if isinstance(asked, dict) else None
    return slug if isinstance(slug, str) else None


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="analytics:spend"), name="home"),
    path("login/", auth.LoginView.as_view(template_name="login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("playground/", playground, name="playground"),
    path("playground/token/", playground_token, name="playground-token"),
]
