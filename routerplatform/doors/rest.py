"""What the addresses that Django answers have in common: who asks, errors in one shape, and asking a model.

The slow door (DRF), documented in OpenAPI: everything it does, the pipeline does.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar, cast

from asgiref.sync import async_to_sync
from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.headers import Headers, bill_headers, error_headers, route_headers
from routerplatform.doors.hints import hints_of
from routerplatform.doors.idempotency import tell_whole
from routerplatform.doors.relay import Framing, NativeEvents, Relay, RelayResponse
from routerplatform.gateway.errors import (
    BodyTooLarge,
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    UnsupportedMediaType,
)
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.response_cache import HEADER as CACHE_HEADER
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Opened
from routing.domain.config import Caller, ConfigSnapshot, Scope

RUNTIME, REQUEST_ID, LIFETIME = "router.runtime", "router.request_id", "router.lifetime"
Answer = TypeVar("Answer", bound=HttpResponseBase)
Hints = dict[str, str]


class AnyAccepted(DefaultContentNegotiation):
    """JSON where nothing that a caller accepts is there: a client of streams accepts `text/event-stream` only."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        try:
            renderer, media_type = super().select_renderer(request, renderers, format_suffix)
        except exceptions.NotAcceptable:
            first = next(iter(renderers))
            return first, str(first.media_type)
        return renderer, media_type


class GatewayView(APIView):
    """A view that answers with the gateway's own errors and authenticates by virtual key."""

    authentication_classes = ()
    permission_classes = (AllowAny,)  # the virtual key decides, inside
    content_negotiation_class = AnyAccepted

    def runtime(self, request: Request) -> Runtime:
        scope = _scope(request)
        if RUNTIME not in scope:
            raise InternalError
        return cast(Runtime, scope[RUNTIME])

    def caller(self, request: Request) -> tuple[ConfigSnapshot, Caller]:
        """The snapshot and who asks; for answers that need no provider."""
        runtime = self.runtime(request)
        snapshot = current_config(runtime)
        who = runtime.authenticator.caller(snapshot, credential(request), now=runtime.now(), scope=Scope.MODELS)
        return snapshot, who

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, RequestDataTooBig):
            exc = BodyTooLarge("The body is larger than what is accepted.")
        if isinstance(exc, exceptions.APIException):
            exc = self._refused(exc)
        if isinstance(exc, GatewayError):
            return cast(Response, error_response(exc, request_id(self.request)))
        return super().handle_exception(exc)

    def _refused(self, exc: exceptions.APIException) -> GatewayError:
        """What the framework refuses by itself (a method, a media type), in our shape."""
        match exc:
            case exceptions.MethodNotAllowed():
                allowed = [method for method in self.allowed_methods if method != "OPTIONS"]
                return MethodNotAllowed(str(self.request.method), allowed=", ".join(allowed))
            case exceptions.UnsupportedMediaType():
                return UnsupportedMediaType(self.request.content_type or "")
        error = InvalidRequest(str(exc.detail))
        error.code, error.http_status = exc.default_code, exc.status_code
        return error


class AskingView(GatewayView):
    """A view that asks a model. A subclass says how its requests are read and how its answers look.

    `door` is what records call it; `framing` writes a stream.
    """

    door: ClassVar[str]
    framing: ClassVar[type[Any]] = NativeEvents

    def read(self, body: bytes, hints: Hints) -> ChatRequest:
        """The request. What the body says that others say in headers is added to `hints`.

        :raises InvalidRequest: it cannot be understood.
        """
        raise NotImplementedError

    def whole(self, opened: Opened, frames: list[Frame], entry: UsageEntry) -> dict[str, Any]:
        """A whole answer, as JSON values."""
        raise NotImplementedError

    def refusal(self, error: GatewayError, snapshot: ConfigSnapshot, asked: ChatRequest) -> GatewayError:
        """An error in the words of this address."""
        return error

    def ask(self, request: Request) -> HttpResponseBase:
        """Answer one request; errors too."""
        runtime, body = self.runtime(request), request._request.body
        bill: list[UsageEntry] = []
        parsed: list[ChatRequest] = []
        hints = hints_of((name.lower().encode(), value.encode()) for name, value in request.headers.items())

        async def read() -> ChatRequest:
            _check_media_type(request, body)
            parsed.append(self.read(body, hints))
            return parsed[0]

        wish, parent = request.headers.get(CACHE_HEADER, ""), request.headers.get("traceparent", "")
        call = Call(
            request_id(request), self.door, credential(request), time.perf_counter(), read, bill.append, wish, parent,
            hints,
        )  # fmt: skip
        try:
            return async_to_sync(self._answer)(runtime, call, parsed, _scope(request))
        except GatewayError as error:
            told = self.refusal(error, current_config(runtime), parsed[0]) if parsed else error
            return error_response(told, call.request_id, bill)

    async def _answer(
        self, runtime: Runtime, call: Call, parsed: list[ChatRequest], scope: dict[str, Any]
    ) -> HttpResponseBase:
        relay = Relay(serve(runtime, call))
        if LIFETIME in scope:
            scope[LIFETIME].at_end(relay.cancel)
        opened = await relay.opened()
        told = [(b"x-request-id", call.request_id.encode()), *route_headers(opened, call.request_id)]
        if parsed[0].stream:
            framing: Framing = self.framing(call.request_id)
            response = RelayResponse(relay, framing, opened, scope)
            return _with_headers(response, [*told, (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")])
        frames, closed = await collect(relay.steps())
        tell_whole(scope)
        whole = Response(self.whole(opened, frames, closed.entry))
        return _with_headers(whole, told + bill_headers(closed.entry))


def _check_media_type(request: Request, body: bytes) -> None:
    """JSON is read whatever it is called: `curl -d` calls it a form.

    :raises UnsupportedMediaType: it neither looks like JSON nor says to be.
    """
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    says_json = not media_type or media_type.endswith(("/json", "+json"))
    if not says_json and not body.lstrip().startswith(b"{"):
        raise UnsupportedMediaType(media_type)


def error_response(error: GatewayError, request_id: str, bill: Sequence[UsageEntry] = ()) -> HttpResponse:
    """An error in OpenAI's shape, as on every other door."""
    body = openai_chat.error_body(error, request_id)
    response = HttpResponse(body, status=error.http_status, content_type="application/json")
    return _with_headers(response, [(b"x-request-id", request_id.encode()), *error_headers(error, bill)])


def _with_headers(response: Answer, headers: Headers) -> Answer:
    for name, value in headers:
        response[name.decode()] = value.decode()
    return response


def request_id(request: Request) -> str:
    """The id that this request got when it came in."""
    return str(_scope(request).get(REQUEST_ID) or new_request_id())


def _scope(request: Request) -> dict[str, Any]:
    """What the ASGI server and `routerplatform.application` say about a request; empty below WSGI."""
    return cast(dict[str, Any], getattr(request._request, "scope", {}))


def credential(request: Request) -> str:
    """The key that the caller presents, in either vendor's style."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
