"""Operators' rules in the admin: what is refused at save, what is warned of, in which order they stand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from providers.admin.pages import change_url, list_url
from routing.models import RoutingRule
from routing.selectors import rule_rows
from tests.admin_pages import errors_of, submit, submit_new
from tests.factories import ModelAliasFactory, PersonaFactory, UsageRecordFactory, UserFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/routing/routingrule/add/"
TRY = "/admin/routing/routingrule/try/"
CODE = {"name": "code", "is_active": "on", "subject": "text", "match": "contains", "pattern": "traceback",
        "outcome": "task", "task_type": "CODING"}  # fmt: skip


def rule(name: str = "code", **fields: Any) -> RoutingRule:
    values = {"pattern": "traceback", "task_type": "CODING", **fields}
    return RoutingRule.objects.create(name=name, **values)


def said(answer: Any) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def test_a_rule_is_added_at_the_end(admin_client: Client) -> None:
    rule("first", position=4)
    answer = submit_new(admin_client, ADD, **CODE)
    assert answer.status_code == 302, errors_of(answer)
    added = RoutingRule.objects.get(name="code")
    assert (added.position, added.task_type, added.tier, added.alias) == (5, "CODING", "", None)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"match": "regex", "pattern": "a(b"}, "at character 2 (a▸(b): missing )"),
        ({"match": "regex", "pattern": r"x(?=y)"}, "at character 2 (x▸(?=y)): invalid perl operator in “(?=”"),
        ({"match": "regex", "pattern": r"(a)\1"}, r"at character 4 ((a)▸\1): invalid escape sequence"),
        ({"subject": "header", "header": "authorization"}, "Name a header that begins with x-"),
        ({"subject": "header"}, "Name a header that begins with x-"),
        ({"task_type": ""}, "Say which kind of work it is"),
        ({"outcome": "tier"}, "Choose one of: free, economy, standard, premium"),
        ({"outcome": "alias"}, "Choose the model that goes first"),
        ({"pattern": ""}, "This field is required"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_in_words(
    admin_client: Client, fields: dict[str, str], complaint: str
) -> None:
    answer = submit_new(admin_client, ADD, **{**CODE, **fields})
    assert answer.status_code == 200
    assert complaint in errors_of(answer).replace("&lt;", "<").replace("&#x27;", "'")
    assert not RoutingRule.objects.exists()


def test_a_model_that_is_switched_off_cannot_go_first(admin_client: Client) -> None:
    off = ModelAliasFactory(is_active=False)
    answer = submit_new(admin_client, ADD, **{**CODE, "outcome": "alias", "alias": str(off.pk)})
    assert "switched off" in errors_of(answer)


def test_what_does_not_belong_to_the_outcome_is_emptied(admin_client: Client) -> None:
    kept = rule(outcome="task")
    alias = ModelAliasFactory(name="deep")
    answer = submit(admin_client, change_url(kept), outcome="alias", alias=str(alias.pk), subject="tag", header="x-a")
    assert answer.status_code == 302, errors_of(answer)
    kept.refresh_from_db()
    assert (kept.task_type, kept.alias, kept.header) == ("", alias, "")


def test_a_rule_that_is_never_reached_is_warned_of(admin_client: Client) -> None:
    rule("earlier", pattern="TraceBack")
    assert "never reached: the rule" in said(submit_new(admin_client, ADD, **CODE))


def test_a_persona_that_is_not_there_is_warned_of(admin_client: Client) -> None:
    PersonaFactory(slug="analyst")
    persona = {**CODE, "subject": "persona", "match": "equals"}
    assert "no active persona “writer”" in said(submit_new(admin_client, ADD, **{**persona, "pattern": "writer"}))
    known = submit_new(admin_client, ADD, **{**persona, "pattern": "analyst", "name": "two"})
    assert "no active persona “analyst”" not in said(known)


def test_the_list_says_what_each_rule_does_and_how_often_it_did(admin_client: Client) -> None:
    rule("code"), rule("cheap", subject="header", header="x-app", match="regex", outcome="tier", tier="economy")
    now = datetime.now(UTC)
    for days in (0.1, 0.2, 3, 9):
        UsageRecordFactory(rule="code", started_at=now - timedelta(days=days))
    page = admin_client.get(list_url(RoutingRule)).content.decode()
    assert "The last human turn contains “traceback”" in page
    assert "The header x-app matches “traceback”" in page
    assert "it is coding" in page
    assert "models of the tier “Economy” go first" in page
    results = admin_client.get(list_url(RoutingRule)).context["cl"].result_list
    assert {one.name: (one.hits_day, one.hits_week) for one in results} == {"code": (2, 3), "cheap": (0, 0)}


def test_rules_can_be_tried_without_keeping_anything(admin_client: Client) -> None:
    rule("tagged", subject="tag", match="equals", pattern="nightly", position=1)
    rule("code", position=2), rule("off", pattern="off", is_active=False)
    assert "code" in admin_client.post(TRY, {"text": "A Traceback (most recent call last)"}).content.decode()
    assert admin_client.post(TRY, {"text": "traceback", "tag": "Nightly"}).context["found"].name == "tagged"
    page = admin_client.post(TRY, {"text": "switched off"})
    assert page.context["found"] is None
    assert "No rule fits" in page.content.decode()


def test_who_may_not_see_rules_may_not_try_them(client: Client) -> None:
    client.force_login(UserFactory(is_staff=True))
    assert client.get(TRY).status_code == 403
    assert client.get(ADD).status_code == 403


def test_rules_reach_the_gateway_in_their_order_and_only_the_active_ones() -> None:
    alias = ModelAliasFactory(name="deep")
    rule("b", position=2, outcome="alias", task_type="", alias=alias)
    rule("a", position=1, tier="economy"), rule("c", is_active=False)
    assert [(row.name, row.task_type, row.tier, row.alias) for row in rule_rows()] == [
        ("a", "CODING", "", ""),
        ("b", "", "", "deep"),
    ]
