"""`/api/v1/policies/<id>/replay` and `/api/v1/replays/`: for people who sign in, in the API's own words."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import Replay, ReplayState
from analytics.services.replays import replay_run
from analytics.tasks import run_dial
from routing.domain.documents import CandidateDocument, PolicyDocument, document_to_json
from tests.analytics.replaying import SINCE, UNTIL, Scene, asked, keep, scene
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
RANGE = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}


def signed_in(place: Scene) -> Client:
    client = Client()
    client.force_login(place.author)
    return client


def post(client: Client, path: str, body: Any = None) -> Any:
    return client.post(f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json")


def start(place: Scene, **body: Any) -> Any:
    return post(signed_in(place), f"policies/{place.policy.pk}/replay", {**RANGE, **body})


def test_a_replay_is_asked_for_and_read_until_it_is_done() -> None:
    place = scene()
    keep(4, place.team)
    accepted = start(place, draft=place.draft.pk)
    assert accepted.status_code == 202
    told = accepted.json()
    assert (told["object"], told["state"], told["draft"], told["result"]) == ("replay", "waiting", place.draft.pk, None)
    replay_run(replay_id=told["id"])
    read = signed_in(place).get(f"/api/v1/replays/{told['id']}").json()
    assert (read["state"], read["done"], read["total"], read["percent"], read["warnings"]) == ("done", 4, 4, 100.0, [])
    assert read["result"]["moved"] == 4
    assert read["result"]["after"]["cost_nano"] == 4_400_000


def test_rules_are_replayed_without_a_draft() -> None:
    place = scene()
    keep(1, place.team)
    document = document_to_json(PolicyDocument((CandidateDocument("cheap"),)))
    told = start(place, document=document).json()
    replay_run(replay_id=told["id"])
    assert signed_in(place).get(f"/api/v1/replays/{told['id']}").json()["result"]["moved"] == 1


def test_the_last_day_can_be_named() -> None:
    place = scene()
    told = post(signed_in(place), f"policies/{place.policy.pk}/replay", {"draft": place.draft.pk, "last": "24h"}).json()
    replay = Replay.objects.get(pk=told["id"])
    assert (replay.until - replay.since).total_seconds() == 86_400


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "one of the two"),
        ({"draft": 99_999}, "no draft 99999"),
        ({"draft": "x"}, "no draft x"),
        ({"document": {"strategy": 5}}, "document of a policy"),
        ({"document": {"strategy": "guess"}}, "guess"),
        ({"last": "1y"}, "“last” is one of"),
        ({"since": "soon"}, "is no moment"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_words(body: dict[str, Any], complaint: str) -> None:
    reply = start(scene(), **body)
    assert reply.status_code == 400
    assert complaint in reply.json()["error"]["message"]
    assert not Replay.objects.exists()


def test_a_body_that_is_no_object_is_refused() -> None:
    place = scene()
    reply = post(signed_in(place), f"policies/{place.policy.pk}/replay", [1])
    assert (reply.status_code, "JSON object" in reply.json()["error"]["message"]) == (400, True)


def test_a_replay_is_cancelled() -> None:
    place = scene()
    replay = asked(place)
    reply = post(signed_in(place), f"replays/{replay.pk}/cancel")
    assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
    assert post(signed_in(place), f"replays/{replay.pk}/cancel").json()["state"] == "cancelled"


def test_the_result_comes_as_csv() -> None:
    place = scene()
    keep(1, place.team)
    replay = asked(place)
    replay_run(replay_id=replay.pk)
    client = signed_in(place)
    reply: Any = client.get(f"/api/v1/replays/{replay.pk}/csv")
    assert reply["content-type"].startswith("text/csv")
    assert b"alpha/dear,beta/cheap,1," in b"".join(reply.streaming_content)
    assert client.get(f"/api/v1/replays/{replay.pk}/csv?table=users").status_code == 400


def test_the_dial_is_turned() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(3, place.team)
    replay = asked(place)
    replay_run(replay_id=replay.pk)
    reply = post(signed_in(place), f"replays/{replay.pk}/dial", {"change": -0.3})
    assert (reply.status_code, reply.json()["result"]["dial"]["state"]) == (202, "waiting")
    run_dial(replay.pk)
    found = signed_in(place).get(f"/api/v1/replays/{replay.pk}").json()["result"]["dial"]
    assert (found["state"], found["field"]) == ("done", "quality_floor")


@pytest.mark.parametrize("change", [None, "a lot", True, 0.3])
def test_a_saving_that_is_none_is_refused(change: Any) -> None:
    place = scene()
    replay = asked(place)
    replay_run(replay_id=replay.pk)
    assert post(signed_in(place), f"replays/{replay.pk}/dial", {"change": change}).status_code == 400


def test_a_replay_whose_worker_died_is_told_as_failed() -> None:
    place = scene()
    replay = asked(place)
    Replay.objects.update(state=ReplayState.RUNNING, started_at=SINCE)
    told = signed_in(place).get(f"/api/v1/replays/{replay.pk}").json()
    assert told["state"] == "failed"
    assert "worker" in told["error"]


# --- who may ------------------------------------------------------------------------------------------------------


def somebody(*permissions: str) -> Client:
    user = UserFactory()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_whoever_is_not_signed_in_is_told_to() -> None:
    place = scene()
    reply = post(Client(), f"policies/{place.policy.pk}/replay", {"draft": place.draft.pk, **RANGE})
    assert reply.status_code == 401
    assert "Sign in" in reply.json()["error"]["message"]


def test_who_only_sees_policies_reads_replays_and_starts_none() -> None:
    place = scene()
    replay = asked(place)
    client = somebody("view_routingpolicy")
    assert client.get(f"/api/v1/replays/{replay.pk}").status_code == 200
    assert post(client, f"replays/{replay.pk}/cancel").status_code == 403
    assert post(client, f"policies/{place.policy.pk}/replay", {"draft": place.draft.pk, **RANGE}).status_code == 403


def test_who_sees_no_policies_is_refused() -> None:
    replay = asked(scene())
    client = somebody("view_persona")
    assert client.get(f"/api/v1/replays/{replay.pk}").status_code == 403
    assert client.get(f"/api/v1/replays/{replay.pk}/csv").status_code == 403


def test_what_is_not_there_is_not_found() -> None:
    client = signed_in(scene())
    assert client.get("/api/v1/replays/99999").status_code == 404
    assert post(client, "policies/99999/replay", RANGE).status_code == 404
    assert client.get(f"/api/v1/replays/{2**70}").status_code == 404


def test_a_forged_form_of_another_site_is_refused() -> None:
    place = scene()
    client = Client(enforce_csrf_checks=True)
    client.force_login(place.author)
    reply = post(client, f"policies/{place.policy.pk}/replay", {"draft": place.draft.pk, **RANGE})
    assert reply.status_code == 403
    assert not Replay.objects.exists()
