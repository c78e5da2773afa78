"""What a busy machine takes from a test: so that a bound on time can be exact on a quiet one and fair on a busy one.

    watch = stalls.watch()
    ...
    assert watch.seconds <= 0.5     # half a second of ours, whatever the machine took on top

Three kinds of waiting, and what to do about each:

- for something that only must not take for ever: `PATIENCE_S`. A wait that ends early costs nothing.
- for a promise in seconds: a `Watch`.
- for something to have happened "by now": not by sleeping, but until it shows.

A heartbeat in the test's own event loop, or in one of its threads (which share the interpreter's lock), would also
be late when our own code holds everybody up, and would excuse it. So two other witnesses are asked:

- a child process that sleeps for 5 ms again and again: what it oversleeps, the whole machine stood still;
- the kernel, how long threads of this process and of its children were ready to run and had no processor
  (Linux: /proc/<pid>/task/<tid>/schedstat, second number, ns. Source: Documentation/scheduler/sched-stats.rst of
  Linux 6.18, read 2026-11-21). Where that file is missing, only the child speaks.
"""

import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 60.0

BEAT_S = 0.005
ENTRY = struct.Struct("dd")  # seconds overslept in all, and when that was written (time.monotonic(), one for all)
HEARTBEAT = f"""
import os, struct, sys, time
fd, parent, lost = int(sys.argv[1]), os.getppid(), 0.0
while os.getppid() == parent:
    began = time.monotonic()
    time.sleep({BEAT_S})
    ended = time.monotonic()
    late = ended - began - {BEAT_S}
    lost += late if late > {BEAT_S} else 0.0
    os.pwrite(fd, struct.pack("dd", lost, ended), 0)
"""

Delays = dict[tuple[str, str], float]  # seconds, by process and thread


@dataclass(slots=True)
class Stalls:
    """A heartbeat that runs; made by `heartbeat`."""

    _beats: int  # the file that the child writes to
    pid: int  # of the child

    def overslept(self) -> float:
        """Seconds that the child overslept so far, this very moment included."""
        lost, at = ENTRY.unpack(os.pread(self._beats, ENTRY.size, 0))
        late = time.monotonic() - at - BEAT_S
        return lost + (late if late > BEAT_S else 0.0)

    def watch(self) -> "Watch":
        return Watch(self)


@dataclass(slots=True)
class Watch:
    """A stopwatch that is started by making it."""

    _stalls: Stalls
    _began: float = field(init=False)
    _overslept: float = field(init=False)
    _delays: Delays = field(init=False)

    def __post_init__(self) -> None:
        self._delays, self._overslept = delays(), self._stalls.overslept()
        self._began = time.monotonic()

    @property
    def lost(self) -> float:
        """Seconds that the machine took since the start. Those of several processes add up: rather too much."""
        child = str(self._stalls.pid)  # what keeps it from running, it says itself
        waits = (delay - self._delays.get(thread, 0.0) for thread, delay in delays().items() if thread[0] != child)
        return sum(max(0.0, wait) for wait in waits) + self._stalls.overslept() - self._overslept

    @property
    def seconds(self) -> float:
        """Seconds since the start, less what the machine took."""
        elapsed = time.monotonic() - self._began
        return max(0.0, elapsed - self.lost)


@contextmanager
def heartbeat() -> Iterator[Stalls]:
    """Start the child; it is beating when this yields."""
    with tempfile.TemporaryFile() as beats:
        fd = beats.fileno()
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", HEARTBEAT, str(fd)], pass_fds=[fd])
        try:
            while os.fstat(fd).st_size < ENTRY.size:
                assert child.poll() is None, "the heartbeat did not start"
                time.sleep(BEAT_S)
            yield Stalls(fd, child.pid)
        finally:
            child.kill()
            child.wait()


def delays() -> Delays:
    """How long each thread of this process and of its descendants waited for a processor so far."""
    found: Delays = {}
    for pid in family(os.getpid()):
        for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError, IndexError):  # it has just ended
                found[pid, statistics.parent.name] = int(statistics.read_text().split()[1]) / 1e9
    return found


def family(pid: int) -> set[str]:
    """A process and its descendants; without /proc only itself."""
    parents: dict[str, str] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[status.parent.name] = status.read_text().rpartition(")")[2].split()[1]
    found = {str(pid)}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
