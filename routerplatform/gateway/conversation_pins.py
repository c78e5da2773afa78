"""Which model has answered a conversation, so that it can go on with it: in memory, and in Redis for all gateways."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from routerplatform.gateway.recent import Recent
from routerplatform.gateway.shared_pins import Pin, PinsAway, SharedPins

HINT: Final = "x-router-conversation"
TTL_S: Final = 3600
MOST: Final = 50_000
MOST_WRITES: Final = 1_000  # on their way to Redis; beyond that a pin is known here only


class ConversationPins:
    """Belongs to one event loop. Without `shared` it knows what this process has answered."""

    def __init__(
        self,
        shared: SharedPins | None = None,
        *,
        most: int = MOST,
        ttl_s: int = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._ttl_s = ttl_s
        self._known: Recent[str, Pin] = Recent(most=most, ttl_s=ttl_s, clock=clock)
        self._writing: set[asyncio.Task[None]] = set()

    def known(self, key: str) -> Pin | None:
        """What this process knows."""
        return self._known.get(key)

    async def find(self, key: str) -> Pin | None:
        """What all gateways know: another one may have answered last. Waits for Redis no longer than 50 ms."""
        if self._shared is None:
            return self._known.get(key)
        try:
            found = await self._shared.find(key)
        except PinsAway:
            return self._known.get(key)
        return found or self._known.get(key)

    def keep(self, key: str, pin: Pin) -> None:
        """Know it here at once, and soon everywhere. Never waits."""
        self._known.put(key, pin)
        if self._shared is not None and len(self._writing) < MOST_WRITES:
            task = asyncio.create_task(self._write(self._shared, key, pin))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        if self._writing:
            await asyncio.wait(self._writing, timeout=1.0)
        if self._shared is not None:
            await self._shared.close()

    async def _write(self, shared: SharedPins, key: str, pin: Pin) -> None:
        with suppress(PinsAway):
            await shared.keep(key, pin, ttl_s=self._ttl_s)


def conversation_key(team_id: int, *, said: str, system: str, first_turn: str) -> str:
    """The same for all turns of a conversation of a team: by the id that the caller gave it (`said`), else by how it
    began; “” where nothing was said. A team cannot reach another's."""
    if not said and not system and not first_turn:
        return ""
    parts = ("id", said) if said else ("began", system, first_turn)
    digest = blake2b(digest_size=16)
    for part in (str(team_id), *parts):
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\x1f")
    return digest.hexdigest()
