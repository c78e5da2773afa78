"""For every list of the admin: how to make a row of it, with what usually hangs on one."""

import uuid
from collections.abc import Callable
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from analytics.domain.webhooks import EventKind
from analytics.models import AlertDelivery, AlertEvent, BudgetRaise, DecisionRecord, Replay, WebhookEndpoint
from analytics.services.webhook_endpoints import endpoint_save
from analytics.services.webhooks import event_record
from providers.fields import seal
from routerplatform.models import BatchJob
from routing.models import ClassifierPlugIn, RouterArtefact, RoutingRule
from routing.services.lifecycle import draft_create
from routing.services.tokens import token_issue
from tests import factories as make
from tests.routing.prompts import says, template
from tests.routing.trials import experiment_of


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


def policy_change(number: int) -> None:
    """A draft of a policy, of somebody who has proposed it."""
    draft_create(policy=make.RoutingPolicyFactory(), by=make.UserFactory(), title=f"change {number}")


def decision(number: int) -> None:
    """A decision that somebody has labelled."""
    record = make.UsageRecordFactory()
    DecisionRecord.objects.create(
        request_id=record.pk, at=record.started_at, policy="default", team=record.team, task_type="CODING",
        confidence=0.4, inputs=b"", label="ANALYSIS", labelled_by=make.UserFactory(), labelled_at=timezone.now(),
    )  # fmt: skip


def replay(number: int) -> None:
    Replay.objects.create(
        policy=make.RoutingPolicyFactory(), base_version=1, document={}, since=make.NOON, until=timezone.now(),
        created_by=make.UserFactory(),
    )  # fmt: skip


def raise_asked_for(number: int) -> None:
    BudgetRaise.objects.create(budget=make.BudgetFactory(), amount_from=100, amount_to=200, author=make.UserFactory())


def batch(number: int) -> None:
    key = make.VirtualKeyFactory()
    BatchJob.objects.create(
        id=uuid.uuid4(), team=key.team, key=key, shared=seal("{}"), max_parallel=8, total=10, ok=number, failed=1,
        state="running", started_at=timezone.now(), deadline_at=timezone.now(),
    )  # fmt: skip


def rule(number: int) -> None:
    """One that sends what it fits to a model."""
    alias = make.ModelAliasFactory()
    RoutingRule.objects.create(name=f"rule-{number}", pattern=f"word {number}", outcome="alias", alias=alias)


def alert_that_was_told() -> None:
    """An alert with an event, sent through a channel."""
    alert = make.AlertFactory()
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=timezone.now(), title=alert.title, text=alert.text)
    AlertDelivery.objects.create(event=event, channel=make.AlertChannelFactory())


def event_that_was_told(number: int) -> None:
    """An event that an endpoint of a team was told of."""
    team = make.TeamFactory()
    row = WebhookEndpoint(name=f"endpoint {number}", events=["key.revoked"], team=team)
    endpoint_save(endpoint=row, address="https://hooks.example.com/in")
    event_record(kind=EventKind.KEY_REVOKED, data={"object": "key"}, at=timezone.now(), team_id=team.pk)


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
    "routing.prompttemplate": lambda n: make.PersonaFactory(
        template=template(f"template-{n}", says("Be kind.")), is_active=False
    ),
    "routing.policydraft": policy_change,
    "routing.experiment": lambda n: experiment_of(
        make.RoutingPolicyFactory(), make.ModelAliasFactory(), name=f"trial-{n}", payer=make.VirtualKeyFactory()
    ),
    "routing.routingrule": rule,
    "routing.classifierplugin": lambda n: ClassifierPlugIn.objects.create(
        name=f"classifier-{n}", kind="llm", alias=make.ModelAliasFactory()
    ),
    "routing.routerartefact": lambda n: RouterArtefact.objects.create(
        version=f"version-{n}", data=b"", created_by=make.UserFactory()
    ),
    "routing.team": lambda n: make.MembershipFactory(team=make.VirtualKeyFactory().team),
    "routing.virtualkey": lambda n: make.VirtualKeyFactory(created_by=make.UserFactory()),
    "routing.accesstoken": lambda n: token_issue(user=make.UserFactory(), name=f"token {n}"),
    "analytics.usagerecord": lambda n: make.UsageRecordFactory(),
    "analytics.decisionrecord": decision,
    "analytics.replay": replay,
    "analytics.budgetraise": raise_asked_for,
    "analytics.usageadjustment": lambda n: make.UsageAdjustmentFactory(created_by=make.UserFactory()),
    "analytics.ledgercheck": lambda n: make.LedgerCheckFactory(),
    "analytics.budget": lambda n: make.BudgetFactory(),
    "analytics.alert": lambda n: alert_that_was_told(),
    "analytics.alertrule": lambda n: make.AlertFactory(),
    "analytics.alertchannel": lambda n: make.AlertChannelFactory(),
    "analytics.alertdelivery": lambda n: alert_that_was_told(),
    "analytics.webhookendpoint": event_that_was_told,
    "analytics.webhookdelivery": event_that_was_told,
    "routerplatform.batchjob": batch,
    "auth.user": lambda n: make.MembershipFactory(),
    "auth.group": lambda n: Group.objects.create(name=f"Group {n}").user_set.add(make.UserFactory()),
    "django_celery_beat.periodictask": job,
    "django_celery_beat.intervalschedule": job,
    "django_celery_beat.crontabschedule": lambda n: CrontabSchedule.objects.create(minute=str(n)),
    "axes.accessattempt": attempt,
}
LISTED: dict[str, type[Model]] = {model._meta.label_lower: model for model in admin.site._registry}
