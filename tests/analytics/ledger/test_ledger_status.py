import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import Settings

from analytics.ledger.adoption import adopt_once
from analytics.ledger.delivery import set_aside
from analytics.ledger.journal import Journal
from analytics.ledger.leasing import SqlLeaseBank
from analytics.ledger.segments import DISPATCHED, OPEN, SETTLED, frame
from analytics.ledger.shipping import SqlUsageStore
from tests.analytics.ledger.samples import dispatch, encoded, opened, request_id, settled

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.JOURNAL_DIR = tmp_path
    return tmp_path


def status(*options: str) -> dict[str, Any]:
    output = io.StringIO()
    call_command("ledger_status", "--json", *options, stdout=output, stderr=io.StringIO())
    return dict(json.loads(output.getvalue()))


def text() -> str:
    output = io.StringIO()
    call_command("ledger_status", stdout=output)
    return output.getvalue()


def test_an_empty_folder_says_so(folder: Path) -> None:
    assert "no gateway runs here" in text()
    assert status() == {"journals": [], "rejected": 0, "expired": 0, "released": 0}


def test_a_running_and_a_stopped_journal_are_told_apart(folder: Path) -> None:
    SqlUsageStore().ship(encoded(settled(1)))
    journal = Journal(folder)
    journal.start()
    for number in (1, 2):
        journal.append(SETTLED, request_id(number), encoded(settled(number))[0])
    journal.append(OPEN, request_id(3), encoded(opened(3))[0])
    journal.append(DISPATCHED, request_id(3), encoded(dispatch(3))[0])
    journal.flush()
    (folder / "dead-1.000001.journal").write_bytes(frame(OPEN, encoded(opened(4))[0]))
    found = {state["owner"]: state for state in status()["journals"]}
    assert {"is_running": True, "files": 1, "open": 1, "unshipped": 1}.items() <= found[journal.owner].items()
    assert {"is_running": False, "files": 1, "open": 1, "unshipped": 0}.items() <= found["dead-1"].items()
    assert "1 open, 1 settled and not yet in the database" in text()


def test_adopted_requests_of_today_are_counted(folder: Path) -> None:
    now = time.time()
    lines = [frame(OPEN, encoded(opened(n, started_at=now))[0]) for n in (1, 2)]
    (folder / "dead-1.000001.journal").write_bytes(b"".join(lines) + frame(DISPATCHED, encoded(dispatch(1))[0]))
    adopt_once(folder, SqlUsageStore(), SqlLeaseBank())
    assert status() == {"journals": [], "rejected": 0, "expired": 1, "released": 1}


def test_rejected_records_are_counted_and_tried_again_on_request(folder: Path) -> None:
    set_aside(encoded(settled(1))[0], "the column did not exist yet", folder / "rejected")
    assert status()["rejected"] == 1
    assert status("--retry-rejected")["rejected"] == 0
    assert not list(folder.glob("rejected/*"))
