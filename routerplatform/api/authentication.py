"""Who asks the management API: the person behind an access token. Browsers that are signed in come by their session."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from routerplatform.api.errors import AccessTokenRefused
from routerplatform.doors.rest import credential
from routerplatform.gateway.errors import Forbidden
from routing.access import token_in_force
from routing.domain.keys import KeyKind
from routing.models import AccessToken
from routing.services.tokens import token_used

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AccessTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer rt_…`. The person is looked up each time: whoever is switched off is out at once.

    What does not begin so is left to the view: some answer virtual keys too.
    """

    def authenticate(self, request: Request) -> tuple[User, AccessToken] | None:
        """:raises AccessTokenRefused: what is presented is no token in force.
        :raises Forbidden: the token may only read.
        """
        presented = credential(request)
        if not presented.startswith(f"{KeyKind.PERSON}_"):
            return None
        now = timezone.now()
        token = token_in_force(presented, now=now)
        if token is None:
            raise AccessTokenRefused("This access token is unknown, revoked or expired, or its person is switched off.")
        if token.is_read_only and request.method not in SAFE:
            raise Forbidden(f"The access token “{token.name}” is read only. Make one that may change things.")
        token_used(token=token, now=now)
        return token.user, token


def foreign(presented: str) -> AccessTokenRefused:
    """Why something that does not begin as an access token opens nothing here."""
    if presented.startswith(f"{KeyKind.APPLICATION}_"):
        return AccessTokenRefused(
            "This is a virtual key: applications ask models with it. Here programs of people come in: send an "
            "access token (rt_…), which you make at /account/tokens/."
        )
    return AccessTokenRefused("This is no access token: one begins with rt_. You make yours at /account/tokens/.")


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document says it."""

    target_class = AccessTokenAuthentication
    name = "accessToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An access token of a person: rt_…"}
