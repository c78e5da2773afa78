"""Experiments that run by themselves, where it is close: limits to the last request, stages to the second, odd rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.domain.experiments import Comparison, GuardState
from analytics.models import Feedback
from analytics.selectors.experiments import CHALLENGER, CONTROL, arm_figures, arm_results, guards_of
from analytics.services.experiments import breached_in_words, experiment_watch, experiments_watch, guards_now, stage_due
from routing.models import DraftCandidate, Experiment, PolicyVersion, RoutingPolicy
from routing.services.experiments import experiment_advance, experiment_promote, experiment_start
from tests.factories import RoutingPolicyFactory, UsageRecordFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)


def running(name: str = "trial", **options: Any) -> Experiment:
    """Started at NOW; guards look from 20 requests per arm."""
    policy: RoutingPolicy = RoutingPolicyFactory.create(preferred=[served_alias()])
    challenger = draft_of(policy, served_alias())
    options = {"min_samples": 20} | options
    made: Experiment = Experiment.objects.create(name=name, policy=policy, challenger=challenger, **options)
    experiment_start(experiment=made, by=None, now=NOW)
    return Experiment.objects.get(pk=made.pk)


def canary(**options: Any) -> Experiment:
    return running(kind="canary", stages=[5, 50, 100], stage_minutes=10, **options)


def seen(side: str, count: int, *, at: datetime = NOW + timedelta(minutes=1), name: str = "trial", **row: Any) -> None:
    key = row.pop("key", None) or VirtualKeyFactory.create()
    UsageRecordFactory.create_batch(count, key=key, arm=f"{name}:{side}", at=at, **row)


def failed(side: str, count: int, **row: Any) -> None:
    gone = {"state": "released", "http_status": 502, "error_code": "upstream_failed", "cost_nano": 0}
    seen(side, count, **gone | row)


def stored(name: str = "trial") -> Experiment:
    return Experiment.objects.get(name=name)


# --- what is a request of an arm ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "counts"), [(NOW - timedelta(microseconds=1), 0), (NOW, 1), (LATER, 1)])
def test_an_experiment_begins_with_the_very_request_of_its_start(at: datetime, counts: int) -> None:
    experiment = running()
    seen(CHALLENGER, 1, at=at)
    assert arm_figures(experiment, CHALLENGER).requests == counts


def test_names_that_begin_alike_are_not_mixed_up() -> None:
    experiment = running()
    seen(CHALLENGER, 1, name="trial-2")
    seen("challengers", 1)
    seen(CONTROL, 1)
    assert arm_figures(experiment, CHALLENGER).requests == 0


def test_latency_and_cost_are_those_of_answers_that_were_whole() -> None:
    experiment = running()
    seen(CONTROL, 1, latency_ms=100.0, cost_nano=1_000)
    seen(CONTROL, 1, latency_ms=300.0, cost_nano=3_000)
    seen(CONTROL, 1, latency_ms=500.0, cost_nano=None)
    failed(CONTROL, 1, latency_ms=60_000.0, cost_nano=7_000)
    found = arm_figures(experiment, CONTROL)
    assert (found.latency.count, found.latency.mean) == (3, 300.0)
    assert found.latency.variance == pytest.approx(80_000 / 3)
    assert (found.cost.count, found.cost.mean, found.cost.variance) == (2, 2_000.0, 1e6)
    assert (found.requests, found.errors.hits, found.spent_nano) == (4, 1, 11_000)


def test_an_arm_whose_every_request_is_unpriced_has_no_cost_to_compare() -> None:
    experiment = running(guard_cost_percent=10)
    seen(CONTROL, 25, cost_nano=None)
    seen(CHALLENGER, 25)
    found = arm_figures(experiment, CONTROL)
    assert (found.cost.count, found.spent_nano, found.requests) == (0, 0, 25)
    assert not any(state.is_breached for state in guards_now(experiment))
    assert experiments_watch(now=LATER) == 0


def test_grades_without_thumbs_and_thumbs_without_grades_are_counted_apart() -> None:
    experiment = running()
    key = VirtualKeyFactory.create()
    seen(CONTROL, 3, key=key)
    ids = [row.request_id for row in UsageRecordFactory._meta.model.objects.filter(arm="trial:control")]
    Feedback.objects.create(decision_id=ids[0], team=key.team, thumb="down")
    Feedback.objects.create(decision_id=ids[1], team=key.team, grade=0.0)
    Feedback.objects.create(decision_id=uuid4(), team=key.team, thumb="up", grade=1.0)
    found = arm_results(experiment, CONTROL)
    assert (found.liked.hits, found.liked.count, found.grade, found.grades) == (0, 1, 0.0, 1)


def test_figures_of_an_arm_are_one_query_and_a_pages_are_two(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    experiment = running()
    seen(CONTROL, 3)
    with django_assert_num_queries(1):
        arm_figures(experiment, CONTROL)
    with django_assert_num_queries(2):
        arm_results(experiment, CONTROL)


@pytest.mark.parametrize(("usd", "nano"), [("0.000001", 1_000), ("999999.999999", 999_999_999_999_000), (None, None)])
def test_a_budget_of_its_own_is_exact_in_nano_dollars(usd: str | None, nano: int | None) -> None:
    experiment = Experiment(max_cost=None if usd is None else Decimal(usd))
    assert guards_of(experiment).max_cost_nano == nano


# --- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "stops"), [(5, False), (25, True)])
def test_ten_points_more_errors_stop_it_when_chance_does_not_explain_them(errors: int, stops: bool) -> None:
    """5 of 50 may be chance; 25 of 250 are not."""
    running(guard_error_points=10)
    seen(CONTROL, errors * 10)
    seen(CHALLENGER, errors * 9)
    failed(CHALLENGER, errors)
    assert experiments_watch(now=LATER) == int(stops)
    assert stored().stop_reason == (
        "Guard: the challenger fails 10.0 percentage points more often than the control (guard: 10)." if stops else ""
    )


def test_a_minimum_of_one_does_not_let_a_single_slow_answer_stop_it() -> None:
    running(min_samples=1, guard_latency_percent=10)
    seen(CONTROL, 1, latency_ms=100.0)
    seen(CHALLENGER, 1, latency_ms=9_000.0)
    assert experiments_watch(now=LATER) == 0


@pytest.mark.parametrize(
    ("name", "change", "limit", "said"),
    [
        ("errors", 0.051, 0.05, "the challenger fails 5.1 percentage points more often than the control (guard: 5)"),
        ("errors", 1.0, 0.0, "the challenger fails 100.0 percentage points more often than the control (guard: 0)"),
        ("latency", 1.5, 1.0, "the challenger is 150.0 % slower than the control (guard: 100 %)"),
        ("cost", 0.2, 0.075, "the challenger is 20.0 % dearer than the control (guard: 7.5 %)"),
    ],
)
def test_a_breach_reads_with_its_figure_and_its_limit(name: str, change: float, limit: float, said: str) -> None:
    state = GuardState(name, limit, Comparison("worse", change, change, change))
    assert breached_in_words(state).replace("\N{NO-BREAK SPACE}", " ") == said


def test_of_all_that_ends_it_what_was_changed_by_people_is_said_first() -> None:
    experiment = running(max_cost=Decimal("0.01"))
    seen(CHALLENGER, 1)
    DraftCandidate.objects.filter(draft=experiment.challenger).update(weight=9)
    assert experiments_watch(now=LATER) == 1
    assert stored().stop_reason.startswith("The challenger’s rules were changed while it ran")


def test_a_challenger_without_any_model_left_is_noticed_as_changed() -> None:
    experiment = running()
    DraftCandidate.objects.filter(draft=experiment.challenger).delete()
    assert experiments_watch(now=LATER) == 1
    assert "rules were changed" in stored().stop_reason


def test_each_is_judged_by_its_own_figures() -> None:
    running("one")
    running("two")
    for name in ("one", "two"):
        seen(CONTROL, 30, name=name)
    seen(CHALLENGER, 30, name="one")
    failed(CHALLENGER, 30, name="two")
    assert experiments_watch(now=LATER) == 1
    assert (stored("one").state, stored("two").state) == ("running", "stopped")


def test_one_that_cannot_be_looked_at_does_not_keep_the_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    broken = running("broken", kind="canary", stages=[5, 100], stage_minutes=1, min_samples=1)
    Experiment.objects.filter(pk=broken.pk).update(stages="nonsense")
    seen(CHALLENGER, 1, name="broken")
    running("sound")
    seen(CONTROL, 30, name="sound")
    failed(CHALLENGER, 30, name="sound")
    assert experiments_watch(now=LATER) == 1
    assert stored("sound").state == "stopped"
    assert "the experiment broken could not be looked at" in caplog.text


def test_none_that_runs_is_nothing_to_do() -> None:
    assert experiments_watch(now=NOW) == 0


# --- canaries by the clock ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "percent"), [(599, None), (600, 50), (601, 50), (86_400, 50)])
def test_a_stage_lasts_its_minutes_to_the_second(seconds: int, percent: int | None) -> None:
    experiment = canary()
    seen(CHALLENGER, 20)
    assert stage_due(experiment, now=NOW + timedelta(seconds=seconds)) == percent


def test_a_canary_takes_one_stage_at_a_time_however_long_nobody_looked() -> None:
    canary()
    seen(CONTROL, 40)
    seen(CHALLENGER, 40)
    much_later = NOW + timedelta(days=3)
    assert experiments_watch(now=much_later) == 1
    assert (stored().percent, stored().stage_since) == (50, much_later)
    assert experiments_watch(now=much_later) == 0


def test_a_clock_that_goes_back_grows_nothing() -> None:
    experiment = canary()
    seen(CHALLENGER, 40)
    assert stage_due(experiment, now=NOW - timedelta(hours=1)) is None


def test_a_canary_walks_to_everybody_and_stays_there() -> None:
    experiment = canary()
    now = NOW
    shares = [experiment.percent]
    for _ in range(4):
        seen(CONTROL, 25, at=now + timedelta(minutes=1))
        seen(CHALLENGER, 25, at=now + timedelta(minutes=1))
        now += timedelta(minutes=10)
        experiments_watch(now=now)
        shares.append(stored().percent)
    assert shares == [5, 50, 100, 100, 100]
    assert stored().state == "running"


def test_a_canary_counts_no_requests_that_callers_gave_up() -> None:
    experiment = canary()
    seen(CHALLENGER, 19)
    seen(CHALLENGER, 5, state="cancelled", http_status=499, error_code="cancelled")
    assert stage_due(experiment, now=LATER) is None


def test_a_bad_stage_is_told_against_the_control_of_all_stages() -> None:
    experiment = canary()
    seen(CONTROL, 100)
    seen(CHALLENGER, 100)
    experiment_advance(experiment=experiment, percent=50, now=LATER)
    after = LATER + timedelta(minutes=1)
    failed(CHALLENGER, 4, at=after)
    assert experiments_watch(now=after) == 0  # fewer than the minimum in this stage, and few of all
    failed(CHALLENGER, 36, at=after)
    assert experiments_watch(now=after) == 1


def test_a_canary_goes_on_while_its_own_draft_waits() -> None:
    """To make the draft puts nothing into force: no version of the policy, whose number would end it."""
    experiment = canary()
    draft = experiment_promote(experiment=experiment, by=None, now=NOW)
    assert draft.base_version == experiment.challenger.base_version
    assert not PolicyVersion.objects.exists()
    seen(CHALLENGER, 20)
    assert experiments_watch(now=LATER) == 1
    assert (stored().state, stored().percent) == ("running", 50)


def test_a_canary_that_is_published_by_its_own_draft_ends_promoted() -> None:
    experiment = canary()
    draft = experiment_promote(experiment=experiment, by=None, now=LATER)
    type(draft).objects.filter(pk=draft.pk).update(state="published")
    RoutingPolicy.objects.filter(pk=experiment.policy_id).update(version=1)
    assert experiment_watch(Experiment.objects.select_related("policy", "challenger").get(), now=LATER)
    assert (stored().state, stored().stop_reason) == ("promoted", "Published as version 1.")
