"""Writes of model aliases: which deployments answer to a name."""

from collections.abc import Sequence

from django.db import transaction

from providers.models import Deployment
from routing.models import AliasTarget, ModelAlias


@transaction.atomic
def alias_deployments_set(*, alias: ModelAlias, deployments: Sequence[Deployment]) -> None:
    """Have exactly these answer to `alias`, in this order. Only what differs is written, so that the history shows what
    changed."""
    present = {target.deployment_id: target for target in AliasTarget.objects.filter(alias=alias)}
    wanted = {deployment.pk for deployment in deployments}
    for deployment_id, target in present.items():
        if deployment_id not in wanted:
            target.delete()
    for position, deployment in enumerate(deployments):
        found = present.get(deployment.pk)
        if found is None:
            AliasTarget.objects.create(alias=alias, deployment=deployment, position=position)
        elif found.position != position:
            found.position = position
            found.save(update_fields=["position"])
