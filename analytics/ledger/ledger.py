"""The ledger as the gateway sees it: reserve, dispatched, settle. The rest happens behind it.

    journal   every step is in this process's journal before it is acted upon
    leases    what budgets allow this process to spend is in its memory
    shipper   settled entries go to SQL about ten times a second, and are charged to their budgets there
    adopter   journals of processes that died are finished, at the start and then twice a second

When the database is away, entries wait in the journal, and requests go on: under a hard budget, as far as the lease.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple, ParamSpec, TypeVar

import msgspec

from analytics.domain.usage import Dispatch, UsageEntry
from analytics.ledger.adoption import adopt_once
from analytics.ledger.delivery import BATCH_ROWS, charges_of, deliver
from analytics.ledger.delivery import UsageStore as UsageStore
from analytics.ledger.journal import Journal
from analytics.ledger.leases import LOOK_EVERY_S, Hold, Leases
from analytics.ledger.leasing import BankUnavailable, LeaseBank, States
from analytics.ledger.segments import DISPATCHED, OPEN, SETTLED, read_records

Durability = Literal["disk", "process", "database"]
P = ParamSpec("P")
T = TypeVar("T")

SHIP_EVERY_S: Final = 0.1
ADOPT_EVERY_S: Final = 0.5
CLOSE_WITHIN_S: Final = 5.0
LOAD_WITHIN_S: Final = 2.0
BACKOFF_S: Final = (0.05, 2.0)  # first and longest pause while the store fails
MAX_IN_MEMORY: Final = 50_000  # settled entries; beyond, the files are their only place

log = logging.getLogger(__name__)
_json: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """`unshipped` settled entries are not in SQL yet; `last_error` is empty while all is well. `budgets_revision` is
    that of the configuration whose budgets are in force; None before they have been read."""

    unshipped: int
    oldest_unshipped_s: float
    last_shipped_at: float | None  # seconds since the epoch
    last_error: str
    disk_full: bool
    budgets_revision: int | None


class Unshipped(NamedTuple):
    entry: bytes
    since: float  # monotonic


class Ledger:
    """One per event loop, and every method belongs to it. Do not fork between `start` and `close`.

    `disk` settles once the record has reached the disk, `process` once the kernel has it (that survives `kill -9`, not
    a power cut), `database` once SQL has it, or the disk while SQL is away.
    """

    def __init__(
        self,
        *,
        journal_dir: Path,
        durability: Durability,
        store: UsageStore,
        bank: LeaseBank,
        journal: Journal | None = None,
        max_in_memory: int = MAX_IN_MEMORY,
    ) -> None:
        self._directory = journal_dir
        self._durability = durability
        self._store = store
        self._journal = journal or Journal(journal_dir)
        self._max_in_memory = max_in_memory
        self._unshipped: dict[str, Unshipped] = {}  # in the order of settlement
        self._in_sql: dict[str, asyncio.Future[None]] = {}  # who waits for it, with durability=database
        self._work, self._all_shipped = asyncio.Event(), asyncio.Event()
        self._all_shipped.set()
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-store")
        self._bank = bank
        self.leases = Leases(owner=self._journal.owner, bank=bank, run=self._blocking)
        self._tasks: list[asyncio.Task[None]] = []
        self._errors: dict[str, str] = {}  # of what is failing now
        self._last_shipped_at: float | None = None

    async def start(self) -> None:
        """Open the journal, begin to ship and to adopt. Raises OSError when the folder cannot be used."""
        self._journal.start()
        with contextlib.suppress(BankUnavailable, TimeoutError):  # else they are read as soon as the database answers
            await asyncio.wait_for(self.leases.load(), LOAD_WITHIN_S)
        ship_every_s = 0.0 if self._durability == "database" else SHIP_EVERY_S
        self._tasks = [
            asyncio.create_task(self._repeat("shipping", self._ship, ship_every_s)),
            asyncio.create_task(self._repeat("adoption", self._adopt, ADOPT_EVERY_S)),
            asyncio.create_task(self._repeat("budgets", self.leases.look_after, LOOK_EVERY_S)),
        ]

    async def close(self, *, within_s: float = CLOSE_WITHIN_S) -> None:
        """Ship what is left and return the leases, within that time; the rest stays in the journal for whoever adopts
        it."""
        is_done = False
        with contextlib.suppress(TimeoutError, BankUnavailable):
            async with asyncio.timeout(within_s):
                await self._all_shipped.wait()
                await self._end_tasks()
                await self.leases.close()
                is_done = True
        await self._end_tasks()
        await self._journal.close(leave=not is_done)
        self._release(list(self._in_sql))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._blocking(self._store.close), 1.0)
        self._store_thread.shutdown(wait=False)

    def reserve(self, entry: UsageEntry) -> None:
        """Journal that a request was let in, before anything is sent upstream."""
        self._journal.append(OPEN, entry.request_id, encode(entry))

    def dispatched(self, dispatch: Dispatch) -> None:
        """Journal that an attempt begins, before its first byte leaves."""
        self._journal.append(DISPATCHED, dispatch.request_id, encode(dispatch))

    async def settle(self, entry: UsageEntry, hold: Hold | None = None) -> None:
        """Journal how a request ended, and free what was held for it; returns when that is safe. Only the first call
        for a request counts."""
        if entry.request_id in self._unshipped:
            return
        payload = encode(entry)
        self._journal.append(SETTLED, entry.request_id, payload)
        if hold is not None:
            self.leases.settle(hold, entry.charges or {})
        self._unshipped[entry.request_id] = Unshipped(payload, time.monotonic())
        self._work.set()
        self._all_shipped.clear()
        if len(self._unshipped) > self._max_in_memory:
            for request_id in self._journal.spill():
                self._unshipped.pop(request_id, None)
        if self._durability != "disk":
            self._journal.flush()
        if self._durability == "database" and "shipping" not in self._errors:
            waiter = self._in_sql[entry.request_id] = asyncio.get_running_loop().create_future()
            await waiter
        elif self._durability != "process":
            await self._journal.synced()

    def status(self) -> LedgerStatus:
        since = [segment.opened_at for segment in islice(self._journal.spilled, 1)]
        since += [unshipped.since for unshipped in islice(self._unshipped.values(), 1)]
        return LedgerStatus(
            unshipped=len(self._unshipped) + self._journal.spilled_records,
            oldest_unshipped_s=time.monotonic() - min(since) if since else 0.0,
            last_shipped_at=self._last_shipped_at,
            last_error="; ".join(filter(None, [*self._errors.values(), self._journal.last_error])),
            disk_full=self.disk_full,
            budgets_revision=self.leases.revision,
        )

    @property
    def disk_full(self) -> bool:
        return self._journal.disk_full

    # --- behind it -----------------------------------------------------------------------------------------------

    async def _repeat(self, name: str, step: Callable[[], Awaitable[None]], pause_s: float) -> None:
        """Run `step` for ever; while it fails, more and more slowly, and say so once an outage."""
        backoff_s, longest_s = BACKOFF_S
        while True:
            try:
                await step()
            except Exception as error:  # a process edge: whatever the database does, the records are kept
                await self._note_failure(name, error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, longest_s)
            else:
                if self._errors.pop(name, None):
                    log.info("%s works again", name)
                backoff_s = BACKOFF_S[0]
                await asyncio.sleep(pause_s)

    async def _note_failure(self, name: str, error: Exception) -> None:
        text = f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if name not in self._errors:
            log.warning("usage waits in the journal: %s", text)
        self._errors[name] = text
        if self._in_sql:
            await self._journal.synced()
            self._release(list(self._in_sql))

    async def _ship(self) -> None:
        """Wait for settled entries and deliver them, oldest first, until less than a full batch was left."""
        await self._work.wait()
        while self._journal.spilled:
            self.leases.charged(*await self._blocking(self._deliver_file, self._journal.spilled[0].path))
            self._journal.drop_spilled()
        is_full = True
        while is_full:
            batch = dict(islice(self._unshipped.items(), BATCH_ROWS))
            charges, states = await self._blocking(self._deliver, [unshipped.entry for unshipped in batch.values()])
            went_to_files = not batch.keys() <= self._unshipped.keys()  # meanwhile, all of it; charged with its file
            self.leases.charged({} if went_to_files else charges, states)
            for request_id in batch:
                self._unshipped.pop(request_id, None)
            self._journal.forget(batch.keys())
            self._release(batch)
            self._last_shipped_at = time.time()
            is_full = len(batch) == BATCH_ROWS
        if not self._unshipped and not self._journal.spilled:
            self._work.clear()
            self._all_shipped.set()

    async def _adopt(self) -> None:
        self._journal.retry()
        await self._blocking(adopt_once, self._directory, self._store, self._bank)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _release(self, request_ids: Iterable[str]) -> None:
        """Their waiters have what they waited for."""
        if self._in_sql:
            for request_id in request_ids:
                waiter = self._in_sql.pop(request_id, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)

    def _blocking(self, function: Callable[P, T], /, *args: P.args, **_: P.kwargs) -> asyncio.Future[T]:
        """Run it in the one thread that talks to the store."""
        return asyncio.get_running_loop().run_in_executor(self._store_thread, partial(function, *args))

    def _deliver(self, entries: Sequence[bytes]) -> tuple[dict[int, int], States]:
        """What is charged in SQL now, by window, and the leases as they are after it. The money of an entry that had to
        be set aside stays reserved: it was spent."""
        shipment = deliver(entries, self._store, self._directory / "rejected", owner=self._journal.owner)
        charges = charges_of(entries)
        return {number: cost - shipment.rejected.get(number, 0) for number, cost in charges.items()}, shipment.leases

    def _deliver_file(self, path: Path) -> tuple[dict[int, int], States]:
        """Of a sealed segment only what was settled: the open requests live on in the next one."""
        return self._deliver([payload for kind, payload in read_records(path.read_bytes()).records if kind == SETTLED])


def encode(value: UsageEntry | Dispatch) -> bytes:
    """As JSON without NUL characters, which PostgreSQL has no place for."""
    text = _json.encode(value)
    return text if b"\\u0000" not in text else text.replace(b"\\u0000", b"\\ufffd")
