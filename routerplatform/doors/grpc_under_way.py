"""The gRPC calls that are being answered, and how they end: with a status in our words, whatever happens to them."""

import asyncio
import logging
from types import TracebackType
from typing import Any

from grpc import aio

from routerplatform.doors.grpc_calls import DeadlineExceeded, RpcCall
from routerplatform.doors.grpc_errors import tell_error
from routerplatform.gateway.errors import GatewayError, InternalError, Unavailable

logger = logging.getLogger(__name__)


class CallsUnderWay:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self.is_cut = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def told(self, call: RpcCall) -> "Told":
        """Use it around the answering of a call."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Told(self, call, task)

    async def drained(self, within_s: float) -> bool:
        """Wait until there are none; whether that was in time."""
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        return not late

    def cut(self) -> int:
        """End them all: their callers are told to come again, and what they have cost is settled. Says how many."""
        self.is_cut = True
        for task in self._tasks:
            task.cancel()
        return len(self._tasks)


class Told:
    """However the answering ends, its caller gets a status; UNKNOWN, which the library would choose, is none."""

    def __init__(self, under_way: CallsUnderWay, call: RpcCall, task: "asyncio.Task[Any]") -> None:
        self._under_way = under_way
        self._call = call
        self._task = task

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self._in_our_words(error)
        if told is not None:
            await tell_error(self._call.context, told, self._call.request_id, self._call.bill)

    def _in_our_words(self, error: BaseException | None) -> GatewayError | None:
        """None: there is nothing to tell, or nobody."""
        match error:
            case GatewayError():
                return error
            case TimeoutError():
                return DeadlineExceeded()
            case asyncio.CancelledError() if self._under_way.is_cut:
                self._task.uncancel()
                return Unavailable("The gateway is stopping. Try again in a moment.", retry_after_s=1)
            case None | asyncio.CancelledError() | aio.BaseError():  # the last: the connection is gone
                return None
            case Exception():
                logger.error("request %s failed at the door", self._call.request_id, exc_info=error)
                return InternalError()
            case _:
                return None
