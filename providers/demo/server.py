"""The demo provider's HTTP server.

    POST /v1/chat/completions   OpenAI wire
    POST /v1/messages           Anthropic wire
    GET  /v1/models[/{id}]      both: Anthropic's shape when an `anthropic-version` header is present
    GET  /health                {"status": "ok"}
    GET  /demo/stats            requests, refusals, billed requests with token sums, open streams
    GET  /demo/bills[?request_id=...]  one row for each request that cost something

Any key is good (`Authorization: Bearer ...` or `x-api-key`), but for none and for `demo-invalid`.
"""

import asyncio
import contextlib
import hashlib
import signal
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec
from aiohttp import web

from providers.demo import anthropic_wire, openai_wire
from providers.demo.bills import Bills
from providers.demo.catalogue import MODELS
from providers.demo.exchange import Ask, Refusal, Wire
from providers.demo.markers import MarkerError, Markers, read_markers
from providers.demo.playback import Player, Timing
from providers.demo.replies import plan_reply

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8901
INVALID_KEY = "demo-invalid"
MAX_BODY_BYTES = 32 * 1024 * 1024
SEEN_KEPT = 10_000

OPENAI: Wire = openai_wire
ANTHROPIC: Wire = anthropic_wire


@dataclass(slots=True)
class Demo:
    """What the server holds. `pace_factor` stretches the models' own times; 0 answers at once."""

    pace_factor: float = 1.0
    bills: Bills = field(default_factory=Bills)
    seen: OrderedDict[str, int] = field(default_factory=OrderedDict)
    numbers: "count[int]" = field(default_factory=count)

    def faults_for(self, ask: Ask, markers: Markers) -> Markers:
        """`markers`, without faults when `on` names other models or `times` is used up for this message."""
        if markers.on and ask.model.id not in markers.on:
            return markers.without_faults()
        if markers.times is not None and self._times_seen(ask.prompt) > markers.times:
            return markers.without_faults()
        return markers

    def _times_seen(self, message: str) -> int:
        key = hashlib.sha256(message.encode()).hexdigest()
        self.seen[key] = self.seen.pop(key, 0) + 1
        if len(self.seen) > SEEN_KEPT:
            self.seen.popitem(last=False)
        return self.seen[key]

    def timing(self, ask: Ask, faults: Markers) -> Timing:
        """The markers' times as they stand, else the model's times the pace factor."""
        delay, pace = faults.delay_s, faults.pace_ms
        return Timing(
            first_byte_s=ask.model.first_token_ms / 1000 * self.pace_factor if delay is None else delay,
            token_s=ask.model.token_ms / 1000 * self.pace_factor if pace is None else pace / 1000,
        )


DEMO = web.AppKey("demo", Demo)
OWN_ID = web.RequestKey("own_id", str)


def build_app(*, pace_factor: float = 1.0) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_refusals])
    app[DEMO] = Demo(pace_factor=pace_factor)
    app.router.add_post("/v1/chat/completions", _chat_completions)
    app.router.add_post("/v1/messages", _messages)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{id}", _model)
    app.router.add_get("/health", _health)
    app.router.add_get("/demo/stats", _stats)
    app.router.add_get("/demo/bills", _bills)
    return app


@contextlib.asynccontextmanager
async def running(*, host: str = DEFAULT_HOST, port: int = 0, pace_factor: float = 1.0) -> AsyncIterator[str]:
    """Accepts connections inside the block; gives the base URL. Raises OSError when the address is taken."""
    runner = web.AppRunner(
        build_app(pace_factor=pace_factor), handler_cancellation=True, access_log=None, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        name, bound = runner.addresses[0][:2]
        yield f"http://{f'[{name}]' if ':' in name else name}:{bound}"
    finally:
        await runner.cleanup()


async def serve(*, host: str, port: int, pace_factor: float, announce: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM. `announce` gets the base URL once connections are accepted.

    Raises OSError when the address is taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(host=host, port=port, pace_factor=pace_factor) as url:
        announce(url)
        await stop.wait()


# --- answers --------------------------------------------------------------------------------------------------


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, OPENAI)


async def _messages(request: web.Request) -> web.StreamResponse:
    return await _answer(request, ANTHROPIC)


async def _answer(request: web.Request, wire: Wire) -> web.StreamResponse:
    """One request from key to last byte."""
    demo = request.app[DEMO]
    demo.bills.requests += 1
    request_id = _own_id(request)
    _check_key(request, wire)
    if wire is ANTHROPIC and anthropic_wire.VERSION_HEADER not in request.headers:
        raise Refusal(400, "anthropic-version: header is required")
    ask = wire.read_ask(await request.read())
    markers = _markers_of(ask)
    faults = demo.faults_for(ask, markers)
    await _refuse_if_asked(wire, ask, faults)
    reply = plan_reply(ask, faults, created=int(time.time()))
    caller_id = request.headers.get("x-request-id") or request_id
    headers = {wire.REQUEST_ID_HEADER: request_id}
    with demo.bills.open(request_id=caller_id, model=ask.model, usage=reply.usage, stream=ask.stream) as bill:
        reasoning = reply.usage.reasoning_tokens
        player = Player(request, timing=demo.timing(ask, faults), faults=faults, bill=bill, reasoning=reasoning)
        if not ask.stream:
            headers["Content-Type"] = "application/json"
            return await player.play_whole(headers, msgspec.json.encode(wire.body_of(reply)), len(reply.pieces))
        headers |= {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        frames = wire.frames_of(reply)
        return await player.play_stream(
            headers, frames, error=wire.error_frame(request_id), garbage=wire.garbage_frame()
        )


def _own_id(request: web.Request) -> str:
    """The provider's id of this request: unique, and the same again in a fresh server."""
    if OWN_ID not in request:
        number = next(request.app[DEMO].numbers)
        request[OWN_ID] = f"req_{hashlib.sha256(f'{request.path} {number}'.encode()).hexdigest()[:24]}"
    return request[OWN_ID]


def _check_key(request: web.Request, wire: Wire) -> None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    key = request.headers.get("x-api-key", "").strip() or (bearer.strip() if scheme.lower() == "bearer" else "")
    if not key or key == INVALID_KEY:
        raise wire.key_refusal(key)


def _markers_of(ask: Ask) -> Markers:
    try:
        return read_markers(ask.prompt)
    except MarkerError as error:
        raise Refusal(400, str(error), code="invalid_demo_marker", param="messages") from None


async def _refuse_if_asked(wire: Wire, ask: Ask, faults: Markers) -> None:
    if faults.status is not None:
        await asyncio.sleep(faults.delay_s or 0)
        raise Refusal(faults.status, code=faults.code, retry_after_s=faults.retry_after_s, html=faults.html)
    if faults.error_in_stream is not None and not ask.stream:
        raise Refusal(500 if wire is OPENAI else 529)


# --- models and the provider's own pages ----------------------------------------------------------------------


async def _models(request: web.Request) -> web.Response:
    wire = _wire_of(request)
    _check_key(request, wire)
    return _json(wire.model_list())


async def _model(request: web.Request) -> web.Response:
    wire = _wire_of(request)
    _check_key(request, wire)
    model = MODELS.get(request.match_info["id"])
    if model is None or model.wire is not wire.NAME:
        raise Refusal(404)
    return _json(wire.model_row(model))


async def _health(request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _stats(request: web.Request) -> web.Response:
    return _json(request.app[DEMO].bills.stats())


async def _bills(request: web.Request) -> web.Response:
    return _json({"bills": request.app[DEMO].bills.rows(request.query.get("request_id"))})


# --- errors ---------------------------------------------------------------------------------------------------


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals, unknown paths and oversized bodies, in the shape of the caller's wire."""
    try:
        return await handler(request)
    except Refusal as refusal:
        request.app[DEMO].bills.refused += 1
        return _refused(request, refusal)
    except web.HTTPNotFound:
        return _refused(request, Refusal(404, f"Unknown request URL: {request.method} {request.path}."))
    except web.HTTPMethodNotAllowed:
        return _refused(request, Refusal(405, f"Not allowed: {request.method} on {request.path}."))
    except web.HTTPRequestEntityTooLarge:
        return _refused(request, Refusal(413))


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    wire = _wire_of(request)
    request_id = _own_id(request)
    headers = {wire.REQUEST_ID_HEADER: request_id}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = f"{refusal.retry_after_s:g}"
    if refusal.html:
        return web.Response(
            status=refusal.status, text=_proxy_page(refusal.status), content_type="text/html", headers=headers
        )
    return _json(wire.error_body(refusal, request_id), status=refusal.status, headers=headers)


def _proxy_page(status: int) -> str:
    """What a proxy in front of a provider sends when the provider does not answer."""
    return (
        f"<html>\r\n<head><title>{status}</title></head>\r\n<body><center><h1>{status}</h1></center></body>\r\n</html>"
    )


def _wire_of(request: web.Request) -> Wire:
    anthropic = request.path == "/v1/messages" or anthropic_wire.VERSION_HEADER in request.headers
    return ANTHROPIC if anthropic and request.path != "/v1/chat/completions" else OPENAI


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )
