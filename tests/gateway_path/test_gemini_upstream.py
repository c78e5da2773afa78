"""A client of OpenAI's whose model is Gemini: whole answers, streams and a tool loop through a running gateway."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async

from providers.wires.gemini_contents import NO_PROOF
from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import HELLO, Gateway, Reply, records, serving
from tests.providers.wires.gemini_words import THREE, answer, call, text, usage
from tests.upstreams.scripted import Script, Upstream, frames, sse, status

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
COUNTS = usage(12, 3, thoughtsTokenCount=2)


def playing(*parts: dict[str, Any], finish: str = "STOP") -> Script:
    """A whole answer when asked for one, the same parts one by one in a stream when asked for that."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if ":streamGenerateContent" in request.path:
            assert request.query["alt"] == "sse"
            chunks = [answer(part) for part in parts]
            return await frames(*sse(*chunks, answer(finish=finish, **COUNTS)))(request, body)
        return web.json_response(answer(*parts, finish=finish, **COUNTS))

    return script


@pytest.fixture
async def gemini_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(playing(text("Hel"), text("lo")))
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def gemini(transactional_db: None, application: Application, gemini_upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one model, `bard`, on Gemini's wire."""

    def install() -> str:
        configure.alias("bard", *configure.vendor("google", gemini_upstream.url, THREE, kind="gemini"))
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_told_and_billed(gemini: Gateway, gemini_upstream: Upstream, stream: bool) -> None:
    reply = await gemini.chat(model="bard", messages=HELLO, stream=stream, max_tokens=50)
    assert (reply.status, reply.text, reply.done) == (200, "Hello", stream)
    [asked] = gemini_upstream.calls
    method = "streamGenerateContent" if stream else "generateContent"
    assert asked.path == f"/v1/models/{THREE}:{method}"
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert headers["x-goog-api-key"] == "sk-google-0001"
    assert "authorization" not in headers
    assert asked.body["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]
    assert asked.body["generationConfig"] == {"maxOutputTokens": 50}
    [record] = await records()
    assert (record.input_tokens, record.output_tokens, record.reasoning_tokens) == (12, 5, 2)
    assert (record.usage_source, record.cost_nano) == ("provider", 12 * 1_000 + 5 * 2_000)


def calls_of(reply: Reply) -> list[dict[str, Any]]:
    if not reply.events:
        found: list[dict[str, Any]] = reply.json["choices"][0]["message"]["tool_calls"]
        return found
    calls: dict[int, dict[str, Any]] = {}
    for event in reply.events:
        for piece in (event["choices"][0]["delta"].get("tool_calls") or ()) if event["choices"] else ():
            known = calls.setdefault(piece["index"], {**piece, "function": {"name": "", "arguments": ""}})
            for name, value in piece["function"].items():
                known["function"][name] += value or ""
    return [{name: value for name, value in known.items() if name != "index"} for _, known in sorted(calls.items())]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_loop_finishes(gemini: Gateway, gemini_upstream: Upstream, stream: bool) -> None:
    gemini_upstream.play(
        playing(call("weather", {"city": "Oslo"}, thoughtSignature="pr00f=="), call("weather", {"city": "Rome"})),
        playing(text("Rain, sun.")),
    )
    first = await gemini.chat(model="bard", messages=HELLO, tools=[WEATHER], stream=stream)
    calls = calls_of(first)
    assert [json.loads(asked["function"]["arguments"]) for asked in calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert len({asked["id"] for asked in calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": asked["id"], "content": sky}
        for asked, sky in zip(calls, ("rain", '{"sky": "blue"}'), strict=True)
    ]
    history = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    second = await gemini.chat(model="bard", messages=history, tools=[WEATHER], stream=stream)
    assert second.text == "Rain, sun."
    [_, said, told] = gemini_upstream.calls[1].body["contents"]
    assert said["role"] == "model"
    assert [part["functionCall"]["args"]["city"] for part in said["parts"]] == ["Oslo", "Rome"]
    assert said["parts"][0]["thoughtSignature"] in ("pr00f==", NO_PROOF)
    assert told["role"] == "user"
    assert [part["functionResponse"]["response"] for part in told["parts"]] == [{"output": "rain"}, {"sky": "blue"}]
    assert [part["functionResponse"]["id"] for part in told["parts"]] == [asked["id"] for asked in calls]
    assert [part["functionResponse"]["name"] for part in told["parts"]] == ["weather", "weather"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_the_callers_error(gemini: Gateway, gemini_upstream: Upstream, stream: bool) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, **usage(12, 0)}
    gemini_upstream.play(frames(*sse(blocked)) if stream else status(200, blocked))
    reply = await gemini.chat(model="bard", messages=HELLO, stream=stream)
    assert reply.status == 400
    assert "SAFETY" in reply.error["message"]
    assert len(gemini_upstream.calls) == 1


async def test_a_stream_that_breaks_off_never_ends_cleanly(gemini: Gateway, gemini_upstream: Upstream) -> None:
    gemini_upstream.play(frames(*sse(answer(text("Hel"), **usage(12, 1)))))
    reply = await gemini.stream(model="bard", messages=HELLO)
    assert (reply.status, reply.text, reply.done) == (200, "Hel", False)
    assert reply.error["code"].startswith("upstream_")
    [record] = await records()
    assert (record.input_tokens, record.usage_source) == (12, "counted")  # the vendor's count of the prompt
