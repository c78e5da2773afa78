"""A journal's files: how they are named, locked, written line by line and read back after any crash.

A line is `crc kind json`: eight hex digits of the CRC-32 over the rest, one letter, one JSON object, a newline. An
owner (one gateway process) writes segments `<owner>.<number>.journal` and holds an exclusive flock on each; the kernel
drops the locks when the process dies, however it dies. A segment is locked before its name becomes visible.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self
from zlib import crc32

OPEN: Final = b"O"
DISPATCHED: Final = b"D"
SETTLED: Final = b"S"

_NAME: Final = re.compile(r"^(?P<owner>[\w-]+)\.(?P<number>\d{6})\.journal$")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Record(NamedTuple):
    kind: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole records of a segment. `skipped` damaged lines stand between them; a torn end is not counted."""

    records: list[Record]
    skipped: int


def frame(kind: bytes, payload: bytes) -> bytes:
    """One line of a journal; `payload` must hold no newline, as compact JSON never does."""
    body = kind + b" " + payload
    return b"%08x %b\n" % (crc32(body), body)


def kind_of(line: bytes) -> bytes:
    return line[9:10]


def is_settlement(lines: bytes) -> bool:
    """Whether lines of one request are its last one: an opening and a dispatch may come together."""
    return kind_of(lines) == SETTLED


def read_records(data: bytes) -> Reading:
    """Every whole line of `data`, in order, whatever stands before, between or after them."""
    records: list[Record] = []
    skipped = damaged = 0
    for line in data.split(b"\n"):
        if line[:9] == b"%08x " % crc32(line[9:]) and line[10:11] == b" ":
            records.append(Record(kind_of(line), line[11:]))
            skipped += damaged
            damaged = 0
        elif line:
            damaged += 1
    return Reading(records, skipped)


@dataclass(slots=True, eq=False)
class Segment:
    """An open, locked file of ours. `unshipped` are the ids of settled requests in it that SQL does not have yet;
    once it is spilled, only their number is kept."""

    path: Path
    fd: int
    opened_at: float
    size: int = 0
    is_new: bool = True  # its name is not on disk yet
    is_dirty: bool = True
    unshipped: set[str] = field(default_factory=set)
    spilled: int = 0

    @classmethod
    def create(cls, directory: Path, owner: str, number: int, *, now: float) -> Self:
        """Raises OSError. A sweeper may take the file in the moment before it is locked: then begin again."""
        path = directory / f"{owner}.{number:06d}.journal"
        hidden = path.with_suffix(".new")
        while True:
            fd = os.open(hidden, _FLAGS, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                hidden.rename(path)
            except (BlockingIOError, FileNotFoundError):
                os.close(fd)
                hidden.unlink(missing_ok=True)
            except OSError:
                os.close(fd)
                raise
            else:
                return cls(path, fd, now)

    def drop(self) -> None:
        """Unlink, then let go of the lock: never the other way round, or an adopter would take it for an orphan."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def owners(directory: Path) -> list[str]:
    """Whose journals stand in `directory`, dead or alive."""
    return sorted({match["owner"] for path in directory.glob("*.journal") if (match := _NAME.match(path.name))})


def segment_paths(directory: Path, owner: str) -> list[Path]:
    """In the order in which they were written."""
    return sorted(directory.glob(f"{owner}.*.journal"))


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold the flock of `path` for the block if it can be had at once; False if someone holds it or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


@contextlib.contextmanager
def orphaned(directory: Path, owner: str) -> Iterator[list[Path]]:
    """All segments of a dead owner, locked for the block; empty while it lives or another adopter has them.

    The first lock proves the death, and a dead owner adds no segment: so the list that counts is made after it.
    """
    with contextlib.ExitStack() as locks:
        first = segment_paths(directory, owner)[:1]
        if not first or not locks.enter_context(locked(first[0])):
            yield []
            return
        paths = segment_paths(directory, owner)
        yield paths if all([locks.enter_context(locked(path)) for path in paths if path != first[0]]) else []


def sweep(directory: Path) -> None:
    """Remove files that a process left before it had locked and named them; they hold nothing yet."""
    for path in directory.glob("*.new"):
        with locked(path) as is_ours:
            if is_ours:
                path.unlink(missing_ok=True)
