"""The repository's own promises: locks, layers, purity, and nothing of one machine in it."""

import contextlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)")
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
# Written in pieces, so that this file does not contain what it looks for.
REGISTRY_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "docker" + ".io", "ghcr" + ".io"]
PRIVATE_PATHS = re.compile(r"(?<![\w.])/(?:root|home/[a-z]+|Users/[A-Za-z]+|work/[a-z]+)/")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    found = (REQUIREMENT.match(line) for line in lines if not line.startswith(("#", "-")))
    return {normal(match[1]) for match in found if match}


def locked(name: str) -> dict[str, str]:
    return {normal(package): version for package, version in PINNED.findall(lock_text(name))}


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Name and content of every text file of the repository."""
    found = []
    for path in tracked_files():
        with contextlib.suppress(UnicodeDecodeError):
            found.append((path.relative_to(ROOT).as_posix(), path.read_text()))
    return tuple(found)


def tracked_files() -> list[Path]:
    """What is in the repository; in a copy without git, all but what the tools and the server leave behind."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        return [path for path in (ROOT / line for line in listing.stdout.splitlines()) if path.is_file()]
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in {"var"} and path.name[0] != "."]
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".env"]
    return files + [path for folder in [*folders, ROOT / ".ci"] for path in folder.rglob("*.*") if path.is_file()]


@pytest.mark.django_db
def test_the_tests_run_on_the_database_that_was_asked_for() -> None:
    assert connection.vendor == os.environ.get("ROUTER_EXPECT_DB_VENDOR", connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("name", ["base", "tracing", "dev"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    assert wanted(name) - set(locked(name)) == set()
    blocks = re.split(r"\n(?=\S)", lock_text(name))
    assert [block.splitlines()[0] for block in blocks if "==" in block and "--hash=sha256:" not in block] == []


def test_the_lock_for_developers_contains_the_one_for_servers() -> None:
    assert locked("base").items() - locked("dev").items() == set()


@pytest.mark.parametrize("name", ["base", "tracing", "dev"])
def test_upper_bounds_and_exact_pins_are_what_is_locked(name: str) -> None:
    exact = re.findall(
        r"^([A-Za-z0-9._-]+)==([\w.]+)$", (ROOT / "requirements" / f"{name}.in").read_text(), re.MULTILINE
    )
    assert {normal(package): version for package, version in exact}.items() - locked(name).items() == set()


def test_no_file_names_a_registry() -> None:
    found = [(where, host) for where, text in texts() for host in REGISTRY_HOSTS if host in text]
    assert found == []


def test_no_file_contains_a_path_of_one_machine() -> None:
    found = [(where, match[0]) for where, text in texts() for match in PRIVATE_PATHS.finditer(text)]
    assert found == []
    assert [where for where, text in texts() if ROOT != Path("/app") and f"{ROOT}/" in text] == []


def test_env_example_holds_no_secret() -> None:
    example = (ROOT / ".env.example").read_text()
    secret = re.findall(r"^([A-Z_]*(?:SECRET|PEPPER|PASSWORD|FIELD_KEYS|API_KEY)[A-Z_]*)=(\S+)", example, re.MULTILINE)
    assert secret == []


@pytest.mark.parametrize("folder", ["providers/domain", "routing/domain", "analytics/domain", "providers/wires"])
@pytest.mark.parametrize("seed", ["import asyncio", "from django.db import models", "import time\n\ntime.time()"])
def test_ruff_refuses_impure_code_in_pure_folders(folder: str, seed: str) -> None:
    assert "TID251" in ruff(f"{folder}/seed.py", seed)


def test_ruff_allows_it_everywhere_else() -> None:
    assert "TID251" not in ruff("routing/services.py", "import asyncio\n\nfrom django.db import models\n")


def ruff(where: str, code: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", where, "-"]
    return subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False).stdout


def test_every_script_is_executable_and_has_a_usage_line() -> None:
    scripts = [path for path in (ROOT / "script").iterdir() if path.is_file() and not path.suffix]
    assert len(scripts) >= 7
    assert [
        path.name for path in scripts if not os.access(path, os.X_OK) or "Usage: script/" not in path.read_text()
    ] == []
