"""A store that blocks (SQL), asked from an event loop: in threads of its own, each question within a time."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Final, ParamSpec, TypeVar

THREADS: Final = 4  # and connections to the database; opened with the first question
PATIENCE_S: Final = 3.0  # that a request waits for the store, each time
P = ParamSpec("P")
T = TypeVar("T")


class BlockingStore:
    """Belongs to one event loop. `close_connection` is called in every thread at the end."""

    def __init__(self, name: str, close_connection: Callable[[], None], *, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._name = name
        self._close_connection = close_connection
        self._threads: ThreadPoolExecutor | None = None

    @property
    def was_asked(self) -> bool:
        return self._threads is not None

    async def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The store's answer, or what it raised.

        :raises TimeoutError: it takes too long, and may still be carried out.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=self._name)
        asked = asyncio.get_running_loop().run_in_executor(self._threads, partial(question, *args, **kwargs))
        async with asyncio.timeout(self.patience_s):
            return await asked

    async def close(self) -> None:
        """Let go of the connections, once the questions under way are answered."""
        if self._threads is None:
            return
        gate, loop = Barrier(THREADS), asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, self._close_one, gate) for _ in range(THREADS)))
        self._threads.shutdown(wait=False)

    def _close_one(self, gate: Barrier) -> None:
        """Each thread has a connection of its own; none of them takes a second turn before all had one."""
        self._close_connection()
        with contextlib.suppress(BrokenBarrierError):
            gate.wait(timeout=1.0)
