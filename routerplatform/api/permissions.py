"""Who may do what by the management API: whoever may do it on the pages of the admin, by the very same rules."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from routerplatform.api.authentication import foreign
from routerplatform.api.errors import NotSignedIn
from routerplatform.doors.rest import credential
from routerplatform.gateway.errors import Forbidden


class AsInTheAdmin(BasePermission):
    """Asks for what `view.verbs` says of the action; None where the view itself looks at teams and people. A method
    that is no action of the view is refused after this, for everybody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """:raises NotSignedIn, AccessTokenRefused, Forbidden: the sentence names the permission that is missing."""
        presented = credential(request)
        if presented and request.auth is None:
            raise foreign(presented)
        if not request.user.is_authenticated:
            raise NotSignedIn
        verb = view.verbs.get(view.action, "change")
        if view.action is not None and verb is not None and not view.may(verb):
            meta = view.model._meta
            raise Forbidden(
                f"You may not {verb} {meta.verbose_name_plural}: that takes an account for the admin and the "
                f"permission {meta.app_label}.{verb}_{meta.model_name}."
            )
        return True


def may(request: Request, verb: str, model: type[Model], row: Model | None = None) -> bool:
    """Whether the model's page in the admin would let this person do it; without such a page, whether they have the
    model's permission. `verb` is view, add, change or delete."""
    inner: HttpRequest = request._request
    if not admin.site.has_permission(inner):
        return False
    if not admin.site.is_registered(model):
        return inner.user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}")
    page = admin.site.get_model_admin(model)
    allowed = getattr(page, f"has_{verb}_permission")
    return bool(allowed(inner) if verb == "add" else allowed(inner, row))
