"""The door for people: chat over a WebSocket, streamed straight from the provider's answer to the socket.

A caller signs in by an `Authorization` header, by the subprotocol pair (`router.chat`, key), or by a first message
`{"type": "auth", "token": ...}`. A browser's page must come from this host or from an allowed origin.
Closing codes: 4401 not signed in, 4403 origin refused, 4429 too many chats or sockets at once, 1012 this gateway stops:
every chat that had its `start` is over by then, and any other is to be sent again on a new socket.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.urls import path
from msgspec import Raw

from analytics.domain.usage import UsageEntry
from providers.domain.types import ChatRequest
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.formats.native import Failed, FrameOut, NativeWriter, Pong, Ready, encode, usage_frame
from routerplatform.doors.hints import LONGEST_HINT, hints_of
from routerplatform.gateway.conversation_pins import HINT as CONVERSATION
from routerplatform.gateway.errors import GatewayError, InvalidRequest, Stopping
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, current_config, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.situations import TAG
from routerplatform.gateway.steps import Closed, Opened
from routing.domain.config import Caller, Scope
from routing.domain.decision import AUTO, chats, visible_models

SUBPROTOCOL = "router.chat"
SIGN_IN_WITHIN_S = 10.0
MAX_CHATS = 8
MAX_GREETING = 4096  # characters of a message before anybody has signed in; a token has some 200
NOT_SIGNED_IN, ORIGIN_REFUSED, TOO_MANY = 4401, 4403, 4429
SERVICE_RESTART = 1012
SAID_IN = {"tag": TAG, "conversation": CONVERSATION}  # fields of a chat, and the headers that other callers say it in
OWN_FIELDS = frozenset({"type", "id", *SAID_IN})


class ChatConsumer(AsyncWebsocketConsumer):
    """One socket: any number of chats after another, up to `MAX_CHATS` at once, each in a task of its own."""

    runtime_key: ClassVar[str] = "router.runtime"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # however it ends
            scope[self.runtime_key].sockets.leave(self)

    async def connect(self) -> None:
        scope = cast(dict[str, Any], self.scope)
        self.runtime: Runtime = scope[self.runtime_key]
        self.credential = ""
        self.sequence = 0
        self.chats: dict[str, asyncio.Task[None]] = {}
        self.told: set[str] = set()  # running chats whose last frame is on its way: their callers may go on
        self.is_over = False
        self.sign_in_timer: asyncio.TimerHandle | None = None
        offered: Sequence[str] = scope.get("subprotocols", ())
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if not _origin_allowed(scope):
            await self.close(ORIGIN_REFUSED)
            return
        if not self.runtime.sockets.enter(self):
            await self.close(TOO_MANY)
            return
        if self.runtime.sockets.are_retiring:
            self.retire()
            return
        presented = _presented(scope, offered)
        if presented:
            await self._sign_in(presented)
        else:
            loop = asyncio.get_running_loop()
            self.sign_in_timer = loop.call_later(SIGN_IN_WITHIN_S, lambda: loop.create_task(self._too_late()))

    async def disconnect(self, code: int) -> None:
        """The person has left: cancel every answer upstream, and see each one settled."""
        self.is_over = True
        if self.sign_in_timer:
            self.sign_in_timer.cancel()
        tasks = list(self.chats.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def retire(self) -> None:
        """Leave now, or after the last chat: its `done` comes first."""
        if not self.chats and not self.is_over:
            self.leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        with suppress(OSError):  # the caller was quicker
            await self.close(SERVICE_RESTART)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Harmless when it is closed."""
        if not self.is_over:
            self.is_over = True
            await super().close(code, reason)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.is_over:  # it crossed our goodbye: its sender has seen no `start` and asks elsewhere
            return
        try:
            limit = self.runtime.max_body_bytes if self.credential else MAX_GREETING
            fields = _message(text_data, limit=limit)
            kind = _text(fields, "type")
            if kind == "ping":
                await self._send(Pong())
            elif kind == "auth":
                await self._sign_in(_text(fields, "token"))
            elif not self.credential:
                await self.close(NOT_SIGNED_IN)
            elif kind == "chat":
                await self._chat(fields)
            elif kind == "stop":
                self._stop(_text(fields, "id"))
            else:
                raise InvalidRequest(f"“{kind}” is not a message type: auth, chat, stop or ping.", param="type")
        except GatewayError as error:
            await self._send(NativeWriter("").failed(error))

    # --- signing in ---

    async def _sign_in(self, presented: str) -> None:
        try:
            caller = self._caller(presented)
        except GatewayError as error:
            await self._send(NativeWriter("").failed(error))
            await self.close(NOT_SIGNED_IN)
            return
        if not self.runtime.sockets.take_key(self, caller.key_id):
            await self.close(TOO_MANY)
            return
        self.credential = presented
        if self.sign_in_timer:
            self.sign_in_timer.cancel()
        await self._send(self._ready(caller))

    def _caller(self, presented: str) -> Caller:
        snapshot = current_config(self.runtime)
        return self.runtime.authenticator.caller(snapshot, presented, now=self.runtime.now(), scope=Scope.CHAT)

    def _ready(self, caller: Caller) -> Ready:
        snapshot = current_config(self.runtime)
        personas = sorted(snapshot.personas.values(), key=lambda persona: persona.name)
        models = [{"id": AUTO, "description": "The policy decides"}]
        models += [{"id": m.name, "description": m.description} for m in visible_models(snapshot, caller) if chats(m)]
        return Ready(
            personas=[{"slug": p.slug, "name": p.name, "description": p.description} for p in personas], models=models
        )

    async def _too_late(self) -> None:
        if not self.credential:
            await self.close(NOT_SIGNED_IN)

    # --- chats ---

    async def _chat(self, fields: dict[str, Raw]) -> None:
        chat_id = _text(fields, "id")
        if not chat_id or chat_id in self.chats:
            raise InvalidRequest("A chat needs an “id” that no running chat of this socket has.", param="id")
        if len(self.chats) >= MAX_CHATS:
            await self.close(TOO_MANY)
            return
        if self.runtime.sockets.are_retiring:
            if self.chats.keys() - self.told:  # this socket ends with them; else it ends now, which says as much
                await self._send(NativeWriter("").failed(Stopping()), chat_id)
            return
        body = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
        said = {header: _text(fields, name)[:LONGEST_HINT] for name, header in SAID_IN.items() if name in fields}
        hints = {**hints_of(self.scope["headers"]), **said}
        task = asyncio.create_task(self._answer(chat_id, {**body, "stream": Raw(b"true")}, hints))
        self.chats[chat_id] = task
        task.add_done_callback(lambda _: self._chat_ended(chat_id))

    def _chat_ended(self, chat_id: str) -> None:
        self.chats.pop(chat_id, None)
        self.told.discard(chat_id)
        if self.runtime.sockets.are_retiring:
            self.retire()

    def _stop(self, chat_id: str) -> None:
        task = self.chats.get(chat_id)
        if task is not None:
            task.cancel()

    async def _answer(self, chat_id: str, fields: dict[str, Raw], hints: dict[str, str]) -> None:
        """One chat, from its request to `done` or `error`."""
        request_id = new_request_id()
        writer = NativeWriter(request_id)

        bill: list[UsageEntry] = []

        async def read() -> ChatRequest:
            return openai_chat.parse(msgspec.json.encode(fields))

        call = Call(request_id, "websocket", self.credential, time.perf_counter(), read, bill.append, hints=hints)
        try:
            await self._send(writer.start(), chat_id)
            async with aclosing(serve(self.runtime, call)) as steps:
                async for step in steps:
                    match step:
                        case Opened():
                            await self._send(writer.opened(step), chat_id)
                        case Closed():
                            self.told.add(chat_id)
                            await self._send_all(writer.closed(step), chat_id)
                        case list():
                            await self._send_all(writer.frames(step), chat_id)
        except GatewayError as error:
            self.told.add(chat_id)
            costs = [usage_frame(entry) for entry in bill if entry.cost_nano != 0]
            with suppress(OSError):
                await self._send_all([*costs, writer.failed(error)], chat_id)
        except asyncio.CancelledError:
            stopped = Failed(code="cancelled", message="Stopped.", request_id=request_id, status=499)
            with suppress(OSError):
                await self._send_all([*map(usage_frame, bill), stopped], chat_id)
            raise
        except OSError:  # what ASGI's `send` raises once the socket is gone; the chat is cancelled and settled by now
            pass

    async def _send_all(self, frames: Any, chat_id: str) -> None:
        for frame in frames:
            await self._send(frame, chat_id)

    async def _send(self, frame: FrameOut, chat_id: str = "") -> None:
        frame.id, frame.seq = chat_id, self.sequence
        self.sequence += 1
        await self.send(text_data=encode(frame).decode())


def socket_application() -> Any:
    """Every socket address of the platform."""
    return URLRouter([path("ws/chat/", ChatConsumer.as_asgi())])  # type: ignore[arg-type, list-item]


def _message(text: str | None, *, limit: int) -> dict[str, Raw]:
    if text is None:
        raise InvalidRequest("Send JSON text, not binary.")
    if len(text) > limit:
        raise InvalidRequest(f"The message is longer than {limit:,} characters.")
    try:
        return msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"The message is not a JSON object: {error}.") from error


def _text(fields: dict[str, Raw], name: str) -> str:
    try:
        return msgspec.json.decode(fields[name], type=str) if name in fields else ""
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidRequest(f"“{name}” must be a text.", param=name) from error


def _presented(scope: dict[str, Any], offered: Sequence[str]) -> str:
    """The key from the header, or the subprotocol beside our own."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value.decode("latin-1").partition(" ")[2].strip())
    others = [name for name in offered if name != SUBPROTOCOL]
    return others[0] if SUBPROTOCOL in offered and others else ""


def _origin_allowed(scope: dict[str, Any]) -> bool:
    """Programs send no origin. A page may connect from this very host, or from a listed origin."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in {b"origin", b"host"}}
    origin = headers.get(b"origin")
    if origin is None or origin in settings.WEBSOCKET_ALLOWED_ORIGINS:
        return True
    return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get(b"host")
