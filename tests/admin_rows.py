"""For every list of the admin: how to make a row of it, with what usually hangs on one."""

from collections.abc import Callable
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from analytics.models import AlertDelivery, AlertEvent
from tests import factories as make


def job(number: int) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=number + 1, period="minutes")
    PeriodicTask.objects.create(name=f"Job {number}", task="a.task", interval=interval)


def attempt(number: int) -> Any:
    return AccessAttempt.objects.create(
        username=f"person-{number}", ip_address="192.0.2.7", failures_since_start=number, attempt_time=timezone.now()
    )


def model_in_use(number: int) -> None:
    """A model with prices, a deployment, an alias, a policy and a persona on it."""
    deployment = make.DeploymentFactory()
    make.PriceFactory(model=deployment.model)
    alias = make.ModelAliasFactory(deployments=[deployment])
    make.PersonaFactory(policy=make.RoutingPolicyFactory(preferred=[alias], fallbacks=[make.ModelAliasFactory()]))


def retired_model(number: int) -> None:
    model_in_use(number)
    make.CatalogueModelFactory(status="retired", replaced_by=make.CatalogueModelFactory())


def alert_that_was_told() -> None:
    """An alert with an event, sent through a channel."""
    alert = make.AlertFactory()
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=timezone.now(), title=alert.title, text=alert.text)
    AlertDelivery.objects.create(event=event, channel=make.AlertChannelFactory())


ROWS: dict[str, Callable[[int], Any]] = {
    "providers.provider": lambda n: make.ProviderKeyFactory(),
    "providers.providerkey": lambda n: make.ProviderKeyFactory(),
    "providers.providercheck": lambda n: make.ProviderCheckFactory(),
    "providers.cataloguemodel": retired_model,
    "providers.deployment": model_in_use,
    "providers.price": lambda n: make.PriceFactory(model=None, deployment=make.DeploymentFactory()),
    "routing.modelalias": model_in_use,
    "routing.routingpolicy": model_in_use,
    "routing.persona": model_in_use,
    "routing.team": lambda n: make.MembershipFactory(team=make.VirtualKeyFactory().team),
    "routing.virtualkey": lambda n: make.VirtualKeyFactory(created_by=make.UserFactory()),
    "analytics.usagerecord": lambda n: make.UsageRecordFactory(),
    "analytics.usageadjustment": lambda n: make.UsageAdjustmentFactory(created_by=make.UserFactory()),
    "analytics.ledgercheck": lambda n: make.LedgerCheckFactory(),
    "analytics.budget": lambda n: make.BudgetFactory(),
    "analytics.alert": lambda n: alert_that_was_told(),
    "analytics.alertrule": lambda n: make.AlertFactory(),
    "analytics.alertchannel": lambda n: make.AlertChannelFactory(),
    "analytics.alertdelivery": lambda n: alert_that_was_told(),
    "auth.user": lambda n: make.MembershipFactory(),
    "auth.group": lambda n: Group.objects.create(name=f"Group {n}").user_set.add(make.UserFactory()),
    "django_celery_beat.periodictask": job,
    "django_celery_beat.intervalschedule": job,
    "django_celery_beat.crontabschedule": lambda n: CrontabSchedule.objects.create(minute=str(n)),
    "axes.accessattempt": attempt,
}
LISTED: dict[str, type[Model]] = {model._meta.label_lower: model for model in admin.site._registry}
