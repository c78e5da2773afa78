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
class Stage:
    """`key` is a virtual key that may call the models `same` (OpenAI's wire) and `other` (Anthropic's)."""

    gateway_port: int
    vendor_port: int
    gateway_pid: int
    key: str

    def cpu_s(self) -> float:
        """CPU seconds that the gateway has used so far, user and system, all its threads."""
        fields = Path(f"/proc/{self.gateway_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.gateway_pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Set up in `folder`; the database is SQLite there unless DATABASE_URL names another."""
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
        key = subprocess.run(setup, check=True, capture_output=True, text=True).stdout.split()[-1]
        port = _free_port()
        server = [sys.executable, "-m", "uvicorn", "routerplatform.asgi:application", "--host", "127.0.0.1"]
        options = ["--port", str(port), "--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"]
        with _process(server + options) as gateway:
            _wait_ready(port, gateway)
            yield Stage(port, vendor_port, gateway.pid, key)


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
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the gateway did not get ready within 30 s")
