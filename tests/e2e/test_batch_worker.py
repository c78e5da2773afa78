"""A batch with real processes and no Redis: its worker is killed in the middle, and another one carries on. Slow: half
a minute passes until the first one counts as lost."""

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from tests.e2e.processes import PYTHON, DemoProvider, GatewayProcess, Platform, Process, wait_until
from tests.stalls import PATIENCE_S

pytestmark = pytest.mark.e2e

CHATS, PARALLEL = 24, 3


@pytest.fixture
def celery(platform: Platform) -> Iterator[Callable[..., Process]]:
    """Starts `celery` with these arguments, in the platform's installation."""
    own = {
        "DATABASE_URL": platform.database.url,
        "DATA_DIR": str(platform.folder),
        "JOURNAL_DIR": str(platform.journal),
        "METRICS_PORT": "0",
    }
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Process:
            argv = [PYTHON, "-m", "celery", "-A", "routerplatform", *arguments, "--loglevel", "info"]
            process = Process(argv, {**platform.installation.env, **own}, platform.folder / f"{name}.log")
            stack.callback(lambda: process.kill() if process.exit_code is None else None)
            return process

        yield start


def worker(celery: Callable[..., Process], name: str) -> Process:
    process = celery(name, "worker", "--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle")
    process.wait_for(lambda: "ready." in process.text)
    return process


def ask(gateway: GatewayProcess, key: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{gateway.url}/api/v1/batch{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        told: dict[str, Any] = json.load(response)
    return told


def often(platform: Platform) -> None:
    """The jobs of batches run each second, and no others: those would keep the worker too busy."""
    statements = (
        "UPDATE django_celery_beat_intervalschedule SET every = 1, period = 'seconds'",
        "UPDATE django_celery_beat_periodictask SET enabled = false WHERE task NOT LIKE 'routerplatform.tasks.%'",
    )
    if platform.database.is_postgresql:
        with psycopg.connect(platform.database.url, autocommit=True) as server:
            for statement in statements:
                server.execute(statement)
    else:
        with closing(sqlite3.connect(platform.database.name, timeout=20, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)


def test_a_batch_outlives_the_worker_that_is_killed_in_the_middle(
    platform: Platform, celery: Callable[..., Process], demo_provider: DemoProvider
) -> None:
    often(platform)
    gateway = platform.gateway()
    known = set(demo_provider.bills())
    first = worker(celery, "first")
    celery("beat", "beat", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler", "--pidfile", "")
    prompts = [f"[[delay=0.4]] [[say=answer {number}]] Hello" for number in range(CHATS)]
    job = ask(gateway, platform.key, "", {"prompts": prompts, "max_parallel": PARALLEL, "background": True})

    def now() -> dict[str, Any]:
        return ask(gateway, platform.key, f"/{job['id']}")

    wait_until(lambda: now()["counts"]["ok"] >= PARALLEL, what="some are answered")
    first.kill()
    before = now()
    assert (before["state"], before["counts"]["left"] > 0) == ("running", True)
    second = worker(celery, "second")
    deadline = time.monotonic() + 4 * PATIENCE_S
    while now()["state"] == "running":
        assert time.monotonic() < deadline, second.text
        time.sleep(0.2)

    over = now()
    assert (over["state"], over["counts"]["ok"], over["counts"]["left"]) == ("done", CHATS, 0), second.text
    rows = ask(gateway, platform.key, f"/{job['id']}/results")["data"]
    assert [row["response"]["content"] for row in rows] == [f"answer {number}" for number in range(CHATS)]
    again = [request_id for row in rows for request_id in row.get("earlier_request_ids", ())]
    assert len(again) <= PARALLEL  # what was under way at the kill, and nothing else
    bills = {request_id for request_id in demo_provider.bills() if request_id not in known}
    asked = {row["request_id"] for row in rows}
    assert asked <= bills <= asked | set(again)
    wait_until(lambda: bills <= platform.database.records().keys(), what="all that was asked is on record")
    assert second.stop() == 0
    assert "Traceback" not in second.text
