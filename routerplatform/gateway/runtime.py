"""What one event loop holds while it serves: configuration, ledger, sessions to providers. Built once, handed down."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from analytics.ledger.ledger import Ledger
from providers.fields import check_readable
from providers.fleet.health import FleetHealth
from providers.transport import Transport
from routerplatform.gateway.admission import Admissions
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.conversations import Conversations
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.errors import Stopping
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.metrics import Metrics
from routerplatform.gateway.metrics_port import MetricsPort
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.request_log import RequestLog
from routerplatform.gateway.response_cache import ResponseCache
from routerplatform.gateway.shadows import Shadows
from routerplatform.gateway.situations import Situations
from routerplatform.gateway.sockets import OpenSockets
from routerplatform.gateway.traces import Traces
from routing.config_store import ConfigStore

CLOSE_WITHIN_S: Final = 5.0
SWITCH_S: Final = 0.001  # how long a thread may keep the interpreter when another one wants it

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything the request path uses that lives longer than a request. Belongs to one event loop."""

    config: ConfigStore
    ledger: Ledger
    rate_limits: RateLimits
    cache: ResponseCache
    admissions: Admissions
    transport: Transport
    health: FleetHealth
    dispatcher: Dispatcher
    authenticator: Authenticator
    idempotency: Idempotency
    conversations: Conversations
    metrics: Metrics
    metrics_port: MetricsPort
    request_log: RequestLog
    traces: Traces
    sockets: OpenSockets
    situations: Situations
    shadows: Shadows
    max_body_bytes: int
    metrics_token: str = field(repr=False)  # empty: whoever is on this machine may read metrics
    keep_alive_s: float  # of silence in a stream, before it gets a sign of life; 0: never
    now: Callable[[], datetime] = utc_now
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)
    _cut: set[asyncio.Task[Any]] = field(default_factory=set)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Load the configuration, open the journal. Works without a reachable database: readiness then waits.

        :raises ImproperlyConfigured: a provider key cannot be opened with the field keys of this installation.
        """
        await self.config.start()
        if self.config.status().revision is not None:
            deployments = self.config.current().deployments.values()
            check_readable(credential.sealed for deployment in deployments for credential in deployment.credentials)
        await self.rate_limits.start()
        await self.health.start()
        await self.ledger.start()
        await self.metrics_port.start()
        _tune_interpreter()

    def announce_stop(self) -> None:
        """From now on this process is not ready, and serves what comes all the same."""
        self._leaving.set()

    @property
    def is_stopping(self) -> bool:
        return self._leaving.is_set()

    async def close(self) -> None:
        """Cut and settle what is still being answered, then let go of everything in reverse order.

        Who waits for such an answer is told `Stopping`.
        """
        self.announce_stop()
        for task in self._serving:
            if not task.cancelling():
                self._cut.add(task)
                task.cancel()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=CLOSE_WITHIN_S)
            if late:
                logger.error("%d requests could not be settled in time: their journal will be adopted", len(late))
        await self.shadows.close()
        await self.metrics_port.close()
        self.metrics.write()
        await asyncio.to_thread(self.traces.close)
        await self.idempotency.close()
        await self.conversations.close()
        await self.situations.close()
        await self.config.close()
        await self.cache.close()
        await self.transport.close()
        await self.rate_limits.close()
        await self.health.close()
        await self.ledger.close()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """While the calling task answers a request; servers end without waiting for tasks that are not their own.

        :raises Stopping: `close` has cut it. Whoever else cancels the task, cancels it.
        """
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cut or task.uncancel():
                raise
            raise Stopping from None
        finally:
            self._serving.discard(task)
            self._cut.discard(task)

    def problem(self) -> str:
        """Why this process should get no traffic; empty when it may. Neither database nor Redis count."""
        if self.is_stopping:
            return "This process is stopping."
        return "" if self.config.status().revision is not None else self.config.status().problem


@dataclass(slots=True)
class Runtimes:
    """One `Runtime` per event loop, built by `build` on first use: some servers never announce their start."""

    build: Callable[[], Runtime]
    _running: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Runtime]] = field(
        default_factory=WeakKeyDictionary
    )

    async def current(self) -> Runtime:
        """The runtime of this loop, started."""
        loop = asyncio.get_running_loop()
        task = self._running.get(loop)
        if task is None or (task.done() and task.exception()):
            task = self._running[loop] = loop.create_task(self._start())
        return task.result() if task.done() else await asyncio.shield(task)

    async def close(self) -> None:
        task = self._running.pop(asyncio.get_running_loop(), None)
        if task is not None:
            await (await task).close()

    async def _start(self) -> Runtime:
        runtime = self.build()
        await runtime.start()
        return runtime


def _tune_interpreter() -> None:
    """What is loaded by now stays; collecting it again and again cost a third of a request's CPU when measured. And the
    threads that ship and compile may keep the event loop waiting only for a moment."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    sys.setswitchinterval(SWITCH_S)
