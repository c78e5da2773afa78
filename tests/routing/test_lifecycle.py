"""How the rules of a policy change: drafts, versions, rollbacks, with and without a second pair of eyes."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from routing.domain.compile import compile_snapshot
from routing.models import DraftState, ModelAlias, PolicyDraft, RoutingPolicy
from routing.selectors import config_revision, config_rows
from routing.services.lifecycle import (
    draft_approve,
    draft_create,
    draft_rebase,
    draft_reject,
    draft_reopen,
    draft_submit,
    draft_withdraw,
    is_editable_by,
)
from routing.services.policy_rules import document_at, document_of, version_ensure
from routing.services.rollouts import (
    draft_abort,
    draft_advance,
    draft_publish,
    draft_schedule,
    policies_advance,
    policy_edited,
    version_rollback,
)
from tests.factories import (
    NOON,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    PriceFactory,
    RoutingPolicyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


@pytest.fixture
def ann() -> User:
    user: User = UserFactory(username="ann")
    return user


@pytest.fixture
def ben() -> User:
    user: User = UserFactory(username="ben")
    return user


def alias(name: str) -> ModelAlias:
    """With a deployment that has a price."""
    deployment = DeploymentFactory()
    PriceFactory(model=deployment.model)
    made: ModelAlias = ModelAliasFactory(name=name, deployments=[deployment])
    return made


@pytest.fixture
def policy() -> RoutingPolicy:
    """`everyday`, the default: tries fast, then smart."""
    made: RoutingPolicy = RoutingPolicyFactory(
        name="everyday", preferred=[alias("fast"), alias("smart")], is_default=True
    )
    return made


def proposed(policy: RoutingPolicy, by: User, **rules: Any) -> PolicyDraft:
    """A draft that says something else; by default another order of models."""
    draft = draft_create(policy=policy, by=by, title="another order")
    for name, value in (rules or {"strategy": "round_robin"}).items():
        setattr(draft, name, value)
    draft.save()
    return draft


def approved(policy: RoutingPolicy, author: User, reviewer: User, **rules: Any) -> PolicyDraft:
    draft = draft_submit(draft=proposed(policy, author, **rules), by=author)
    return draft_approve(draft=draft, by=reviewer)


def in_force(policy: RoutingPolicy) -> Any:
    """The policy as gateways have it."""
    return compile_snapshot(config_rows(now=NOON), now=NOON).policies[policy.name]


def strategy_of(policy: RoutingPolicy) -> tuple[str, int]:
    compiled = in_force(policy)
    return compiled.strategy.value, compiled.version


# --- drafts ---------------------------------------------------------------------------------------------------------


def test_a_draft_begins_as_a_copy_of_what_is_in_force(policy: RoutingPolicy, ann: User) -> None:
    policy.max_latency_ms = 900
    policy.save()
    draft = draft_create(policy=policy, by=ann, title="try it", note="because")
    assert document_of(draft) == document_of(policy)
    assert (draft.base_version, draft.state, draft.author) == (1, DraftState.DRAFT, ann)
    assert policy.versions.get().note == "As it was found"


def test_a_draft_needs_a_title(policy: RoutingPolicy, ann: User) -> None:
    with pytest.raises(ValidationError, match="blank"):
        draft_create(policy=policy, by=ann, title="")


def test_author_and_approver_are_different_people(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_submit(draft=proposed(policy, ann), by=ann)
    with pytest.raises(ValidationError, match="Somebody else"):
        draft_approve(draft=draft, by=ann)
    assert draft_approve(draft=draft, by=ben).reviewer == ben


def test_a_draft_whose_author_is_gone_is_approved_by_nobody(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_submit(draft=proposed(policy, ann), by=ann)
    ann.delete()
    with pytest.raises(ValidationError, match="Somebody else"):
        draft_approve(draft=draft, by=ben)


def test_without_review_the_author_may_approve(settings: Settings, policy: RoutingPolicy, ann: User) -> None:
    settings.POLICY_REVIEW = False
    assert approved(policy, ann, ann).state == DraftState.APPROVED


def test_only_the_author_edits_submits_and_takes_back(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = proposed(policy, ann)
    assert (is_editable_by(draft, ann), is_editable_by(draft, ben)) == (True, False)
    with pytest.raises(ValidationError, match="Only its author, ann"):
        draft_submit(draft=draft, by=ben)
    draft = draft_submit(draft=draft, by=ann)
    assert not is_editable_by(draft, ann)
    with pytest.raises(ValidationError, match="Only its author"):
        draft_reopen(draft=draft, by=ben)
    assert draft_reopen(draft=draft, by=ann).state == DraftState.DRAFT


def test_what_was_approved_and_is_edited_again_needs_another_approval(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_reopen(draft=approved(policy, ann, ben), by=ann)
    assert (draft.state, draft.reviewer) == (DraftState.DRAFT, None)
    with pytest.raises(ValidationError, match="“draft” by now"):
        draft_publish(draft=draft)


def test_a_draft_that_changes_nothing_is_not_submitted(policy: RoutingPolicy, ann: User) -> None:
    with pytest.raises(ValidationError, match="changes nothing"):
        draft_submit(draft=draft_create(policy=policy, by=ann, title="nothing"), by=ann)


def test_a_rejection_says_why_and_the_author_mends_it(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_submit(draft=proposed(policy, ann), by=ann)
    with pytest.raises(ValidationError, match="Say what is wrong"):
        draft_reject(draft=draft, by=ben, note=" ")
    draft = draft_reject(draft=draft, by=ben, note="too dear")
    assert (draft.state, draft.review_note) == (DraftState.REJECTED, "too dear")
    assert is_editable_by(draft, ann)
    assert draft_reopen(draft=draft, by=ann).state == DraftState.DRAFT


def test_a_withdrawn_draft_stays_to_be_read(policy: RoutingPolicy, ann: User) -> None:
    draft = draft_withdraw(draft=proposed(policy, ann), by=ann)
    assert (draft.state, draft.closed_note) == (DraftState.WITHDRAWN, "Withdrawn by ann")
    with pytest.raises(ValidationError, match="“withdrawn” by now"):
        draft_submit(draft=draft, by=ann)


def test_what_cannot_be_published_is_not_even_submitted(policy: RoutingPolicy, ann: User) -> None:
    PersonaFactory(slug="seer", policy=policy, required_capabilities=["vision"])
    with pytest.raises(ValidationError, match="leaves the persona “seer” without any model"):
        draft_submit(draft=proposed(policy, ann), by=ann)
    assert PolicyDraft.objects.get().state == DraftState.DRAFT


# --- publishing -----------------------------------------------------------------------------------------------------


def test_publishing_puts_all_rules_and_models_into_force(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = proposed(policy, ann, strategy="weighted", max_cost_per_request="0.020000", regions=[])
    draft.candidates.filter(alias__name="smart").update(group="fallback", position=0)
    draft.candidates.create(alias=alias("deep"), position=5, weight=7)
    wanted = document_of(PolicyDraft.objects.get(pk=draft.pk))
    draft = draft_approve(draft=draft_submit(draft=draft, by=ann), by=ben)
    revision = config_revision()
    published = draft_publish(draft=draft)
    policy.refresh_from_db()
    assert document_of(policy) == wanted
    assert (published.state, published.version, policy.version) == (DraftState.PUBLISHED, 2, 2)
    assert [one.alias.name for one in in_force(policy).candidates] == ["fast", "deep", "smart"]
    assert config_revision() > revision


def test_a_version_keeps_who_proposed_and_who_approved(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben))
    version = policy.versions.get(number=2)
    assert (version.author, version.approver, version.draft, version.note) == (ann, ben, draft, "another order")
    assert document_at(policy, 2) == document_of(draft)


def test_a_draft_is_published_once(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = approved(policy, ann, ben)
    draft_publish(draft=draft)
    with pytest.raises(ValidationError, match="“published” by now"):
        draft_publish(draft=draft)
    assert policy.versions.count() == 2


def test_other_drafts_are_stale_from_then_on(policy: RoutingPolicy, ann: User, ben: User) -> None:
    other = approved(policy, ann, ben, strategy="least_busy")
    draft_publish(draft=approved(policy, ann, ben))
    with pytest.raises(ValidationError, match="version 2 is in force"):
        draft_publish(draft=other)


def test_a_stale_draft_is_rebased_and_reviewed_again(policy: RoutingPolicy, ann: User, ben: User) -> None:
    other = approved(policy, ann, ben, max_latency_ms=5000)
    draft_publish(draft=approved(policy, ann, ben))
    other = draft_rebase(draft=other, by=ann)
    assert (other.state, other.base_version) == (DraftState.DRAFT, 2)
    draft_publish(draft=draft_approve(draft=draft_submit(draft=other, by=ann), by=ben))
    assert (in_force(policy).strategy.value, in_force(policy).max_latency_ms) == ("round_robin", 5000)


def test_a_rebase_that_collides_names_the_fields(policy: RoutingPolicy, ann: User, ben: User) -> None:
    other = proposed(policy, ann, strategy="least_busy", is_sticky=True)
    draft_publish(draft=approved(policy, ann, ben))
    with pytest.raises(ValidationError, match="both changed: order"):
        draft_rebase(draft=other, by=ann)


def test_a_draft_of_what_is_in_force_needs_no_rebase(policy: RoutingPolicy, ann: User) -> None:
    with pytest.raises(ValidationError, match="nothing to do"):
        draft_rebase(draft=proposed(policy, ann), by=ann)


def test_a_model_that_is_switched_off_after_the_approval_stops_the_publication(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = approved(policy, ann, ben)
    for one in ModelAlias.objects.all():
        one.is_active = False
        one.save()
    with pytest.raises(ValidationError, match="None of its models has an active deployment"):
        draft_publish(draft=draft)
    assert policy.versions.count() == 1


# --- stages ---------------------------------------------------------------------------------------------------------


def test_a_rollout_grows_stage_by_stage_and_ends_in_force(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 50, 100], stage_minutes=10, now=NOON)
    assert (draft.state, draft.percent, draft.version) == (DraftState.ROLLING_OUT, 5, 2)
    [variant] = in_force(policy).variants
    assert (variant.kind, variant.percent, variant.policy.version, variant.policy.strategy) == (
        "rollout",
        5,
        2,
        "round_robin",
    )
    assert strategy_of(policy) == ("priority", 1)
    assert policies_advance(now=NOON + timedelta(minutes=9)) == 0
    assert policies_advance(now=NOON + timedelta(minutes=10)) == 1
    assert in_force(policy).variants[0].percent == 50
    assert policies_advance(now=NOON + timedelta(minutes=20)) == 1
    assert strategy_of(policy) == ("round_robin", 2)
    assert in_force(policy).variants == ()
    assert policies_advance(now=NOON + timedelta(hours=9)) == 0


def test_a_late_worker_takes_one_stage_at_a_time(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben), stages=[5, 25, 100], stage_minutes=10, now=NOON)
    late = NOON + timedelta(days=1)
    assert (policies_advance(now=late), policies_advance(now=late)) == (1, 0)
    assert in_force(policy).variants[0].percent == 25


def test_a_person_goes_on_before_the_stage_is_over(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 25, 100], now=NOON)
    assert draft_advance(draft=draft, at_stage=5).percent == 25
    assert draft_advance(draft=draft, at_stage=5).percent == 25  # who pressed it at the same moment
    assert draft_advance(draft=draft).state == DraftState.PUBLISHED


def test_an_aborted_rollout_leaves_what_is_in_force_and_its_number_is_not_given_again(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    draft = draft_abort(draft=draft, note="errors")
    assert (draft.state, draft.percent, draft.closed_note) == (DraftState.APPROVED, 0, "errors")
    assert in_force(policy).variants == ()
    assert draft_publish(draft=draft, stages=[100]).version == 3
    assert strategy_of(policy) == ("round_robin", 3)


def test_two_rollouts_of_a_policy_do_not_run_at_once(policy: RoutingPolicy, ann: User, ben: User) -> None:
    first, second = approved(policy, ann, ben), approved(policy, ann, ben, strategy="least_busy")
    draft_publish(draft=first, stages=[5, 100])
    with pytest.raises(ValidationError, match="is being rolled out"):
        draft_publish(draft=second, stages=[5, 100])


def test_a_rollout_stops_when_something_else_is_published(policy: RoutingPolicy, ann: User, ben: User) -> None:
    first, second = approved(policy, ann, ben), approved(policy, ann, ben, strategy="least_busy")
    draft_publish(draft=first, stages=[5, 100])
    draft_publish(draft=second)
    first.refresh_from_db()
    assert (first.state, first.percent) == (DraftState.APPROVED, 0)
    assert first.closed_note == "Rollout stopped: version 3 was published"
    assert strategy_of(policy) == ("least_busy", 3)


def test_a_rollout_that_can_not_go_on_stops_with_the_reason(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100], stage_minutes=1, now=NOON)
    policy.refresh_from_db()
    policy.max_latency_ms = 700  # somebody at the database's own prompt
    policy.save()
    assert policies_advance(now=NOON + timedelta(minutes=1)) == 1
    draft.refresh_from_db()
    assert draft.state == DraftState.APPROVED
    assert "Rebase it" in draft.closed_note


@pytest.mark.parametrize("stages", [[], [50], [50, 25, 100], [0, 100], [5, 5, 100], ["5", 100], [5, 101]])
def test_stages_rise_to_a_hundred(policy: RoutingPolicy, ann: User, ben: User, stages: list[Any]) -> None:
    with pytest.raises(ValidationError, match="rising percentages"):
        draft_publish(draft=approved(policy, ann, ben), stages=stages)


# --- appointed times ------------------------------------------------------------------------------------------------


def test_a_draft_goes_into_force_at_its_time(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_schedule(draft=approved(policy, ann, ben), at=NOON + timedelta(hours=1), now=NOON)
    assert policies_advance(now=NOON + timedelta(minutes=59)) == 0
    assert policies_advance(now=NOON + timedelta(hours=1)) == 1
    draft.refresh_from_db()
    assert (draft.state, draft.publish_at) == (DraftState.PUBLISHED, None)
    assert strategy_of(policy) == ("round_robin", 2)


def test_a_time_that_has_passed_is_refused(policy: RoutingPolicy, ann: User, ben: User) -> None:
    with pytest.raises(ValidationError, match="has passed"):
        draft_schedule(draft=approved(policy, ann, ben), at=NOON, now=NOON)


def test_what_is_due_and_not_approved_waits(policy: RoutingPolicy, ann: User) -> None:
    draft = proposed(policy, ann, strategy="weighted", publish_at=NOON)
    draft_submit(draft=draft, by=ann)
    assert policies_advance(now=NOON + timedelta(hours=1)) == 0


def test_what_is_due_and_stale_is_not_tried_again(policy: RoutingPolicy, ann: User, ben: User) -> None:
    due = draft_schedule(draft=approved(policy, ann, ben), at=NOON + timedelta(hours=1), now=NOON)
    draft_publish(draft=approved(policy, ann, ben, strategy="least_busy"))
    later = NOON + timedelta(hours=2)
    assert (policies_advance(now=later), policies_advance(now=later)) == (1, 0)
    due.refresh_from_db()
    assert due.state == DraftState.APPROVED
    assert due.closed_note.startswith("Not published as scheduled: It was made from version 1")


# --- versions -------------------------------------------------------------------------------------------------------


def test_a_rollback_is_a_new_version_that_says_the_same(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben, strategy="weighted", max_latency_ms=1200))
    version = version_rollback(policy=policy, number=1, by=ann)
    assert (version.number, version.note, version.author) == (3, "Back to version 1", ann)
    assert document_at(policy, 3) == document_at(policy, 1)
    assert strategy_of(policy) == ("priority", 3)


def test_a_rollback_stops_a_rollout(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben))
    running = draft_publish(draft=approved(policy, ann, ben, strategy="least_busy"), stages=[5, 100])
    version_rollback(policy=policy, number=1, by=ben)
    running.refresh_from_db()
    assert running.state == DraftState.APPROVED
    assert in_force(policy).variants == ()


def test_a_rollback_to_what_is_gone_or_in_force_is_refused_in_words(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = proposed(policy, ann)
    draft.candidates.filter(alias__name="smart").delete()
    draft_publish(draft=draft_approve(draft=draft_submit(draft=draft, by=ann), by=ben))
    with pytest.raises(ValidationError, match="Version 2 is in force"):
        version_rollback(policy=policy, number=2, by=ben)
    with pytest.raises(ValidationError, match="no version 9"):
        version_rollback(policy=policy, number=9, by=ben)
    ModelAlias.objects.get(name="smart").delete()
    with pytest.raises(ValidationError, match="no model alias smart any more"):
        version_rollback(policy=policy, number=1, by=ben)


def test_a_draft_may_begin_with_what_an_older_version_said(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben))
    back = draft_create(policy=policy, by=ann, title="back", version=1)
    assert (back.strategy, back.base_version) == ("priority", 2)


def test_an_edit_is_recorded_once_with_who_made_it(settings: Settings, policy: RoutingPolicy, ann: User) -> None:
    settings.POLICY_REVIEW = False
    version_ensure(policy=policy)
    policy.strategy = "least_busy"
    policy.save(update_fields=["strategy"])
    assert policy_edited(policy=policy, by=ann).number == 2
    assert policy_edited(policy=policy, by=ann).number == 2
    version = policy.versions.get(number=2)
    assert (version.author, version.approver, version.note) == (ann, ann, "Edited on its page")
    assert in_force(policy).version == 2


def test_an_edit_that_nobody_recorded_is_found_before_the_next_change(policy: RoutingPolicy, ann: User) -> None:
    version_ensure(policy=policy)
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=300)
    draft = draft_create(policy=policy, by=ann, title="next")
    assert (draft.base_version, draft.max_latency_ms) == (2, 300)
    assert policy.versions.get(number=2).note == "Changed outside of drafts"


def test_a_version_that_cannot_be_read_says_so(policy: RoutingPolicy, ann: User) -> None:
    version_ensure(policy=policy)
    policy.versions.update(document={"candidates": 7})
    with pytest.raises(ValidationError, match="cannot be read"):
        draft_create(policy=policy, by=ann, title="next", version=1)


def test_history_says_what_a_publication_changed(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben, max_latency_ms=800), now=timezone.now())
    latest = policy.history.first()
    assert (latest.max_latency_ms, latest.history_type) == (800, "~")
    unchanged = policy.candidates.get(alias__name="fast")
    assert unchanged.history.count() == 1
