"""The page of one request: attempts, reasons, the bill, and what is said when something is missing."""

from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.test import Client

from analytics.models import UsageRecord, UsageSource, UsageState
from analytics.presentation import NBSP
from analytics.request_page import attempt_bars, bill, budget_part, playground_href
from analytics.route_why import candidates, route_why
from tests.factories import (
    NOON,
    BudgetWindowFactory,
    MembershipFactory,
    PriceFactory,
    RoutingPolicyFactory,
    UsageRecordFactory,
    UserFactory,
)

RATES = {"input": 10**9, "output": 2 * 10**9, "cache_read": 10**8, "cache_write": None, "per_request": 0}


def attempt(**fields: Any) -> dict[str, Any]:
    return {"deployment": "acme/swift", "provider": "acme", "key_last4": "9f3a", "started_ms": 0.0,
            "latency_ms": 100.0} | fields  # fmt: skip


def record(**fields: Any) -> UsageRecord:
    """Not saved: what the page works out needs no database."""
    made: UsageRecord = UsageRecordFactory.build(at=NOON, **fields)
    return made


def text_of(client: Client, row: UsageRecord) -> str:
    response = client.get(f"/dashboards/requests/{row.pk}/")
    assert response.status_code == 200
    return unescape(response.content.decode())


# --- attempts -----------------------------------------------------------------------------------------------------


def test_attempts_stand_beside_each_other_on_the_requests_whole_time() -> None:
    row = record(
        latency_ms=1000.0,
        attempts=[attempt(latency_ms=250.0, failure="rate_limited"), attempt(started_ms=250.0, latency_ms=750.0)],
    )
    first, second = attempt_bars(row)
    assert (first.number, first.x, first.width, first.failure) == (1, 0.0, 25.0, "rate limited")
    assert (second.number, second.x, second.width, second.failure) == (2, 25.0, 75.0, "")


@pytest.mark.parametrize(
    ("latency_ms", "fields", "x", "width"),
    [
        (100.0, {"started_ms": 900.0, "latency_ms": 100.0}, 90.0, 10.0),  # ended after the record did
        (0.0, {"latency_ms": 0.0}, 0.0, 0.4),
        (10_000.0, {"latency_ms": 1.0}, 0.0, 0.4),  # too short to see, yet there
    ],
)
def test_a_bar_is_always_on_the_scale_and_to_be_seen(
    latency_ms: float, fields: dict[str, float], x: float, width: float
) -> None:
    [bar] = attempt_bars(record(latency_ms=latency_ms, attempts=[attempt(**fields)]))
    assert (bar.x, bar.width) == (x, width)
    assert bar.x + bar.width <= 100.4


@pytest.mark.parametrize("decision", [{}, [], None, "x", {"candidates": None}, {"candidates": {"a": 1}}])
def test_a_decision_of_another_shape_has_no_candidates(decision: Any) -> None:
    assert candidates(record(decision=decision)) == []


@pytest.mark.django_db
def test_candidates_keep_their_order_and_their_reasons(client: Client) -> None:
    listed = [
        {"deployment": "acme/dear", "verdict": "skipped", "reason": "Too dear.", "estimated_cost_nano": 10**7},
        {"deployment": "acme/swift", "verdict": "chosen", "reason": "", "estimated_cost_nano": None},
        {"deployment": "beta/sage", "verdict": "fallback", "reason": "", "estimated_cost_nano": 0},
    ]
    row = UsageRecordFactory(decision={"candidates": listed, "strategy": "priority"}, policy="thrifty")
    assert [one.verdict for one in candidates(row)] == ["skipped", "chosen", "fallback"]
    client.force_login(MembershipFactory(team=row.team).user)
    page = text_of(client, row)
    assert page.index("acme/dear") < page.index("Too dear.") < page.index("beta/sage")


# --- the bill -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_lines_of_a_bill_add_up_to_the_cost() -> None:
    price = PriceFactory()
    row = record(
        input_tokens=1000, cache_read_input_tokens=500, cache_creation_input_tokens=10, output_tokens=200,
        price={"id": price.pk, **RATES},
    )  # fmt: skip
    made = bill(row)
    assert made is not None
    assert made.price == price
    assert sum(line.cost_nano or 0 for line in made.lines) == 1_000_000 + 50_000 + 10_000 + 400_000
    assert (made.is_bound, made.broken_nano) == (False, 0)


@pytest.mark.django_db
def test_a_broken_attempt_that_was_billed_is_told_apart_from_the_one_that_answered() -> None:
    attempts = [attempt(failure="connection_lost", billed_nano=700), attempt(billed_nano=900)]
    made = bill(record(attempts=attempts, price={"id": 1, **RATES}))
    assert made is not None
    assert made.broken_nano == 700


@pytest.mark.django_db
def test_an_estimate_is_called_one() -> None:
    made = bill(record(usage_source=UsageSource.BOUND, price={"id": 1, **RATES}))
    assert made is not None
    assert (made.is_bound, made.price) == (True, None)


@pytest.mark.django_db
@pytest.mark.parametrize("price", [None, {}])
def test_without_a_price_there_is_no_bill(price: Any) -> None:
    assert bill(record(price=price, cost_nano=None)) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cost_nano": None, "price": None}, "unpriced"),
        ({"cost_nano": 0, "price": None, "state": UsageState.RELEASED, "error_code": "upstream_failed",
          "http_status": 502}, "the caller got HTTP 502"),
        ({"state": UsageState.EXPIRED, "error_code": "gateway_stopped", "usage_source": UsageSource.BOUND},
         "Upper bound, in doubt"),
        ({"state": UsageState.CANCELLED, "error_code": "client_closed_request", "http_status": 499}, "Cancelled"),
        ({"ttft_ms": None}, "not streamed"),
        ({"deployment": "", "model": "", "provider": ""}, "nobody"),
        ({"reasoning_tokens": 150}, "150 of them reasoning"),
        ({"cache_read_input_tokens": 4000}, "4.0\N{NO-BREAK SPACE}k read from cache"),
        ({"is_stream": True}, "streamed"),
    ],
)  # fmt: skip
def test_the_page_says_how_it_ended_and_what_it_used(client: Client, fields: dict[str, Any], said: str) -> None:
    row = UsageRecordFactory(**fields)
    client.force_login(MembershipFactory(team=row.team).user)
    assert said in text_of(client, row)


@pytest.mark.django_db
def test_a_record_of_long_ago_keeps_the_names_of_its_time(client: Client) -> None:
    row = UsageRecordFactory(at=NOON - timedelta(days=900))
    name, key_name = row.team_name, row.key_name
    type(row.team).objects.filter(pk=row.team_id).update(name="Renamed since")
    type(row.key).objects.filter(pk=row.key_id).update(name="renamed since")
    client.force_login(MembershipFactory(team=row.team).user)
    page = text_of(client, row)
    assert f"{name} asked for auto" in page
    assert f"by key {key_name}" in page


# --- on to the playground -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "slug", "href"),
    [
        ({"persona": "", "requested_model": "swift"}, "search", "/playground/?team=search&model=swift"),
        ({"persona": "analyst", "requested_model": "analyst"}, "search",
         "/playground/?team=search&persona=analyst&model=auto"),
        ({"persona": "analyst", "requested_model": ""}, "", "/playground/?persona=analyst&model=auto"),
        ({"persona": "", "requested_model": "acme/swift 1&x=2"}, "",
         "/playground/?model=acme%2Fswift+1%26x%3D2"),
    ],
)  # fmt: skip
def test_the_playground_opens_with_what_was_asked_for(fields: dict[str, str], slug: str, href: str) -> None:
    assert playground_href(record(**fields), slug) == href


@pytest.mark.django_db
def test_the_page_says_what_budgets_did_to_the_request(client: Client) -> None:
    paid = BudgetWindowFactory(budget__mode="strict", budget__max_budget=Decimal("5.00"))
    shadow = BudgetWindowFactory(budget__mode="shadow")
    row = UsageRecordFactory(
        charges={str(paid.pk): 1_250_000},
        budget={"hold_nano": 9_000_000, "max_tokens": 812, "would_refuse": [shadow.pk]},
    )
    part = budget_part(row)
    assert part is not None
    assert (part.hold_nano, part.max_tokens) == (9_000_000, 812)
    assert {(share.budget.pk, share.charged_nano, share.would_refuse) for share in part.shares} == {
        (paid.budget_id, 1_250_000, False),
        (shadow.budget_id, 0, True),
    }
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    text = text_of(client, row)
    for said in (f"{paid.budget}", "$0.00125", "would have refused it", "$0.009", "812 tokens"):
        assert said in text


@pytest.mark.django_db
def test_without_a_budget_the_page_does_not_speak_of_one(client: Client) -> None:
    row = UsageRecordFactory(charges=None, budget=None)
    assert budget_part(row) is None
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert "Held at most" not in text_of(client, row)


# --- why this route -----------------------------------------------------------------------------------------------

FULL = {
    "requested": "auto",
    "how": "persona “coder” follows policy “coding”",
    "policy": "coding",
    "strategy": "balanced",
    "task": {"label": "CODING", "confidence": 0.934, "source": "linear", "known": 0.8},
    "rule": "python-is-code",
    "arm": "cheap:challenger",
    "step": "cheaper",
    "sticks": True,
    "candidates": [
        {
            "deployment": "acme/swift", "alias": "fast", "verdict": "chosen", "reason": "",
            "estimated_cost_nano": 1_234_567, "quality": 0.75, "quality_basis": "tier standard", "latency_ms": 812.0,
            "score": 0.4321,
        },
        {
            "deployment": "beta/sage", "alias": "deep", "verdict": "fallback", "reason": "", "is_fallback": True,
            "estimated_cost_nano": None, "quality": 0.85, "quality_basis": "tier premium",
        },
    ],
}  # fmt: skip


def facts_of(**fields: Any) -> dict[str, str]:
    return {fact.name: f"{fact.text} / {fact.about}".removesuffix(" / ") for fact in route_why(record(**fields)).facts}


def test_everything_that_decided_is_told_in_words() -> None:
    assert facts_of(decision=FULL, policy="coding", tag="review") == {
        "Strategy": "Quality against cost and time",
        "Kind of work": f"Coding / 93.4{NBSP}% sure, classifier “linear”, 80.0{NBSP}% of the words known",
        "Operator’s rule": "python-is-code",
        "Tag": "review",
        "Side of an experiment": "cheap:challenger",
        "Budget": "a budget fills: cheaper models go first",
        "Conversation": "stays with the model that has answered it",
    }  # fmt: skip


def test_a_task_that_nobody_is_sure_of_and_one_that_a_rule_says_are_told_as_such() -> None:
    unsure = {"task": {"label": "ANY", "confidence": 0.31, "source": "linear", "known": 1.0}}
    assert facts_of(decision=unsure)["Kind of work"].startswith("not sure enough to say / 31.0")
    ruled = {"task": {"label": "CREATIVE", "confidence": 1.0, "source": "rule"}}
    assert facts_of(decision=ruled)["Kind of work"] == "Creative writing / says the operator’s rule"


def test_the_figures_of_candidates_are_those_that_were_looked_at() -> None:
    why = route_why(record(decision=FULL, policy="coding"))
    assert (why.has_quality, why.has_latency, why.score_name) == (True, True, "Score")
    first, second = why.candidates
    assert (first.quality, first.latency_ms, first.score, first.cost) == (0.75, 812.0, "0.432", "$0.001235")
    assert (second.latency_ms, second.score, second.cost, second.is_fallback) == (None, "", "unpriced", True)


@pytest.mark.parametrize(
    ("strategy", "score", "shown"),
    [
        ("weighted", 3.0, ("Weight", "3")),
        ("usage_based", 0.25, ("Headroom", f"25.0{NBSP}%")),
        ("least_busy", 4.0, ("Under way", "4")),
        ("lowest_cost", 0.001, ("", "")),  # it stands in the column of costs
        ("of_tomorrow", 1.0, ("", "")),
    ],
)
def test_a_score_is_shown_where_no_other_column_has_it(strategy: str, score: float, shown: tuple[str, str]) -> None:
    why = route_why(record(decision={"strategy": strategy, "candidates": [{"deployment": "a", "score": score}]}))
    assert (why.score_name, why.candidates[0].score) == shown


def test_what_came_of_each_candidate_is_told() -> None:
    attempts = [attempt(failure="rate_limited"), attempt(deployment="beta/sage")]
    outcomes = [one.outcome for one in candidates(record(decision=FULL, attempts=attempts))]
    assert outcomes == ["rate limited", "answered"]


@pytest.mark.parametrize(
    "decision",
    [
        {"candidates": [{"deployment": "acme/swift", "verdict": "chosen", "reason": "", "estimated_cost_nano": 5}]},
        {"task": "CODING", "candidates": [{"deployment": 7, "quality": "good", "score": True, "latency_ms": None}]},
        {"task": {"label": "KNITTING", "confidence": "high"}, "strategy": "by_moon", "sticks": "yes", "step": 3},
    ],
)
@pytest.mark.django_db
def test_a_record_of_another_time_still_has_its_page(client: Client, decision: dict[str, Any]) -> None:
    row = UsageRecordFactory(decision=decision, policy="gone", policy_version=0)
    client.force_login(MembershipFactory(team=row.team).user)
    assert "Why this route" in text_of(client, row)


@pytest.mark.django_db
def test_the_policy_is_a_link_for_those_who_may_open_it(client: Client) -> None:
    policy = RoutingPolicyFactory(name="coding")
    row = UsageRecordFactory(decision=FULL, policy="coding", policy_version=4)
    url = f"/admin/routing/routingpolicy/{policy.pk}/change/"
    client.force_login(MembershipFactory(team=row.team).user)
    page = text_of(client, row)
    assert "version 4" in page
    assert url not in page
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert f'<a href="{url}">coding</a>' in text_of(client, row)
