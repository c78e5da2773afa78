"""Two people, or two workers, at the same draft at the same moment: exactly one of them moves it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from routing.models import DraftState, Experiment, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_start, rules_have_changed
from routing.services.lifecycle import (
    draft_approve,
    draft_create,
    draft_rebase,
    draft_reject,
    draft_reopen,
    draft_submit,
)
from routing.services.rollouts import draft_abort, draft_publish, policies_advance, version_rollback
from tests.factories import NOON, DeploymentFactory, ModelAliasFactory, RoutingPolicyFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)


def a_draft(policy: RoutingPolicy, strategy: str = "round_robin", *, is_approved: bool = True) -> PolicyDraft:
    author = UserFactory()
    draft = draft_create(policy=policy, by=author, title=f"by {strategy}")
    draft.strategy = strategy
    draft.save()
    draft = draft_submit(draft=draft, by=author)
    return draft_approve(draft=draft, by=UserFactory()) if is_approved else draft


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory(
        preferred=[ModelAliasFactory(deployments=[DeploymentFactory()]) for _ in range(2)]
    )
    return made


def at_once(*acts: Callable[[], Any]) -> list[str]:
    """What became of each: “done”, or the words in which it was refused."""
    start = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> str:
        start.wait(timeout=30)
        try:
            act()
        except ValidationError as error:
            return " ".join(error.messages)
        finally:
            connection.close()
        return "done"

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def test_of_two_who_publish_one_does(policy: RoutingPolicy) -> None:
    draft = a_draft(policy)
    said = at_once(*[lambda: draft_publish(draft=draft)] * 2)
    assert sorted(one == "done" for one in said) == [False, True]
    assert "“published” by now" in " ".join(said)
    assert list(policy.versions.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_approved_and_rejected_at_once_is_one_of_the_two(policy: RoutingPolicy) -> None:
    draft = a_draft(policy, is_approved=False)
    ben, eve = UserFactory(), UserFactory()
    at_once(lambda: draft_approve(draft=draft, by=ben), lambda: draft_reject(draft=draft, by=eve, note="no"))
    draft.refresh_from_db()
    assert (draft.state, draft.reviewer) in {(DraftState.APPROVED, ben), (DraftState.REJECTED, eve)}


def test_two_drafts_published_at_once_leave_one_stale(policy: RoutingPolicy) -> None:
    one, other = a_draft(policy), a_draft(policy, "least_busy")
    said = at_once(lambda: draft_publish(draft=one), lambda: draft_publish(draft=other))
    assert sorted(text == "done" for text in said) == [False, True]
    assert "Rebase it" in " ".join(said)
    policy.refresh_from_db()
    assert policy.version == 2


def test_two_rollouts_begun_at_once_leave_one(policy: RoutingPolicy) -> None:
    one, other = a_draft(policy), a_draft(policy, "least_busy")
    said = at_once(*[lambda draft=draft: draft_publish(draft=draft, stages=[5, 100]) for draft in (one, other)])
    assert sorted(text == "done" for text in said) == [False, True]
    assert policy.drafts.filter(state=DraftState.ROLLING_OUT).count() == 1


def test_two_workers_take_a_stage_once(policy: RoutingPolicy) -> None:
    draft = draft_publish(draft=a_draft(policy), stages=[5, 25, 50, 100], stage_minutes=1, now=NOON)
    later = NOON + timedelta(minutes=1)
    assert at_once(*[lambda: policies_advance(now=later)] * 2) == ["done", "done"]
    draft.refresh_from_db()
    assert draft.percent == 25


def test_a_rollout_and_an_experiment_begun_at_once_leave_one(policy: RoutingPolicy) -> None:
    rolled, tried = a_draft(policy), a_draft(policy, "least_busy")
    experiment = Experiment.objects.create(name="trial", policy=policy, challenger=tried)
    said = at_once(
        lambda: draft_publish(draft=rolled, stages=[5, 100]),
        lambda: experiment_start(experiment=experiment, by=None, now=NOON),
    )
    assert sorted(text == "done" for text in said) == [False, True]
    rolled.refresh_from_db()
    experiment.refresh_from_db()
    assert (rolled.state == DraftState.ROLLING_OUT) != (experiment.state == "running")


def test_a_draft_that_is_approved_and_taken_back_at_once_is_one_of_the_two(policy: RoutingPolicy) -> None:
    draft = a_draft(policy, is_approved=False)
    author, ben, read = draft.author, UserFactory(), draft.submitted_at
    assert author is not None
    said = at_once(lambda: draft_approve(draft=draft, by=ben, seen=read), lambda: draft_reopen(draft=draft, by=author))
    draft.refresh_from_db()
    assert draft.state == DraftState.DRAFT  # taken back before the approval, or after it
    assert said[1] == "done"
    assert draft.reviewer is None


def test_an_experiment_does_not_begin_with_a_draft_that_is_rebased_at_once(policy: RoutingPolicy) -> None:
    draft = a_draft(policy)
    author = draft.author
    assert author is not None
    draft_publish(draft=a_draft(policy, "least_busy"))
    draft.strategy = policy.strategy  # its change is another one now, that collides with nothing
    draft.max_latency_ms = 900
    draft.save()
    experiment = Experiment.objects.create(name="trial", policy=policy, challenger=draft)
    at_once(
        lambda: draft_rebase(draft=draft, by=author),
        lambda: experiment_start(experiment=experiment, by=None, now=NOON),
    )
    experiment.refresh_from_db()
    assert experiment.state == "draft" or not rules_have_changed(experiment)


def test_a_rollback_and_an_abort_at_once_both_end_the_rollout(policy: RoutingPolicy) -> None:
    draft_publish(draft=a_draft(policy))
    running = draft_publish(draft=a_draft(policy, "least_busy"), stages=[5, 100])
    ben = UserFactory()
    at_once(
        lambda: version_rollback(policy=policy, number=1, by=ben), lambda: draft_abort(draft=running, note="errors")
    )
    running.refresh_from_db()
    policy.refresh_from_db()
    assert (running.state, policy.strategy) == (DraftState.APPROVED, "priority")
