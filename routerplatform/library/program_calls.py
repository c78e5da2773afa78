"""Calling what belongs to the program: its provider classes, its classifier, its callbacks.

A coroutine runs in the event loop of whoever waits, where its sessions and locks belong; a plain function in a daemon
thread. Whatever they do, the gateway's own loop goes on: what they raise comes back as an exception that can be told
of, and one that hangs is left behind and holds up neither a lookup of another vendor's address nor the program's end.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

MOST_THREADS: Final = 64


class ProgramEnded(Exception):
    """`SystemExit`, `KeyboardInterrupt` or `StopIteration` of a program's code: none may reach a loop."""


class ProgramCalls:
    """Belongs to one event loop. At most `most` plain functions run at a time; more of them wait."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._room = asyncio.Semaphore(most)

    async def call(self, function: Callable[..., Any], *given: Any, loop: asyncio.AbstractEventLoop | None) -> Any:
        """What `function` gives or raises. `loop` is the program's, None where it has none.

        :raises ProgramEnded: it wants to end the program.
        """
        if inspect.iscoroutinefunction(function):
            return await _in_loop(lambda: function(*given), loop)
        said = await self._in_thread(function, given)
        return await _in_loop(lambda: said, loop) if inspect.isawaitable(said) else said

    async def _in_thread(self, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        await self._room.acquire()
        outcome = _Outcome(asyncio.get_running_loop(), self._room.release)
        work = Thread(target=copy_context().run, args=(_work, function, given, outcome), name="program", daemon=True)
        try:
            work.start()
        except RuntimeError:  # no more threads
            self._room.release()
            raise
        return await outcome.told


async def _in_loop(begin: Callable[[], Awaitable[Any]], loop: asyncio.AbstractEventLoop | None) -> Any:
    if loop is None or not loop.is_running() or loop is asyncio.get_running_loop():
        return await _contained(begin())

    async def there() -> Any:
        return await begin()

    return await _contained(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop)))


async def _contained(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except (KeyboardInterrupt, SystemExit) as error:
        raise _ended(error) from error


def _ended(error: BaseException) -> ProgramEnded:
    return ProgramEnded(f"{type(error).__name__} {error}".rstrip())


class _Outcome:
    """Hands on what a thread gives or raises, unless nobody waits any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, over: Callable[[], None]) -> None:
        self.told: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self._loop = loop
        self._over = over

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, error)
        return True

    def _tell(self, error: BaseException | None) -> None:
        self._over()
        if self.told.done():
            return
        if error is None:
            self.told.set_result(self.result)
        elif isinstance(error, KeyboardInterrupt | SystemExit | StopIteration):
            self.told.set_exception(_ended(error))
        else:
            self.told.set_exception(error)


def _work(function: Callable[..., Any], given: tuple[Any, ...], outcome: _Outcome) -> None:
    with outcome:
        outcome.result = function(*given)
