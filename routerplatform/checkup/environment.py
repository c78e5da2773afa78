"""Settings that are allowed and yet unwise, and the machine: disk, clock, files."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from routerplatform.management.findings import Finding, fail, ok, warn

FEWEST_CHARACTERS: Final = 10  # different ones, of a secret that was drawn and not typed
LEAST_FREE: Final = 200 * 1024**2
LITTLE_FREE: Final = 1024**3
YEARS: Final = range(2026, 2101)
LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}
OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def environment() -> Iterator[Finding]:
    yield ok("environment", f"Python {sys.version.split()[0]}, {settings.ENVIRONMENT}, data in {settings.DATA_DIR}")
    yield from secrets()
    yield from web()


def secrets() -> Iterator[Finding]:
    """Missing ones stop every command before this one."""
    weak = [
        name for name in ("SECRET_KEY", "KEY_PEPPER")
        if len(set(getattr(settings, name))) < FEWEST_CHARACTERS or "insecure" in getattr(settings, name)
    ]  # fmt: skip
    for name in weak:
        yield fail("secrets", f"{name} looks as if somebody had typed it.", "Run script/setup in a fresh .env.")
    if settings.SECRET_KEY == settings.KEY_PEPPER:
        yield warn("secrets", "SECRET_KEY and KEY_PEPPER are the same.", "Give SECRET_KEY a value of its own.")
    if len(settings.FIELD_KEYS) > 1:
        yield warn(
            "secrets",
            f"FIELD_KEYS holds {len(settings.FIELD_KEYS)} keys: a rotation is not finished.",
            "Run manage.py rotate_field_keys, then take the old ones away.",
        )
    dotenv = Path(settings.BASE_DIR, ".env")
    if dotenv.exists() and dotenv.stat().st_mode & OPEN_TO_OTHERS:
        yield warn("secrets", f"{dotenv} can be read by other users of this machine.", f"Run chmod 600 {dotenv}.")
    if not weak:
        yield ok("secrets", "SECRET_KEY, KEY_PEPPER and FIELD_KEYS are set.")


def web() -> Iterator[Finding]:
    parts = urlsplit(settings.PUBLIC_URL)
    is_public = parts.hostname not in LOOPBACK
    if settings.DEBUG:
        told = fail if is_public else warn
        yield told("web", "DEBUG is on: errors show the inside to everybody.", "Take DEBUG out of .env.")
    if "*" in settings.ALLOWED_HOSTS:
        yield warn("web", "ALLOWED_HOSTS takes any host.", "List the names that people really use.")
    if is_public and parts.hostname not in settings.ALLOWED_HOSTS and "*" not in settings.ALLOWED_HOSTS:
        yield fail(
            "web",
            f"PUBLIC_URL is at {parts.hostname}, which ALLOWED_HOSTS does not list: pages there are refused.",
            f"Add {parts.hostname} to ALLOWED_HOSTS.",
        )
    if parts.scheme == "https" and not settings.BEHIND_TLS:
        yield warn("web", "PUBLIC_URL is https and BEHIND_TLS is off: cookies travel in clear.", "Set BEHIND_TLS=true.")
    if is_public and parts.scheme == "http":
        yield warn("web", "People reach the pages without TLS.", "Put a proxy that speaks TLS in front.")
    if settings.BEHIND_TLS and not settings.CSRF_TRUSTED_ORIGINS:
        yield warn(
            "web", "CSRF_TRUSTED_ORIGINS is empty: forms behind a proxy may be refused.", "List the https origins."
        )
    yield ok("web", f"People come to {settings.PUBLIC_URL}.")


def machine(now: datetime) -> Iterator[Finding]:
    folder = Path(settings.DATA_DIR)
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1024**3:.1f} GiB free for {folder}"
    if not os.access(there, os.W_OK):
        yield fail("disk", f"{there} cannot be written to.", "Give it to the user that runs the platform.")
    elif free < LEAST_FREE:
        yield fail("disk", text, "Make room: with a full disk, whatever a hard budget covers is refused.")
    elif free < LITTLE_FREE:
        yield warn("disk", text, "Make room before usage has to wait in memory.")
    else:
        yield ok("disk", text)
    if now.astimezone(UTC).year not in YEARS:
        yield fail("clock", f"This machine's clock says {now:%Y-%m-%d}.", "Set it, and let it follow a time server.")
