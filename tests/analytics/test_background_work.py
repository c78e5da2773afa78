"""The tasks of the workers: each may run twice, at once, late, or with nothing to do, and does what it should once."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Task
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from pytest_django import Settings

from analytics import tasks
from analytics.models import UsageRollup
from analytics.schedule import JOBS, ensure_after_migrate, schedule_ensure
from analytics.selectors.sums import dirty_hours
from analytics.services.providers import providers_judge
from providers import tasks as provider_tasks
from providers.health_checks import checks_thin
from providers.models import Health, Provider, ProviderCheck
from routerplatform.celery import app
from tests.factories import (
    NOON,
    ProviderCheckFactory,
    ProviderFactory,
    UsageRecordFactory,
    mark_day,
    mark_hour,
)

pytestmark = pytest.mark.django_db

TASKS: dict[str, Any] = {
    "judge": tasks.judge_providers,
    "adopt": tasks.adopt_journals,
    "rollups": tasks.refresh_rollups,
    "alerts": tasks.evaluate_alerts,
    "messages": tasks.deliver_alerts,
    "verify": tasks.verify_ledger,
    "thin": tasks.thin_checks,
    "expire": tasks.expire_answers,
    "responses": tasks.expire_responses,
    "probe": provider_tasks.check_providers,
}


@pytest.fixture(autouse=True)
def journals(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path


@pytest.mark.parametrize("name", TASKS)
def test_a_task_with_nothing_to_do_does_nothing_and_says_so(name: str) -> None:
    assert TASKS[name]() == 0
    assert TASKS[name]() == 0


def test_every_scheduled_task_is_known_to_the_worker_and_takes_no_arguments() -> None:
    app.loader.import_default_modules()
    for job in JOBS:
        task: Task = app.tasks[job.task]
        assert task.ignore_result is not False
        assert job.every_s > 0
    assert len({job.name for job in JOBS}) == len({job.task for job in JOBS}) == len(JOBS)


def test_a_message_that_no_task_fits_is_not_taken_for_one() -> None:
    assert "analytics.tasks.drop_everything" not in app.tasks


# --- rollups ------------------------------------------------------------------------------------------------------


def test_dirty_days_are_recomputed_once_and_a_second_run_finds_none() -> None:
    for days in (0, 1, 40):
        record = UsageRecordFactory(at=NOON - timedelta(days=days))
        mark_hour(record.started_at)
    assert tasks.refresh_rollups() == 3
    assert tasks.refresh_rollups() == 0
    assert UsageRollup.objects.count() == 3


def test_a_dirty_day_without_records_loses_its_rollup_and_its_mark() -> None:
    record = UsageRecordFactory()
    mark_day(NOON.date())
    tasks.refresh_rollups()
    type(record).objects.all().delete()
    mark_day(NOON.date())
    assert tasks.refresh_rollups() == 1
    assert not UsageRollup.objects.exists()
    assert not dirty_hours()


# --- providers ----------------------------------------------------------------------------------------------------


def failing(provider: Provider, failure: str, count: int) -> None:
    for number in range(count):
        attempt = {"provider": provider.name, "deployment": "d", "failure": failure}
        UsageRecordFactory(at=NOON - timedelta(seconds=number), attempts=[attempt])


def test_a_provider_is_judged_by_its_own_attempts_only() -> None:
    good, bad, idle = (ProviderFactory(name=name) for name in ("good", "bad", "idle"))
    failing(good, "", 30)
    failing(bad, "server_error", 30)
    assert providers_judge(now=NOON) == 2
    health = dict(Provider.objects.values_list("name", "health"))
    assert health["good"] == Health.HEALTHY
    assert health["bad"] != Health.HEALTHY
    assert health[idle.name] == Health.UNKNOWN


def test_a_provider_that_is_off_or_gone_is_not_judged() -> None:
    off = ProviderFactory(name="off", is_active=False)
    failing(off, "server_error", 30)
    UsageRecordFactory(at=NOON, attempts=[{"provider": "deleted since", "deployment": "d"}] * 30)
    assert providers_judge(now=NOON) == 0
    assert not ProviderCheck.objects.exists()


@pytest.mark.parametrize(("age", "kept"), [(timedelta(days=6, hours=23), True), (timedelta(days=7, seconds=1), False)])
def test_checks_are_kept_for_a_week(age: timedelta, kept: bool) -> None:
    ProviderCheckFactory(checked_at=NOON - age)
    assert checks_thin(now=NOON) == (0 if kept else 1)
    assert ProviderCheck.objects.exists() is kept


# --- the ledger's check -------------------------------------------------------------------------------------------


def test_the_hourly_check_looks_at_a_week_and_logs_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    now = timezone.now()
    UsageRecordFactory(at=now - timedelta(days=30), state="lost")
    assert tasks.verify_ledger() == 0
    UsageRecordFactory(at=now - timedelta(days=2), state="lost")
    with caplog.at_level(logging.ERROR):
        assert tasks.verify_ledger() > 0
    assert "the ledger is not in order" in caplog.text


# --- the schedule -------------------------------------------------------------------------------------------------


def test_a_job_that_was_deleted_comes_back_and_one_that_was_switched_off_stays_off() -> None:
    schedule_ensure()
    PeriodicTask.objects.filter(name=JOBS[0].name).delete()
    PeriodicTask.objects.filter(name=JOBS[1].name).update(enabled=False)
    assert schedule_ensure() == 1
    assert PeriodicTask.objects.filter(name=JOBS[0].name, enabled=True).exists()
    assert not PeriodicTask.objects.get(name=JOBS[1].name).enabled


def test_a_run_that_nobody_picked_up_is_dropped_before_the_next() -> None:
    schedule_ensure()
    for job in JOBS:
        row = PeriodicTask.objects.get(name=job.name)
        assert row.expire_seconds == row.interval.every == job.every_s
        assert row.interval.period == IntervalSchedule.SECONDS


def test_after_each_migration_the_schedule_is_whole() -> None:
    PeriodicTask.objects.all().delete()
    ensure_after_migrate(using="default", plan=[], apps=None)
    assert PeriodicTask.objects.filter(name__in=[job.name for job in JOBS]).count() == len(JOBS)
