"""The demo provider over real HTTP: chat completions and messages, the vendors' own SDKs, time, the bills."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import jsonschema  # type: ignore[import-untyped]
import openai
import pytest
from pydantic import BaseModel

from providers.demo.exchange import MODELS, count
from tests.providers.demo_client import HEADERS, Demo, demo_server, text_of, text_of_message
from tests.stalls import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    "required": ["city"],
}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
ANTHROPIC_TOOLS: Any = [{"name": "get_weather", "input_schema": WEATHER}]


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


@pytest.fixture
async def openai_client(demo: Demo) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any-key", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(demo: Demo) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=demo.url, api_key="any-key", max_retries=0) as client:
        yield client


# --- OpenAI wire ----------------------------------------------------------------------------------------------


async def test_a_chat_completion_has_the_vendors_shape(demo: Demo) -> None:
    async with demo.post_chat("Hello") as response:
        assert response.headers["x-request-id"].startswith("req_")
        assert response.content_type == "application/json"
        body = await response.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "demo-swift"
    assert body["id"].startswith("chatcmpl-")
    [choice] = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert "demo provider" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["completion_tokens"] == count(choice["message"]["content"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_stream_is_role_tokens_finish_and_done(demo: Demo) -> None:
    events = await demo.chat_events("Hello")
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert events[-1] == {"done": True}
    assert events[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
    assert len({(event["id"], event["created"], event["model"]) for event in events[:-1]}) == 1
    assert all("usage" not in event for event in events)
    whole = await demo.chat("Hello")
    assert text_of(events) == whole["choices"][0]["message"]["content"]


async def test_include_usage_adds_one_chunk_without_choices_before_done(demo: Demo) -> None:
    events = await demo.chat_events("Hello", stream_options={"include_usage": True})
    usage = events[-2]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == count(text_of(events))
    assert all(event["usage"] is None for event in events[:-2])


async def test_the_openai_sdk_reads_a_stream(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="demo-balanced",
        messages=[{"role": "user", "content": "compare SQLite and Postgres"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "| SQLite | PostgreSQL |" in text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == count(text)


async def test_the_openai_sdk_lists_and_gets_models(openai_client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in openai_client.models.list()]
    assert listed == ["demo-swift", "demo-balanced", "demo-deep", "demo-embed"]
    assert (await openai_client.models.retrieve("demo-deep")).owned_by == "router-platform-demo"
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("demo-sage")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_ends_with_length_and_exactly_so_many_tokens(demo: Demo, field: str) -> None:
    body = await demo.chat("a story about rain", **{field: 7})
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 7
    assert count(body["choices"][0]["message"]["content"]) == 7


async def test_stop_ends_before_the_sequence(demo: Demo) -> None:
    body = await demo.chat("[[say=one two three four]]", stop=["four", " three"])
    assert body["choices"][0]["message"]["content"] == "one two"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 2


async def test_a_stream_of_parallel_tool_calls_sends_arguments_in_deltas(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="demo-swift",
        messages=[{"role": "user", "content": "What is the weather in Paris and Rome?"}],
        tools=OPENAI_TOOLS,
        stream=True,
    )
    calls: dict[int, dict[str, str]] = {}
    deltas, finish = 0, None
    async for chunk in stream:
        finish = chunk.choices[0].finish_reason or finish
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            call = calls.setdefault(delta.index, {"id": delta.id or "", "name": "", "arguments": ""})
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
            deltas += 1
    assert finish == "tool_calls"
    assert [json.loads(call["arguments"])["city"] for call in calls.values()] == ["Paris", "Rome"]
    assert {call["name"] for call in calls.values()} == {"get_weather"}
    assert len({call["id"] for call in calls.values()}) == 2
    assert deltas > 8


async def test_parallel_tool_calls_can_be_switched_off(demo: Demo) -> None:
    body = await demo.chat(
        "What is the weather in Paris and Rome?", tools=OPENAI_TOOLS, parallel_tool_calls=False, temperature=0
    )
    [call] = body["choices"][0]["message"]["tool_calls"]
    assert body["choices"][0]["message"]["content"] is None
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER)


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", False),
        ("auto", False),
        ("required", True),
        ({"type": "function", "function": {"name": "get_weather"}}, True),
    ],
)
async def test_tool_choice_decides_when_the_prompt_names_no_tool(demo: Demo, choice: Any, called: bool) -> None:
    body = await demo.chat("Hello", tools=OPENAI_TOOLS, tool_choice=choice)
    assert ("tool_calls" in body["choices"][0]["message"]) is called


async def test_a_tools_result_is_answered_in_words(demo: Demo) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "[[tool=get_weather]] Weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "-3 degrees, snow"},
    ]
    body = await demo.chat("", messages=messages, tools=OPENAI_TOOLS)
    assert "-3 degrees, snow" in body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "stop"


class Recipe(BaseModel):
    title: str
    minutes: int
    steps: list[str]
    vegan: bool | None


async def test_the_openai_sdk_parses_structured_output(openai_client: openai.AsyncOpenAI) -> None:
    parsed = await openai_client.chat.completions.parse(
        model="demo-swift",
        messages=[{"role": "user", "content": "A recipe for lentil soup in 25 minutes"}],
        response_format=Recipe,
    )
    recipe = parsed.choices[0].message.parsed
    assert recipe is not None
    assert recipe.title == "lentil soup in 25 minutes"
    assert recipe.minutes == 25


async def test_json_object_mode_gives_an_object(demo: Demo) -> None:
    body = await demo.chat("As JSON: who are you?", response_format={"type": "json_object"})
    assert json.loads(body["choices"][0]["message"]["content"])["demo"] is True


async def test_pictures_are_accepted_counted_and_mentioned(demo: Demo) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    body = await demo.chat("", model="demo-balanced", messages=[{"role": "user", "content": parts}])
    assert "an image" in body["choices"][0]["message"]["content"]
    assert body["usage"]["prompt_tokens"] > 85


# --- Anthropic wire -------------------------------------------------------------------------------------------


async def test_a_message_has_the_vendors_shape(demo: Demo) -> None:
    async with demo.post_message("Hello", system="You are a kind teacher.") as response:
        assert response.headers["request-id"].startswith("req_")
        body = await response.json()
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "demo-sage")
    assert body["id"].startswith("msg_")
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    [block] = body["content"]
    assert block["type"] == "text"
    assert "As a kind teacher" in block["text"]
    assert body["usage"]["output_tokens"] == count(block["text"])
    assert body["usage"]["cache_read_input_tokens"] == 0


async def test_the_events_of_a_message_come_in_order(demo: Demo) -> None:
    events = await demo.message_events("Hello")
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    start, end = events[0]["message"], events[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 1)
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert end["usage"]["output_tokens"] == count(text_of_message(events)) == len(kinds) - 6


async def test_the_anthropic_sdk_accumulates_a_stream(anthropic_client: anthropic.AsyncAnthropic) -> None:
    async with anthropic_client.messages.stream(
        model="demo-sage-mini",
        max_tokens=500,
        system=[{"type": "text", "text": "You are a storyteller."}],
        messages=[{"role": "user", "content": "a story about the sea"}],
    ) as stream:
        text = "".join([part async for part in stream.text_stream])
        message = await stream.get_final_message()
    assert "**The sea**" in text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == count(text)


async def test_the_anthropic_sdk_gets_parallel_tool_uses(anthropic_client: anthropic.AsyncAnthropic) -> None:
    async with anthropic_client.messages.stream(
        model="demo-sage",
        max_tokens=500,
        tools=ANTHROPIC_TOOLS,
        messages=[{"role": "user", "content": "What is the weather in Paris, Rome and Oslo?"}],
    ) as stream:
        message = await stream.get_final_message()
    blocks = [block for block in message.content if block.type == "tool_use"]
    assert [block.input["city"] for block in blocks] == ["Paris", "Rome", "Oslo"]
    assert message.stop_reason == "tool_use"


async def test_a_tool_result_block_is_answered_in_words(demo: Demo) -> None:
    messages = [
        {"role": "user", "content": "[[tool=get_weather]] Weather in Oslo?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "-3 degrees, snow"}]},
    ]
    body = await demo.message("", messages=messages, tools=ANTHROPIC_TOOLS)
    assert "-3 degrees, snow" in body["content"][0]["text"]
    assert body["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ({"type": "auto"}, False),
        ({"type": "none"}, False),
        ({"type": "any"}, True),
        ({"type": "tool", "name": "get_weather"}, True),
    ],
)
async def test_anthropic_tool_choice_decides(demo: Demo, choice: Any, called: bool) -> None:
    body = await demo.message("Hello", tools=ANTHROPIC_TOOLS, tool_choice=choice)
    assert (body["stop_reason"] == "tool_use") is called
    assert (body["content"][0]["type"] == "tool_use") is called


async def test_anthropic_limits_and_stop_sequences(demo: Demo) -> None:
    cut = await demo.message("a story about rain", max_tokens=5)
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 5)
    stopped = await demo.message("[[say=one two three]]", stop_sequences=[" three"])
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", " three")
    assert stopped["content"] == [{"type": "text", "text": "one two"}]
    nothing = await demo.message("Hello", max_tokens=0)
    assert (nothing["stop_reason"], nothing["content"]) == ("max_tokens", [])


async def test_a_tool_input_cut_by_the_limit_is_still_an_object(demo: Demo) -> None:
    body = await demo.message("[[tool=get_weather]]", tools=ANTHROPIC_TOOLS, max_tokens=3)
    assert body["content"][0]["input"] == {}
    assert body["stop_reason"] == "max_tokens"


async def test_anthropic_pictures_are_counted_and_mentioned(demo: Demo) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    parts = [{"type": "image", "source": source}, {"type": "image", "source": source}, {"type": "text", "text": "Eh?"}]
    body = await demo.message("", messages=[{"role": "user", "content": parts}])
    assert "2 images" in body["content"][0]["text"]
    assert body["usage"]["input_tokens"] > 170


async def test_anthropic_structured_output_fits_the_schema(demo: Demo) -> None:
    body = await demo.message("A soup", output_config={"format": {"type": "json_schema", "schema": WEATHER}})
    jsonschema.validate(json.loads(body["content"][0]["text"]), WEATHER)


async def test_the_anthropic_sdk_lists_and_gets_models(anthropic_client: anthropic.AsyncAnthropic) -> None:
    listed = [model.id async for model in await anthropic_client.models.list()]
    assert listed == ["demo-sage", "demo-sage-mini"]
    assert (await anthropic_client.models.retrieve("demo-sage")).display_name == "Demo Sage"


async def test_both_wires_give_the_same_text(demo: Demo) -> None:
    prompt = "[[tokens=40]] why is the sky blue?"
    chat = await demo.chat(prompt, model="demo-balanced")
    again = await demo.chat(prompt, model="demo-balanced")
    assert chat["choices"] == again["choices"]
    assert chat["id"] == again["id"]
    said = "[[say=the very same]]"
    message = await demo.message(said)
    assert message["content"][0]["text"] == (await demo.chat(said))["choices"][0]["message"]["content"]


# --- time, clients that leave, bills --------------------------------------------------------------------------


async def test_every_model_answers_on_its_wire(demo: Demo) -> None:
    for name, model in MODELS.items():
        ask = demo.chat if model.wire == "openai" else demo.message
        assert (await ask("Hello", model=name))["model"] == name


async def test_the_models_pace_shows_and_later_tokens_do_not_drift() -> None:
    loop = asyncio.get_running_loop()
    async with demo_server(pace_factor=1) as demo:
        began = loop.time()
        async with demo.post_chat("[[tokens=20]]", stream=True) as response:
            first_byte_s = loop.time() - began
            await response.read()
        whole_s = loop.time() - began
    assert first_byte_s > 0.055
    assert 0.055 + 19 * 0.008 < whole_s < PATIENCE_S


async def test_a_client_that_leaves_ends_the_work_and_is_billed_for_what_was_made(demo: Demo) -> None:
    async with demo.post_chat("[[tokens=1000]] [[pace=20]]", stream=True) as response:
        await response.content.readany()
        assert (await demo.get("/demo/stats"))[1]["open_streams"] == 1
        response.close()
    bill = await demo.last_bill()
    assert bill["state"] == "cancelled"
    assert 0 < bill["output_tokens"] < 300
    assert (await demo.get("/demo/stats"))[1]["open_streams"] == 0


@pytest.mark.parametrize(("prompt", "most"), [("[[delay=30]]", 0), ("[[tokens=1000]] [[pace=20]] [[delay=0]]", 300)])
async def test_a_client_that_leaves_before_the_whole_answer_is_billed_so_far(
    demo: Demo, prompt: str, most: int
) -> None:
    await demo.left(demo.chat(prompt))
    bill = await demo.last_bill()
    assert bill["state"] == "cancelled"
    assert bill["output_tokens"] <= most
    assert (bill["output_tokens"] > 0) is (most > 0)
    assert bill["input_tokens"] > 0


async def test_bills_are_found_by_the_callers_request_id(demo: Demo) -> None:
    body = {"model": "demo-swift", "messages": [{"role": "user", "content": "[[tokens=12]] [[cached=5]]"}]}
    usage: dict[str, int] = {}
    for _ in range(2):
        headers = {**HEADERS, "x-request-id": "gateway-1"}
        async with demo.session.post(f"{demo.url}/v1/chat/completions", json=body, headers=headers) as response:
            usage = (await response.json())["usage"]
    await demo.chat("Hello")
    _, found = await demo.get("/demo/bills?request_id=gateway-1")
    assert found["bills"] == 2 * [
        {
            "request_id": "gateway-1",
            "model": "demo-swift",
            "input_tokens": usage["prompt_tokens"] - 5,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "output_tokens": 12,
            "state": "completed",
        }
    ]
    assert len(await demo.bills()) == 3


async def test_stats_sum_what_the_bills_say(demo: Demo) -> None:
    await demo.chat("[[tokens=10]]")
    await demo.chat_events("[[tokens=20]]")
    await demo.message("[[tokens=30]]")
    async with demo.post_chat("[[status=503]]") as response:
        assert response.status == 503
    _, stats = await demo.get("/demo/stats")
    assert (stats["requests"], stats["billed"], stats["refused"], stats["open_requests"]) == (4, 3, 1, 0)
    assert stats["models"]["demo-swift"]["output_tokens"] == 30
    assert stats["models"]["demo-sage"]["requests"] == 1
    total = sum(bill["input_tokens"] for bill in await demo.bills())
    assert sum(model["input_tokens"] for model in stats["models"].values()) == total


async def test_a_prompt_is_never_counted_above_its_bytes(demo: Demo) -> None:
    for prompt in ("a b c d e f g", "!?!?!?!?", "日本語の文章", "1 2 3 4 5 6", "\n\n\n\t\t", "Жар-птица"):
        body = json.dumps(
            {"model": "demo-swift", "messages": [{"role": "user", "content": prompt}]}, ensure_ascii=False
        )
        data = body.encode()
        async with demo.session.post(f"{demo.url}/v1/chat/completions", data=data, headers=HEADERS) as response:
            assert (await response.json())["usage"]["prompt_tokens"] <= len(data)


async def test_a_hundred_streams_at_once_are_all_whole(demo: Demo) -> None:
    streams = await asyncio.gather(*(demo.chat_events(f"[[tokens=50]] [[pace=2]] {n}") for n in range(100)))
    assert all(events[-1] == {"done": True} and count(text_of(events)) == 50 for events in streams)
    _, stats = await demo.get("/demo/stats")
    assert stats["models"]["demo-swift"]["output_tokens"] == 5000


# --- the command ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_the_module_says_where_it_serves_refuses_a_taken_port_and_stops_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "providers.demo", "--port", "0", "--pace-factor", "0",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), timeout=PATIENCE_S)).decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        assert found is not None
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{found[1]}/health") as response:
                assert await response.json() == {"status": "ok"}
            second = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "providers.demo", "--port", found[1], cwd=ROOT, stderr=asyncio.subprocess.PIPE
            )
            _, complaint = await second.communicate()
            assert second.returncode == 1
            assert b"cannot listen" in complaint
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), timeout=PATIENCE_S)
    assert process.returncode == 0
    assert errors == b""


async def test_the_demo_provider_needs_no_django() -> None:
    code = "import sys, providers.demo.__main__; sys.exit('django' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, env={**os.environ})
    assert await process.wait() == 0
