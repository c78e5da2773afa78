"""The official `openai` and `anthropic` clients run whole tool loops through the gateway, over every vendor's wire.

They keep the conversation as their users do: what the client got is what it gives back, with the thought and its proof.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio
from anthropic import beta_async_tool

from providers.demo.vectors import DIMENSIONS, vector_of
from tests.conformance.installation import EMBEDS, ONE_OF_EACH, Grid, embeds

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS = [kind for kind in ONE_OF_EACH if kind != "vllm"]  # it chats as openai-compatible does
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASKED = "What is the weather in Paris and Rome?"
THOUGHT = "[[thought=I have to look twice.]] "
MOST_ROUNDS = 4


def degrees(city: str) -> str:
    return f"{len(city) + 15} degrees in {city}"


@pytest_asyncio.fixture(loop_scope="module")
async def openai_client(grid: Grid) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{grid.url}/v1", api_key=grid.key, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def anthropic_client(grid: Grid) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=grid.url, api_key=grid.key, max_retries=0) as client:
        yield client


# --- openai: chat -------------------------------------------------------------------------------------------------

CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]


@pytest.mark.parametrize("prompt", [ASKED, THOUGHT + ASKED], ids=["no thought", "a thought"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_tool_loop_finishes(openai_client: openai.AsyncOpenAI, kind: str, prompt: str) -> None:
    messages: list[Any] = [{"role": "user", "content": prompt}]
    for _ in range(MOST_ROUNDS):
        answer = await openai_client.chat.completions.create(
            model=kind, messages=messages, tools=CHAT_TOOLS, extra_body={"reasoning": {"effort": "low"}}
        )
        [choice] = answer.choices
        messages.append(choice.message.model_dump(exclude_none=True))
        if choice.finish_reason != "tool_calls":
            break
        messages += chat_results(choice.message.tool_calls)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert degrees("Paris") in messages[-1]["content"]
    assert degrees("Rome") in messages[-1]["content"]


def chat_results(calls: Any) -> list[Any]:
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": degrees(json.loads(call.function.arguments)["city"]),
        }
        for call in calls
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_streamed_chat_tool_loop_finishes(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    messages: list[Any] = [{"role": "user", "content": ASKED}]
    finishes = []
    for _ in range(MOST_ROUNDS):
        async with openai_client.chat.completions.stream(model=kind, messages=messages, tools=CHAT_TOOLS) as stream:
            final = await stream.get_final_completion()
        [choice] = final.choices
        finishes.append(choice.finish_reason)
        messages.append(choice.message.model_dump(exclude_none=True, exclude={"parsed"}))
        if choice.finish_reason != "tool_calls":
            break
        messages += chat_results(choice.message.tool_calls)
    assert finishes == ["tool_calls", "stop"]
    assert degrees("Rome") in messages[-1]["content"]


# --- openai: responses --------------------------------------------------------------------------------------------

RESPONSE_TOOLS: Any = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}]


def response_results(response: Any) -> list[Any]:
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": degrees(json.loads(item.arguments)["city"]),
        }
        for item in response.output
        if item.type == "function_call"
    ]


@pytest.mark.parametrize("prompt", [ASKED, THOUGHT + ASKED], ids=["no thought", "a thought"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_tool_loop_that_replays_everything_finishes(
    openai_client: openai.AsyncOpenAI, kind: str, prompt: str
) -> None:
    items: list[Any] = [{"role": "user", "content": prompt}]
    text = ""
    for _ in range(MOST_ROUNDS):
        response = await openai_client.responses.create(
            model=kind,
            input=items,
            tools=RESPONSE_TOOLS,
            store=False,
            reasoning={"effort": "low", "summary": "auto"},
            include=["reasoning.encrypted_content"],
        )
        items += [item.model_dump(exclude_none=True) for item in response.output]
        results = response_results(response)
        if not results:
            text = response.output_text
            break
        items += results
    assert degrees("Paris") in text
    assert degrees("Rome") in text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_tool_loop_that_names_the_previous_one_finishes(
    openai_client: openai.AsyncOpenAI, kind: str, stream: bool
) -> None:
    first = await respond(openai_client, stream=stream, model=kind, input=ASKED, tools=RESPONSE_TOOLS)
    results = response_results(first)
    assert len(results) == 2
    second = await respond(
        openai_client,
        stream=stream,
        model=kind,
        input=results,
        tools=RESPONSE_TOOLS,
        previous_response_id=first.id,
    )
    assert degrees("Paris") in second.output_text
    third = await respond(
        openai_client,
        stream=stream,
        model=kind,
        input="[[say=As I said.]] Sure?",
        previous_response_id=second.id,
    )
    assert third.output_text == "As I said."
    assert third.usage.input_tokens > second.usage.input_tokens > 0


async def respond(client: openai.AsyncOpenAI, *, stream: bool, **fields: Any) -> Any:
    """The whole response, however it came."""
    if not stream:
        return await client.responses.create(**fields)
    async with client.responses.stream(**fields) as events:
        async for _ in events:
            pass
        return await events.get_final_response()


@pytest.mark.parametrize("kind", KINDS)
async def test_structured_output_is_parsed_by_the_sdk(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    schema = {"name": "place", "schema": {**WEATHER, "additionalProperties": False}, "strict": True}
    answer = await openai_client.chat.completions.create(
        model=kind,
        messages=[{"role": "user", "content": "A city, in Rome"}],
        response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[typeddict-item]
    )
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Rome"}


# --- openai: the rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if embeds(kind)])
async def test_the_openai_sdk_gets_vectors(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    """It asks for base64 by itself and unpacks it."""
    answer = await openai_client.embeddings.create(model=kind + EMBEDS, input=["one", "two"])
    assert [row.index for row in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == DIMENSIONS
    assert answer.data[1].embedding == pytest.approx(vector_of("two"))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_the_openai_sdk_gets_legacy_completions(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await openai_client.completions.create(model=kind, prompt="[[say=Once upon a time]]", max_tokens=50)
    stream = await openai_client.completions.create(
        model=kind, prompt="[[say=Once upon a time]]", max_tokens=50, stream=True
    )
    text = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])
    assert whole.choices[0].text == text == "Once upon a time"


async def test_both_sdks_list_the_models(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    assert set(ONE_OF_EACH) <= {model.id async for model in openai_client.models.list()}
    listed = [model async for model in anthropic_client.models.list(limit=1000)]
    assert set(ONE_OF_EACH) <= {model.id for model in listed}
    assert all(model.created_at and model.display_name and model.lifecycle for model in listed)
    assert (await openai_client.models.retrieve("gemini")).id == "gemini"
    assert (await anthropic_client.models.retrieve("gemini")).id == "gemini"


# --- anthropic ----------------------------------------------------------------------------------------------------

MESSAGE_TOOLS: Any = [{"name": "get_weather", "input_schema": WEATHER}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_tool_loop_with_thinking_finishes(
    anthropic_client: anthropic.AsyncAnthropic, kind: str, stream: bool
) -> None:
    messages: list[Any] = [{"role": "user", "content": THOUGHT + ASKED}]
    kinds: list[list[str]] = []
    for _ in range(MOST_ROUNDS):
        asked: Any = {
            "model": kind,
            "max_tokens": 4000,
            "messages": messages,
            "tools": MESSAGE_TOOLS,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        message = await message_of(anthropic_client, stream=stream, **asked)
        kinds.append([block.type for block in message.content])
        messages.append({"role": "assistant", "content": message.content})
        if message.stop_reason != "tool_use":
            break
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": degrees(block.input["city"])}
            for block in message.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})
    # Gemini's proof of a call has no place in a tool_use block: it travels in one that clients do not look into.
    assert [kind for kind in kinds[0] if kind != "redacted_thinking"] == ["thinking", "tool_use", "tool_use"]
    assert kinds[1][-1] == "text"
    said = "".join(block.text for block in messages[-1]["content"] if block.type == "text")
    assert degrees("Paris") in said


async def message_of(client: anthropic.AsyncAnthropic, *, stream: bool, **fields: Any) -> Any:
    if not stream:
        return await client.messages.create(**fields)
    async with client.messages.stream(**fields) as events:
        return await events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_anthropic_tool_runner_finishes(
    anthropic_client: anthropic.AsyncAnthropic, kind: str, stream: bool
) -> None:
    asked_for: list[str] = []

    @beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        asked_for.append(city)
        return degrees(city)

    runner: Any = anthropic_client.beta.messages.tool_runner(
        model=kind,
        max_tokens=1000,
        messages=[{"role": "user", "content": ASKED}],
        tools=[get_weather],
        stream=stream,
    )
    last = None
    async for step in runner:
        last = await step.get_final_message() if stream else step
    assert asked_for == ["Paris", "Rome"]
    assert last is not None
    assert last.stop_reason == "end_turn"
    assert degrees("Rome") in "".join(block.text for block in last.content if block.type == "text")


@pytest.mark.parametrize("kind", KINDS)
async def test_tokens_are_counted_for_every_wire(anthropic_client: anthropic.AsyncAnthropic, kind: str) -> None:
    counted = await anthropic_client.messages.count_tokens(
        model=kind, messages=[{"role": "user", "content": "How many tokens is this?"}], tools=MESSAGE_TOOLS
    )
    assert counted.input_tokens > 5
