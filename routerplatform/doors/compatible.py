"""The door for OpenAI and Anthropic clients: plain ASGI in front of Django, nothing between it and the pipeline."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

from providers.domain.types import ChatRequest
from routerplatform.doors.dialogue import Dialogue, PlainDialogue
from routerplatform.doors.exchange import CallerGone, CallerWatch, Exchange, Message, Receive, Send, read_body
from routerplatform.doors.formats import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from routerplatform.doors.formats.protocol import Format
from routerplatform.doors.headers import Headers, bill_headers, route_headers
from routerplatform.doors.hints import hints_of
from routerplatform.doors.idempotency import once, tell_whole
from routerplatform.doors.keep_alive import KeepAlive
from routerplatform.doors.model_list import ANTHROPIC_VERSION, list_models
from routerplatform.doors.provider_status import gateway_health, provider_status
from routerplatform.doors.responses import METHODS, PREFIX, ResponseDialogue, kept_response
from routerplatform.doors.token_count import count_tokens
from routerplatform.doors.vendor_headers import for_anthropic_client, with_vendor_headers
from routerplatform.gateway.errors import GatewayError, InternalError, MethodNotAllowed, UnknownAddress
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, serve
from routerplatform.gateway.response_cache import HEADER as CACHE_HEADER
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step

logger = logging.getLogger(__name__)

Answer = Callable[[Runtime, Exchange], Awaitable[None]]

FORMATS: dict[str, Format] = {
    "/v1/messages": anthropic_messages,
    "/v1/chat/completions": openai_chat,
    "/v1/responses": openai_responses,
    "/v1/completions": openai_completions,
    "/v1/embeddings": openai_embeddings,
}
ABOUT_THE_GATEWAY: dict[str, Answer] = {"/v1/providers/status": provider_status, "/v1/health": gateway_health}
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
COUNT_TOKENS = "/v1/messages/count_tokens"
ANTHROPIC_PATHS = ("/v1/messages", COUNT_TOKENS)


async def compatible_door(runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request below /v1."""
    path = scope["path"].rstrip("/")
    error_body = FORMATS[path].error_body if path in FORMATS else openai_chat.error_body
    exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter(), error_body=error_body)
    if path in ANTHROPIC_PATHS or (path not in FORMATS and exchange.header(ANTHROPIC_VERSION)):
        exchange = for_anthropic_client(exchange)
    try:
        methods, answer = _address(path)
        if scope["method"] not in methods.split(", "):
            raise MethodNotAllowed(scope["method"], allowed=methods)
        await answer(runtime, exchange)
    except CallerGone:
        return
    except GatewayError as error:
        await exchange.reply_error(error)
    except Exception:
        logger.exception("request %s failed inside the gateway", exchange.request_id)
        await exchange.reply_error(InternalError())


def _address(path: str) -> tuple[str, Answer]:
    """The methods that an address takes, and who answers it."""
    if path in FORMATS:
        return "POST", partial(once, answer=partial(_ask, caller_format=FORMATS[path]))
    if path.startswith(PREFIX):
        return METHODS, partial(kept_response, response_id=path.removeprefix(PREFIX))
    if path == COUNT_TOKENS:
        return "POST", count_tokens
    if path in ABOUT_THE_GATEWAY:
        return "GET", ABOUT_THE_GATEWAY[path]
    if path == "/v1/models":
        return "GET", list_models
    if path.startswith("/v1/models/"):
        return "GET", partial(list_models, wanted=path.removeprefix("/v1/models/"))
    raise UnknownAddress(path)


# --- asking a model -----------------------------------------------------------------------------------------------


async def _ask(runtime: Runtime, exchange: Exchange, caller_format: Format) -> None:
    dialogue = _dialogue(runtime, exchange, caller_format)
    watch = CallerWatch(exchange.receive)
    alive = KeepAlive(exchange.send, _stream_head(exchange, []), caller_format.KEEP_ALIVE, after_s=runtime.keep_alive_s)
    requests: list[ChatRequest] = []

    async def read() -> ChatRequest:
        body = await read_body(exchange, limit=runtime.max_body_bytes)
        watch.start()
        requests.append(with_vendor_headers(await dialogue.read(body), exchange))
        if requests[0].stream:
            alive.start()
        return requests[0]

    call = Call(
        exchange.request_id, caller_format.DOOR, exchange.credential(), exchange.began, read, exchange.bill.append,
        exchange.header(CACHE_HEADER.encode()), exchange.header(b"traceparent"), hints_of(exchange.scope["headers"]),
    )  # fmt: skip
    try:
        with watch, alive:
            async with aclosing(serve(runtime, call)) as steps:
                opened = await anext(steps)
                assert isinstance(opened, Opened)
                if requests[0].stream:
                    await _stream(exchange, alive, dialogue, opened, steps)
                else:
                    await _whole(exchange, dialogue, opened, steps)
    except CallerGone:
        raise
    except GatewayError as error:
        if not alive.has_started:
            raise
        await alive.send({"type": "http.response.body", "body": dialogue.broken(error)})


def _dialogue(runtime: Runtime, exchange: Exchange, caller_format: Format) -> Dialogue:
    if caller_format.DOOR == openai_responses.DOOR:
        return ResponseDialogue(runtime, exchange)
    return PlainDialogue(exchange.request_id, caller_format)


async def _whole(exchange: Exchange, dialogue: Dialogue, opened: Opened, steps: AsyncGenerator[Step, None]) -> None:
    frames, closed = await collect(steps)
    body = dialogue.whole(opened, frames)
    await dialogue.keep()
    told = route_headers(opened, exchange.request_id) + bill_headers(closed.entry)
    tell_whole(exchange.scope)
    await exchange.reply(200, body, told)


async def _stream(
    exchange: Exchange, alive: KeepAlive, dialogue: Dialogue, opened: Opened, steps: AsyncGenerator[Step, None]
) -> None:
    """Headers with the first content, then frames as they come."""
    writer = dialogue.writer(opened)
    await alive.send(_stream_head(exchange, route_headers(opened, exchange.request_id)))
    async for step in steps:
        match step:
            case Closed():
                last = writer.write(step.frames) + writer.end()
                await dialogue.keep()
                tell_whole(exchange.scope)
                await alive.send({"type": "http.response.body", "body": last})
            case list():
                body = writer.write(step)
                if body:
                    await alive.send({"type": "http.response.body", "body": body, "more_body": True})


def _stream_head(exchange: Exchange, told: Headers) -> Message:
    headers = [*SSE_HEADERS, (b"x-request-id", exchange.request_id.encode()), *told]
    return {"type": "http.response.start", "status": 200, "headers": headers}
