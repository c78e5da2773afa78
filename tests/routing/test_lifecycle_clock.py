"""What happens by the clock: appointed times, stages, and workers that come late, twice, or to something broken."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from routing.models import DraftState, PolicyDraft, RoutingPolicy
from routing.selectors import config_revision, config_rows
from routing.services.lifecycle import draft_reject, draft_reopen, draft_submit, draft_withdraw
from routing.services.policy_rules import version_ensure
from routing.services.rollouts import (
    draft_abort,
    draft_advance,
    draft_publish,
    draft_schedule,
    policies_advance,
    version_rollback,
)
from routing.tasks import advance_policies
from tests.factories import NOON, RoutingPolicyFactory, UserFactory
from tests.routing.lifecycles import alias, approved, drafted, everyday

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


@pytest.fixture
def ann() -> User:
    user: User = UserFactory.create(username="ann")
    return user


@pytest.fixture
def ben() -> User:
    user: User = UserFactory.create(username="ben")
    return user


@pytest.fixture
def policy() -> RoutingPolicy:
    return everyday()


def scheduled(policy: RoutingPolicy, ann: User, ben: User, **rules: Any) -> PolicyDraft:
    """Approved, to be published an hour after noon."""
    return draft_schedule(draft=approved(policy, ann, ben, **rules), at=NOON + HOUR, now=NOON)


def now_of(draft: PolicyDraft) -> tuple[str, int, str]:
    draft.refresh_from_db()
    return draft.state, draft.percent, draft.closed_note


# --- appointed times ------------------------------------------------------------------------------------------------


def test_a_draft_may_be_scheduled_before_it_is_approved_and_is_published_once_it_is(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_schedule(draft=drafted(policy, ann), at=NOON + HOUR, now=NOON)
    draft_submit(draft=draft, by=ann)
    assert policies_advance(now=NOON + HOUR) == 0
    PolicyDraft.objects.update(state=DraftState.APPROVED, reviewer=ben)
    assert policies_advance(now=NOON + HOUR) == 1
    assert now_of(draft) == ("published", 100, "")


def test_an_appointed_time_can_be_moved_and_taken_back(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = scheduled(policy, ann, ben)
    draft_schedule(draft=draft, at=NOON + 2 * HOUR, now=NOON)
    assert policies_advance(now=NOON + HOUR) == 0
    draft_schedule(draft=draft, at=None, now=NOON)
    assert policies_advance(now=NOON + 9 * HOUR) == 0
    assert now_of(draft) == ("approved", 0, "")


def test_a_draft_with_stages_begins_with_its_first_at_its_time(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = scheduled(policy, ann, ben, stages=[10, 40, 100], stage_minutes=5)
    assert policies_advance(now=NOON + HOUR) == 1
    assert now_of(draft)[:2] == ("rolling_out", 10)
    assert (draft.publish_at, draft.stage_since) == (None, NOON + HOUR)
    assert policies_advance(now=NOON + HOUR + 5 * MINUTE) == 1
    assert now_of(draft)[:2] == ("rolling_out", 40)
    assert policies_advance(now=NOON + HOUR + 10 * MINUTE) == 1
    assert now_of(draft)[:2] == ("published", 100)


@pytest.mark.parametrize("moved", [draft_reopen, draft_withdraw])
def test_what_is_taken_back_before_its_time_is_not_published(
    policy: RoutingPolicy, ann: User, ben: User, moved: Any
) -> None:
    draft = moved(draft=scheduled(policy, ann, ben), by=ann)
    assert policies_advance(now=NOON + HOUR) == 0
    assert PolicyDraft.objects.get().state == draft.state
    policy.refresh_from_db()
    assert policy.version == 1


def test_what_is_rejected_before_its_time_is_not_published(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_reject(draft=scheduled(policy, ann, ben), by=ben, note="not yet")
    assert policies_advance(now=NOON + HOUR) == 0
    assert now_of(draft)[0] == "rejected"


def test_what_was_published_by_hand_is_not_published_again_at_its_time(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_publish(draft=scheduled(policy, ann, ben))
    assert draft.publish_at is None
    assert policies_advance(now=NOON + HOUR) == 0
    assert policy.versions.count() == 2


def test_what_was_aborted_is_not_begun_again_by_its_old_appointment(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = scheduled(policy, ann, ben, stages=[10, 100])
    policies_advance(now=NOON + HOUR)
    draft_abort(draft=draft, note="errors")
    assert policies_advance(now=NOON + 9 * HOUR) == 0
    assert now_of(draft) == ("approved", 0, "errors")


def test_of_two_that_are_due_at_once_the_second_says_why_it_was_not(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    one, other = scheduled(policy, ann, ben), scheduled(policy, ann, ben, strategy="least_busy")
    assert policies_advance(now=NOON + HOUR) == 2
    states = {now_of(draft)[0]: draft for draft in (one, other)}
    assert set(states) == {"published", "approved"}
    waiting = states["approved"]
    assert "version 2 is in force. Rebase it." in waiting.closed_note
    assert waiting.publish_at is None
    assert policies_advance(now=NOON + 2 * HOUR) == 0


def test_a_rollout_that_is_due_beside_another_waits_for_somebody(policy: RoutingPolicy, ann: User, ben: User) -> None:
    due = scheduled(policy, ann, ben, stages=[10, 100])
    running = approved(policy, ann, ben, strategy="least_busy")
    draft_publish(draft=running, stages=[5, 100], stage_minutes=600, now=NOON)
    assert policies_advance(now=NOON + HOUR) == 1
    assert "“take turns” is being rolled out. Abort that first" in now_of(due)[2]
    assert now_of(running)[:2] == ("rolling_out", 5)


def test_a_draft_that_makes_no_sense_any_more_is_not_published_and_says_all_that_is_wrong(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = scheduled(policy, ann, ben, regions=["eu"], strategy="lowest_cost", quality_floor=0.2)
    PolicyDraft.objects.update(quality_floor=1.0, regions=["mars"])
    assert policies_advance(now=NOON + HOUR) == 1
    state, _, note = now_of(draft)
    assert state == "approved"
    assert note.startswith("Not published as scheduled: No active provider is in the region “mars”.")
    assert "No model reaches the quality floor of 1" in note


def test_a_note_of_what_went_wrong_is_gone_once_it_is_published(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = scheduled(policy, ann, ben)
    PolicyDraft.objects.update(regions=["mars"])
    policies_advance(now=NOON + HOUR)
    PolicyDraft.objects.update(regions=[])
    draft_publish(draft=draft)
    assert now_of(draft) == ("published", 100, "")


def test_one_that_cannot_be_published_keeps_no_other_back(policy: RoutingPolicy, ann: User, ben: User) -> None:
    broken = scheduled(policy, ann, ben)
    other_policy = RoutingPolicyFactory.create(name="other", preferred=[alias("deep"), alias("cheap")])
    fine = scheduled(other_policy, ann, ben)
    PolicyDraft.objects.filter(pk=broken.pk).update(regions=["mars"])
    assert policies_advance(now=NOON + HOUR) == 2
    assert (now_of(broken)[0], now_of(fine)[0]) == ("approved", "published")


def test_a_time_is_refused_for_what_is_on_its_way_or_closed(policy: RoutingPolicy, ann: User, ben: User) -> None:
    running = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    with pytest.raises(ValidationError, match="can be scheduled"):
        draft_schedule(draft=running, at=NOON + HOUR, now=NOON)


# --- stages ---------------------------------------------------------------------------------------------------------


def test_each_stage_lasts_its_minutes_from_when_it_began(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 25, 100], stage_minutes=10, now=NOON)
    late = NOON + 25 * MINUTE
    assert policies_advance(now=late) == 1
    assert (now_of(draft)[1], draft.stage_since) == (25, late)
    assert policies_advance(now=late + 9 * MINUTE) == 0
    assert policies_advance(now=late + 10 * MINUTE) == 1
    assert now_of(draft)[0] == "published"


def test_a_stage_that_somebody_began_by_hand_lasts_as_long_as_the_others(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 25, 100], stage_minutes=10, now=NOON)
    draft_advance(draft=draft, now=NOON + 8 * MINUTE)
    assert policies_advance(now=NOON + 10 * MINUTE) == 0
    assert policies_advance(now=NOON + 18 * MINUTE) == 1
    assert now_of(draft)[0] == "published"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stages=st.sets(st.integers(1, 99), min_size=1, max_size=4), minutes=st.integers(1, 600))
def test_any_stages_are_taken_one_by_one_and_end_in_force(db: None, stages: set[int], minutes: int) -> None:
    for model in (PolicyDraft, RoutingPolicy):
        model.objects.all().delete()
    policy = RoutingPolicyFactory.create(preferred=[alias(f"m{model}-{timezone.now().timestamp()}") for model in "ab"])
    by = UserFactory.create()
    shares = [*sorted(stages), 100]
    draft = draft_publish(
        draft=approved(policy, by, UserFactory.create()), stages=shares, stage_minutes=minutes, now=NOON
    )
    seen, at, seed = [draft.percent], NOON, draft.seed
    while draft.state == DraftState.ROLLING_OUT:
        assert policies_advance(now=at + minutes * MINUTE - timedelta(seconds=1)) == 0
        at += minutes * MINUTE
        assert policies_advance(now=at) == 1
        draft.refresh_from_db()
        seen.append(draft.percent)
    assert (seen, draft.seed) == (shares, seed)  # who is in stays in: the seed is the same at every stage
    policy.refresh_from_db()
    assert (policy.version, draft.version) == (2, 2)


def test_a_rollout_begins_with_a_seed_of_its_own_each_time(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    first = draft.seed
    again = draft_publish(draft=draft_abort(draft=draft, note="errors"), stages=[5, 100])
    assert len(first) == 16
    assert again.seed != first


def test_the_stages_of_a_draft_are_its_own_unless_others_are_named(policy: RoutingPolicy, ann: User, ben: User) -> None:
    own = draft_publish(draft=approved(policy, ann, ben, stages=[7, 100], stage_minutes=3))
    assert (own.percent, own.stage_minutes) == (7, 3)
    draft_abort(draft=own, note="")
    named = draft_publish(draft=own, stages=[9, 100], stage_minutes=4)
    named.refresh_from_db()
    assert (named.percent, named.stages, named.stage_minutes) == (9, [9, 100], 4)


def test_gateways_are_told_of_each_stage_and_of_the_end(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = approved(policy, ann, ben)
    revisions = [config_revision()]
    for act in (
        lambda: draft_publish(draft=draft, stages=[5, 25, 100]),
        lambda: draft_advance(draft=draft),
        lambda: draft_abort(draft=draft, note="errors"),
        lambda: draft_publish(draft=draft, stages=[100]),
        lambda: version_rollback(policy=policy, number=1, by=ben),
    ):
        act()
        revisions.append(config_revision())
    assert revisions == sorted(set(revisions))


def test_what_a_rollout_changes_is_what_its_share_of_the_requests_follows(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft_publish(draft=approved(policy, ann, ben, max_latency_ms=900), stages=[5, 100])
    [row] = config_rows(now=NOON).policies
    [variant] = row.variants
    assert (variant.kind, variant.arm, variant.control, variant.percent, variant.unit) == (
        "rollout",
        "v2",
        "",
        5,
        "conversation",
    )
    assert (variant.version, variant.document.max_latency_ms, row.document.max_latency_ms) == (2, 900, None)


def test_a_stale_rollout_is_stopped_at_once_and_not_at_the_end_of_its_stage(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100], stage_minutes=600, now=NOON)
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=700)
    version_ensure(policy=policy)
    assert policies_advance(now=NOON + MINUTE) == 1
    state, percent, note = now_of(draft)
    assert (state, percent) == ("approved", 0)
    assert note == "It was made from version 1, and version 3 is in force. Rebase it."


def test_a_rollout_whose_models_are_switched_off_stops_with_the_reason(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100], stage_minutes=1, now=NOON)
    for row in policy.candidates.select_related("alias"):
        row.alias.is_active = False
        row.alias.save()
    assert policies_advance(now=NOON + MINUTE) == 1
    assert now_of(draft)[2].startswith("None of its models has an active deployment")


def test_a_person_who_goes_on_is_told_why_it_can_not(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=700)
    with pytest.raises(ValidationError, match="version 3 is in force"):
        draft_advance(draft=draft)
    assert now_of(draft)[:2] == ("rolling_out", 5)


def test_the_task_looks_at_the_clock_of_the_moment(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_schedule(
        draft=approved(policy, ann, ben), at=timezone.now() + timedelta(milliseconds=1), now=NOON - HOUR
    )
    PolicyDraft.objects.update(publish_at=timezone.now() - MINUTE)
    assert advance_policies() == 1
    assert now_of(draft)[0] == "published"
    assert advance_policies() == 0
