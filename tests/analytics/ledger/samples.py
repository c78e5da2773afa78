"""What the ledger's tests write and read: entries, dispatches, a store in memory, a disk with little room."""

import contextlib
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from analytics.domain.budgets import BudgetTerms
from analytics.domain.usage import Attempt, Dispatch, UsageEntry
from analytics.ledger.delivery import BadRecordError, Shipment
from analytics.ledger.leasing import Ask, LeaseState, States
from analytics.ledger.segments import read_records
from tests.stalls import PATIENCE_S

STARTED_AT = 1_773_144_000.123456  # 2026-03-10 12:00:00.123456 UTC
PRICE = {"input_usd": "0.15", "output_usd": "0.6"}
# What no database takes: smallints end at 32767, and counts are never negative.
BAD = {"http_status": -1}


def request_id(number: int) -> str:
    return str(UUID(int=0x0198_0000_0000_7000_8000_0000_0000_0000 + number))


def opened(number: int = 1, **changes: Any) -> UsageEntry:
    values: dict[str, Any] = {
        "request_id": request_id(number),
        "started_at": STARTED_AT,
        "door": "openai",
        "team_id": 3,
        "team_name": "Platform",
        "key_id": 7,
        "key_name": "ci",
        "key_prefix": "abcdef12",
        "requested_model": "code_assistant",
        "config_revision": 12,
        "persona": "code_assistant",
    }
    return UsageEntry(**(values | changes))


def settled(number: int = 1, **changes: Any) -> UsageEntry:
    """An answer for 1000 + `number` nano-USD."""
    values: dict[str, Any] = {
        "state": "settled",
        "finished_at": STARTED_AT + 0.8,
        "http_status": 200,
        "provider": "vendor",
        "deployment": "vendor/model",
        "model": "model",
        "input_tokens": 900,
        "output_tokens": 200,
        "usage_source": "provider",
        "cost_nano": 1000 + number,
        "price": PRICE,
        "attempts": (Attempt("vendor/model", "vendor", "abcd", 0.4, 799.1, http_status=200),),
        "decision": {"reason": "preferred", "candidates": ["vendor/model"]},
        "ttft_ms": 312.5,
        "latency_ms": 800.0,
        "overhead_ms": 0.3,
    }
    return opened(number, **(values | changes))


def dispatch(number: int = 1, *, bound_nano: int | None = 5000, billed_nano: int | None = 0) -> Dispatch:
    return Dispatch(request_id(number), "vendor/model", "vendor", "model", 1000, 4096, bound_nano, PRICE, billed_nano)


def encoded(*values: UsageEntry | Dispatch) -> list[bytes]:
    return [msgspec.json.encode(value) for value in values]


class MemoryStore:
    """A UsageStore like SQL: first writer wins, all of a batch or nothing, and sometimes it is away."""

    def __init__(self, bank: "MemoryBank | None" = None) -> None:
        self.bank = bank or MemoryBank()
        self.rows: dict[str, UsageEntry] = {}
        self.error: Exception | None = None
        self.calls = 0
        self.closed = False
        self._lock = threading.Lock()

    def ship(self, entries: Sequence[bytes], owner: str = "") -> Shipment:
        with self._lock:
            self.calls += 1
            if self.error:
                raise self.error
            batch = [msgspec.json.decode(entry, type=UsageEntry) for entry in entries]
            if any(entry.http_status < 0 for entry in batch):
                raise BadRecordError("a status below zero")
            new = {entry.request_id: entry for entry in reversed(batch) if entry.request_id not in self.rows}
            self.rows |= new
            charges: dict[int, int] = {}
            for entry in batch:
                for window, cost in (entry.charges or {}).items():
                    charges[window] = charges.get(window, 0) + (cost if new.get(entry.request_id) is entry else 0)
            return Shipment(len(new), self.bank.charge(owner, charges))

    def close(self) -> None:
        self.closed = True

    def costs(self) -> dict[str, int | None]:
        return {request_id: entry.cost_nano for request_id, entry in self.rows.items()}


class MemoryBank:
    """A LeaseBank like SQL, as simple as can be. `limits` are nano-USD by window; all others are without money.

    It checks at every step what the database's constraint checks: spent and leased never pass the limit together,
    but by what was spent without a lease.
    """

    def __init__(self, limits: Mapping[int, int] | None = None, budgets: Sequence[BudgetTerms] = ()) -> None:
        self.limits = dict(limits or {})
        self.terms = list(budgets)
        self.revision = 1
        self.spent: Counter[int] = Counter()
        self.overrun: Counter[int] = Counter()
        self.leases: dict[tuple[int, str], list[int]] = {}  # amount and version
        self.wanted: set[int] = set()
        self.error: Exception | None = None
        self._sequence = count()
        self._lock = threading.RLock()

    def leased(self, window: int) -> int:
        return sum(lease[0] for (number, _), lease in self.leases.items() if number == window)

    def budgets(self, known_revision: int | None) -> tuple[int, list[BudgetTerms]] | None:
        self._check()
        return None if known_revision == self.revision else (self.revision, self.terms)

    def grant(self, owner: str, asks: Sequence[Ask]) -> States:
        with self._lock:
            self._check()
            for ask in asks:
                room = self._room(ask.window_id)
                if room < ask.need:
                    self.wanted.add(ask.window_id)
                spare = max(0, min(ask.spare, (room - ask.need) // 4))
                amount = max(0, min(room, ask.need + spare))
                self._lease(ask.window_id, owner)[0] += amount
            return self._states(owner, [ask.window_id for ask in asks])

    def give_back(self, owner: str, amounts: Mapping[int, tuple[int, int]]) -> States:
        with self._lock:
            self._check()
            for window, (amount, version) in amounts.items():
                lease = self._lease(window, owner)
                if lease[1] == version:
                    lease[0] -= amount
                    lease[1] += 1
                    assert lease[0] >= 0
            return self._states(owner, amounts)

    def read(self, owner: str, held: Mapping[int, int]) -> States:
        with self._lock:
            self._check()
            for window in held:
                self._lease(window, owner)[1] += 1
            return self._states(owner, held)

    def watch(self, owner: str, window_ids: Iterable[int]) -> States:
        with self._lock:
            self._check()
            return self._states(owner, window_ids)

    def return_all(self, owner: str, keep: Mapping[int, int]) -> None:
        with self._lock:
            self._check()
            for (window, leaser), lease in list(self.leases.items()):
                if leaser == owner:
                    lease[0] = min(lease[0], keep.get(window, 0))
                    if not lease[0]:
                        del self.leases[window, leaser]

    def charge(self, owner: str, charges: Mapping[int, int]) -> States:
        with self._lock:
            for window, cost in charges.items():
                lease = self._lease(window, owner)
                covered = min(cost, lease[0])
                lease[0] -= covered
                self.spent[window] += cost
                self.overrun[window] += cost - covered
            return self._states(owner, charges)

    def _check(self) -> None:
        if self.error:
            raise self.error

    def _lease(self, window: int, owner: str) -> list[int]:
        return self.leases.setdefault((window, owner), [0, 0])

    def _room(self, window: int) -> int:
        return self.limits.get(window, 0) - self.spent[window] - self.leased(window)

    def _states(self, owner: str, windows: Iterable[int]) -> States:
        states: States = {}
        for window in windows:
            leased = self.leased(window)
            assert self.spent[window] - self.overrun[window] + leased <= self.limits.get(window, 0)
            amount, version = self._lease(window, owner)
            states[window] = LeaseState(
                next(self._sequence), amount, version, self._room(window), leased - amount, window in self.wanted
            )
        return states


def journal_lines(folder: Path) -> list[tuple[str, str]]:
    """Kind and request of every record in the folder's journals, in the order of the files."""
    return [
        (record.kind.decode(), msgspec.json.decode(record.payload)["request_id"])
        for path in sorted(folder.glob("*.journal"))
        for record in read_records(path.read_bytes()).records
    ]


@contextlib.contextmanager
def room_on_disk(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: writes come up short and then fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wait_until(is_true: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
