"""Replays from asking to the result, over kept decisions in a real database."""

import threading
from contextlib import closing
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from analytics.models import DecisionRecord, Replay, ReplayState
from analytics.selectors.replays import decisions_since, inputs_between, inputs_sample, standing
from analytics.services import replays
from analytics.services.decisions import decisions_expire, prompts_expire
from analytics.services.replays import (
    dial_request,
    dial_run,
    dial_use,
    is_outdated,
    replay_cancel,
    replay_fail,
    replay_run,
    replay_stalled,
    rules_of,
)
from analytics.tasks import expire_decisions, run_replay
from providers.fields import seal
from routing.domain.config import TaskType
from routing.domain.documents import CandidateDocument, PolicyDocument
from routing.domain.recording import Outcome, RecordedTask
from routing.domain.replay import Sums, told
from routing.models import DraftState, PolicyDraft
from routing.replaying import decided_apart, decided_here
from routing.services.policy_rules import document_of, rules_write
from tests.analytics.replaying import NOON, SINCE, UNTIL, Scene, asked, keep, scene
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


def finished(place: Scene, **changes: Any) -> Replay:
    replay = asked(place, **changes)
    assert replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    return replay


def test_a_replay_says_what_would_have_changed() -> None:
    place = scene()
    keep(30, place.team)
    replay = finished(place)
    assert (replay.state, replay.error, replay.done, replay.total) == (ReplayState.DONE, "", 30, 30)
    assert replay.started_at is not None
    assert replay.finished_at is not None
    result = replay.result
    assert (result["requests"], result["moved"]) == (30, 30)
    assert result["before"]["cost_nano"] == 330_000_000
    assert result["after"]["cost_nano"] == 33_000_000
    assert result["before"]["p95_ms"] == pytest.approx(2_000, rel=0.02)
    assert result["after"]["p95_ms"] == pytest.approx(300, rel=0.02)
    assert result["routes"] == [
        {"from": "alpha/dear", "to": "beta/cheap", "requests": 30, "before_nano": 330_000_000, "after_nano": 33_000_000}
    ]
    assert [(team["team"], team["moved"]) for team in result["teams"]] == [("Search", 30)]


def test_only_the_range_is_looked_at() -> None:
    place = scene()
    keep(1, place.team, at=SINCE)
    keep(1, place.team, at=SINCE - timedelta(microseconds=1))
    keep(1, place.team, at=UNTIL)
    assert finished(place).result["requests"] == 1


def test_a_replay_without_decisions_is_done_and_empty() -> None:
    replay = finished(scene())
    assert (replay.state, replay.result["requests"], replay.result["routes"]) == (ReplayState.DONE, 0, [])


def test_decisions_of_another_policy_count_where_this_one_hands_over_to_it() -> None:
    place = scene(strategy="task_based")
    coding = place.policy.__class__.objects.create(name="coding", task_type=TaskType.CODING)
    rules_write(owner=coding, document=PolicyDocument((CandidateDocument("cheap"),), task_type="CODING"))
    handed_over = {"policy": "coding", "entry": "default", "task": RecordedTask("CODING", 0.9)}
    keep(3, place.team, **handed_over)
    keep(5, place.team, policy="coding", entry="coding")
    result = finished(place).result
    assert result["requests"] == 3
    assert result["routes"][0]["from"] == "alpha/dear"


def test_violations_are_told_by_team() -> None:
    place = scene(max_cost_nano=1)
    keep(4, place.team)
    keep(2, TeamFactory(name="Ads"))
    result = finished(place).result
    assert result["after"]["unserved"] == 6
    assert {team["team"]: team["after"]["unserved"] for team in result["teams"]} == {"Search": 4, "Ads": 2}
    assert all(route["to"] == "" for route in result["routes"])


def test_what_cannot_be_read_is_counted_and_does_not_stop_a_replay() -> None:
    place = scene()
    keep(2, place.team)
    DecisionRecord.objects.filter(pk=DecisionRecord.objects.first().pk).update(inputs=b"\xc1")  # type: ignore[union-attr]
    result = finished(place).result
    assert (result["requests"], result["unreadable"]) == (1, 1)


# --- asking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"since": UNTIL}, "ends before"),
        ({"since": UNTIL - timedelta(days=100)}, "92 days"),
        ({"draft": None}, "one of the two"),
        ({"document": PolicyDocument()}, "one of the two"),
        ({"draft": None, "document": PolicyDocument(strategy="best_guess")}, "best_guess"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_words(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        asked(scene(), **changes)
    assert not Replay.objects.exists()


def test_a_draft_of_another_policy_is_refused() -> None:
    place = scene()
    other = place.policy.__class__.objects.create(name="other")
    with pytest.raises(ValidationError, match="changes default, not other"):
        replays.replay_request(policy=other, draft=place.draft, since=SINCE, until=UNTIL, by=place.author)


def test_of_a_draft_one_replay_runs_at_a_time() -> None:
    place = scene()
    first = asked(place)
    with pytest.raises(ValidationError, match="under way"):
        asked(place)
    replay_cancel(replay=first)
    assert asked(place).state == ReplayState.WAITING


def test_rules_can_be_replayed_without_a_draft() -> None:
    place = scene()
    keep(2, place.team)
    replay = finished(place, draft=None, document=PolicyDocument((CandidateDocument("cheap"),)))
    assert (replay.draft, replay.result["moved"]) == (None, 2)


def test_a_policy_that_was_never_edited_is_its_own_base() -> None:
    place = scene()
    place.policy.versions.all().delete()
    keep(1, place.team)
    assert finished(place).result["moved"] == 1


def test_the_base_is_what_was_in_force_when_the_draft_was_made() -> None:
    """The replay keeps its meaning when something else is published before it runs."""
    place = scene()
    keep(1, place.team)
    replay = asked(place)
    rules_write(owner=place.policy, document=PolicyDocument((CandidateDocument("cheap"),)))
    replays.RoutingPolicy.objects.filter(pk=place.policy.pk).update(version=7)
    replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    assert replay.result["routes"][0]["from"] == "alpha/dear"


# --- running ------------------------------------------------------------------------------------------------------


def test_a_replay_runs_once_however_often_the_queue_delivers_it() -> None:
    place = scene()
    keep(3, place.team)
    replay = asked(place)
    assert run_replay(replay.pk)
    finished_at = Replay.objects.get().finished_at
    assert not run_replay(replay.pk)
    assert Replay.objects.get().finished_at == finished_at


def test_a_replay_that_waits_is_cancelled_at_once_and_never_runs() -> None:
    replay = asked(scene())
    assert replay_cancel(replay=replay)
    assert not replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    assert replay.state == ReplayState.CANCELLED
    assert not replay_cancel(replay=replay)


def test_a_replay_that_runs_stops_when_somebody_wants_it_to() -> None:
    replay = asked(scene())
    Replay.objects.filter(pk=replay.pk).update(state=ReplayState.RUNNING, started_at=NOON)
    replay.refresh_from_db()
    progress = replays._Progress(replay.pk, 100)
    progress.tell()
    assert replay_cancel(replay=replay)
    with pytest.raises(replays._Cancelled):
        progress.tell()


def test_a_cancelled_replay_keeps_no_result() -> None:
    """Somebody cancels between its first word and its last: it hears of it with its last at the latest."""
    place = scene()
    keep(1, place.team)
    replay = asked(place)
    Replay.objects.filter(pk=replay.pk).update(wants_cancel=True)
    assert replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    assert (replay.state, replay.result) == (ReplayState.CANCELLED, {})


def test_a_replay_that_cannot_be_decided_says_why() -> None:
    place = scene()
    replay = asked(place)
    Replay.objects.filter(pk=replay.pk).update(base_version=99)
    assert replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    assert replay.state == ReplayState.FAILED
    assert "no version 99" in replay.error


def test_a_replay_never_stays_behind_as_running() -> None:
    """Whatever it was that went wrong, its row says that it is over."""
    replay = asked(scene())
    Replay.objects.filter(pk=replay.pk).update(document=["not", "a", "document"])
    replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    assert replay.state == ReplayState.FAILED
    assert "document" in replay.error


def test_a_replay_whose_worker_died_is_given_up() -> None:
    replay = asked(scene())
    beat = {replays.BEAT: NOON.isoformat()}
    Replay.objects.filter(pk=replay.pk).update(state=ReplayState.RUNNING, started_at=NOON, result=beat)
    replay.refresh_from_db()
    assert not replay_stalled(replay=replay, now=NOON + timedelta(seconds=60))
    assert replay_stalled(replay=replay, now=NOON + timedelta(seconds=100))
    replay.refresh_from_db()
    assert replay.state == ReplayState.FAILED
    assert "worker" in replay.error


def test_what_failed_stays_what_it_was_first() -> None:
    place = scene()
    replay = finished(place)
    assert not replay_fail(replay_id=replay.pk, why="later")
    replay.refresh_from_db()
    assert (replay.state, replay.error) == (ReplayState.DONE, "")


def test_progress_says_how_long_it_will_take() -> None:
    replay = asked(scene())
    replay.state, replay.started_at, replay.done, replay.total = ReplayState.RUNNING, NOON, 250, 1_000
    now = standing(replay, now=NOON + timedelta(seconds=10))
    assert (now.share, now.left, now.is_open) == (0.25, timedelta(seconds=30), True)
    replay.done = 0
    assert standing(replay, now=NOON).left is None
    replay.state = ReplayState.DONE
    assert standing(replay, now=NOON).share == 1.0


def test_several_processes_come_to_the_same_as_one() -> None:
    place = scene()
    keep(90, place.team)
    rules = rules_of(asked(place), now=NOON)
    whole, apart = Sums(), Sums()
    for _, part in decided_here(inputs_between(["default"], SINCE, UNTIL, rows=1_000), rules):
        whole.merge(part)
    with (
        closing(inputs_between(["default"], SINCE, UNTIL, rows=7)) as parts,
        closing(decided_apart(parts, rules, processes=2)) as results,
    ):
        sizes = [(size, apart.merge(part))[0] for size, part in results]
    assert sum(sizes) == whole.requests == 90
    assert told(apart) == told(whole)


def test_processes_end_when_nobody_wants_their_results_any_more() -> None:
    place = scene()
    keep(20, place.team)
    rules = rules_of(asked(place), now=NOON)
    with closing(decided_apart(inputs_between(["default"], SINCE, UNTIL, rows=1), rules, processes=1)) as results:
        assert next(results)[0] == 1
    assert not [thread for thread in threading.enumerate() if "QueueManager" in thread.name]


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
def test_parts_hold_each_decision_once_also_at_the_same_moment(rows: int) -> None:
    team = TeamFactory()
    for _ in range(3):
        keep(2, team)  # three at each of two moments
    keep(2, team, policy="other", entry="other")
    parts = list(inputs_between(["default", "other"], SINCE, UNTIL, rows=rows))
    assert sum(map(len, parts)) == 8
    assert max(map(len, parts)) <= rows


def test_a_sample_is_spread_over_the_range() -> None:
    team = TeamFactory()
    for hour in range(24):
        keep(10, team, at=SINCE + timedelta(hours=hour), turn=hour)
    assert len(inputs_sample(["default"], SINCE, UNTIL, rows=1_000)) == 240
    some = inputs_sample(["default"], SINCE, UNTIL, rows=40)
    assert 24 <= len(some) <= 60
    assert len({msgspec.msgpack.decode(one)[1] for one in some}) == 24


def test_it_is_known_since_when_decisions_are_kept() -> None:
    assert decisions_since("default") is None
    keep(2, TeamFactory(), at=SINCE)
    assert decisions_since("default") == SINCE


# --- the dial -----------------------------------------------------------------------------------------------------


def dialled(place: Scene, wanted: float = -0.3) -> Replay:
    replay = finished(place)
    dial_request(replay=replay, wanted=wanted)
    assert dial_run(replay_id=replay.pk)
    replay.refresh_from_db()
    return replay


def test_the_dial_finds_a_value_and_the_draft_takes_it() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(20, place.team)
    replay = dialled(place)
    found = replay.result["dial"]
    assert (found["state"], found["field"], found["is_reached"], found["requests"]) == (
        "done", "quality_floor", True, 20,
    )  # fmt: skip
    assert found["change"] == pytest.approx(-0.9)
    assert replay.result["requests"] == 20  # what was found before is still there
    dial_use(replay=replay, by=place.author)
    place.draft.refresh_from_db()
    assert place.draft.quality_floor == found["value"]
    assert is_outdated(replay)


def test_a_draft_without_a_threshold_says_so() -> None:
    place = scene()
    keep(1, place.team)
    found = dialled(place).result["dial"]
    assert found["state"] == "failed"
    assert "no threshold" in found["error"]


@pytest.mark.parametrize("wanted", [0.0, 0.3, -1.0, -5.0])
def test_the_dial_is_turned_for_savings_only(wanted: float) -> None:
    replay = finished(scene())
    with pytest.raises(ValidationError, match="saved"):
        dial_request(replay=replay, wanted=wanted)


def test_the_dial_needs_a_finished_replay_and_is_turned_once() -> None:
    place = scene(strategy="balanced")
    replay = asked(place)
    with pytest.raises(ValidationError, match="done"):
        dial_request(replay=replay, wanted=-0.3)
    assert not dial_run(replay_id=replay.pk)
    replay_run(replay_id=replay.pk)
    assert not dial_run(replay_id=replay.pk)
    dial_request(replay=replay, wanted=-0.3)
    assert dial_run(replay_id=replay.pk)
    assert not dial_run(replay_id=replay.pk)


def test_only_its_author_puts_a_value_into_a_draft_and_only_while_it_is_one() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(2, place.team)
    replay = dialled(place)
    with pytest.raises(ValidationError, match="Only its author"):
        dial_use(replay=replay, by=UserFactory(is_superuser=True))
    PolicyDraft.objects.filter(pk=place.draft.pk).update(state=DraftState.REVIEW)
    replay = Replay.objects.select_related("draft").get(pk=replay.pk)
    with pytest.raises(ValidationError, match="before it is submitted"):
        dial_use(replay=replay, by=place.author)
    with pytest.raises(ValidationError, match="no value"):
        dial_use(replay=Replay(result={}), by=place.author)


def test_a_replay_is_outdated_once_its_draft_is_edited() -> None:
    place = scene()
    replay = finished(place)
    assert not is_outdated(replay)
    rules_write(owner=place.draft, document=msgspec.structs.replace(document_of(place.draft), max_latency_ms=900))
    assert is_outdated(Replay.objects.get(pk=replay.pk))


# --- the end of what is kept --------------------------------------------------------------------------------------


def test_decisions_and_prompts_go_when_their_time_is_over(settings: Any) -> None:
    team = TeamFactory()
    keep(3, team, at=NOON - timedelta(days=40))
    keep(2, team, at=NOON - timedelta(days=10))
    keep(1, team, at=NOON)
    DecisionRecord.objects.update(prompt=seal("hello"))
    assert prompts_expire(now=NOON, days=7) == 5
    assert decisions_expire(now=NOON, days=30) == 3
    assert DecisionRecord.objects.exclude(prompt="").count() == 1
    assert DecisionRecord.objects.count() == 3
    assert decisions_expire(now=NOON, days=0) == prompts_expire(now=NOON, days=0) == 0
    settings.DECISIONS_KEPT_DAYS = settings.PROMPTS_KEPT_DAYS = 1
    assert expire_decisions() == 3


def test_a_part_of_a_long_replay_is_one_query_by_the_index() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("the plan is PostgreSQL's")
    keep(50, TeamFactory())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE analytics_decisionrecord")
        cursor.execute("SET LOCAL enable_seqscan = off")
        rows = DecisionRecord.objects.filter(policy="default", at__gte=SINCE, at__lt=UNTIL).order_by("at", "pk")[:10]
        plan = rows.explain()
    assert "decision_policy_at" in plan


def test_an_outcome_without_tokens_costs_what_it_cost() -> None:
    place = scene()
    keep(1, place.team, outcome=Outcome("alpha/dear", 502, "upstream_failed", cost_nano=0))
    result = finished(place).result
    assert (result["moved"], result["after"]["cost_nano"], result["unpriced"]) == (1, 0, 0)
