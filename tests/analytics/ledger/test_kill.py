"""Gateways die by `kill -9` while they answer; whatever was acknowledged or sent has exactly one row afterwards."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.analytics.ledger.gateway_nursery import BOUND_NANO
from tests.analytics.ledger.samples import wait_until

RUN = "import sys, django; django.setup(); from tests.analytics.ledger.gateway_nursery import main; main(*sys.argv[1:])"


class Log:
    """What the nursery and its gateways have told so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def told(self, about: str) -> list[dict[str, Any]]:
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        return [what for line in lines if about in (what := json.loads(line))]


@pytest.fixture
def database(transactional_db: None, tmp_path: Path) -> str:
    """The name of a migrated database that other processes can open: the test's own, or a copy if that is in memory."""
    if connection.vendor != "sqlite":
        return str(connection.settings_dict["NAME"])
    connection.ensure_connection()
    path = tmp_path / "copy.sqlite3"
    copy = sqlite3.connect(path)
    connection.connection.backup(copy)
    copy.close()
    return str(path)


@pytest.fixture
def nursery(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(tmp_path / "journal"), request.param, str(tmp_path / "log"), database]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its gateways are in its session
        process.communicate()


def kill_gateways(nursery: subprocess.Popen[str], log: Log, *, kills: int) -> list[tuple[str, str, int]]:
    """Start and kill gateways one after the other, at random moments; returns the rows at the end."""
    assert nursery.stdin is not None
    rng = random.Random(7)
    for number in range(kills):
        nursery.stdin.write("gateway\n")
        nursery.stdin.flush()
        wait_until(lambda wanted=number: len(log.told("pid")) > wanted, within_s=30)  # type: ignore[misc]
        time.sleep(rng.uniform(0.05, 0.4))
        os.kill(log.told("pid")[-1]["pid"], signal.SIGKILL)
    time.sleep(0.05)
    nursery.stdin.write("report\n")
    nursery.stdin.flush()
    wait_until(lambda: bool(log.told("rows")), within_s=60)
    return [tuple(row) for row in log.told("rows")[0]["rows"]]


def check_books(rows: list[tuple[str, str, int]], log: Log) -> None:
    assert max(Counter(request_id for request_id, _, _ in rows).values()) == 1
    by_id = {request_id: (state, cost) for request_id, state, cost in rows}
    acknowledged = {what["acknowledged"]: what["cost"] for what in log.told("acknowledged")}
    sent = {what["sent"] for what in log.told("sent")}
    assert len(acknowledged) > 50
    assert {request_id: by_id.get(request_id) for request_id in acknowledged} == {
        request_id: ("settled", cost) for request_id, cost in acknowledged.items()
    }
    unanswered = Counter(by_id[request_id][0] for request_id in sent - acknowledged.keys())
    assert unanswered.keys() <= {"settled", "expired"}, "billed, even if nobody was told"
    assert unanswered["expired"] > 0
    assert {cost for state, cost in by_id.values() if state == "expired"} == {BOUND_NANO}
    assert {cost for state, cost in by_id.values() if state == "released"} <= {0}


@pytest.mark.e2e
@pytest.mark.parametrize("nursery", ["disk"], indirect=True)
def test_every_answer_has_exactly_one_row_after_ten_kills(nursery: subprocess.Popen[str], tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    check_books(kill_gateways(nursery, log, kills=10), log)
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("nursery", ["disk", "process", "database"], indirect=True)
def test_every_answer_has_exactly_one_row_after_sixty_kills(nursery: subprocess.Popen[str], tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    check_books(kill_gateways(nursery, log, kills=60), log)
    assert list((tmp_path / "journal").iterdir()) == []
