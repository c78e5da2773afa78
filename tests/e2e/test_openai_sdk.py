"""The official `openai` SDK, sync and async, against a gateway process: what it promises its users holds through us.

What it makes of vendors' faults is in tests/conformance: here they would rest the keys that other tests need.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.e2e.processes import Database, DemoProvider, GatewayProcess, Platform, wait_until
from tests.gateway import Gateway

pytestmark = pytest.mark.e2e

MODELS = ("demo-swift", "demo-sage-mini")  # behind OpenAI's wire, behind Anthropic's
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{pair[0].url}/v1", api_key=shared_platform.key, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(
    shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess]
) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{pair[0].url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=shared_platform.key, max_retries=0) as client:
        yield client


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def cost_on_record(database: Database, request_id: str) -> int | None:
    wait_until(lambda: request_id in database.records(), what="the record")
    return database.records()[request_id].cost_nano


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_comes_back_with_text_usage_and_a_record(
    model: str, client: openai.OpenAI, shared_platform: Platform
) -> None:
    answer = client.chat.completions.create(model=model, messages=user("[[say=Good morning]]"))
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good morning")
    assert choice.finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0
    assert answer._request_id
    assert cost_on_record(shared_platform.database, answer._request_id)


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_comes_in_pieces_that_make_the_same_text(model: str, async_client: openai.AsyncOpenAI) -> None:
    whole = await async_client.chat.completions.create(model=model, messages=user("Explain caching"))
    stream = await async_client.chat.completions.create(
        model=model, messages=user("Explain caching"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert len([delta for delta in deltas if delta.content]) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert whole.usage
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_is_taken_up(model: str, client: openai.OpenAI) -> None:
    messages = user("How is the weather in Oslo? [[tool=weather]]")
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls
    [call] = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert "city" in json.loads(call.function.arguments)

    said: Any = answer.choices[0].message.model_dump(exclude_none=True)
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "7 degrees, rain"}
    final = client.chat.completions.create(model=model, messages=[*messages, said, result], tools=[WEATHER])
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


@pytest.mark.parametrize("model", MODELS)
async def test_tool_calls_are_streamed_in_pieces(model: str, async_client: openai.AsyncOpenAI) -> None:
    prompt = user("Weather in Oslo, twice [[tool=weather]] [[tool=weather]]")
    async with async_client.chat.completions.stream(model=model, messages=prompt, tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["weather", "weather"]
    assert len({call.id for call in calls}) == 2
    assert all("city" in json.loads(call.function.arguments) for call in calls)


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"auto", "chatbot", "code_assistant", "fast", *MODELS} <= names
    assert client.models.retrieve("fast").id == "fast"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-unknown")


def test_headers_tell_what_the_gateway_did(client: openai.OpenAI, shared_platform: Platform) -> None:
    raw = client.chat.completions.with_raw_response.create(model="demo-sage-mini", messages=user("Hello"))
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-router-deployment"] == "demo-anthropic/demo-sage-mini"
    assert raw.headers["x-router-attempts"] == "1"
    assert raw.headers["x-router-decision-id"] == raw.headers["x-request-id"]
    assert int(raw.headers["x-router-config-revision"]) > 0
    assert float(raw.headers["x-router-overhead-ms"]) >= 0
    nano = cost_on_record(shared_platform.database, raw.headers["x-request-id"])
    assert round(float(raw.headers["x-router-cost-usd"]) * 10**9) == nano


def test_errors_of_the_request_are_raised_as_the_sdks_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-unknown", messages=user("Hello"))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="auto", messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="rp_wrong_key").chat.completions.create(model="auto", messages=user("Hello"))
    assert refused.value.code == "invalid_api_key"


async def test_a_team_may_fall_back_where_one_vendor_fails(async_client: openai.AsyncOpenAI) -> None:
    prompt = user("Hello [[status=503]] [[on=demo-swift]]")
    raw = await async_client.chat.completions.with_raw_response.create(model="fast", messages=prompt)
    assert raw.headers["x-router-deployment"] == "demo-anthropic/demo-sage-mini"
    assert raw.headers["x-router-attempts"] == "2"


async def test_a_plain_http_client_hears_what_the_vendor_says(caller: Gateway, demo_provider: DemoProvider) -> None:
    body: dict[str, Any] = {"model": "demo-swift", "messages": user("Explain caching"), "stream": True}
    ours = await caller.chat(**body)
    theirs = Gateway(demo_provider.url, caller.session, "any-key")
    direct = await theirs.chat(**body)
    assert ours.done
    assert [event["choices"] for event in ours.events] == [event["choices"] for event in direct.events]
