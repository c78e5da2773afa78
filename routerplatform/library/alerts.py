"""Alerts at a cost: a callback when what a router has spent since it was made reaches a threshold."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from analytics.domain.usage import UsageEntry
from routerplatform.library.engine import Engine
from routerplatform.library.errors import BadRequestError, is_number
from routerplatform.library.program_calls import ProgramCalls

NANO: Final = 1e9


@dataclass(frozen=True, slots=True)
class CostAlert:
    """What a callback is told: the threshold that was reached, and what was spent by then (USD)."""

    threshold: float
    total_cost: float


OnAlert = Callable[[CostAlert], Any]


@dataclass(frozen=True, slots=True)
class _Watch:
    threshold: float
    callback: OnAlert
    loop: asyncio.AbstractEventLoop | None  # where a coroutine of the program belongs


class CostAlerts:
    """Adds up what is settled, and calls each callback once, in the background: a request never waits for it.

    Safe from every thread. A request of unknown price adds nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._spent_nano = 0
        self._watches: list[_Watch] = []
        self._calls = ProgramCalls()

    def watch(self, threshold: float, callback: OnAlert) -> None:
        """Call back when so many USD are reached; soon, when they are already.

        :raises BadRequestError: no amount above zero, or nothing that can be called.
        :raises UnavailableError: the router is closed.
        """
        alert_checked(threshold, callback)
        self._engine.check_open()
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        with self._lock:
            self._watches.append(_Watch(float(threshold), callback, loop))
        self._look()

    def settled(self, entry: UsageEntry) -> None:
        """A request is on record; called from the engine's loop."""
        with self._lock:
            self._spent_nano += entry.cost_nano or 0
        self._look()

    def _look(self) -> None:
        with self._lock:
            spent = self._spent_nano / NANO
            due = [watch for watch in self._watches if spent >= watch.threshold]
            self._watches = [watch for watch in self._watches if watch not in due]
        for watch in due:
            self._engine.soon(partial(self._begin, watch, CostAlert(watch.threshold, spent)))

    def _begin(self, watch: _Watch, alert: CostAlert) -> None:
        """A plain function in a thread of its own, a coroutine in the loop that it was given in."""
        self._engine.background(self._calls.call(watch.callback, alert, loop=watch.loop))


def alert_checked(threshold: float, callback: OnAlert) -> None:
    """:raises BadRequestError: no amount above zero, or nothing that can be called."""
    if not is_number(threshold) or threshold <= 0 or not callable(callback):
        raise BadRequestError("invalid_alert", "An alert needs an amount in USD above 0, and a function to call.")
