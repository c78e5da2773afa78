"""Everything a measurement needs, started and stopped: an installation of its own, the vendor, one gateway process."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

TICKS = os.sysconf("SC_CLK_TCK")
CAPABILITIES = ["streaming", "tool_calling", "json_mode", "temperature"]


@dataclass(frozen=True, slots=True)
class Server:
    """A process that is measured."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far, user and system, all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """`key` is a virtual key that may call the models `same` (OpenAI's wire) and `other` (Anthropic's), `budgeted` one
    that has a strict budget of its own and one of its team's. `bare` is the gateway without its ledger."""

    gateway: Server
    bare: Server
    floor: Server
    vendor_port: int
    key: str
    budgeted: str


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Set up in `folder`; the database is SQLite there unless DATABASE_URL names another.

    Where there are two cores, what is measured has the first one to itself, and everything else the others: a process
    that shares a core is charged for the caches that its neighbours empty.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])
    os.environ.update(
        DATA_DIR=str(folder),
        JOURNAL_DIR=str(folder / "journal"),
        SECRET_KEY=secrets.token_hex(32),
        KEY_PEPPER=secrets.token_hex(32),
        FIELD_KEYS=Fernet.generate_key().decode(),
        DEBUG="false",
        LOG_LEVEL="WARNING",
        PYTHONUNBUFFERED="1",
    )
    with _process([sys.executable, "-m", "benchmarks.upstream"]) as vendor:
        assert vendor.stdout is not None
        vendor_port = int(vendor.stdout.readline())
        setup = [sys.executable, "-m", "benchmarks.installation", str(vendor_port)]
        key, budgeted = subprocess.run(setup, check=True, capture_output=True, text=True).stdout.split()[-2:]
        os.environ["BENCH_VENDOR"] = f"http://127.0.0.1:{vendor_port}"
        with (
            _server("routerplatform.asgi:application") as gateway,
            _server("benchmarks.without_ledger:application") as bare,
            _server("benchmarks.floor:application") as floor,
        ):
            yield Stage(gateway, bare, floor, vendor_port, key, budgeted)


@contextmanager
def _server(application: str) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port)]
    with _process([*command, "--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"]) as process:
        _wait_ready(port, process)
        _pin(process.pid)
        yield Server(port, process.pid)


def _pin(pid: int) -> None:
    """Give a server the core that nobody else uses; threads that it starts later follow it there."""
    free = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    for thread in Path(f"/proc/{pid}/task").iterdir() if free else ():
        os.sched_setaffinity(int(thread.name), free)


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=15)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return  # the floor passes the probe on to the vendor, and answers
            time.sleep(0.1)
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the gateway did not get ready within 30 s")
