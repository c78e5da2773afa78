"""`manage.py doctor`: what works, what does not, what to do; also when much does not work."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from pytest_django import Settings

from providers.models import Deployment, Health
from routerplatform.checkup.environment import environment, machine
from routerplatform.checkup.processes import beat
from routerplatform.checkup.redis_place import redis_url
from routerplatform.checkup.serving import ledger, providers
from routerplatform.checkup.storage import database, redis
from routerplatform.management.findings import Finding, State, as_json, fail, ok, settings_report, warn
from tests import gateway as configure
from tests.factories import LedgerCheckFactory, ProviderFactory
from tests.gateway import Gateway

ROOT = Path(__file__).resolve().parent.parent.parent
NOBODY = "http://127.0.0.1:9"


def states(findings: Any) -> set[tuple[str, str]]:
    return {(finding.area, finding.state.value) for finding in findings}


def texts(findings: Any, state: State) -> str:
    return " ".join(finding.text for finding in findings if finding.state is state)


# --- the whole of it ----------------------------------------------------------------------------------------------


async def test_everything_is_looked_at_and_what_fails_sets_the_exit_code(gateway: Gateway, settings: Settings) -> None:
    out = StringIO()
    with pytest.raises(CommandError, match="to mend") as refused:  # there is no worker
        await sync_to_async(call_command)("doctor", "--json", "--url", gateway.url, stdout=out)
    report = json.loads(out.getvalue())
    assert (refused.value.returncode, report["healthy"], report["object"]) == (1, False, "checkup")
    found = {(row["area"], row["state"]) for row in report["findings"]}
    assert {("database", "ok"), ("migrations", "ok"), ("gateway", "ok"), ("providers", "ok"), ("disk", "ok")} <= found
    assert ("worker", "fail") in found
    assert all(row["fix"] for row in report["findings"] if row["state"] != "ok")
    for secret in (settings.SECRET_KEY, settings.KEY_PEPPER, *settings.FIELD_KEYS, "sk-alpha-0001", gateway.key):
        assert secret not in out.getvalue()


@pytest.mark.django_db
def test_a_person_gets_a_line_for_each_and_the_fix_below() -> None:
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", "--url", NOBODY, stdout=out)
    lines = out.getvalue().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("fail  gateway"))
    assert NOBODY in lines[place]
    assert "script/server" in lines[place + 1]


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for what has to be set before settings are read."""
    return subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json", "--url", NOBODY], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=120, check=False,
    )  # fmt: skip


def test_without_a_database_it_says_so_and_looks_at_the_rest() -> None:
    done = run(
        DATABASE_URL="postgresql://router:hidden-word@127.0.0.1:9/router",
        REDIS_URL="redis://:hidden-word@127.0.0.1:9/0",
    )
    report = json.loads(done.stdout)
    found = {(row["area"], row["state"]) for row in report["findings"]}
    assert {("database", "fail"), ("redis", "fail"), ("worker", "fail"), ("disk", "ok")} <= found
    assert done.returncode == 1
    assert "hidden-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_cannot_be_used_are_a_finding_too() -> None:
    done = run(KEY_PEPPER="short")
    [row] = json.loads(done.stdout)["findings"]
    assert (row["area"], row["state"], done.returncode) == ("settings", "fail", 1)
    assert "KEY_PEPPER" in row["text"]
    assert settings_report("No.", for_programs=False).startswith("fail  settings  No.")


# --- one after the other ------------------------------------------------------------------------------------------


def test_unwise_settings_are_told(settings: Settings) -> None:
    settings.DEBUG, settings.PUBLIC_URL, settings.ALLOWED_HOSTS = True, "https://router.example.com", ["localhost"]
    settings.KEY_PEPPER, settings.FIELD_KEYS, settings.BEHIND_TLS = "a" * 40, ["one", "two"], False
    found = list(environment())
    failed, warned = texts(found, State.FAIL), texts(found, State.WARN)
    assert "KEY_PEPPER looks as if" in failed
    assert "DEBUG is on" in failed
    assert "ALLOWED_HOSTS does not list" in failed
    assert "BEHIND_TLS is off" in warned
    assert "rotation is not finished" in warned
    settings.ALLOWED_HOSTS, settings.BEHIND_TLS, settings.CSRF_TRUSTED_ORIGINS = ["*"], True, []
    assert "any host" in texts(environment(), State.WARN)
    assert "CSRF_TRUSTED_ORIGINS is empty" in texts(environment(), State.WARN)


def test_disk_and_clock_are_looked_at(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "not" / "yet"
    now = timezone.now()
    assert ("disk", "ok") in states(machine(now)) or ("disk", "warn") in states(machine(now))
    assert ("clock", "fail") in states(machine(now.replace(year=1970)))


@pytest.mark.django_db
def test_storage_that_answers_is_well(settings: Settings) -> None:
    assert {("database", "ok"), ("migrations", "ok")} <= states(database())
    settings.REDIS_URL = ""
    assert states(redis()) == {("redis", "warn")}
    settings.GATEWAY_PROCESSES = 2
    assert "Several gateways" in texts(database(), State.WARN) or ("database", "ok") in states(database())


@pytest.mark.django_db
def test_a_beat_that_has_stopped_is_noticed() -> None:
    now = timezone.now()
    assert texts(beat(now), State.FAIL) == "It has never scheduled anything."
    PeriodicTask.objects.filter(task="analytics.tasks.refresh_rollups").update(last_run_at=now - timedelta(minutes=2))
    assert ("beat", "ok") in states(beat(now))
    assert "It last scheduled" in texts(beat(now + timedelta(hours=1)), State.FAIL)
    PeriodicTask.objects.filter(task="analytics.tasks.verify_ledger").update(enabled=False)
    assert "Verify the ledger" in texts(beat(now), State.WARN)


@pytest.mark.django_db
def test_providers_without_key_model_price_or_health_are_named(settings: Settings) -> None:
    settings.REDIS_URL = ""
    now = timezone.now()
    assert "None is active" in texts(providers(now), State.FAIL)
    ProviderFactory(name="keyless", kind="openai", health=Health.HEALTHY)
    assert "No model can be asked" in texts(providers(now), State.FAIL)
    [deployment] = configure.vendor("alpha", "http://127.0.0.1:9/v1", "swift-1", priced=False)
    deployment.provider.health, deployment.provider.health_note = Health.DOWN, "it hangs up"
    deployment.provider.save()
    warned = texts(providers(now), State.WARN)
    for said in ("keyless has no active key", "it hangs up", "1 without a price, alpha/swift-1"):
        assert said in warned
    Deployment.objects.update(breaker="open")
    found = list(providers(now))
    assert "an operator holds it open" in texts(found, State.WARN)
    assert "every circuit breaker is open" in texts(found, State.FAIL)


@pytest.mark.django_db
def test_the_ledgers_last_check_is_told(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path
    now = timezone.now()
    assert "never verified" in texts(ledger(now), State.WARN)
    LedgerCheckFactory(at=now - timedelta(minutes=30))
    assert states(ledger(now)) == {("ledger", "ok")}
    assert "Last verified" in texts(ledger(now + timedelta(days=1)), State.WARN)
    LedgerCheckFactory(at=now, difference_count=3)
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "one").touch()
    assert "3 differences" in texts(ledger(now), State.FAIL)
    assert "1 files of records" in texts(ledger(now), State.FAIL)


def test_a_report_counts_and_a_warning_is_no_failure() -> None:
    findings: list[Finding] = [ok("a", "fine"), warn("b", "hm", "look")]
    assert (as_json(findings)["healthy"], as_json(findings)["counts"]) == (True, {"ok": 1, "warn": 1, "fail": 0})
    assert as_json([*findings, fail("c", "no", "mend")])["healthy"] is False


def test_the_valkey_that_dev_has_started_is_found_while_it_listens(tmp_path: Path, settings: Settings) -> None:
    config = tmp_path / "valkey" / "valkey.conf"
    settings.REDIS_URL, settings.DATA_DIR = "", tmp_path
    assert redis_url() == ""
    config.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config.write_text(f"bind 127.0.0.1\nport {port}\nrequirepass quiet\n")
        assert redis_url() == f"redis://:quiet@127.0.0.1:{port}/0"
    assert redis_url() == ""
