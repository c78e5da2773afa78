"""The demo provider's HTTP server: `build_app` has the routes, docs/demo-provider.md says what is behind each.

Any key is good in the header that the vendor takes it from, but for none and for `demo-invalid`. An address may stand
below any prefix, as vendors' base URLs have them (`/openai/v1`, `/inference/v1`); its end says which wire is spoken.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import msgspec
from aiohttp import web

from providers.demo import anthropic_wire, responses_wire
from providers.demo.addresses import ANTHROPIC, COHERE, EMBEDDINGS, GEMINI, POSTS, PREFIX, RESPONSES, wire_of
from providers.demo.exchange import DemoModel, JsonObject, Place, Refusal, Usage, Wire
from providers.demo.markers import Markers, read_markers
from providers.demo.playback import Bills, Player
from providers.demo.replies import plan_reply
from providers.demo.vectors import EmbeddingWire

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8901
INVALID_KEY = "demo-invalid"
MAX_BODY_BYTES = 32 * 1024 * 1024
SEEN_KEPT = 10_000
RESPONSES_KEPT = 1_000


@dataclass(slots=True)
class Demo:
    """What the server holds. `pace_factor` stretches the models' own times; 0 answers at once. `kept` are the
    conversations of responses by id, for `previous_response_id`."""

    pace_factor: float = 1.0
    bills: Bills = field(default_factory=Bills)
    seen: OrderedDict[str, int] = field(default_factory=OrderedDict)
    numbers: "count[int]" = field(default_factory=count)
    kept: OrderedDict[str, tuple[JsonObject, ...]] = field(default_factory=OrderedDict)

    def faults_for(self, model: DemoModel, prompt: str) -> Markers:
        """The markers in `prompt`, without faults when `on` names other models or `times` is used up for it."""
        markers = read_markers(prompt)
        elsewhere = markers.on and model.id not in markers.on
        if elsewhere or (markers.times is not None and self._times_seen(prompt) > markers.times):
            return markers.without_faults()
        return markers

    def keep(self, name: str, items: tuple[JsonObject, ...]) -> None:
        self.kept[name] = items
        if len(self.kept) > RESPONSES_KEPT:
            self.kept.popitem(last=False)

    def _times_seen(self, message: str) -> int:
        key = hashlib.sha256(message.encode()).hexdigest()
        self.seen[key] = self.seen.pop(key, 0) + 1
        if len(self.seen) > SEEN_KEPT:
            self.seen.popitem(last=False)
        return self.seen[key]

    def timing(self, model: DemoModel, faults: Markers) -> tuple[float, float]:
        """Seconds to the first byte and from token to token: by the markers, else the model's own times the factor."""
        first_byte_s, token_s = (ms / 1000 * self.pace_factor for ms in (model.first_token_ms, model.token_ms))
        first_byte_s = first_byte_s if faults.delay_s is None else faults.delay_s
        return first_byte_s, token_s if faults.pace_ms is None else faults.pace_ms / 1000


DEMO = web.AppKey("demo", Demo)
OWN_ID = web.RequestKey("own_id", str)


def build_app(*, pace_factor: float = 1.0) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_refusals])
    app[DEMO] = Demo(pace_factor=pace_factor)
    for pattern, wire in POSTS:
        app.router.add_post(pattern, partial(_answer, wire=wire))
    for pattern, embedding_wire, wire in EMBEDDINGS:
        app.router.add_post(pattern, partial(_embed, wire=wire, embedding_wire=embedding_wire))
    app.router.add_post(PREFIX + "messages/count_tokens", _count_tokens)
    app.router.add_get(PREFIX + "responses/{id}", _kept_response)
    app.router.add_delete(PREFIX + "responses/{id}", _kept_response)
    for pattern in (PREFIX + "models", PREFIX + "models/{id}", PREFIX + "api/tags"):
        app.router.add_get(pattern, _models)
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


async def _answer(request: web.Request, *, wire: Wire) -> web.StreamResponse:
    """One request from key to last byte."""
    demo, request_id = request.app[DEMO], _own_id(request)
    demo.bills.requests += 1
    _check_caller(request, wire)
    ask = wire.read_ask(await request.read(), _place(request))
    faults = demo.faults_for(ask.model, ask.prompt)
    await _refuse(faults, wire, has_stream=ask.stream)
    if faults.thought is not None and ask.lost_thought:
        raise Refusal(400, ask.lost_thought)
    headers = _own_headers(wire, request_id)
    if faults.blocked:
        return _blocked(wire, headers, in_stream=ask.stream)
    reply = plan_reply(ask, faults, created=int(time.time()))
    if wire is RESPONSES and (items := responses_wire.kept_items(reply)):
        demo.keep(responses_wire.response_id(reply), items)
    with demo.bills.open(request_id=_caller_id(request), model=ask.model, usage=reply.usage, stream=ask.stream) as bill:
        hidden = reply.usage.output_tokens - len(reply.pieces)
        player = Player(request, times=demo.timing(ask.model, faults), faults=faults, bill=bill, reasoning=hidden)
        if not ask.stream:
            headers["Content-Type"] = "application/json"
            return await player.play_whole(headers, msgspec.json.encode(wire.body_of(reply)), len(reply.pieces))
        headers |= {"Content-Type": wire.STREAM_TYPE, "Cache-Control": "no-cache"}
        error, frames = wire.error_frame(request_id), wire.frames_of(reply)
        return await player.play_stream(headers, frames, error=error, garbage=wire.GARBAGE)


async def _embed(request: web.Request, *, wire: Wire, embedding_wire: EmbeddingWire) -> web.StreamResponse:
    """One request for vectors; a marker may stand in any of its texts."""
    demo, request_id = request.app[DEMO], _own_id(request)
    demo.bills.requests += 1
    _check_caller(request, wire)
    ask = embedding_wire.read_embedding_ask(await request.read(), _place(request))
    faults = demo.faults_for(ask.model, "\n".join(ask.texts))
    await _refuse(faults, wire, has_stream=False)
    usage = Usage(ask.input_tokens, 0, 0, 0, 0)
    with demo.bills.open(request_id=_caller_id(request), model=ask.model, usage=usage, stream=False) as bill:
        player = Player(request, times=demo.timing(ask.model, faults), faults=faults, bill=bill, reasoning=0)
        body = msgspec.json.encode(embedding_wire.embedding_body(ask, show_usage=not faults.no_usage))
        headers = {**_own_headers(wire, request_id), "Content-Type": "application/json"}
        return await player.play_whole(headers, body, 0)


def _check_caller(request: web.Request, wire: Wire) -> None:
    """The key, and what else a vendor wants to have said beside the body."""
    _check_key(request, wire)
    if wire is ANTHROPIC and anthropic_wire.VERSION_HEADER not in request.headers:
        raise Refusal(400, "anthropic-version: header is required")
    streams = request.match_info.get("operation") == "streamGenerateContent"
    if wire is GEMINI and streams and request.query.get("alt") != "sse":
        raise Refusal(400, "The demo provider streams with ?alt=sse only.")


def _place(request: web.Request) -> Place:
    found = request.match_info
    return Place(found.get("model", ""), found.get("operation", ""), request.app[DEMO].kept)


def _own_headers(wire: Wire, request_id: str) -> dict[str, str]:
    return {wire.REQUEST_ID_HEADER: request_id} if wire.REQUEST_ID_HEADER else {}


def _caller_id(request: web.Request) -> str:
    return request.headers.get("x-request-id") or _own_id(request)


async def _refuse(faults: Markers, wire: Wire, *, has_stream: bool) -> None:
    """Raises the Refusal that the markers ask for."""
    if faults.status is not None:
        await asyncio.sleep(faults.delay_s or 0)
        raise Refusal(faults.status, code=faults.code, retry_after_s=faults.retry_after_s, html=faults.html)
    if faults.error_in_stream is not None and not has_stream:
        raise Refusal(wire.OVERLOADED)
    if faults.blocked and not wire.BLOCKED:
        raise Refusal(400, code="content_filter")


def _blocked(wire: Wire, headers: dict[str, str], *, in_stream: bool) -> web.Response:
    """A vendor that says with status 200 that it will not read this prompt."""
    body = msgspec.json.encode(wire.BLOCKED)
    kind = wire.STREAM_TYPE if in_stream else "application/json"
    body = b"data: " + body + b"\r\n\r\n" if in_stream else body
    return web.Response(body=body, headers={**headers, "Content-Type": kind})


def _own_id(request: web.Request) -> str:
    """The provider's id of this request: unique, and the same again in a fresh server."""
    if OWN_ID not in request:
        number = next(request.app[DEMO].numbers)
        request[OWN_ID] = f"req_{hashlib.sha256(f'{request.path} {number}'.encode()).hexdigest()[:24]}"
    return request[OWN_ID]


def _check_key(request: web.Request, wire: Wire) -> None:
    if not wire.KEY_HEADERS:
        return
    key = request.query.get("key", "") if wire is GEMINI else ""
    for header in wire.KEY_HEADERS:
        sent = request.headers.get(header, "").strip()
        scheme, _, bearer = sent.partition(" ")
        key = key or (sent if header != "authorization" else bearer.strip() if scheme.lower() == "bearer" else "")
    if not key or key == INVALID_KEY:
        raise wire.key_refusal(key)


async def _models(request: web.Request) -> web.Response:
    """The list, or one model of it."""
    wire = wire_of(request.path, request.headers)
    wire = COHERE if "page_size" in request.query else wire  # its list stands where OpenAI's does
    _check_key(request, wire)
    found = wire.model_list(request.match_info.get("id"))
    if found is None:
        raise Refusal(404)
    return _json(found)


async def _count_tokens(request: web.Request) -> web.Response:
    _check_caller(request, ANTHROPIC)
    return _json(anthropic_wire.count_tokens(await request.read()))


async def _kept_response(request: web.Request) -> web.Response:
    """Whether a response is kept, and an end to that: its items, not the whole response as OpenAI gives it."""
    _check_key(request, RESPONSES)
    name, kept = request.match_info["id"], request.app[DEMO].kept
    if name not in kept:
        raise responses_wire.not_found(name)
    if request.method == "DELETE":
        del kept[name]
        return _json({"id": name, "object": "response", "deleted": True})
    return _json({"id": name, "object": "response", "items": kept[name]})


async def _health(request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _stats(request: web.Request) -> web.Response:
    return _json(request.app[DEMO].bills.stats())


async def _bills(request: web.Request) -> web.Response:
    return _json({"bills": request.app[DEMO].bills.rows(*request.query.getall("request_id", []))})


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
    wire, request_id, status = wire_of(request.path, request.headers), _own_id(request), refusal.status
    headers = _own_headers(wire, request_id)
    if refusal.retry_after_s is not None and wire.RETRY_HEADER:
        headers[wire.RETRY_HEADER] = f"{refusal.retry_after_s:g}"
    if not refusal.html:
        return _json(wire.error_body(refusal, request_id), status=status, headers=headers)
    # what a proxy in front of a provider sends when the provider does not answer
    page = f"<html>\r\n<head><title>{status}</title></head>\r\n<body><h1>{status}</h1></body>\r\n</html>"
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
