"""A saved budget takes effect at once: on its current window, and in the gateways within 2 s."""

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone

from analytics.models import Budget
from analytics.services.budgets import budget_align
from routing.services import config_revision_bump


@receiver(post_save, sender=Budget)
def _budget_saved(instance: Budget, raw: bool = False, **_: Any) -> None:
    if raw:  # a fixture: its windows are in it
        config_revision_bump()
    else:
        budget_align(budget=instance, now=timezone.now())


@receiver(post_delete, sender=Budget)
def _budget_deleted(**_: Any) -> None:
    config_revision_bump()
