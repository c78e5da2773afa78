"""/v1/responses over HTTP and with the official SDK, in front of vendors of other wires and of its own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pydantic
import pytest
from asgiref.sync import sync_to_async
from openai.types.responses import Response
from pytest_django import Settings

from providers.models import CatalogueModel
from providers.wires.sealed_thought import SealedThought, seal
from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import Gateway, Reply, records, serving
from tests.gateway_path.answers import (
    OPENAI_TOOL_CALL,
    TOOL_ARGUMENTS,
    anthropic_text,
    anthropic_tool_call,
    openai_said,
)
from tests.gateway_path.changes import changed
from tests.upstreams.responses import RESPONSES_USAGE, call, message, response_events, responses_answer
from tests.upstreams.scripted import (
    OPENAI_USAGE,
    Upstream,
    anthropic_answer,
    frames,
    hang,
    openai_answer,
    openai_events,
    status,
)

MODELS = ("swift", "sage")  # behind OpenAI's chat wire, behind Anthropic's
every_model = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


async def ask(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/responses", {"model": "swift", "input": "Hello", **body})


def response_of(reply: Reply) -> dict[str, Any]:
    """The whole object, however it came; it fits the SDK's own types."""
    assert reply.status == 200, reply.body
    body = reply.events[-1]["response"] if reply.events else reply.json
    Response.model_validate(body)
    found: dict[str, Any] = body
    return found


def text_of(response: dict[str, Any]) -> str:
    return Response.model_validate(response).output_text


def upstream_of(model: str, openai_upstream: Upstream, anthropic_upstream: Upstream) -> Upstream:
    return openai_upstream if model == "swift" else anthropic_upstream


# --- whole answers ------------------------------------------------------------------------------------------------


@every_model
@both_ways
async def test_a_question_is_answered_with_the_whole_object(gateway: Gateway, model: str, stream: bool) -> None:
    reply = await ask(gateway, model=model, stream=stream, metadata={"topic": "hello"}, instructions="Be brief.")
    response = response_of(reply)
    assert response["id"] == f"resp_{reply.headers['x-request-id']}"
    assert (response["object"], response["status"], response["error"]) == ("response", "completed", None)
    assert (response["metadata"], response["instructions"]) == ({"topic": "hello"}, "Be brief.")
    assert text_of(response) == ("Hello" if model == "swift" else "Bonjour")
    [message] = response["output"]
    assert message["id"].startswith("msg_")
    assert response["usage"] == RESPONSES_USAGE
    [record] = await records()
    assert (record.door, record.cost_nano) == ("responses", 22_000)


@every_model
async def test_a_stream_adds_up_to_the_whole_answer(gateway: Gateway, model: str) -> None:
    whole, streamed = [response_of(await ask(gateway, model=model, stream=stream)) for stream in (False, True)]
    for response in (whole, streamed):
        for name in ("id", "created_at"):
            response.pop(name)
        for item in response["output"]:
            item.pop("id")
    assert whole == streamed


async def test_a_stream_tells_every_step_in_order(gateway: Gateway) -> None:
    reply = await ask(gateway, model="swift", stream=True, input=[{"role": "user", "content": "Hello"}])
    kinds = [event["type"].removeprefix("response.") for event in reply.events]
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * 5,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in reply.events] == list(range(len(kinds)))
    names = [line[7:] for line in reply.body.decode().splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in reply.events]
    assert len({event["response"]["id"] for event in reply.events if "response" in event}) == 1
    assert not reply.done, "OpenAI sends no [DONE] here"


@both_ways
async def test_a_cut_answer_is_incomplete(gateway: Gateway, openai_upstream: Upstream, stream: bool) -> None:
    openai_upstream.play(openai_said({"content": "Once upon"}, usage=OPENAI_USAGE, finish="length"))
    reply = await ask(gateway, stream=stream, max_output_tokens=16)
    response = response_of(reply)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][0]["status"] == "incomplete"
    if stream:
        assert reply.events[-1]["type"] == "response.incomplete"


async def test_what_other_vendors_do_not_have_is_dropped_and_named(gateway: Gateway) -> None:
    tools = [WEATHER, {"type": "web_search"}, {"type": "custom", "name": "patch"}]
    reply = await ask(gateway, model="sage", tools=tools, prompt_cache_key="k", truncation="auto", store=True)
    assert reply.headers["x-router-dropped-params"] == "prompt_cache_key,truncation,tools.web_search,tools.custom"
    assert response_of(reply)["tools"] == tools


# --- requests that make no sense ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"input": None}, "input", "at least one item"),
        ({"input": []}, "input", "at least one item"),
        ({"input": 7}, "input", "str | array"),
        ({"input": ["Hello"]}, "input[0]", "object"),
        ({"input": [{"content": "Hello"}]}, "input[0]", "a “type”, or a “role”"),
        ({"input": [{"role": "critic", "content": "Hello"}]}, "input[0].role", "“critic” is not a role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0]", "needs its text"),
        ({"background": True}, "background", "not possible here"),
        ({"conversation": "conv_1"}, "conversation", "not kept here"),
        ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
        ({"temperature": 3}, "temperature", "between 0 and 2"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format", "must be text, json_object or json_schema"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "needs a “name”"),
        ({"tool_choice": "any"}, "tool_choice", "must be auto, none or required"),
        ({"metadata": {"a": 1}}, "metadata[...]", "str"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
async def test_a_wrong_field_is_named(
    gateway: Gateway, openai_upstream: Upstream, body: dict[str, Any], param: str, says: str
) -> None:
    reply = await ask(gateway, **body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert says in reply.error["message"]
    assert openai_upstream.calls == []


@pytest.mark.parametrize(
    ("body", "feature"),
    [
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "message.output_text.logprobs"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input_file with a file_"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_feature_that_only_openai_has_rules_other_models_out(
    gateway: Gateway, body: dict[str, Any], feature: str
) -> None:
    await changed(gateway, documents_for_all)
    reply = await ask(gateway, **body)
    assert (reply.status, reply.error["code"]) == (400, "no_eligible_model")
    assert f"alpha/swift-1 cannot take {feature}" in reply.error["message"]


def documents_for_all() -> None:
    for model in CatalogueModel.objects.all():
        model.capabilities = [*model.capabilities, "documents"]
        model.save()


async def test_only_post_is_taken(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/responses")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


# --- vendors that fail --------------------------------------------------------------------------------------------


@every_model
@both_ways
async def test_a_vendors_error_sets_the_status(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, stream: bool
) -> None:
    upstream_of(model, openai_upstream, anthropic_upstream).play(status(429, headers={"retry-after": "7"}))
    reply = await ask(gateway, model=model, stream=stream)
    assert (reply.status, reply.error["code"]) == (429, "upstream_rate_limited")
    assert reply.headers["retry-after"] == "7"


async def test_a_stream_that_breaks_fails_in_openais_own_words(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    reply = await ask(gateway, stream=True)
    kinds = [event["type"] for event in reply.events]
    assert kinds[-2:] == ["response.failed", "error"]
    assert "response.completed" not in kinds
    assert [event["sequence_number"] for event in reply.events] == list(range(len(kinds)))
    failed = Response.model_validate(reply.events[-2]["response"])
    assert (failed.status, failed.output_text) == ("failed", "Hel")
    assert failed.error
    assert failed.error.code == "server_error"
    assert reply.events[-1]["code"] == reply.events[-1]["error"]["code"] == "upstream_failed"
    assert reply.events[-1]["request_id"] == reply.headers["x-request-id"]


@every_model
async def test_the_sdk_raises_when_a_stream_breaks(
    client: openai.AsyncOpenAI, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str
) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    anthropic_upstream.play(anthropic_text("Hel", start={"input_tokens": 12}, end=None, cut_after=3, ends="cut"))
    stream = await client.responses.create(model=model, input="Hello", stream=True)
    kinds: list[str] = []

    async def read_on() -> None:
        async for event in stream:
            kinds.append(event.type)

    with pytest.raises(openai.APIError) as raised:
        await read_on()
    assert raised.value.code == "upstream_failed"
    assert kinds[-1] == "response.failed"


async def test_a_failure_after_a_sign_of_life_is_told_in_the_stream(
    transactional_db: None, settings: Settings, application: Application, openai_upstream: Upstream
) -> None:
    settings.STREAM_KEEP_ALIVE_S = 0.1
    openai_upstream.play(hang(0.4))
    async with alone(application, openai_upstream.url) as gateway:
        reply = await ask(gateway, stream=True)
    assert reply.status == 200
    assert reply.body.startswith(b": keep-alive\n\n")
    [event] = reply.events
    assert (event["type"], event["sequence_number"]) == ("error", 0)
    assert event["error"]["code"] == "upstream_failed"


@asynccontextmanager
async def alone(application: Application, url: str, kind: str = "openai-compatible") -> AsyncIterator[Gateway]:
    """A gateway with one model, `swift`."""

    def install() -> str:
        [deployment] = configure.vendor("alpha", url, "swift-1", kind=kind)
        configure.alias("swift", deployment)
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as base, aiohttp.ClientSession() as session:
        yield Gateway(base, session, key)


# --- a vendor of the same wire ------------------------------------------------------------------------------------


@pytest.fixture
async def own_wire(
    transactional_db: None, application: Application, openai_upstream: Upstream
) -> AsyncIterator[Gateway]:
    """A gateway in front of one vendor that speaks Responses itself."""
    openai_upstream.play(responses_answer())
    async with alone(application, openai_upstream.url, kind="openai") as gateway:
        yield gateway


@both_ways
async def test_a_vendors_own_words_pass_both_ways(own_wire: Gateway, openai_upstream: Upstream, stream: bool) -> None:
    said = {"input": "Hello", "tools": [{"type": "web_search"}], "x_unknown": {"a": 1}, "persona": ""}
    reply = await ask(own_wire, stream=stream, **said)
    response = response_of(reply)
    assert (response["id"], response["x_only_here"]) == ("resp_up", "passes")
    if stream:
        assert reply.body == b"".join(response_events(message("Hello")))
    [call] = openai_upstream.calls
    assert call.path == "/v1/responses"
    said.pop("persona")
    assert call.body == {"model": "swift-1", "stream": stream, **said}
    [record] = await records()
    assert record.cost_nano == 22_000


async def test_a_vendors_own_stream_that_breaks_ends_in_an_error_with_the_next_number(
    own_wire: Gateway, openai_upstream: Upstream
) -> None:
    events = response_events(message("Hello"))[:6]
    openai_upstream.play(frames(*events, pause_s=0.01, end="cut"))
    reply = await ask(own_wire, stream=True)
    assert reply.body.startswith(b"".join(events))
    assert (reply.events[-1]["type"], reply.events[-1]["sequence_number"]) == ("error", 6)
    assert reply.error["code"] == "upstream_failed"


async def test_what_another_vendor_thought_is_left_out_for_openai(own_wire: Gateway, openai_upstream: Upstream) -> None:
    theirs = {
        "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(SealedThought("anthropic", "sig")),
    }  # fmt: skip
    own = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAAopaque"}
    question = {"role": "user", "content": "Hello"}
    await ask(own_wire, input=[question, theirs, own, question])
    assert openai_upstream.calls[0].body["input"] == [question, own, question]


# --- the official SDK ---------------------------------------------------------------------------------------------


@every_model
async def test_the_sdk_reads_an_answer(client: openai.AsyncOpenAI, model: str) -> None:
    answer = await client.responses.create(model=model, input="Hello", reasoning={"effort": "low"})
    assert answer.output_text == ("Hello" if model == "swift" else "Bonjour")
    assert answer.usage
    assert answer.usage.total_tokens == 17
    assert answer.reasoning
    assert answer.reasoning.effort == "low"


@every_model
async def test_the_sdk_follows_a_stream_to_its_final_response(client: openai.AsyncOpenAI, model: str) -> None:
    async with client.responses.stream(model=model, input="Hello") as stream:
        texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert final.output_text == "".join(texts) == ("Hello" if model == "swift" else "Bonjour")
    assert final.status == "completed"


class Person(pydantic.BaseModel):
    name: str
    age: int


@every_model
async def test_the_sdk_parses_structured_answers(
    client: openai.AsyncOpenAI, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str
) -> None:
    openai_upstream.play(openai_answer('{"name": "Ada", "age": 36}'))
    anthropic_upstream.play(anthropic_answer('{"name": "Ada", "age": 36}'))
    answer = await client.responses.parse(model=model, input="Who?", text_format=Person)
    assert answer.output_parsed == Person(name="Ada", age=36)


def play_a_tool_loop(openai_upstream: Upstream, anthropic_upstream: Upstream) -> None:
    """First a call of the tool, then an answer."""
    counts = {"input_tokens": 12}
    openai_upstream.play(
        openai_said(OPENAI_TOOL_CALL, usage=OPENAI_USAGE, finish="tool_calls"), openai_answer("Rain, 7 degrees")
    )
    anthropic_upstream.play(
        anthropic_tool_call(start=counts, end={"output_tokens": 5}), anthropic_answer("Rain, 7 degrees")
    )


async def one_turn(client: openai.AsyncOpenAI, stream: bool, **body: Any) -> Any:
    if not stream:
        return await client.responses.create(**body)
    async with client.responses.stream(**body) as events:
        return await events.get_final_response()


@every_model
@both_ways
@pytest.mark.parametrize("by_id", [True, False], ids=["by id", "full replay"])
async def test_a_tool_loop_comes_to_its_end(
    client: openai.AsyncOpenAI, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, stream: bool,
    by_id: bool,
) -> None:  # fmt: skip
    play_a_tool_loop(openai_upstream, anthropic_upstream)
    history: Any = [{"role": "user", "content": "How is the weather in Paris?"}]
    first = await one_turn(client, stream, model=model, input=history, tools=[WEATHER], store=by_id)
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "7 degrees, rain"}
    told: Any = {"input": [result], "previous_response_id": first.id} if by_id else {"input": []}
    if not by_id:
        told["input"] = [*history, *first.output, result]
    final = await one_turn(client, stream, model=model, tools=[WEATHER], **told)
    assert final.output_text == "Rain, 7 degrees"
    sent = upstream_of(model, openai_upstream, anthropic_upstream).calls[1].body["messages"]
    assert [message["role"] for message in sent][:2] == ["user", "assistant"]
    assert call.call_id in json.dumps(sent[1])
    assert call.call_id in json.dumps(sent[2])
    assert "7 degrees, rain" in json.dumps(sent[2])


@both_ways
async def test_a_tool_loop_of_the_vendors_own_wire_stays_with_the_vendor(
    own_wire: Gateway, openai_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(
        responses_answer(call("call_1", "weather", TOOL_ARGUMENTS), response_id="resp_first"),
        responses_answer(message("Rain"), response_id="resp_second"),
    )
    async with openai.AsyncOpenAI(base_url=f"{own_wire.url}/v1", api_key=own_wire.key, max_retries=0) as client:
        first = await one_turn(client, stream, model="swift", input="Weather?", tools=[WEATHER])
        result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "rain"}
        final = await one_turn(
            client, stream, model="swift", input=[result], previous_response_id=first.id, tools=[WEATHER]
        )
    assert final.output_text == "Rain"
    sent = openai_upstream.calls[1].body
    assert (sent["previous_response_id"], sent["input"]) == ("resp_first", [result])


async def test_a_thought_goes_back_to_the_vendor_who_had_it(
    client: openai.AsyncOpenAI, anthropic_upstream: Upstream
) -> None:
    thinking = {"type": "thinking", "thinking": "Rain is likely.", "signature": "sig-1"}
    tool_use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
    answer = {
        "id": "msg_up", "type": "message", "role": "assistant", "model": "m", "content": [thinking, tool_use],
        "stop_reason": "tool_use", "usage": {"input_tokens": 12, "output_tokens": 5},
    }  # fmt: skip
    anthropic_upstream.play(status(200, answer), anthropic_answer("Rain"))
    history: Any = [{"role": "user", "content": "Weather?"}]
    effort: Any = {"effort": "low", "summary": "auto"}
    first = await client.responses.create(model="sage", input=history, tools=[WEATHER], reasoning=effort)
    reasoning, call = first.output
    assert reasoning.type == "reasoning"
    assert [part.text for part in reasoning.summary] == ["Rain is likely."]
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    history += [*first.output, result]
    await client.responses.create(model="sage", input=history, tools=[WEATHER], reasoning=effort)
    sent = anthropic_upstream.calls[1].body["messages"]
    assert sent[1]["content"][0] == thinking
    assert sent[1]["content"][1]["id"] == "toolu_1"
