"""The database and Redis: reachable, up to date, quick, and of the same time as this machine."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from routerplatform.checkup.redis_place import redis_url
from routerplatform.management.findings import Finding, fail, ok, warn

SLOW_MS: Final = 50.0
PATIENCE_S: Final = 3.0
APART_S: Final = 2.0
START_DATABASE: Final = "Start the database, or correct DATABASE_URL; gateways that run go on meanwhile."


def database() -> Iterator[Finding]:
    try:
        yield from _database()
    except (DatabaseError, ImproperlyConfigured) as error:
        yield fail("database", f"It does not answer: {_first_line(error)}", START_DATABASE)


def _database() -> Iterator[Finding]:
    connection.ensure_connection()
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        took_ms = (time.perf_counter() - began) * 1000
        version = ".".join(map(str, connection.get_database_version()))
        text = f"{connection.display_name} {version}, {took_ms:.1f} ms for a question"
        yield (
            warn("database", text, "Look at its load and its way here.") if took_ms > SLOW_MS else ok("database", text)
        )
        if connection.vendor == "postgresql":
            cursor.execute("SELECT now()")
            yield from _apart("database", cursor.fetchone()[0], timezone.now())
    if connection.vendor == "sqlite" and settings.GATEWAY_PROCESSES > 1:
        yield warn("database", "Several gateways share an SQLite file.", "Move to PostgreSQL: set DATABASE_URL.")
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except InconsistentMigrationHistory as error:
        yield fail("migrations", str(error), "Restore the backup from before, and update again in order.")
        return
    if waiting:
        yield fail("migrations", f"{len(waiting)} not carried out.", "Run manage.py migrate.")
    else:
        yield ok("migrations", "All carried out.")


def redis() -> Iterator[Finding]:
    url = redis_url()
    if not url:
        yield warn(
            "redis",
            "None is configured: limits and kept answers are per process.",
            "Set REDIS_URL for several gateways.",
        )
        return
    try:
        with Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S) as client:
            began = time.perf_counter()
            client.ping()
            took_ms = (time.perf_counter() - began) * 1000
            seconds, _ = client.time()
            told = client.info("server")
    except (RedisError, OSError, ValueError) as error:
        yield fail(
            "redis", f"It does not answer at {_place(url)}: {_first_line(error)}", "Start it, or correct REDIS_URL."
        )
        return
    version = told.get("valkey_version") or told.get("redis_version") or "of an unknown version"
    yield ok("redis", f"{told.get('server_name', 'redis')} {version}, {took_ms:.1f} ms for a question")
    yield from _apart("redis", datetime.fromtimestamp(int(seconds), timezone.get_default_timezone()), timezone.now())


def _apart(name: str, theirs: datetime, ours: datetime) -> Iterator[Finding]:
    apart_s = abs((theirs - ours).total_seconds())
    if apart_s > APART_S:
        yield warn(
            "clock", f"The clock of the {name} is {apart_s:.0f} s apart from ours.", "Let both follow a time server."
        )


def _place(url: str) -> str:
    """Where Redis is, without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.hostname else "REDIS_URL"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
