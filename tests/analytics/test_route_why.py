"""Why a request went where it went, by records of all ages: what is missing is left out, what is odd is no failure."""

from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.models import UsageRecord
from analytics.presentation import NBSP
from analytics.route_why import STEPS, candidates, policy_url, route_why
from routing.domain.config import STRATEGY_LABELS, TASK_LABELS, Strategy, TaskType
from tests.factories import NOON, MembershipFactory, RoutingPolicyFactory, UsageRecordFactory, UserFactory

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("strategy", "task", "rule", "arm", "step", "sticks", "candidates")
CELLS = ("deployment", "alias", "verdict", "reason", "estimated_cost_nano", "quality", "latency_ms", "score")


def record(**fields: Any) -> UsageRecord:
    made: UsageRecord = UsageRecordFactory.build(at=NOON, **fields)
    return made


def facts_of(**fields: Any) -> dict[str, str]:
    return {fact.name: f"{fact.text} / {fact.about}".removesuffix(" / ") for fact in route_why(record(**fields)).facts}


# --- whatever is in it ----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(anything, anything)
def test_a_record_of_any_shape_can_be_told(decision: Any, attempts: Any) -> None:
    why = route_why(record(decision=decision, attempts=attempts))
    assert all(isinstance(one.cost, str) for one in why.candidates)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries({name: anything for name in NAMES}),
    st.lists(st.fixed_dictionaries(dict.fromkeys(CELLS, anything)), max_size=2),
)
def test_the_names_of_today_with_values_of_another_kind_can_be_told(decision: Any, listed: Any) -> None:
    why = route_why(record(decision=decision | {"candidates": listed}, policy="p", tag="t"))
    assert len(why.candidates) == len(listed)
    assert all(one.quality is None or isinstance(one.quality, float) for one in why.candidates)


def test_a_record_without_a_decision_says_only_what_its_columns_say() -> None:
    assert facts_of(decision={}, policy="p") == {}
    assert facts_of(decision={}, task_type="CODING", rule="vip", arm="trial:control", tag="t") == {
        "Kind of work": TASK_LABELS[TaskType.CODING],
        "Operator’s rule": "vip",
        "Tag": "t",
        "Side of an experiment": "trial:control",
    }


def test_what_was_decided_is_told_before_what_a_column_says() -> None:
    decision = {"rule": "new", "arm": "trial:challenger", "task": {"label": "ANALYSIS"}}
    found = facts_of(decision=decision, rule="old", arm="trial:control", task_type="CODING")
    assert (found["Operator’s rule"], found["Side of an experiment"]) == ("new", "trial:challenger")
    assert found["Kind of work"] == TASK_LABELS[TaskType.ANALYSIS]


# --- in words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_of_today_has_words(strategy: Strategy) -> None:
    assert facts_of(decision={"strategy": strategy.value}, policy="p")["Strategy"] == STRATEGY_LABELS[strategy]


def test_a_strategy_is_one_of_a_policy_and_without_one_is_not_told() -> None:
    assert facts_of(decision={"strategy": "weighted"}, policy="") == {}
    assert facts_of(decision={"strategy": "by_moon"}, policy="p") == {"Strategy": "by_moon"}


@pytest.mark.parametrize("step", ["cap", "cheaper", "cache", "refuse"])
def test_every_step_of_a_ladder_has_words_and_another_one_its_name(step: str) -> None:
    assert facts_of(decision={"step": step})["Budget"] == STEPS[step]
    assert facts_of(decision={"step": "pray"})["Budget"] == "pray"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"label": "CODING"}, "Coding"),
        ({"label": "CODING", "confidence": 0.5}, f"Coding / 50.0{NBSP}% sure"),
        ({"label": "CODING", "confidence": 1}, f"Coding / 100{NBSP}% sure"),
        ({"label": "CODING", "confidence": 0.5, "source": "mine", "known": 1.0},
         f"Coding / 50.0{NBSP}% sure, classifier “mine”"),
        ({"label": "KNITTING", "confidence": 0.5}, f"KNITTING / 50.0{NBSP}% sure"),
        ({"label": "CODING", "confidence": True}, "Coding"),
    ],
)  # fmt: skip
def test_a_kind_of_work_is_told_as_far_as_it_is_known(task: dict[str, Any], said: str) -> None:
    assert facts_of(decision={"task": task})["Kind of work"] == said


def test_a_conversation_stays_only_where_the_record_says_so() -> None:
    assert "Conversation" in facts_of(decision={"sticks": True})
    assert facts_of(decision={"sticks": 1}) == facts_of(decision={"sticks": "true"}) == {}


# --- candidates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nano", "said"),
    [(0, "$0.000000"), (1, "$0.000000"), (1_500, "$0.000002"), (1_234_567_890_000, "$1,234.567890"), (None, "unpriced"),
     ("5", "unpriced"), (True, "unpriced")],
)  # fmt: skip
def test_a_cost_has_six_decimals_and_an_unknown_one_is_no_zero(nano: Any, said: str) -> None:
    [one] = candidates(record(decision={"candidates": [{"deployment": "a", "estimated_cost_nano": nano}]}))
    assert one.cost == said


def test_columns_are_there_where_somebody_has_a_figure() -> None:
    bare = route_why(record(decision={"strategy": "balanced", "candidates": [{"deployment": "a"}]}))
    assert (bare.has_quality, bare.has_latency, bare.score_name) == (False, False, "")
    zero = {"deployment": "a", "quality": 0, "latency_ms": 0, "score": 0}
    full = route_why(record(decision={"strategy": "balanced", "candidates": [{"deployment": "b"}, zero]}))
    assert (full.has_quality, full.has_latency, full.score_name) == (True, True, "Score")


def test_the_last_of_several_attempts_is_what_came_of_it() -> None:
    attempts = [
        {"deployment": "a", "failure": "rate_limited"}, {"deployment": "b", "failure": "time_out"}, {"deployment": "a"},
        "nonsense", {"failure": "of_nobody"},
    ]  # fmt: skip
    listed = [{"deployment": name} for name in "abc"]
    found = candidates(record(decision={"candidates": listed}, attempts=attempts))
    assert [one.outcome for one in found] == ["answered", "time out", ""]


# --- the page -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("columns", "permissions", "has_link"),
    [
        ({"is_staff": True}, ("view_routingpolicy",), True),
        ({"is_staff": True}, (), False),
        ({"is_staff": False}, ("view_routingpolicy",), False),
    ],
)
def test_the_way_to_the_policy_is_for_staff_who_may_view_it(
    columns: dict[str, bool], permissions: tuple[str, ...], has_link: bool
) -> None:
    policy = RoutingPolicyFactory(name="coding")
    person = UserFactory(**columns)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    url = policy_url(person, record(policy="coding"))
    assert url == (f"/admin/routing/routingpolicy/{policy.pk}/change/" if has_link else "")
    assert policy_url(AnonymousUser(), record(policy="coding")) == ""


@pytest.mark.django_db
def test_there_is_no_way_to_a_policy_that_is_gone_or_was_none() -> None:
    chief = UserFactory(is_staff=True, is_superuser=True)
    assert policy_url(chief, record(policy="gone")) == ""
    assert policy_url(chief, record(policy="")) == ""


@pytest.mark.django_db
@pytest.mark.parametrize("decision", [{}, [], "x", {"candidates": []}, {"candidates": [{}]}, {"task": []}])
def test_the_page_of_an_old_request_opens_for_its_team_and_for_no_other(client: Client, decision: Any) -> None:
    row = UsageRecordFactory(decision=decision, attempts=[], policy="", policy_version=0)
    client.force_login(MembershipFactory(team=row.team).user)
    page = client.get(f"/dashboards/requests/{row.pk}/")
    assert page.status_code == 200
    client.force_login(MembershipFactory().user)
    assert client.get(f"/dashboards/requests/{row.pk}/").status_code == 404


@pytest.mark.django_db
def test_what_a_record_holds_is_never_markup(client: Client) -> None:
    evil = "<script>alert(1)</script>"
    listed = [{"deployment": evil, "verdict": evil, "reason": evil, "quality": 1, "quality_basis": evil}]
    row = UsageRecordFactory(
        decision={"candidates": listed, "rule": evil, "arm": evil, "step": evil, "task": {"label": evil}}, tag=evil
    )
    client.force_login(MembershipFactory(team=row.team).user)
    page = client.get(f"/dashboards/requests/{row.pk}/").content.decode()
    assert evil not in page
    assert evil in unescape(page)
