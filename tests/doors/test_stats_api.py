"""`GET /api/v1/stats`: exact figures of a stretch of time, for those who may see them."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from analytics.domain.rollup import Stretch
from analytics.models import UsageState
from analytics.selectors.stats import usage_stats
from analytics.services.rollups import rollups_refresh
from routing.domain.config import Scope
from routing.models import VirtualKey
from tests import gateway as configure
from tests.factories import (
    NOON,
    MembershipFactory,
    TeamFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    mark_hour,
)
from tests.gateway import Gateway, Reply, records

STATS = "/api/v1/stats"
MONTH = Stretch(NOON - timedelta(days=30), NOON + timedelta(minutes=30))


def use(key: VirtualKey, *, days_ago: float = 0, **fields: Any) -> None:
    at = NOON - timedelta(days=days_ago)
    UsageRecordFactory.create(key=key, at=at, **fields)
    mark_hour(at)


# --- the figures --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_figures_are_the_same_from_records_and_from_rollups(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    key, other = VirtualKeyFactory.create(), VirtualKeyFactory.create()
    for number in range(12):
        use(
            (key, other)[number % 2], days_ago=number / 4, model=("swift", "sage")[number % 3 == 0],
            cost_nano=None if number == 5 else number * 1000, latency_ms=100.0 * number, output_tokens=number,
        )  # fmt: skip
    use(key, days_ago=1, model="", state=UsageState.RELEASED, error_code="no_eligible_model", cost_nano=0, latency_ms=7)
    use(key, days_ago=2, model="swift", state=UsageState.CANCELLED, error_code="cancelled", cost_nano=5, latency_ms=9)
    raw = [usage_stats(team_ids=teams, span=MONTH) for teams in (None, [key.team_id], [])]
    rollups_refresh()
    with django_assert_max_num_queries(30):
        assert [usage_stats(team_ids=teams, span=MONTH) for teams in (None, [key.team_id], [])] == raw
    everything, _, nothing = raw
    total = everything.total
    assert (total.sums.requests, total.sums.errors, total.sums.unpriced) == (14, 1, 1)
    assert total.sums.cost_nano == sum(range(12)) * 1000 - 5000 + 5
    assert total.success_rate == 13 / 14
    assert total.avg_latency_ms == pytest.approx((6600 + 16) / 14)
    assert list(everything.by_model) == ["swift", "sage", "none"]
    assert everything.by_model["none"].success_rate == 0
    assert (nothing.total.success_rate, nothing.total.avg_latency_ms, nothing.by_model) == (None, None, {})


@pytest.mark.django_db
def test_the_edges_of_a_stretch_are_kept_to_the_moment() -> None:
    key = VirtualKeyFactory.create()
    for minutes in (0, 10, 20):
        UsageRecordFactory.create(key=key, at=NOON + timedelta(minutes=minutes))
    mark_hour(NOON)
    rollups_refresh()
    inside = Stretch(NOON + timedelta(minutes=10), NOON + timedelta(minutes=20))
    assert usage_stats(team_ids=None, span=inside).total.sums.requests == 1


# --- a key --------------------------------------------------------------------------------------------------------


async def get(gateway: Gateway, query: str, *, key: str) -> Reply:
    """As soon as the gateway knows the key."""
    for _ in range(100):
        reply = await gateway.get(f"{STATS}{query}", key=key)
        if reply.status != 401:
            return reply
    raise AssertionError("the gateway did not notice the new key")


async def test_a_key_sees_what_its_team_has_used(gateway: Gateway) -> None:
    await gateway.chat()
    [record] = await records()

    def keys() -> tuple[str, str, str]:
        team = VirtualKey.objects.get().team
        own = configure.key(7, team, scopes=[Scope.USAGE])
        UsageRecordFactory.create(key=VirtualKeyFactory.create(), at=timezone.now())  # another team's
        return own, team.slug, TeamFactory.create().slug

    text, slug, other = await sync_to_async(keys)()
    answer = (await get(gateway, "?last=24h", key=text)).json
    assert (answer["object"], answer["team"], answer["requests"], answer["success_rate"]) == ("stats", slug, 1, 1.0)
    assert answer["total_cost"] == pytest.approx(0.000022)
    assert answer["avg_latency"] == pytest.approx(record.latency_ms)
    assert answer["model_usage"]["alpha-swift-1"]["requests"] == 1
    assert (answer["tokens"], answer["input_tokens"], answer["output_tokens"]) == (17, 12, 5)
    assert (await get(gateway, f"?team={slug}&last=all", key=text)).json["since"] is None
    refused = await get(gateway, f"?team={other}", key=text)
    assert (refused.status, refused.error["param"]) == (400, "team")


async def test_a_key_without_the_scope_and_nobody_are_refused(gateway: Gateway) -> None:
    without, nobody = await gateway.get(STATS), await gateway.get(STATS, key="")
    assert (without.status, without.error["code"]) == (403, "permission_denied")
    assert (nobody.status, nobody.error["code"]) == (401, "invalid_api_key")


# --- people -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_people_see_their_teams_and_may_choose_one(client: Client, admin_client: Client) -> None:
    first, second = MembershipFactory(), TeamFactory()
    for team, cost_nano in ((first.team, 1_000_000_000), (second, 2_000_000_000)):
        UsageRecordFactory.create(key=VirtualKeyFactory(team=team), at=timezone.now(), cost_nano=cost_nano)
    client.force_login(first.user)
    assert client.get(STATS).json()["total_cost"] == 1.0
    assert client.get(STATS, {"team": second.slug}).status_code == 400
    assert admin_client.get(STATS).json()["total_cost"] == 3.0
    assert admin_client.get(STATS, {"team": second.slug}).json()["total_cost"] == 2.0
    client.force_login(UserFactory())
    nothing = client.get(STATS).json()
    assert (nothing["requests"], nothing["avg_latency"], nothing["model_usage"]) == (0, None, {})


@pytest.mark.django_db
def test_a_stretch_is_asked_for_in_three_ways(admin_client: Client) -> None:
    for days in (1, 20, 400):
        at = timezone.now() - timedelta(days=days)
        UsageRecordFactory.create(key=VirtualKeyFactory(), at=at)
        mark_hour(at)
    since = (timezone.now() - timedelta(days=21)).isoformat()
    asked: list[tuple[dict[str, str], int]] = [
        ({}, 2), ({"last": "48h"}, 1), ({"last": "all"}, 3), ({"since": since}, 2),
        ({"since": "2001-01-01", "until": since}, 1), ({"since": "2001-01-01T00:00:00+02:00"}, 3),
    ]  # fmt: skip
    assert [admin_client.get(STATS, query).json()["requests"] for query, _ in asked] == [number for _, number in asked]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"last": "7"}, "last"),
        ({"last": "0d"}, "last"),
        ({"last": "7d", "since": "2026-01-01"}, "last"),
        ({"since": "yesterday"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "since"),
        ({"until": "9999-12-31"}, "until"),
        ({"team": "\x00"}, "team"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(admin_client: Client, query: dict[str, str], param: str) -> None:
    reply = admin_client.get(STATS, query)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
