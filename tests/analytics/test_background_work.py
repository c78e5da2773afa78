"""The tasks of the workers: each may run twice, at once, late, or with nothing to do, and does what it should once."""

import logging
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Task
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from pytest_django import Settings

from analytics import tasks
from analytics.models import BudgetAlert, BudgetDuration, DirtyDay, UsageRollup
from analytics.schedule import JOBS, ensure_after_migrate, schedule_ensure
from analytics.services import budgets_check, providers_judge
from providers import tasks as provider_tasks
from providers.health_checks import checks_thin
from providers.models import Health, Provider, ProviderCheck
from routerplatform.celery import app
from tests.factories import (
    NOON,
    BudgetFactory,
    ProviderCheckFactory,
    ProviderFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db

TASKS: dict[str, Any] = {
    "judge": tasks.judge_providers,
    "adopt": tasks.adopt_journals,
    "rollups": tasks.refresh_rollups,
    "budgets": tasks.check_budgets,
    "verify": tasks.verify_ledger,
    "thin": tasks.thin_checks,
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
        DirtyDay.objects.create(day=record.started_at.date())
    assert tasks.refresh_rollups() == 3
    assert tasks.refresh_rollups() == 0
    assert UsageRollup.objects.count() == 3


def test_a_dirty_day_without_records_loses_its_rollup_and_its_mark() -> None:
    record = UsageRecordFactory()
    DirtyDay.objects.create(day=NOON.date())
    tasks.refresh_rollups()
    type(record).objects.all().delete()
    DirtyDay.objects.create(day=NOON.date())
    assert tasks.refresh_rollups() == 1
    assert not UsageRollup.objects.exists()
    assert not DirtyDay.objects.exists()


# --- budgets ------------------------------------------------------------------------------------------------------


def spent(usd: str, **fields: Any) -> Any:
    record = UsageRecordFactory(cost_nano=int(Decimal(usd) * 10**9), **fields)
    DirtyDay.objects.get_or_create(day=record.started_at.date())
    return record


def test_an_alert_opens_once_however_often_the_task_runs(caplog: pytest.LogCaptureFixture) -> None:
    record = spent("81", at=timezone.now())
    BudgetFactory(team=record.team, max_budget=Decimal(100))
    with caplog.at_level(logging.WARNING):
        assert [tasks.check_budgets() for _ in range(3)] == [2, 0, 0]
    assert sorted(BudgetAlert.objects.values_list("threshold", flat=True)) == [50, 80]
    assert len([line for line in caplog.records if "has reached" in line.getMessage()]) == 2


def test_a_lowered_budget_opens_what_it_has_passed_by_now() -> None:
    record = spent("10")
    budget = BudgetFactory(team=record.team, max_budget=Decimal(100))
    assert budgets_check(now=NOON) == []
    budget.max_budget = Decimal(20)
    budget.save()
    assert [alert.threshold for alert in budgets_check(now=NOON)] == [50]


def test_a_budget_that_is_off_and_one_of_another_team_open_nothing() -> None:
    record = spent("500")
    BudgetFactory(team=record.team, max_budget=Decimal(1), is_active=False)
    BudgetFactory(max_budget=Decimal(1))
    assert budgets_check(now=NOON) == []


def test_requests_of_unknown_price_open_no_alert() -> None:
    key = VirtualKeyFactory()
    UsageRecordFactory(key=key, cost_nano=None)
    DirtyDay.objects.create(day=NOON.date())
    BudgetFactory(team=key.team, max_budget=Decimal("0.01"))
    assert budgets_check(now=NOON) == []


def test_a_new_month_opens_its_own_alerts_and_keeps_the_old_ones() -> None:
    key = VirtualKeyFactory()
    BudgetFactory(team=key.team, max_budget=Decimal(10), budget_duration=BudgetDuration.MONTH)
    for now in (NOON, NOON + timedelta(days=31)):
        spent("5", key=key, at=now)
        assert [alert.threshold for alert in budgets_check(now=now)] == [50]
    starts = BudgetAlert.objects.order_by("window_start").values_list("window_start", flat=True)
    assert [f"{start:%Y-%m-%d}" for start in starts] == ["2026-03-01", "2026-04-01"]


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
