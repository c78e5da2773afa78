"""What an operator does to a circuit breaker; each with a line in the deployment's history."""

from datetime import datetime

from django.db import transaction

from providers.models import BreakerOverride, Deployment


@transaction.atomic
def breaker_force(*, deployment: Deployment, override: BreakerOverride) -> bool:
    """Hold the breaker open or closed, or let its failures decide again; False when it already was so."""
    row = Deployment.objects.select_for_update(of=("self",)).get(pk=deployment.pk)
    if row.breaker == override:
        return False
    row.breaker = override
    row.save(update_fields=["breaker"])
    return True


@transaction.atomic
def breaker_reset(*, deployment: Deployment, now: datetime) -> None:
    """Forget what is known of failures before `now`: it is closed, and counts anew. Everywhere within 2 s."""
    row = Deployment.objects.select_for_update(of=("self",)).get(pk=deployment.pk)
    row.breaker_reset_at = now
    row.save(update_fields=["breaker_reset_at"])
