"""Says something in a stream that has nothing to say yet, so that no proxy takes the silence for death.

Before the first content that has a price: once a first sign of life has gone out with status 200, a failure can only be
told inside the stream. So it comes after `after_s` of waiting, when most failures are known.
"""

import asyncio

from routerplatform.doors.exchange import Message, Send


class KeepAlive:
    """Use as a context around the streaming, and send through `send`. `sign` is what the format's clients pass over.

    `start` is the head that goes out with a first sign of life, where the answer's own has not been sent by then.
    """

    def __init__(self, send: Send, start: Message, sign: bytes, *, after_s: float) -> None:
        self.has_started = False
        self._send = send
        self._start = start
        self._sign = sign
        self._after_s = after_s
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def send(self, message: Message) -> None:
        """Pass a message on; a second head is left out."""
        self._last = self._loop.time()
        if self._task is None:
            await self._pass(message)
            return
        async with self._turn:
            await self._pass(message)

    def start(self) -> None:
        """The request is for a stream: from now on, silence is noticed."""
        if self._after_s > 0:
            self._timer = self._loop.call_later(self._after_s, self._look)

    def __enter__(self) -> "KeepAlive":
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.has_started:
                return
            self.has_started = True
        await self._send(message)

    def _look(self) -> None:
        """One timer for the whole stream: it looks again when the silence could be long enough."""
        silent_s = self._loop.time() - self._last
        if silent_s >= self._after_s:
            self._task = self._loop.create_task(self._sign_of_life())
            silent_s = 0.0
        self._timer = self._loop.call_later(self._after_s - silent_s, self._look)

    async def _sign_of_life(self) -> None:
        self._last = self._loop.time()
        async with self._turn:
            await self._pass(self._start)
            await self._send({"type": "http.response.body", "body": self._sign, "more_body": True})
