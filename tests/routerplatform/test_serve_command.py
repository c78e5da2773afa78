"""`manage.py serve`, as far as it needs no running server: what it refuses, and with which words."""

import socket
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from routerplatform.web_server import bound


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "0"], "0 is not a port"),
        (["--port", "70000"], "70000 is not a port"),
        (["--port", "http"], "invalid port_number value: 'http'"),
        (["--stop-announce", "-1"], "-1 is not a number of seconds"),
        (["--stop-drain", "inf"], "inf is not a number of seconds"),
        (["--stop-drain", "nan"], "nan is not a number of seconds"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("serve", *arguments)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1, port {port}: Address already in use"):
            call_command("serve", "--port", str(port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1"):
        call_command("serve", "--host", "192.0.2.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_nobody_is_let_in_before_the_gateway_is_ready(host: str) -> None:
    try:
        sock = bound(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with sock:
        address: tuple[Any, ...] = sock.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address[:2], timeout=5)
