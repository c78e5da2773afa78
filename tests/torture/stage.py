"""Everything that is tortured, as real processes: two gateways on one database, their vendor, Valkey, PostgreSQL."""

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from cryptography.fernet import Fernet

from routerplatform.embedded import Service, die_with_parent, free_port, running, start_postgres, start_valkey
from tests.e2e.processes import ROOT, Database, GatewayProcess
from tests.torture.load import Load, Progress, Question, Told, read_told
from tests.torture.vendor import Bill, bills_of

GATEWAYS = 2
REQUEST_TIMEOUT_S = 5
DURABILITY = ("disk", "process", "database")


def child(*words: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """A module of ours in a process that is spoken to by lines."""
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@dataclass(slots=True)
class Running:
    """A load under way; `stop` ends it and waits for the answers under way."""

    process: subprocess.Popen[str]
    folder: Path

    def progress(self) -> Progress:
        return Progress.read(self.folder / "progress.json")

    def stop(self) -> list[Told]:
        if self.process.poll() is None:
            self.process.communicate("stop\n", timeout=120)
        assert self.process.returncode == 0, "the load failed"
        return read_told(self.folder / "told.jsonl")


@dataclass(slots=True)
class Audit:
    """The ledger's own check, going on beside everything else."""

    process: subprocess.Popen[str]

    def set_limit(self, team: str, usd: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{team} {usd}\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        told, _ = self.process.communicate("end\n", timeout=120)
        found: dict[str, Any] = json.loads(told)
        return found


@dataclass(slots=True)
class Stage:
    """`keys` are virtual keys by team. `kills` counts what was killed so far."""

    folder: Path
    database: Database
    postgres: Service | None
    valkey: Service
    vendor_port: int
    env: dict[str, str] = field(repr=False)
    keys: dict[str, str] = field(repr=False)
    rng: random.Random
    gateways: list[GatewayProcess] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    durability: dict[int, str] = field(default_factory=dict)  # by port
    kills: int = 0
    _runs: int = 0

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def start(self) -> None:
        self.ports = [free_port() for _ in range(GATEWAYS)]
        self.gateways = [self._gateway(port) for port in self.ports]
        for gateway in self.gateways:
            gateway.wait_ready()

    def _gateway(self, port: int, durability: str = "") -> GatewayProcess:
        self.durability[port] = durability or self.rng.choice(DURABILITY)
        return GatewayProcess({**self.env, "JOURNAL_DURABILITY": self.durability[port]}, self.folder, port=port)

    def prepare_for_an_outage(self) -> None:
        """Have no gateway that was told to let answers wait for the database."""
        for number, port in enumerate(self.ports):
            if self.durability[port] == "database":
                self.gateways[number].stop()
                self.gateways[number] = self._gateway(port, "disk")
        self.wait_ready()

    def kill(self) -> None:
        """`kill -9` of one of them, and another one in its place at once. Every fourth was told to stop before, and
        is somewhere in its shutdown."""
        number = self.rng.randrange(len(self.gateways))
        if self.rng.random() < 0.25:
            self.gateways[number].ask_to_stop()
            time.sleep(self.rng.uniform(0, 0.5))
        self.gateways[number].kill()
        self.kills += 1
        self.gateways[number] = self._gateway(self.ports[number])

    def restart(self) -> None:
        """One of them is told to stop, as for a new version; and another one comes in its place."""
        number = self.rng.randrange(len(self.gateways))
        self.gateways[number].stop()
        self.gateways[number] = self._gateway(self.ports[number])

    def wait_ready(self) -> None:
        for gateway in self.gateways:
            gateway.wait_ready()

    def bills(self, first: int = 0) -> list[Bill]:
        return bills_of(self.vendor_port, first)

    @contextmanager
    def load(self, *questions: Question, callers: int, seed: int, answers: int | None = None) -> Iterator[Running]:
        self._runs += 1
        folder = self.folder / f"load-{self._runs}"
        folder.mkdir()
        told, progress = str(folder / "told.jsonl"), str(folder / "progress.json")
        load = Load(self.ports, list(questions), callers, told, progress, seed, answers)
        process = child("tests.torture.load", env=self.env)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(asdict(load)) + "\n")
            process.stdin.flush()
            yield Running(process, folder)
        finally:
            _end(process)

    @contextmanager
    def audit(self, *, every_s: float) -> Iterator[Audit]:
        process = child("tests.torture.auditor", str(every_s), env=self.env)
        try:
            yield Audit(process)
        finally:
            _end(process)

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.ask_to_stop()
        for gateway in self.gateways:
            gateway.wait()

    def complaints(self) -> list[str]:
        """Lines in the gateways' logs that tell of a fault of ours."""
        signs = ("Traceback", "failed inside the gateway", "never retrieved", "set aside", "damaged lines")
        logs = sorted(self.folder.glob("gateway-*.log"))
        lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
        return [line for line in lines if any(sign in line for sign in signs)]


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()


@contextmanager
def stage(kind: str, *, seed: int, rounds: int, limit_usd: str) -> Iterator[Stage]:
    """Set up on `kind`: sqlite or postgresql. Raises EmbeddedError where this machine has no such server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="router-torture-")))
        folder.chmod(0o711)  # PostgreSQL may have to run as another user
        postgres = stack.enter_context(_postgres(folder)) if kind == "postgresql" else None
        database = Database(postgres.url if postgres else f"sqlite:///{folder / 'router.sqlite3'}")
        valkey = stack.enter_context(running(start_valkey(folder / "valkey")))
        vendor = child("tests.torture.vendor", str(seed), env=os.environ)
        stack.callback(_end, vendor)
        env = _environment(folder, database, valkey)
        port = int(line_of(vendor))
        keys = _installed(env, str(port), str(rounds), limit_usd)
        built = Stage(folder, database, postgres, valkey, port, env, keys, random.Random(seed))
        built.start()
        stack.enter_context(closing(_Gateways(built)))
        yield built


@dataclass(slots=True)
class _Gateways:
    """Ends whatever gateways there are when the stage is left, however it is left."""

    stage: Stage

    def close(self) -> None:
        for gateway in self.stage.gateways:
            if gateway.exit_code is None:
                gateway.kill()


def _environment(folder: Path, database: Database, valkey: Service) -> dict[str, str]:
    return {
        **os.environ,
        "READ_DOTENV": "false",
        "SECRET_KEY": secrets.token_hex(32),
        "KEY_PEPPER": secrets.token_hex(32),
        "FIELD_KEYS": Fernet.generate_key().decode(),
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
        "REDIS_URL": valkey.url,
        "DATABASE_URL": database.url,
        "DATA_DIR": str(folder),
        "JOURNAL_DIR": str(folder / "journal"),
        "GATEWAY_PROCESSES": str(GATEWAYS),
        "REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
    }


def _installed(env: Mapping[str, str], *words: str) -> dict[str, str]:
    made = subprocess.run(
        [sys.executable, "-m", "tests.torture.installation", *words],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    keys: dict[str, str] = json.loads(made.stdout.splitlines()[-1])
    return keys


# --- servers that are stopped under load ---------------------------------------------------------------------------


@contextmanager
def _postgres(folder: Path) -> Iterator[Service]:
    with running(start_postgres(folder / "postgres")) as service:
        with psycopg.connect(service.url, autocommit=True) as connection:
            connection.execute("ALTER ROLE router SET synchronous_commit TO on")  # or a crash undoes commits
        yield service


@contextmanager
def frozen(service: Service) -> Iterator[None]:
    """The server and its children stand still: they take connections and answer nothing."""
    pids = [service.process.pid, *_children_of(service.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def crashed(service: Service) -> Iterator[None]:
    """The server ends at once, as with `pg_ctl stop -m immediate` or `kill -9`; afterwards it is started again."""
    children = _children_of(service.process.pid)
    service.process.send_signal(signal.SIGQUIT if service.name == "PostgreSQL" else signal.SIGKILL)
    service.process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield
    finally:
        _start_again(service)


def _children_of(pid: int) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _start_again(service: Service) -> None:
    """The same server on the same files, as the user that owns them."""
    arguments = service.process.args
    assert isinstance(arguments, Sequence)
    owner: dict[str, Any] = {}
    if "-D" in arguments:
        data = Path(str(arguments[arguments.index("-D") + 1]))
        (data / "postmaster.pid").unlink(missing_ok=True)  # it would tell that the dead server is ready
        owner = {"user": data.stat().st_uid, "group": data.stat().st_gid, "extra_groups": []}
    service.process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        start_new_session=True, preexec_fn=die_with_parent, **owner,  # noqa: PLW1509 - one system call
    )  # fmt: skip
    service.wait()
