"""The official `anthropic` SDK, sync helpers and tool runner included, through the gateway, at vendors of two wires."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool
from anthropic.lib.tools import BetaAsyncFunctionTool
from anthropic.types import ThreadUnsupportedRequestError

from tests.gateway import HELLO, Gateway
from tests.upstreams.scripted import Script, Upstream, frames, openai_chunk, sse, status

pytestmark = pytest.mark.django_db(transaction=True)

USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
MESSAGES: Any = HELLO
THREADS = "message-threads-2026-08-12"


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


def named(*events: dict[str, Any]) -> list[bytes]:
    return [b"event: " + event["type"].encode() + b"\n" + sse(event)[0] for event in events]


def openai_calls_weather(city: str) -> Script:
    """OpenAI's wire: a text, and a call whose arguments come in two pieces."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    return frames(
        *sse(
            openai_chunk({"role": "assistant", "content": "Let me look."}),
            openai_chunk({"tool_calls": [call]}),
            openai_chunk({"tool_calls": [{"index": 0, "function": {"arguments": f' "{city}"}}'}}]}),
            openai_chunk({}, "tool_calls"),
            {**openai_chunk({}), "choices": [], "usage": USAGE},
            "[DONE]",
        )
    )


def openai_message(message: dict[str, Any], finish: str = "stop") -> Script:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return status(200, {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE})


def anthropic_message(*content: dict[str, Any], stop_reason: str) -> Script:
    message = {"id": "msg_up", "type": "message", "role": "assistant", "model": "sage-1", "content": list(content)}
    usage = {"input_tokens": 20, "output_tokens": 7}
    return status(200, {**message, "stop_reason": stop_reason, "stop_sequence": None, "usage": usage})


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}


async def test_a_message_of_another_wire_has_what_the_sdk_expects(
    client: anthropic.AsyncAnthropic, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_message({"content": "Hello"}))
    message = await client.messages.create(model="swift", max_tokens=100, messages=MESSAGES)
    [block] = message.content
    assert (block.type, message.role, message.stop_reason) == ("text", "assistant", "end_turn")
    assert block.type == "text"
    assert block.text == "Hello"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (
        16,
        4,
        7,
    )
    assert message.model == "alpha-swift-1"
    assert message._request_id
    assert message.id == f"msg_{message._request_id}"


async def test_a_stream_adds_up_to_the_message_that_was_not_streamed(
    client: anthropic.AsyncAnthropic, openai_upstream: Upstream
) -> None:
    call = {"content": "Let me look.", "tool_calls": [CALL]}
    openai_upstream.play(openai_calls_weather("Bern"), openai_message(call, "tool_calls"))
    async with client.messages.stream(model="swift", max_tokens=100, messages=MESSAGES) as stream:
        streamed = await stream.get_final_message()
    whole = await client.messages.create(model="swift", max_tokens=100, messages=MESSAGES)
    varying = {"id", "parsed_output"}
    assert [block.to_dict() for block in whole.content] == [
        {name: value for name, value in block.to_dict().items() if name not in varying - {"id"}}
        for block in streamed.content
    ]
    assert (streamed.stop_reason, whole.stop_reason) == ("tool_use", "tool_use")
    assert streamed.usage.to_dict() == whole.usage.to_dict()


def weather_tool(asked: list[str]) -> BetaAsyncFunctionTool[Any]:
    @beta_async_tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "Sunny"

    return weather


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_runner_finishes_at_openais_wire(
    stream: bool, client: anthropic.AsyncAnthropic, openai_upstream: Upstream
) -> None:
    asked: list[str] = []
    if stream:
        openai_upstream.play(openai_calls_weather("Bern"), frames(*sse(
            openai_chunk({"content": "It is sunny."}), openai_chunk({}, "stop"),
            {**openai_chunk({}), "choices": [], "usage": USAGE}, "[DONE]",
        )))  # fmt: skip
    else:
        openai_upstream.play(
            openai_message({"content": None, "tool_calls": [CALL]}, "tool_calls"),
            openai_message({"content": "It is sunny."}),
        )
    final = await run_tools(client, "swift", asked, stream=stream)
    assert (asked, final.content[-1].text, final.stop_reason) == (["Bern"], "It is sunny.", "end_turn")
    first, second = (call.body for call in openai_upstream.calls)
    assert first["tools"][0]["function"]["name"] == "weather"
    *_, assistant, result = second["messages"]
    assert assistant["tool_calls"][0]["id"] == result["tool_call_id"] == "call_1"
    assert result["content"] == "Sunny"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_runner_finishes_at_anthropics_own_wire(
    stream: bool, client: anthropic.AsyncAnthropic, anthropic_upstream: Upstream
) -> None:
    asked: list[str] = []
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}}
    text = {"type": "text", "text": "It is sunny."}
    if stream:
        anthropic_upstream.play(frames(*anthropic_stream_of(call)), frames(*anthropic_stream_of(text)))
    else:
        anthropic_upstream.play(
            anthropic_message(call, stop_reason="tool_use"), anthropic_message(text, stop_reason="end_turn")
        )
    final = await run_tools(client, "sage", asked, stream=stream)
    assert (asked, final.content[-1].text) == (["Bern"], "It is sunny.")
    first, second = anthropic_upstream.calls
    assert first.headers["anthropic-version"] == "2026-10-21"
    assert second.body["messages"][-1]["content"][0]["tool_use_id"] == "toolu_1"


def anthropic_stream_of(block: dict[str, Any]) -> list[bytes]:
    empty = {**block, "input": {}} if block["type"] == "tool_use" else {**block, "text": ""}
    delta = (
        {"type": "input_json_delta", "partial_json": '{"city": "Bern"}'}
        if block["type"] == "tool_use"
        else {"type": "text_delta", "text": block["text"]}
    )
    message = {"id": "msg_up", "type": "message", "role": "assistant", "model": "m", "content": []}
    stop = {"stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn", "stop_sequence": None}
    return named(
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 20, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )


async def test_a_thread_is_refused_with_the_error_that_the_sdk_knows(
    client: anthropic.AsyncAnthropic, anthropic_upstream: Upstream
) -> None:
    with pytest.raises(ThreadUnsupportedRequestError):
        await client.beta.messages.create(
            model="sage",
            max_tokens=100,
            messages=MESSAGES,
            thread={"type": "create"},
            betas=["message-threads-2026-08-12"],
        )
    thread = client.beta.messages.thread(
        model="sage", max_tokens=100, messages=MESSAGES, unsupported_request_behavior="continue_unthreaded"
    )
    assert (await thread.send({"role": "user", "content": "And you?"})).content[0].text == "Bonjour"  # type: ignore[union-attr]
    assert [turn["content"] for turn in anthropic_upstream.calls[0].body["messages"]] == ["Hello", "And you?"]


async def run_tools(client: anthropic.AsyncAnthropic, model: str, asked: list[str], *, stream: bool) -> Any:
    """The last message of a tool loop that was left to the SDK."""
    last: Any = None
    if stream:
        async for turn in client.beta.messages.tool_runner(
            model=model, max_tokens=100, messages=MESSAGES, tools=[weather_tool(asked)], stream=True
        ):
            last = await turn.get_final_message()
        return last
    async for message in client.beta.messages.tool_runner(
        model=model, max_tokens=100, messages=MESSAGES, tools=[weather_tool(asked)]
    ):
        last = message
    return last
