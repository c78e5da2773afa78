"""Kept answers in Redis, for all gateways: sealed, each with its time to live, and who is fetching one right now.

A Redis that does not answer at once is not asked again for a moment: a cache must never cost more than it saves.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PREFIX: Final = "router:{answers}:"
PATIENCE_S: Final = 0.25
AWAY_S: Final = 2.0  # for so long it is left alone after a failure
CONNECTIONS: Final = 32
# Only who holds a claim may give it up: it may have run out, and be another's by now.
GIVE_UP: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
T = TypeVar("T")


class AnswersAway(Exception):
    """Redis did not answer in time, or has not lately."""


class SharedAnswers:
    """One per event loop."""

    def __init__(self, url: str) -> None:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=PATIENCE_S, socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(GIVE_UP)
        self._away_until = 0.0

    async def read(self, key: str) -> str | None:
        """The sealed answer, None when there is none.

        :raises AnswersAway: (every method)
        """
        found = await self._ask(lambda: self._redis.get(PREFIX + key))
        return found.decode() if isinstance(found, bytes) else found

    async def claim(self, key: str, owner: str, *, for_s: float) -> bool:
        """Be the one who fetches this answer, unless somebody is already."""
        name = f"{PREFIX}{key}:claim"
        return bool(await self._ask(lambda: self._redis.set(name, owner, nx=True, px=int(for_s * 1000))))

    async def keep(self, key: str, sealed: str, *, ttl_s: int) -> None:
        await self._ask(lambda: self._redis.set(PREFIX + key, sealed, ex=ttl_s))

    async def give_up(self, key: str, owner: str) -> None:
        await self._ask(lambda: self._script(keys=[f"{PREFIX}{key}:claim"], args=[owner]))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() < self._away_until:
            raise AnswersAway("it did not answer a moment ago")
        try:
            return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + AWAY_S
            raise AnswersAway(f"{type(error).__name__}: {error}") from error
