"""The schedule: every job once, and never over what somebody changed."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from analytics.schedule import JOBS, schedule_ensure
from routerplatform import celery_app

pytestmark = pytest.mark.django_db


def test_every_job_is_a_task_that_exists() -> None:
    celery_app.loader.import_default_modules()

    assert {job.task for job in JOBS} <= set(celery_app.tasks)


def test_migrating_adds_the_jobs() -> None:
    PeriodicTask.objects.all().delete()

    call_command("migrate", verbosity=0)

    assert set(PeriodicTask.objects.values_list("name", flat=True)) >= {job.name for job in JOBS}
    task = PeriodicTask.objects.get(name="Evaluate alerts")
    assert (task.task, task.schedule.run_every) == ("analytics.tasks.evaluate_alerts", timedelta(minutes=1))


def test_doing_it_again_adds_nothing_and_keeps_what_was_changed() -> None:
    schedule_ensure()
    hourly = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    PeriodicTask.objects.filter(name="Check providers").update(interval=hourly, enabled=False)
    PeriodicTask.objects.filter(name="Evaluate alerts").delete()

    assert schedule_ensure() == 1
    changed = PeriodicTask.objects.get(name="Check providers")
    assert (changed.interval, changed.enabled) == (hourly, False)


def test_jobs_with_the_same_pace_share_a_row_even_where_it_is_there_twice() -> None:
    PeriodicTask.objects.all().delete()
    IntervalSchedule.objects.all().delete()
    for _ in range(2):
        IntervalSchedule.objects.create(every=60, period=IntervalSchedule.SECONDS)

    assert schedule_ensure() == len(JOBS)
    assert IntervalSchedule.objects.count() == 2 + len({job.every_s for job in JOBS} - {60})
