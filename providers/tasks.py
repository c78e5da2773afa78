"""Background work of this floor. Each task may run twice, also at the same time."""

from celery import shared_task
from django.utils import timezone

from providers.fleet.probes import breakers_probe
from providers.health_checks import providers_check


@shared_task
def check_providers(asked: bool = False) -> int:
    return providers_check(now=timezone.now(), asked=asked)


@shared_task
def probe_open_breakers() -> int:
    return breakers_probe(now=timezone.now())
