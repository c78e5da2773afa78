"""One process's journal: what was promised and what was used, written before anybody is told.

`write(2)` alone survives `kill -9`; `synced()` survives a power cut. A full disk stops neither the process nor its
requests: what cannot be written waits in memory, behind an alarm, until it is shipped or there is room again.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from analytics.ledger.segments import OPEN, SETTLED, Segment, frame, is_settlement

SEGMENT_BYTES: Final = 16 * 1024 * 1024
SEGMENT_S: Final = 60.0
RETRY_S: Final = 1.0
LOAD: Final = 4  # requests that waited for the last sync: from then on the next one waits too
SYNC_GAP_S: Final = 0.001  # for each of them, from one sync's beginning to the next
LONGEST_GAP_S: Final = 0.01

log = logging.getLogger(__name__)


class Journal:
    """Every method belongs to the thread of one event loop. `clock` is monotonic seconds.

    A segment is dropped once every settled request in it was shipped. That loses nothing of the requests that are
    still open, because a new segment begins with a copy of their lines.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.last_error = ""
        self.spilled: deque[Segment] = deque()  # sealed, and to be shipped from the file: see `spill`
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._clock = clock
        self._number = 0
        self._segments: list[Segment] = []  # the last one is written to
        self._open: dict[str, list[bytes]] = {}  # lines of the requests that are not settled
        self._unwritten: dict[str, bytes] = {}  # openings: written together with the first dispatch
        self._settled: dict[str, bytes] = {}  # settlements: written together at the next `flush`
        self._backlog: dict[str, list[bytes]] = {}  # lines that are not in the file, for want of room
        self._gap = b""  # what ends half a line that could not be taken back
        self._retry_at = 0.0
        self._waiters: list[asyncio.Future[None]] = []
        self._sync: asyncio.Future[None] | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._synced_from = 0.0  # loop time at which the last sync began
        self._served = 0  # how many waited for it
        self._sync_thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")

    @property
    def disk_full(self) -> bool:
        return bool(self._backlog)

    @property
    def spilled_records(self) -> int:
        return sum(segment.spilled for segment in self.spilled)

    def start(self) -> None:
        """Open the first segment. Raises OSError when the folder cannot be used."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._segments.append(self._create())

    def append(self, kind: bytes, request_id: str, payload: bytes) -> None:
        """Take one record; never raises for the disk's sake: what it does not take waits in memory.

        Each write may have to wait for a sync, so there are few. An opening is written with the first dispatch: without
        one there is nothing to bill. Settlements are written by `flush` and before every sync.
        """
        line = frame(kind, payload)
        if self._is_due():
            self._roll()
        if kind == SETTLED:
            self._open.pop(request_id, None)
            self._unwritten.pop(request_id, None)
            self._settled[request_id] = line
            return
        self._open.setdefault(request_id, []).append(line)
        if kind == OPEN:
            self._unwritten[request_id] = line
        else:
            self._put(request_id, self._unwritten.pop(request_id, b"") + line)

    def flush(self) -> None:
        """Write the settlements that have come since the last time."""
        settled, self._settled = self._settled, {}
        if not settled:
            return
        if not self._backlog and self._write(b"".join(settled.values())):
            self._segments[-1].unshipped.update(settled)
        else:
            for request_id, line in settled.items():
                self._put(request_id, line)

    def _put(self, request_id: str, lines: bytes) -> None:
        if self._backlog:
            self._backlog.setdefault(request_id, []).append(lines)
            if self._clock() >= self._retry_at:
                self.retry()
        elif not self._write(lines):
            self._backlog[request_id] = [lines]
        elif is_settlement(lines):
            self._segments[-1].unshipped.add(request_id)

    def forget(self, request_ids: Collection[str]) -> None:
        """These are in SQL: nothing needs to keep them any longer."""
        self.flush()
        for segment in self._segments:
            segment.unshipped.difference_update(request_ids)
        if self._backlog:
            for request_id in request_ids:
                self._backlog.pop(request_id, None)
        self._reap()

    def retry(self) -> None:
        """Write what waits in memory for room on the disk, as far as it goes."""
        for request_id, lines in list(self._backlog.items()):
            while lines:
                if not self._write(lines[0]):
                    return
                if is_settlement(lines.pop(0)):
                    self._segments[-1].unshipped.add(request_id)
            del self._backlog[request_id]
        self.last_error = ""

    def spill(self) -> set[str]:
        """Seal all that is written, for `spilled`; returns the ids of the settled requests that are now only there."""
        self.flush()
        if self._backlog or self._clock() < self._retry_at or not self._roll():
            return set()
        sealed, self._segments = self._segments[:-1], self._segments[-1:]
        ids: set[str] = set()
        for segment in sealed:
            ids |= segment.unshipped
            segment.spilled, segment.unshipped = len(segment.unshipped), set()
        self.spilled.extend(sealed)
        return ids

    def drop_spilled(self) -> None:
        """The first spilled segment has been shipped."""
        segment = self.spilled.popleft()
        segment.spilled = 0
        self._segments.insert(0, segment)
        self._reap()

    async def synced(self) -> None:
        """Return when all that is in the file now is on disk. One fdatasync serves all who came before it began."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._sync is None and self._sync_timer is None:
            self._plan_sync()
        await waiter

    async def close(self, *, leave: bool = False) -> None:
        """Let go of the files: those that still hold something are left to an adopter, the rest is removed. With
        `leave` the last one stays in any case: there is more to adopt than records."""
        if self._segments:
            self.flush()
            self.retry()
            await self.synced()
            while self._waiters:  # who came meanwhile; what begins no sync before the thread ends never will
                await self.synced()
        self._sync_thread.shutdown()
        self._reap()
        for segment in (*self.spilled, *self._segments):
            is_needed = segment.unshipped or segment.spilled or self._open or self._backlog
            if is_needed or (leave and segment is self._segments[-1]):
                os.close(segment.fd)
            else:
                segment.drop()
        self.spilled.clear()
        self._segments.clear()
        if self._backlog:
            log.error("journal closed: %d requests had no room on the disk and are lost", len(self._backlog))

    # --- segments ------------------------------------------------------------------------------------------------

    def _create(self) -> Segment:
        self._number += 1
        return Segment.create(self._directory, self.owner, self._number, now=self._clock())

    def _is_due(self) -> bool:
        """Full, or old and no other segment is waiting: an outage must not leave a file a minute."""
        current = self._segments[-1]
        if current.size < self._segment_bytes:
            now = self._clock()
            is_old = now - current.opened_at >= self._segment_s and len(self._segments) == 1
            return is_old and current.size > 0 and not self._backlog and now >= self._retry_at
        return not self._backlog and self._clock() >= self._retry_at

    def _roll(self) -> bool:
        """Begin a new segment with a copy of the open requests' lines; on failure the old one is kept on."""
        self.flush()
        try:
            self._segments.append(self._create())
        except OSError as error:
            self._alarm(error)
            return False
        carried = b"".join(
            line for request_id, lines in self._open.items() if request_id not in self._unwritten for line in lines
        )
        if carried and not self._write(carried):
            self._segments.pop().drop()
            return False
        self._reap()
        return True

    def _reap(self) -> None:
        """Drop sealed segments that nobody needs; not during a sync, which uses their descriptors."""
        if self._sync is None:
            for segment in [segment for segment in self._segments[:-1] if not segment.unshipped]:
                self._segments.remove(segment)
                segment.drop()

    # --- the disk ------------------------------------------------------------------------------------------------

    def _write(self, lines: bytes) -> bool:
        """All of `lines` at the end of the file, or nothing of it."""
        segment = self._segments[-1]
        data = self._gap + lines
        try:
            written = os.write(segment.fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._alarm(error)
            self._gap = b"\n"  # should the half line stay, the next one begins on its own
            with contextlib.suppress(OSError):
                os.ftruncate(segment.fd, segment.size)
                self._gap = b""
            return False
        segment.size += written
        segment.is_dirty = True
        self._gap = b""
        return True

    def _alarm(self, error: OSError) -> None:
        if not self._backlog and self._clock() >= self._retry_at:
            log.error("the journal cannot be written (%s): records wait in memory", error.strerror)
        self.last_error = f"journal: {error.strerror}"
        self._retry_at = self._clock() + RETRY_S

    def _plan_sync(self) -> None:
        """At once after a rest; under load not before the gap is over, so that more requests share one sync."""
        loop = asyncio.get_running_loop()
        gap_s = min(self._served * SYNC_GAP_S, LONGEST_GAP_S) if self._served >= LOAD else 0.0
        wait_s = self._synced_from + gap_s - loop.time()
        if wait_s > 0:
            self._sync_timer = loop.call_later(wait_s, self._start_sync)
        else:
            self._start_sync()

    def _start_sync(self) -> None:
        self.flush()
        waiters, self._waiters, self._sync_timer = self._waiters, [], None
        self._served = len(waiters)
        dirty = [segment for segment in (*self.spilled, *self._segments) if segment.is_dirty]
        folder = self._directory if any(segment.is_new for segment in dirty) else None
        for segment in dirty:
            segment.is_dirty = segment.is_new = False
        loop = asyncio.get_running_loop()
        self._synced_from = loop.time()
        self._sync = loop.run_in_executor(self._sync_thread, _sync_files, [segment.fd for segment in dirty], folder)
        self._sync.add_done_callback(partial(self._end_sync, waiters))

    def _end_sync(self, waiters: Sequence[asyncio.Future[None]], sync: asyncio.Future[None]) -> None:
        self._sync = None
        error = None if sync.cancelled() else sync.exception()
        if isinstance(error, OSError):
            self._alarm(error)
        elif not self._backlog:
            self.last_error = ""
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._reap()
        if self._waiters:
            self._plan_sync()


def _sync_files(descriptors: Sequence[int], folder: Path | None) -> None:
    for descriptor in descriptors:
        os.fdatasync(descriptor)
    if folder is not None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
