"""What the scripts beside this file share. It runs before anything is installed: standard library only."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
DOTENV = ROOT / ".env"


def fail(message: str) -> NoReturn:
    """End the script with one clear message."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def setup(lock: str) -> None:
    """Have a virtual environment with everything of requirements/<lock>.txt; costs nothing if it is current."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is what tells people so
        fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    if not _runs(PYTHON):
        _create_venv()
    wanted = hashlib.sha256((ROOT / "requirements" / f"{lock}.txt").read_bytes()).hexdigest()
    stamp = VENV / f".installed-{lock}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    _install(ROOT / "requirements" / f"{lock}.txt")
    stamp.write_text(wanted)
    if lock == "dev":  # it contains all of base
        base = ROOT / "requirements" / "base.txt"
        (VENV / ".installed-base").write_text(hashlib.sha256(base.read_bytes()).hexdigest())


def fresh_secrets() -> dict[str, str]:
    """New random values for the three settings that have no default."""
    return {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "KEY_PEPPER": secrets.token_urlsafe(48),
        "FIELD_KEYS": base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }


def fresh_passwords() -> dict[str, str]:
    """New ones for the servers of docker-compose.yml: they become part of a URL."""
    return {name: secrets.token_hex(24) for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD")}


def write_dotenv() -> None:
    """Give .env (readable by its owner only) the secrets that it does not have yet; existing lines are kept."""
    wanted = {**fresh_secrets(), **fresh_passwords()}
    lines = DOTENV.read_text().splitlines() if DOTENV.exists() else ["# Written by script/setup. See .env.example."]
    have = {name for name, _, value in (line.partition("=") for line in lines) if value.strip()}
    missing = {name: value for name, value in wanted.items() if name not in have and not os.environ.get(name)}
    if not missing:
        return
    kept = [line for line in lines if line.partition("=")[0] not in missing]
    descriptor = os.open(DOTENV, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{line}\n" for line in [*kept, *(f"{name}={value}" for name, value in missing.items())])
    print(f"Wrote fresh {', '.join(missing)} to .env: keep a copy, provider keys cannot be read without it.")


def run(*argv: str) -> NoReturn:
    """Become a command of the virtual environment."""
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(VENV)
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    sys.stdout.flush()
    os.execv(VENV / "bin" / argv[0], argv)  # noqa: S606 - no shell is what we want


def _runs(*argv: str | Path) -> bool:
    try:
        return subprocess.run([*argv, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _uv() -> str | None:
    path = shutil.which("uv")
    return path if path and _runs(path) else None


def _create_venv() -> None:
    uv = _uv()
    if uv is None and importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"this Python comes without ensurepip. On Debian or Ubuntu: apt-get install python{version}-venv")
    print("Creating .venv ...", flush=True)
    make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    _check([*make, "--clear", str(VENV)], "the virtual environment could not be created")


def _install(lock: Path) -> None:
    print(f"Installing {lock.relative_to(ROOT)} (only when it changed) ...", flush=True)
    uv = _uv()
    if uv:
        pip = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(PYTHON)]
    else:
        if not _runs(PYTHON, "-m", "pip"):
            _check([str(PYTHON), "-m", "ensurepip"], "pip could not be installed into .venv")
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _check([*pip, "--require-hashes", "-r", str(lock)], f"{lock.name} could not be installed")


def _check(argv: list[str], message: str) -> None:
    if subprocess.run(argv, check=False, cwd=ROOT).returncode:
        fail(f"{message}: see the lines above")
