"""Which policy serves “auto”."""

from django.core.exceptions import ValidationError
from django.db import transaction

from routing.models import PolicyCandidate, RoutingPolicy


@transaction.atomic
def default_policy_set(*, policy: RoutingPolicy) -> None:
    """Make `policy` the one that serves “auto”, and the former default an ordinary one.

    :raises ValidationError: it is switched off or has no models.
    """
    policies = list(RoutingPolicy.objects.select_for_update().order_by("pk"))
    if not policy.is_active:
        raise ValidationError("A policy that is switched off cannot be the default.")
    if not PolicyCandidate.objects.filter(policy=policy).exists():  # not from what `policy` has prefetched
        raise ValidationError("A policy without models cannot be the default.")
    for other in policies:
        if other.is_default and other.pk != policy.pk:
            other.is_default = False
            other.save(update_fields=["is_default"])
    policy.is_default = True
    policy.save(update_fields=["is_default"])
