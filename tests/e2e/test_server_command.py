"""`manage.py dev` as a person meets it: it starts, what it prints works, and Ctrl-C leaves nothing behind."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from routerplatform.embedded import free_port
from tests.stalls import PATIENCE_S, Stalls

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 80.0

pytestmark = pytest.mark.e2e


def descendants(pid: int) -> set[int]:
    """All processes below `pid` (Linux; empty elsewhere)."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def still_running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


class Server:
    """One start of the command, in a process group of its own as in a terminal."""

    def __init__(self, data_dir: Path, *args: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.log = data_dir.parent / f"{data_dir.name}.log"
        env = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{data_dir / 'router.sqlite3'}",
            "REDIS_URL": "",
            "DATA_DIR": str(data_dir),
            "JOURNAL_DIR": str(data_dir / "journal"),
            "DEMO_PROVIDER_PORT": str(free_port()),
        }
        self.started = time.monotonic()
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "dev", "--port", str(self.port), *args],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children: set[int] = set()

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        while text not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() - self.started < START_TIMEOUT_S, self.text
            time.sleep(0.05)
        self.children = descendants(self.process.pid)

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process to the page that it prints."""
        self.wait_for("Ctrl-C stops everything")
        return time.monotonic() - self.started

    def interrupt(self) -> int:
        """Press Ctrl-C: the whole foreground group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while still_running(self.children) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert still_running(self.children) == set()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0

    def printed_curl(self) -> urllib.request.Request:
        """The printed curl command as a request of the standard library."""
        start = self.text.index("curl ")
        words = shlex.split(self.text[start : self.text.index("\n\n", start)].replace("\\\n", " "))
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        return urllib.request.Request(words[1], data=words[words.index("-d") + 1].encode(), headers=headers)

    def grpc_is_well(self) -> bool:
        """What the health service at the printed address says."""
        address = re.search(r"gRPC +([\d.]+:\d+)", self.text)
        assert address, self.text
        with grpc.insecure_channel(address[1]) as channel:
            answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=PATIENCE_S)
        return bool(answer.status == HealthCheckResponse.SERVING)

    def printed_python(self) -> str:
        start = self.text.index("  from openai import OpenAI")
        return textwrap.dedent(self.text[start : self.text.index("\n\n  Ctrl-C", start)])


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def start(*args: object, **kwargs: object) -> Server:
        servers.append(Server(*args, **kwargs))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(2 * PATIENCE_S)


def ask(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
        content: str = json.load(response)["choices"][0]["message"]["content"]
        return content


def test_it_starts_answers_stops_and_starts_again_quickly(start: Start, tmp_path: Path, stalls: Stalls) -> None:
    first = start(tmp_path / "data")
    print(f"first start: {first.wait_until_ready():.1f} s")
    password = re.search(r"Sign in +admin / (\S{12,})", first.text)
    assert password, first.text
    assert ask(first.printed_curl())
    snippet = subprocess.run(
        [sys.executable, "-c", first.printed_python()], capture_output=True, text=True, check=False
    )
    assert snippet.stdout.strip(), snippet.stderr
    assert len(first.children) >= 5, "web, gRPC, worker, demo provider and Valkey"
    assert first.grpc_is_well()
    assert first.interrupt() == 0, first.text
    first.assert_nothing_is_left()

    watch = stalls.watch()
    second = start(tmp_path / "data", port=first.port)
    print(f"second start: {second.wait_until_ready():.1f} s")
    assert watch.seconds <= 15  # 5 on a quiet machine with two cores
    assert password[1] not in second.text
    assert second.interrupt() == 0
    second.assert_nothing_is_left()


def test_it_runs_without_redis(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data", "--no-redis")
    server.wait_until_ready()
    assert "Running without Redis" in server.text
    assert ask(server.printed_curl())
    assert server.interrupt() == 0
    server.assert_nothing_is_left()


def test_a_used_port_is_named_with_the_way_out(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        server = start(tmp_path / "data", port=port)
        assert server.process.wait(2 * PATIENCE_S) != 0
    assert f"port {port} is not free" in server.text
    assert "--port" in server.text


def test_a_second_one_on_the_same_data_is_refused(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "data", "--no-demo")
    first.wait_until_ready()
    second = start(tmp_path / "data", "--no-demo")
    assert second.process.wait(2 * PATIENCE_S) != 0
    assert first.process.poll() is None
    assert first.interrupt() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
def test_a_killed_child_takes_the_rest_down(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data", "--no-demo")
    server.wait_until_ready()
    web = next(pid for pid in server.children if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(web, signal.SIGKILL)
    assert server.process.wait(2 * PATIENCE_S) == 1
    assert "web was ended by SIGKILL; stopping the others." in server.text
    server.assert_nothing_is_left()
