"""`POST /api/v1/feedback`: what is kept of what people say, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async

from analytics.models import Feedback
from routerplatform.gateway.ids import new_request_id
from tests.factories import TeamFactory, UsageRecordFactory
from tests.gateway import Gateway, Reply

PATH = "/api/v1/feedback"


async def give(gateway: Gateway, decision_id: str, **said: Any) -> Reply:
    return await gateway.post(PATH, {"decision_id": decision_id, **said})


@sync_to_async
def kept() -> list[dict[str, Any]]:
    return list(Feedback.objects.order_by("pk").values("decision_id", "team_id", "source", "thumb", "grade", "text"))


async def test_what_is_said_of_an_answer_is_kept_and_replaced(gateway: Gateway) -> None:
    decision_id = (await gateway.chat()).headers["x-router-decision-id"]
    first = await give(gateway, decision_id, thumb="down", text="  Made it up. ")
    assert (first.status, first.json["thumb"], first.json["is_first"]) == (200, "down", True)
    again = await give(gateway, decision_id, thumb="up", grade=0.9)
    assert (again.json["thumb"], again.json["grade"], again.json["is_first"]) == ("up", 0.9, False)
    (row,) = await kept()
    assert (row["decision_id"], row["thumb"], row["grade"], row["text"]) == (UUID(decision_id), "up", 0.9, "")


@pytest.mark.parametrize(
    ("said", "complaint", "param"),
    [
        ({}, "Say something: a thumb, a grade or a text.", "thumb"),
        ({"thumb": "sideways"}, "not a valid choice", "thumb"),
        ({"grade": 1.5}, "less than or equal to 1", "grade"),
        ({"grade": "NaN"}, "", "grade"),
        ({"text": "x" * 4_001}, "no more than 4000 characters", "text"),
        ({"decision_id": "abc"}, "Must be a valid UUID", "decision_id"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_name(
    gateway: Gateway, said: dict[str, Any], complaint: str, param: str
) -> None:
    reply = await gateway.post(PATH, {"decision_id": new_request_id(), **said})
    assert reply.status == 400
    assert complaint in reply.json["error"]["message"]
    assert reply.json["error"]["param"] == param
    assert await kept() == []


async def test_a_body_that_is_no_object_is_refused(gateway: Gateway) -> None:
    for body in ([], "thumb", None):
        assert (await gateway.post(PATH, body)).status == 400


async def test_a_request_of_another_team_is_not_there(gateway: Gateway) -> None:
    def somebody_elses() -> str:
        return str(UsageRecordFactory(team=TeamFactory()).pk)

    foreign = await sync_to_async(somebody_elses)()
    reply = await give(gateway, foreign, thumb="up")
    assert (reply.status, reply.json["error"]["code"]) == (404, "decision_not_found")
    assert await kept() == []


async def test_a_request_that_nobody_made_is_not_there(gateway: Gateway) -> None:
    long_ago = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000)
    old = UUID(int=(long_ago << 80) | (7 << 76) | (2 << 62) | 5)
    for unknown in (str(old), "5c2f0f0e-8f0e-4b57-9d0e-0f9f5d9ad001"):
        assert (await give(gateway, unknown, thumb="up")).status == 404


async def test_feedback_that_is_quicker_than_the_record_is_kept(gateway: Gateway) -> None:
    assert (await give(gateway, new_request_id(), thumb="up")).status == 200


async def test_without_a_key_nothing_is_kept(gateway: Gateway) -> None:
    reply = await gateway.post(PATH, {"decision_id": new_request_id(), "thumb": "up"}, key="rp_aaaaaaaa_" + "x" * 40)
    assert reply.status == 401
    assert await kept() == []
