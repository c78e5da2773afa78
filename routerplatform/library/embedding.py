"""The platform in a folder of its own: settings and secrets for a plain Python program, before Django is there.

A program that has set Django up with the platform's settings (`manage.py shell`, a view, a task) uses that one. Any
other gets a folder: SQLite, journal and secrets, in `AI_ROUTER_HOME`, else `DATA_DIR`, else `~/.ai-router`. Of its
environment only the variables below count: a `DATABASE_URL` that is meant for somebody else is left alone.
"""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import django
import environ
from cryptography.fernet import Fernet
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from routerplatform.library.errors import SetupError

HOME: Final = "AI_ROUTER_HOME"
LOG_LEVEL: Final = "AI_ROUTER_LOG_LEVEL"
SETTINGS: Final = "routerplatform.settings"
APPS: Final = ("providers", "routing", "analytics", "routerplatform")
SECRETS_FILE: Final = "secrets"
SECRETS: Final = ("SECRET_KEY", "KEY_PEPPER", "FIELD_KEYS")
LOCK_FILE: Final = "setup.lock"
OTHERS: Final = 0o077  # what nobody but the owner may have on a file


def prepare() -> None:
    """Have Django ready, with whatever installation this program is to use. Once for a process; writes the folder's
    secrets when they are not there yet.

    :raises SetupError: the folder cannot be used, or Django belongs to something else.
    """
    if settings.configured:
        _check_host()
        return
    named = os.environ.get("DJANGO_SETTINGS_MODULE", SETTINGS)
    if named != SETTINGS:
        raise SetupError(
            f"DJANGO_SETTINGS_MODULE names {named}, which is not the platform's. Unset it for this program, or add "
            "the platform's apps there and call django.setup() first."
        )
    home = home_folder(os.environ)
    with exclusively(home):
        values = _settings(environment_of(home, os.environ))
    settings.configure(**values, LOGGING_CONFIG=None)  # how it logs is the program's own business
    django.setup()
    logs_to(os.environ.get(LOG_LEVEL, ""))


def is_embedded() -> bool:
    """Whether this process uses a folder of its own; else the installation belongs to the platform's operators."""
    return settings.LOGGING_CONFIG is None


def _check_host() -> None:
    missing = [name for name in APPS if name not in {one.partition(".")[0] for one in settings.INSTALLED_APPS}]
    if missing:
        raise SetupError(
            f"Django is set up without {', '.join(missing)}. Use routerplatform.settings, or import the library in a "
            "process of its own."
        )
    if not apps.ready:
        raise SetupError("Django's settings are there, but not its apps: call django.setup() before this import.")


# --- the folder -----------------------------------------------------------------------------------------------------


def home_folder(environment: Mapping[str, str]) -> Path:
    """The folder of this installation, made when it is not there.

    :raises SetupError: it cannot be made or written, or belongs to somebody else.
    """
    try:
        named = environment.get(HOME) or environment.get("DATA_DIR") or "~/.ai-router"
        home = Path(named).expanduser().absolute()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise SetupError(f"The library needs a folder to keep things in: {error}. Set {HOME} to another one.") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise SetupError(f"The folder {home} cannot be written. Set {HOME} to another one.")
    return home


@contextmanager
def exclusively(home: Path) -> Iterator[None]:
    """While nobody else sets this folder up; waits for whoever does."""
    try:
        lock = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"The folder {home} cannot be used: {error.strerror}. Set {HOME} to another one.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def environment_of(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the platform's settings may see: the library's own, vendors' keys, and what the folder says.
    The caller holds the folder's lock."""
    own = {
        name: value for name, value in environment.items() if name.startswith("AI_ROUTER_") or name.endswith("_API_KEY")
    }
    return {**own, **_secrets_of(home), "READ_DOTENV": "false", "DATA_DIR": str(home)}


def _secrets_of(home: Path) -> dict[str, str]:
    """The three secrets of this folder, written when it is new.

    :raises SetupError: others may read them, or a line is missing that cannot be made up again.
    """
    path = home / SECRETS_FILE
    try:
        if not path.exists():
            _write_private(path, "".join(f"{name}={value}\n" for name, value in _new_secrets().items()))
        if path.stat().st_mode & OTHERS:
            raise SetupError(f"Others may read {path}, which holds secrets. Run: chmod 600 {path}")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The secrets in {path} cannot be read or written: {error}.") from None
    found = {name: value for name, _, value in (line.partition("=") for line in lines) if value}
    if missing := [name for name in SECRETS if name not in found]:
        raise SetupError(
            f"{path} is damaged: it lacks {', '.join(missing)}. Put back a copy of it. Without one, the vendors’ keys "
            f"in this folder cannot be read any more: set {HOME} to another one."
        )
    return {name: found[name] for name in SECRETS}


def _new_secrets() -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "KEY_PEPPER": secrets.token_urlsafe(48),
        "FIELD_KEYS": Fernet.generate_key().decode(),
    }


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable for its owner only."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _settings(environment: dict[str, str]) -> dict[str, Any]:
    """The platform's settings, read from `environment` instead of the process's.

    :raises SetupError: one of them has a wrong value.
    """
    of_process = environ.Env.ENVIRON
    environ.Env.ENVIRON = environment
    try:
        module = import_module(SETTINGS)
    except (ImproperlyConfigured, ValueError) as error:
        raise SetupError(f"A setting in the environment is not usable: {error}") from None
    finally:
        environ.Env.ENVIRON = of_process
    return {name: getattr(module, name) for name in dir(module) if name.isupper()}


# --- what it says ---------------------------------------------------------------------------------------------------


class _UntilThereIsAnother(logging.Filter):
    """Lets a line through as long as the program has no handler of its own for all loggers."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.root.handlers


def logs_to(level: str) -> None:
    """Silent by default, as a library should be. With a level, lines go to stderr, or to the program's own handlers.

    :raises SetupError: there is no such level.
    """
    known = logging.getLevelNamesMapping()
    if level and level.upper() not in known:
        raise SetupError(f"{LOG_LEVEL} is “{level}”, but must be one of: DEBUG, INFO, WARNING, ERROR.")
    handler: logging.Handler = logging.NullHandler()
    if level:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handler.addFilter(_UntilThereIsAnother())
    for name in APPS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if level:
            logger.setLevel(known[level.upper()])
