"""Runs `serve` for a view: Django moves a streamed response between tasks, and time limits must not be moved."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from django.http import StreamingHttpResponse

from providers.domain.answer import Frame
from routerplatform.doors.exchange import BrokenOff
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.native import Delta, FrameOut, NativeWriter, encode
from routerplatform.doors.idempotency import tell_whole
from routerplatform.gateway.errors import GatewayError, InternalError, Unavailable
from routerplatform.gateway.steps import Closed, Opened, Step

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 16  # groups of frames that a slow reader may lag behind before the provider is made to wait


@dataclass(slots=True)
class _Broken:
    """A failure on its way from the task that serves to the one that answers."""

    error: GatewayError


class Relay:
    """Runs the steps in a task of its own."""

    def __init__(self, steps: AsyncGenerator[Step, None]) -> None:
        self._queue: asyncio.Queue[Step | _Broken] = asyncio.Queue(QUEUE_LENGTH)
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._pump(steps))
        self._task.add_done_callback(self._ended)

    async def opened(self) -> Opened:
        """The first step.

        :raises GatewayError: nothing will be answered.
        """
        first: Step | None = None
        try:
            first = await self._next()
        finally:
            if first is None:
                self.cancel()
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
        """Cancelled, maybe before it began: the gateway stops; or the reader has gone, and then nobody reads this. What
        fails in another way must not leave the reader waiting for a step that never comes."""
        error: GatewayError
        if task.cancelled():
            error = Unavailable("The gateway is stopping. Try again in a moment.")
        elif fault := task.exception():
            logger.error("an answer could not be passed on", exc_info=fault)
            error = InternalError()
        else:
            return
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(_Broken(error))


# --- how a stream is written --------------------------------------------------------------------------------------


class Framing(Protocol):
    """Writes one streamed answer as bytes."""

    content_type: str

    def head(self, opened: Opened) -> bytes: ...

    def frames(self, frames: list[Frame]) -> bytes: ...

    def closed(self, closed: Closed) -> bytes: ...

    def broken(self, error: GatewayError) -> bytes:
        """The last bytes of an answer that broke. :raises BrokenOff: it has no words for that."""


class NativeEvents:
    """The platform's own frames as server-sent events."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, request_id: str) -> None:
        self._writer = NativeWriter(request_id)

    def head(self, opened: Opened) -> bytes:
        return _event(self._writer.start()) + _event(self._writer.opened(opened))

    def frames(self, frames: list[Frame]) -> bytes:
        return b"".join(_event(frame) for frame in self._writer.frames(frames))

    def closed(self, closed: Closed) -> bytes:
        return b"".join(_event(frame) for frame in self._writer.closed(closed))

    def broken(self, error: GatewayError) -> bytes:
        return _event(self._writer.failed(error))


class PlainText:
    """Nothing but the answer's text. One that breaks ends without its end: it must not look whole."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, request_id: str) -> None:
        self._writer = NativeWriter(request_id)

    def head(self, opened: Opened) -> bytes:
        return b""

    def frames(self, frames: list[Frame]) -> bytes:
        found = self._writer.frames(frames)
        return "".join(frame.text for frame in found if isinstance(frame, Delta)).encode(errors="replace")

    def closed(self, closed: Closed) -> bytes:
        return self.frames(closed.frames)

    def broken(self, error: GatewayError) -> bytes:
        raise BrokenOff(error.code) from error


def _event(frame: FrameOut) -> bytes:
    return sse.event(str(frame.__struct_config__.tag), encode(frame))


class RelayResponse(StreamingHttpResponse):
    """A streamed answer; closing it, for whatever reason, stops the relay."""

    def __init__(self, relay: Relay, framing: Framing, opened: Opened, scope: dict[str, Any]) -> None:
        super().__init__(_written(relay, framing, opened, scope), content_type=framing.content_type)
        self._relay = relay

    def close(self) -> None:
        self._relay.cancel()
        super().close()


async def _written(relay: Relay, framing: Framing, opened: Opened, scope: dict[str, Any]) -> AsyncIterator[bytes]:
    head = framing.head(opened)
    if head:
        yield head
    try:
        async with aclosing(relay.steps()) as steps:
            async for step in steps:
                is_last = isinstance(step, Closed)
                body = framing.closed(step) if isinstance(step, Closed) else framing.frames(cast(list[Frame], step))
                if is_last:
                    tell_whole(scope)
                if body:
                    yield body
    except GatewayError as error:
        yield framing.broken(error)
