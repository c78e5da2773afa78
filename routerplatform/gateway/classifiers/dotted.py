"""A classifier of one's own: a Python class by its dotted path, with `classify(prompt)`, sync or async."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

from routerplatform.gateway.classifiers.protocol import PlugInFailure
from routing.domain.classification.types import PromptText

MOST_THREADS: Final = 4  # that a plug-in which hangs may hold for ever

Load = Callable[[], Callable[[PromptText], Any]]
"""Gives the `classify` of a class or an object; may block and raise."""


class DottedPlugIn:
    """Created without importing anything: that begins with the first prompt, in a thread, and takes what it takes.

    Sync classes are asked in daemon threads of their own. Nobody can end a thread: one that hangs is left behind, and
    after `MOST_THREADS` of them nobody is asked until one comes back. An async class runs on the event loop and must
    not block it.
    """

    def __init__(self, path: str, load: Load | None = None) -> None:
        self.most = 64
        self._load = load or partial(loaded, path)
        self._classify: Callable[[PromptText], Any] | None = None
        self._loading: asyncio.Task[Callable[[PromptText], Any]] | None = None
        self._threads = 0

    @property
    def is_ready(self) -> bool:
        return self._loading is None

    async def classify(self, prompt: PromptText) -> Any:
        classify = self._classify or await self._loaded()
        if inspect.iscoroutinefunction(classify):
            return await classify(prompt)
        return await self._in_thread(lambda: classify(prompt))

    async def _loaded(self) -> Callable[[PromptText], Any]:
        """Those who ask meanwhile wait for the same load, and may stop waiting. After a failure it is tried again."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._in_thread(self._load))
            self._loading.add_done_callback(self._keep)
        return await asyncio.shield(self._loading)

    def _keep(self, loading: asyncio.Task[Callable[[PromptText], Any]]) -> None:
        self._loading = None
        if not loading.cancelled() and loading.exception() is None:
            self._classify = loading.result()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, or raises.

        :raises PlugInFailure: too many threads hang in it.
        """
        if self._threads >= MOST_THREADS:
            raise PlugInFailure("busy", f"{self._threads} of its calls have not come back")
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Any] = loop.create_future()
        self._threads += 1
        Thread(target=_work, args=(work, _Report(loop, told, self._back)), name="classifier", daemon=True).start()
        return await told

    def _back(self) -> None:
        self._threads -= 1


def loaded(path: str) -> Callable[[PromptText], Any]:
    """The `classify` of an instance of the class at `path`. Blocks; raises whatever importing and creating raise.

    :raises PlugInFailure: there is no such class, or it has no `classify`.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise PlugInFailure("unusable", f"“{path}” is no dotted path of a class")
    found = getattr(import_module(module), name, None)
    if not isinstance(found, type):
        raise PlugInFailure("unusable", f"{module} has no class “{name}”")
    classify: Callable[[PromptText], Any] | None = getattr(found(), "classify", None)
    if classify is None:
        raise PlugInFailure("unusable", f"{path} has no classify(prompt)")
    return classify


class _Report:
    """Tells the event loop what a piece of work gave or raised, unless nobody waits any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, told: asyncio.Future[Any], back: Callable[[], None]) -> None:
        self._loop = loop
        self._told = told
        self._back = back
        self.result: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Nothing that a plug-in raises ends in anybody's log as an accident of ours."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, error)
        return True

    def _tell(self, error: BaseException | None) -> None:
        self._back()
        if self._told.done():  # it was late
            return
        if error is None:
            self._told.set_result(self.result)
        elif isinstance(error, PlugInFailure):
            self._told.set_exception(error)
        else:
            self._told.set_exception(PlugInFailure("raised", f"{type(error).__name__}: {error}"[:500]))


def _work(work: Callable[[], Any], report: _Report) -> None:
    with report:
        report.result = work()
