"""`GET /api/v1/budgets`: who sees which, and that the amounts add up."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from analytics.models import Budget, BudgetDuration, BudgetWindow
from analytics.services.budgets import budget_window_open
from routerplatform.api.budgets import usd_text
from routing.domain.config import Scope
from routing.models import TeamRole, VirtualKey
from tests import gateway as configure
from tests.factories import (
    BudgetFactory,
    BudgetLeaseFactory,
    MembershipFactory,
    ModelAliasFactory,
    PersonaFactory,
    UserFactory,
    VirtualKeyFactory,
    key_budget,
)
from tests.gateway import Gateway, Reply

USD = 10**9
LIST = "/api/v1/budgets"


async def get(gateway: Gateway, path: str, *, key: str) -> Reply:
    """As soon as the gateway knows the key."""
    for _ in range(100):
        reply = await gateway.get(path, key=key)
        if reply.status != 401:
            return reply
    raise AssertionError("the gateway did not notice the new key")


@sync_to_async
def a_key_with_budgets() -> tuple[str, list[int], list[int]]:
    """A key that may read usage: its text, the budgets that it may see, and the others."""
    text = configure.key(7, scopes=[Scope.USAGE])
    own = VirtualKey.objects.get(digest=VirtualKeyFactory.build(text=text).digest)
    seen = [BudgetFactory(team=own.team), key_budget(own), key_budget(own, budget_duration=BudgetDuration.DAY)]
    others = [
        BudgetFactory(),
        key_budget(VirtualKeyFactory(team=own.team)),
        BudgetFactory(scope="persona", team=None, persona=PersonaFactory()),
        BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory()),
    ]
    return text, [budget.pk for budget in seen], [budget.pk for budget in others]


# --- a key --------------------------------------------------------------------------------------------------------


async def test_a_key_sees_its_own_budgets_and_its_teams(gateway: Gateway) -> None:
    text, seen, others = await a_key_with_budgets()
    listed = await get(gateway, LIST, key=text)
    assert (listed.status, [row["id"] for row in listed.json["data"]]) == (200, seen)
    assert listed.json["has_more"] is False
    for number in seen:
        assert (await gateway.get(f"{LIST}/{number}", key=text)).json["id"] == number
    for number in [*others, 10**6, 2**70]:
        reply = await gateway.get(f"{LIST}/{number}", key=text)
        assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_a_key_without_the_scope_and_nobody_are_refused(gateway: Gateway) -> None:
    without = await gateway.get(LIST)
    assert (without.status, without.error["code"]) == (403, "permission_denied")
    for path in (LIST, f"{LIST}/1"):
        nobody = await gateway.get(path, key="")
        assert (nobody.status, nobody.error["code"]) == (401, "invalid_api_key")


async def test_the_page_of_a_list_is_as_long_as_asked(gateway: Gateway) -> None:
    text, seen, _ = await a_key_with_budgets()
    first = await get(gateway, f"{LIST}?limit=2", key=text)
    assert ([row["id"] for row in first.json["data"]], first.json["has_more"]) == (seen[:2], True)
    second = await gateway.get(f"{LIST}?limit=2&starting_after={seen[1]}", key=text)
    assert ([row["id"] for row in second.json["data"]], second.json["has_more"]) == (seen[2:], False)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=-1",
        "limit=%C2%B2",
        "starting_after=x",
        "starting_after=" + "9" * 19,
    ],
)
async def test_a_page_that_cannot_be_is_refused_in_words(gateway: Gateway, query: str) -> None:
    text, *_ = await a_key_with_budgets()
    reply = await get(gateway, f"{LIST}?{query}", key=text)
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert reply.error["param"] == query.partition("=")[0]


# --- people -------------------------------------------------------------------------------------------------------


def ids(client: Client) -> list[int]:
    return [row["id"] for row in client.get(LIST).json()["data"]]


@pytest.mark.django_db
def test_a_lead_sees_the_budgets_of_their_teams_and_of_these_teams_keys(client: Client) -> None:
    lead = MembershipFactory(role=TeamRole.LEAD)
    seen = [BudgetFactory(team=lead.team), key_budget(VirtualKeyFactory(team=lead.team))]
    hidden = BudgetFactory(scope="persona", team=None, persona=PersonaFactory())
    client.force_login(lead.user)
    assert ids(client) == [budget.pk for budget in seen]
    assert client.get(f"{LIST}/{hidden.pk}").status_code == 404


@pytest.mark.django_db
def test_staff_who_may_see_usage_see_every_budget_in_force(client: Client) -> None:
    person = UserFactory(is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_usagerecord"))
    budgets = [BudgetFactory(), BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory())]
    off = BudgetFactory(is_active=False)
    client.force_login(person)
    assert ids(client) == [budget.pk for budget in budgets]
    assert client.get(f"{LIST}/{off.pk}").json()["is_active"] is False


@pytest.mark.django_db
def test_somebody_without_a_team_sees_nothing(client: Client) -> None:
    BudgetFactory()
    client.force_login(UserFactory())
    assert ids(client) == []


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_budgets_are_only_read_here(admin_client: Client, method: str) -> None:
    budget = BudgetFactory()
    assert getattr(admin_client, method)(f"{LIST}/{budget.pk}").status_code == 405
    assert Budget.objects.exists()


# --- what it says -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_amounts_are_exact_and_add_up(admin_client: Client) -> None:
    now = timezone.now()
    budget = BudgetFactory(max_budget=Decimal("12.50"), soft_budget=Decimal(10), time_zone="Europe/Berlin")
    window = budget_window_open(budget=budget, now=now)
    renewed = now - timedelta(seconds=3)
    BudgetWindow.objects.filter(pk=window.pk).update(opening_nano=USD, spent_nano=39_150, leased_nano=250_000_000)
    BudgetLeaseFactory(window=window, amount_nano=250_000_000, renewed_at=renewed)
    row = admin_client.get(f"{LIST}/{budget.pk}").json()
    assert {name: row[name] for name in ("limit", "soft_limit", "settled", "held", "remaining")} == {
        "limit": "12.50", "soft_limit": "10.00", "settled": "1.00003915", "held": "0.25", "remaining": "11.24996085",
    }  # fmt: skip
    assert Decimal(row["settled"]) + Decimal(row["held"]) + Decimal(row["remaining"]) == Decimal(row["limit"])
    assert (row["scope"], row["subject"], row["mode"]) == ("team", budget.team.name, "strict")
    assert (row["duration"], row["time_zone"], row["unpriced_requests"]) == ("1mo", "Europe/Berlin", 0)
    assert row["resets_at"] > row["starts_at"]
    assert row["as_of"].startswith(renewed.isoformat()[:19])


@pytest.mark.django_db
def test_a_total_never_resets_and_a_budget_without_a_warning_says_so(admin_client: Client) -> None:
    budget = BudgetFactory(budget_duration=BudgetDuration.TOTAL)
    row = admin_client.get(f"{LIST}/{budget.pk}").json()
    assert (row["resets_at"], row["soft_limit"]) == (None, None)


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00"), (1, "0.000000001"), (12_500_000_000, "12.50"), (10**18, "1000000000.00"), (USD, "1.00")],
)
def test_dollars_have_two_decimals_at_least_and_lose_none(nano: int, text: str) -> None:
    assert usd_text(nano) == text


@pytest.mark.django_db
def test_the_schema_describes_every_field(admin_client: Client) -> None:
    schema: dict[str, Any] = json.loads(admin_client.get("/api/v1/schema/?format=json").content)
    described = schema["components"]["schemas"]["Budget"]["properties"]
    assert described.keys() == admin_client.get(f"{LIST}/{BudgetFactory().pk}").json().keys()
    assert {LIST, f"{LIST}/{{id}}"} <= schema["paths"].keys()
