"""Clients of OpenAI's chat API whose model is served through its Responses API only; OpenAI's SDK is the judge."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pydantic
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pytest_django import Settings

from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import HELLO, Gateway, records, serving
from tests.providers.wires.responses_words import Item, call, message, refused, response, stream_of, thought
from tests.upstreams.scripted import Script, Upstream, frames, status

WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
COST = 10 * 1_000 + 60 * 1_000 + 30 * 1_000 + 20 * 2_000  # of `USAGE`; the cache costs what input costs
BUSY = status(503, {"error": {"message": "busy", "code": "server_is_overloaded"}})

_allowed = pydantic.TypeAdapter(ResponseCreateParamsNonStreaming)


def playing(*items: Item) -> Script:
    """A whole answer when asked for one, the same items in a stream when asked for that."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        allow(body)
        if body.get("stream"):
            return await frames(stream_of(*items))(request, body)
        return web.json_response(response(*items))

    return script


def allow(body: dict[str, Any]) -> None:
    """OpenAI's own types allow this body; what they read lazily is read."""
    checked: Any = _allowed.validate_python({name: value for name, value in body.items() if name != "stream"})
    for lazily in (checked.get("tools", ()), *(item.get("summary", ()) for item in checked["input"])):
        list(lazily)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(playing(message("Hello")))
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def gateway(transactional_db: None, application: Application, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one model, `thinker`, that its provider serves through the Responses API only."""

    def install() -> str:
        [deployment] = configure.vendor("alpha", upstream.url, "gpt-x-pro", kind="openai")
        deployment.wire = "openai-responses"
        deployment.save()
        configure.alias("thinker", deployment)
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


def test_the_answers_of_these_tests_are_what_the_sdk_expects() -> None:
    said = Response.model_validate(response(thought("Hm", encrypted="gAAA"), message("On it. "), call(), message("Ok")))
    assert said.output_text == "On it. Ok"
    Response.model_validate(response(message(refused("No."))))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_told_and_billed(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    reply = await gateway.chat(model="thinker", stream=stream, max_completion_tokens=50)
    assert (reply.status, reply.text, reply.done) == (200, "Hello", stream)
    [asked] = upstream.calls
    assert asked.path == "/v1/responses"
    assert asked.body["input"] == [{"role": "user", "content": "Hello"}]
    assert (asked.body["max_output_tokens"], asked.body["store"]) == (50, False)
    [record] = await records()
    assert (record.input_tokens, record.cache_read_input_tokens, record.output_tokens) == (10, 60, 20)
    assert (record.usage_source, record.cost_nano, record.error_code) == ("provider", COST, "")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_sdks_tool_loop_ends_in_an_answer(
    client: openai.AsyncOpenAI, upstream: Upstream, stream: bool
) -> None:
    upstream.play(
        playing(
            thought("Two cities.", encrypted="gAAA"),
            message("I look them up."),
            call("weather", '{"city":"Rome"}', call_id="call_a", item_id="fc_a"),
            call("weather", '{"city":"Kraków"}', call_id="call_b", item_id="fc_b"),
        ),
        playing(message("Both sunny.")),
    )
    messages: list[Any] = [{"role": "user", "content": "Weather in Rome and Kraków?"}]
    for _ in range(2):
        if stream:
            async with client.chat.completions.stream(model="thinker", messages=messages, tools=[WEATHER]) as told:
                answer = (await told.get_final_completion()).choices[0]
        else:
            answer = (
                await client.chat.completions.create(model="thinker", messages=messages, tools=[WEATHER])
            ).choices[0]
        messages.append(answer.message.model_dump(exclude_none=True))
        for asked in answer.message.tool_calls or ():
            assert answer.finish_reason == "tool_calls"
            messages.append({"role": "tool", "tool_call_id": asked.id, "content": "sunny"})
    assert (answer.message.content, answer.finish_reason) == ("Both sunny.", "stop")
    said = [item for item in upstream.calls[1].body["input"] if item.get("type") != "reasoning"]
    assert said == [
        {"role": "user", "content": "Weather in Rome and Kraków?"},
        {"role": "assistant", "content": "I look them up."},
        {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call", "call_id": "call_b", "name": "weather", "arguments": '{"city":"Kraków"}'},
        {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
        {"type": "function_call_output", "call_id": "call_b", "output": "sunny"},
    ]


async def test_what_it_cannot_say_is_refused_and_what_it_leaves_out_is_named(
    gateway: Gateway, upstream: Upstream
) -> None:
    refused = await gateway.chat(model="thinker", stop=["END"])
    assert (refused.status, refused.error["code"]) == (400, "no_eligible_model")
    assert upstream.calls == []
    reply = await gateway.chat(model="thinker", seed=7, max_tokens=1)
    assert reply.status == 200
    assert reply.headers["x-router-dropped-params"] == "seed,max_tokens"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_response_sets_the_status_before_the_first_content(
    gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    error = {"code": "invalid_prompt", "message": "This prompt may not be answered."}
    failed = response(status="failed", error=error)
    end = {"type": "response.failed", "response": failed}
    upstream.play(frames(stream_of(end=end)) if stream else status(200, failed))
    reply = await gateway.chat(model="thinker", stream=stream)
    assert (reply.status, reply.error["code"]) == (400, "upstream_rejected")
    assert "may not be answered" in reply.error["message"]


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"data: [DONE]\n\n",
        b'event: error\ndata: {"type":"error","code":"server_error","message":"Sorry"}\n\n',
        b"data: {\n\n",
    ],
)
async def test_a_stream_that_breaks_off_ends_in_an_error_and_never_cleanly(
    gateway: Gateway, upstream: Upstream, tail: bytes
) -> None:
    whole = stream_of(message("Hello"))
    begun = whole[: whole.index(b"event: response.completed")]
    upstream.play(frames(begun + tail))
    reply = await gateway.chat(model="thinker", stream=True)
    assert reply.error["code"].startswith("upstream_")
    assert not reply.done
    [record] = await records()
    assert record.error_code == reply.error["code"]


async def test_a_busy_deployment_is_asked_once_more(gateway: Gateway, upstream: Upstream, settings: Settings) -> None:
    upstream.play(BUSY, playing(message("Hello")))
    reply = await gateway.chat(model="thinker", messages=HELLO)
    assert (reply.status, reply.text, len(upstream.calls)) == (200, "Hello", 2)
