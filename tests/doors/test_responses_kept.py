"""Going on from an earlier response by its id: here with any model, at a vendor where it keeps the conversation."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from openai.types.responses import Response
from pytest_django import Settings

from analytics.domain.idempotency import StoreAwayError
from analytics.domain.responses import MAX_ITEMS_BYTES, KeptResponse
from analytics.models import StoredResponse
from providers.models import Deployment
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.conversations import Conversations
from routerplatform.gateway.runtime import Runtime, Runtimes
from tests import gateway as configure
from tests.conftest import configure_two_vendors
from tests.factories import key_text_of
from tests.gateway import Gateway, Reply, records, serving
from tests.gateway_path.changes import changed
from tests.upstreams.responses import message, responses_answer
from tests.upstreams.scripted import Upstream, anthropic_answer, frames, openai_answer, openai_events, status

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def ask(gateway: Gateway, text: str = "Hello", *, key: str | None = None, **body: Any) -> Reply:
    return await gateway.post("/v1/responses", {"model": "swift", "input": text, **body}, key=key)


def response_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.events[-1]["response"] if reply.events else reply.json
    return found


def id_of(reply: Reply) -> str:
    return str(response_of(reply)["id"])


async def rows() -> int:
    return await sync_to_async(StoredResponse.objects.count)()


async def delete(gateway: Gateway, name: str, *, key: str | None = None) -> Reply:
    url = f"{gateway.url}/v1/responses/{name}"
    async with gateway.session.delete(url, headers=gateway.headers(key)) as response:
        return Reply(response.status, {}, await response.read())


# --- kept here ----------------------------------------------------------------------------------------------------


@both_ways
async def test_a_conversation_goes_on_by_the_id_of_its_last_response(
    gateway: Gateway, openai_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(openai_answer("One"), openai_answer("Two"), openai_answer("Three"))
    first = await ask(gateway, "First?", stream=stream, instructions="Count.")
    second = await ask(gateway, "Second?", stream=stream, previous_response_id=id_of(first))
    third = await ask(gateway, "Third?", stream=stream, previous_response_id=id_of(second))
    assert response_of(third)["previous_response_id"] == id_of(second)
    said = [(message["role"], message["content"]) for message in openai_upstream.calls[2].body["messages"]]
    assert said == [
        ("user", "First?"), ("assistant", "One"), ("user", "Second?"), ("assistant", "Two"), ("user", "Third?"),
    ]  # fmt: skip
    assert openai_upstream.calls[0].body["messages"][0] == {"role": "system", "content": "Count."}


async def test_another_model_of_another_wire_may_go_on(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    first = await ask(gateway, "First?")
    second = await ask(gateway, "Second?", model="sage", previous_response_id=id_of(first))
    assert Response.model_validate(response_of(second)).output_text == "Bonjour"
    sent = anthropic_upstream.calls[0].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]


async def test_a_vendor_that_speaks_responses_gets_all_that_was_said(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: _own_wire(openai_upstream.url))
    first = await ask(gateway, "First?", model="sage")
    openai_upstream.play(responses_answer())
    second = await ask(gateway, "Second?", model="own", previous_response_id=id_of(first))
    assert id_of(second) == "resp_up"
    sent = openai_upstream.calls[-1].body
    assert "previous_response_id" not in sent
    assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][1]["content"][0]["text"] == "Bonjour"


def _own_wire(url: str) -> None:
    [deployment] = configure.vendor("gamma", url, "own-1", kind="openai")
    configure.alias("own", deployment)


async def test_one_response_may_be_gone_on_from_twice(gateway: Gateway, openai_upstream: Upstream) -> None:
    first = await ask(gateway, "First?")
    for text in ("Left?", "Right?"):
        await ask(gateway, text, previous_response_id=id_of(first))
    last = [call.body["messages"][-1]["content"] for call in openai_upstream.calls]
    assert last == ["First?", "Left?", "Right?"]
    assert [len(call.body["messages"]) for call in openai_upstream.calls] == [1, 3, 3]


async def test_any_gateway_of_the_installation_may_go_on(
    gateway: Gateway, openai_upstream: Upstream, tmp_path: Path, settings: Settings
) -> None:
    first = await ask(gateway, "First?")
    settings.JOURNAL_DIR = tmp_path / "another"
    other = Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())
    async with serving(other) as url:
        second = await ask(
            Gateway(url, gateway.session, gateway.key), "Second?", previous_response_id=id_of(first)
        )  # fmt: skip
    assert second.status == 200
    assert len(openai_upstream.calls[1].body["messages"]) == 3


async def test_the_estimate_counts_what_was_said_before(gateway: Gateway) -> None:
    first = await ask(gateway, "word " * 2_000)
    await ask(gateway, "More?", previous_response_id=id_of(first))
    estimates = [record.decision["candidates"][0]["estimated_cost_nano"] for record in await records(2)]
    assert estimates[1] >= estimates[0]


async def test_what_is_kept_is_encrypted(gateway: Gateway) -> None:
    await ask(gateway, "The secret plan")
    row = await sync_to_async(lambda: StoredResponse.objects.values().get())()
    assert "secret" not in json.dumps(row, default=str)
    assert row["expires_at"] - row["created_at"] == timedelta(days=30)


async def one_turn(gateway: Gateway, *items: dict[str, Any], **body: Any) -> dict[str, Any]:
    return response_of(await gateway.post("/v1/responses", {"model": "swift", "input": list(items), **body}))


def named(response: dict[str, Any]) -> dict[str, Any]:
    return {"type": "item_reference", "id": response["output"][0]["id"]}


async def test_items_that_are_only_named_are_those_of_earlier_responses(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    """Vercel's AI SDK sends a conversation so, unless it is told not to store."""
    openai_upstream.play(openai_answer("One"), openai_answer("Two"), openai_answer("Three"))
    questions = [{"role": "user", "content": text} for text in ("First?", "Second?", "Third?")]
    first = await one_turn(gateway, questions[0])
    second = await one_turn(gateway, questions[0], named(first), questions[1])
    await one_turn(gateway, questions[0], named(first), questions[1], named(second), questions[2])
    said = [message["content"] for message in openai_upstream.calls[2].body["messages"]]
    assert said == ["First?", "One", "Second?", "Two", "Third?"]


async def test_an_item_may_be_named_beside_a_previous_response(gateway: Gateway, openai_upstream: Upstream) -> None:
    one, other = [await one_turn(gateway, {"role": "user", "content": "First?"}) for _ in range(2)]
    await one_turn(gateway, named(other), previous_response_id=one["id"])
    assert [message["content"] for message in openai_upstream.calls[2].body["messages"]] == ["First?", "Hello", "Hello"]


@pytest.mark.parametrize("name", ["msg_unknown", "msg_01a1fe72-a851-7593-b1be-bb74d56c7a0a_0", ""])
async def test_an_item_that_nobody_knows_rules_other_vendors_out(gateway: Gateway, name: str) -> None:
    body = {"model": "swift", "input": [{"type": "item_reference", "id": name}]}
    reply = await gateway.post("/v1/responses", body)
    assert (reply.status, reply.error["param"]) == (400, "item_reference")


# --- not kept -----------------------------------------------------------------------------------------------------


@both_ways
async def test_who_says_so_is_forgotten(gateway: Gateway, stream: bool) -> None:
    reply = await ask(gateway, store=False, stream=stream)
    assert response_of(reply)["store"] is False
    assert await rows() == 0
    again = await ask(gateway, previous_response_id=id_of(reply))
    assert (again.status, again.error["code"]) == (400, "previous_response_not_found")


async def test_a_failed_answer_is_not_kept(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    reply = await ask(gateway, stream=True)
    assert reply.events[-2]["type"] == "response.failed"
    openai_upstream.play(status(400))
    assert (await ask(gateway)).status == 400
    assert await rows() == 0


async def test_a_conversation_that_is_too_long_says_that_it_is_not_kept(gateway: Gateway) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * MAX_ITEMS_BYTES}
    said = [{"role": "user", "content": [image]}]
    body = io.BytesIO(json.dumps({"model": "swift", "input": said}).encode())
    async with gateway.session.post(f"{gateway.url}/v1/responses", data=body, headers=gateway.headers()) as reply:
        assert (reply.status, (await reply.json())["store"]) == (200, False)
    assert await rows() == 0


async def test_with_no_days_nothing_is_kept(
    transactional_db: None, settings: Settings, application: Application, openai_upstream: Upstream
) -> None:
    settings.RESPONSES_KEPT_DAYS = 0
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, openai_upstream.url)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        gateway = Gateway(url, session, key)
        first = await ask(gateway)
        assert response_of(first)["store"] is False
        second = await ask(gateway, previous_response_id=id_of(first))
    assert second.error["code"] == "previous_response_not_found"
    assert await rows() == 0


@pytest.mark.parametrize("name", ["resp_1", "x" * 500, "resp\x00"])
async def test_an_unknown_response_is_an_error_in_openais_own_words(
    gateway: Gateway, openai_upstream: Upstream, name: str
) -> None:
    reply = await ask(gateway, previous_response_id=name)
    assert reply.status == 400
    assert reply.error == {
        "message": f"Previous response with id '{name}' not found.",
        "type": "invalid_request_error",
        "code": "previous_response_not_found",
        "param": "previous_response_id",
    }
    assert openai_upstream.calls == []


async def test_another_teams_response_is_as_good_as_unknown(gateway: Gateway) -> None:
    first = await ask(gateway)
    await changed(gateway, lambda: configure.key(2))
    stranger = key_text_of(2)
    reply = await ask(gateway, previous_response_id=id_of(first), key=stranger)
    assert reply.error["code"] == "previous_response_not_found"
    assert (await gateway.get(f"/v1/responses/{id_of(first)}", key=stranger)).status == 404
    assert (await delete(gateway, id_of(first), key=stranger)).status == 404
    assert await rows() == 1


async def test_after_its_time_a_response_is_gone(gateway: Gateway) -> None:
    first = await ask(gateway)
    await sync_to_async(StoredResponse.objects.update)(expires_at=timezone.now())
    reply = await ask(gateway, previous_response_id=id_of(first))
    assert reply.error["code"] == "previous_response_not_found"


async def test_a_repetition_is_told_again_and_kept_once(gateway: Gateway, openai_upstream: Upstream) -> None:
    named = {"Idempotency-Key": "order-1"}
    body = {"model": "swift", "input": "Hello"}
    first, again = [await gateway.post("/v1/responses", body, extra=named) for _ in range(2)]
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert (await rows(), len(openai_upstream.calls)) == (1, 1)
    assert (await ask(gateway, previous_response_id=id_of(again))).status == 200


# --- kept by a vendor ---------------------------------------------------------------------------------------------


@pytest.fixture
async def two_homes(
    transactional_db: None, application: Application, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> AsyncIterator[Gateway]:
    """`both` is served by a vendor that speaks Responses (`home`), then by another one (`second`), then by `beta`."""

    def install() -> str:
        [home] = configure.vendor("home", openai_upstream.url, "own-1", kind="openai")
        [second] = configure.vendor("second", openai_upstream.url, "own-2", kind="openai")
        [sage] = configure.vendor("beta", anthropic_upstream.url, "sage-1", kind="anthropic-compatible")
        configure.alias("both", home, second, sage)
        configure.alias("second", second)
        return configure.key(1)

    openai_upstream.play(responses_answer())
    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


@both_ways
async def test_the_vendor_who_keeps_it_goes_on(two_homes: Gateway, openai_upstream: Upstream, stream: bool) -> None:
    openai_upstream.play(status(503), responses_answer(), responses_answer(message("Two"), response_id="resp_two"))
    first = await ask(two_homes, model="both", stream=stream)
    assert first.headers["x-router-deployment"] == "second/own-2"
    second = await ask(two_homes, model="both", stream=stream, previous_response_id="resp_up")
    assert second.headers["x-router-deployment"] == "second/own-2"
    assert id_of(second) == "resp_two"
    assert openai_upstream.calls[-1].body["previous_response_id"] == "resp_up"
    row = await sync_to_async(StoredResponse.objects.earliest)("pk")
    assert (row.response_id, row.deployment, row.sealed) == ("resp_up", "second/own-2", "")


async def test_no_other_model_goes_on_from_what_a_vendor_keeps(
    two_homes: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await ask(two_homes, model="both")
    reply = await ask(two_homes, model="second", previous_response_id="resp_up")
    assert (reply.status, reply.error["code"]) == (400, "no_eligible_model")
    assert "is kept at home/own-1" in reply.error["message"]
    openai_upstream.play(status(503))
    assert (await ask(two_homes, model="both", previous_response_id="resp_up")).status == 503
    assert anthropic_upstream.calls == [], "it would have answered without knowing what was said"


async def test_a_vendor_that_was_told_not_to_keep_it_is_not_asked_for_it(
    two_homes: Gateway, openai_upstream: Upstream
) -> None:
    await ask(two_homes, model="both", store=False)
    assert openai_upstream.calls[0].body["store"] is False
    reply = await ask(two_homes, model="both", previous_response_id="resp_up")
    assert reply.error["code"] == "previous_response_not_found"


async def test_a_deployment_that_no_longer_speaks_responses_does_not_go_on_without_the_conversation(
    two_homes: Gateway, openai_upstream: Upstream
) -> None:
    await ask(two_homes, model="both")

    def chat_only() -> None:
        deployment = Deployment.objects.get(upstream_model="own-1")
        deployment.wire = "openai"
        deployment.save()

    await changed(two_homes, chat_only)
    reply = await ask(two_homes, model="both", previous_response_id="resp_up")
    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
    assert len(openai_upstream.calls) == 1


async def test_what_a_vendor_keeps_is_neither_read_nor_deleted_here(two_homes: Gateway) -> None:
    await ask(two_homes, model="both")
    for reply in (await two_homes.get("/v1/responses/resp_up"), await delete(two_homes, "resp_up")):
        assert (reply.status, reply.error["code"]) == (404, "response_not_found")
        assert "kept by its provider, at home/own-1" in reply.error["message"]


# --- reading and deleting -----------------------------------------------------------------------------------------


@both_ways
async def test_a_kept_response_is_told_again_and_deleted(gateway: Gateway, stream: bool) -> None:
    first = await ask(gateway, stream=stream)
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        again = await client.responses.retrieve(id_of(first))
        assert again == Response.model_validate(response_of(first))
        await client.responses.delete(id_of(first))
        with pytest.raises(openai.NotFoundError) as gone:
            await client.responses.retrieve(id_of(first))
        assert gone.value.code == "response_not_found"
    assert await rows() == 0


async def test_deleting_says_so_once(gateway: Gateway) -> None:
    name = id_of(await ask(gateway))
    reply = await delete(gateway, name)
    assert (reply.status, reply.json) == (200, {"id": name, "object": "response", "deleted": True})
    assert (await delete(gateway, name)).status == 404


async def test_what_went_on_from_a_deleted_response_is_still_whole(gateway: Gateway, openai_upstream: Upstream) -> None:
    first = await ask(gateway, "First?")
    second = await ask(gateway, "Second?", previous_response_id=id_of(first))
    await delete(gateway, id_of(first))
    await ask(gateway, "Third?", previous_response_id=id_of(second))
    assert len(openai_upstream.calls[2].body["messages"]) == 5


async def test_a_kept_response_is_not_streamed_again(gateway: Gateway) -> None:
    name = id_of(await ask(gateway))
    reply = await gateway.get(f"/v1/responses/{name}?stream=true")
    assert (reply.status, reply.error["param"]) == (400, "stream")


async def test_a_kept_response_needs_a_key(gateway: Gateway) -> None:
    name = id_of(await ask(gateway))
    assert (await gateway.get(f"/v1/responses/{name}", key="rp_wrong")).status == 401
    assert (await gateway.post(f"/v1/responses/{name}", {})).headers["allow"] == "GET, DELETE"


# --- while the database is away -----------------------------------------------------------------------------------


class Away:
    """A store whose database cannot be reached."""

    def keep(self, response: KeptResponse, *, now: datetime, until: datetime) -> bool:
        raise StoreAwayError("away")

    def find(self, team_id: int, response_id: str, *, now: datetime) -> KeptResponse | None:
        raise StoreAwayError("away")

    def forget(self, team_id: int, response_id: str) -> bool:
        raise StoreAwayError("away")

    def close(self) -> None:
        return


@pytest.fixture
async def storeless(
    transactional_db: None, application: Application, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> AsyncIterator[Gateway]:
    """`gateway`, with the kept responses out of reach."""

    def build() -> Runtime:
        return replace(build_runtime(), conversations=Conversations(Away(), kept_for=timedelta(days=30)))

    away = Application(runtimes=Runtimes(build), pages=pages, sockets=socket_application())
    key = await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)
    async with serving(away) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


@both_ways
async def test_who_refers_to_nothing_is_served(storeless: Gateway, stream: bool) -> None:
    assert Response.model_validate(response_of(await ask(storeless, stream=stream))).output_text == "Hello"


async def test_who_refers_to_an_earlier_response_is_told_to_come_again(
    storeless: Gateway, anthropic_upstream: Upstream
) -> None:
    anthropic_upstream.play(anthropic_answer())
    reply = await ask(storeless, previous_response_id="resp_1")
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "responses_unavailable", "2")
    assert (await storeless.get("/v1/responses/resp_1")).status == 503


async def test_what_could_not_be_kept_yet_is_gone_on_from_in_the_same_gateway(
    storeless: Gateway, openai_upstream: Upstream
) -> None:
    first = await ask(storeless, "First?")
    second = await ask(storeless, "Second?", previous_response_id=id_of(first))
    assert second.status == 200
    assert len(openai_upstream.calls[1].body["messages"]) == 3
