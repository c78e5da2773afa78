"""Who has an `Idempotency-Key`: claims of this process, renewed while they run, and the answers kept for repetitions.

Only requests with the header come here. The store is SQL and blocks, so it is asked in threads of its own; a store
that does not answer in time makes the request fail, since nobody can tell then whether it is a repetition. Once a run
is over, the other way round: its caller gets the answer, and keeping it is tried again until the store is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from analytics.domain.idempotency import LEASE, AnswerState, Claim, KeptAnswer, Standing, StoreAwayError
from routerplatform.gateway.blocking_store import PATIENCE_S, BlockingStore
from routerplatform.gateway.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    IdempotencyNotKept,
    IdempotencyUnavailable,
)

RENEWALS: Final = 3  # in the time of a lease
MAX_UNSAVED: Final = 16  # answers that wait for the store to come back

logger = logging.getLogger(__name__)


class AnswerStore(Protocol):
    """Where claims and answers are; called in several threads. Every method but `close` raises StoreAwayError."""

    def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Standing | None: ...
    def renew(self, claims: Collection[Claim], *, until: datetime) -> None: ...
    def keep(self, claim: Claim, answer: KeptAnswer | None) -> bool: ...
    def release(self, claim: Claim) -> None: ...
    def close(self) -> None: ...


class Idempotency:
    """One per event loop, and every method belongs to it."""

    def __init__(
        self,
        store: AnswerStore,
        *,
        lease: timedelta = LEASE,
        patience_s: float = PATIENCE_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._lease = lease
        self._asked = BlockingStore("idempotency", store.close, patience_s=patience_s)
        self._now = now
        self._running: dict[str, Claim] = {}  # by request id
        self._unsaved: dict[str, KeptAnswer | None] = {}  # of those, what is over and could not be kept yet
        self._ending: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def claim(self, claim: Claim) -> KeptAnswer | None:
        """Take the key for a run, which must end in `keep` or `release`; or get the answer that it led to before.

        :raises IdempotencyInProgress, IdempotencyKeyReused, IdempotencyNotKept:
        :raises IdempotencyUnavailable: the store did not answer in time.
        """
        now = self._now()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._renew_for_ever())
        try:
            found = await self._asked.ask(self._store.claim, claim, now=now, until=now + self._lease)
        except (StoreAwayError, TimeoutError) as error:
            raise IdempotencyUnavailable from error
        if found is not None:
            return _told_again(claim, found)
        self._running[claim.request_id] = claim
        return None

    async def keep(self, claim: Claim, answer: KeptAnswer | None) -> None:
        """The run is over and was answered (None: with more than can be kept). A cancelled caller ends the waiting,
        not the keeping."""
        await self._end(self._keep(claim, answer))

    async def release(self, claim: Claim) -> None:
        """The run is over without an answer. Without the store the key is free when its lease has run out."""
        await self._end(self._release(claim))

    async def close(self) -> None:
        """Finish what is being kept or released; let go of the store."""
        if self._keeper is None:  # nobody ever came with a key
            return
        self._keeper.cancel()
        if self._ending:
            await asyncio.wait(self._ending, timeout=self._asked.patience_s)
        await self._asked.close()

    # --- behind it -----------------------------------------------------------------------------------------------

    async def _end(self, ending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    async def _keep(self, claim: Claim, answer: KeptAnswer | None) -> None:
        try:
            kept = await self._asked.ask(self._store.keep, claim, answer)
        except (StoreAwayError, TimeoutError) as error:
            if claim.request_id not in self._unsaved:
                logger.warning(
                    "the answer to request %s is not kept yet: %s", claim.request_id, str(error) or "no answer"
                )
            if len(self._unsaved) < MAX_UNSAVED:
                self._unsaved[claim.request_id] = answer
                return
        else:
            if not kept:
                logger.warning("request %s lost its idempotency key while it ran", claim.request_id)
        self._forget(claim)

    async def _release(self, claim: Claim) -> None:
        self._forget(claim)
        with contextlib.suppress(StoreAwayError, TimeoutError):
            await self._asked.ask(self._store.release, claim)

    def _forget(self, claim: Claim) -> None:
        self._running.pop(claim.request_id, None)
        self._unsaved.pop(claim.request_id, None)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / RENEWALS)
            for request_id, answer in list(self._unsaved.items()):
                await self._keep(self._running[request_id], answer)
            if self._running:
                with contextlib.suppress(StoreAwayError, TimeoutError):
                    claims = list(self._running.values())
                    await self._asked.ask(self._store.renew, claims, until=self._now() + self._lease)


def _told_again(claim: Claim, found: Standing) -> KeptAnswer:
    """What a repetition gets to hear."""
    if found.claim.body_digest != claim.body_digest:
        raise IdempotencyKeyReused
    if found.state is AnswerState.RUNNING:
        raise IdempotencyInProgress
    if found.answer is None:
        raise IdempotencyNotKept(found.claim.request_id)
    return found.answer
