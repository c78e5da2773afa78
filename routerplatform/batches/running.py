"""A worker's turn at a batch: some minutes of asking, through a gateway runtime of the worker's own.

The caller's key is not at hand here. Each request presents a token that stands for it for a minute, signed with a salt
that no door knows; a key that was revoked stops the batch as it would stop its owner. What is answered is saved as it
comes, so that a worker that is killed leaves only what was under way to be asked again.
"""

import asyncio
import gc
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event, Lock
from typing import Final, ParamSpec, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connection, connections
from django.utils import timezone

from routerplatform.batches.services import (
    LeaseLost,
    Over,
    Taken,
    Turn,
    Work,
    batch_claim,
    batch_end,
    batch_release,
    batch_step,
    batch_unqueue,
    expired,
)
from routerplatform.batches.telling import outcome_of
from routerplatform.doors.batch_items import Caller, Crew, Item, Patience, Sums
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.errors import GatewayError, InternalError
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.runtime import Runtime
from routerplatform.models import BatchState, ItemState

SLICE_S: Final = 120.0  # then others have their turn; what is under way comes to its end first
TICK_S: Final = 1.0  # how long somebody who cancels may wait to be heard
STOP_WITHIN_S: Final = 5.0  # when the worker is told to end: what takes longer is cut, and asked again elsewhere
LONGEST_PAUSE_S: Final = 3600.0
TRIES: Final = 5
DATABASE_AWAY_S: Final = 60.0
SALT: Final = "batch"
TOKEN_S: Final = 60
KEY_GONE: Final = (
    "The virtual key that sent this batch may not chat any more: it was revoked, expired or lost its scope."
)

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

stopping: Final = Event()  # this process is told to end
_turn: Final = Lock()  # one batch at a time in a process: its other threads are for work that is not to wait


def batch_run(*, job_id: uuid.UUID) -> bool:
    """Work at a batch for a while; False if somebody else does, or it is over, or this process is busy, or has no
    configuration to ask by."""
    if stopping.is_set() or not _turn.acquire(blocking=False):
        batch_unqueue(job_id=job_id)
        return False
    try:
        work = batch_claim(job_id=job_id, now=timezone.now())
        if work is None:
            return False
        return asyncio.run(_work(work))
    finally:
        _turn.release()
        gc.unfreeze()  # a runtime freezes what is there when it starts: here that would keep each of them for ever


async def _work(work: Work) -> bool:
    tokens = PageTokens(salt=SALT, lifetime_s=TOKEN_S)
    authenticator = Authenticator(pepper=settings.KEY_PEPPER, page_tokens=tokens)
    runtime = replace(build_runtime(), authenticator=authenticator)
    await runtime.start()
    thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
    try:
        return await _Slice(work, runtime, tokens, thread).run()
    finally:
        await runtime.close()
        await asyncio.get_running_loop().run_in_executor(thread, connections.close_all)  # this thread's
        thread.shutdown(wait=False)


class _Slice:
    """One turn at one batch. What the database is asked, it is asked in one thread, one thing after the other."""

    def __init__(self, work: Work, runtime: Runtime, tokens: PageTokens, thread: ThreadPoolExecutor) -> None:
        left_s = (work.deadline_at - timezone.now()).total_seconds()
        self._work = work
        self._runtime = runtime
        self._thread = thread
        self._began = time.perf_counter()
        self._deadline = self._began + left_s
        self._cut_at: float | None = None
        self._error: GatewayError | None = None  # what the rest of the batch ends with
        self._taken: dict[int, Taken] = {}
        self._crew = Crew(
            runtime,
            Caller(tokens=tokens, key_id=work.key_id),
            work.shared,
            work.said,
            Patience(self._deadline, longest_s=LONGEST_PAUSE_S, tries=TRIES),
        )

    async def run(self) -> bool:
        """False: nothing could be asked, and others have no better chance just now."""
        if self._runtime.config.status().revision is None:  # each chat would fail with that
            await self._database(batch_release, lease=self._work.lease)
            return False
        try:
            await self._ask()
        except LeaseLost:
            logger.warning("batch %s was taken over by another worker, or is over", self._work.lease.job_id)
        finally:
            await self._crew.cut()
        return True

    async def _ask(self) -> None:
        over: list[Over] = []
        while True:
            want = 0 if self._is_ending() else self._work.max_parallel - len(self._crew)
            try:
                turn = await self._step(over, want)
            except ImproperlyConfigured as error:  # of those to be asked next: what is answered is saved all the same
                logger.error("batch %s cannot be read: %s", self._work.lease.job_id, error)
                self._error = InternalError()
                continue
            for taken in turn.taken:
                self._taken[taken.asked.index] = taken
                self._crew.start(Item(taken.asked, taken.request_id))
            if turn.wants_cancel:
                self._error = None
                await self._step(self._overs(await self._crew.cut(), cut=ItemState.CANCELLED), 0)
                await self._end(BatchState.CANCELLED)
                return
            if not len(self._crew):
                await self._leave(is_empty=want > 0)
                return
            over = self._overs(await self._some())

    def _is_ending(self) -> bool:
        """Whether nothing new is begun in this turn."""
        now = time.perf_counter()
        if stopping.is_set() and self._cut_at is None:
            self._cut_at = now + STOP_WITHIN_S
        if self._error is None and now >= self._deadline:
            self._error = expired(self._work.deadline_at)
        return self._cut_at is not None or self._error is not None or now - self._began >= SLICE_S

    async def _some(self) -> list[Item]:
        """Those that have come to an end, within a tick."""
        if self._cut_at is not None and time.perf_counter() >= self._cut_at:
            return await self._crew.cut()
        over = await self._crew.some(within_s=TICK_S)
        for item in over:
            if item.ends_batch and item.error is not None:
                item.error.message = KEY_GONE
                self._error = item.error
        return over

    async def _leave(self, *, is_empty: bool) -> None:
        """Nothing is under way; `is_empty`: nothing waits either."""
        if self._error is not None:
            await self._end(BatchState.FAILED)
        elif is_empty:
            await self._end(BatchState.DONE)
        else:
            await self._database(batch_release, lease=self._work.lease)

    def _overs(self, items: list[Item], *, cut: ItemState = ItemState.WAITING) -> list[Over]:
        return [self._over(item, cut) for item in items]

    async def _step(self, over: list[Over], want: int) -> Turn:
        """:raises ImproperlyConfigured: nothing is saved; where nothing more is wanted, everything is."""
        return await self._database(batch_step, lease=self._work.lease, over=over, want=want)

    def _over(self, item: Item, cut: ItemState) -> Over:
        """`cut`: what becomes of one that was stopped in the middle."""
        taken = self._taken.pop(item.asked.index)
        billed = [entry.request_id for entry in item.bill]
        sums = Sums.of(item.bill)
        if not item.is_over:
            return Over(item.asked.index, cut, (*taken.earlier, *billed), None, sums)
        tries = billed if item.request_id in billed else [*billed, item.request_id]
        state = ItemState.OK if item.response is not None else ItemState.ERROR
        return Over(item.asked.index, state, (*taken.earlier, *tries), outcome_of(item), sums)

    async def _end(self, state: BatchState) -> None:
        await self._database(batch_end, lease=self._work.lease, state=state, error=self._error)

    async def _database(self, question: Callable[..., T], **said: object) -> T:
        """Ask it, again and again while the database is away: what was paid for is not thrown away lightly.

        :raises LeaseLost: somebody else has the batch.
        :raises django.db.Error: it is away for too long.
        """
        give_up_at = time.perf_counter() + DATABASE_AWAY_S
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, partial(_asked, question, said))
            except Error as error:
                if time.perf_counter() >= give_up_at:
                    raise
                logger.warning("batch %s waits for the database: %s", self._work.lease.job_id, error)
                await asyncio.sleep(TICK_S)


def _asked(question: Callable[..., T], said: dict[str, object]) -> T:
    try:
        return question(**said, now=timezone.now())
    except Error:
        connection.close()  # it may be dead
        raise
    finally:
        connection.queries_log.clear()  # DEBUG keeps every statement, prompts and all
