"""An OpenAI client, a gateway, and a scripted Cohere behind it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import Gateway, records, serving
from tests.gateway_path.test_ollama_upstream import WEATHER, calls_of
from tests.providers.wires.builders import named_sse
from tests.providers.wires.test_cohere_answer import START, TEXT, USAGE, call_delta, call_start, delta, end
from tests.upstreams.scripted import Upstream, frames, status

PLAN = "I will look."


def answer(reason: str = "COMPLETE", **message: Any) -> Any:
    said = {"role": "assistant", **message}
    return status(200, {"id": "5a50480a", "message": said, "finish_reason": reason, "usage": USAGE})


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(answer(content=[{"type": "text", "text": "Hello"}]))
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def gateway(transactional_db: None, application: Application, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one model, `command`."""

    def install() -> str:
        [deployment] = configure.vendor("cohere", upstream.url, "command-a-03-2025", kind="cohere")
        configure.alias("command", deployment)
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


async def test_a_whole_answer_and_its_bill(gateway: Gateway, upstream: Upstream) -> None:
    reply = await gateway.chat(model="command", max_tokens=50, top_p=0.5, user="u-1")
    assert (reply.status, reply.text) == (200, "Hello")
    assert reply.headers["x-router-dropped-params"] == "user"
    [sent] = upstream.calls
    assert sent.path == "/v1/chat"
    assert sent.headers["Authorization"] == "Bearer sk-cohere-0001"
    assert (sent.body["max_tokens"], sent.body["p"]) == (50, 0.5)
    [record] = await records()
    assert (record.input_tokens, record.output_tokens) == (17, 12)
    assert record.cost_nano == 17 * 1000 + 12 * 2000


async def test_a_stream_says_the_same_with_the_same_bill(gateway: Gateway, upstream: Upstream) -> None:
    upstream.play(frames(TEXT))
    reply = await gateway.stream(model="command")
    assert (reply.status, reply.text, reply.done) == (200, "Grüß dich", True)
    [record] = await records()
    assert (record.input_tokens, record.output_tokens) == (17, 12)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_gives_the_plan_back(gateway: Gateway, upstream: Upstream, streamed: bool) -> None:
    asked = {"role": "user", "content": "Weather in Oslo?"}
    events = (
        START, delta("tool-plan-delta", tool_plan=PLAN), call_start(0, "weather_1", "weather"),
        call_delta(0, '{"city":"Oslo"}'), end("TOOL_CALL"),
    )  # fmt: skip
    call = {"id": "weather_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    first = frames(named_sse(*events)) if streamed else answer("TOOL_CALL", tool_plan=PLAN, tool_calls=[call])
    upstream.play(first, answer(content=[{"type": "text", "text": "It rains."}]))
    reply = await gateway.chat(model="command", messages=[asked], tools=[WEATHER], stream=streamed)
    [made] = calls_of(reply)
    assert (made["id"], made["name"], json.loads(made["arguments"])) == ("weather_1", "weather", {"city": "Oslo"})
    assert reply.text == PLAN
    turn = {"role": "assistant", "content": reply.text, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": made["id"], "content": "rain"}
    reply = await gateway.chat(model="command", messages=[asked, turn, result], tools=[WEATHER])
    assert reply.text == "It rains."
    assert upstream.calls[-1].body["messages"][1:] == [
        {"role": "assistant", "tool_plan": PLAN, "tool_calls": [call]},
        result,
    ]


async def test_json_beside_tools_is_refused_in_words(gateway: Gateway, upstream: Upstream) -> None:
    reply = await gateway.chat(model="command", tools=[WEATHER], response_format={"type": "json_object"})
    assert reply.status == 400
    assert "response_format together with tools" in reply.error["message"]
    assert upstream.calls == []


async def test_an_answer_that_ends_in_an_error_is_no_clean_stop(gateway: Gateway, upstream: Upstream) -> None:
    text = delta("content-delta", 0, content={"text": "Hel"})
    for last in ([], [end("ERROR", error="llm stream had an internal error")], [end("TIMEOUT")]):
        upstream.play(frames(named_sse(START, text, *last)))
        reply = await gateway.stream(model="command")
        assert reply.text == "Hel"
        assert not reply.done
        assert reply.error["code"].startswith("upstream_")
