"""The rules of a policy as rows, and as the versions that were made of them."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import HealthCheck, given, settings

from providers.admin.pages import change_url
from routerplatform.starter import DEFAULT, starter_ensure
from routing.domain.documents import CandidateDocument, LadderDocument, PolicyDocument, same_rules
from routing.domain.policy_diff import FIELDS, policy_changes
from routing.domain.policy_words import rules_in_words
from routing.models import PolicyDraft, PolicyRules, RoutingPolicy
from routing.policy_selectors import policy_complaints, version_lines
from routing.selectors import config_revision
from routing.services.lifecycle import draft_approve, draft_create, draft_submit
from routing.services.policy_rules import (
    RULE_COLUMNS,
    columns_of,
    document_at,
    document_of,
    number_next,
    rules_write,
    version_ensure,
)
from routing.services.rollouts import draft_abort, draft_publish, policy_edited, version_rollback
from tests.admin_pages import errors_of, submit
from tests.factories import NOON, ModelAliasFactory, RoutingPolicyFactory, UserFactory
from tests.routing.domain.policy_documents import NAMES, changed, documents
from tests.routing.lifecycles import UNUSUAL, alias, approved, drafted, everyday

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    user: User = UserFactory.create(username="ann")
    return user


@pytest.fixture
def policy() -> RoutingPolicy:
    return everyday()


def published(policy: RoutingPolicy, by: User, document: PolicyDocument, title: str = "all of it") -> PolicyDraft:
    """Through the whole way of a change."""
    draft = draft_create(policy=policy, by=by, title=title, document=document)
    return draft_publish(draft=draft_approve(draft=draft_submit(draft=draft, by=by), by=by))


# --- there and back -------------------------------------------------------------------------------------------------


def test_every_column_of_the_rules_is_written_from_a_document() -> None:
    assert set(RULE_COLUMNS) == {field.name for field in PolicyRules._meta.fields}


def test_the_unusual_value_of_every_field_is_none_of_the_usual() -> None:
    usual = PolicyDocument()
    assert set(UNUSUAL) == set(PolicyDocument.__struct_fields__) - {"candidates"}
    assert all(getattr(usual, name) != value for name, value in UNUSUAL.items())


@pytest.mark.parametrize("name", sorted(UNUSUAL))
def test_each_field_goes_into_force_and_is_read_back(policy: RoutingPolicy, ann: User, name: str) -> None:
    before = document_of(policy)
    wanted = changed(before, {name: UNUSUAL[name]})
    draft = published(policy, ann, wanted)
    policy = RoutingPolicy.objects.get(pk=policy.pk)
    assert document_of(draft) == document_of(policy) == document_at(policy, 2) == wanted
    fields = {change.field for change in policy_changes(document_at(policy, 1), document_at(policy, 2))}
    assert {field.split(".")[0] for field in fields} == {name}


def test_all_fields_at_once_are_said_compared_and_taken_back(policy: RoutingPolicy, ann: User) -> None:
    before = document_of(policy)
    wanted = changed(before, UNUSUAL)
    published(policy, ann, wanted)
    policy.refresh_from_db()
    assert {change.field for change in policy_changes(before, document_of(policy))} == {one.name for one in FIELDS}
    version_rollback(policy=policy, number=1, by=ann)
    policy.refresh_from_db()
    assert document_of(policy) == before
    assert rules_in_words(document_of(policy)) == ["Tries fast, then smart."]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=documents)
def test_rows_say_what_the_document_said_that_they_were_written_from(db: None, document: PolicyDocument) -> None:
    for name in NAMES:
        if not RoutingPolicy.objects.filter(candidates__alias__name=name).exists():
            RoutingPolicyFactory.create(preferred=[ModelAliasFactory.create(name=name)])
    owner, _ = RoutingPolicy.objects.get_or_create(name="rewritten")
    rules_write(owner=owner, document=document)
    assert document_of(RoutingPolicy.objects.get(pk=owner.pk)) == document
    names = [row.alias.name for row in owner.candidates.all()]
    assert names == [one.alias for one in document.candidates]


def test_money_is_written_to_the_millionth_of_a_dollar() -> None:
    assert columns_of(PolicyDocument(max_cost_nano=1_000))["max_cost_per_request"] == Decimal("0.000001")
    assert columns_of(PolicyDocument(max_cost_nano=None))["max_cost_per_request"] is None
    assert columns_of(PolicyDocument(max_cost_nano=0))["max_cost_per_request"] == Decimal(0)


def test_only_what_differs_is_written(policy: RoutingPolicy) -> None:
    before = config_revision()
    rules_write(owner=policy, document=document_of(policy))
    assert config_revision() == before
    rules_write(owner=policy, document=changed(document_of(policy), {"is_sticky": True}))
    assert policy.history.count() == 2
    assert [row.history.count() for row in policy.candidates.all()] == [1, 1]


def test_a_model_keeps_its_row_when_it_changes_its_place(policy: RoutingPolicy) -> None:
    rows = {row.alias.name: row.pk for row in policy.candidates.all()}
    swapped = (CandidateDocument("smart", weight=3), CandidateDocument("fast", is_fallback=True))
    rules_write(owner=policy, document=PolicyDocument(candidates=swapped))
    assert {row.alias.name: row.pk for row in policy.candidates.all()} == rows
    assert document_of(policy).candidates == swapped


def test_a_document_with_a_model_that_nobody_knows_writes_nothing(policy: RoutingPolicy) -> None:
    before = document_of(policy)
    unknown = PolicyDocument(candidates=(CandidateDocument("ghost"), CandidateDocument("wraith")), is_sticky=True)
    with pytest.raises(ValidationError, match="There is no model alias ghost, wraith any more"):
        rules_write(owner=policy, document=unknown)
    assert document_of(RoutingPolicy.objects.get(pk=policy.pk)) == before


# --- numbers --------------------------------------------------------------------------------------------------------


def test_a_number_is_never_given_twice(policy: RoutingPolicy, ann: User) -> None:
    numbers = []
    for latency in (100, 200, 300):
        draft = approved(policy, ann, ann, max_latency_ms=latency * 100)
        draft = draft_publish(draft=draft, stages=[5, 100])
        numbers.append(draft.version)
        draft_abort(draft=draft, note="errors")
        policy.refresh_from_db()
    assert numbers == [2, 3, 4]
    assert number_next(policy) == 5
    assert policy.version == 1


def test_a_version_is_made_once_whoever_asks(policy: RoutingPolicy, ann: User) -> None:
    assert [version_ensure(policy=policy, by=ann).number for _ in range(3)] == [1, 1, 1]
    assert policy.versions.get().note == "As it was found"


def test_an_alias_that_is_renamed_is_found_as_a_change_from_outside(policy: RoutingPolicy, ann: User) -> None:
    version_ensure(policy=policy)
    row = policy.candidates.get(alias__name="smart")
    row.alias.name = "wise"
    row.alias.save()
    assert version_ensure(policy=policy).note == "Changed outside of drafts"
    newest = version_lines(policy)[0]
    assert [str(change) for change in newest.changes] == [
        "model: removes smart as preferred",
        "model: adds wise as preferred",
    ]


def test_another_order_of_regions_is_no_version(policy: RoutingPolicy) -> None:
    RoutingPolicy.objects.filter(pk=policy.pk).update(regions=["eu", "us"])
    version_ensure(policy=policy)
    RoutingPolicy.objects.filter(pk=policy.pk).update(regions=["us", "eu"])
    assert version_ensure(policy=policy).number == 1


def test_notes_are_kept_as_far_as_they_fit(policy: RoutingPolicy, ann: User) -> None:
    version_ensure(policy=policy)
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=5)
    version = policy_edited(policy=policy, by=ann, note="n" * 999)
    version.refresh_from_db()
    assert len(version.note) == 300


# --- as a page shows them -------------------------------------------------------------------------------------------


def test_lines_of_versions_compare_each_with_the_one_before(policy: RoutingPolicy, ann: User) -> None:
    published(policy, ann, changed(document_of(policy), {"is_sticky": True}), "stays")
    published(policy, ann, changed(document_of(policy), {"max_latency_ms": 900, "is_sticky": True}), "quick")
    policy.refresh_from_db()
    lines = version_lines(policy)
    assert [(one.version.number, one.version.note, one.is_current, one.is_first) for one in lines] == [
        (3, "quick", True, False),
        (2, "stays", False, False),
        (1, "As it was found", False, True),
    ]
    assert [[str(change) for change in one.changes] for one in lines] == [
        ["latency ceiling: none → 900 ms"],
        ["keeps a conversation where it is: no → yes"],
        [],
    ]


def test_of_many_versions_the_last_that_is_shown_is_compared_too(policy: RoutingPolicy, ann: User) -> None:
    version_ensure(policy=policy)
    for latency in (100, 200, 300):
        RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=latency)
        version_ensure(policy=policy)
    lines = version_lines(policy, limit=2)
    assert [(one.version.number, len(one.changes), one.is_first) for one in lines] == [(4, 1, False), (3, 1, False)]


def test_a_version_that_cannot_be_read_does_not_hide_the_others(
    policy: RoutingPolicy, ann: User, admin_client: Client
) -> None:
    published(policy, ann, changed(document_of(policy), {"is_sticky": True}))
    policy.versions.filter(number=1).update(document={"strategy": 7})
    policy.refresh_from_db()
    assert [(one.version.number, one.changes) for one in version_lines(policy)] == [(2, []), (1, [])]
    assert admin_client.get(change_url(policy)).status_code == 200
    with pytest.raises(ValidationError, match="everyday v1 cannot be read"):
        version_rollback(policy=policy, number=1, by=ann)


def test_rules_that_do_not_compile_anywhere_are_a_complaint_and_no_error(policy: RoutingPolicy) -> None:
    RoutingPolicyFactory.create(name="odd", required_capabilities=["telepathy"])
    [complaint] = policy_complaints(policy, document_of(policy), now=NOON)
    assert "telepathy" in complaint.text


def test_rules_with_every_unusual_field_can_be_put_into_force(policy: RoutingPolicy) -> None:
    assert policy_complaints(policy, changed(document_of(policy), UNUSUAL), now=NOON) == []


# --- the policies of a new installation -----------------------------------------------------------------------------


def test_the_first_edit_of_a_starter_policy_is_version_2_and_what_was_there_is_version_1(admin_client: Client) -> None:
    starter_ensure()
    policy = RoutingPolicy.objects.get(name=DEFAULT)
    for position, name in enumerate(("fast", "smart")):
        policy.candidates.create(alias=alias(name), position=position)
    before = document_of(policy)
    assert (policy.version, policy.versions.count()) == (0, 0)

    answer = submit(admin_client, change_url(policy), strategy="round_robin", max_latency_ms="900")

    assert answer.status_code == 302, errors_of(answer)
    policy.refresh_from_db()
    assert policy.version == 2
    [first, second] = policy.versions.order_by("number")
    assert (first.number, first.note, first.author) == (1, "As it was found", None)
    assert document_at(policy, 1) == before
    assert (second.number, second.note, second.author.username) == (2, "Edited on its page", "admin")
    assert document_at(policy, 2) == changed(before, {"strategy": "round_robin", "max_latency_ms": 900})


def test_a_description_is_no_rule_and_makes_no_second_version(admin_client: Client) -> None:
    starter_ensure()
    policy = RoutingPolicy.objects.get(name=DEFAULT)
    policy.candidates.create(alias=alias("fast"))
    submit(admin_client, change_url(policy), description="for all")
    policy.refresh_from_db()
    assert (policy.description, policy.version, policy.versions.get().note) == ("for all", 1, "As it was found")


def test_a_policy_is_added_as_version_1_with_who_made_it(admin_client: Client) -> None:
    fast = alias("fast")
    rows = {"candidates__TOTAL_FORMS": "1", "candidates__0__alias": fast.pk, "candidates__0__group": "preferred"}
    add = "/admin/routing/routingpolicy/add/"
    answer = submit(admin_client, add, name="new", is_active="on", candidates__0__position="0", **rows)
    assert answer.status_code == 302, errors_of(answer)
    policy = RoutingPolicy.objects.get()
    version = policy.versions.get()
    assert (policy.version, version.number, version.note, version.author.username) == (1, 1, "Created", "admin")
    assert document_at(policy, 1).candidates == (CandidateDocument("fast"),)


def test_an_edit_stops_a_rollout_and_says_why(policy: RoutingPolicy, ann: User, admin_client: Client) -> None:
    draft = draft_publish(draft=approved(policy, ann, ann), stages=[5, 100])
    submit(admin_client, change_url(policy), max_latency_ms="900")
    draft.refresh_from_db()
    assert (draft.state, draft.closed_note) == ("approved", "Rollout stopped: version 3 was published")


def test_a_switch_stops_no_rollout(policy: RoutingPolicy, ann: User, admin_client: Client) -> None:
    draft = draft_publish(draft=approved(policy, ann, ann), stages=[5, 100])
    submit(admin_client, change_url(policy), description="for all")
    draft.refresh_from_db()
    assert (draft.state, draft.percent) == ("rolling_out", 5)


def test_steps_of_a_ladder_that_do_not_rise_are_refused_whoever_writes_them(policy: RoutingPolicy, ann: User) -> None:
    wanted = changed(document_of(policy), {"ladder": LadderDocument(cap_at=90, refuse_at=80)})
    draft = draft_create(policy=policy, by=ann, title="down", document=wanted)
    with pytest.raises(ValidationError, match="90 %, 80 %"):
        draft_submit(draft=draft, by=ann)


def test_a_draft_of_an_older_version_says_what_that_said(policy: RoutingPolicy, ann: User) -> None:
    published(policy, ann, changed(document_of(policy), UNUSUAL))
    draft = draft_create(policy=policy, by=ann, title="back", version=1)
    assert same_rules(document_of(draft), document_at(policy, 1))
    assert draft.base_version == 2


def test_a_draft_that_is_not_the_policys_own_rules_may_say_anything(policy: RoutingPolicy, ann: User) -> None:
    other: Any = drafted(RoutingPolicyFactory.create(name="other", preferred=[alias("deep")]), ann)
    draft = draft_create(policy=policy, by=ann, title="theirs", document=document_of(other))
    assert [one.alias for one in document_of(draft).candidates] == ["deep"]
    assert draft.policy == policy
