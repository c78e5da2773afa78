"""A batch that is answered at once: its caller waits, and leaving cancels what runs."""

import asyncio
import time
from typing import Final

from routerplatform.doors.batch_items import Caller, Crew, Item, Patience, Said
from routerplatform.doors.exchange import Lifetime
from routerplatform.doors.formats.batch import Batch
from routerplatform.gateway.errors import BatchExpired, GatewayError, Stopping
from routerplatform.gateway.runtime import Runtime

LONGEST_PAUSE_S: Final = 10.0  # a caller who waits is better told to come again than to wait longer
TRIES: Final = 3


async def answered_for(
    lifetime: Lifetime | None, runtime: Runtime, batch: Batch, credential: str, said: Said, *, within_s: float
) -> list[Item]:
    """`answered_at_once`, as long as somebody waits for it.

    :raises Stopping: it was cancelled: its caller has left, or the gateway stops.
    """
    work = asyncio.create_task(answered_at_once(runtime, batch, credential, said, within_s=within_s))
    if lifetime is not None:
        lifetime.at_end(work.cancel)
    try:
        await asyncio.wait([work])
    finally:
        work.cancel()
    if work.cancelled():
        raise Stopping
    return work.result()


async def answered_at_once(
    runtime: Runtime, batch: Batch, credential: str, said: Said, *, within_s: float
) -> list[Item]:
    """Ask all of them, `max_parallel` at a time; those that have not begun within the time are not asked.

    Every item is over then, in the order of the batch. Cancelling it closes the calls upstream and settles them.
    """
    until = time.perf_counter() + within_s
    crew = Crew(
        runtime, Caller(credential), batch.shared, said, Patience(until, longest_s=LONGEST_PAUSE_S, tries=TRIES)
    )
    items = [Item(asked) for asked in batch.items]
    waiting = items[::-1]
    rest: GatewayError = BatchExpired(
        f"It did not get its turn within {within_s:g} s. Send fewer at once, or a batch with “background”."
    )
    try:
        while waiting or len(crew):
            while waiting and len(crew) < batch.max_parallel and time.perf_counter() < until:
                crew.start(waiting.pop())
            if not len(crew):
                break  # the time is up
            if stopped := [item.error for item in await crew.some() if isinstance(item.error, Stopping)]:
                rest, waiting = stopped[0], []
                await crew.cut()
    finally:
        await crew.cut()
    for item in items:
        item.error = item.error if item.is_over else rest
    return items
