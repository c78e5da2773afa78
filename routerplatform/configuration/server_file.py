"""The ports in a `config.yaml` (`server.http_port`, `server.grpc_port`), as defaults of settings."""

from difflib import get_close_matches
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from routerplatform.configuration.reading import MAX_BYTES, Unreadable, Value, read

WAY_OUT: Final = "Mend that, or take AI_ROUTER_CONFIG out of the environment."
PORTS: Final = ("http_port", "grpc_port")


def read_server_ports(path: str) -> dict[str, int]:
    """The ports that the file says; empty without a `path`. What the environment says goes before them.

    :raises ImproperlyConfigured: the file cannot be read, or has no port where there should be one.
    """
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return _ports(read(data.decode("utf-8-sig"), path))
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ImproperlyConfigured(f"AI_ROUTER_CONFIG: {path} cannot be read: {said}. {WAY_OUT}") from None
    except Unreadable as error:
        raise ImproperlyConfigured(f"AI_ROUTER_CONFIG: {error} {WAY_OUT}") from None


def _ports(tree: Value) -> dict[str, int]:
    """:raises Unreadable: see above."""
    if not isinstance(tree.data, dict):
        raise Unreadable([tree.problem("must be a mapping, for example with `server:` in it.")])
    server = tree.data.get("server")
    if server is None or server.data is None:
        return {}
    if not isinstance(server.data, dict):
        raise Unreadable([server.problem("must be a mapping of ports.")])
    for name, value in server.data.items():
        if name not in PORTS and (close := get_close_matches(name, PORTS, n=1)):  # what older routers had is no mistake
            raise Unreadable([value.problem(f"is no field here. Did you mean {close[0]}?")])
    return {name: _port(server.data[name]) for name in PORTS if name in server.data}


def _port(value: Value) -> int:
    if isinstance(value.data, bool) or not isinstance(value.data, int) or not 1 <= value.data <= 65535:
        raise Unreadable([value.problem("must be a port from 1 to 65535.")])
    return value.data
