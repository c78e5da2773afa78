"""Replays in the admin: on the page of a draft, on their own, and for people who may not."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from analytics.models import Replay, ReplayState
from analytics.replay_page import range_of, view_of
from analytics.services.replays import replay_run
from analytics.tasks import run_dial
from routing.domain.documents import PolicyDocument
from routing.models import DraftState, PolicyDraft, RoutingPolicy
from tests.analytics.replaying import NOON, SINCE, UNTIL, Scene, asked, keep, scene
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


def signed_in(place: Scene) -> Client:
    client = Client()
    client.force_login(place.author)
    return client


def somebody(*permissions: str) -> Client:
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page_of_draft(client: Client, place: Scene) -> str:
    response = client.get(f"/admin/routing/policydraft/{place.draft.pk}/change/")
    assert response.status_code == 200
    return response.content.decode()


def part(client: Client, place: Scene) -> str:
    response = client.get(f"/admin/analytics/replay/draft/{place.draft.pk}/")
    assert response.status_code == 200
    return response.content.decode()


def start(client: Client, place: Scene, **form: str) -> Any:
    return client.post(f"/admin/analytics/replay/draft/{place.draft.pk}/start/", form or {"last": "24h"}, follow=True)


def done(place: Scene, **changes: Any) -> Replay:
    replay = asked(place, **changes)
    replay_run(replay_id=replay.pk)
    replay.refresh_from_db()
    return replay


def test_without_decisions_the_draft_says_what_to_do() -> None:
    place = scene()
    text = page_of_draft(signed_in(place), place)
    assert "No decisions of this policy are kept yet" in text
    assert "Last 24 hours" not in text


def test_a_policy_that_keeps_none_is_told_so() -> None:
    place = scene()
    RoutingPolicy.objects.update(sample_percent=0)
    assert "set “decisions kept (%)” above 0" in part(signed_in(place), place)


def test_with_decisions_the_draft_offers_a_replay() -> None:
    place = scene()
    keep(1, place.team)
    text = page_of_draft(signed_in(place), place)
    assert "The last 24 hours" in text
    assert "The last 7 days" in text


def test_a_replay_is_started_watched_and_shown() -> None:
    place = scene()
    client = signed_in(place)
    keep(3, place.team, at=timezone.now() - timedelta(hours=2))
    start(client, place)
    replay = Replay.objects.get()
    assert (replay.draft, replay.created_by) == (place.draft, place.author)
    assert (replay.until - replay.since) == timedelta(hours=24)
    waiting = part(client, place)
    assert "Waits for a worker" in waiting
    assert f"/admin/analytics/replay/{replay.pk}/state/" in waiting
    assert client.get(f"/admin/analytics/replay/{replay.pk}/state/").json()["state"] == "waiting"
    replay_run(replay_id=replay.pk)
    state = client.get(f"/admin/analytics/replay/{replay.pk}/state/").json()
    assert state == {"state": "done", "done": 3, "total": 3, "percent": 100.0, "dial": ""}
    shown = part(client, place)
    for words in ("−90.0", "3 of 3 requests", "alpha/dear", "beta/cheap", "Search", "Replay again"):
        assert words in shown
    assert "Waits for a worker" not in shown


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"since": "2026-03-10T12:00", "until": "2026-03-10T11:00"}, "ends before it begins"),
        ({"since": "yesterday"}, "is no moment"),
        ({"last": "1y"}, "“last” is one of"),
        ({"until": "2026-03-10T11:00"}, "from when"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_in_words(form: dict[str, str], complaint: str) -> None:
    place = scene()
    assert complaint in start(signed_in(place), place, **form).content.decode()
    assert not Replay.objects.exists()


def test_a_range_is_in_utc_and_ends_now_unless_it_says_otherwise() -> None:
    since, until = range_of({"since": "2026-03-09T12:00"}, now=NOON)
    assert (since, until) == (SINCE, NOON)
    since, until = range_of({"since": "2026-03-09T13:00+01:00", "until": "2026-03-10T12:00"}, now=NOON)
    assert (since, until) == (SINCE, UNTIL)
    assert range_of({"last": "7d"}, now=NOON) == (NOON - timedelta(days=7), NOON)


def test_a_replay_is_cancelled_by_a_button() -> None:
    place = scene()
    client, replay = signed_in(place), asked(place)
    response = client.post(f"/admin/analytics/replay/{replay.pk}/cancel/", follow=True)
    assert "It was cancelled" in response.content.decode()
    replay.refresh_from_db()
    assert replay.state == ReplayState.CANCELLED
    again = client.post(f"/admin/analytics/replay/{replay.pk}/cancel/", follow=True)
    assert "over already" in again.content.decode()


def test_a_replay_that_failed_says_why() -> None:
    place = scene()
    replay = asked(place)
    Replay.objects.update(base_version=99)
    replay_run(replay_id=replay.pk)
    assert "no version 99" in part(signed_in(place), place)


def test_a_result_is_stale_once_another_version_is_in_force() -> None:
    place = scene()
    keep(1, place.team)
    done(place)
    client = signed_in(place)
    assert "is in force, and this compares with" not in part(client, place)
    RoutingPolicy.objects.update(version=9)
    text = part(client, place)
    assert "Version 9 of default is in force, and this compares with version 1" in text
    assert "alpha/dear" in text  # what it found is still to be read


def test_a_draft_that_was_published_is_not_asked_to_rebase() -> None:
    place = scene()
    keep(1, place.team)
    done(place)
    RoutingPolicy.objects.update(version=2)
    PolicyDraft.objects.update(state=DraftState.PUBLISHED, version=2)
    text = part(signed_in(place), place)
    assert "compared with version 1" in text
    assert "once the draft is rebased" not in text


def test_a_result_says_when_the_draft_was_edited_after_it() -> None:
    place = scene()
    keep(1, place.team)
    done(place)
    PolicyDraft.objects.update(max_latency_ms=900)
    assert "has been edited since" in part(signed_in(place), place)


def test_a_range_without_decisions_is_said_to_have_none() -> None:
    place = scene()
    done(place)
    assert "No decisions of this policy are kept from that range" in part(signed_in(place), place)


def test_the_page_of_a_replay_shows_the_same_and_leads_back() -> None:
    place = scene()
    keep(2, place.team)
    replay = done(place)
    client = signed_in(place)
    text = client.get(f"/admin/analytics/replay/{replay.pk}/change/").content.decode()
    assert "alpha/dear" in text
    assert f"/admin/routing/policydraft/{place.draft.pk}/change/#replay" in text
    assert client.get("/admin/analytics/replay/99999/change/").status_code == 404


def test_the_list_costs_the_same_however_many_replays_there_are(django_assert_max_num_queries: Any) -> None:
    place = scene()
    keep(1, place.team)
    for _ in range(12):
        done(place)
    client = signed_in(place)
    with django_assert_max_num_queries(20):
        response = client.get("/admin/analytics/replay/")
    assert response.content.decode().count("−90.0") == 12


def test_routes_and_teams_come_as_csv() -> None:
    place = scene()
    keep(2, place.team)
    keep(1, TeamFactory(name="=Ads"))
    replay = done(place)
    client = signed_in(place)
    lines = text_of(client.get(f"/admin/analytics/replay/{replay.pk}/csv/")).splitlines()
    assert lines[0] == "from,to,requests,cost_before_usd,cost_after_usd"
    assert lines[1] == "alpha/dear,beta/cheap,3,0.033000000,0.003300000"
    teams = text_of(client.get(f"/admin/analytics/replay/{replay.pk}/csv/?table=teams")).splitlines()
    assert teams[0].startswith("team,requests,moved,cost_before_usd,cost_after_usd,unserved_before")
    assert {line.split(",")[0] for line in teams[1:]} == {"Search", "'=Ads"}


def text_of(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


# --- the dial -----------------------------------------------------------------------------------------------------


def test_the_dial_is_asked_for_watched_and_used() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(5, place.team)
    replay = done(place)
    client = signed_in(place)
    client.post(f"/admin/analytics/replay/{replay.pk}/dial/", {"percent": "30"})
    assert "Tries values on decisions" in part(client, place)
    assert client.get(f"/admin/analytics/replay/{replay.pk}/state/").json()["dial"] == "waiting"
    from_queue(replay)
    text = part(client, place)
    assert "quality floor" in text
    assert "Use this value in the draft" in text
    response = client.post(f"/admin/analytics/replay/{replay.pk}/use/", follow=True)
    assert "The value is in the draft" in response.content.decode()
    place.draft.refresh_from_db()
    assert place.draft.quality_floor != 1.0


def from_queue(replay: Replay) -> None:
    run_dial(replay.pk)


@pytest.mark.parametrize(
    ("percent", "complaint"), [("", "as a number"), ("much", "as a number"), ("100", "less than 100")]
)
def test_a_saving_that_is_none_is_refused_in_words(percent: str, complaint: str) -> None:
    place = scene()
    keep(1, place.team)
    replay = done(place)
    response = signed_in(place).post(f"/admin/analytics/replay/{replay.pk}/dial/", {"percent": percent}, follow=True)
    assert complaint in response.content.decode()


def test_a_dial_that_does_not_reach_says_how_far_it_goes() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(5, place.team)
    replay = done(place)
    Replay.objects.filter(pk=replay.pk).update(
        result={
            **replay.result,
            "dial": {
                "wanted": -0.95, "state": "done", "field": "quality_floor", "value": 0.0, "change": -0.9,
                "quality_change": -0.2, "is_reached": False, "requests": 5,
            },
        }
    )  # fmt: skip
    replay.refresh_from_db()
    dial = view_of(replay, place.author, now=NOON).dial
    assert dial is not None
    assert "cannot be reached" in dial.words
    assert "90" in dial.words


# --- who may ------------------------------------------------------------------------------------------------------


def test_who_only_sees_policies_sees_replays_and_starts_none() -> None:
    place = scene()
    keep(1, place.team)
    replay = done(place)
    client = somebody("view_routingpolicy", "view_policydraft")
    text = part(client, place)
    assert "alpha/dear" in text
    assert "Replay again" not in text
    assert "Find a threshold" not in text
    assert client.post(f"/admin/analytics/replay/draft/{place.draft.pk}/start/", {"last": "24h"}).status_code == 403
    assert client.post(f"/admin/analytics/replay/{replay.pk}/cancel/").status_code == 403
    assert client.post(f"/admin/analytics/replay/{replay.pk}/dial/", {"percent": "30"}).status_code == 403
    assert client.get(f"/admin/analytics/replay/{replay.pk}/csv/").status_code == 200


def test_who_sees_no_policies_sees_no_replays() -> None:
    place = scene()
    replay = done(place)
    client = somebody("view_persona")
    for address in (f"{replay.pk}/state/", f"{replay.pk}/csv/", f"draft/{place.draft.pk}/", f"{replay.pk}/change/"):
        assert client.get(f"/admin/analytics/replay/{address}").status_code in {403, 404}, address
    assert client.post(f"/admin/analytics/replay/{replay.pk}/cancel/").status_code in {403, 404}


def test_whoever_is_not_signed_in_is_asked_to() -> None:
    place = scene()
    response = Client().get(f"/admin/analytics/replay/draft/{place.draft.pk}/")
    assert response.status_code == 302
    assert "/login/" in response.headers["location"]


def test_looking_changes_nothing() -> None:
    place = scene()
    client = signed_in(place)
    assert client.get(f"/admin/analytics/replay/draft/{place.draft.pk}/start/").status_code == 405
    assert not Replay.objects.exists()


def test_a_value_is_used_by_the_author_of_the_draft_only() -> None:
    place = scene(strategy="lowest_cost", quality_floor=1.0)
    keep(2, place.team)
    replay = done(place)
    client = signed_in(place)
    client.post(f"/admin/analytics/replay/{replay.pk}/dial/", {"percent": "30"})
    from_queue(replay)
    PolicyDraft.objects.update(state=DraftState.REVIEW)
    assert "Use this value" not in part(client, place)
    response = client.post(f"/admin/analytics/replay/{replay.pk}/use/", follow=True)
    assert "Only its author" in response.content.decode()


def test_a_replay_without_a_draft_has_a_page_too() -> None:
    place = scene()
    keep(1, place.team)
    replay = done(place, draft=None, document=PolicyDocument())
    text = signed_in(place).get(f"/admin/analytics/replay/{replay.pk}/change/").content.decode()
    assert "nobody" in text
