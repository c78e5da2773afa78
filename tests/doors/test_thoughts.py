"""A conversation changes its model: what was thought, and its proof, go back to who gave it and to nobody else."""

from typing import Any

import openai
import pytest

from tests import gateway as configure
from tests.gateway import Gateway
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream, anthropic_answer, status

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED = [{"role": "user", "content": "Weather?"}]
THOUGHT = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "I should look.", "signature": "sig-1"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 12, "output_tokens": 5},
}


@pytest.fixture
async def history(gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream) -> list[dict[str, Any]]:
    """The first turn was `sage`'s, read by the official client, which gives back all it got; `strict` is at Groq."""

    def install() -> None:
        [strict] = configure.vendor("gamma", openai_upstream.url, "strict-1", kind="groq")
        configure.alias("strict", strict)

    await changed(gateway, install)
    anthropic_upstream.play(status(200, THOUGHT))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        asked: Any = ASKED
        tools: Any = [WEATHER]
        answer = await client.chat.completions.create(model="sage", messages=asked, tools=tools)
    anthropic_upstream.play(anthropic_answer())
    anthropic_upstream.calls.clear()
    said = answer.choices[0].message.model_dump(exclude_none=True)
    return [*ASKED, said, {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}]


def test_the_client_was_told_what_was_thought(history: list[dict[str, Any]]) -> None:
    said = history[1]
    assert (said["content"], said["reasoning_content"]) == ("Let me look.", "I should look.")
    assert said["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "text": "I should look.",
         "signature": "sig-1"},
    ]  # fmt: skip


async def test_the_proof_goes_back_to_who_gave_it(
    gateway: Gateway, anthropic_upstream: Upstream, history: list[dict[str, Any]]
) -> None:
    reply = await gateway.chat(model="sage", messages=history, tools=[WEATHER])
    assert reply.status == 200, reply.body
    turn = anthropic_upstream.calls[0].body["messages"][1]["content"]
    assert turn[0] == {"type": "thinking", "thinking": "I should look.", "signature": "sig-1"}
    assert [block["type"] for block in turn] == ["thinking", "text", "tool_use"]


async def test_a_strict_vendor_of_the_same_wire_is_spared_it(
    gateway: Gateway, openai_upstream: Upstream, history: list[dict[str, Any]]
) -> None:
    reply = await gateway.chat(model="strict", messages=history, tools=[WEATHER])
    assert reply.status == 200
    said = openai_upstream.calls[0].body["messages"][1]
    assert said.keys() == {"role", "content", "tool_calls"}


async def test_other_vendors_of_the_same_wire_get_what_the_caller_sent(
    gateway: Gateway, openai_upstream: Upstream, history: list[dict[str, Any]]
) -> None:
    assert (await gateway.chat(model="swift", messages=history, tools=[WEATHER])).status == 200
    assert openai_upstream.calls[0].body["messages"] == history
