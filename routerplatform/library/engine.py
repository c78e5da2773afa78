"""A gateway in a thread of its own: what a program's event loops come and go, it stays, and its records with it.

Nothing that the program does with its loop ends it: `asyncio.run` twice, a loop that is never closed, no loop at all.
What blocks (the database) runs in one more thread, so every call may be made from inside a running loop.
"""

import asyncio
import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtime
from routerplatform.library.errors import RouterError, SetupError, UnavailableError
from routerplatform.library.installation import installation_open
from routerplatform.library.python_providers import LibraryTransport

T = TypeVar("T")

CLOSE_WITHIN_S: Final = 15.0  # settling, shipping and letting go, each of which has limits of its own
SHIPPED_WITHIN_S: Final = 10.0
LOOK_EVERY_S: Final = 0.005
CALLER_LOOP: Final[ContextVar[asyncio.AbstractEventLoop | None]] = ContextVar("library-caller-loop", default=None)
"""The loop in which the program waits for the request that is being served; None where it waits in none."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What is there once the installation is: the gateway, and the virtual key of the library's own that pays; 0 where
    the program has one."""

    runtime: Runtime
    key_id: int


Work = Callable[[Opened], Coroutine[Any, Any, T]]


class Engine:
    """Starts at once and in the background; whoever needs it waits. Safe from every thread but its own."""

    def __init__(self, *, pays: bool) -> None:
        """`pays`: the library's own team and key are needed."""
        self._pays = pays
        self.transport = LibraryTransport(CALLER_LOOP)
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="ai-router-database")
        self._opened: Future[Opened] = Future()
        self._stop = asyncio.Event()
        self._gate = threading.RLock()  # between who begins and who closes; the collector may close in the midst
        self._is_closed = False
        self._running: set[asyncio.Task[Any]] = set()
        self._callbacks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="ai-router", daemon=True)
        self._thread.start()
        _at_exit(self)

    # --- for the program ---

    async def run(self, work: Work[T]) -> T:
        """Do it there, wait for it here; giving up here ends it there.

        :raises SetupError: there is no usable installation.
        :raises UnavailableError: the router is closed.
        """
        return await asyncio.wrap_future(self.submit(work, asyncio.get_running_loop()))

    def wait(self, work: Work[T]) -> T:
        """As `run`, for a program that waits without a loop, or that may keep its loop waiting."""
        if threading.current_thread() is self._thread:
            raise UnavailableError("deadlock", "This would wait for itself: use the async form inside of callbacks.")
        future = self.submit(work, None)
        try:
            return future.result()
        finally:
            future.cancel()  # when the program is interrupted

    def submit(self, work: Work[T], caller: asyncio.AbstractEventLoop | None) -> "Future[T]":
        """Begin it; `caller` is the loop in which the program's own coroutines are to run."""
        self._check_process()
        with self._gate:
            self._check_gate()
            return asyncio.run_coroutine_threadsafe(self._worked(work, caller), self._loop)

    def check_open(self) -> None:
        """:raises UnavailableError: the router is closed, or another process's."""
        self._check_process()
        with self._gate:
            self._check_gate()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            text = "This router belongs to the parent process. Make a new one after the fork."
            raise UnavailableError("forked", text)

    def _check_gate(self) -> None:
        if self._is_closed:
            raise UnavailableError("closed", "This router is closed. Make a new one.")

    def soon(self, function: Callable[[], object]) -> None:
        """Have the engine's loop call it; harmless when that has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside everything else; the log tells what it raises. From the engine's own loop."""
        task = self._loop.create_task(work)
        self._callbacks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._callbacks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a callback of the program failed", exc_info=error)

    async def in_database(self, work: Callable[[], T]) -> T:
        """Run what blocks; then have the gateway see what it has changed. From the engine's own loop."""
        found = await self._loop.run_in_executor(self._database, work)
        if self._opened.done() and not self._opened.exception():
            await self._opened.result().runtime.config.refresh()
        return found

    def blocking(self, work: Callable[[], T]) -> T:
        """Where the database may be used: not in the program's own thread, whose loop may be running."""

        async def worked(_: Opened) -> T:
            return await self.in_database(work)

        return self.wait(worked)

    def close(self) -> None:
        """Settle what is under way, ship what is on record, and end; harmless when it has ended."""
        self.end()
        if os.getpid() == self._pid and threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_WITHIN_S)

    def end(self) -> None:
        """As `close`, without waiting."""
        if os.getpid() != self._pid:
            return
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._stop.set)

    # --- its thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        finally:
            if not self._opened.done():
                self._opened.set_exception(SetupError("The router’s thread has failed; stderr tells why."))
            with self._gate:
                self._is_closed = True
            self._loop.run_until_complete(self._end_everything())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            self._database.submit(connections.close_all)
            self._database.shutdown(wait=False)

    async def _live(self) -> None:
        try:
            opened = await self._open()
        except RouterError as error:
            self._opened.set_exception(error)
        except (Error, ImproperlyConfigured, OSError) as error:
            self._opened.set_exception(SetupError(f"The installation cannot be used: {error}"))
        else:
            self._opened.set_result(opened)
            await self._stop.wait()
            await self._end_requests()
            await opened.runtime.close()
            return
        await self._stop.wait()  # whoever asks is told why there is none

    async def _open(self) -> Opened:
        key_id = await self._loop.run_in_executor(self._database, partial(installation_open, pays=self._pays))
        with _interpreter_untouched():
            runtime = build_runtime(transport=self.transport)
            await runtime.start()
        if problem := runtime.problem():
            await runtime.close()
            raise SetupError(f"The configuration cannot be loaded. {problem}")
        return Opened(runtime, key_id)

    async def _worked(self, work: Work[T], caller: asyncio.AbstractEventLoop | None) -> T:
        CALLER_LOOP.set(caller)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            opened = await asyncio.shield(asyncio.wrap_future(self._opened))
            return await work(opened)
        except asyncio.CancelledError:
            if self._is_closed:  # it was not the caller who has given up
                raise UnavailableError("closed", "The router was closed before the answer was whole.") from None
            raise
        finally:
            self._running.discard(task)

    async def _end_requests(self) -> None:
        """What a program has begun and not waited for is cancelled, which settles it."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_WITHIN_S / 3)
        if self._callbacks:  # an alert that has gone off may be told to its end
            await asyncio.wait(self._callbacks, timeout=CLOSE_WITHIN_S / 3)

    async def _end_everything(self) -> None:
        """What is still there: callbacks that hang; and, had this thread failed, whoever waits for an answer."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)


async def shipped(runtime: Runtime) -> None:
    """Until all that is settled is in the database.

    :raises UnavailableError: it does not get there.
    """
    try:
        async with asyncio.timeout(SHIPPED_WITHIN_S):
            while runtime.ledger.status().unshipped:  # noqa: ASYNC110 - the ledger tells nobody when it is done
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        why = runtime.ledger.status().last_error or "the database is busy"
        raise UnavailableError(
            "records_waiting", f"Records wait in the journal, nothing is lost: {why}.", retry_after=1
        ) from None


@contextmanager
def _interpreter_untouched() -> Iterator[None]:
    """A gateway tunes the interpreter of its process for itself; this process is somebody else's."""
    thresholds, switch_s = gc.get_threshold(), sys.getswitchinterval()
    try:
        yield
    finally:
        gc.unfreeze()  # even where a gateway had frozen it: every new router would keep all garbage of its day for ever
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(switch_s)


def _at_exit(engine: Engine) -> None:
    """Have a forgotten engine closed when the program ends. An ordinary `atexit` comes too late: by then no thread pool
    takes work any more, and nothing could be shipped. Without it nothing is lost: the next start adopts the journal."""
    register: Callable[..., object] | None = getattr(threading, "_register_atexit", None)
    forgotten = weakref.ref(engine)

    def close() -> None:
        still_there = forgotten()
        if still_there is not None:
            still_there.close()

    if register is not None:
        with suppress(RuntimeError):  # the program is ending already
            register(close)
