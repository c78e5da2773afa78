"""An OpenAI client, a gateway, and a scripted Ollama behind it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import Gateway, Reply, records, serving
from tests.providers.wires.test_ollama_answer import call, done, line, ndjson
from tests.upstreams.scripted import Upstream, frames, status

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = line("2026-11-21T10:00:00.1Z", tool_calls=[call("weather", {"city": "Oslo"})])


def stream(*payloads: dict[str, Any]) -> Any:
    return frames(ndjson(*payloads), content_type="application/x-ndjson")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(status(200, done(content="Hello")))
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def gateway(transactional_db: None, application: Application, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one model, `llama`, at an Ollama that needs no key."""

    def install() -> str:
        [deployment] = configure.vendor("home", upstream.url, "llama3.2", kind="ollama")
        configure.alias("llama", deployment)
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


def calls_of(reply: Reply) -> list[dict[str, Any]]:
    """The tool calls of a reply, whole or streamed."""
    if not reply.events:
        whole: list[dict[str, Any]] = reply.json["choices"][0]["message"]["tool_calls"]
        return [{"id": call["id"], **call["function"]} for call in whole]
    found: dict[int, dict[str, Any]] = {}
    for event in reply.events:
        for choice in event["choices"]:
            for piece in choice["delta"].get("tool_calls") or ():
                known = found.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                known["id"] += piece.get("id") or ""
                known["name"] += piece["function"].get("name") or ""
                known["arguments"] += piece["function"].get("arguments") or ""
    return list(found.values())


async def test_a_whole_answer_and_its_bill(gateway: Gateway, upstream: Upstream) -> None:
    reply = await gateway.chat(model="llama", max_tokens=50, logit_bias={"1": 1}, user="u-1")
    assert (reply.status, reply.text) == (200, "Hello")
    assert set(reply.headers["x-router-dropped-params"].split(",")) == {"logit_bias", "user"}
    [sent] = upstream.calls
    assert sent.path == "/v1/chat"
    assert sent.body["options"] == {"num_predict": 50}
    [record] = await records()
    assert (record.input_tokens, record.output_tokens) == (26, 29)
    assert record.cost_nano == 26 * 1000 + 29 * 2000


async def test_a_stream_says_the_same_with_the_same_bill(gateway: Gateway, upstream: Upstream) -> None:
    upstream.play(stream(line(thinking="Hm."), line(content="Hel"), line(content="lo"), done()))
    reply = await gateway.stream(model="llama", stream_options={"include_usage": True})
    assert (reply.status, reply.text, reply.done) == (200, "Hello", True)
    assert reply.events[-1]["usage"]["total_tokens"] == 55
    assert upstream.calls[0].body["stream"] is True
    [record] = await records()
    assert (record.input_tokens, record.output_tokens) == (26, 29)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_of_a_server_without_ids(gateway: Gateway, upstream: Upstream, streamed: bool) -> None:
    asked = {"role": "user", "content": "Weather in Oslo?"}
    upstream.play(
        stream(CALL, done()) if streamed else status(200, {**CALL, "done": True}),
        status(200, done(content="It rains.")),
    )
    reply = await gateway.chat(model="llama", messages=[asked], tools=[WEATHER], stream=streamed)
    [made] = calls_of(reply)
    assert (made["name"], json.loads(made["arguments"])) == ("weather", {"city": "Oslo"})
    function = {"name": made["name"], "arguments": made["arguments"]}
    turn = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": made["id"], "type": "function", "function": function}],
    }
    result = {"role": "tool", "tool_call_id": made["id"], "content": "rain"}
    reply = await gateway.chat(model="llama", messages=[asked, turn, result], tools=[WEATHER])
    assert reply.text == "It rains."
    assert upstream.calls[-1].body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": made["id"], "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "tool_call_id": made["id"], "tool_name": "weather", "content": "rain"},
    ]


async def test_an_image_by_address_is_refused_in_words(gateway: Gateway, upstream: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}
    reply = await gateway.chat(model="llama", messages=[{"role": "user", "content": [image]}])
    assert reply.status == 400
    assert "an image by address" in reply.error["message"]
    assert upstream.calls == []


async def test_a_stream_that_breaks_off_ends_in_an_error(gateway: Gateway, upstream: Upstream) -> None:
    for last in ([], [{"error": "the model has crashed"}]):
        upstream.play(stream(line(content="Hel"), *last))
        reply = await gateway.stream(model="llama")
        assert reply.text == "Hel"
        assert not reply.done
        assert reply.error["code"].startswith("upstream_")


async def test_an_error_before_the_first_word_keeps_its_status(gateway: Gateway, upstream: Upstream) -> None:
    upstream.play(status(404, {"error": 'model "llama3.2" not found, try pulling it first'}))
    reply = await gateway.stream(model="llama")
    assert (reply.status, reply.error["code"]) == (502, "upstream_model_not_found")
