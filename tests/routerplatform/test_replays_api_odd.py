"""Replays over HTTP with what people and programs really send: wrong ids, other people's, twice, nonsense."""

import csv
import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import Replay, ReplayState
from analytics.services.replays import replay_run
from routing.domain.documents import PolicyDocument
from routing.models import DraftState, PolicyDraft
from tests.analytics.replaying import SINCE, UNTIL, Scene, asked, keep, scene
from tests.factories import RoutingPolicyFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db
RANGE = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}
SIDE_COLUMNS = ["unserved", "refused", "over_cost", "over_latency"]


def signed_in(place: Scene) -> Client:
    client = Client()
    client.force_login(place.author)
    return client


def somebody(*permissions: str) -> Client:
    user = UserFactory()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def post(client: Client, path: str, body: Any = None, *, raw: str = "") -> Any:
    return client.post(f"/api/v1/{path}", raw or json.dumps(body or {}), content_type="application/json")


def start(place: Scene, *, raw: str = "", **body: Any) -> Any:
    return post(signed_in(place), f"policies/{place.policy.pk}/replay", {**RANGE, **body}, raw=raw)


def finished(place: Scene, count: int = 2) -> Replay:
    keep(count, place.team)
    replay = asked(place)
    replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    return replay


def table(client: Client, replay: Replay, name: str = "routes") -> list[dict[str, str]]:
    reply: Any = client.get(f"/api/v1/replays/{replay.pk}/csv?table={name}")
    assert reply.status_code == 200
    return list(csv.DictReader(io.StringIO(b"".join(reply.streaming_content).decode())))


def message(reply: Any) -> str:
    return str(reply.json()["error"]["message"])


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["0", "99999", str(2**63 - 1), str(2**63), str(10**40)])
@pytest.mark.parametrize("part", ["", "/csv", "/cancel", "/dial"])
def test_a_replay_that_is_not_there_is_not_found_whatever_its_number(id: str, part: str) -> None:
    client = signed_in(scene())
    reply = post(client, f"replays/{id}{part}", {"change": -0.3}) if part in {"/cancel", "/dial"} else client.get(
        f"/api/v1/replays/{id}{part}"
    )  # fmt: skip
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("id", ["-1", "x", "1.5", "1e3", "%00"])
def test_what_is_no_number_is_no_replay(id: str) -> None:
    assert signed_in(scene()).get(f"/api/v1/replays/{id}").status_code == 404


@pytest.mark.parametrize(
    ("method", "part"),
    [("get", "/cancel"), ("get", "/dial"), ("post", ""), ("post", "/csv"), ("delete", ""), ("put", "")],
)
def test_a_method_that_does_nothing_is_refused(method: str, part: str) -> None:
    place = scene()
    replay = asked(place)
    reply = getattr(signed_in(place), method)(f"/api/v1/replays/{replay.pk}{part}")
    assert reply.status_code == 405
    replay.refresh_from_db()
    assert replay.state == ReplayState.WAITING


def test_a_policy_that_is_not_there_is_not_found_before_the_body_is_looked_at() -> None:
    assert post(signed_in(scene()), f"policies/{2**64}/replay", {"draft": "nonsense"}).status_code == 404


# --- asking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"draft": 0}, "There is no draft 0"),
        ({"draft": -1}, "There is no draft -1"),
        ({"draft": 2**63}, f"There is no draft {2**63}"),
        ({"draft": True}, "There is no draft True"),
        ({"draft": 1.0}, "There is no draft 1.0"),
        ({"draft": []}, "There is no draft []"),
        ({"document": []}, "not the document of a policy"),
        ({"document": {"candidates": "swift"}}, "not the document of a policy"),
        ({"document": {"candidates": [{}]}}, "not the document of a policy"),
        ({"document": {"task_type": "GARDENING"}}, "GARDENING"),
        ({"document": {"required": ["telepathy"]}}, "telepathy"),
        ({"document": {"escalate_on": ["boredom"]}}, "boredom"),
        ({"document": {"cache_mode": "sometimes"}}, "not the document of a policy"),
        ({"document": {}, "since": UNTIL.isoformat()}, "ends before it begins"),
        ({"document": {}, "since": "2020-01-01"}, "92 days"),
        ({"document": {}, "since": "2026-13-01"}, "is no moment"),
        ({"document": {}, "since": 7}, "is no moment"),
        ({"document": {}, "last": ["24h"]}, "“last” is one of"),
        ({"document": {}, "since": None}, "Say from when"),
    ],
)
def test_a_body_that_asks_for_nothing_possible_is_refused_in_words(body: dict[str, Any], said: str) -> None:
    reply = start(scene(), **body)
    assert reply.status_code == 400
    assert said in message(reply)
    assert not Replay.objects.exists()


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", '"x"', "7", '{"draft": NaN}', "\x00"], ids=repr)
def test_a_body_that_is_no_json_object_is_refused(raw: str) -> None:
    reply = start(scene(), raw=raw or " ")
    assert reply.status_code == 400
    assert message(reply)
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    "document",
    [
        '{"cost_weight": 1e999}',
        '{"quality_floor": -1e999}',
        '{"regions": ["\\u0000"]}',
        '{"candidates": [{"alias": "\\ud800"}]}',
    ],
)
def test_what_no_database_keeps_is_refused_and_breaks_nothing(document: str) -> None:
    """Infinity, NUL and half a surrogate pair are JSON for Python and none for PostgreSQL."""
    reply = start(scene(), raw=f'{{"document": {document}, "last": "24h"}}')
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "document")
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        '{"draft": "\\ud800"}',
        '{"document": {}, "since": "\\ud800"}',
        '{"document": {}, "last": "\\ud800"}',
        '{"document": {"cache_mode": "\\ud800"}, "last": "24h"}',
        '{"document": {"strategy": "\\u0000"}, "last": "24h"}',
    ],
)
def test_half_characters_are_refused_wherever_they_stand(body: str) -> None:
    reply = start(scene(), raw=body)
    assert reply.status_code == 400
    assert message(reply)
    assert not Replay.objects.exists()


def test_a_draft_and_a_document_at_once_are_one_too_many() -> None:
    place = scene()
    assert "one of the two" in message(start(place, draft=place.draft.pk, document={}))


def test_a_draft_of_another_policy_is_refused_by_the_names_of_both() -> None:
    place = scene()
    other = RoutingPolicyFactory(name="other")
    reply = post(signed_in(place), f"policies/{other.pk}/replay", {"draft": place.draft.pk, **RANGE})
    assert reply.status_code == 400
    assert "default" in message(reply)
    assert "other" in message(reply)


def test_a_draft_is_replayed_once_at_a_time_and_again_when_that_is_over() -> None:
    place = scene()
    first = start(place, draft=place.draft.pk)
    assert first.status_code == 202
    again = start(place, draft=place.draft.pk)
    assert (again.status_code, "under way" in message(again)) == (400, True)
    assert post(signed_in(place), f"replays/{first.json()['id']}/cancel").status_code == 200
    assert start(place, draft=place.draft.pk).status_code == 202


def test_rules_without_a_draft_are_replayed_side_by_side() -> None:
    place = scene()
    assert [start(place, document={}).status_code for _ in range(2)] == [202, 202]


def test_a_draft_that_nobody_may_edit_any_more_can_still_be_replayed() -> None:
    place = scene()
    PolicyDraft.objects.update(state=DraftState.REJECTED)
    assert start(place, draft=place.draft.pk).status_code == 202


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ReplayState)
def test_only_one_that_is_done_tells_a_result_and_every_state_is_told(state: ReplayState) -> None:
    place = scene()
    replay = finished(place)
    Replay.objects.update(state=state, started_at=replay.created_at)
    told = signed_in(place).get(f"/api/v1/replays/{replay.pk}").json()
    if state == ReplayState.RUNNING:  # nobody has said for long that it goes on: nobody but the worker can
        assert told["state"] in {"running", "failed"}
        return
    assert told["state"] == state.value
    assert (told["result"] is not None) == (state == ReplayState.DONE)
    assert told["warnings"] == []
    assert {"id", "policy", "draft", "since", "until", "percent", "done", "total", "error"} <= told.keys()


def test_a_result_says_when_it_does_not_hold_any_more() -> None:
    place = scene()
    replay = finished(place)
    place.policy.refresh_from_db()
    type(place.policy).objects.update(version=place.policy.version + 1)
    PolicyDraft.objects.update(is_sticky=True)
    warnings = signed_in(place).get(f"/api/v1/replays/{replay.pk}").json()["warnings"]
    assert len(warnings) == 2
    assert "is in force" in warnings[0]
    assert "edited since" in warnings[1]


def test_other_peoples_replays_are_read_and_cancelled_by_whoever_reviews() -> None:
    place = scene()
    replay = asked(place)
    reviewer = somebody("approve_policydraft")
    assert reviewer.get(f"/api/v1/replays/{replay.pk}").json()["state"] == "waiting"
    assert post(reviewer, f"replays/{replay.pk}/cancel").json()["state"] == "cancelled"
    replay.refresh_from_db()
    assert replay.created_by == place.author


@pytest.mark.parametrize("permission", ["view_policydraft", "view_routingpolicy"])
def test_who_only_looks_changes_nothing(permission: str) -> None:
    place = scene()
    replay = finished(place)
    client = somebody(permission)
    before = Replay.objects.values().get()
    for path in (f"replays/{replay.pk}/cancel", f"replays/{replay.pk}/dial", f"policies/{place.policy.pk}/replay"):
        reply = post(client, path, {"draft": place.draft.pk, "change": -0.3, **RANGE})
        assert (reply.status_code, "may not run" in message(reply)) == (403, True)
    assert client.get(f"/api/v1/replays/{replay.pk}/csv").status_code == 200
    assert Replay.objects.values().get() == before


@pytest.mark.parametrize("part", ["", "/csv", "/cancel", "/dial"])
def test_a_virtual_key_is_nobody_here(part: str) -> None:
    replay = asked(scene())
    client = Client(headers={"authorization": "Bearer rp_aaaaaaaa_test"})
    reply = post(client, f"replays/{replay.pk}{part}") if part in {"/cancel", "/dial"} else client.get(
        f"/api/v1/replays/{replay.pk}{part}"
    )  # fmt: skip
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "not_signed_in")


def test_somebody_who_was_switched_off_is_nobody() -> None:
    place = scene()
    client = signed_in(place)
    replay = asked(place)
    place.author.is_active = False
    place.author.save()
    assert client.get(f"/api/v1/replays/{replay.pk}").status_code == 401


# --- cancelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [ReplayState.DONE, ReplayState.FAILED, ReplayState.CANCELLED])
def test_one_that_is_over_stays_as_it_is_however_often_it_is_cancelled(state: ReplayState) -> None:
    place = scene()
    replay = finished(place)
    Replay.objects.update(state=state)
    for _ in range(2):
        reply = post(signed_in(place), f"replays/{replay.pk}/cancel")
        assert (reply.status_code, reply.json()["state"]) == (200, state.value)


def test_one_that_runs_is_asked_to_stop_and_says_so_until_it_has() -> None:
    place = scene()
    replay = asked(place)
    Replay.objects.update(state=ReplayState.RUNNING)
    assert post(signed_in(place), f"replays/{replay.pk}/cancel").json()["state"] == "running"
    replay.refresh_from_db()
    assert replay.wants_cancel


# --- as CSV -------------------------------------------------------------------------------------------------------


def test_routes_as_csv_add_up_to_the_result() -> None:
    place = scene()
    replay = finished(place, 3)
    [row] = table(signed_in(place), replay)
    assert row == {
        "from": "alpha/dear", "to": "beta/cheap", "requests": "3", "cost_before_usd": "0.033000000",
        "cost_after_usd": "0.003300000",
    }  # fmt: skip


def test_teams_as_csv_have_both_sides_of_every_violation() -> None:
    place = scene()
    keep(1, TeamFactory(name="=cmd()"))
    replay = finished(place, 2)
    rows = table(signed_in(place), replay, "teams")
    assert [name for name in rows[0] if name.endswith(("_before", "_after"))] == [
        f"{name}_{side}" for side in ("before", "after") for name in SIDE_COLUMNS
    ]
    assert {row["team"]: (row["requests"], row["moved"]) for row in rows} == {
        "Search": ("2", "2"),
        "'=cmd()": ("1", "1"),
    }


@pytest.mark.parametrize("name", ["routes", "teams"])
def test_without_a_result_there_is_the_header_alone(name: str) -> None:
    place = scene()
    assert table(signed_in(place), asked(place), name) == []


def test_a_csv_is_a_download_of_its_own_name_that_nobody_keeps() -> None:
    place = scene()
    replay = finished(place)
    reply = signed_in(place).get(f"/api/v1/replays/{replay.pk}/csv?table=teams")
    assert reply["Content-Disposition"] == f'attachment; filename="replay-{replay.pk}-teams.csv"'
    assert reply["Cache-Control"] == "no-store"


# --- the dial -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [None, "", "-0.3", True, False, [], {}])
def test_a_change_that_is_no_number_is_refused(change: object) -> None:
    place = scene()
    replay = finished(place)
    reply = post(signed_in(place), f"replays/{replay.pk}/dial", {"change": change})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "change")
    assert "is a number" in message(reply)


@pytest.mark.parametrize("change", ["0", "-0.0", "0.3", "-1", "-7", "1e999", "-1e999", "-1e-400"])
def test_a_change_that_is_no_saving_is_refused(change: str) -> None:
    place = scene()
    replay = finished(place)
    reply = post(signed_in(place), f"replays/{replay.pk}/dial", raw=f'{{"change": {change}}}')
    assert (reply.status_code, "how much is to be saved" in message(reply)) == (400, True)
    replay.refresh_from_db()
    assert "dial" not in replay.result


def test_the_dial_of_one_that_is_not_done_is_refused() -> None:
    place = scene()
    reply = post(signed_in(place), f"replays/{asked(place).pk}/dial", {"change": -0.3})
    assert (reply.status_code, "needs a replay that is done" in message(reply)) == (400, True)


def test_a_second_question_to_the_dial_takes_the_place_of_the_first() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    replay = finished(place)
    for change in (-0.2, -0.4):
        told = post(signed_in(place), f"replays/{replay.pk}/dial", {"change": change}).json()
        assert told["result"]["dial"] == {"wanted": change, "state": "waiting"}
        assert told["result"]["requests"] == 2  # what was found before is still there


def test_what_was_asked_for_is_what_is_kept_whatever_becomes_of_the_draft() -> None:
    place = scene()
    told = start(place, draft=place.draft.pk).json()
    replay = Replay.objects.get(pk=told["id"])
    PolicyDraft.objects.update(max_latency_ms=5)
    assert replay.document == Replay.objects.get(pk=replay.pk).document
    assert "max_latency_ms" not in replay.document
    assert PolicyDocument().max_latency_ms is None
