"""The page of dominated models: evidence, where they are used, what they cost more, who may see it."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.selectors.dominated import dominated_models
from providers.models import Deployment
from tests.analytics.learned import decided, said
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PriceFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    UsageRecordFactory,
    UserFactory,
    mark_hour,
)
from tests.routerplatform.test_permissions import staff_with

pytestmark = pytest.mark.django_db
PAGE = "/dashboards/models/"


def offered(name: str, dollars_in: int, dollars_out: int, **of_model: Any) -> Deployment:
    """A model at a provider of its own name, with a price and a key."""
    model = CatalogueModelFactory(name=name, **of_model)
    made: Deployment = DeploymentFactory(model=model, provider__name=f"at-{name}", upstream_model=f"{name}-1")
    ProviderKeyFactory(provider=made.provider)
    PriceFactory(model=model, input_usd=dollars_in, output_usd=dollars_out)
    return made


@pytest.fixture
def old_and_new() -> tuple[Deployment, Deployment]:
    return offered("old", 10, 20), offered("new", 1, 2)


def used(deployment: Deployment, **fields: Any) -> None:
    at = timezone.now() - timedelta(hours=1)
    UsageRecordFactory(
        model=deployment.model.name, provider=deployment.provider.name, at=at,
        deployment=f"{deployment.provider.name}/{deployment.upstream_model}", **fields,
    )  # fmt: skip
    mark_hour(at)


def test_what_switching_would_have_saved_is_told_from_the_tokens(old_and_new: tuple[Deployment, Deployment]) -> None:
    old, new = old_and_new
    used(old, input_tokens=1_000_000, output_tokens=500_000, cost_nano=20 * 10**9)
    used(old, input_tokens=0, output_tokens=0, cost_nano=0), used(new)
    [row] = dominated_models(now=timezone.now())
    assert row.dominance.worse.deployment.name == "at-old/old-1"
    assert row.dominance.better.deployment.name == "at-new/new-1"
    assert (row.requests, row.spent_nano, row.instead_nano, row.saved_nano) == (2, 20 * 10**9, 2 * 10**9, 18 * 10**9)


def test_where_it_is_used_is_named(old_and_new: tuple[Deployment, Deployment]) -> None:
    alias = ModelAliasFactory(name="clever", deployments=[old_and_new[0]])
    policy = RoutingPolicyFactory(name="house", preferred=[alias], fallbacks=[])
    RoutingPolicyFactory(name="off", preferred=[alias], is_active=False)
    ModelAliasFactory(name="gone", deployments=[old_and_new[0]], is_active=False)
    [row] = dominated_models(now=timezone.now())
    assert (row.aliases, row.policies) == (["clever"], [(policy.pk, "house")])


def test_grades_and_measured_times_count(old_and_new: tuple[Deployment, Deployment]) -> None:
    old, new = old_and_new
    now = timezone.now()
    for number in range(3):
        record = decided(f"p{number}", at=now - timedelta(days=1, minutes=number), of_record={"model": "old"})
        said(record, grade=0.9)
        said(record, source="judge", deployment="at-new/new-1", grade=0.8)
    assert dominated_models(now=now) == []  # the old one is the better one
    for number in range(3):
        said(decided(at=now - timedelta(hours=3, minutes=number), of_record={"model": "new"}), thumb="up")
    [row] = dominated_models(now=now)
    assert (row.dominance.worse.grades.number, row.dominance.better.grades.number) == (3, 6)
    used(old, latency_ms=500.0), used(new, latency_ms=900.0)
    assert dominated_models(now=now) == []


def test_the_page_tells_the_evidence(client: Client, old_and_new: tuple[Deployment, Deployment]) -> None:
    used(old_and_new[0], input_tokens=1_000_000, output_tokens=0, cost_nano=10 * 10**9)
    alias = ModelAliasFactory(name="clever", deployments=[old_and_new[0]])
    policy = RoutingPolicyFactory(name="house", preferred=[alias])
    client.force_login(staff_with("providers.view_cataloguemodel", "routing.view_routingpolicy"))
    page = client.get(PAGE).content.decode()
    for text in ("at-old/old-1", "at-new/new-1", "$10.00 / $20.00", "$1.00 / $2.00", "$9.00", "clever"):
        assert text in page
    assert "by their cost tiers: nobody has graded either yet" in page
    assert f"/admin/routing/routingpolicy/{policy.pk}/change/" in page


def test_without_a_dominated_model_the_page_says_so(client: Client) -> None:
    offered("only", 1, 2)
    client.force_login(staff_with("providers.view_cataloguemodel"))
    assert "No model is dominated" in client.get(PAGE).content.decode()


def test_it_is_for_those_who_may_see_models_and_linked_where_they_are(client: Client, admin_client: Client) -> None:
    client.force_login(UserFactory())
    assert client.get(PAGE).status_code == 403
    for address in ("/admin/providers/cataloguemodel/", "/admin/routing/routingpolicy/"):
        assert PAGE in admin_client.get(address).content.decode()


def test_the_page_takes_as_many_queries_for_many_models_as_for_two(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        deployment = offered(f"m{number}", number + 1, number + 1)
        ModelAliasFactory(deployments=[deployment])
    admin_client.get(PAGE)
    with django_assert_max_num_queries(24):
        assert len(admin_client.get(PAGE).context["lines"]) == 5
