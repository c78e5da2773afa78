"""Which model serves a conversation, in Redis, for all gateways. A slow Redis is left alone for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PREFIX: Final = "router:pin:"
PATIENCE_S: Final = 0.05
AWAY_S: Final = 2.0  # for so long it is left alone after a failure
CONNECTIONS: Final = 16
T = TypeVar("T")


class Pin(NamedTuple):
    """The deployment that has answered a conversation last, and how many tokens its prompt had then."""

    deployment: str
    input_tokens: int


class PinsAway(Exception):
    """Redis did not answer in time, or has not lately."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pin).decode


class SharedPins:
    """One per event loop."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=patience_s, socket_timeout=1.0, socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._redis = Redis.from_pool(pool)
        self._patience_s = patience_s
        self._away_until = 0.0

    async def find(self, key: str) -> Pin | None:
        """None for none, and for what another version has written.

        :raises PinsAway: (both methods)
        """
        found: Any = await self._ask(lambda: self._redis.get(PREFIX + key))
        try:
            return _decode(found) if isinstance(found, bytes) else None
        except msgspec.DecodeError:
            return None

    async def keep(self, key: str, pin: Pin, *, ttl_s: int) -> None:
        await self._ask(lambda: self._redis.set(PREFIX + key, _encode(pin), ex=ttl_s))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The patience is for all of it: for a connection out of the pool, too."""
        if time.monotonic() < self._away_until:
            raise PinsAway("it did not answer a moment ago")
        try:
            async with asyncio.timeout(self._patience_s):
                return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + AWAY_S
            raise PinsAway(f"{type(error).__name__}: {error}") from error
