"""One gRPC call at the door: what it says beside its message, its message, and the ways to answer it."""

import asyncio
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from django.conf import settings
from google.protobuf.message import DecodeError
from grpc import aio

from analytics.domain.idempotency import MAX_ANSWER_BYTES, Claim, KeptAnswer
from analytics.domain.usage import UsageEntry
from routerplatform.doors.headers import Headers
from routerplatform.doors.hints import hints_of
from routerplatform.doors.idempotency import NOT_KEPT, OF_THE_MOMENT, REPLAYED
from routerplatform.gateway.errors import GatewayError, InvalidRequest
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.ids import new_request_id
from routerplatform.protos.ai_router_pb2 import AIRequest, AIResponse, HealthCheckRequest, ProviderStatusRequest

Context = aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str | bytes], ...]
M = TypeVar("M", AIRequest, HealthCheckRequest, ProviderStatusRequest)

LENGTH: Final = struct.Struct(">I")  # before each message of a kept answer
OF_THE_END: Final = frozenset({b"x-router-cost-usd", b"x-router-overhead-ms"})  # what trails an answer


class DeadlineExceeded(GatewayError):
    """The caller's own deadline has passed; what was asked until then is on the caller's bill."""

    code = "deadline_exceeded"
    http_status = 504

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "The deadline of the call has passed before the answer was whole. Set a later one.")


@dataclass(frozen=True, slots=True)
class RpcCall:
    """A call that has come in. Its message is not read yet: that waits until the key is known to be good."""

    context: Context
    method: str  # “/ai_router.v1.AIRouter/RouteRequest”
    request_id: str = field(default_factory=new_request_id)
    began: float = field(default_factory=time.perf_counter)
    bill: list[UsageEntry] = field(default_factory=list)

    def said(self, name: str) -> str:
        """The first value of the caller's metadata by this name; empty when absent."""
        return next((value for key, value in self._texts() if key == name), "")

    def credential(self) -> str:
        """The key that the caller presents, in either vendor's style."""
        scheme, _, token = self.said("authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else self.said("x-api-key")

    def hints(self) -> dict[str, str]:
        """What routing may look at, by the rules of the HTTP headers."""
        return hints_of((key.encode(), value.encode("latin-1", errors="replace")) for key, value in self._texts())

    async def read(self) -> bytes:
        """The one message of the call. One that is too large is refused by the library, which then reads as none.

        :raises InvalidRequest: there is none.
        """
        message = await self.context.read()
        if not isinstance(message, bytes):
            raise InvalidRequest("The call came without a message.")
        return message

    def _texts(self) -> Iterable[tuple[str, str]]:
        for key, value in self.context.invocation_metadata() or ():
            if isinstance(value, str):  # those with a name in “-bin” are bytes
                yield key, value


def parsed(kind: type[M], raw: bytes) -> M:
    """:raises InvalidRequest: the bytes are no such message."""
    try:
        message: M = kind()
        message.ParseFromString(raw)
        return message
    except DecodeError as error:
        raise InvalidRequest(
            f"The message cannot be read as {kind.DESCRIPTOR.full_name}: it is damaged, or has text that is not UTF-8."
        ) from error


def metadata_of(headers: Headers) -> Metadata:
    """HTTP headers as metadata, whose values are printable ASCII."""
    return tuple((name.decode(), _printable(value.decode(errors="replace"))) for name, value in headers)


def _printable(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


# --- answering ----------------------------------------------------------------------------------------------------


class Outlet(Protocol):
    """Where an answer goes: `begin`, any number of `say`, `finish`. Metadata goes as HTTP headers."""

    async def begin(self, headers: Headers) -> None: ...
    async def say(self, message: AIResponse) -> None: ...
    async def finish(self, message: AIResponse, trailers: Headers) -> None: ...


class Wire:
    """Straight to the caller, message by message; an answer that is told whole has just the last.

    One who does not read holds the provider, and a place at its limits, no longer than a request may take.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def begin(self, headers: Headers) -> None:
        await self._context.send_initial_metadata(metadata_of(headers))

    async def say(self, message: AIResponse) -> None:
        """:raises DeadlineExceeded: nobody takes it."""
        try:
            async with asyncio.timeout(settings.REQUEST_TIMEOUT_S):
                await self._context.write(message.SerializeToString())
        except TimeoutError as error:
            raise DeadlineExceeded("The answer was not read in time. Read its pieces as they come.") from error

    async def finish(self, message: AIResponse, trailers: Headers) -> None:
        self._context.set_trailing_metadata(metadata_of(trailers))
        await self.say(message)


class Recorder:
    """Takes down what goes to another outlet, up to what may be kept. The answer is kept before its last message goes
    out, so that a caller who lost the connection at the very end finds it."""

    def __init__(self, outlet: Outlet, idempotency: Idempotency, claim: Claim) -> None:
        self._outlet = outlet
        self._idempotency = idempotency
        self._claim = claim
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._left = MAX_ANSWER_BYTES
        self._has_ended = False

    async def begin(self, headers: Headers) -> None:
        self._headers = headers
        await self._outlet.begin(headers)

    async def say(self, message: AIResponse) -> None:
        self._take(message)
        await self._outlet.say(message)

    async def finish(self, message: AIResponse, trailers: Headers) -> None:
        self._take(message)
        self._has_ended = True
        is_kept = self._left >= 0
        await self._idempotency.keep(self._claim, self._answer(trailers) if is_kept else None)
        await self._outlet.finish(message, trailers if is_kept else [*trailers, NOT_KEPT])

    async def end(self) -> None:
        """Nothing more will come. What has not come to its end may be tried again at once."""
        if not self._has_ended:
            await self._idempotency.release(self._claim)

    def _take(self, message: AIResponse) -> None:
        data = message.SerializeToString()
        self._left -= len(data)
        if self._left >= 0:
            self._pieces += [LENGTH.pack(len(data)), data]
        else:
            self._pieces.clear()

    def _answer(self, trailers: Headers) -> KeptAnswer:
        lasting = [header for header in [*self._headers, *trailers] if not header[0].startswith(OF_THE_MOMENT)]
        return KeptAnswer(200, lasting, b"".join(self._pieces))


def kept_messages(answer: KeptAnswer) -> list[AIResponse]:
    """The messages of a kept answer, in their order."""
    messages, at = [], 0
    while at < len(answer.body):
        (length,) = LENGTH.unpack_from(answer.body, at)
        at += LENGTH.size
        messages.append(AIResponse.FromString(answer.body[at : at + length]))
        at += length
    return messages


async def tell_again(outlet: Outlet, answer: KeptAnswer) -> None:
    """The answer as it was, at no cost: no record, no limit, no budget has to do with it."""
    *pieces, last = kept_messages(answer)
    at_end = [header for header in answer.headers if header[0] in OF_THE_END]
    await outlet.begin([*(header for header in answer.headers if header not in at_end), REPLAYED])
    for piece in pieces:
        await outlet.say(piece)
    await outlet.finish(last, at_end)
