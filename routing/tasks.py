"""Background work of this floor. Each task may run twice, also at the same time."""

from celery import shared_task
from django.utils import timezone

from routing.services.rollouts import policies_advance


@shared_task
def advance_policies() -> int:
    return policies_advance(now=timezone.now())
