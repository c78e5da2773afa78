"""Chat over the WebSocket, driven by a WebSocket client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from routerplatform.gateway.page_tokens import PageTokens
from routing.models import Team, VirtualKey
from tests import gateway as configure
from tests.factories import key_text_of
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, frames, hang, openai_events, openai_stream, status


class Socket:
    """A signed-in socket, as an application would use it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.receive_str(), PATIENCE_S))
        return frame

    async def until(self, *kinds: str) -> list[dict[str, Any]]:
        """Frames up to and with the first of a kind."""
        seen = [await self.next()]
        while seen[-1]["type"] not in kinds:
            seen.append(await self.next())
        return seen


@asynccontextmanager
async def connected(gateway: Gateway, **options: Any) -> AsyncIterator[Socket]:
    url = gateway.url.replace("http://", "ws://") + "/ws/chat/"
    async with gateway.session.ws_connect(url, **options) as socket:
        yield Socket(socket)


@asynccontextmanager
async def signed_in(gateway: Gateway) -> AsyncIterator[Socket]:
    async with connected(gateway, headers={"authorization": f"Bearer {gateway.key}"}) as socket:
        assert (await socket.next())["type"] == "ready"
        yield socket


async def test_a_chat_streams_its_frames_in_order(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo", pause_s=0.02))
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", messages=HELLO)
        seen = await socket.until("done", "error")
    kinds = [frame["type"] for frame in seen]
    assert kinds[:2] == ["start", "route"]
    assert kinds[-2:] == ["usage", "done"]
    assert "".join(frame["text"] for frame in seen if frame["type"] == "delta") == "Hello"
    assert {frame["id"] for frame in seen} == {"c1"}
    assert [frame["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    assert seen[1]["decision"]["candidates"][0]["verdict"] == "chosen"
    [record] = await records()
    assert (record.door, record.cost_nano) == ("websocket", 22_000)
    assert str(record.request_id) == seen[0]["request_id"]


@pytest.mark.parametrize("way", ["header", "subprotocol", "message"])
async def test_there_are_three_ways_to_sign_in(gateway: Gateway, way: str) -> None:
    options: dict[str, Any] = {}
    if way == "header":
        options["headers"] = {"authorization": f"Bearer {gateway.key}"}
    if way == "subprotocol":
        options["protocols"] = ["router.chat", gateway.key]
    async with connected(gateway, **options) as socket:
        if way == "message":
            await socket.send(type="auth", token=gateway.key)
        ready = await socket.next()
    assert ready["type"] == "ready"
    assert [model["id"] for model in ready["models"]] == ["auto", "sage", "swift"]


async def test_a_page_token_stands_for_its_key(gateway: Gateway) -> None:
    key_id = await sync_to_async(lambda: VirtualKey.objects.get().pk)()
    async with connected(gateway) as socket:
        await socket.send(type="auth", token=PageTokens().issue(key_id=key_id, user_id=1))
        assert (await socket.next())["type"] == "ready"


@pytest.mark.parametrize("token", ["rp_wrong", "forged:token:here", ""])
async def test_a_bad_token_closes_the_socket_with_4401(gateway: Gateway, token: str) -> None:
    async with connected(gateway) as socket:
        await socket.send(type="auth", token=token)
        assert (await socket.next())["code"] == "invalid_api_key"
        assert (await socket.socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert socket.socket.close_code == 4401


async def test_chatting_before_signing_in_closes_the_socket(gateway: Gateway) -> None:
    async with connected(gateway) as socket:
        await socket.send(type="chat", id="c1", messages=HELLO)
        await socket.socket.receive()
        assert socket.socket.close_code == 4401


@pytest.mark.parametrize(("origin", "accepted"), [("https://evil.example", False), (None, True), ("self", True)])
async def test_a_page_of_another_origin_is_refused(gateway: Gateway, origin: str | None, accepted: bool) -> None:
    options = {"origin": gateway.url if origin == "self" else origin} if origin else {}
    async with connected(gateway, headers={"authorization": f"Bearer {gateway.key}"}, **options) as socket:
        message = await socket.socket.receive()
    assert (message.type == aiohttp.WSMsgType.TEXT) is accepted
    assert accepted or socket.socket.close_code == 4403


async def test_stop_cancels_the_vendor_bills_what_came_and_says_so(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream(*["word "] * 200, pause_s=0.02))
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", model="swift", messages=HELLO)
        await socket.until("delta")
        await socket.send(type="stop", id="c1")
        seen = await socket.until("error")
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    assert seen[-1]["code"] == "cancelled"
    assert seen[-2]["type"] == "usage"
    [record] = await records()
    assert (record.state, record.usage_source) == ("cancelled", "counted")
    assert record.cost_nano == round(seen[-2]["cost_usd"] * 1e9)


@pytest.mark.parametrize(
    "script", [openai_stream(*["word "] * 200, pause_s=0.02), hang()], ids=["mid-stream", "no byte"]
)
async def test_a_person_who_leaves_is_billed_and_the_vendor_is_cancelled(
    gateway: Gateway, openai_upstream: Upstream, script: Any
) -> None:
    openai_upstream.play(script)
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", model="swift", messages=HELLO)
        await socket.until("start")
        await openai_upstream.asked()
        await asyncio.sleep(0.2)
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    [record] = await records()
    assert record.state == "cancelled"


async def test_two_chats_run_side_by_side(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("a", "b", "c", pause_s=0.02))
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="one", model="swift", messages=HELLO)
        await socket.send(type="chat", id="two", model="swift", messages=HELLO)
        done = {(await socket.until("done"))[-1]["id"], (await socket.until("done"))[-1]["id"]}
    assert done == {"one", "two"}


async def test_a_fault_is_an_error_frame_and_the_socket_lives_on(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(400, {"error": {"message": "no such thing", "type": "invalid_request_error"}}))
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", model="swift", messages=HELLO)
        *before, error = await socket.until("error")
        assert [frame["type"] for frame in before] == ["start"]
        assert (error["code"], error["status"]) == ("upstream_rejected", 400)
        await socket.send(type="ping")
        assert (await socket.next())["type"] == "pong"


async def test_a_broken_stream_ends_in_an_error_frame(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="c1", model="swift", messages=HELLO)
        seen = await socket.until("error", "done")
    assert seen[-1]["code"] == "upstream_failed"
    [record] = await records()
    assert seen[-2]["type"] == "usage"
    assert record.cost_nano == round(seen[-2]["cost_usd"] * 1e9) > 0


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', "null", '{"type": 7}', '{"type": "dance"}', '{"type": "chat"}', '{"type": "chat", "id": "c"}'],
)
async def test_a_message_that_makes_no_sense_gets_an_error_and_nothing_breaks(gateway: Gateway, text: str) -> None:
    async with signed_in(gateway) as socket:
        await socket.socket.send_str(text)
        seen = await socket.until("error")
        assert seen[-1]["code"] == "invalid_request"
        await socket.send(type="ping")
        assert (await socket.next())["type"] == "pong"


async def test_an_idle_socket_stays_open(gateway: Gateway) -> None:
    async with signed_in(gateway) as socket:
        await asyncio.sleep(7)
        await socket.send(type="ping")
        assert (await socket.next())["type"] == "pong"


# --- how many, and how long ---------------------------------------------------------------------------------------


@pytest.fixture
def few_sockets(settings: Settings) -> None:
    settings.WEBSOCKET_MAX_SOCKETS = 3
    settings.WEBSOCKET_MAX_SOCKETS_PER_KEY = 2


async def room(gateway: Gateway) -> None:
    """Until a socket that was closed no longer counts, which is a moment later; the one that tries it, too."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with connected(gateway, headers={"authorization": f"Bearer {gateway.key}"}) as socket:
                is_in = (await socket.socket.receive()).type is aiohttp.WSMsgType.TEXT
            await asyncio.sleep(0.2)
            if is_in:
                return


async def closed_with(socket: Socket) -> int | None:
    """The code that the gateway closes a socket with."""
    while (await asyncio.wait_for(socket.socket.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
        pass
    return socket.socket.close_code


@pytest.mark.usefixtures("few_sockets")
async def test_a_key_may_have_so_many_sockets_and_may_open_another_when_one_is_closed(gateway: Gateway) -> None:
    async with signed_in(gateway), connected(gateway) as other:
        async with signed_in(gateway):
            await other.send(type="auth", token=gateway.key)
            assert await closed_with(other) == 4429
        await room(gateway)
        async with signed_in(gateway) as third:
            await third.send(type="ping")
            assert (await third.next())["type"] == "pong"


@pytest.mark.usefixtures("few_sockets")
async def test_a_gateway_may_have_so_many_sockets_signed_in_or_not(gateway: Gateway) -> None:
    async with connected(gateway), connected(gateway), connected(gateway):
        await asyncio.sleep(0.1)
        async with connected(gateway) as one_more:
            assert await closed_with(one_more) == 4429
    await room(gateway)
    async with signed_in(gateway):
        pass


@pytest.mark.usefixtures("few_sockets")
async def test_a_socket_that_changes_its_key_gives_the_first_one_back(gateway: Gateway) -> None:
    await changed(gateway, lambda: configure.key(2, Team.objects.get()))
    async with signed_in(gateway) as first, signed_in(gateway):
        await first.send(type="auth", token=gateway.key)
        assert (await first.next())["type"] == "ready", "the same key again is not a second socket"
        await first.send(type="auth", token=key_text_of(2))
        assert (await first.next())["type"] == "ready"
        async with signed_in(gateway):
            pass


async def test_before_signing_in_a_message_is_short(gateway: Gateway) -> None:
    async with connected(gateway) as socket:
        await socket.send(type="auth", token="x" * 4096)
        assert "4,096 characters" in (await socket.next())["message"]
        await socket.send(type="auth", token=gateway.key)
        assert (await socket.next())["type"] == "ready"
        await socket.send(type="chat", id="1", model="swift", messages=[{"role": "user", "content": "x" * 5000}])
        assert (await socket.until("done", "error"))[-1]["type"] == "done"


async def test_a_chat_says_its_tag_where_other_callers_have_a_header(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream("Hello"), openai_stream("Hello"))
    async with signed_in(gateway) as socket:
        for number, tag in enumerate(["nightly", "\0" + "x" * 300]):
            await socket.send(type="chat", id=str(number), messages=HELLO, tag=tag, conversation="c-1")
            await socket.until("done")
        await socket.send(type="chat", id="9", messages=HELLO, tag=5)
        assert (await socket.until("error"))[-1]["param"] == "tag"
    assert [record.tag for record in await records(2)] == ["nightly", "x" * 60]
    assert not any({"tag", "conversation"} & set(call.body) for call in openai_upstream.calls)
