"""Drafts and experiments for tests, as ops would enter them."""

from typing import Any

from django.utils import timezone

from routing.models import DraftCandidate, Experiment, ModelAlias, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_start


def draft_of(policy: RoutingPolicy, *aliases: ModelAlias, **rules: Any) -> PolicyDraft:
    """A change of `policy`: these models, in this order."""
    draft = PolicyDraft.objects.create(
        policy=policy, title=rules.pop("title", "try another"), base_version=policy.version, **rules
    )
    for position, alias in enumerate(aliases):
        DraftCandidate.objects.create(draft=draft, alias=alias, position=position)
    return draft


def experiment_of(policy: RoutingPolicy, *aliases: ModelAlias, **options: Any) -> Experiment:
    """The policy against these models, not started."""
    challenger = options.pop("challenger", None) or draft_of(policy, *aliases)
    options.setdefault("name", "trial")
    options.setdefault("unit", "request")
    made: Experiment = Experiment.objects.create(policy=policy, challenger=challenger, **options)
    return made


def started(policy: RoutingPolicy, *aliases: ModelAlias, **options: Any) -> Experiment:
    """The same, running."""
    experiment = experiment_of(policy, *aliases, **options)
    experiment_start(experiment=experiment, by=None, now=timezone.now())
    return experiment


def against_sage(**options: Any) -> Experiment:
    """The default policy of the tests' gateway, which asks `swift` first, against one that asks `sage` alone."""
    policy = RoutingPolicy.objects.get(name="default")
    return started(policy, ModelAlias.objects.get(name="sage"), **options)
