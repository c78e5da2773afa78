"""The chats of a batch: each is a request of its own, with its own id, record, limits, budget and place in the cache.

Whoever runs a batch starts them through a `Crew` and is told what became of each. A chat that meets a rate limit waits
for its turn as long as its `Patience` goes; nothing else about a batch is different from asking one by one.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from analytics.domain.usage import UsageEntry
from providers.domain.types import ChatRequest
from routerplatform.doors.formats import prompted
from routerplatform.doors.formats.batch import Asked, Fields, chat_body
from routerplatform.doors.formats.native import answer
from routerplatform.doors.hints import LONGEST_HINT
from routerplatform.gateway.conversation_pins import HINT as CONVERSATION
from routerplatform.gateway.errors import Forbidden, GatewayError, RateLimited, Stopping, Unauthenticated
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.pipeline import Call, answered
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.situations import TAG, TASK_TYPE, task_named

DOOR: Final = "batch"
MOMENTARY: Final = frozenset({429, 503})
SHORTEST_PAUSE_S: Final = 0.2
SPREAD: Final = 0.2  # of a pause, so that those who wait for the same do not come back together


@dataclass(frozen=True, slots=True)
class Said:
    """What the caller of a batch said beside its body; it holds for every chat."""

    hints: Mapping[str, str] = field(default_factory=dict)
    cache_wish: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a chat waits for its turn. `until` is `time.perf_counter()`, `longest_s` the longest single pause.

    A rate limit of the platform's is waited for until then; what a provider or the platform could not do just then
    (429, 503, and somebody knows when) is tried `tries` times, since each try is a request on record.
    """

    until: float
    longest_s: float
    tries: int

    def pause_s(self, error: GatewayError, *, tries: int, now: float, spread: float) -> float | None:
        """How long to wait before the chat is asked again; None: that is its answer. `spread` is from 0 to 1."""
        told = error.retry_after_s
        if told is None or error.http_status not in MOMENTARY or isinstance(error, Stopping):
            return None
        if not isinstance(error, RateLimited) and tries >= self.tries:
            return None
        pause_s = max(told, SHORTEST_PAUSE_S) * (1 + SPREAD * spread)
        return pause_s if told <= self.longest_s and now + pause_s < self.until else None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what stands for their virtual key. A job's tokens are made new for each try."""

    credential: str = field(default="", repr=False)
    tokens: PageTokens | None = None
    key_id: int = 0

    def presented(self) -> str:
        return self.tokens.issue(key_id=self.key_id, user_id=0) if self.tokens else self.credential


@dataclass(slots=True, eq=False)
class Item:
    """One chat on its way. `request_id` is that of the last try, `bill` has all tries that are on record."""

    asked: Asked
    request_id: str = field(default_factory=new_request_id)
    bill: list[UsageEntry] = field(default_factory=list)
    response: dict[str, Any] | None = None
    error: GatewayError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has its answer, a good one or a bad one; else it was cut, or has not begun."""
        return self.response is not None or self.error is not None

    @property
    def ends_batch(self) -> bool:
        """Whether those that follow would get the same error: the key is not good (any more)."""
        return isinstance(self.error, Unauthenticated | Forbidden)


class Crew:
    """Asks chats side by side, each in a task of its own. Belongs to one event loop."""

    def __init__(self, runtime: Runtime, caller: Caller, shared: Fields, said: Said, patience: Patience) -> None:
        self._runtime = runtime
        self._caller = caller
        self._shared = shared
        self._said = said
        self._patience = patience
        self._running: dict[asyncio.Task[None], Item] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, item: Item) -> None:
        self._running[asyncio.create_task(self._ask(item), name=f"batch-{item.asked.index}")] = item

    async def some(self, *, within_s: float | None = None) -> list[Item]:
        """Those that have come to an end, as soon as one has; none where that takes longer."""
        if not self._running:
            return []
        ended, _ = await asyncio.wait(self._running, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        return self._taken(ended)

    async def cut(self) -> list[Item]:
        """Stop what runs: calls upstream are closed, what came is billed. All of them, in no order."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        return self._taken(set(self._running))

    def _taken(self, ended: set[asyncio.Task[None]]) -> list[Item]:
        items = []
        for task in ended:
            items.append(self._running.pop(task))
            if not task.cancelled():
                task.result()  # what nobody foresaw ends the batch
        return items

    async def _ask(self, item: Item) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                item.response = await self._once(item)
                return
            except GatewayError as error:
                pause_s = self._patience.pause_s(
                    error,
                    tries=tries,
                    now=time.perf_counter(),
                    spread=random.random(),  # noqa: S311  # no secret
                )
                if pause_s is None:
                    item.error = error
                    return
            await asyncio.sleep(pause_s)
            item.request_id = new_request_id()

    async def _once(self, item: Item) -> dict[str, Any]:
        """:raises GatewayError:"""

        said = self._said
        hints = dict(said.hints)

        async def read() -> ChatRequest:
            request, beside = prompted.read_route(chat_body(self._shared, item.asked.fields))
            task = task_named(beside.task_type or "", "task_type")
            for name, value in ((TASK_TYPE, task), (TAG, beside.tag), (CONVERSATION, beside.conversation)):
                if value:
                    hints[name] = str(value)[:LONGEST_HINT]
            return request

        call = Call(
            item.request_id, DOOR, self._caller.presented(), time.perf_counter(), read, item.bill.append,
            said.cache_wish, said.traceparent, hints,
        )  # fmt: skip
        opened, frames, entry = await answered(self._runtime, call)
        return answer(opened, frames, entry)


# --- what is told of them -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """What chats came to. `unpriced` are requests whose cost nobody knows: they are not in `cost_nano`."""

    cost_nano: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, bill: Sequence[UsageEntry]) -> "Sums":
        sums = cls()
        for entry in bill:
            sums.cost_nano += entry.cost_nano or 0
            sums.unpriced += entry.cost_nano is None
            sums.input_tokens += entry.input_tokens + entry.cache_creation_input_tokens
            sums.cache_read_input_tokens += entry.cache_read_input_tokens
            sums.output_tokens += entry.output_tokens
        return sums

    def usage(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
        }


def error_told(error: GatewayError) -> dict[str, Any]:
    """An error as it stands in a result: the fields of every door's errors, and the status it would have had."""
    told: dict[str, Any] = {
        "message": error.message,
        "type": error.kind,
        "code": error.code,
        "param": error.param,
        "status": error.http_status,
    }
    if error.retry_after_s is not None:
        told["retry_after_s"] = round(error.retry_after_s, 3)
    return {**told, "details": error.details} if error.details else told
