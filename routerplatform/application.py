"""Who answers what: plain ASGI for the gateway's own paths, Channels for sockets, Django for the rest."""

import json
import time
from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from routerplatform.doors.compatible import compatible_door
from routerplatform.doors.exchange import BrokenOff, CallerGone, CappedBody, Exchange, Lifetime, Message, Receive, Send
from routerplatform.doors.idempotency import once
from routerplatform.doors.metrics_page import metrics_page
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.runtime import Runtime, Runtimes

RUNTIME = "router.runtime"  # where Django views and consumers find the runtime of their loop, in the ASGI scope
REQUEST_ID = "router.request_id"
LIFETIME = "router.lifetime"
ASKING = ("/api/v1/chat", "/api/v1/route", "/api/v1/batch", "/chat/", "/chat", "/v1/complete")
ONCE = {("POST", path) for path in ASKING}  # what Django answers and takes an Idempotency-Key for
BELOW_V1 = {"/v1/complete"}  # of Django's all the same


class Application:
    """Routes by scope type and path; holds the runtimes and nothing else."""

    def __init__(self, *, runtimes: Runtimes, pages: Any, sockets: Any) -> None:
        self._runtimes = runtimes
        self._pages = pages
        self._sockets = sockets

    async def announce_stop(self) -> None:
        """Not ready from now on; every answer that begins asks its caller to close the connection behind it."""
        (await self._runtimes.current()).announce_stop()

    async def retire_sockets(self) -> None:
        """Ask sockets to leave: idle ones at once, the others when their chats are over."""
        (await self._runtimes.current()).sockets.retire()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        runtime = await self._runtimes.current()
        if runtime.is_stopping and scope["type"] == "http":
            send = _saying_goodbye(send)
        path = scope.get("path", "")
        if scope["type"] == "websocket":
            await self._sockets({**scope, RUNTIME: runtime}, receive, send)
        elif path.startswith("/v1/") and path not in BELOW_V1:
            await compatible_door(runtime, scope, receive, send)
        elif path == "/metrics":
            await _metrics(runtime, scope, receive, send)
        elif path.startswith("/health/"):
            await _probe(runtime, path, send)
        else:
            await self._page(runtime, scope, receive, send)

    async def _page(self, runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
        """Django takes a body in whole before any view asks who sends it, so a large one must not get there."""
        exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter())
        body = CappedBody(exchange, limit=runtime.max_body_bytes)
        if not body.is_too_large:
            lifetime = Lifetime(body.receive)
            inner = {**scope, RUNTIME: runtime, REQUEST_ID: exchange.request_id, LIFETIME: lifetime}
            try:
                await self._ask_django(runtime, replace(exchange, scope=inner, receive=lifetime.receive))
            except (CallerGone, BrokenOff):
                pass
            except GatewayError as error:
                await exchange.reply_error(error)
            finally:
                lifetime.end()
        if body.is_too_large:
            await exchange.reply_error(body.problem())

    async def _ask_django(self, runtime: Runtime, exchange: Exchange) -> None:
        async def answer(_: Runtime, exchange: Exchange) -> None:
            await self._pages(exchange.scope, exchange.receive, exchange.send)

        if (exchange.scope["method"], exchange.scope["path"]) in ONCE:
            await once(runtime, exchange, answer)
        else:
            await answer(runtime, exchange)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Start before the first request and drain at the end; servers without lifespan start on first use."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._runtimes.current()
                except (ImproperlyConfigured, OSError) as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._runtimes.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _saying_goodbye(send: Send) -> Send:
    """A proxy that keeps connections open would otherwise send its next request down one that is about to end."""

    async def last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return last


async def _metrics(runtime: Runtime, scope: Message, receive: Receive, send: Send) -> None:
    exchange = Exchange(scope, receive, send, new_request_id(), time.perf_counter())
    try:
        await metrics_page(runtime, exchange)
    except GatewayError as error:
        await exchange.reply_error(error)


async def _probe(runtime: Runtime, path: str, send: Send) -> None:
    """/health/live: the process runs. /health/ready: it can serve; neither asks the database nor Redis."""
    if path == "/health/live":
        status, body = 200, {"status": "live"}
    elif path == "/health/ready":
        problem = "stopping" if runtime.is_stopping else runtime.problem() and "starting"
        status, body = (503, {"status": problem}) if problem else (200, {"status": "ready"})
    else:
        status, body = 404, {"status": "unknown probe"}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
