"""A plug-in, held to its time: whatever it does, a request waits no longer than that and gets a classification.

After failures in a row it is left alone for a while, so that one that hangs costs nobody time, nor threads.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from routerplatform.gateway.classifiers.protocol import PlugIn, PlugInFailure, Reason, classification_of
from routing.domain.classification.types import Classification, PromptText

ENOUGH: Final = 3  # failures in a row
REST_S: Final = 30.0
LOG_EVERY_S: Final = 60.0

Failed = Callable[[str, str], None]
"""Told of each failure: the classifier's name, and why."""

logger = logging.getLogger(__name__)


class GuardedPlugIn:
    """Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        plug_in: PlugIn,
        *,
        timeout_s: float,
        failed: Failed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.problem = ""  # the last failure, in words; empty while all is well
        self._plug_in = plug_in
        self._failed = failed
        self._clock = clock
        self._failures = 0  # in a row
        self._rests_until = 0.0
        self._logged_at = -LOG_EVERY_S
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def is_resting(self) -> bool:
        return self._clock() < self._rests_until

    async def classify(self, prompt: PromptText) -> Classification | None:
        """What it says; None when it fails, is late or rests: the built-in one takes over."""
        if self.is_resting:
            return None
        try:
            found = classification_of(await self._within_its_time(prompt), self.name)
        except PlugInFailure as failure:
            if failure.reason != "late" or self._plug_in.is_ready:
                self._note(failure)
            return None
        self._failures, self.problem = 0, ""
        return found

    async def _within_its_time(self, prompt: PromptText) -> Any:
        """A task of its own, so that one that does not let itself be cancelled is left behind."""
        if len(self._running) >= self._plug_in.most:
            raise PlugInFailure("busy", f"it is being asked {len(self._running)} times")
        task: asyncio.Task[Any] = asyncio.create_task(_asked(self._plug_in, prompt))
        self._running.add(task)
        task.add_done_callback(self._over)
        try:
            await asyncio.wait([task], timeout=self.timeout_s)
        finally:  # also for a caller who leaves
            is_late = not task.done()
            if is_late:
                task.cancel()
        if is_late:
            raise PlugInFailure("late", f"it took longer than {self.timeout_s * 1000:g} ms")
        if task.cancelled():
            raise PlugInFailure("raised", "it cancelled itself")
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, PlugInFailure):
            raise error
        raise PlugInFailure("raised", f"{type(error).__name__}: {error}"[:500])

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # is looked at, so that nobody reports it as forgotten

    def _note(self, failure: PlugInFailure) -> None:
        """Count it, tell of it once in a minute, and let a plug-in rest that only fails."""
        reason: Reason = failure.reason
        self.problem = f"Classifier “{self.name}” fails ({reason}): {failure}. The built-in one classifies."
        self._failed(self.name, reason)
        self._failures += 1
        now = self._clock()
        if self._failures >= ENOUGH:
            self._failures, self._rests_until = 0, now + REST_S
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            logger.warning("%s", self.problem)


async def _asked(plug_in: PlugIn, prompt: PromptText) -> Any:
    return await plug_in.classify(prompt)
