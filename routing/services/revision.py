"""The revision that tells gateways of an edit."""

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from routing.models import ConfigRevision


@transaction.atomic
def config_revision_bump() -> None:
    """Count the revision up, in the caller's own transaction: gateways load the new configuration within 2 s.

    Called by the signals of every model that the snapshot is compiled from; who writes with `QuerySet.update` or
    `bulk_create` calls it himself.
    """
    if not _count_up():
        _, created = ConfigRevision.objects.get_or_create(id=1)
        if not created:
            _count_up()


def _count_up() -> bool:
    changed = ConfigRevision.objects.filter(id=1).update(revision=F("revision") + 1, changed_at=timezone.now())
    return changed == 1
