"""What arms come to, when guards stop an experiment, and how canaries grow: from usage records."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from analytics.models import Feedback, UsageRecord
from analytics.selectors.experiments import CHALLENGER, CONTROL, arm_figures, arm_results, guards_of
from analytics.services.experiments import experiments_watch, guards_now, stage_due
from routing.models import Experiment, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_advance, experiment_start, experiment_stop
from tests.factories import RoutingPolicyFactory, UsageRecordFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)


def running(**options: Any) -> Experiment:
    """Started at NOW; guards look from 20 requests per arm."""
    policy: RoutingPolicy = RoutingPolicyFactory.create(preferred=[served_alias()])
    challenger = draft_of(policy, served_alias())
    options = {"name": "trial", "min_samples": 20, "policy": policy, "challenger": challenger} | options
    experiment: Experiment = Experiment.objects.create(**options)
    experiment_start(experiment=experiment, by=None, now=NOW)
    return Experiment.objects.get(pk=experiment.pk)


def seen(side: str, count: int, *, at: datetime = NOW + timedelta(minutes=1), **columns: Any) -> list[UsageRecord]:
    """Requests of an arm, answered in 800 ms for a cent each unless `columns` say otherwise."""
    key = columns.pop("key", None) or VirtualKeyFactory.create()
    made: list[UsageRecord] = UsageRecordFactory.create_batch(count, key=key, arm=f"trial:{side}", at=at, **columns)
    return made


def failed(side: str, count: int, **columns: Any) -> list[UsageRecord]:
    gone = {"state": "released", "http_status": 502, "error_code": "upstream_failed", "cost_nano": 0}
    return seen(side, count, **gone | columns)


def spread(side: str, count: int, **means: float) -> None:
    """Figures that vary around their mean by a half."""
    for number in range(count):
        factor = 0.5 + number % 11 / 10
        seen(side, 1, **{name: type(mean)(mean * factor) for name, mean in means.items()})


def stop_reason() -> str:
    experiment = Experiment.objects.get()
    return experiment.stop_reason if experiment.state == "stopped" else ""


# --- figures ------------------------------------------------------------------------------------------------------


def test_an_arm_is_its_own_requests_since_the_start() -> None:
    experiment = running()
    seen(CONTROL, 3)
    seen(CHALLENGER, 2, latency_ms=400.0, cost_nano=5_000_000)
    seen(CHALLENGER, 1, at=NOW - timedelta(minutes=1))
    UsageRecordFactory.create(arm="other:challenger", at=LATER)
    UsageRecordFactory.create(at=LATER)

    control, challenger = arm_figures(experiment, CONTROL), arm_figures(experiment, CHALLENGER)

    assert (control.requests, challenger.requests) == (3, 2)
    assert (challenger.latency.mean, challenger.cost.mean, challenger.spent_nano) == (400.0, 5e6, 10_000_000)
    assert (control.latency.variance, control.errors.hits) == (0.0, 0)


def test_one_that_has_not_begun_has_no_figures() -> None:
    experiment = Experiment(name="trial", started_at=None)
    seen(CONTROL, 1)
    assert arm_figures(experiment, CONTROL).requests == 0


def test_what_nobody_waited_for_and_what_the_cache_answered_is_no_request_of_an_arm() -> None:
    experiment = running()
    seen(CONTROL, 1, state="cancelled", http_status=499, error_code="cancelled")
    seen(CONTROL, 1, cache="hit", cost_nano=0)
    seen(CONTROL, 1)

    found = arm_results(experiment, CONTROL)

    assert (found.figures.requests, found.figures.errors.hits, found.cancelled) == (1, 0, 1)


@pytest.mark.parametrize("code", ["insufficient_quota", "rate_limit_exceeded"])
def test_what_the_gateway_refused_for_a_limit_is_no_error_and_what_a_vendor_refused_is_one(code: str) -> None:
    experiment = running()
    failed(CHALLENGER, 2, http_status=429, error_code=code, deployment="", provider="", model="")
    failed(CHALLENGER, 1, http_status=429, error_code=code)
    found = arm_figures(experiment, CHALLENGER)
    assert (found.requests, found.errors.hits) == (1, 1)


def test_an_answer_that_broke_off_is_an_error_though_it_was_billed() -> None:
    experiment = running()
    seen(CHALLENGER, 1, error_code="upstream_failed", http_status=502)
    found = arm_figures(experiment, CHALLENGER)
    assert (found.errors.hits, found.latency.count, found.spent_nano) == (1, 0, 10_000_000)


def test_what_a_page_shows_of_an_arm() -> None:
    experiment = running()
    key = VirtualKeyFactory.create()
    records = [
        *seen(CHALLENGER, 3, key=key, decision={"json": "valid"}, is_stream=True, ttft_ms=100.0),
        *seen(CHALLENGER, 1, key=key, decision={"json": "invalid"}, latency_ms=1_600.0),
        *seen(CHALLENGER, 1, key=key, cost_nano=None),
    ]
    for thumb, record in zip(("up", "up", "down"), records, strict=False):
        Feedback.objects.create(decision_id=record.request_id, team=key.team, thumb=thumb, grade=0.5)
    Feedback.objects.create(decision_id=records[3].request_id, team=key.team, grade=1.0)

    found = arm_results(experiment, CHALLENGER)

    assert found.name == "trial:challenger"
    assert (found.valid.hits, found.valid.count) == (3, 4)
    assert (found.liked.hits, found.liked.count) == (2, 3)
    assert (found.grade, found.grades) == (0.625, 4)
    assert (found.latency_p50, found.ttft_p50, found.unpriced, found.tokens) == (800.0, 100.0, 1, 6_000)
    assert (found.figures.cost.count, found.figures.cost.mean) == (4, 1e7)


def test_an_arm_without_requests_has_nothing_to_show() -> None:
    found = arm_results(running(), CHALLENGER)
    assert (found.figures.requests, found.latency_p95, found.grade, found.liked.count) == (0, None, None, 0)


def test_guards_are_read_in_their_units() -> None:
    experiment = running(
        guard_error_points=2.5, guard_latency_percent=None, guard_cost_percent=40, max_cost=Decimal("1.5")
    )
    guards = guards_of(experiment)
    assert (guards.errors, guards.latency, guards.cost, guards.max_cost_nano) == (0.025, None, 0.4, 1_500_000_000)


# --- guards -------------------------------------------------------------------------------------------------------


def test_more_errors_than_the_guard_lets_pass_stop_it() -> None:
    running()
    seen(CONTROL, 40)
    seen(CHALLENGER, 20)
    failed(CHALLENGER, 20)

    assert experiments_watch(now=LATER) == 1

    assert stop_reason() == (
        "Guard: the challenger fails 50.0 percentage points more often than the control (guard: 5)."
    )
    assert Experiment.objects.get().stopped_at == LATER
    assert experiments_watch(now=LATER) == 0


def test_a_guard_waits_for_its_minimum() -> None:
    running(min_samples=50)
    seen(CONTROL, 60)
    failed(CHALLENGER, 49)
    assert experiments_watch(now=LATER) == 0
    failed(CHALLENGER, 1)
    assert experiments_watch(now=LATER) == 1


def test_errors_that_both_sides_have_stop_nothing() -> None:
    running()
    for side in (CONTROL, CHALLENGER):
        seen(side, 20)
        failed(side, 20)
    assert experiments_watch(now=LATER) == 0


def test_a_challenger_that_is_slower_than_its_guard_is_stopped() -> None:
    running(guard_latency_percent=50)
    spread(CONTROL, 66, latency_ms=500.0)
    spread(CHALLENGER, 66, latency_ms=1_000.0)

    experiments_watch(now=LATER)

    assert stop_reason().replace("\N{NO-BREAK SPACE}", " ") == (
        "Guard: the challenger is 100 % slower than the control (guard: 50.0 %)."
    )


def test_a_challenger_that_is_dearer_is_stopped_where_that_is_guarded() -> None:
    running(guard_latency_percent=None, guard_cost_percent=None)
    spread(CONTROL, 66, cost_nano=1_000_000)
    spread(CHALLENGER, 66, cost_nano=3_000_000)
    assert experiments_watch(now=LATER) == 0

    Experiment.objects.update(guard_cost_percent=50)
    assert experiments_watch(now=LATER) == 1
    assert "dearer than the control" in stop_reason()


def test_its_own_budget_ends_it_at_any_number_of_requests() -> None:
    running(max_cost=Decimal("0.02"), min_samples=1_000)
    seen(CHALLENGER, 1)
    assert experiments_watch(now=LATER) == 0
    seen(CHALLENGER, 1)
    assert experiments_watch(now=LATER) == 1
    assert stop_reason() == "Its own budget is used up: the challenger has cost $0.02."


def test_rules_that_were_edited_meanwhile_end_it() -> None:
    experiment = running()
    draft = PolicyDraft.objects.get(pk=experiment.challenger_id)
    draft.max_latency_ms = 100
    draft.save()
    experiments_watch(now=LATER)
    assert stop_reason() == "The challenger’s rules were changed while it ran: its figures would mix two sets of rules."


def test_a_policy_that_was_changed_or_switched_off_ends_it() -> None:
    experiment = running()
    RoutingPolicy.objects.filter(pk=experiment.policy_id).update(is_active=False)
    experiments_watch(now=LATER)
    assert stop_reason() == f"The policy “{experiment.policy}” was switched off."


def test_a_rollout_of_the_same_policy_ends_it() -> None:
    experiment = running()
    draft_of(experiment.policy, served_alias(), state="rolling_out")
    assert experiments_watch(now=LATER) == 1
    assert stop_reason().startswith("A change of the policy is being rolled out")


def test_a_new_version_of_the_policy_ends_it() -> None:
    experiment = running()
    RoutingPolicy.objects.filter(pk=experiment.policy_id).update(version=1)
    assert experiments_watch(now=LATER) == 1
    assert stop_reason().startswith("The policy has become version 1")


def test_each_experiment_is_looked_at_and_those_that_are_over_are_not() -> None:
    experiment = running()
    experiment_stop(experiment=experiment, reason="enough", by=None, now=LATER)
    seen(CONTROL, 40)
    failed(CHALLENGER, 40)
    assert experiments_watch(now=LATER) == 0
    assert stop_reason() == "enough"


# --- canaries -----------------------------------------------------------------------------------------------------


def canary(**options: Any) -> Experiment:
    return running(kind="canary", stages=[5, 50, 100], stage_minutes=10, **options)


def test_a_canary_grows_when_its_stage_has_lasted_and_enough_was_seen() -> None:
    experiment = canary()
    seen(CONTROL, 40)
    seen(CHALLENGER, 20)

    assert experiments_watch(now=NOW + timedelta(minutes=9)) == 0
    assert experiments_watch(now=NOW + timedelta(minutes=10)) == 1

    experiment.refresh_from_db()
    assert (experiment.percent, experiment.stage_since) == (50, NOW + timedelta(minutes=10))


def test_a_canary_that_hardly_anybody_follows_stays_small() -> None:
    experiment = canary()
    seen(CHALLENGER, 19)
    assert stage_due(experiment, now=LATER) is None
    seen(CHALLENGER, 1)
    assert stage_due(experiment, now=LATER) == 50


def test_each_stage_needs_requests_of_its_own() -> None:
    experiment = canary()
    seen(CHALLENGER, 40)
    experiment_advance(experiment=experiment, percent=50, now=LATER)
    much_later = LATER + timedelta(hours=1)
    assert stage_due(experiment, now=much_later) is None
    seen(CHALLENGER, 20, at=LATER + timedelta(minutes=5))
    assert stage_due(experiment, now=much_later) == 100


def test_a_canary_stays_at_its_last_stage() -> None:
    experiment = canary()
    experiment_advance(experiment=experiment, percent=100, now=NOW)
    seen(CHALLENGER, 100)
    assert stage_due(experiment, now=LATER) is None


def test_a_canary_that_fails_is_stopped_before_it_grows() -> None:
    canary()
    seen(CONTROL, 40)
    failed(CHALLENGER, 40)
    experiments_watch(now=LATER)
    assert "fails 100.0 percentage points more often" in stop_reason()
    assert Experiment.objects.get().percent == 5


def test_what_goes_wrong_only_at_a_later_stage_is_seen_there() -> None:
    """In the sum of all it would be hidden: 40 of 1,040 are fewer than five points."""
    experiment = canary()
    seen(CONTROL, 200)
    seen(CHALLENGER, 1_000)
    experiment_advance(experiment=experiment, percent=50, now=LATER)
    failed(CHALLENGER, 40, at=LATER + timedelta(minutes=1))

    [errors, _] = guards_now(Experiment.objects.get())
    assert errors.is_breached
    assert experiments_watch(now=LATER + timedelta(minutes=2)) == 1


def test_an_experiment_of_another_kind_does_not_grow() -> None:
    experiment = running(kind="ab")
    seen(CHALLENGER, 100)
    assert stage_due(experiment, now=LATER + timedelta(days=1)) is None
