"""Background work of this floor. Each task may run twice, also at the same time."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from analytics import services
from analytics.ledger.adoption import adopt_once
from analytics.ledger.shipping import SqlUsageStore
from providers.health_checks import checks_thin

VERIFIED_DAYS = timedelta(days=7)

logger = logging.getLogger(__name__)


@shared_task
def judge_providers() -> int:
    return services.providers_judge(now=timezone.now())


@shared_task
def adopt_journals() -> int:
    """What stopped gateways left on this machine. The gateways do it too; this is for when none is up again."""
    return adopt_once(settings.JOURNAL_DIR, SqlUsageStore()).journals


@shared_task
def refresh_rollups() -> int:
    return len(services.rollups_refresh())


@shared_task
def check_budgets() -> int:
    return len(services.budgets_check(now=timezone.now()))


@shared_task
def verify_ledger() -> int:
    """The last week; `manage.py ledger_verify` looks at everything."""
    report = services.ledger_check(first=(timezone.now() - VERIFIED_DAYS).date())
    if report.differences:
        logger.error(
            "the ledger is not in order: %d differences, first %s", len(report.differences), report.differences[0]
        )
    return len(report.differences)


@shared_task
def thin_checks() -> int:
    return checks_thin(now=timezone.now())
