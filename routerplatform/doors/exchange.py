"""An HTTP request at a plain door: reading its body within a limit, answering it, noticing that its caller left."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from analytics.domain.usage import UsageEntry
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.headers import error_headers
from routerplatform.gateway.errors import BodyTooLarge, GatewayError

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON = (b"content-type", b"application/json")
WATCH_AFTER_S = 0.05  # a caller who leaves sooner is noticed then


class CallerGone(GatewayError):
    """The caller closed the connection before it had its answer; there is nobody to tell."""

    code = "cancelled"
    http_status = 499

    def __init__(self) -> None:
        super().__init__("The caller closed the connection.")


class BrokenOff(Exception):
    """An answer breaks in the middle, in a shape that has no words for it: the connection is closed without its end."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request and the means to answer it. `began` is `time.perf_counter()`."""

    scope: Message
    receive: Receive
    send: Send
    request_id: str
    began: float
    bill: list[UsageEntry] = field(default_factory=list)  # what became of it, once that is on record
    error_body: Callable[[GatewayError, str], bytes] = openai_chat.error_body  # in the shape that the caller knows

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
        body = self.error_body(error, self.request_id)
        await self.reply(error.http_status, body, error_headers(error, self.bill))


class Lifetime:
    """Of a request that Django answers: what was begun for it ends with it, and as soon as its caller is seen to leave.

    Cancelling is not enough: a thread that is on its way to a view hears nothing, begins afterwards, and Django waits
    for it. Belongs to the event loop.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_over = False
        self._endings: list[Callable[[], object]] = []

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.end()
        return message

    def at_end(self, ending: Callable[[], object]) -> None:
        """Have it called when the request is over; at once if that was before."""
        if self._is_over:
            ending()
        else:
            self._endings.append(ending)

    def end(self) -> None:
        self._is_over = True
        for ending in self._endings:
            ending()


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
