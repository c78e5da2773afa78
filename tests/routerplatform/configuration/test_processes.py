"""Real processes, as a person or a pipeline starts them: their exit codes, and sentences where a traceback would be.

Slow: each test starts `manage.py` some times.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.routerplatform.configuration.installation import file_of

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Manage = Callable[..., Ended]


def command(folder: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start `manage.py` in an environment of its own, with a database in `folder`."""
    own = {"PATH": os.environ["PATH"], "READ_DOTENV": "false", "DATA_DIR": str(folder / "data"), "REDIS_URL": ""}
    own |= {"SECRET_KEY": "s" * 40, "KEY_PEPPER": "p" * 40, "FIELD_KEYS": "A" * 43 + "="}
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        env=own | variables, cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """`manage("check", PORT="")`: run it to its end; `stdin` is what it reads."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> Ended:
        with command(tmp_path, *arguments, **variables) as process:
            out, err = process.communicate(stdin, timeout=280)
        return Ended(process.returncode, out, err)

    return run


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "", "PORT is empty. Give it a number, or take its line out to have its default"),
        ("GRPC_PORT", " ", "GRPC_PORT is empty. Give it a number"),
        ("GRPC_PORT", "fifty", "GRPC_PORT is no number. Give it a number"),
        ("PORT", "70000", "PORT is 70000, but a port is a number from 0 to 65535."),
    ],
)
def test_a_port_that_is_none_is_told_in_a_sentence(manage: Manage, name: str, value: str, said: str) -> None:
    told = manage("check", **{name: value})
    assert told.returncode == 1
    assert told.stderr.startswith(f"The settings cannot be used: {said}")
    assert len(told.stderr.splitlines()) == 1


def test_a_config_yaml_that_is_none_is_told_with_its_line_and_the_way_out(manage: Manage, tmp_path: Path) -> None:
    file = file_of(tmp_path, "providers: {}\nserver:\n  http_port: eighty\n", "config.yaml")
    told = manage("check", AI_ROUTER_CONFIG=file)
    assert told.returncode == 1
    assert told.stderr == (
        f"The settings cannot be used: AI_ROUTER_CONFIG: {file}:3: server.http_port: must be a port from 1 to 65535. "
        "Mend that, or take AI_ROUTER_CONFIG out of the environment.\n"
    )


def test_a_pipeline_goes_by_exit_codes_and_two_imports_at_once_end_as_one_of_them(
    manage: Manage, tmp_path: Path
) -> None:
    """On a database of its own: out, in, twice at once, and a drift report."""
    assert manage("migrate", "--verbosity", "0").returncode == 0
    text = "format: 1\nteams:\n  support: {name: %s}\n"
    planned = manage("config_import", "-", "--plan", "--json", stdin=text % "Support")
    assert (planned.returncode, json.loads(planned.stdout)["counts"]["add"]) == (2, 1), planned.stderr
    refused = manage("config_import", "-", "--apply", stdin="format: 1\nteams:\n  support: {nmae: sk-S3cret}\n")
    assert refused.returncode == 1
    assert "standard input:3: teams.support.nmae: is no field here. Did you mean name?" in refused.stderr
    assert "S3cret" not in refused.stderr + refused.stdout
    files = [file_of(tmp_path, text % f"Support {number}", f"{number}.yaml") for number in range(2)]
    with command(tmp_path, "config_import", files[0], "--apply") as one:
        with command(tmp_path, "config_import", files[1], "--apply") as other:
            ends = [process.communicate(timeout=280) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), ends
    written = manage("config_export").stdout
    assert "name: Support " in written
    same = manage("config_import", "-", "--plan", "--prune", stdin=written)
    assert (same.returncode, same.stdout.strip()) == (0, "Nothing differs."), same.stderr
