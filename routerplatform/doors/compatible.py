"""The door for OpenAI and Anthropic clients: plain ASGI in front of Django, nothing between it and the pipeline."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import msgspec

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.exchange import CallerGone, CallerWatch, Exchange, Message, Receive, Send, read_body
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.formats.protocol import Format, Heading, StreamWriter
from routerplatform.doors.headers import Headers, bill_headers, route_headers
from routerplatform.doors.idempotency import once, tell_whole
from routerplatform.doors.keep_alive import KeepAlive
from routerplatform.gateway.errors import GatewayError, InternalError, MethodNotAllowed, ModelNotFound, UnknownAddress
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routing.domain.config import Scope
from routing.domain.decision import AUTO, visible_models

logger = logging.getLogger(__name__)

Answer = Callable[[Runtime, Exchange], Awaitable[None]]

FORMATS: dict[str, Format] = {
    "/v1/chat/completions": openai_chat,
}
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
MODELS_SINCE = 1_700_000_000  # OpenAI's clients require a creation time; an alias has none that means anything


async def compatible_door(runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request below /v1."""
    exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter())
    path = scope["path"].rstrip("/")
    if path in FORMATS:
        exchange = replace(exchange, error_body=FORMATS[path].error_body)
    try:
        method, answer = _address(path)
        if scope["method"] != method:
            raise MethodNotAllowed(scope["method"], allowed=method)
        await answer(runtime, exchange)
    except CallerGone:
        return
    except GatewayError as error:
        await exchange.reply_error(error)
    except Exception:
        logger.exception("request %s failed inside the gateway", exchange.request_id)
        await exchange.reply_error(InternalError())


def _address(path: str) -> tuple[str, Answer]:
    """The method that an address takes, and who answers it."""
    if path in FORMATS:
        return "POST", partial(once, answer=partial(_ask, caller_format=FORMATS[path]))
    if path == "/v1/models":
        return "GET", _models
    if path.startswith("/v1/models/"):
        return "GET", partial(_models, wanted=path.removeprefix("/v1/models/"))
    raise UnknownAddress(path)


# --- asking a model -----------------------------------------------------------------------------------------------


async def _ask(runtime: Runtime, exchange: Exchange, caller_format: Format) -> None:
    watch = CallerWatch(exchange.receive)
    alive = KeepAlive(exchange.send, _stream_head(exchange, []), caller_format.KEEP_ALIVE, after_s=runtime.keep_alive_s)
    requests: list[ChatRequest] = []

    async def read() -> ChatRequest:
        body = await read_body(exchange, limit=runtime.max_body_bytes)
        watch.start()
        requests.append(caller_format.parse(body))
        if requests[0].stream:
            alive.start()
        return requests[0]

    call = Call(
        exchange.request_id, caller_format.DOOR, exchange.credential(), exchange.began, read, exchange.bill.append
    )
    try:
        with watch, alive:
            async with aclosing(serve(runtime, call)) as steps:
                opened = await anext(steps)
                assert isinstance(opened, Opened)
                if requests[0].stream:
                    writer = _writer(exchange, caller_format, requests[0], opened)
                    await _stream(exchange, alive, writer, opened, steps)
                else:
                    await _whole(exchange, caller_format, requests[0], opened, steps)
    except CallerGone:
        raise
    except GatewayError as error:
        if not alive.has_started:
            raise
        broken = caller_format.error_event(error, exchange.request_id)
        await alive.send({"type": "http.response.body", "body": broken})


async def _whole(
    exchange: Exchange, caller_format: Format, request: ChatRequest, opened: Opened, steps: AsyncGenerator[Step, None]
) -> None:
    frames, closed = await collect(steps)
    if request.wire is opened.wire:
        body = b"".join(frame.raw for frame in frames)
    else:
        body = caller_format.answer_body(request, frames, _heading(exchange, opened))
    told = route_headers(opened, exchange.request_id) + bill_headers(closed.entry)
    tell_whole(exchange.scope)
    await exchange.reply(200, body, told)


async def _stream(
    exchange: Exchange, alive: KeepAlive, writer: StreamWriter, opened: Opened, steps: AsyncGenerator[Step, None]
) -> None:
    """Headers with the first content, then frames as they come."""
    await alive.send(_stream_head(exchange, route_headers(opened, exchange.request_id)))
    async for step in steps:
        match step:
            case Closed():
                last = writer.write(step.frames) + writer.end()
                tell_whole(exchange.scope)
                await alive.send({"type": "http.response.body", "body": last})
            case list():
                body = writer.write(step)
                if body:
                    await alive.send({"type": "http.response.body", "body": body, "more_body": True})


def _stream_head(exchange: Exchange, told: Headers) -> Message:
    headers = [*SSE_HEADERS, (b"x-request-id", exchange.request_id.encode()), *told]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _heading(exchange: Exchange, opened: Opened) -> Heading:
    return Heading(exchange.request_id, opened.deployment.model, int(time.time()))


class Verbatim:
    """Passes a target's own bytes on: it speaks the caller's wire."""

    def write(self, frames: Iterable[Frame]) -> bytes:
        return b"".join([frame.raw for frame in frames])

    def end(self) -> bytes:
        return b""


def _writer(exchange: Exchange, caller_format: Format, request: ChatRequest, opened: Opened) -> StreamWriter:
    if request.wire is opened.wire:
        return Verbatim()
    return caller_format.writer(request, _heading(exchange, opened))


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
