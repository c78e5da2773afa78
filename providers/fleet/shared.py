"""What is known of failures, in Redis, for all processes: one hash, changed by compare-and-set, and a channel of hints.

It holds nothing about what is well, so it is empty most of the time.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

SCRIPT: Final = Path(__file__).with_name("shared.lua").read_text()
HASH: Final = "router:health"
LIVES_S: Final = 86_400
LISTEN_AGAIN_S: Final = 1.0
TURNS_TO_READ: Final = 3  # of the event loop, from bytes on the socket to a decoded answer

logger = logging.getLogger(__name__)


class HealthUnreachable(Exception):
    """Redis did not answer in time, or with an error; the text says which."""


class Swap(NamedTuple):
    """Put `to_be` in the place of `was`, if that is what is there; empty is nothing."""

    name: str
    was: bytes
    to_be: bytes


class Known(NamedTuple):
    """All entries after an exchange; `now` is the server's time in seconds since the epoch."""

    now: float
    entries: dict[str, bytes]


class SharedHealth:
    """A connection for exchanges, and one that listens. Call `exchange` again only when it has come back."""

    def __init__(self, url: str) -> None:
        self._me = secrets.token_hex(8).encode()
        # Trying again, and what to do meanwhile, is decided by who asks.
        self._redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        # Nothing comes on it for hours; redis-py would take that for a dead connection after 5 s.
        self._listening = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_keepalive=True)
        self._script = self._redis.register_script(SCRIPT)

    async def exchange(self, swaps: Sequence[Swap], *, tell: bool, timeout_s: float) -> Known:
        """Carry out what still fits, and read everything. `tell`: the other processes shall look at once.

        :raises HealthUnreachable: the swaps may have been carried out or not.
        """
        arguments = [self._me, LIVES_S, b"1" if tell else b"", *(part for swap in swaps for part in swap)]
        trip = asyncio.ensure_future(self._script(keys=[HASH], args=arguments))
        try:
            await _wait_for(trip, timeout_s)
            seconds, micros, *flat = trip.result()
        except asyncio.InvalidStateError:
            raise HealthUnreachable(f"no answer within {timeout_s * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            raise HealthUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            if not trip.done():
                trip.cancel()  # closes the connection: a late answer must not be taken for the next one's
                await asyncio.wait([trip])
        entries = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return Known(int(seconds) + int(micros) / 1e6, entries)

    async def listen(self, hint: Callable[[], None]) -> None:
        """Call `hint` whenever another process has told of a change; for ever, through all losses of Redis."""
        while True:
            try:
                async with self._listening.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(HASH)
                    async for message in channel.listen():
                        if message["data"] != self._me:
                            hint()
            except (RedisError, OSError) as error:
                logger.debug("health: no hints from Redis: %s", error)
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._listening.aclose()


async def _wait_for(trip: asyncio.Future[list[bytes]], timeout_s: float) -> None:
    """Until it is done, or late. An answer that came while this loop was held up is not late: it gets read first."""
    await asyncio.wait([trip], timeout=timeout_s)
    for _ in range(TURNS_TO_READ):
        if trip.done():
            return
        await asyncio.sleep(0)
