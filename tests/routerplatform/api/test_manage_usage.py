"""Usage records by the management API: who sees which, by what they are found, and what they never tell."""

from datetime import timedelta
from typing import Any

import pytest

from routing.models import TeamRole
from tests.factories import NOON, TeamFactory, UsageAdjustmentFactory, UsageRecordFactory, VirtualKeyFactory
from tests.routerplatform.api.manager import in_team, staff, superuser

pytestmark = pytest.mark.django_db


def test_people_see_their_teams_and_who_may_see_usage_sees_all() -> None:
    team = TeamFactory()
    own = UsageRecordFactory(key=VirtualKeyFactory(team=team))
    other = UsageRecordFactory()
    for role in TeamRole:
        member = in_team(role, team)
        assert member.get("usage").ids == [str(own.pk)]
        assert member.get(f"usage/{own.pk}").status == 200
        assert member.get(f"usage/{other.pk}").refusal == (404, "not_found", None)
        assert member.get(f"usage?team={other.team_id}").ids == []
    seer = staff("analytics.view_usagerecord")
    assert sorted(seer.get("usage").ids) == sorted([str(own.pk), str(other.pk)])
    assert staff(username="plain").get("usage").ids == []


FOUND = {
    "persona": {"persona": "helper"},
    "policy": {"policy": "everyday"},
    "provider": {"provider": "acme"},
    "deployment": {"deployment": "acme/one"},
    "model": {"model": "one"},
    "door": {"door": "rest"},
    "tag": {"tag": "nightly"},
    "policy_version": {"policy_version": 3},
    "error": {"error_code": "upstream_timeout"},
    "state": {"state": "cancelled"},
}


@pytest.mark.parametrize("name", FOUND)
def test_records_are_found_by_what_they_are(name: str) -> None:
    [(column, value)] = FOUND[name].items()
    wanted = UsageRecordFactory(**{column: value})
    UsageRecordFactory()
    assert superuser().get(f"usage?{name}={value}").ids == [str(wanted.pk)]


def test_records_are_found_by_team_key_time_and_failure() -> None:
    manager = superuser()
    early, late = UsageRecordFactory(at=NOON), UsageRecordFactory(at=NOON + timedelta(hours=1), error_code="x")
    assert manager.get("usage").ids == [str(late.pk), str(early.pk)]
    assert manager.get(f"usage?team={early.team_id}&key={early.key_id}").ids == [str(early.pk)]
    assert manager.get("usage?since=2026-03-10T12:30:00Z").ids == [str(late.pk)]
    assert manager.get("usage?since=2026-03-10T12:00:00Z&until=2026-03-10T13:00:00Z").ids == [str(early.pk)]
    assert manager.get("usage?since=2026-03-10T14:00:00%2B01:00").ids == [str(late.pk)]
    assert manager.get("usage?failed=true").ids == [str(late.pk)]
    assert manager.get("usage?failed=false").ids == [str(early.pk)]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("since=yesterday", "since"),
        ("since=0000-01-01", "since"),
        ("until=%00", "until"),
        ("state=gone", "state"),
        ("team=x", "team"),
        ("prompt=hello", "prompt"),
        ("cursor=MjAyNg", "cursor"),
        ("error=%00", "error"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_by_name(query: str, param: str) -> None:
    assert superuser().get(f"usage?{query}").refusal == (400, "invalid_request", param)


def test_records_of_one_moment_are_all_told() -> None:
    records = {str(UsageRecordFactory(at=NOON).pk) for _ in range(5)}
    manager, found, path = superuser(), [], "usage?limit=2&state=settled"
    for _ in range(3):
        page = manager.get(path)
        found += page.ids
        path = (page.json["next"] or "").removeprefix("/api/v1/manage/")
    assert (len(found), set(found), path) == (5, records, "")


def test_a_record_tells_its_cost_exactly_and_what_was_corrected() -> None:
    attempts: list[Any] = [{"deployment": "acme/one", "failure": "timeout"}, {"deployment": "acme/two"}]
    record = UsageRecordFactory(cost_nano=39_150, attempts=attempts, decision={"how": "alias"}, price={"input": 1})
    UsageAdjustmentFactory(request_id=record.pk, started_at=record.started_at, delta_nano=-150)
    unpriced = UsageRecordFactory(cost_nano=None, at=NOON - timedelta(days=1))
    manager = superuser()
    row, other = manager.get("usage").json["data"]
    assert (row["cost_usd"], row["correction_usd"], row["attempts"]) == ("0.00003915", "-0.00000015", 2)
    assert (other["id"], other["cost_usd"], other["correction_usd"]) == (str(unpriced.pk), None, None)
    one = manager.get(f"usage/{record.pk}").json
    assert (one["attempts"], one["decision"], one["price"]) == (attempts, {"how": "alias"}, {"input": 1})
    assert one["correction_usd"] == "-0.00000015"
    assert {"prompt", "messages", "charges"} & one.keys() == set()


def test_records_are_read_and_nothing_else() -> None:
    record, manager = UsageRecordFactory(), superuser()
    for answer in (
        manager.post("usage"),
        manager.patch(f"usage/{record.pk}", cost_usd="0"),
        manager.delete(f"usage/{record.pk}"),
    ):
        assert answer.status == 405
