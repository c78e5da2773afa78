"""`AI_ROUTER_CONFIG`: the ports of a config.yaml are defaults of settings, and the environment goes before them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from routerplatform.configuration.reading import MAX_BYTES
from routerplatform.configuration.server_file import read_server_ports
from tests.routerplatform.configuration.installation import file_of

ROOT = Path(__file__).resolve().parents[3]
PORTS = "server:\n  grpc_port: 50151\n  http_port: 8181\nproviders: {}\n"


def test_no_file_says_nothing() -> None:
    assert read_server_ports("") == {}


def test_a_file_says_its_ports(tmp_path: Path) -> None:
    assert read_server_ports(file_of(tmp_path, PORTS)) == {"http_port": 8181, "grpc_port": 50151}
    assert read_server_ports(file_of(tmp_path, "providers: {}\n")) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: 8080\n", ":1: server: must be a mapping of ports."),
        ("server:\n  http_port: 80800\n", ":2: server.http_port: must be a port from 1 to 65535."),
        ("server:\n  grpc_port: true\n", ":2: server.grpc_port: must be a port from 1 to 65535."),
        ("server: [\n", "is no YAML"),
        ("server:\n  grpc_port:\n", ":2: server.grpc_port: must be a port from 1 to 65535."),
        ("server:\n  grpc_port: '50051'\n", ":2: server.grpc_port: must be a port from 1 to 65535."),
        ("server:\n  grpc_port: 0\n", ":2: server.grpc_port: must be a port from 1 to 65535."),
        ("server:\n  grpc_prot: 50051\n", ":2: server.grpc_prot: is no field here. Did you mean grpc_port?"),
        ("server:\n  http_port: 1\n  http_port: 2\n", ":3: server.http_port: stands here twice, first in line 2."),
        ("- server\n", ":1: must be a mapping, for example with `server:` in it."),
        ("", ": is empty."),
        ("server:\n\thttp_port: 1\n", ":2: is no YAML: a tab"),
        ("server: !include x\n", ":1: server: has a tag"),
    ],
)
def test_a_file_with_no_port_where_one_should_be_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as told:
        read_server_ports(file_of(tmp_path, text))
    assert str(told.value).startswith("AI_ROUTER_CONFIG: ")
    assert said in str(told.value)
    assert str(told.value).endswith("Mend that, or take AI_ROUTER_CONFIG out of the environment.")


def test_what_older_routers_had_beside_the_ports_is_no_mistake(tmp_path: Path) -> None:
    text = "server:\n  host: 0.0.0.0\n  grpc_port: 50151\nlogging: {level: info}\n"
    assert read_server_ports(file_of(tmp_path, text)) == {"grpc_port": 50151}
    assert read_server_ports(file_of(tmp_path, "server:\n")) == {}


def test_a_file_of_windows_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfserver:\r\n  http_port: 8181\r\n")
    assert read_server_ports(str(path)) == {"http_port": 8181}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"server: \xff\n", "it is no text in UTF-8"), (b"#" * (MAX_BYTES + 1), "is larger than 8 MiB")],
)
def test_a_file_that_is_none_stops_the_start(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=said):
        read_server_ports(str(path))
    with pytest.raises(ImproperlyConfigured, match="is larger than 8 MiB"):  # and not read to its end
        read_server_ports("/dev/zero")
    with pytest.raises(ImproperlyConfigured, match="cannot be read: Is a directory"):
        read_server_ports(str(tmp_path))


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"config\.yaml cannot be read: No such file or directory\."):
        read_server_ports(str(tmp_path / "config.yaml"))


def test_settings_take_the_ports_where_the_environment_has_none(tmp_path: Path) -> None:
    """In a process of its own: settings are read once."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PORT", "GRPC_PORT"}}
    environment |= {"AI_ROUTER_CONFIG": file_of(tmp_path, PORTS, "config.yaml"), "GRPC_PORT": "50251"}
    environment |= {"DATA_DIR": str(tmp_path / "data"), "READ_DOTENV": "false", "SECRET_KEY": "s" * 32}
    environment |= {"KEY_PEPPER": "p" * 32, "FIELD_KEYS": "A" * 43 + "="}
    code = "from routerplatform import settings; print(settings.PORT, settings.GRPC_PORT)"
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout.split() == ["8181", "50251"]
