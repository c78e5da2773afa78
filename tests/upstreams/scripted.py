"""A vendor on loopback that plays what a test scripted and remembers what it was asked.

    upstream.play(openai_stream("Hel", "lo"), status(503), cut_after("Hel"))

Each call takes the next script; when they run out, the last one plays again.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.stalls import PATIENCE_S

Script = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Recorded:
    """One call that arrived. `cut` is set when the caller closed the connection before the answer was whole."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    cut: asyncio.Event = field(default_factory=asyncio.Event)


class Upstream:
    """A running loopback vendor; `url` is its base URL with the version part."""

    def __init__(self, default: Script) -> None:
        self.calls: list[Recorded] = []
        self.url = ""
        self._scripts: list[Script] = [default]
        self._runner: web.AppRunner | None = None

    def play(self, *scripts: Script) -> None:
        self._scripts = list(scripts)

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.shutdown()
            await self._runner.cleanup()

    async def asked(self, times: int = 1) -> None:
        """Until so many calls have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.calls) < times:  # noqa: ASYNC110 - a list that tests empty as they like
                await asyncio.sleep(0.001)

    async def left(self, asking: Coroutine[Any, Any, Any], *, after_s: float = 0.3) -> None:
        """A request whose caller gives up: so long after it came here, however long that took."""
        caller = asyncio.create_task(asking)
        await self.asked()
        await asyncio.sleep(after_s)
        assert not caller.done(), "it was answered"
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        call = Recorded(request.path, dict(request.headers), json.loads(raw) if raw else {})
        self.calls.append(call)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            return await script(request, call.body)
        except (asyncio.CancelledError, ConnectionError):
            call.cut.set()
            raise


# --- scripts: any vendor -----------------------------------------------------------------------------------------


def status(code: int, body: dict[str, Any] | str = "", headers: dict[str, str] | None = None) -> Script:
    """An error, or whatever a status with a body is."""

    async def script(request: web.Request, body_in: dict[str, Any]) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(status=code, text=body, headers=headers)
        return web.json_response(body, status=code, headers=headers)

    return script


def frames(*pieces: bytes, pause_s: float = 0.0, end: str = "eof", content_type: str = "text/event-stream") -> Script:
    """A streamed body, piece by piece; `end` is eof, cut (connection reset) or hang."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause_s)
        if end == "hang":
            await asyncio.sleep(60)
        if end == "cut":
            assert request.transport is not None
            request.transport.abort()
        return response

    return script


def hang(seconds: float = 60.0) -> Script:
    """Takes the request and says nothing."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(text="")

    return script


def drop() -> Script:
    """Closes the connection without a byte."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionError

    return script


def sse(*events: dict[str, Any] | str) -> list[bytes]:
    """Server-sent events, one per value."""
    return [f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n".encode() for e in events]


# --- scripts: OpenAI's wire --------------------------------------------------------------------------------------

OPENAI_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def openai_answer(text: str = "Hello", *, usage: dict[str, Any] | None = OPENAI_USAGE, **extra: Any) -> Script:
    """A whole answer when asked for one, the same text in a stream when asked for that."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return await openai_stream(*text, usage=usage if wants_usage else None)(request, body)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        answer = {"id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**answer, "choices": [choice], "usage": usage, **extra})

    return script


def openai_chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-up",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **extra,
    }


def openai_events(*texts: str, usage: dict[str, Any] | None = OPENAI_USAGE) -> list[bytes]:
    """A whole stream of OpenAI's wire."""
    chunks: list[dict[str, Any] | str] = [openai_chunk({"role": "assistant", "content": ""})]
    chunks += [openai_chunk({"content": text}) for text in texts]
    chunks.append(openai_chunk({}, "stop"))
    if usage:
        chunks.append({**openai_chunk({}), "choices": [], "usage": usage})
    return sse(*chunks, "[DONE]")


def openai_stream(*texts: str, usage: dict[str, Any] | None = OPENAI_USAGE, pause_s: float = 0.0) -> Script:
    return frames(*openai_events(*texts, usage=usage), pause_s=pause_s)


# --- scripts: Anthropic's wire -----------------------------------------------------------------------------------


def anthropic_answer(text: str = "Bonjour", *, input_tokens: int = 12, output_tokens: int = 5) -> Script:
    """A whole answer when asked for one, the same text in a stream when asked for that."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            return await anthropic_stream(*text, input_tokens=input_tokens, output_tokens=output_tokens)(request, body)
        return web.json_response(
            {
                "id": "msg_up",
                "type": "message",
                "role": "assistant",
                "model": body["model"],
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
            }
        )

    return script


def anthropic_stream(*texts: str, input_tokens: int = 12, output_tokens: int = 5, pause_s: float = 0.0) -> Script:
    message = {"id": "msg_up", "type": "message", "role": "assistant", "model": "m", "content": []}
    start = {**message, "usage": {"input_tokens": input_tokens, "output_tokens": 1}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output_tokens}},
        {"type": "message_stop"},
    ]
    pieces = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    return frames(*pieces, pause_s=pause_s)
