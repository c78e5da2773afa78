"""The demo provider's Responses API: events as OpenAI's own client wants them, conversations that are kept."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.providers.demo_client import HEADERS, Demo, demo_server
from tests.providers.demo_speakers import CITY, sse

TOOLS: Any = [{"type": "function", "name": "get_weather", "parameters": CITY, "strict": False}]
THINKS: Any = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False}


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


@pytest.fixture
async def client(demo: Demo) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any-key", max_retries=0) as client:
        yield client


async def events_of(demo: Demo, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "demo-swift", "stream": True, **fields}
    async with demo.session.post(f"{demo.url}/v1/responses", json=body, headers=HEADERS) as response:
        assert response.content_type == "text/event-stream"
        return list(sse(await response.read()))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types in order, deltas of one kind only once."""
    found: list[str] = []
    for event in events:
        if not found or found[-1] != event["type"]:
            found.append(event["type"])
    return found


async def test_the_events_of_a_text_come_in_order(demo: Demo) -> None:
    events = await events_of(demo, input="[[say=Good morning to you]]")
    assert kinds(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Good morning to you"
    assert events[0]["response"]["usage"] is None
    assert events[-1]["response"]["usage"]["output_tokens"] == len(deltas)
    assert {event["item_id"] for event in events if "item_id" in event} == {events[2]["item"]["id"]}
    assert events[2]["item"]["content"] == []


async def test_the_events_of_a_thought_and_of_calls_come_in_order(demo: Demo) -> None:
    prompt = "[[thought=I look.]] What is the weather in Paris and Rome?"
    events = await events_of(demo, input=prompt, tools=TOOLS, **THINKS)
    assert kinds(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        *[
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
        * 2,
        "response.completed",
    ]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call", "function_call"]
    assert output[0]["encrypted_content"]
    assert len({item["id"] for item in output}) == 3


async def test_a_refusal_has_events_of_its_own(demo: Demo) -> None:
    events = await events_of(demo, input="[[refusal=I will not.]]")
    assert "response.refusal.delta" in kinds(events)
    assert "response.output_text.delta" not in kinds(events)
    [item] = events[-1]["response"]["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "I will not."}]


async def test_a_cut_answer_is_incomplete(demo: Demo) -> None:
    events = await events_of(demo, input="[[tokens=90]] more", max_output_tokens=16)
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][-1]["status"] == "incomplete"


async def test_the_openai_sdk_reads_whole_and_streamed_responses(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(model="demo-swift", input="why is the sky blue?", instructions="Be brief.")
    assert "demo provider" in whole.output_text
    assert whole.instructions == "Be brief."
    async with client.responses.stream(
        model="demo-swift", input="why is the sky blue?", instructions="Be brief."
    ) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage
    Response.model_validate(whole.model_dump())


async def test_a_kept_response_goes_on_with_all_that_was_said(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="demo-swift", input="What is the weather in Oslo?", tools=TOOLS)
    [call] = first.output
    assert call.type == "function_call"
    told: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "-3 degrees, snow"}]
    second = await client.responses.create(model="demo-swift", input=told, previous_response_id=first.id, tools=TOOLS)
    assert "-3 degrees, snow" in second.output_text
    third = await client.responses.create(model="demo-swift", input="And now?", previous_response_id=second.id)
    assert third.usage is not None
    assert second.usage is not None
    assert third.usage.input_tokens > second.usage.input_tokens
    assert third.previous_response_id == second.id


async def test_what_is_not_stored_cannot_be_followed(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="demo-swift", input="Hi", store=False)
    with pytest.raises(openai.BadRequestError) as error:
        await client.responses.create(model="demo-swift", input="And?", previous_response_id=first.id)
    assert (error.value.code, error.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_a_kept_response_can_be_looked_up_and_deleted(demo: Demo, client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="demo-swift", input="Hi")
    status, body = await demo.get(f"/v1/responses/{first.id}", **HEADERS)
    assert status == 200
    assert [item["role"] for item in body["items"]] == ["user", "assistant"]
    await client.responses.delete(first.id)
    assert (await demo.get(f"/v1/responses/{first.id}", **HEADERS))[0] == 404


async def test_parsed_output_fits_the_schema(client: openai.AsyncOpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": CITY, "strict": True}}
    answer = await client.responses.create(model="demo-swift", input="A city, in Rome", text=form)
    assert answer.output_text == '{"city":"Rome"}'


async def test_an_error_in_the_stream_is_an_event_of_its_own(demo: Demo) -> None:
    events = await events_of(demo, input="[[tokens=20]] [[error_in_stream=3]]")
    assert events[-1]["type"] == "error"
    assert events[-1]["message"]
