"""What callers of the Responses API may continue by its id: found before a request, kept after it.

The store is SQL and blocks, so it is asked in threads of its own. Without it, a request that names an earlier response
fails, since nobody knows what was said; any other is served, and keeping its response is tried again for a while.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from analytics.domain.idempotency import StoreAwayError
from analytics.domain.responses import KeptResponse, may_be_an_id
from routerplatform.gateway.blocking_store import PATIENCE_S, BlockingStore
from routerplatform.gateway.errors import ResponsesUnavailable

PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # before each further try to keep a response
MAX_UNSAVED: Final = 16  # responses that wait for the store to come back

logger = logging.getLogger(__name__)


class ResponseStore(Protocol):
    """Where responses are; called in several threads. Every method but `close` raises StoreAwayError."""

    def keep(self, response: KeptResponse, *, now: datetime, until: datetime) -> bool: ...
    def find(self, team_id: int, response_id: str, *, now: datetime) -> KeptResponse | None: ...
    def forget(self, team_id: int, response_id: str) -> bool: ...
    def close(self) -> None: ...


class Conversations:
    """One per event loop, and every method belongs to it. With `kept_for` of zero nothing is kept, nor found."""

    def __init__(
        self,
        store: ResponseStore,
        *,
        kept_for: timedelta,
        patience_s: float = PATIENCE_S,
        pauses_s: tuple[float, ...] = PAUSES_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._kept_for = kept_for
        self._asked = BlockingStore("conversations", store.close, patience_s=patience_s)
        self._pauses_s = pauses_s
        self._now = now
        self._unsaved: dict[tuple[int, str], KeptResponse] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()  # for the next try

    @property
    def keeps(self) -> bool:
        return bool(self._kept_for)

    async def find(self, team_id: int, response_id: str) -> KeptResponse | None:
        """What is known of a response of this team.

        :raises ResponsesUnavailable: the store did not answer in time.
        """
        if not self.keeps or not may_be_an_id(response_id):
            return None
        unsaved = self._unsaved.get((team_id, response_id))
        if unsaved is not None:
            return unsaved
        try:
            return await self._asked.ask(self._store.find, team_id, response_id, now=self._now())
        except (StoreAwayError, TimeoutError) as error:
            raise ResponsesUnavailable from error

    async def keep(self, response: KeptResponse) -> None:
        """Have a response kept. Never fails; waits no longer than the store is given. A cancelled caller ends the
        waiting, not the keeping."""
        if self.keeps and may_be_an_id(response.response_id):
            await asyncio.shield(_held(self._keep(response), self._keeping))

    async def forget(self, team_id: int, response_id: str) -> bool:
        """False if it was not kept here.

        :raises ResponsesUnavailable: the store did not answer in time.
        """
        if not self.keeps or not may_be_an_id(response_id):
            return False
        unsaved = self._unsaved.pop((team_id, response_id), None)
        try:
            return await self._asked.ask(self._store.forget, team_id, response_id) or unsaved is not None
        except (StoreAwayError, TimeoutError) as error:
            raise ResponsesUnavailable from error

    async def close(self) -> None:
        """Finish what is being kept; let go of the store. What waits for another try is lost."""
        if not self._asked.was_asked:  # nobody ever came
            return
        for task in self._waiting:
            task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=self._asked.patience_s)
        await self._asked.close()

    # --- behind it -----------------------------------------------------------------------------------------------

    async def _keep(self, response: KeptResponse) -> None:
        if await self._is_kept(response):
            return
        if len(self._unsaved) >= MAX_UNSAVED:
            logger.warning("response %s is lost: too many wait for the database", response.response_id)
            return
        self._unsaved[response.team_id, response.response_id] = response
        _held(self._try_again(response), self._waiting)

    async def _try_again(self, response: KeptResponse) -> None:
        key = response.team_id, response.response_id
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            if key not in self._unsaved:  # forgotten meanwhile
                return
            if await self._is_kept(response):
                break
        else:
            logger.warning("response %s is lost: the database stayed away", response.response_id)
        self._unsaved.pop(key, None)

    async def _is_kept(self, response: KeptResponse) -> bool:
        now = self._now()
        try:
            await self._asked.ask(self._store.keep, response, now=now, until=now + self._kept_for)
        except (StoreAwayError, TimeoutError) as error:
            logger.warning("response %s is not kept yet: %s", response.response_id, str(error) or "no answer in time")
            return False
        return True


def _held(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """A task that is not collected while it runs."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
