"""Background work of the platform itself. Each task may run twice, also at the same time."""

import logging
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import ChannelError, KombuError

from routerplatform.batches.running import SLICE_S, batch_run, stopping
from routerplatform.batches.services import batch_unqueue, batches_expire, batches_take_up

logger = logging.getLogger(__name__)


@worker_shutting_down.connect
def end_soon(**_: Any) -> None:
    """A batch that is under way lets go within seconds; another worker carries on."""
    stopping.set()


@shared_task(time_limit=int(SLICE_S + settings.REQUEST_TIMEOUT_S) + 60)
def run_batch(job_id: str) -> bool:
    """Some minutes of a batch; then whoever waits longest is next, which may be the same one."""
    has_run = batch_run(job_id=UUID(job_id))
    if has_run:
        batches_queue()
    return has_run


@shared_task
def carry_on_batches() -> int:
    """Batches whose worker is gone, or whose message to the workers was lost."""
    return batches_queue()


@shared_task
def expire_batches() -> int:
    return batches_expire(now=timezone.now(), days=settings.BATCH_KEPT_DAYS)


def batches_queue() -> int:
    """Tell the workers what there is to do. If the queue does not answer, the next round does."""
    told = 0
    for job_id in batches_take_up(now=timezone.now()):
        try:
            run_batch.delay(str(job_id))
            told += 1
        except (KombuError, ChannelError, OSError) as error:  # Redis is away; a folder is full, or not ours
            logger.warning("the queue did not take batch %s: %s", job_id, error)
            batch_unqueue(job_id=job_id)
    return told
