"""The counters of rate limits in Redis, for all gateways: one script, one trip for all that is asked at once.

Keys live two seconds longer than what they count, and all in one slot of a cluster.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from routing.domain.limits import Level, Operation

SCRIPT: Final = Path(__file__).with_name("rate_limits.lua").read_text()
PREFIX: Final = "router:{limits}:"
CLOCK_OF_THE_SERVER: Final = 0
TURNS_TO_READ: Final = 3  # of the event loop, from bytes on the socket to a decoded answer

Answer = tuple[int, list[list[Level]]]
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_encode = msgspec.msgpack.Encoder().encode


class CountersUnreachable(Exception):
    """Redis did not answer in time, or with an error; the text says which."""


class SharedCounters:
    """One connection. Call `apply` again only when it has come back."""

    def __init__(self, url: str) -> None:
        # Trying again, and how long to wait, is decided by who counts in memory meanwhile.
        self._redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        self._script = self._redis.register_script(SCRIPT)

    async def apply(
        self, operations: Sequence[Operation], *, timeout_s: float, now_ms: int = CLOCK_OF_THE_SERVER
    ) -> Answer:
        """Carry out operations in order, each as a whole: the time it was there in ms, and the levels of each.

        :raises CountersUnreachable: they may have been carried out or not.
        """
        keys: dict[str, int] = {}
        packed = [
            (
                operation.act,
                operation.member,
                operation.second,
                [
                    (keys.setdefault(cell.key, len(keys) + 1), cell.is_slot, cell.limit, cell.amount)
                    for cell in operation.cells
                ],
            )
            for operation in operations
        ]
        trip = asyncio.ensure_future(self._script(keys=[PREFIX + key for key in keys], args=[now_ms, _encode(packed)]))
        try:
            await _wait_for(trip, timeout_s)
            return _decoder.decode(trip.result())
        except asyncio.InvalidStateError:
            raise CountersUnreachable(f"no answer within {timeout_s * 1000:.0f} ms") from None
        except (RedisError, OSError, msgspec.DecodeError) as error:
            raise CountersUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            if not trip.done():
                trip.cancel()  # closes the connection: a late answer must not be taken for the next one's
                await asyncio.wait([trip])

    async def close(self) -> None:
        await self._redis.aclose()


async def _wait_for(trip: asyncio.Future[bytes], timeout_s: float) -> None:
    """Until it is done, or late. An answer that came while this loop was held up is not late: it gets read first."""
    await asyncio.wait([trip], timeout=timeout_s)
    for _ in range(TURNS_TO_READ):
        if trip.done():
            return
        await asyncio.sleep(0)
