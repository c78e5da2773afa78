"""The current `ConfigSnapshot` of a process: loaded at start, swapped when the database's revision moves.

A snapshot that cannot be read or compiled never replaces a good one: the store keeps serving the last, says so in
`status`, and tries again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import Error, connections

from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.selectors import artefact_data, config_revision, config_rows
from routing.trained import TrainedArtefacts

logger = logging.getLogger(__name__)


class ConfigUnavailable(Exception):
    """No configuration has been loaded yet; the text says why."""


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """`age_s`: since the database was last asked; `problem` is empty while all is well."""

    revision: int | None
    age_s: float
    problem: str


class ConfigStore:
    """Holds one snapshot. `current()` is safe to call from the event loop at any time and never waits."""

    def __init__(self, *, poll_s: float, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._poll_s = poll_s
        self._clock = clock
        self.artefacts = TrainedArtefacts()
        self._snapshot: ConfigSnapshot | None = None
        self._asked_at = time.monotonic()
        self._problem = "The configuration has not been loaded yet."
        self._task: asyncio.Task[None] | None = None
        # one thread of its own, so that one connection stays open instead of one per poll
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="config")

    async def start(self) -> None:
        """Load once, then watch the revision until `close`."""
        await self.refresh()
        self._task = asyncio.create_task(self._watch(), name="config-watch")

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown(wait=False)

    def current(self) -> ConfigSnapshot:
        """The snapshot to serve a request from, start to end.

        :raises ConfigUnavailable: none has been loaded yet.
        """
        if self._snapshot is None:
            raise ConfigUnavailable(self._problem)
        return self._snapshot

    def status(self) -> ConfigStatus:
        revision = self._snapshot.revision if self._snapshot else None
        return ConfigStatus(revision, time.monotonic() - self._asked_at, self._problem)

    async def refresh(self) -> None:
        """Look at the revision now, and load what is new. Never raises, whatever the database holds or is."""
        held = self._snapshot.revision if self._snapshot else None
        try:
            fresh = await asyncio.get_running_loop().run_in_executor(self._thread, self._load_if_moved, held)
        except Exception as error:  # a process edge: a watch that ends would keep revoked keys in force for ever
            self._complain(
                f"It could not be refreshed, the last good one stays in force. {type(error).__name__}: {error}"
            )
            return
        self._asked_at = time.monotonic()
        if fresh:
            self._snapshot = fresh
            logger.info("configuration revision %s is in force", fresh.revision)
        self._complain(" ".join((*self._snapshot.problems, *self.artefacts.problems)) if self._snapshot else "")

    def _load_if_moved(self, held: int | None) -> ConfigSnapshot | None:
        try:
            if held is not None and config_revision() == held and not self._price_is_due():
                return None
            now = self._clock()
            snapshot = compile_snapshot(config_rows(now=now), now=now)
            self.artefacts.prepare(snapshot.artefact, artefact_data)
            return snapshot
        except Error:
            connections.close_all()  # the next look begins with a fresh connection
            raise

    def _price_is_due(self) -> bool:
        """Dated prices begin without an edit, so a snapshot is compiled anew at each full hour."""
        if self._snapshot is None:
            return False
        return self._snapshot.compiled_at.timetuple()[:4] != self._clock().timetuple()[:4]

    def _complain(self, problem: str) -> None:
        """Remember what is wrong, and log it once."""
        if problem and problem != self._problem:
            logger.error("configuration: %s", problem)
        self._problem = problem

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()
