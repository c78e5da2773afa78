"""Cursors while rows come and go, complaints by their path, and what the database says in our words."""

import base64
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from django.core.exceptions import ValidationError as RuleError
from django.test import Client

from routerplatform.api.errors import Conflict, FieldsRefused, told_as_conflict
from routerplatform.api.management.serializers import WHOLE, said_by
from routerplatform.api.management.views import flat
from tests.factories import NOON, DeploymentFactory, MembershipFactory, ProviderFactory, TeamFactory, UsageRecordFactory
from tests.routerplatform.api.manager import BASE, Manager, of, superuser

MANAGE = f"{BASE}/"


def sealed(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def pages(manager: Manager, path: str) -> list[list[Any]]:
    """The ids of every page."""
    found = []
    while path:
        page = manager.get(path)
        assert page.status == 200
        assert page.json["has_more"] == (page.json["next"] is not None) == (page.json["next_cursor"] is not None)
        found.append(page.ids)
        path = (page.json["next"] or "").removeprefix(MANAGE)
    return found


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5]), (500, [5])]
)
def test_pages_are_as_long_as_asked_and_the_last_has_no_next(limit: int, sizes: list[int]) -> None:
    ids = [TeamFactory().pk for _ in range(5)]
    found = pages(superuser(), f"teams?limit={limit}")
    assert [len(page) for page in found] == sizes
    assert list(chain(*found)) == ids


@pytest.mark.django_db
def test_rows_that_come_and_go_between_two_pages_shift_nothing() -> None:
    manager, teams = superuser(), [TeamFactory() for _ in range(6)]
    first = manager.get("teams?limit=2").json
    teams[0].delete()
    teams[1].delete()  # the one that the cursor stands for
    new = TeamFactory()
    second = manager.get(f"teams?limit=10&cursor={first['next_cursor']}")
    assert second.ids == [team.pk for team in teams[2:]] + [new.pk]


@pytest.mark.django_db
def test_the_address_of_the_next_page_keeps_the_filters() -> None:
    manager, provider = superuser(), ProviderFactory()
    ids = [DeploymentFactory(provider=provider).pk for _ in range(3)]
    DeploymentFactory()
    assert pages(manager, f"deployments?provider={provider.pk}&limit=2&is_active=true") == [ids[:2], ids[2:]]
    page = manager.get(f"deployments?provider={provider.pk}&limit=2").json
    assert page["next"] == f"{MANAGE}deployments?cursor={page['next_cursor']}&limit=2&provider={provider.pk}"


@pytest.mark.django_db
def test_a_cursor_of_somebody_else_shows_no_more_than_ones_own() -> None:
    for _ in range(4):
        TeamFactory()
    cursor = superuser().get("teams?limit=1").json["next_cursor"]
    membership = MembershipFactory()
    assert of(membership.user).get(f"teams?cursor={cursor}").ids == [membership.team_id]


@pytest.mark.django_db
@pytest.mark.parametrize("position", ["0", "1", str(2**63 - 1)])
def test_a_cursor_behind_no_row_is_an_empty_or_a_whole_page(position: str) -> None:
    assert superuser().get(f"teams?cursor={sealed(position)}").status == 200


@pytest.mark.django_db
@pytest.mark.parametrize("position", ["", " 1", "-1", "+1", "1.0", "1e3", str(2**63), "٣", "²", "1\0", "x", "1;2"])
def test_a_cursor_that_no_list_gave_is_refused(position: str) -> None:
    answer = superuser().get(f"teams?cursor={sealed(position) or '='}")
    assert answer.refusal == (400, "invalid_request", "cursor")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "position",
    [
        "1", "_", f"{NOON.isoformat()}", f"{NOON.isoformat()}_", f"_{'0' * 32}", f"{NOON.isoformat()}_7",
        f"9999-12-31T23:59:59-14:00_{'0' * 32}", f"0001-01-01T00:00:00+14:00_{'0' * 32}", f"never_{'0' * 32}",
    ],
)  # fmt: skip
def test_a_cursor_over_time_that_no_list_gave_is_refused(position: str) -> None:
    assert superuser().get(f"usage?cursor={sealed(position)}").refusal == (400, "invalid_request", "cursor")


@pytest.mark.django_db
def test_usage_is_told_the_latest_first_across_time_zones() -> None:
    ids = [str(UsageRecordFactory(at=NOON - timedelta(minutes=n)).pk) for n in range(5)]
    manager = superuser()
    assert list(chain(*pages(manager, "usage?limit=2"))) == ids
    elsewhere = (NOON - timedelta(minutes=2)).astimezone(UTC).isoformat().replace("+", "%2B")
    assert manager.get(f"usage?until={elsewhere}").ids == ids[3:]
    assert manager.get(f"usage?since={elsewhere}").ids == ids[:3]
    assert manager.get("usage?since=9999-12-31").ids == []


# --- complaints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"name": ["Too long."]}, [("name", "name: Too long.")]),
        ({"a": ["One.", "Two."], "b": "Three."}, [("a", "a: One."), ("a", "a: Two."), ("b", "b: Three.")]),
        ({"items": {1: ["No."]}}, [("items.1", "items.1: No.")]),
        ({"items": [{}, {"x": ["No."]}]}, [("items.1.x", "items.1.x: No.")]),
        ({WHOLE: ["Both or none."]}, [(None, "Both or none.")]),
        ({"a": {WHOLE: ["Not so."]}}, [("a", "a: Not so.")]),
        ({"a": {"b": {"c": ["Deep."]}}}, [("a.b.c", "a.b.c: Deep.")]),
        (["Alone."], [(None, "Alone.")]),
        ("Alone.", [(None, "Alone.")]),
        ({"x" * 100: ["Long."]}, [("x" * 60, "x" * 60 + ": Long.")]),
    ],
)
def test_nested_complaints_are_told_by_the_path_of_their_field(detail: Any, told: list[tuple[str | None, str]]) -> None:
    assert flat(detail) == told


def test_the_first_complaint_is_the_errors_own_and_all_stand_in_its_details() -> None:
    one = FieldsRefused([("a", "a: No.")])
    assert (one.param, one.details, str(one)) == ("a", None, "a: No.")
    two = FieldsRefused([("a", "a: No."), (None, "Nor this.")])
    assert (two.param, two.http_status) == ("a", 400)
    assert two.details == {"errors": [{"param": "a", "message": "a: No."}, {"param": None, "message": "Nor this."}]}


def test_a_models_complaints_are_said_by_field_or_for_the_whole() -> None:
    assert said_by(RuleError({"a": ["One."], "__all__": ["Two."]})) == {"a": ["One."], WHOLE: ["Two."]}
    assert said_by(RuleError(["One.", "Two."])) == {WHOLE: ["One.", "Two."]}


def test_what_a_service_refuses_is_a_conflict_in_its_own_words() -> None:
    with pytest.raises(Conflict, match=r"^One\. Two\.$") as caught, told_as_conflict():
        raise RuleError(["One.", "Two."])
    assert (caught.value.http_status, caught.value.code) == (409, "conflict")


@pytest.mark.django_db
def test_every_error_has_the_shape_of_the_rest_of_the_api() -> None:
    manager, made = superuser(), TeamFactory(name="Search")
    for answer in (
        manager.get("teams/999"),
        manager.get("teams?x=1"),
        manager.post("teams", name="Search", slug="x"),
        manager.post("teams"),
        manager.patch(f"teams/{made.pk}", if_match='"0"', name="x"),
        Manager("rt_x").get("teams"),
    ):
        assert {"message", "type", "code", "param"} <= answer.error.keys()
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.error["message"].endswith((".", "?"))
    assert Client().get(f"{BASE}/nothing").json()["error"]["code"] == "not_found"


@pytest.mark.django_db
def test_moments_are_told_in_utc_and_taken_in_any_zone() -> None:
    team, manager = TeamFactory(), superuser()
    ends = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
    for text in ("2031-05-01T12:00:00Z", "2031-05-01T14:00:00+02:00", "2031-05-01T12:00:00"):
        made = manager.post("keys", team=team.pk, name="bot", expires_at=text).json
        assert made["expires_at"] == ends.isoformat().replace("+00:00", "Z")
