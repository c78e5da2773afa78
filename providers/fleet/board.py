"""What this process knows of failures, kept in step with all other processes; alone, it goes by what it sees itself.

A change is a pure function of an entry. It is made here at once, so that the next request already goes by it, and then
in Redis on top of what the others have made of the entry meanwhile; Redis has the last word. Nobody waits for that, but
for who claims something.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from providers.domain.breaker import Breaker
from providers.domain.key_rest import KeyRest
from providers.fleet.shared import HealthUnreachable, SharedHealth, Swap

Entry = Breaker | KeyRest
Change = Callable[[Entry | None], Entry | None]
Changes = dict[str, list[Change]]

BREAKER: Final = "b"  # what the names of a breaker's entries begin with
KEY: Final = "k"
TRIP_S: Final = 0.5
LAZY_S: Final = 0.05  # what need not be known at once is sent together
MOST_TRIES: Final = 20  # of a change that others keep getting in front of; one of them wins each time

logger = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_breaker = msgspec.msgpack.Decoder(Breaker)
_rest = msgspec.msgpack.Decoder(KeyRest)


class HealthBoard:
    """Entries by name; what is well has none. Belongs to one event loop."""

    def __init__(self, shared: SharedHealth | None, *, clock: Callable[[], float] = time.time) -> None:
        self.entries: dict[str, Entry] = {}
        self._shared = shared
        self._clock = clock
        self._ahead_s = 0.0  # of Redis' clock, by which all processes go
        self._is_alone = True
        self._read: dict[str, bytes] = {}  # as last seen in Redis
        self._pending: Changes = {}
        self._waiters: list[asyncio.Future[bool]] = []
        self._is_due = False  # something is to be sent, or to be looked at, without delay
        self._sender: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        return not self._is_alone

    def now(self) -> float:
        """Seconds since the epoch, by the one clock that all processes share."""
        return self._clock() + self._ahead_s

    async def start(self) -> None:
        """Look for Redis once; without it, go alone until it is found."""
        if self._shared is None:
            return
        await self.refresh()
        if self._is_alone:
            logger.warning("health: Redis does not answer. This process goes by its own failures until it does")
        self._listener = asyncio.create_task(self._shared.listen(self._wake), name="health-hints")

    async def close(self) -> None:
        """What was changed is sent first."""
        if self._timer is not None:
            self._wake()
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=1.0)
        for task in (self._sender, self._listener):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self._shared is not None:
            await self._shared.close()

    def change(self, name: str, change: Change, *, is_urgent: bool = True) -> None:
        """Change an entry here, and soon everywhere. Never waits."""
        self._put(name, change(self.entries.get(name)))
        if not self._is_alone:
            self._pending.setdefault(name, []).append(change)
            self._wake() if is_urgent else self._wake_later()

    async def settled(self, *, within_s: float) -> bool:
        """Whether the changes so far are made in Redis; True without any. Waits for it only so long."""
        if self._is_alone:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake()
        done, _ = await asyncio.wait([waiter], timeout=within_s)
        return bool(done) and waiter.result()

    async def refresh(self) -> None:
        """Look at what is known everywhere. After a loss of Redis, what is known only here is told there."""
        if self._shared is None:
            return
        if not self._is_alone:
            self._wake()
            return
        with suppress(HealthUnreachable):
            await self._exchange([], tell=False)
            self._is_alone = False
            self._pending = {name: [_unless_there(entry)] for name, entry in self.entries.items()}
            self._adopt()
            if self._pending:
                self._wake()

    # --- the trip to Redis ---

    def _wake(self) -> None:
        self._is_due = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="health-send")

    def _wake_later(self) -> None:
        if self._timer is None and self._sender is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_S, self._wake)

    async def _send_all(self) -> None:
        """One trip after the other, each with all that has come meanwhile, as long as anything is in a hurry."""
        try:
            while self._is_due and not self._is_alone:
                self._is_due = False
                batch, self._pending = self._pending, {}
                waiters, self._waiters = self._waiters, []
                try:
                    await self._make(batch)
                except HealthUnreachable as error:
                    self._go_alone(str(error))
                _answer(waiters, not self._is_alone)
        finally:
            self._sender = None
        if self._pending:
            self._wake_later()

    async def _make(self, batch: Changes) -> None:
        """Make changes on top of what the others have made."""
        for _ in range(MOST_TRIES):
            wanted = {name: _changed(self._decoded(name), changes) for name, changes in batch.items()}
            is_news = any(_is_news(self._decoded(name), entry) for name, entry in wanted.items())
            swaps = [Swap(name, self._read.get(name, b""), _encoded(entry)) for name, entry in wanted.items()]
            swaps = [swap for swap in swaps if swap.was != swap.to_be]
            await self._exchange(swaps, tell=is_news)
            batch = {s.name: batch[s.name] for s in swaps if self._read.get(s.name, b"") != s.to_be}
            if not batch:
                break
        self._adopt()

    async def _exchange(self, swaps: list[Swap], *, tell: bool) -> None:
        assert self._shared is not None
        known = await self._shared.exchange(swaps, tell=tell, timeout_s=TRIP_S)
        self._ahead_s = known.now - self._clock()
        self._read = known.entries

    def _adopt(self) -> None:
        """Go by what is known everywhere, with what was changed here since on top."""
        found = {name: self._decoded(name) for name in self._read}
        self.entries = {name: entry for name, entry in found.items() if entry is not None}
        for name, changes in self._pending.items():
            self._put(name, _changed(self.entries.get(name), changes))

    def _go_alone(self, problem: str) -> None:
        logger.warning("health: Redis is lost (%s). This process goes by its own failures until it is back", problem)
        self._is_alone = True
        self._pending.clear()
        waiters, self._waiters = self._waiters, []
        _answer(waiters, False)

    def _put(self, name: str, entry: Entry | None) -> None:
        if entry is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = entry

    def _decoded(self, name: str) -> Entry | None:
        """What cannot be read was written by another version: it is taken for nothing."""
        try:
            blob = self._read[name]
            return _breaker.decode(blob) if name.startswith(BREAKER) else _rest.decode(blob)
        except (KeyError, msgspec.DecodeError):
            return None


def _changed(entry: Entry | None, changes: list[Change]) -> Entry | None:
    for change in changes:
        entry = change(entry)
    return entry


def _encoded(entry: Entry | None) -> bytes:
    return b"" if entry is None else _encode(entry)


def _is_news(was: Entry | None, is_now: Entry | None) -> bool:
    """Whether the others should know at once: that something is wrong at all, or how a request is to be sent now."""
    if isinstance(was, Breaker) and isinstance(is_now, Breaker):
        return (was.opened_at, was.prober) != (is_now.opened_at, is_now.prober)
    return was != is_now


def _unless_there(mine: Entry) -> Change:
    return lambda entry: mine if entry is None else entry


def _answer(waiters: list[asyncio.Future[bool]], is_made: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(is_made)
