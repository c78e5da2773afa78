"""A real worker with its beat, without Redis: every job of the schedule is sent, taken and done."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from analytics.schedule import JOBS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0

pytestmark = pytest.mark.e2e


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'worker.sqlite3'}",
        "JOURNAL_DIR": str(tmp_path / "journal"),
        "REDIS_URL": "",
        "LOG_LEVEL": "INFO",
    }


@pytest.fixture
def database(environment: dict[str, str], tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Migrated, with a day that waits for its rollup; every job of the schedule runs each second."""
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], cwd=ROOT, env=environment, check=True)
    with closing(sqlite3.connect(tmp_path / "worker.sqlite3", timeout=20, isolation_level=None)) as connection:
        connection.execute("UPDATE django_celery_beat_intervalschedule SET every = 1")
        connection.execute("INSERT INTO analytics_dirtyday (day, marks) VALUES ('2026-03-10', 3)")
        yield connection


def test_a_worker_does_every_job_and_stops_when_it_is_told_to(
    environment: dict[str, str], database: sqlite3.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    argv = [sys.executable, "-m", "celery", "-A", "routerplatform", "worker", "-B", "--pool=threads", "--concurrency=2"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wanted = {job.task for job in JOBS}
        deadline = time.monotonic() + PATIENCE_S
        while not wanted <= succeeded(log) and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        missing = wanted - succeeded(log)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(10)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    text = log.read_text()
    assert missing == set(), text
    assert code == 0, text
    assert "Traceback" not in text
    assert database.execute("SELECT count(*) FROM analytics_dirtyday").fetchone() == (0,)


def succeeded(log: Path) -> set[str]:
    return set(re.findall(r"Task ([\w.]+)\[[\w-]+\] succeeded", log.read_text()))
