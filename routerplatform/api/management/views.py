"""What the views of the management API have in common: who may, pages of lists, ETags, one shape of errors.

A view names its `model`, `serializer_class` and `queryset`; which of `Added`, `Edited` and `Removed` it has besides
`Shown` says what can be done with its rows.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from typing import Any, ClassVar, Final, cast

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as RuleError
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Model, ProtectedError, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from routerplatform.api.authentication import AccessTokenAuthentication
from routerplatform.api.errors import ChangedMeanwhile, Conflict, FieldsRefused
from routerplatform.api.filters import StrictFilters
from routerplatform.api.management.schema import ManagementSchema
from routerplatform.api.management.serializers import WHOLE, ManagedSerializer, said_by
from routerplatform.api.pagination import IdPages
from routerplatform.api.permissions import AsInTheAdmin, may
from routerplatform.doors.rest import AnyAccepted, GatewayView, request_id
from routerplatform.gateway.errors import (
    Forbidden,
    GatewayError,
    InternalError,
    InvalidRequest,
    Unavailable,
    UnknownAddress,
)

logger = logging.getLogger(__name__)
Verbs = dict[str, str | None]
VERBS: Final[Verbs] = {
    "list": "view",
    "retrieve": "view",
    "create": "add",
    "partial_update": "change",
    "destroy": "delete",
}
JSON_KEY: Final = {"sort_keys": True, "separators": (",", ":"), "default": str}


class BodyParser(JSONParser):
    """JSON is UTF-8; one that is nested deeper than any field here is refused like any other that cannot be read."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """:raises ParseError:"""
        try:
            return super().parse(stream, media_type, {**(parser_context or {}), "encoding": "utf-8"})
        except RecursionError:
            raise ParseError("It is nested too deeply.") from None


class OnlyJSON(AnyAccepted):
    """Whatever is accepted; `format` is a filter that there is not, like any other."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, str(first.media_type)


class ManagementView(GatewayView, GenericViewSet[Any]):
    """`verbs` says of each action what has to be allowed in the admin; None: the view decides by teams and people."""

    authentication_classes = (AccessTokenAuthentication, SessionAuthentication)  # type: ignore[assignment]
    permission_classes = (AsInTheAdmin,)  # type: ignore[assignment]
    parser_classes = (BodyParser,)
    renderer_classes = (JSONRenderer,)  # the framework's pages offer every row there is, in the lists of their forms
    content_negotiation_class = OnlyJSON
    pagination_class = IdPages
    filter_backends = (StrictFilters,)
    lookup_value_converter = "int"
    schema = ManagementSchema()
    model: ClassVar[type[Model]]
    tag: ClassVar[str]
    verbs: ClassVar[Verbs] = VERBS

    @property
    def person(self) -> User:
        """Whoever asks; nobody gets here who has not signed in."""
        return cast(User, self.request.user)

    def may(self, verb: str, row: Model | None = None) -> bool:
        return may(self.request, verb, self.model, row)

    def locked(self) -> Any:
        """The row of the address, held until the transaction ends, as it is now.

        :raises Http404: there is none, or this person may not see it: the two look alike.
        """
        row = self.get_object()
        self.model._base_manager.select_for_update(of=("self",)).order_by().filter(pk=row.pk).first()
        return get_object_or_404(self.get_queryset(), pk=row.pk)

    def rows(self) -> QuerySet[Any]:
        """Everything, with what a row is told with."""
        found: QuerySet[Any] = cast(Any, self).queryset.all()
        return found

    def body(self, serializer: Any) -> dict[str, Any]:
        """What was sent, checked by a serializer of it.

        :raises ValidationError: with what is wrong, by field.
        """
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def told(self, row: Any, status: int = status.HTTP_200_OK) -> Response:
        """The row as it is in the database now; to whoever has just written it, may they list such rows or not."""
        fresh = self.rows().get(pk=row.pk)
        serializer = self.get_serializer_class()(fresh, context=self.get_serializer_context())
        return Response(serializer.data, status=status, headers=etag_header(serializer))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        done = super().finalize_response(request, response, *args, **kwargs)
        done.headers.setdefault("cache-control", "no-store")
        done.headers.setdefault("x-request-id", request_id(self.request))
        return done

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(self._in_our_words(exc))

    def _in_our_words(self, exc: Exception) -> Exception:
        match exc:
            case Http404():
                return UnknownAddress(self.request.path)
            case PermissionDenied():
                return Forbidden(str(exc) or "You may not do this.")
            case RuleError():
                return FieldsRefused(flat(said_by(exc)))
            case ValidationError():
                return FieldsRefused(flat(exc.detail))
            case ParseError():
                return InvalidRequest(f"The body is not JSON: {exc.detail}")
            case DatabaseError():
                return _of_database(exc)
        return exc


class Shown(ListModelMixin, ManagementView):
    """Rows to look at."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(self.get_object())
        return Response(serializer.data, headers=etag_header(serializer))


class Added(ManagementView):
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            serializer = self.get_serializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            row = serializer.save()
            return self.told(row, status.HTTP_201_CREATED)


class Edited(ManagementView):
    """A change names the fields that are to change and leaves the others as they are."""

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            row = self.locked()
            if self.verbs["partial_update"] and not self.may("change", row):
                raise Conflict(self.why_it_is_fixed(row))
            serializer = self.get_serializer(row, data=request.data, partial=True)
            require_unchanged(request, serializer)
            serializer.is_valid(raise_exception=True)
            return self.told(serializer.save())

    def why_it_is_fixed(self, row: Any) -> str:
        """In words, of a row that is changed no more though its reader may change others."""
        return f"“{row}” stays as it is."


class Removed(ManagementView):
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            row = self.locked()
            if not self.may("delete", row):
                raise Conflict(self.why_it_is_kept(row))
            require_unchanged(request, self.get_serializer(row))
            page: Any = admin.site.get_model_admin(self.model) if admin.site.is_registered(self.model) else None
            if page is not None and (obstacles := page.why_it_stays(row)):
                raise Conflict(obstacles)
            row.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def why_it_is_kept(self, row: Any) -> str:
        """In words, of a row that is not deleted though its reader may delete others."""
        return f"“{row}” stays."


class Managed(Shown, Added, Edited, Removed):
    """Rows with which everything can be done."""


# --- ETags ----------------------------------------------------------------------------------------------------------


def etag_of(serializer: Any) -> str:
    """Of what can be written to a row: what changes by itself, such as a health, makes no other one of it."""
    told = serializer.to_representation(serializer.instance)
    written = {name: told[name] for name in serializer.writable()}
    text = json.dumps([serializer.instance.pk, written], **cast(Any, JSON_KEY))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def etag_header(serializer: Any) -> dict[str, str]:
    return {"etag": etag_of(serializer)} if isinstance(serializer, ManagedSerializer) else {}


def require_unchanged(request: Request, serializer: Any) -> None:
    """:raises ChangedMeanwhile: the request is for another state of the row than it has."""
    given = request.headers.get("if-match", "").split(",")
    wanted = [
        one.strip().removeprefix("W/") for one in given if one.strip()
    ]  # proxies that compress make it a weak one
    if wanted and "*" not in wanted and etag_of(serializer) not in wanted:
        raise ChangedMeanwhile


# --- errors ---------------------------------------------------------------------------------------------------------


def flat(detail: Any, path: str = "") -> list[tuple[str | None, str]]:
    """(field, sentence) of nested complaints; the third of a list is `deployments.2`. A sentence names its field, and
    can be read alone."""
    if isinstance(detail, dict):
        return [found for name, value in detail.items() for found in flat(value, _inside(path, str(name)))]
    found: list[tuple[str | None, str]] = []
    for number, one in enumerate(detail if isinstance(detail, list) else [detail]):
        if isinstance(one, dict | list):
            found += flat(one, _inside(path, str(number))) if one else []
        else:
            found.append((path or None, f"{path}: {one}" if path else str(one)))
    return found


def _of_database(error: DatabaseError) -> GatewayError:
    match error:
        case ProtectedError():
            return Conflict(str(error.args[0]))
        case IntegrityError():
            return Conflict("Somebody else has just written the same. Read again what is there, then try again.")
        case DataError():
            return InvalidRequest("The database does not take this: a value is too large or too long for its column.")
    logger.error("The database failed on a request to manage", exc_info=error)
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable("The database does not answer. Try again in a moment.", retry_after_s=2)
    return InternalError()


def _inside(path: str, name: str) -> str:
    name = "" if name == WHOLE else name[:60]
    return f"{path}.{name}" if path and name else path or name
