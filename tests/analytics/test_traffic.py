"""How a policy's requests of the last day are split, and the panel on its page."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.selectors.traffic import MOST_ROWS, policy_traffic
from providers.admin.pages import change_url
from tests.factories import NOON, RoutingPolicyFactory, UsageRecordFactory
from tests.routerplatform.test_permissions import staff_with

pytestmark = pytest.mark.django_db


def served(deployment: str = "alpha/swift", hours: float = 1, **fields: Any) -> None:
    UsageRecordFactory(policy="house", deployment=deployment, at=NOON - timedelta(hours=hours), **fields)


def test_parts_are_shares_of_the_requests_the_largest_first(django_assert_num_queries: Any) -> None:
    served(cost_nano=1000, latency_ms=100), served(cost_nano=3000, latency_ms=300, task_type="CODING")
    served("beta/sage", cost_nano=None, task_type="CODING")
    served("", state="released", error_code="no_eligible_model", cost_nano=0)
    served(hours=25), served(hours=-1)
    UsageRecordFactory(policy="another", at=NOON)
    with django_assert_num_queries(1):
        found = policy_traffic("house", now=NOON)
    assert (found.requests, found.cost_nano) == (4, 4000)
    swift, *others = found.by_model
    assert (swift.name, swift.requests, swift.share, swift.percent) == ("alpha/swift", 2, 0.5, 50)
    assert (swift.cost_nano, swift.failed, swift.latency_ms) == (4000, 0, 200)
    failed = next(row for row in others if row.name.startswith("No model"))
    assert (failed.failed, failed.latency_ms) == (1, None)
    assert [(row.name, row.requests) for row in found.by_task] == [("Coding", 2), ("Not classified", 2)]


def test_versions_and_arms_are_told_apart() -> None:
    served(policy_version=3), served(policy_version=3, arm="trial:control")
    served(policy_version=4, arm="v4"), served(policy_version=3, arm="trial:challenger")
    names = [row.name for row in policy_traffic("house", now=NOON).by_version]
    assert names == ["v3", "v3, trial:challenger", "v3, trial:control", "v4"]


def test_a_policy_of_many_models_shows_the_largest() -> None:
    for number in range(MOST_ROWS + 3):
        served(f"alpha/m{number}")
    served("alpha/m14")
    rows = policy_traffic("house", now=NOON).by_model
    assert (len(rows), rows[0].name) == (MOST_ROWS, "alpha/m14")


def test_the_panel_stands_on_the_policys_page_for_those_who_see_usage(client: Client) -> None:
    policy = RoutingPolicyFactory(name="house", is_default=True)
    client.force_login(staff_with("routing.view_routingpolicy", "analytics.view_usagerecord"))
    page = client.get(change_url(policy)).content.decode()
    assert "No request was routed by this policy in the last 24 hours" in page
    UsageRecordFactory(policy="house", at=timezone.now(), deployment="alpha/swift", task_type="CODING")
    page = client.get(change_url(policy)).content.decode()
    assert "Traffic of the last 24 hours" in page
    assert "alpha/swift" in page
    assert "100" in page
    client.force_login(staff_with("routing.view_routingpolicy"))
    page = client.get(change_url(policy)).content.decode()
    assert "Traffic of the last 24 hours" not in page
