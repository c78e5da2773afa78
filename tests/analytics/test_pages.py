"""The dashboards as people meet them: what they see, and above all what they do not see."""

import csv
import uuid
from datetime import timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from analytics.models import Budget, UsageState
from providers.models import Health
from routing.models import Team, VirtualKey
from tests.factories import (
    MembershipFactory,
    PriceFactory,
    ProviderCheckFactory,
    ProviderFactory,
    TeamFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    mark_hour,
)

pytestmark = pytest.mark.django_db


def used(key: VirtualKey, **fields: Any) -> Any:
    """A request of a moment ago, on a day whose rollup is not computed yet."""
    at = fields.pop("at", timezone.now() - timedelta(seconds=1))
    mark_hour(at)
    return UsageRecordFactory(key=key, at=at, **fields)


def text_of(response: Any) -> str:
    return unescape(response.content.decode())


def rows_of(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(response.getvalue().decode())))


@pytest.fixture
def search() -> VirtualKey:
    key: VirtualKey = VirtualKeyFactory(team=TeamFactory(name="Search", slug="search"), name="search app")
    return key


@pytest.fixture
def checkout() -> VirtualKey:
    key: VirtualKey = VirtualKeyFactory(team=TeamFactory(name="Checkout", slug="checkout"), name="till")
    return key


@pytest.fixture
def maria(client: Client, search: VirtualKey) -> Client:
    """A member of Search, and of nothing else."""
    client.force_login(MembershipFactory(team=search.team).user)
    return client


@pytest.fixture
def ops(client: Client) -> Client:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


# --- who sees what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dashboards/", "/dashboards/providers/", "/dashboards/requests/", "/playground/"])
def test_a_stranger_is_sent_to_sign_in(client: Client, path: str) -> None:
    assert client.get(path).headers["Location"] == f"/login/?next={path}"


def test_a_member_sees_only_their_own_teams_spend(maria: Client, search: VirtualKey, checkout: VirtualKey) -> None:
    used(search, cost_nano=1_250_000_000)
    used(checkout, cost_nano=99_000_000_000)
    page = text_of(maria.get("/dashboards/"))
    assert "$1.25" in page
    assert "$99.00" not in page
    assert "Checkout" not in page


def test_staff_see_every_team(ops: Client, search: VirtualKey, checkout: VirtualKey) -> None:
    used(search, cost_nano=1_250_000_000)
    used(checkout, cost_nano=99_000_000_000)
    page = text_of(ops.get("/dashboards/"))
    assert "$100.25" in page
    assert "Search" in page and "Checkout" in page  # noqa: PT018


@pytest.mark.parametrize("path", ["/dashboards/", "/dashboards/requests/", "/dashboards/?format=csv"])
def test_asking_for_another_team_is_a_404(maria: Client, checkout: VirtualKey, path: str) -> None:
    assert maria.get(path, {"team": "checkout"}).status_code == 404


def test_the_log_and_its_csv_show_only_ones_own_teams(maria: Client, search: VirtualKey, checkout: VirtualKey) -> None:
    mine, theirs = used(search), used(checkout)
    page = text_of(maria.get("/dashboards/requests/"))
    exported = rows_of(maria.get("/dashboards/requests/", {"format": "csv"}))
    assert str(mine.request_id) in page
    assert str(theirs.request_id) not in page
    assert [row["request_id"] for row in exported] == [str(mine.request_id)]


def test_the_key_of_another_team_finds_nothing(maria: Client, checkout: VirtualKey) -> None:
    used(checkout)
    page = text_of(maria.get("/dashboards/requests/", {"key": checkout.pk}))
    assert "No request matches" in page
    assert "till" not in page


def test_another_teams_request_looks_like_one_that_does_not_exist(maria: Client, checkout: VirtualKey) -> None:
    theirs = used(checkout)
    known = maria.get(f"/dashboards/requests/{theirs.request_id}/")
    unknown = maria.get(f"/dashboards/requests/{uuid.uuid4()}/")
    assert (known.status_code, unknown.status_code) == (404, 404)
    assert known.content == unknown.content


def test_who_is_in_no_team_is_told_what_to_do(client: Client) -> None:
    client.force_login(UserFactory())
    assert "You are in no team yet" in text_of(client.get("/dashboards/"))


# --- spend --------------------------------------------------------------------------------------------------------


def test_an_empty_platform_offers_a_command_to_copy(ops: Client) -> None:
    TeamFactory()
    page = text_of(ops.get("/dashboards/"))
    assert "No requests yet" in page
    assert "curl http://testserver/v1/chat/completions" in page


def test_days_without_requests_offer_a_longer_range(maria: Client, search: VirtualKey) -> None:
    used(search, at=timezone.now() - timedelta(days=200))
    page = text_of(maria.get("/dashboards/?range=7d"))
    assert "Nothing was spent in these days" in page


def test_a_request_of_unknown_price_is_unpriced_and_never_free(maria: Client, search: VirtualKey) -> None:
    used(search, cost_nano=None)
    page = text_of(maria.get("/dashboards/"))
    assert "unpriced" in page
    assert "not in the spend: no price" in page


@pytest.mark.parametrize(
    ("sort", "names"),
    [("-cost", ["Zoo", "Abc"]), ("cost", ["Abc", "Zoo"]), ("label", ["Abc", "Zoo"]), ("; drop", ["Zoo", "Abc"])],
)
def test_the_table_is_sorted_by_its_address(ops: Client, sort: str, names: list[str]) -> None:
    for name, cost in (("Zoo", 5_000_000_000), ("Abc", 1_000_000_000)):
        used(VirtualKeyFactory(team=TeamFactory(name=name)), cost_nano=cost)
    page = text_of(ops.get("/dashboards/", {"sort": sort}))
    table = page[page.index("<tbody>") :]
    assert sorted(names, key=table.index) == names


@pytest.mark.parametrize(
    ("by", "value"),
    [("model", "swift-1"), ("persona", "analyst"), ("key", "search app"), ("provider", "acme"), ("policy", "thrifty")],
)
def test_spend_can_be_told_apart_by_every_dimension(maria: Client, search: VirtualKey, by: str, value: str) -> None:
    used(search, model="swift-1", persona="analyst", provider="acme", policy="thrifty", cost_nano=2_000_000_000)
    page = text_of(maria.get("/dashboards/", {"by": by}))
    exported = rows_of(maria.get("/dashboards/", {"by": by, "format": "csv"}))
    assert value in page[page.index("<tbody>") :]
    assert exported[0][by].startswith(value)
    assert exported[0]["cost_usd"] == "2.000000000"


def test_every_line_of_the_table_leads_to_the_requests_behind_it(maria: Client, search: VirtualKey) -> None:
    wanted, other = used(search, model="swift-1"), used(search, model="sage-1")
    page = text_of(maria.get("/dashboards/?by=model&range=7d"))
    log = text_of(maria.get("/dashboards/requests/?range=7d&model=swift-1"))
    assert "/dashboards/requests/?range=7d&model=swift-1" in page
    assert str(wanted.request_id) in log
    assert str(other.request_id) not in log


def test_the_csv_has_a_row_for_each_team_and_day(ops: Client, search: VirtualKey) -> None:
    now = timezone.now()
    used(search, at=now, cost_nano=10)
    used(search, at=now - timedelta(days=1), cost_nano=20)
    exported = rows_of(ops.get("/dashboards/?format=csv"))
    assert [(row["team"], row["cost_usd"]) for row in exported] == [
        ("Search", "0.000000020"),
        ("Search", "0.000000010"),
    ]


def test_a_name_in_the_csv_cannot_be_a_formula(ops: Client) -> None:
    used(VirtualKeyFactory(team=TeamFactory(name="=HYPERLINK(1)")))
    assert rows_of(ops.get("/dashboards/?format=csv"))[0]["team"] == "'=HYPERLINK(1)"


def test_a_name_on_a_page_cannot_be_markup(ops: Client) -> None:
    used(VirtualKeyFactory(team=TeamFactory(name="<b>Bold</b>")))
    assert b"<b>Bold" not in ops.get("/dashboards/").content


def test_a_day_is_charted_by_hour(maria: Client, search: VirtualKey) -> None:
    used(search)
    assert "Spend by hour" in text_of(maria.get("/dashboards/?range=24h"))


def test_budgets_show_what_is_left_in_words_and_not_by_colour_alone(maria: Client, search: VirtualKey) -> None:
    Budget.objects.create(team=search.team, max_budget=2)
    used(search, cost_nano=1_800_000_000)
    page = text_of(maria.get("/dashboards/"))
    assert "$1.80" in page
    assert "of $2.00" in page
    assert "90.0" in page


def test_the_spend_page_has_the_same_number_of_queries_for_any_number_of_teams(
    ops: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(6):
        key = VirtualKeyFactory()
        Budget.objects.create(team=key.team, max_budget=5)
        ProviderFactory()
        used(key)
    with django_assert_max_num_queries(50):
        ops.get("/dashboards/")


# --- the log ------------------------------------------------------------------------------------------------------


def test_older_requests_are_reached_page_by_page_without_a_gap(maria: Client, search: VirtualKey) -> None:
    now = timezone.now()
    made = {str(used(search, at=now - timedelta(seconds=n)).request_id) for n in range(120)}
    seen: list[str] = []
    before = ""
    for _ in range(3):
        response: Any = maria.get("/dashboards/requests/", {"before": before})
        seen += [str(record.request_id) for record in response.context["records"]]
        before = response.context["older"]
    assert before == ""
    assert len(seen) == 120
    assert set(seen) == made


@pytest.mark.parametrize("before", ["x", "2026-01-01_", "2026-01-01T00:00:00_" + "0" * 32, "_", "\x00"])
def test_a_damaged_position_starts_at_the_latest(maria: Client, search: VirtualKey, before: str) -> None:
    record = used(search)
    assert str(record.request_id) in text_of(maria.get("/dashboards/requests/", {"before": before}))


@pytest.mark.parametrize("query", [{"key": "9" * 30}, {"key": "²"}, {"key": "-1"}, {"state": "x"}, {"range": "\x01"}])
def test_a_senseless_filter_is_no_fault_of_the_server(maria: Client, search: VirtualKey, query: dict[str, str]) -> None:
    used(search)
    assert maria.get("/dashboards/requests/", query).status_code == 200


def test_errors_only_leaves_out_what_was_answered_or_cancelled(maria: Client, search: VirtualKey) -> None:
    used(search)
    used(search, state=UsageState.CANCELLED)
    failed = used(search, state=UsageState.RELEASED, error_code="upstream_failed", cost_nano=0)
    response: Any = maria.get("/dashboards/requests/", {"errors": "1"})
    assert [record.request_id for record in response.context["records"]] == [failed.request_id]


def test_the_log_has_the_same_number_of_queries_for_any_number_of_requests(
    maria: Client, search: VirtualKey, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(30):
        used(search)
    with django_assert_max_num_queries(12):
        maria.get("/dashboards/requests/")


# --- one request --------------------------------------------------------------------------------------------------

PRICE = {"input": 1_000_000_000, "output": 2_000_000_000, "cache_read": None, "cache_write": None, "per_request": 0}


def test_the_bill_of_a_request_adds_up_line_by_line(maria: Client, search: VirtualKey) -> None:
    price = PriceFactory(source="genai-prices")
    record = used(search, input_tokens=1000, output_tokens=200, cost_nano=1_400_000, price={"id": price.pk, **PRICE})
    page = text_of(maria.get(f"/dashboards/requests/{record.request_id}/"))
    assert "$0.001000000" in page
    assert "$0.000400000" in page
    assert "$0.001400000" in page
    assert "Price list (genai-prices)" in page
    assert "1 Jan 2026" in page


def test_a_bill_stays_readable_when_its_price_row_is_gone(maria: Client, search: VirtualKey) -> None:
    record = used(search, cost_nano=1_400_000, price={"id": 987_654, **PRICE})
    assert "The price row is gone" in text_of(maria.get(f"/dashboards/requests/{record.request_id}/"))


def test_attempts_and_the_reasons_of_the_route_are_shown_in_order(maria: Client, search: VirtualKey) -> None:
    record = used(
        search,
        attempts=[
            {"deployment": "acme/swift", "provider": "acme", "key_last4": "9f3a", "started_ms": 1, "latency_ms": 200,
             "failure": "rate_limited", "http_status": 429, "message": "Slow down."},
            {"deployment": "beta/sage", "provider": "beta", "key_last4": "77aa", "started_ms": 202, "latency_ms": 598},
        ],
        decision={
            "strategy": "priority",
            "candidates": [
                {"deployment": "acme/dear", "verdict": "skipped", "reason": "Too dear.", "estimated_cost_nano": 10**6},
                {"deployment": "acme/swift", "verdict": "chosen", "reason": "", "estimated_cost_nano": None},
            ],
        },
    )  # fmt: skip
    page = text_of(maria.get(f"/dashboards/requests/{record.request_id}/"))
    parts = ["rate limited", "Slow down.", "beta/sage", "…77aa", "Too dear.", "$0.001000", "chosen"]
    assert [part for part in parts if part not in page] == []
    assert page.index("Slow down.") < page.index("beta/sage")


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": [], "decision": {}, "cost_nano": None, "ttft_ms": None},
        {"attempts": ["?"], "decision": {"candidates": "?"}},
        {"attempts": [{}], "decision": {"candidates": [{}, 5]}, "latency_ms": 0.0},
    ],
)
def test_a_sparse_record_is_shown_all_the_same(maria: Client, search: VirtualKey, fields: dict[str, Any]) -> None:
    record = used(search, **fields)
    assert maria.get(f"/dashboards/requests/{record.request_id}/").status_code == 200


def test_a_request_leads_to_the_playground_with_its_own_settings(maria: Client, search: VirtualKey) -> None:
    record = used(search, persona="analyst", requested_model="swift")
    page = text_of(maria.get(f"/dashboards/requests/{record.request_id}/"))
    assert "/playground/?team=search&persona=analyst&model=swift" in page


# --- providers ----------------------------------------------------------------------------------------------------


def test_a_provider_card_says_how_it_is_and_why(maria: Client) -> None:
    now = timezone.now()
    provider = ProviderFactory(label="Acme", health=Health.DOWN, health_note="Nothing listens.", checked_at=now)
    ProviderCheckFactory(provider=provider, health=Health.DOWN, checked_at=now - timedelta(minutes=2))
    page = text_of(maria.get("/dashboards/providers/"))
    assert "Nothing listens." in page
    assert 'aria-label="Last 1 checks: 1 down"' in page
    assert "Check now" not in page


def test_only_staff_may_start_a_check(maria: Client) -> None:
    assert maria.post("/dashboards/providers/check/").status_code == 403
    assert maria.get("/dashboards/providers/check/").status_code == 405


# --- headers, streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/dashboards/", "/dashboards/providers/", "/dashboards/requests/", "/playground/", "/login/"]
)
def test_pages_have_a_strict_policy_and_nothing_inline(client: Client, search: VirtualKey, path: str) -> None:
    if path != "/login/":
        client.force_login(MembershipFactory(team=search.team).user)
    used(search)
    response: HttpResponse = client.get(path)
    policy, page = response.headers["Content-Security-Policy"], response.content.decode()
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick=" not in page
    assert page.count("<script") == page.count("<script src") + page.count('<script type="module" src') + page.count(
        'type="application/json"'
    )


@pytest.mark.django_db(transaction=True)
async def test_an_export_streams_under_asgi_too(async_client: AsyncClient) -> None:
    user = await UserFactory._meta.model.objects.acreate(username="lee", is_staff=True, is_superuser=True)
    await Team.objects.acreate(name="T", slug="t")
    await async_client.aforce_login(user)
    response: Any = await async_client.get("/dashboards/requests/?format=csv")
    body = b"".join([chunk async for chunk in response])
    assert body.startswith(b"request_id,started_at,")
