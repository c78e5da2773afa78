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
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics.domain.alert_messages import secret_key, signature_headers
from analytics.schedule import JOBS
from tests.stalls import PATIENCE_S
from tests.upstreams.receiver import Receiver, receiving

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_" + "k" * 44

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
    """Migrated, with an hour that waits for its rollup; every job of the schedule runs each second."""
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], cwd=ROOT, env=environment, check=True)
    with closing(sqlite3.connect(tmp_path / "worker.sqlite3", timeout=20, isolation_level=None)) as connection:
        connection.execute("UPDATE django_celery_beat_intervalschedule SET every = 1")
        connection.execute(
            "INSERT INTO analytics_dirtyhour (hour, marks, rolled_up) VALUES ('2026-03-10 12:00:00', 3, 0)"
        )
        yield connection


@pytest.fixture
def pager(environment: dict[str, str], database: sqlite3.Connection) -> Iterator[Receiver]:
    """Somebody who wants to hear of alerts; there is something to hear."""
    with receiving(Receiver()) as receiver:
        argv = [sys.executable, "-m", "tests.e2e.alerting", receiver.url, SECRET]
        subprocess.run(argv, cwd=ROOT, env=environment, check=True)
        yield receiver


def test_a_worker_does_every_job_and_stops_when_it_is_told_to(
    environment: dict[str, str], database: sqlite3.Connection, pager: Receiver, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    argv = [sys.executable, "-m", "celery", "-A", "routerplatform", "worker", "-B", "--pool=threads", "--concurrency=2"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wanted = {job.task for job in JOBS}
        deadline = time.monotonic() + 2 * PATIENCE_S
        while (
            not (wanted <= succeeded(log) and pager.received) and worker.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        missing = wanted - succeeded(log)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(PATIENCE_S)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    text = log.read_text()
    assert missing == set(), text
    assert code == 0, text
    assert "Traceback" not in text
    assert database.execute("SELECT count(*) FROM analytics_dirtyhour WHERE marks > rolled_up").fetchone() == (0,)
    [call] = pager.received  # told once, however often the jobs ran
    assert call.json["data"]["title"] == "The price of new-model is not known"
    at = datetime.fromtimestamp(int(call.headers["webhook-timestamp"]), tz=UTC)
    ours = {"message_id": call.headers["webhook-id"], "at": at, "body": call.body, "key": secret_key(SECRET)}
    assert signature_headers(**ours).items() <= call.headers.items()
    assert database.execute("SELECT state FROM analytics_alertdelivery").fetchall() == [("sent",)]


def succeeded(log: Path) -> set[str]:
    return set(re.findall(r"Task ([\w.]+)\[[\w-]+\] succeeded", log.read_text()))
