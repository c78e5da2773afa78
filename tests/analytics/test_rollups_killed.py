"""Rollups say what records say at every moment, while workers that recompute them are killed and late rows come in."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from analytics.domain.rollup import DayRange
from analytics.models import UsageRecord, UsageRollup, UsageState
from analytics.selectors.sums import consistent_read, dirty_hours, raw_sums, usage_sums
from analytics.services.rollups import rollups_refresh
from analytics.services.verification import ledger_check
from routerplatform.embedded import die_with_parent
from routing.models import VirtualKey
from tests.factories import NOON, UsageAdjustmentFactory, UsageRecordFactory, VirtualKeyFactory, mark_hour

ROOT = Path(__file__).resolve().parents[2]
DAYS = DayRange(NOON.date() - timedelta(days=3), NOON.date())
GROUPS = (("day", "team_id"), ("hour", "key_id"), ("model", "persona"))


def database_url() -> str:
    """That of the test's own database, for another process."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()


@contextmanager
def workers(count: int) -> Iterator[list["subprocess.Popen[str]"]]:
    environment = {**os.environ, "DATABASE_URL": database_url(), "DATA_DIR": str(settings.DATA_DIR)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rollup_worker"],
            cwd=ROOT,
            env=environment | {"DJANGO_SETTINGS_MODULE": "routerplatform.settings"},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - nothing but a system call
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def write_late(rng: random.Random, keys: list[VirtualKey]) -> None:
    """A request of a random hour of these days, or a correction of one, as the shipper and the re-rating write them."""
    with transaction.atomic():
        if rng.random() < 0.7 or not UsageRecord.objects.exists():
            record = UsageRecordFactory.create(
                key=rng.choice(keys),
                at=moment(rng),
                model=f"model {rng.randrange(3)}",
                cost_nano=rng.choice([None, rng.randrange(10**9)]),
                state=rng.choice([UsageState.SETTLED, UsageState.CANCELLED, UsageState.EXPIRED]),
            )
        else:
            record = rng.choice(UsageRecord.objects.order_by("-request_id")[:20])
            UsageAdjustmentFactory.create(
                request_id=record.pk,
                started_at=record.started_at,
                delta_nano=rng.randrange(-(10**6), 10**6),
                was_unpriced=record.cost_nano is None,
            )
        mark_hour(record.started_at)


def moment(rng: random.Random) -> datetime:
    return DAYS.begins_at + rng.randrange(12) * timedelta(hours=7) + rng.random() * timedelta(hours=1)


def look() -> None:
    """Sums as the pages read them, beside the records, both at one moment."""
    with consistent_read():
        for group in GROUPS:
            assert usage_sums(*group, team_ids=None, days=DAYS) == raw_sums(*group, team_ids=None, ranges=[DAYS])
        assert ledger_check(now=NOON).differences == ()


@contextmanager
def writing(rng: random.Random, keys: list[VirtualKey]) -> Iterator[None]:
    """Late rows come in all the time, from a thread of their own, and none of them is refused."""
    done, refused = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not done.wait(0.002):
                write_late(rng, keys)
        except DatabaseError as error:
            refused.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert refused == []


def kill_and_look(*, kills: int, processes: int, seed: int) -> None:
    rng = random.Random(seed)
    keys = [VirtualKeyFactory.create() for _ in range(2)]
    for _ in range(30):
        write_late(rng, keys)
    with workers(processes) as running, writing(random.Random(seed + 1), keys):
        for number in range(kills):
            victim = running[number % processes]
            assert victim.stdout
            child = int(victim.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.12))
            look()
            os.kill(child, signal.SIGKILL)
            look()
    look()
    rollups_refresh()
    look()
    assert not dirty_hours()
    assert sum(UsageRollup.objects.values_list("requests", flat=True)) == UsageRecord.objects.count()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("processes", [1, 2])
def test_sums_are_those_of_the_records_while_workers_are_killed_and_late_rows_come(processes: int) -> None:
    kill_and_look(kills=12, processes=processes, seed=processes)


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(4))
def test_sums_stay_those_of_the_records_over_hundreds_of_kills(seed: int) -> None:
    kill_and_look(kills=250, processes=1 + seed % 3, seed=seed)
