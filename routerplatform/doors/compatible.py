"""The door for OpenAI clients: plain ASGI in front of Django, nothing between a request and the pipeline."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

import msgspec

from providers.domain.types import ChatRequest, Frame
from routerplatform.doors.exchange import CallerGone, CallerWatch, Exchange, Message, Receive, Send, read_body
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.headers import bill_headers, route_headers
from routerplatform.doors.idempotency import once, tell_whole
from routerplatform.gateway.errors import GatewayError, InternalError, MethodNotAllowed, ModelNotFound, UnknownAddress
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routing.domain.config import Scope
from routing.domain.decision import AUTO, visible_models

logger = logging.getLogger(__name__)

SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
MODELS_SINCE = 1_700_000_000  # OpenAI's clients require a creation time; an alias has none that means anything


async def openai_door(runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request below /v1."""
    exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter())
    try:
        method, answer = _address(scope["path"].rstrip("/"))
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


def _address(path: str) -> tuple[str, Callable[[Runtime, Exchange], Awaitable[None]]]:
    """The method that an address takes, and who answers it."""
    match path:
        case "/v1/chat/completions":
            return "POST", partial(once, answer=_chat)
        case "/v1/models":
            return "GET", _models
        case _ if path.startswith("/v1/models/"):
            return "GET", partial(_models, wanted=path.removeprefix("/v1/models/"))
    raise UnknownAddress(path)


# --- chat ---------------------------------------------------------------------------------------------------------


async def _chat(runtime: Runtime, exchange: Exchange) -> None:
    watch = CallerWatch(exchange.receive)
    requests: list[ChatRequest] = []

    async def read() -> ChatRequest:
        body = await read_body(exchange, limit=runtime.max_body_bytes)
        watch.start()
        requests.append(openai_chat.parse(body))
        return requests[0]

    call = Call(
        exchange.request_id, "chat-completions", exchange.credential(), exchange.began, read, exchange.bill.append
    )
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
    tell_whole(exchange.scope)
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
                    tell_whole(exchange.scope)
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
