"""Real processes for tests: gateways, the demo provider, and a database that several of them share.

Everything is on loopback, in folders of the test, and is ended by its pid; a killed test run takes its processes along.
"""

import asyncio
import http.client
import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from cryptography.fernet import Fernet

from routerplatform.embedded import die_with_parent, free_port
from tests.stalls import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 80.0  # two seconds on a quiet machine
STOP_TIMEOUT_S = 40.0
PYTHON = sys.executable


def wait_until(condition: Callable[[], Any], *, what: str) -> float:
    """Seconds until `condition()` held; it is looked at about every 20 ms. Fails when it never does."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


# --- databases ------------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """What tests look at in a usage record."""

    request_id: str
    state: str
    door: str
    usage_source: str
    deployment: str
    input_tokens: int
    output_tokens: int
    cost_nano: int | None


@dataclass(frozen=True, slots=True)
class Database:
    """A database for several processes. `url` is what DATABASE_URL says."""

    url: str

    @classmethod
    def create(cls, folder: Path, *, template: str = "template1") -> "Database":
        """An empty one: on PostgreSQL when DATABASE_URL is there, else a file in `folder`."""
        server = os.environ.get("DATABASE_URL", "")
        if not server.startswith("postgres"):
            return cls(f"sqlite:///{folder / 'router.sqlite3'}")
        name = f"e2e_{secrets.token_hex(6)}"
        _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
        return cls(urlsplit(server)._replace(path=f"/{name}").geturl())

    @property
    def is_postgresql(self) -> bool:
        return self.url.startswith("postgres")

    @property
    def name(self) -> str:
        """The name on its server, or the path of the file."""
        return self.url.removeprefix("sqlite:///") if not self.is_postgresql else urlsplit(self.url).path[1:]

    def copy(self, folder: Path) -> "Database":
        """One with the same content; nobody may be connected to this one."""
        copy = Database.create(folder, template=self.name)
        if not self.is_postgresql:
            with closing(sqlite3.connect(self.name)) as source, closing(sqlite3.connect(copy.name)) as target:
                source.backup(target)
        return copy

    def drop(self) -> None:
        if self.is_postgresql:
            self.administer(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        else:
            Path(self.name).unlink(missing_ok=True)

    def end_sessions(self) -> None:
        """Throw out whoever is connected (PostgreSQL)."""
        ours = f"datname = '{self.name}'"
        self.administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")  # noqa: S608

    def administer(self, statement: str) -> None:
        """Run a statement about this database from another one of the same server (PostgreSQL)."""
        _execute(os.environ["DATABASE_URL"], statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if self.is_postgresql:
            with psycopg.connect(self.url, autocommit=True) as connection:
                return connection.execute(query.encode()).fetchall()
        with closing(sqlite3.connect(self.name, timeout=20)) as connection:
            return connection.execute(query).fetchall()

    def records(self) -> dict[str, Record]:
        """All usage records by request id."""
        columns = ", ".join(Record._fields)
        rows = self.rows(f"SELECT {columns} FROM analytics_usagerecord")  # noqa: S608 - names of ours
        return {record.request_id: record for record in (Record(str(UUID(str(row[0]))), *row[1:]) for row in rows)}


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


# --- processes ------------------------------------------------------------------------------------------------------


class Process:
    """A child whose output goes to the file `log`."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
            )  # fmt: skip
        self.pid = self._child.pid

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Until `condition()` holds; fails with the log when the process ends first or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            assert self.exit_code is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.03)

    def kill(self) -> None:
        """`kill -9`."""
        self._child.kill()
        self._child.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM, as a supervisor sends it."""
        self._child.terminate()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Its exit code. One that does not end by itself is killed, and that is an error."""
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop when it was told to:\n{self.text}") from None

    def stop(self) -> int:
        self.ask_to_stop()
        return self.wait()


class DemoProvider(Process):
    """The vendor: answers at once, but for what markers in a prompt ask for."""

    def __init__(self, folder: Path) -> None:
        argv = [PYTHON, "-m", "providers.demo", "--port", "0", "--pace-factor", "0"]
        super().__init__(argv, os.environ, folder / "demo_provider.log")
        self.wait_for(lambda: "Demo provider on" in self.text)
        [self.url] = re.findall(r"http://[\d.]+:\d+", self.text)

    def bills(self) -> dict[str, dict[str, Any]]:
        """The provider's own count, by the id of the gateway's request. For requests of a single attempt."""
        with urllib.request.urlopen(f"{self.url}/demo/bills", timeout=PATIENCE_S) as response:
            return {bill["request_id"]: bill for bill in json.load(response)["bills"]}

    async def reached(self, requests: int = 1) -> None:
        """Until it works on at least so many requests."""
        await asyncio.to_thread(wait_until, lambda: self.open_requests() >= requests, what="the provider is asked")

    def open_requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/demo/stats", timeout=PATIENCE_S) as response:
            return int(json.load(response)["open_requests"])


class GatewayProcess(Process):
    """One gateway, started as in production; `server` is uvicorn (our own runner of it) or daphne."""

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        *,
        server: str = "uvicorn",
        announce_s: float = 0,
        grace_s: float = 10,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        stop = ["--stop-announce", str(announce_s), "--stop-drain", str(grace_s)]
        commands = {
            "uvicorn": ["manage.py", "serve", "--port", str(self.port), *stop],
            "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), "routerplatform.asgi:application"],
        }
        super().__init__([PYTHON, *commands[server]], env, folder / f"gateway-{self.port}.log")

    def probe(self, path: str = "/health/ready") -> int:
        """The status of a probe, 0 while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def wait_ready(self) -> None:
        self.wait_for(lambda: self.probe() == 200)


# --- a platform of them ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installation:
    """A database with the demo in it, and what goes with it. `env` holds the secrets, `key` is a virtual key."""

    database: Database
    env: dict[str, str] = field(repr=False)
    key: str = field(repr=False)
    admin: str
    password: str = field(repr=False)

    @classmethod
    def make(cls, database: Database, folder: Path, provider: DemoProvider) -> "Installation":
        env = {
            **os.environ,
            "SECRET_KEY": secrets.token_hex(32),
            "KEY_PEPPER": secrets.token_hex(32),
            "FIELD_KEYS": Fernet.generate_key().decode(),
            "DEBUG": "false",
            "LOG_LEVEL": "INFO",
            "REDIS_URL": "",
            "DATABASE_URL": database.url,
            "DATA_DIR": str(folder),
            "DEMO_PROVIDER_PORT": str(urlsplit(provider.url).port),
        }
        setup = subprocess.run(
            [PYTHON, "-m", "tests.e2e.installation"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert setup.returncode == 0, setup.stderr
        access = json.loads(setup.stdout.splitlines()[-1])
        return cls(database, env, access["key"], access["admin"], access["password"])


@dataclass(slots=True)
class Platform:
    """A copy of an installation, with a journal folder for all its gateways."""

    installation: Installation
    database: Database
    folder: Path
    started: list[GatewayProcess] = field(default_factory=list)

    @classmethod
    def make(cls, installation: Installation, folder: Path) -> "Platform":
        return cls(installation, installation.database.copy(folder), folder)

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def key(self) -> str:
        return self.installation.key

    def start(
        self,
        *,
        server: str = "uvicorn",
        announce_s: float = 0,
        grace_s: float = 10,
        port: int | None = None,
        **env: str,
    ) -> GatewayProcess:
        """Begin to start a gateway: `wait_ready` follows."""
        own = {
            **self.installation.env,
            "DATABASE_URL": self.database.url,
            "DATA_DIR": str(self.folder),
            "JOURNAL_DIR": str(self.journal),
            **env,
        }
        options = {"server": server, "announce_s": announce_s, "grace_s": grace_s, "port": port}
        self.started.append(GatewayProcess(own, self.folder, **options))
        return self.started[-1]

    def gateway(self, **options: Any) -> GatewayProcess:
        """A gateway that is ready."""
        process = self.start(**options)
        process.wait_ready()
        return process

    def journal_files(self) -> set[Path]:
        return set(self.journal.glob("*.journal"))

    def close(self) -> None:
        running = [process for process in self.started if process.exit_code is None]
        try:
            for process in running:
                process.ask_to_stop()
            for process in running:
                process.wait()
        finally:
            for process in running:
                process.kill()
            self.database.drop()
