"""When background work runs: rows of django-celery-beat, which the people of the admin may change afterwards."""

from dataclasses import dataclass
from typing import Any

from django.db import connections
from django_celery_beat.models import IntervalSchedule, PeriodicTask

DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    task: str
    every_s: int


JOBS = (
    Job("Check providers", "providers.tasks.check_providers", 60),
    Job("Try providers whose circuit breaker is open", "providers.tasks.probe_open_breakers", 5),
    Job("Judge providers by their traffic", "analytics.tasks.judge_providers", 60),
    Job("Adopt journals of stopped gateways", "analytics.tasks.adopt_journals", 10),
    Job("Refresh rollups", "analytics.tasks.refresh_rollups", 60),
    Job("Evaluate alerts", "analytics.tasks.evaluate_alerts", 60),
    Job("Publish policy changes that are due", "routing.tasks.advance_policies", 10),
    Job("Watch experiments", "analytics.tasks.watch_experiments", 30),
    Job("Deliver alerts", "analytics.tasks.deliver_alerts", 15),
    Job("Tell webhooks of failed requests", "analytics.tasks.tell_failures", 10),
    Job("Tell webhooks of keys and circuit breakers", "analytics.tasks.tell_changes", 10),
    Job("Deliver webhooks", "analytics.tasks.deliver_webhooks", 15),
    Job("Delete webhook events that are over their time", "analytics.tasks.expire_webhook_events", DAY_S),
    Job("Verify the ledger", "analytics.tasks.verify_ledger", 3600),
    Job("Verify the whole ledger", "analytics.tasks.verify_whole_ledger", DAY_S),
    Job("Keep usage by the month", "analytics.tasks.keep_usage", DAY_S),
    Job("Delete answers kept for repetitions", "analytics.tasks.expire_answers", 3600),
    Job("Delete responses that are over their time", "analytics.tasks.expire_responses", 3600),
    Job("Delete decisions that are over their time", "analytics.tasks.expire_decisions", DAY_S),
    Job("Carry on batches", "routerplatform.tasks.carry_on_batches", 10),
    Job("Delete batches that are over their time", "routerplatform.tasks.expire_batches", 3600),
    Job("Thin out provider checks", "analytics.tasks.thin_checks", DAY_S),
)


RETIRED = ("analytics.tasks.check_budgets",)  # no worker knows these any more


def schedule_ensure() -> int:
    """Add the jobs that are not there yet, by name; returns how many. An existing row is left as it is.

    A job that should not run is switched off in the admin; a deleted row comes back with the next `migrate`.
    """
    PeriodicTask.objects.filter(task__in=RETIRED).delete()
    present = set(PeriodicTask.objects.values_list("name", flat=True))
    return sum(_add(job) for job in JOBS if job.name not in present)


def ensure_after_migrate(using: str, **_: Any) -> None:
    """Receives `post_migrate`; does nothing as long as the tables of django-celery-beat are not there."""
    if PeriodicTask._meta.db_table in connections[using].introspection.table_names():
        schedule_ensure()


def _add(job: Job) -> bool:
    every = {"every": job.every_s, "period": IntervalSchedule.SECONDS}
    interval = IntervalSchedule.objects.filter(**every).first() or IntervalSchedule.objects.create(**every)
    # A run that nobody picked up in time is dropped, so that a worker that comes back does not find a heap of them.
    is_new: bool
    _, is_new = PeriodicTask.objects.get_or_create(
        name=job.name, defaults={"task": job.task, "interval": interval, "expire_seconds": job.every_s}
    )
    return is_new
