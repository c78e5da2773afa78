"""What `manage.py dev` is made of: ports, the lock on its folder, what it starts, and what it prints."""

import http.server
import io
import re
import socket
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from routerplatform import supervisor
from routerplatform.management.banner import Access, Console, banner
from routerplatform.management.commands import dev


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server((dev.HOST, 0)) as server:
        yield int(server.getsockname()[1])


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A web server that answers everything with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer((dev.HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


# --- ports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("8000", 8000), ("65535", 65_535)])
def test_a_port_is_a_number_that_ports_have(text: str, port: int) -> None:
    assert dev.port_number(text) == port


@pytest.mark.parametrize("text", ["0", "-1", "65536", "99999999999"])
def test_a_number_that_no_port_has_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="1 to 65535"):
        dev.port_number(text)


@pytest.mark.parametrize("port", ["http", "", "80.5", "65536"])
def test_the_command_refuses_what_is_no_port_before_it_starts_anything(port: str) -> None:
    with pytest.raises(CommandError, match="argument --port"):
        call_command("dev", f"--port={port}")


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with listening() as port, pytest.raises(CommandError, match=f"port {port} is not free.*--port"):
        dev.require_free(port)
    dev.require_free(port)


def test_the_demo_provider_moves_when_its_port_is_taken(settings: Settings) -> None:
    with listening() as port:
        settings.DEMO_PROVIDER_PORT = port
        assert dev.usable_demo_port() not in {0, port}
    assert dev.usable_demo_port() == port


def test_so_does_grpc_and_the_first_page_says_where_it_went(settings: Settings) -> None:
    with listening() as port:
        settings.GRPC_PORT = port
        moved = dev.usable_grpc_port()
        assert moved not in {0, port}
    assert dev.usable_grpc_port() == port
    text = banner(Console(io.StringIO()), origin="http://h:1", grpc=f"127.0.0.1:{moved}", access=Access(), seconds=1.0)
    assert f"127.0.0.1:{moved}" in text


# --- the lock -----------------------------------------------------------------------------------------------------


def test_a_folder_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with dev.only_one_on(folder), pytest.raises(CommandError, match="it already runs on"), dev.only_one_on(folder):
        raise AssertionError("two have it")
    with dev.only_one_on(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_another_folder_is_another_platform(tmp_path: Path) -> None:
    with dev.only_one_on(tmp_path / "one"), dev.only_one_on(tmp_path / "two"):
        assert (tmp_path / "two" / "dev.lock").exists()


# --- readiness ----------------------------------------------------------------------------------------------------


def test_ready_is_what_says_so_with_200() -> None:
    with answering(200) as port:
        assert dev.answers(port)
        assert dev.is_ready(port, None)
        with listening() as demo_port:
            assert dev.is_ready(port, demo_port)
        assert not dev.is_ready(port, demo_port)
        with listening() as grpc_port:
            assert dev.is_ready(port, None, grpc_port)
        assert not dev.is_ready(port, None, grpc_port)
    assert not dev.answers(port)


def test_a_server_that_is_still_starting_is_not_ready() -> None:
    with answering(503) as port:
        assert not dev.answers(port)
        assert dev.listens(port)


# --- what is started ----------------------------------------------------------------------------------------------


def test_web_worker_and_demo_are_started_on_loopback_with_beat_in_the_worker() -> None:
    started = {child.name: child for child in dev.children(8000, 8901)}
    assert list(started) == ["web", "worker", "demo"]
    web = list(started["web"].argv)
    assert web[web.index("--host") + 1] == "127.0.0.1"
    assert "--beat" in started["worker"].argv
    assert started["worker"].nice > started["web"].nice
    assert started["demo"].argv[-2:] == ["--port", "8901"]


def test_grpc_is_started_on_loopback_and_stops_as_fast_as_the_web() -> None:
    started = {child.name: list(child.argv) for child in dev.children(8000, 8901, 50_052)}
    assert list(started) == ["web", "worker", "grpc", "demo"]
    grpc = started["grpc"]
    assert grpc[1:7] == ["manage.py", "rungrpc", "--host", "127.0.0.1", "--port", "50052"]
    assert 0 < float(grpc[grpc.index("--stop-drain") + 1]) < supervisor.STOP_TIMEOUT_S


def test_without_the_demo_nobody_listens_for_it() -> None:
    assert [child.name for child in dev.children(8000, None)] == ["web", "worker"]


# --- what is printed ----------------------------------------------------------------------------------------------


def page(access: Access) -> str:
    return banner(Console(io.StringIO()), origin="http://127.0.0.1:8000", access=access, seconds=1.25)


def test_the_first_page_says_how_to_get_in_and_holds_requests_to_paste() -> None:
    text = page(Access(username="admin", password="once-only", key="rp_demo_key"))
    assert "once-only" in text
    assert "http://127.0.0.1:8000/dashboards/" in text
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in text
    assert 'OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="rp_demo_key")' in text.replace("\n", "")
    assert "(1.2 s)" in text


def test_what_is_not_known_any_more_is_left_to_the_reader() -> None:
    text = page(Access(username="admin"))
    assert "$ROUTER_KEY" in text
    assert "None" not in text
    assert "None" not in page(Access())


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, colourful = io.StringIO(), Terminal()
    for stream in (plain, colourful):
        Console(stream).line("web", "a line")
    assert plain.getvalue() == f"{'web':<10}a line\n"
    assert re.sub(r"\x1b\[\d+m", "", colourful.getvalue()) == plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    grey = Terminal()
    Console(grey).line("web", "a line")
    assert grey.getvalue() == plain.getvalue()
