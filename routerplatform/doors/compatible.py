"""The door for OpenAI clients: plain ASGI in front of Django, nothing between a request and the pipeline."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from providers.domain.types import ChatRequest, Frame
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.headers import bill_headers, error_headers, route_headers
from routerplatform.gateway.errors import BodyTooLarge, GatewayError, InternalError, InvalidRequest, ModelNotFound
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routing.domain.config import Scope
from routing.domain.decision import AUTO, visible_models

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON = (b"content-type", b"application/json")
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
WATCH_AFTER_S = 0.05  # a caller who leaves sooner is noticed then
MODELS_SINCE = 1_700_000_000  # OpenAI's clients require a creation time; an alias has none that means anything


class CallerGone(GatewayError):
    """The caller closed the connection before it had its answer; there is nobody to tell."""

    code = "cancelled"
    http_status = 499

    def __init__(self) -> None:
        super().__init__("The caller closed the connection.")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request and the means to answer it."""

    scope: Message
    receive: Receive
    send: Send
    request_id: str
    began: float

    def header(self, name: bytes) -> str:
        """A request header's first value, empty when absent."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    def credential(self) -> str:
        """The key that the caller presents, in either vendor's style."""
        scheme, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else self.header(b"x-api-key")

    async def reply(self, status: int, body: bytes, extra: list[tuple[bytes, bytes]]) -> None:
        """A whole answer at once."""
        fixed = [JSON, (b"content-length", str(len(body)).encode()), (b"x-request-id", self.request_id.encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": fixed + extra})
        await self.send({"type": "http.response.body", "body": body})

    async def reply_error(self, error: GatewayError) -> None:
        await self.reply(error.http_status, openai_chat.error_body(error, self.request_id), error_headers(error))


async def openai_door(runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request below /v1."""
    exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter())
    try:
        match scope["method"], scope["path"].rstrip("/"):
            case "POST", "/v1/chat/completions":
                await _chat(runtime, exchange)
            case "GET", "/v1/models":
                await _models(runtime, exchange)
            case "GET", str(path) if path.startswith("/v1/models/"):
                await _models(runtime, exchange, path.removeprefix("/v1/models/"))
            case _:
                await exchange.reply_error(_unknown_path(scope))
    except CallerGone:
        return
    except GatewayError as error:
        await exchange.reply_error(error)
    except Exception:
        logger.exception("request %s failed inside the gateway", exchange.request_id)
        await exchange.reply_error(InternalError())


def _unknown_path(scope: Message) -> GatewayError:
    error = InvalidRequest(f"Unknown request: {scope['method']} {scope['path']}.")
    error.code, error.http_status = "not_found", 404
    return error


# --- chat ---------------------------------------------------------------------------------------------------------


async def _chat(runtime: Runtime, exchange: Exchange) -> None:
    watch = CallerWatch(exchange.receive)
    requests: list[ChatRequest] = []

    async def read() -> ChatRequest:
        body = await read_body(exchange, limit=runtime.max_body_bytes)
        watch.start()
        requests.append(openai_chat.parse(body))
        return requests[0]

    call = Call(exchange.request_id, "chat-completions", exchange.credential(), exchange.began, read)
    with watch:
        async with aclosing(serve(runtime, call)) as steps:
            opened = await anext(steps)
            assert isinstance(opened, Opened)
            if requests[0].stream:
                await _stream(exchange, requests[0], opened, steps)
            else:
                await _whole(exchange, requests[0], opened, steps)


async def _whole(exchange: Exchange, request: ChatRequest, opened: Opened, steps: AsyncGenerator[Step, None]) -> None:
    frames, closed = await collect(steps)
    if request.wire == opened.deployment.endpoint.wire:
        body = b"".join(frame.raw for frame in frames)
    else:
        body = openai_chat.answer_body(
            frames, request_id=exchange.request_id, model=opened.deployment.model, created=int(time.time())
        )
    told = route_headers(opened, exchange.request_id) + bill_headers(closed.entry)
    await exchange.reply(200, body, told)


async def _stream(exchange: Exchange, request: ChatRequest, opened: Opened, steps: AsyncGenerator[Step, None]) -> None:
    """Headers with the first content, then frames as they come; a late failure is told inside the stream."""
    writer = _writer(exchange, request, opened)
    told = [*SSE_HEADERS, (b"x-request-id", exchange.request_id.encode()), *route_headers(opened, exchange.request_id)]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": told})
    try:
        async for step in steps:
            match step:
                case Closed():
                    last = writer.write(step.frames) + writer.end()
                    await exchange.send({"type": "http.response.body", "body": last})
                case list():
                    body = writer.write(step)
                    if body:
                        await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
    except GatewayError as error:  # no `[DONE]` behind it: a client must not take the answer for whole
        broken = sse.data(openai_chat.error_body(error, exchange.request_id))
        await exchange.send({"type": "http.response.body", "body": broken})


class Verbatim:
    """Passes a target's own bytes on: it speaks the caller's wire."""

    def write(self, frames: list[Frame]) -> bytes:
        return b"".join([frame.raw for frame in frames])

    def end(self) -> bytes:
        return b""


def _writer(exchange: Exchange, request: ChatRequest, opened: Opened) -> Verbatim | openai_chat.StreamWriter:
    if request.wire == opened.deployment.endpoint.wire:
        return Verbatim()
    return openai_chat.StreamWriter(
        request_id=exchange.request_id,
        model=opened.deployment.model,
        created=int(time.time()),
        include_usage=request.include_usage,
    )


# --- models -------------------------------------------------------------------------------------------------------


async def _models(runtime: Runtime, exchange: Exchange, wanted: str = "") -> None:
    """What this key may name as “model”: auto, personas, aliases."""
    snapshot = current_config(runtime)
    caller = runtime.authenticator.caller(snapshot, exchange.credential(), now=runtime.now(), scope=Scope.MODELS)
    names = [AUTO, *sorted(snapshot.personas), *(alias.name for alias in visible_models(snapshot, caller))]
    rows = [{"id": name, "object": "model", "created": MODELS_SINCE, "owned_by": "router"} for name in names]
    if not wanted:
        await exchange.reply(200, msgspec.json.encode({"object": "list", "data": rows}), [])
        return
    found = next((row for row in rows if row["id"] == wanted), None)
    if found is None:
        raise ModelNotFound(
            f"The model “{wanted}” does not exist. GET /v1/models lists what you can name.", param="model"
        )
    await exchange.reply(200, msgspec.json.encode(found), [])


# --- reading ------------------------------------------------------------------------------------------------------


async def read_body(exchange: Exchange, *, limit: int) -> bytes:
    """The request's body.

    :raises BodyTooLarge: by its announced length, before a byte is read; or as soon as it has passed `limit`.
    """
    body = CappedBody(exchange, limit=limit)
    if body.is_too_large:
        raise body.problem()
    pieces: list[bytes] = []
    while True:
        message = await body.receive()
        if message["type"] == "http.disconnect":
            raise body.problem()
        piece: bytes = message.get("body", b"")
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces) if len(pieces) > 1 else piece


class CappedBody:
    """A request's messages, up to `limit` bytes; whoever reads on is told that the caller has gone.

    `is_too_large` by the announced length, before a byte is read; or as soon as the limit is passed.
    """

    def __init__(self, exchange: Exchange, *, limit: int) -> None:
        announced = exchange.header(b"content-length")
        self.is_too_large = announced.isdecimal() and int(announced) > limit
        self._receive = exchange.receive
        self._limit = self._left = limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_too_large = True
            return {"type": "http.disconnect"}
        return message

    def problem(self) -> GatewayError:
        """Why there is no more to read after a disconnect."""
        if not self.is_too_large:
            return CallerGone()
        return BodyTooLarge(f"The body is larger than {self._limit:,} bytes, which is the most that is accepted.")


class CallerWatch:
    """Cancels the task that answers as soon as the caller is gone, and turns that into `CallerGone`.

    Use as a context around the answering; `start` it once the body has been read, since it reads on from there. An
    answer that comes at once is spared the watching, which costs a task.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False

    def start(self) -> None:
        answering = asyncio.current_task()
        assert answering is not None
        self._answering = answering
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone:
            self._answering.uncancel()
            raise CallerGone from error

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._answering.cancel()
