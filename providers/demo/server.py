"""The demo provider's HTTP server: `build_app` has the routes, docs/demo-provider.md says what is behind each.

Any key is good (`Authorization: Bearer ...` or `x-api-key`), but for none and for `demo-invalid`.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec
from aiohttp import web

from providers.demo import anthropic_wire, openai_wire
from providers.demo.exchange import Ask, Refusal, Wire
from providers.demo.markers import Markers, read_markers
from providers.demo.playback import Bills, Player
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
        elsewhere = markers.on and ask.model.id not in markers.on
        if elsewhere or (markers.times is not None and self._times_seen(ask.prompt) > markers.times):
            return markers.without_faults()
        return markers

    def _times_seen(self, message: str) -> int:
        key = hashlib.sha256(message.encode()).hexdigest()
        self.seen[key] = self.seen.pop(key, 0) + 1
        if len(self.seen) > SEEN_KEPT:
            self.seen.popitem(last=False)
        return self.seen[key]

    def timing(self, ask: Ask, faults: Markers) -> tuple[float, float]:
        """Seconds to the first byte and from token to token: by the markers, else the model's own times the factor."""
        first_byte_s, token_s = (ms / 1000 * self.pace_factor for ms in (ask.model.first_token_ms, ask.model.token_ms))
        first_byte_s = first_byte_s if faults.delay_s is None else faults.delay_s
        return first_byte_s, token_s if faults.pace_ms is None else faults.pace_ms / 1000


DEMO = web.AppKey("demo", Demo)
OWN_ID = web.RequestKey("own_id", str)


def build_app(*, pace_factor: float = 1.0) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_refusals])
    app[DEMO] = Demo(pace_factor=pace_factor)
    app.router.add_post("/v1/chat/completions", _answer)
    app.router.add_post("/v1/messages", _answer)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{id}", _models)
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


async def _answer(request: web.Request) -> web.StreamResponse:
    """One request from key to last byte."""
    demo, wire, request_id = request.app[DEMO], _wire_of(request), _own_id(request)
    demo.bills.requests += 1
    _check_key(request, wire)
    if wire is ANTHROPIC and anthropic_wire.VERSION_HEADER not in request.headers:
        raise Refusal(400, "anthropic-version: header is required")
    ask = wire.read_ask(await request.read())
    faults = demo.faults_for(ask, read_markers(ask.prompt))
    if faults.status is not None:
        await asyncio.sleep(faults.delay_s or 0)
        raise Refusal(faults.status, code=faults.code, retry_after_s=faults.retry_after_s, html=faults.html)
    if faults.error_in_stream is not None and not ask.stream:
        raise Refusal(500 if wire is OPENAI else 529)
    reply = plan_reply(ask, faults, created=int(time.time()))
    caller_id = request.headers.get("x-request-id") or request_id
    headers = {wire.REQUEST_ID_HEADER: request_id}
    with demo.bills.open(request_id=caller_id, model=ask.model, usage=reply.usage, stream=ask.stream) as bill:
        times, reasoning = demo.timing(ask, faults), reply.usage.reasoning_tokens
        player = Player(request, times=times, faults=faults, bill=bill, reasoning=reasoning)
        if not ask.stream:
            headers["Content-Type"] = "application/json"
            return await player.play_whole(headers, msgspec.json.encode(wire.body_of(reply)), len(reply.pieces))
        headers |= {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        error, frames = wire.error_frame(request_id), wire.frames_of(reply)
        return await player.play_stream(headers, frames, error=error, garbage=wire.GARBAGE)


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


async def _models(request: web.Request) -> web.Response:
    """The list, or one model of it."""
    wire, name = _wire_of(request), request.match_info.get("id")
    _check_key(request, wire)
    rows = [row for row in wire.MODEL_LIST["data"] if name in {None, row["id"]}]
    if not rows:
        raise Refusal(404)
    return _json(rows[0] if name else wire.MODEL_LIST)


async def _health(request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _stats(request: web.Request) -> web.Response:
    return _json(request.app[DEMO].bills.stats())


async def _bills(request: web.Request) -> web.Response:
    return _json({"bills": request.app[DEMO].bills.rows(request.query.get("request_id"))})


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
    except web.HTTPException as error:
        notes = {404: f"Unknown request URL: {request.method} {request.path}."}
        notes[405] = f"Not allowed: {request.method} on {request.path}."
        return _refused(request, Refusal(error.status, notes.get(error.status, "")))


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    wire, request_id, status = _wire_of(request), _own_id(request), refusal.status
    headers = {wire.REQUEST_ID_HEADER: request_id}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = f"{refusal.retry_after_s:g}"
    if not refusal.html:
        return _json(wire.error_body(refusal, request_id), status=status, headers=headers)
    # what a proxy in front of a provider sends when the provider does not answer
    page = f"<html>\r\n<head><title>{status}</title></head>\r\n<body><h1>{status}</h1></body>\r\n</html>"
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)


def _wire_of(request: web.Request) -> Wire:
    anthropic = request.path == "/v1/messages" or anthropic_wire.VERSION_HEADER in request.headers
    return ANTHROPIC if anthropic and request.path != "/v1/chat/completions" else OPENAI


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
