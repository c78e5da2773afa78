"""`Idempotency-Key` on a door: `once` goes around whatever answers, and sees every byte that leaves.

It knows nothing of formats. A door says by `tell_whole` that the answer is good to its end; only then it is kept, and
kept before its last byte goes out, so that a caller who lost the connection at the very end finds it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from analytics.domain.idempotency import MAX_ANSWER_BYTES, MAX_KEY_LENGTH, Claim, KeptAnswer, claim_of, is_key
from routerplatform.doors.exchange import Exchange, Message, Receive, read_body
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routing.domain.config import Scope

HEADER: Final = b"idempotency-key"
RECORDER: Final = "router.recorder"  # in the ASGI scope, where Django's views find it too
REPLAYED: Final = (b"idempotent-replayed", b"true")
NOT_KEPT: Final = (b"x-router-idempotency", b"not-kept")
OF_THE_MOMENT: Final = (b"x-ratelimit-", b"set-cookie", b"date", b"server")  # true once, and not a day later


async def once(runtime: Runtime, exchange: Exchange, answer: Callable[[Runtime, Exchange], Awaitable[None]]) -> None:
    """Have `answer` answer a request; with an `Idempotency-Key`, only if it was not answered before.

    :raises GatewayError: a bad key of either kind, another request with this key, or one that is still running.
    """
    if not any(name == HEADER for name, _ in exchange.scope["headers"]):
        await answer(runtime, exchange)
        return
    claim, body = await _claim(runtime, exchange)
    kept = await runtime.idempotency.claim(claim)
    if kept is not None:
        await _replay(exchange, kept)
        return
    recorder = Recorder(runtime.idempotency, claim, exchange)
    scope = {**exchange.scope, RECORDER: recorder}
    again = replace(exchange, scope=scope, receive=_read_again(body, exchange.receive), send=recorder.send)
    try:
        await answer(runtime, again)
    finally:
        await recorder.end()


def tell_whole(scope: Message) -> None:
    """A door says: what leaves from now on completes a good answer."""
    recorder = scope.get(RECORDER)
    if recorder is not None:
        recorder.is_whole = True


class Recorder:
    """Takes down what one exchange sends, up to what may be kept."""

    def __init__(self, idempotency: Idempotency, claim: Claim, exchange: Exchange) -> None:
        self.is_whole = False
        self._idempotency = idempotency
        self._claim = claim
        self._send = exchange.send
        self._start: Message = {}
        self._has_begun = False
        self._pieces: list[bytes] = []
        self._left = MAX_ANSWER_BYTES
        self._has_ended = False

    async def send(self, message: Message) -> None:
        """Pass it on; the last one only after the answer is kept, or its key is free.

        The head waits for the first piece, so that nothing can come between a whole answer and its keeping.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._take(message.get("body", b""))
        if not message.get("more_body"):
            await self._keep()
        if not self._has_begun:
            self._has_begun = True
            await self._send(self._head())
        await self._send(message)

    async def end(self) -> None:
        """Nothing more will come. What has not come to its end may be tried again at once."""
        if not self._has_ended:
            self._has_ended = True
            await self._idempotency.release(self._claim)

    async def _keep(self) -> None:
        if not self.is_whole or self._start["status"] not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            await self.end()
            return
        self._has_ended = True
        await self._idempotency.keep(self._claim, self._answer() if self._left >= 0 else None)

    def _head(self) -> Message:
        is_too_large = _length(self._start) > MAX_ANSWER_BYTES
        return {**self._start, "headers": [*self._start["headers"], NOT_KEPT]} if is_too_large else self._start

    def _take(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left >= 0:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _answer(self) -> KeptAnswer:
        headers = [(name.lower(), value) for name, value in self._start["headers"]]
        lasting = [(name, value) for name, value in headers if not name.startswith(OF_THE_MOMENT)]
        return KeptAnswer(self._start["status"], lasting, b"".join(self._pieces))


async def _claim(runtime: Runtime, exchange: Exchange) -> tuple[Claim, bytes]:
    """Who asks for what. The virtual key comes first: one that is no longer valid gets no old answers."""
    snapshot = current_config(runtime)
    caller = runtime.authenticator.caller(snapshot, exchange.credential(), now=runtime.now(), scope=Scope.CHAT)
    value = exchange.header(HEADER)
    if not is_key(value):
        raise InvalidRequest(
            f"An Idempotency-Key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.", param="Idempotency-Key"
        )
    body = await read_body(exchange, limit=runtime.max_body_bytes)
    scope = exchange.scope
    claim = claim_of(
        value, key_id=caller.key_id, method=scope["method"], path=scope["path"], body=body,
        request_id=exchange.request_id,
    )  # fmt: skip
    return claim, body


async def _replay(exchange: Exchange, kept: KeptAnswer) -> None:
    """The answer as it was, at no cost: no record, no limit, no budget has to do with it."""
    start = {"type": "http.response.start", "status": kept.status, "headers": [*kept.headers, REPLAYED]}
    await exchange.send(start)
    await exchange.send({"type": "http.response.body", "body": kept.body})


def _read_again(body: bytes, receive: Receive) -> Receive:
    """The messages of a request whose body has been read."""
    unread = [body]

    async def next_message() -> Message:
        return {"type": "http.request", "body": unread.pop()} if unread else await receive()

    return next_message


def _length(start: Message) -> int:
    """What an answer's head announces; 0 where it says nothing."""
    announced = next((value for name, value in start["headers"] if name.lower() == b"content-length"), b"0")
    return int(announced)
