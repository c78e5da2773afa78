"""What the page of a replay makes of its figures: words, tones and shares, for every state that it can be in."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from analytics.models import Replay, ReplayState
from analytics.presentation import NBSP, UNKNOWN
from analytics.replay_page import (
    BREACHES,
    RANGES,
    STATES,
    ReplayView,
    csv_of,
    may_run,
    may_see,
    panel_of,
    range_of,
    row_of,
    view_of,
)
from tests.analytics.replaying import NOON, Scene, asked, keep, scene

pytestmark = pytest.mark.django_db
NO_BREACHES = dict.fromkeys(BREACHES, 0)


def side(**changes: Any) -> dict[str, Any]:
    return {"cost_nano": 10**9, "p50_ms": 100.0, "p95_ms": 1_000.0, "latency_unknown": 0, **NO_BREACHES, **changes}


def result(**changes: Any) -> dict[str, Any]:
    """100 requests, none moved, and nothing changed."""
    return {
        "requests": 100, "unreadable": 0, "unpriced": 0, "unclassified": 0, "moved": 0, "quality_change": 0.0,
        "before": side(), "after": side(), "routes": [], "teams": [], **changes,
    }  # fmt: skip


def page(place: Scene, found: dict[str, Any] | None = None, **columns: Any) -> ReplayView:
    """As the author of the draft sees it."""
    replay = Replay.objects.first() or asked(place)
    values = {"state": ReplayState.DONE, "result": found or {}} | columns
    Replay.objects.filter(pk=replay.pk).update(**values)
    replay.refresh_from_db()
    return view_of(replay, place.author, now=NOON)


def card(view: ReplayView, title: str) -> tuple[str, str, str]:
    return next((one.figure, one.note, one.tone) for one in view.cards if one.title == title)


# --- states -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ReplayState)
def test_every_state_has_its_label_and_only_a_result_has_figures(state: ReplayState) -> None:
    view = page(scene(), result(), state=state)
    assert (view.tone, view.icon) == STATES[state]
    assert view.is_open == (state in {ReplayState.WAITING, ReplayState.RUNNING})
    assert bool(view.cards) == (state == ReplayState.DONE)
    if state != ReplayState.DONE:
        assert (view.routes, view.teams, view.notes, view.warnings, view.dial) == ([], [], [], [], None)


@pytest.mark.parametrize("found", [{}, result(requests=0)])
def test_an_empty_result_has_no_figures_to_divide_by_nothing(found: dict[str, Any]) -> None:
    view = page(scene(), found)
    assert (view.cards, view.routes, view.teams, view.notes) == ([], [], [], [])
    assert view.percent == 100.0


def test_one_that_waits_for_long_says_what_may_be_wrong() -> None:
    place = scene()
    soon = page(place, state=ReplayState.WAITING, created_at=NOON - timedelta(seconds=5))
    late = page(place, state=ReplayState.WAITING, created_at=NOON - timedelta(minutes=1))
    assert soon.progress == "Waits for a worker."
    assert "none is running" in late.progress


def test_one_that_runs_says_how_far_it_is_and_how_long_it_will_take() -> None:
    place = scene()
    begun = {"state": ReplayState.RUNNING, "started_at": NOON - timedelta(seconds=30)}
    assert page(place, **begun).progress == "Counts the decisions."
    view = page(place, **begun, done=3_000, total=12_000)
    assert view.progress == f"3,000 of 12,000 decisions, about 1{NBSP}min 30{NBSP}s left"
    assert view.percent == 25.0
    assert page(place, **begun, done=0, total=12_000).progress == "0 of 12,000 decisions"


def test_more_decisions_than_were_counted_are_not_more_than_all() -> None:
    view = page(scene(), state=ReplayState.RUNNING, started_at=NOON - timedelta(seconds=9), done=30, total=20)
    assert view.percent == 100.0


# --- figures ------------------------------------------------------------------------------------------------------


def test_equal_rules_change_nothing_and_get_no_colour() -> None:
    view = page(scene(), result())
    assert card(view, "Cost") == ("unchanged", "$1.00 instead of $1.00", "")
    assert card(view, "Go elsewhere") == (f"0{NBSP}%", "0 of 100 requests", "")
    assert card(view, "Expected quality")[0] == "unchanged"
    assert card(view, "Violations") == ("0", "none by the draft’s rules", "")


@pytest.mark.parametrize(("nano", "figure", "tone"), [(5 * 10**8, "−50", "better"), (2 * 10**9, "+100", "worse")])
def test_a_cost_that_changes_is_better_when_it_falls(nano: int, figure: str, tone: str) -> None:
    found = card(page(scene(), result(after=side(cost_nano=nano))), "Cost")
    assert found[0].startswith(figure)
    assert found[2] == tone


def test_what_cost_nothing_before_has_no_percentage() -> None:
    view = page(scene(), result(before=side(cost_nano=0), after=side(cost_nano=5 * 10**8)))
    assert card(view, "Cost") == (UNKNOWN, "$0.50 instead of $0.00", "")


@pytest.mark.parametrize(("before", "after"), [(None, 900.0), (900.0, None), (None, None)])
def test_a_latency_that_nobody_knows_is_not_compared(before: float | None, after: float | None) -> None:
    found = card(page(scene(), result(before=side(p95_ms=before), after=side(p95_ms=after))), "p95 until it begins")
    assert (found[0], found[2]) == (UNKNOWN, "")
    assert UNKNOWN in found[1]


@pytest.mark.parametrize(
    ("change", "figure", "tone"),
    [(0.0004, "unchanged", ""), (-0.004, "−0.4", ""), (-0.05, "−5.0", "worse"), (0.0312, "+3.1", "better")],
)
def test_quality_is_told_in_answers_of_a_hundred(change: float, figure: str, tone: str) -> None:
    found = card(page(scene(), result(quality_change=change)), "Expected quality")
    assert (found[0], found[2]) == (figure, tone)


def test_violations_are_told_in_words_and_are_worse_when_they_are_more() -> None:
    after = side(unserved=2, refused=1_000, over_cost=3, over_latency=4)
    found = card(page(scene(), result(after=after)), "Violations")
    assert found[0] == "1,009"
    assert found[2] == "worse"
    assert found[1] == (
        "2 nothing can serve, 1,000 refused, a budget fills, 3 over the cost ceiling, 4 over the latency ceiling"
    )
    assert card(page(scene_again(), result(before=after, after=side(unserved=9))), "Violations")[2] == ""


def scene_again() -> Scene:
    """The one that is there."""
    replay = Replay.objects.get()
    assert replay.draft is not None
    assert replay.created_by is not None
    return Scene(replay.policy, replay.draft, None, replay.created_by)  # type: ignore[arg-type]


def test_routes_have_their_share_of_what_moves_and_nobody_has_no_name() -> None:
    routes = [
        {"from": "a/x", "to": "b/y", "requests": 30, "before_nano": 10**9, "after_nano": 10**8},
        {"from": "a/x", "to": "", "requests": 10, "before_nano": 10**8, "after_nano": 0},
    ]
    lines = page(scene(), result(moved=40, routes=routes)).routes
    assert [(one.before, one.after, one.share) for one in lines] == [("a/x", "b/y", 0.75), ("a/x", "", 0.25)]
    assert [one.change.tone for one in lines if one.change] == ["better", "better"]


def test_a_team_sees_what_the_new_rules_add_and_what_they_take_away() -> None:
    team = {
        "team_id": 1, "team": "Search", "requests": 10, "moved": 4, "before_nano": 10, "after_nano": 20,
        "before": NO_BREACHES | {"over_cost": 3}, "after": NO_BREACHES | {"over_latency": 2},
    }  # fmt: skip
    [line] = page(scene(), result(teams=[team])).teams
    assert (line.name, line.moved, line.is_worse) == ("Search", 0.4, True)
    assert line.breaches == "0 over the cost ceiling (-3), 2 over the latency ceiling (+2)"
    [line] = page(scene_again(), result(teams=[team | {"after": NO_BREACHES, "requests": 0, "moved": 0}])).teams
    assert (line.moved, line.is_worse) == (0.0, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unpriced": 1_234}, "1,234 requests are in neither sum"),
        ({"unclassified": 100}, "No kind of work is known of these requests"),
        ({"unclassified": 7}, "Of 7 requests no kind of work is known."),
        ({"after": side(latency_unknown=5)}, "Of 5 requests nobody knows how long"),
        ({"unreadable": 2}, "2 kept decisions could not be read"),
    ],
)
def test_what_the_figures_leave_out_is_said(changes: dict[str, Any], said: str) -> None:
    notes = page(scene(), result(**changes)).notes
    assert len(notes) == 2
    assert said in notes[1]


def test_nothing_is_said_to_be_left_out_where_nothing_is() -> None:
    assert len(page(scene(), result()).notes) == 1


# --- the dial -----------------------------------------------------------------------------------------------------


def found_by_dial(**changes: Any) -> dict[str, Any]:
    return {
        "wanted": -0.3, "state": "done", "field": "quality_floor", "value": 0.75, "change": -0.345,
        "quality_change": -0.02, "is_reached": True, "requests": 1_200, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, f"“quality floor” at 0.75: 34.5{NBSP}% less cost, −2.0 good answers in 100"),
        ({"field": "cost_weight", "value": 0.001}, "“what a cent is worth” at 0.001"),
        ({"field": "within_of_best"}, "“close enough to the best”"),
        ({"quality_change": 0.0}, "quality unchanged"),
        ({"change": 0.05, "is_reached": False}, f"30{NBSP}% cannot be reached with these models."),
        ({"change": 0.05, "is_reached": False}, f"5{NBSP}% more cost"),
        ({"requests": 1_200}, "(tried on 1,200 decisions of the range)"),
    ],
)
def test_what_the_dial_found_is_told_in_words(changes: dict[str, Any], said: str) -> None:
    dial = page(scene(), result(dial=found_by_dial(**changes))).dial
    assert dial is not None
    assert (dial.state, dial.wanted, dial.can_use) == ("done", 30, True)
    assert said in dial.words


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_dial_that_has_found_nothing_offers_nothing(state: str) -> None:
    dial = page(scene(), result(dial={"wanted": -0.25, "state": state, "error": "why"})).dial
    assert dial is not None
    assert (dial.state, dial.wanted, dial.words, dial.can_use) == (state, 25, "why", False)


# --- the rest -----------------------------------------------------------------------------------------------------


def test_who_is_not_signed_in_may_nothing() -> None:
    assert not may_see(AnonymousUser())
    assert not may_run(AnonymousUser())


def test_the_panel_of_a_draft_without_replays_offers_one() -> None:
    place = scene()
    keep(1, place.team)
    panel = panel_of(place.draft, place.author, now=NOON)
    assert (panel["view"], panel["earlier"], panel["may_run"]) == (None, [], True)
    assert panel["kept_since"] is not None
    assert [name for name, _ in panel["ranges"]] == list(RANGES)


def test_while_one_is_under_way_no_other_is_offered() -> None:
    place = scene()
    asked(place)
    panel = panel_of(place.draft, place.author, now=NOON)
    assert (panel["may_run"], panel["may_cancel"], panel["view"].is_open) == (False, True, True)


@pytest.mark.parametrize("asked_for", [{}, {"until": "2026-03-10"}, {"last": "", "since": ""}])
def test_a_range_without_a_beginning_says_how_to_write_one(asked_for: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Say from when: a day and a time in UTC"):
        range_of(asked_for, now=NOON)


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00+14:00"])
def test_a_moment_that_no_calendar_has_in_utc_is_refused(edge: str) -> None:
    with pytest.raises(ValueError, match="is no moment"):
        range_of({"since": edge}, now=NOON)


def test_rows_of_every_state_are_told_with_the_same_keys() -> None:
    place = scene()
    keys = set()
    for state in ReplayState:
        replay = page(place, result(), state=state).replay
        keys.add(tuple(row_of(replay, now=NOON)))
    assert len(keys) == 1


@pytest.mark.parametrize("table", ["routes", "teams"])
def test_a_table_of_nothing_has_its_header(table: str) -> None:
    header, rows = csv_of(page(scene(), {}).replay, table)
    assert len(header) >= 5
    assert list(rows) == []
