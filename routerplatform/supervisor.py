"""Keep a handful of child processes running together: one stops, all stop; Ctrl-C stops all; nothing is left behind.

Each child gets a session of its own, so that a Ctrl-C in the terminal (which goes to the whole foreground group)
reaches only the supervisor, and children are stopped in order, once. A child's session is also what is swept at the
end: whatever a child started itself goes with it. If the supervisor is killed outright, the kernel ends the children
(Linux).

    with Supervisor(...) as s: s.start(Command...), s.run(...) -> exit code
        0 after a stop signal, non-zero when a child ended by itself or the service did not become ready
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, assert_never

from routerplatform.embedded import die_with_parent

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_TIMEOUT_S: Final = 8.0
POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `nice` is added to the child's priority: background work yields to the web process."""

    name: str
    argv: Sequence[str]
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    name: str
    code: int


@dataclass(frozen=True, slots=True)
class Ready:
    ok: bool


@dataclass(frozen=True, slots=True)
class Signalled:
    number: int


Handler = Callable[[int, FrameType | None], Any] | int | None
Event = Line | Ended | Ready | Signalled


class Supervisor:
    """Starts commands, relays what they print through `write(name, line)`, and stops them together.

    Use it as a context manager, from the main thread only (signal handlers, and children that die with the thread
    that started them). Signals are taken from `with` on: one that comes before `run` ends it as soon as it begins,
    and a second one does not wait for slow children.
    """

    def __init__(self, *, env: Mapping[str, str], cwd: Path, write: Callable[[str, str], None]) -> None:
        self._env = dict(env)
        self._cwd = cwd
        self._write = write
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._relays: dict[str, threading.Thread] = {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()  # safe to put to from a signal handler
        self._signals = 0
        self._handlers: dict[signal.Signals, Handler] = {}
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._stop_children()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, command: Command) -> None:
        """Start one command and relay its output."""

        def prepare() -> None:
            die_with_parent()
            if command.nice:
                os.nice(command.nice)

        child = self._children[command.name] = subprocess.Popen(
            command.argv,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - two system calls
        )
        self._relays[command.name] = threading.Thread(target=self._relay, args=(command.name, child), daemon=True)
        self._relays[command.name].start()
        threading.Thread(target=self._await_end, args=(command.name, child), daemon=True).start()

    def run(self, *, is_ready: Callable[[], bool], ready_timeout_s: float, on_ready: Callable[[], None]) -> int:
        """Serve until a signal or the end of a child; returns the exit code."""
        threading.Thread(target=self._poll, args=(is_ready, ready_timeout_s), daemon=True).start()
        return self._loop(ready_timeout_s, on_ready)

    def _loop(self, ready_timeout_s: float, on_ready: Callable[[], None]) -> int:
        while True:
            event = self._events.get()
            match event:
                case Line(name, text):
                    self._write(name, text)
                case Ready(ok=True):
                    on_ready()
                case Ready():
                    self._write("", f"Not ready after {ready_timeout_s:g} s; see the lines above. Stopping.")
                    return 1
                case Ended(name, code):
                    return self._report_end(name, code)
                case Signalled():
                    self._write("", "Stopping ...")
                    return 0
                case _:
                    assert_never(event)

    def _report_end(self, name: str, code: int) -> int:
        """Relay what is still under way, then say which child takes the others down."""
        self._relays[name].join(timeout=0.3)
        self._write_pending()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._write("", f"{name} {how}; stopping the others.")
        return code if 0 < code < 128 else 1

    def _write_pending(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Line):
                    self._write(event.name, event.text)

    def _stop_children(self) -> None:
        """Ask every child to stop, wait, and kill what is left of their sessions."""
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(child.returncode is None for child in self._children.values()):
            if time.monotonic() > deadline or self._signals > 1:
                break
            self._write_pending()
            time.sleep(0.02)
        for name, child in self._children.items():
            if child.returncode is None:
                self._write("", f"{name} did not stop in time and was killed")
            _kill_session(child.pid)
            child.wait()
            self._relays[name].join(timeout=1.0)
        self._write_pending()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._events.put(Signalled(number))

    def _relay(self, name: str, child: subprocess.Popen[bytes]) -> None:
        with child.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                self._events.put(Line(name, line.decode(errors="replace").rstrip()))

    def _await_end(self, name: str, child: subprocess.Popen[bytes]) -> None:
        self._events.put(Ended(name, child.wait()))

    def _poll(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._closed.wait(POLL_S):
            if is_ready():
                self._events.put(Ready(ok=True))
                return
            if time.monotonic() > deadline:
                self._events.put(Ready(ok=False))
                return


def _kill_session(leader_pid: int) -> None:
    # ProcessLookupError: nobody is left. PermissionError: macOS says so for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader_pid, signal.SIGKILL)
