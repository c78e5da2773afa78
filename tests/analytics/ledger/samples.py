"""What the ledger's tests write and read: entries, dispatches, a store in memory, a disk with little room."""

import contextlib
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from analytics.domain.usage import Attempt, Dispatch, UsageEntry
from analytics.ledger.delivery import BadRecordError
from analytics.ledger.segments import read_records

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


def dispatch(number: int = 1, *, bound_nano: int | None = 5000) -> Dispatch:
    return Dispatch(request_id(number), "vendor/model", "vendor", "model", 1000, 4096, bound_nano, PRICE)


def encoded(*values: UsageEntry | Dispatch) -> list[bytes]:
    return [msgspec.json.encode(value) for value in values]


class MemoryStore:
    """A UsageStore like SQL: first writer wins, all of a batch or nothing, and sometimes it is away."""

    def __init__(self) -> None:
        self.rows: dict[str, UsageEntry] = {}
        self.error: Exception | None = None
        self.calls = 0
        self.closed = False
        self._lock = threading.Lock()

    def ship(self, entries: Sequence[bytes]) -> int:
        with self._lock:
            self.calls += 1
            if self.error:
                raise self.error
            batch = [msgspec.json.decode(entry, type=UsageEntry) for entry in entries]
            if any(entry.http_status < 0 for entry in batch):
                raise BadRecordError("a status below zero")
            new = {entry.request_id: entry for entry in reversed(batch) if entry.request_id not in self.rows}
            self.rows |= new
            return len(new)

    def close(self) -> None:
        self.closed = True

    def costs(self) -> dict[str, int | None]:
        return {request_id: entry.cost_nano for request_id, entry in self.rows.items()}


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


def wait_until(is_true: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
