"""Background work of this floor. Each task may run twice, also at the same time."""

from contextlib import suppress
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from analytics.ledger.adoption import adopt_once
from analytics.ledger.leasing import SqlLeaseBank
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import Replay
from analytics.services.alert_delivery import deliveries_send
from analytics.services.alerts import alerts_evaluate, ledger_alert
from analytics.services.decisions import decisions_expire, prompts_expire
from analytics.services.experiments import experiments_watch
from analytics.services.idempotency import idempotent_answers_expire
from analytics.services.partitions import partitions_prepare, usage_retain
from analytics.services.providers import providers_judge
from analytics.services.replays import dial_cancel, dial_run, replay_fail, replay_run
from analytics.services.responses import stored_responses_expire
from analytics.services.rollups import rollups_refresh
from analytics.services.verification import LedgerReport, ledger_verify
from analytics.services.webhook_delivery import webhooks_send
from analytics.services.webhook_failures import failures_tell
from analytics.services.webhooks import breakers_tell, events_expire, keys_expired_tell
from providers.fleet.watch import breakers_seen
from providers.health_checks import checks_thin

VERIFIED_DAYS = timedelta(days=7)
REPLAY_WITHIN_S = 3600
NO_QUEUE = "It could not be queued: the queue of the workers does not answer. Start it again in a moment."


@shared_task
def judge_providers() -> int:
    return providers_judge(now=timezone.now())


@shared_task
def adopt_journals() -> int:
    """What stopped gateways left on this machine. The gateways do it too; this is for when none is up again."""
    return adopt_once(settings.JOURNAL_DIR, SqlUsageStore(), SqlLeaseBank()).journals


@shared_task
def refresh_rollups() -> int:
    return len(rollups_refresh())


@shared_task
def evaluate_alerts() -> int:
    return _announced(alerts_evaluate(now=timezone.now()))


@shared_task
def watch_experiments() -> int:
    return experiments_watch(now=timezone.now())


@shared_task
def deliver_alerts() -> int:
    return deliveries_send(now=timezone.now())


@shared_task
def deliver_webhooks() -> int:
    return webhooks_send(now=timezone.now())


@shared_task
def tell_failures() -> int:
    return failures_tell(now=timezone.now())


@shared_task
def tell_changes() -> int:
    """What happens without anybody's doing: keys expire, circuit breakers open and close."""
    now = timezone.now()
    keys_expired_tell(now=now)
    seen = breakers_seen(now=now)
    return breakers_tell(is_open=seen.is_open, known=seen.known, at=now)


@shared_task
def expire_webhook_events() -> int:
    return events_expire(now=timezone.now(), days=settings.WEBHOOK_EVENTS_KEPT_DAYS)


def _announced(waiting: int) -> int:
    """Have messages sent right away by another task. If the queue does not answer, the next round sends them."""
    if waiting:
        with suppress(OperationalError):
            deliver_alerts.delay()
    return waiting


@shared_task
def verify_ledger() -> int:
    """The last week; once a day, and with `manage.py ledger_verify`, everything."""
    now = timezone.now()
    return _told(ledger_verify(now=now, first=(now - VERIFIED_DAYS).date()), now, is_whole=False)


@shared_task
def verify_whole_ledger() -> int:
    now = timezone.now()
    return _told(ledger_verify(now=now), now, is_whole=True)


def _told(report: LedgerReport, now: datetime, *, is_whole: bool) -> int:
    differences = [f"{difference.what} ({difference.where})" for difference in report.differences]
    _announced(ledger_alert(differences=differences, is_whole=is_whole, now=now))
    return len(differences)


@shared_task
def keep_usage() -> int:
    """Make room for the months to come; drop those that are over their time."""
    now = timezone.now()
    partitions_prepare(now=now)
    return usage_retain(now=now, months=settings.USAGE_RETENTION_MONTHS)


@shared_task
def thin_checks() -> int:
    return checks_thin(now=timezone.now())


@shared_task
def expire_answers() -> int:
    return idempotent_answers_expire(now=timezone.now())


@shared_task
def expire_responses() -> int:
    return stored_responses_expire(now=timezone.now())


@shared_task
def expire_decisions() -> int:
    now = timezone.now()
    prompts_expire(now=now, days=settings.PROMPTS_KEPT_DAYS)
    return decisions_expire(now=now, days=settings.DECISIONS_KEPT_DAYS)


@shared_task(time_limit=REPLAY_WITHIN_S)
def run_replay(replay_id: int) -> bool:
    return replay_run(replay_id=replay_id)


@shared_task
def run_dial(replay_id: int) -> bool:
    return dial_run(replay_id=replay_id)


def replay_queue(replay: Replay) -> None:
    """Have a worker run it; says so on the replay if the queue does not answer."""
    try:
        run_replay.delay(replay.pk)
    except OperationalError:
        replay_fail(replay_id=replay.pk, why=NO_QUEUE)


def dial_queue(replay: Replay) -> None:
    """Have a worker turn the dial; says so on the replay if the queue does not answer."""
    try:
        run_dial.delay(replay.pk)
    except OperationalError:
        dial_cancel(replay_id=replay.pk, why=NO_QUEUE)
