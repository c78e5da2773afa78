"""One request at every door: the same record but for the door's name, and one budget that holds at all of them."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from analytics.models import UsageRecord
from routerplatform.doors.library import AIModelRouter, RouterError
from routing.models import Team
from tests.doors.test_websocket import signed_in
from tests.factories import BudgetFactory
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed
from tests.gateway_path.test_hard_budgets import in_force
from tests.grpc_door import Door
from tests.upstreams.scripted import Upstream

OWN = {"id", "request_id", "started_at", "finished_at", "door", "ttft_ms", "latency_ms", "overhead_ms", "attempts"}
ASKED = {"model": "swift", "messages": HELLO, "max_tokens": 100}
STREAMED = {"is_stream"}
Refused = Callable[[Gateway, Door], Awaitable[str]]


async def over_http(gateway: Gateway, path: str, body: dict[str, Any]) -> str:
    """The code of the error; empty for an answer."""
    reply = await gateway.post(path, body)
    return "" if reply.status == 200 else str(reply.error["code"])


async def chat_completions(gateway: Gateway, _: Door) -> str:
    return await over_http(gateway, "/v1/chat/completions", ASKED)


async def messages(gateway: Gateway, _: Door) -> str:
    reply = await gateway.post("/v1/messages", ASKED)
    return "" if reply.status == 200 else "insufficient_quota" * (b"insufficient_quota" in reply.body)


async def native(gateway: Gateway, _: Door) -> str:
    return await over_http(gateway, "/api/v1/chat", ASKED)


async def batch(gateway: Gateway, _: Door) -> str:
    reply = await gateway.post("/api/v1/batch", {"requests": [ASKED]})
    [result] = reply.json["results"]
    return "" if result["status"] == "ok" else str(result["error"]["code"])


async def websocket(gateway: Gateway, _: Door) -> str:
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", **ASKED)
        last = (await socket.until("done", "error"))[-1]
    return str(last.get("code", ""))


async def grpc(_: Gateway, door: Door) -> str:
    said = await door.ask(prompt="Hello", model="swift", max_tokens=100)
    return str(said.info.metadata.get("code", said.message)) if said.message else ""


async def library(gateway: Gateway, _: Door) -> str:
    try:
        async with AIModelRouter(api_key=gateway.key) as router:
            await router.route(HELLO, model="swift", max_tokens=100)
    except RouterError as error:
        return error.code
    return ""


DOORS: dict[str, Refused] = {
    "chat-completions": chat_completions, "messages": messages, "rest": native, "batch": batch,
    "websocket": websocket, "grpc": grpc, "library": library,
}  # fmt: skip


async def test_one_request_at_each_door_leaves_one_and_the_same_record(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream
) -> None:
    for name, ask in DOORS.items():
        assert await ask(gateway, grpc_door) == "", name
    found = await records(len(DOORS))
    assert [record.door for record in found] == list(DOORS)
    for record in found:  # what it would cost at most is guessed by the length of the body, which is the door's own
        for candidate in record.decision["candidates"]:
            candidate.pop("estimated_cost_nano", None)
    for record in found[1:]:
        differs = {
            column.attname
            for column in UsageRecord._meta.concrete_fields
            if getattr(record, column.attname) != getattr(found[0], column.attname)
        }
        allowed = OWN | (STREAMED if record.door == "websocket" else set())
        assert differs <= allowed, (record.door, {name: getattr(record, name) for name in differs - allowed})
    assert len(openai_upstream.calls) == len(DOORS)


@pytest.mark.parametrize("name", DOORS)
async def test_a_budget_of_nothing_refuses_at_every_door(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream, name: str
) -> None:
    def nothing() -> None:
        team = Team.objects.get()
        BudgetFactory(scope="team", team=team, max_budget=Decimal(0), mode="strict")

    await changed(gateway, nothing)
    await grpc_door.changed(lambda: None)
    await in_force(gateway)
    assert await DOORS[name](gateway, grpc_door) == "insufficient_quota"
    assert openai_upstream.calls == []
