"""Every move with a draft, from every state, by everybody, and with an experiment that tries it."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from routing.models import DraftState, Experiment, ModelAlias, PolicyDraft, RoutingPolicy
from routing.selectors import config_rows
from routing.services.experiments import experiment_promote, experiment_start, experiment_stop
from routing.services.lifecycle import (
    draft_approve,
    draft_create,
    draft_rebase,
    draft_reject,
    draft_reopen,
    draft_submit,
    draft_withdraw,
    is_editable_by,
    is_stale,
)
from routing.services.policy_rules import document_at, document_of
from routing.services.rollouts import (
    draft_abort,
    draft_advance,
    draft_publish,
    draft_schedule,
    policies_advance,
    version_rollback,
)
from tests.factories import NOON, UserFactory
from tests.routing.lifecycles import alias, approved, draft_in, drafted, everyday
from tests.routing.trials import started

pytestmark = pytest.mark.django_db

Move = Callable[[PolicyDraft, User, User], Any]  # (draft, its author, somebody else)
LATER = timezone.now() + timedelta(days=1)
MOVES: dict[str, Move] = {
    "submitted": lambda draft, author, _: draft_submit(draft=draft, by=author),
    "approved": lambda draft, _, other: draft_approve(draft=draft, by=other),
    "rejected": lambda draft, _, other: draft_reject(draft=draft, by=other, note="no"),
    "edited again": lambda draft, author, _: draft_reopen(draft=draft, by=author),
    "withdrawn": lambda draft, author, _: draft_withdraw(draft=draft, by=author),
    "rebased": lambda draft, author, _: draft_rebase(draft=draft, by=author),
    "published": lambda draft, *_: draft_publish(draft=draft),
    "advanced": lambda draft, *_: draft_advance(draft=draft),
    "aborted": lambda draft, *_: draft_abort(draft=draft, note="errors"),
    "scheduled": lambda draft, *_: draft_schedule(draft=draft, at=LATER, now=timezone.now()),
}
ALLOWED = {
    DraftState.DRAFT: {"submitted", "withdrawn", "scheduled"},
    DraftState.REVIEW: {"approved", "rejected", "edited again", "withdrawn", "scheduled"},
    DraftState.APPROVED: {"published", "rejected", "edited again", "withdrawn", "scheduled"},
    DraftState.ROLLING_OUT: {"advanced", "aborted"},
    DraftState.PUBLISHED: set[str](),
    DraftState.REJECTED: {"edited again", "withdrawn"},
    DraftState.WITHDRAWN: set[str](),
}
STATES = list(DraftState)


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


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(ValidationError) as refused:
        act()
    return " ".join(refused.value.messages)


def state_of(draft: PolicyDraft) -> str:
    return PolicyDraft.objects.get(pk=draft.pk).state


# --- every move from every state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_a_state_allows_its_moves_and_names_itself_when_it_refuses_the_others(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState
) -> None:
    draft = draft_in(state, policy, ann, ben)
    for name in MOVES.keys() - ALLOWED[state] - {"rebased"}:
        said = refusal(partial(MOVES[name], draft, ann, ben))
        assert said.startswith(f"It is “{state.label.lower()}” by now: only what is “"), (name, said)
        assert said.endswith(f"” can be {name}.")
        assert state_of(draft) == state


@pytest.mark.parametrize("state", [state for state in STATES if ALLOWED[state]])
def test_what_a_state_allows_is_done_from_there(policy: RoutingPolicy, ann: User, ben: User, state: DraftState) -> None:
    for number, name in enumerate(sorted(ALLOWED[state])):
        draft = draft_in(state, policy, ann, ben, max_latency_ms=1_000 + number)
        moved = MOVES[name](draft, ann, ben)
        assert state_of(draft) == moved.state
        policy.drafts.filter(state=DraftState.ROLLING_OUT).update(state=DraftState.WITHDRAWN)
        policy.refresh_from_db()


@pytest.mark.parametrize("state", STATES)
def test_what_is_open_and_stale_is_rebased_and_has_to_be_reviewed_again(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState
) -> None:
    draft = draft_in(state, policy, ann, ben, max_latency_ms=900)
    closed = {DraftState.ROLLING_OUT, DraftState.PUBLISHED, DraftState.WITHDRAWN}
    if state in closed:
        assert f"It is “{state.label.lower()}” by now" in refusal(lambda: draft_rebase(draft=draft, by=ann))
        return
    draft_publish(draft=approved(policy, ann, ben))
    moved = draft_rebase(draft=draft, by=ann)
    assert (moved.state, moved.base_version, moved.reviewer, moved.reviewed_at) == (DraftState.DRAFT, 2, None, None)
    assert (moved.strategy, moved.max_latency_ms) == ("round_robin", 900)


def test_a_state_that_every_refusal_leaves_is_the_one_before(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.APPROVED, policy, ann, ben)
    before = PolicyDraft.objects.filter(pk=draft.pk).values().get()
    for act in (
        lambda: draft_reject(draft=draft, by=ben, note="  "),
        lambda: draft_reopen(draft=draft, by=ben),
        lambda: draft_publish(draft=draft, stages=[50, 5]),
        lambda: draft_schedule(draft=draft, at=NOON, now=NOON),
    ):
        refusal(act)
    assert PolicyDraft.objects.filter(pk=draft.pk).values().get() == before


def test_each_move_is_in_the_history(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    draft_advance(draft=draft)
    states = list(draft.history.order_by("history_id").values_list("state", flat=True))
    assert [one for one, after in zip(states, [*states[1:], ""], strict=True) if one != after] == [
        "draft",
        "review",
        "approved",
        "rolling_out",
        "published",
    ]


# --- who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "act"),
    [
        (DraftState.DRAFT, "submitted"),
        (DraftState.REVIEW, "edited again"),
        (DraftState.APPROVED, "edited again"),
        (DraftState.REJECTED, "edited again"),
        (DraftState.DRAFT, "rebased"),
    ],
)
def test_what_is_the_authors_is_refused_to_others_by_name(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState, act: str
) -> None:
    draft = draft_in(state, policy, ann, ben)
    assert refusal(lambda: MOVES[act](draft, ben, ben)).startswith("Only its author, ann, ")
    assert state_of(draft) == state


@pytest.mark.parametrize("asks_for_review", [True, False])
def test_ones_own_draft_is_approved_only_where_nobody_asks_for_a_review(
    settings: Settings, policy: RoutingPolicy, ann: User, ben: User, asks_for_review: bool
) -> None:
    settings.POLICY_REVIEW = asks_for_review
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    if asks_for_review:
        assert refusal(lambda: draft_approve(draft=draft, by=ann)) == "Somebody else than its author has to approve it."
    else:
        assert draft_approve(draft=draft, by=ann).reviewer == ann


def test_a_review_that_is_asked_for_meanwhile_holds_for_what_was_submitted_before(
    settings: Settings, policy: RoutingPolicy, ann: User, ben: User
) -> None:
    settings.POLICY_REVIEW = False
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    settings.POLICY_REVIEW = True
    assert "Somebody else" in refusal(lambda: draft_approve(draft=draft, by=ann))


def test_what_was_changed_since_the_reviewer_read_it_is_not_approved(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_submit(draft=drafted(policy, ann), by=ann, now=NOON)
    read = draft.submitted_at
    draft = draft_reopen(draft=draft, by=ann)
    draft.max_latency_ms = 9
    draft.save()
    draft_submit(draft=draft, by=ann, now=NOON + timedelta(minutes=1))
    assert "submitted again since you opened" in refusal(lambda: draft_approve(draft=draft, by=ben, seen=read))
    again = NOON + timedelta(minutes=1)
    assert draft_approve(draft=draft, by=ben, seen=again).state == DraftState.APPROVED


def test_a_draft_without_an_author_is_edited_by_nobody(policy: RoutingPolicy, ann: User) -> None:
    draft = drafted(policy, None)
    assert not is_editable_by(draft, ann)
    assert draft_withdraw(draft=draft, by=ann).closed_note == "Withdrawn by ann"


def test_a_review_that_is_over_is_forgotten_when_the_draft_is_submitted_again(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_in(DraftState.REJECTED, policy, ann, ben)
    assert (draft.reviewer, draft.review_note) == (ben, "too dear")
    again = draft_submit(draft=draft_reopen(draft=draft, by=ann), by=ann)
    assert (again.reviewer, again.reviewed_at, again.review_note) == (None, None, "")


def test_a_note_of_any_length_is_kept_as_far_as_it_fits(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_withdraw(draft=drafted(policy, ann), by=ann, note="why " * 200)
    draft.refresh_from_db()
    assert len(draft.closed_note) == 300
    rolling = draft_in(DraftState.ROLLING_OUT, policy, ann, ben)
    assert len(draft_abort(draft=rolling, note="x" * 1000).closed_note) == 300


# --- what an experiment tries ---------------------------------------------------------------------------------------


def tried(policy: RoutingPolicy, draft: PolicyDraft, **options: Any) -> Experiment:
    draft.refresh_from_db()
    return started(RoutingPolicy.objects.get(pk=policy.pk), challenger=draft, **options)


@pytest.mark.parametrize(
    ("state", "act"),
    [
        (DraftState.DRAFT, "submitted"),
        (DraftState.DRAFT, "withdrawn"),
        (DraftState.REVIEW, "rejected"),
        (DraftState.REVIEW, "edited again"),
        (DraftState.APPROVED, "edited again"),
        (DraftState.APPROVED, "rejected"),
        (DraftState.APPROVED, "published"),
    ],
)
def test_what_an_experiment_tries_stays_as_it_is_until_that_is_stopped(
    settings: Settings, policy: RoutingPolicy, ann: User, ben: User, state: DraftState, act: str
) -> None:
    settings.POLICY_REVIEW = False
    draft = draft_in(state, policy, ann, ben)
    experiment = tried(policy, draft)
    assert refusal(lambda: MOVES[act](draft, ann, ben)) == "The experiment trial tries it. Stop that first."
    assert (state_of(draft), is_editable_by(draft, ann)) == (state, False)
    experiment_stop(experiment=experiment, reason="", by=None, now=NOON)
    MOVES[act](draft, ann, ben)
    assert state_of(draft) != state


def test_what_an_experiment_tries_is_not_rebased(settings: Settings, policy: RoutingPolicy, ann: User) -> None:
    settings.POLICY_REVIEW = False
    draft = drafted(policy, ann)
    tried(policy, draft)
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=800)
    assert "The experiment trial tries it" in refusal(lambda: draft_rebase(draft=draft, by=ann))
    draft.refresh_from_db()
    assert draft.max_latency_ms is None


def test_a_rollout_does_not_begin_beside_an_experiment(policy: RoutingPolicy, ann: User, ben: User) -> None:
    other = approved(policy, ann, ben, strategy="least_busy")
    experiment = tried(policy, approved(policy, ann, ben))
    said = refusal(lambda: draft_publish(draft=other, stages=[5, 100]))
    assert said == "The experiment trial runs on this policy. Stop that first, or publish for all requests at once."
    [row] = config_rows(now=NOON).policies
    assert [one.kind for one in row.variants] == ["ab"]
    experiment_stop(experiment=experiment, reason="", by=None, now=NOON)
    assert draft_publish(draft=other, stages=[5, 100]).state == DraftState.ROLLING_OUT


def test_an_experiment_does_not_begin_beside_a_rollout(policy: RoutingPolicy, ann: User, ben: User) -> None:
    challenger = approved(policy, ann, ben, strategy="least_busy")
    draft_publish(draft=approved(policy, ann, ben), stages=[5, 100])
    experiment = Experiment.objects.create(name="trial", policy=policy, challenger=challenger)
    said = refusal(lambda: experiment_start(experiment=experiment, by=None, now=NOON))
    assert said == "A change of this policy is being rolled out. Wait for its end, or abort it."


def test_a_rollout_that_is_due_waits_for_somebody_when_an_experiment_runs(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    due = approved(policy, ann, ben, strategy="least_busy", stages=[5, 100])
    draft_schedule(draft=due, at=NOON + timedelta(hours=1), now=NOON)
    tried(policy, approved(policy, ann, ben))
    assert policies_advance(now=NOON + timedelta(hours=1)) == 1
    due.refresh_from_db()
    assert (due.state, due.publish_at) == (DraftState.APPROVED, None)
    assert due.closed_note.startswith("Not published as scheduled: The experiment trial runs on this policy.")


def test_what_a_canary_has_shown_is_published_while_it_goes_on(policy: RoutingPolicy, ann: User, ben: User) -> None:
    canary = tried(policy, approved(policy, ann, ben), kind="canary")
    draft = experiment_promote(experiment=canary, by=ann, now=NOON)
    draft = draft_approve(draft=draft_submit(draft=draft, by=ann), by=ben)
    assert draft_publish(draft=draft, stages=[100]).state == DraftState.PUBLISHED
    policy.refresh_from_db()
    assert policy.strategy == "round_robin"


# --- somebody was faster --------------------------------------------------------------------------------------------


def test_a_stale_draft_goes_nowhere_but_away(policy: RoutingPolicy, ann: User, ben: User) -> None:
    for state, act in [
        (DraftState.DRAFT, "submitted"),
        (DraftState.REVIEW, "approved"),
        (DraftState.APPROVED, "published"),
    ]:
        draft = draft_in(state, policy, ann, ben, strategy="least_busy")
        policy.refresh_from_db()
        before = policy.version
        draft_publish(draft=approved(policy, ann, ben, max_latency_ms=2_000 + before))
        draft = PolicyDraft.objects.select_related("policy").get(pk=draft.pk)
        assert is_stale(draft)
        said = refusal(partial(MOVES[act], draft, ann, ben))
        assert said == f"It was made from version {before}, and version {before + 1} is in force. Rebase it."
        assert draft_withdraw(draft=draft, by=ann).state == DraftState.WITHDRAWN


def test_a_draft_that_a_rebase_leaves_without_a_change_is_not_submitted(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    twin = drafted(policy, ann)
    draft_publish(draft=approved(policy, ann, ben))
    twin = draft_rebase(draft=twin, by=ann)
    assert "It changes nothing" in refusal(lambda: draft_submit(draft=twin, by=ann))


def test_another_order_of_regions_is_no_change(policy: RoutingPolicy, ann: User) -> None:
    RoutingPolicy.objects.filter(pk=policy.pk).update(regions=["eu", "us"])
    draft = drafted(policy, ann, regions=["us", "eu"])
    assert "It changes nothing" in refusal(lambda: draft_submit(draft=draft, by=ann))


def test_a_rebase_brings_models_that_came_meanwhile(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = drafted(policy, ann, max_latency_ms=900)
    other = drafted(policy, ben)
    other.candidates.create(alias=alias("deep"), group="fallback", weight=4)
    draft_publish(draft=draft_approve(draft=draft_submit(draft=other, by=ben), by=ann))
    rebased = document_of(draft_rebase(draft=draft, by=ann))
    assert [(one.alias, one.is_fallback, one.weight) for one in rebased.candidates] == [
        ("fast", False, 1),
        ("smart", False, 1),
        ("deep", True, 4),
    ]
    assert rebased.max_latency_ms == 900


def test_models_that_both_have_changed_collide_and_nothing_is_written(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = drafted(policy, ann, max_latency_ms=900)
    draft.candidates.filter(alias__name="fast").update(weight=5)
    other = drafted(policy, ben)
    other.candidates.filter(alias__name="smart").delete()
    draft_publish(draft=draft_approve(draft=draft_submit(draft=other, by=ben), by=ann))
    before = document_of(draft)
    assert "both changed: models." in refusal(lambda: draft_rebase(draft=draft, by=ann))
    draft.refresh_from_db()
    assert (document_of(draft), draft.base_version) == (before, 1)


def test_a_base_version_that_cannot_be_read_is_said_by_a_rebase(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = drafted(policy, ann, strategy="least_busy")
    draft_publish(draft=approved(policy, ann, ben))
    policy.versions.filter(number=1).update(document={"regions": "everywhere"})
    assert "everyday v1 cannot be read" in refusal(lambda: draft_rebase(draft=draft, by=ann))


# --- versions and their models --------------------------------------------------------------------------------------


def without_smart(policy: RoutingPolicy, ann: User, ben: User) -> None:
    """Version 2 says so; the model itself goes."""
    draft = drafted(policy, ann)
    draft.candidates.filter(alias__name="smart").delete()
    draft_publish(draft=draft_approve(draft=draft_submit(draft=draft, by=ann), by=ben))
    ModelAlias.objects.get(name="smart").delete()


def test_a_version_whose_model_is_gone_is_no_longer_begun_with(policy: RoutingPolicy, ann: User, ben: User) -> None:
    without_smart(policy, ann, ben)
    said = refusal(lambda: draft_create(policy=policy, by=ann, title="back", version=1))
    assert said == "There is no model alias smart any more. Make a draft without it."
    assert not PolicyDraft.objects.filter(title="back").exists()


def test_a_rollback_that_is_refused_leaves_everything_as_it_was(policy: RoutingPolicy, ann: User, ben: User) -> None:
    without_smart(policy, ann, ben)
    policy.refresh_from_db()
    before = document_of(policy)
    assert "no model alias smart" in refusal(lambda: version_rollback(policy=policy, number=1, by=ben))
    policy.refresh_from_db()
    assert (document_of(policy), policy.version, policy.versions.count()) == (before, 2, 2)


def test_a_rollback_to_models_that_are_switched_off_is_refused(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = drafted(policy, ann)
    draft.candidates.all().delete()
    draft.candidates.create(alias=alias("deep"))
    draft_publish(draft=draft_approve(draft=draft_submit(draft=draft, by=ann), by=ben))
    ModelAlias.objects.exclude(name="deep").update(is_active=False)
    said = refusal(lambda: version_rollback(policy=policy, number=1, by=ben))
    assert said.startswith("None of its models has an active deployment (fast, smart).")


def test_a_model_that_only_its_own_switch_keeps_away_comes_back_with_a_rollback(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft_publish(draft=approved(policy, ann, ben))
    ModelAlias.objects.filter(name="smart").update(is_active=False)
    version = version_rollback(policy=policy, number=1, by=ben)
    assert document_at(policy, version.number) == document_at(policy, 1)
    assert [row.alias.name for row in policy.candidates.all()] == ["fast", "smart"]


def test_a_rollback_of_a_rollback_is_a_version_of_its_own(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=approved(policy, ann, ben))
    assert version_rollback(policy=policy, number=1, by=ann).number == 3
    assert version_rollback(policy=policy, number=2, by=ann).number == 4
    policy.refresh_from_db()
    assert (policy.strategy, [one.number for one in policy.versions.all()]) == ("round_robin", [4, 3, 2, 1])


# --- policies that are switched off ---------------------------------------------------------------------------------


def test_a_policy_that_is_switched_off_is_changed_like_any_other(policy: RoutingPolicy, ann: User, ben: User) -> None:
    RoutingPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    policy.refresh_from_db()
    draft_publish(draft=approved(policy, ann, ben))
    policy.refresh_from_db()
    assert (policy.strategy, policy.version, policy.is_active) == ("round_robin", 2, False)
    assert config_rows(now=NOON).policies == []


def test_a_rollout_of_a_policy_that_is_switched_off_goes_on(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 100], stage_minutes=1, now=NOON)
    RoutingPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    assert policies_advance(now=NOON + timedelta(minutes=1)) == 1
    assert state_of(draft) == DraftState.PUBLISHED


def test_what_makes_no_sense_is_refused_for_a_policy_that_is_switched_off_too(policy: RoutingPolicy, ann: User) -> None:
    RoutingPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    draft = drafted(policy, ann, regions=["mars"])
    assert "No active provider is in the region “mars”" in refusal(lambda: draft_submit(draft=draft, by=ann))
