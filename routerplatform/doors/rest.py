"""The contract's own REST API, documented in OpenAPI. The slow door (DRF): everything it does, the pipeline does."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from asgiref.sync import async_to_sync
from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from analytics.domain.usage import UsageEntry
from providers.domain.types import ChatRequest
from routerplatform.doors import schema
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.formats.native import FrameOut, NativeWriter, answer, encode
from routerplatform.doors.headers import Headers, bill_headers, error_headers, route_headers
from routerplatform.doors.hints import hints_of
from routerplatform.doors.idempotency import tell_whole
from routerplatform.gateway.errors import BodyTooLarge, GatewayError, InternalError, InvalidRequest, Unavailable
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.response_cache import HEADER as CACHE_HEADER
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routing.domain.config import Caller, ConfigSnapshot, Scope

QUEUE_LENGTH = 16  # groups of frames that a slow reader may lag behind before the provider is made to wait
RUNTIME, REQUEST_ID, LIFETIME = "router.runtime", "router.request_id", "router.lifetime"
Answer = TypeVar("Answer", bound=HttpResponseBase)


class GatewayView(APIView):
    """A view that answers with the gateway's own errors and authenticates by virtual key."""

    authentication_classes = ()
    permission_classes = (AllowAny,)  # the virtual key decides, inside

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
        if isinstance(exc, GatewayError):
            return cast(Response, error_response(exc, request_id(self.request)))
        if isinstance(exc, APIException):
            return cast(Response, error_response(_refused(exc), request_id(self.request)))
        return super().handle_exception(exc)


def _refused(exc: APIException) -> GatewayError:
    """What the framework refuses by itself (a method, a media type), in our shape."""
    error = InvalidRequest(str(exc.detail))
    error.code, error.http_status = exc.default_code, exc.status_code
    return error


class ChatView(GatewayView):
    """Ask a persona, a policy or a model."""

    @extend_schema(
        request=schema.ChatRequestSerializer,
        responses={200: schema.ChatAnswerSerializer, **schema.ERRORS},
        summary="Chat",
        tags=["Chat"],
        description="One chat turn. With `stream: true` the answer is `text/event-stream`: events `start`, `route`, "
        "`delta`, `tool`, `usage`, `done`, or `error`.",
        examples=[
            OpenApiExample(
                "Ask a persona",
                value={"persona": "chatbot", "messages": [{"role": "user", "content": "Hello!"}]},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        runtime = self.runtime(request)
        body = request._request.body
        bill: list[UsageEntry] = []
        parsed: list[ChatRequest] = []

        async def read() -> ChatRequest:
            parsed.append(openai_chat.parse(body))
            return parsed[0]

        wish, parent = request.headers.get(CACHE_HEADER, ""), request.headers.get("traceparent", "")
        call = Call(
            request_id(request), "rest", credential(request), time.perf_counter(), read, bill.append, wish, parent,
            hints_of((name.lower().encode(), value.encode()) for name, value in request.headers.items()),
        )  # fmt: skip
        try:
            return async_to_sync(_answer)(runtime, call, parsed, _scope(request))
        except GatewayError as error:
            return error_response(error, call.request_id, bill)


# --- answering ----------------------------------------------------------------------------------------------------


async def _answer(runtime: Runtime, call: Call, parsed: list[ChatRequest], scope: dict[str, Any]) -> HttpResponseBase:
    relay = Relay(serve(runtime, call))
    if LIFETIME in scope:
        scope[LIFETIME].at_end(relay.cancel)
    opened = await relay.opened()
    told = [(b"x-request-id", call.request_id.encode()), *route_headers(opened, call.request_id)]
    if parsed[0].stream:
        response = RelayResponse(_events(relay, NativeWriter(call.request_id), opened, scope), relay)
        return _with_headers(response, [*told, (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")])
    frames, closed = await collect(relay.steps())
    tell_whole(scope)
    whole = Response(answer(opened, frames, closed.entry))
    return _with_headers(whole, told + bill_headers(closed.entry))


@dataclass(slots=True)
class _Broken:
    """A failure on its way from the task that serves to the one that answers."""

    error: GatewayError


class Relay:
    """Runs `serve` in a task of its own: Django moves a streamed response between tasks, and time limits must not."""

    def __init__(self, steps: AsyncGenerator[Step, None]) -> None:
        self._queue: asyncio.Queue[Step | _Broken] = asyncio.Queue(QUEUE_LENGTH)
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._pump(steps))
        self._task.add_done_callback(self._ended)

    async def opened(self) -> Opened:
        """The first step.

        :raises GatewayError: nothing will be answered.
        """
        try:
            first = await self._next()
        except BaseException:
            self.cancel()
            raise
        assert isinstance(first, Opened)
        return first

    async def steps(self) -> AsyncGenerator[Step, None]:
        """What follows, up to and with `Closed`."""
        try:
            while True:
                step = await self._next()
                yield step
                if isinstance(step, Closed):
                    return
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop serving; harmless when it has ended. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._task.cancel)

    async def _next(self) -> Step:
        step = await self._queue.get()
        if isinstance(step, _Broken):
            raise step.error
        return step

    async def _pump(self, steps: AsyncGenerator[Step, None]) -> None:
        try:
            async with aclosing(steps):
                async for step in steps:
                    await self._queue.put(step)
        except GatewayError as error:
            await self._queue.put(_Broken(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled, maybe before it began: the gateway stops; or the reader has gone, and then nobody reads this."""
        if task.cancelled():
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(_Broken(Unavailable("The gateway is stopping. Try again in a moment.")))


class RelayResponse(StreamingHttpResponse):
    """A streamed answer; closing it, for whatever reason, stops the relay."""

    def __init__(self, events: AsyncIterator[bytes], relay: Relay) -> None:
        super().__init__(events, content_type="text/event-stream; charset=utf-8")
        self._relay = relay

    def close(self) -> None:
        self._relay.cancel()
        super().close()


async def _events(relay: Relay, writer: NativeWriter, opened: Opened, scope: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _event(writer.start()) + _event(writer.opened(opened))
    try:
        async with aclosing(relay.steps()) as steps:
            async for step in steps:
                frames = writer.closed(step) if isinstance(step, Closed) else writer.frames(cast(list[Any], step))
                body = b"".join(_event(frame) for frame in frames)
                if isinstance(step, Closed):
                    tell_whole(scope)
                if body:
                    yield body
    except GatewayError as error:
        yield _event(writer.failed(error))


def _event(frame: FrameOut) -> bytes:
    return sse.event(str(frame.__struct_config__.tag), encode(frame))


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
