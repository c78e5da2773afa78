"""Every list of the admin opens, is searched, and takes as many queries for twenty rows as for two."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from providers.admin.pages import list_url
from tests import factories as make
from tests.admin_pages import queries_of


def job(number: int) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=number + 1, period="minutes")
    PeriodicTask.objects.create(name=f"Job {number}", task="a.task", interval=interval)


def model_in_use(number: int) -> None:
    """A model with prices, a deployment, an alias, a policy and a persona on it."""
    deployment = make.DeploymentFactory()
    make.PriceFactory(model=deployment.model)
    alias = make.ModelAliasFactory(deployments=[deployment])
    make.PersonaFactory(policy=make.RoutingPolicyFactory(preferred=[alias], fallbacks=[make.ModelAliasFactory()]))


def retired_model(number: int) -> None:
    model_in_use(number)
    make.CatalogueModelFactory(status="retired", replaced_by=make.CatalogueModelFactory())


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
    "analytics.budget": lambda n: make.BudgetFactory(),
    "analytics.budgetalert": lambda n: make.BudgetAlertFactory(),
    "auth.user": lambda n: make.MembershipFactory(),
    "auth.group": lambda n: Group.objects.create(name=f"Group {n}").user_set.add(make.UserFactory()),
    "django_celery_beat.periodictask": job,
}
LISTED = {model._meta.label_lower: model for model in admin.site._registry}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_list_takes_as_many_queries_for_twenty_rows_as_for_two(admin_client: Client, name: str) -> None:
    for number in range(2):
        ROWS[name](number)
    url = list_url(LISTED[name])
    admin_client.get(url)  # fills the caches that live as long as the process
    with_two = queries_of(admin_client, url)
    for number in range(2, 20):
        ROWS[name](number)
    assert queries_of(admin_client, url) == with_two


@pytest.mark.parametrize("name", sorted(LISTED))
def test_a_list_opens_without_rows_and_can_be_searched(admin_client: Client, name: str) -> None:
    url = list_url(LISTED[name])
    assert admin_client.get(url).status_code == 200
    assert admin_client.get(url, {"q": "something"}).status_code == 200


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_row_has_a_page_that_opens(admin_client: Client, name: str) -> None:
    ROWS[name](1)
    model = LISTED[name]
    row = model._default_manager.first()
    assert row is not None
    assert admin_client.get(f"{list_url(model)}{row.pk}/change/").status_code == 200


def test_rows_are_never_deleted_by_the_handful(admin_client: Client) -> None:
    make.ProviderFactory()
    page = admin_client.get(list_url(LISTED["providers.provider"]))
    offered = {value for value, _ in page.context["action_form"].fields["action"].choices}
    assert {"switch_on", "switch_off"} <= offered
    assert "delete_selected" not in offered


def test_what_ops_do_not_need_is_not_there() -> None:
    assert "axes.accesslog" not in LISTED
    assert "django_celery_beat.solarschedule" not in LISTED
    assert {User, PeriodicTask, CrontabSchedule} <= set(LISTED.values())
