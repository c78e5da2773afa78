"""Every scenario over every upstream wire, whole and streamed: an OpenAI client must not notice which vendor answers.

The upstream is the demo provider, the caller an OpenAI client's wire. A cell asserts the content, the finish reason,
the usage, and the record's cost; and that a stream says the same as a whole answer.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from analytics.models import UsageRecord
from providers.demo.server import running
from routerplatform.application import Application
from tests import gateway as configure
from tests.gateway import Gateway, Reply, records, serving

WIRES = ["openai-wire", "anthropic-wire"]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Scenario:
    """`says` is the exact answer, where the scenario fixes it; `calls` the tools that are asked for."""

    body: dict[str, Any]
    says: str | None = None
    finish: str = "stop"
    calls: tuple[str, ...] = ()


SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario({"messages": user("[[say=Hello there]] Hi")}, says="Hello there"),
    "system first": Scenario(
        {"messages": [{"role": "system", "content": "Be brief."}, *user("[[say=Fine]] How?")]}, says="Fine"
    ),
    "developer role": Scenario(
        {"messages": [{"role": "developer", "content": "Be brief."}, *user("[[say=Fine]] How?")]}, says="Fine"
    ),
    "system in the middle": Scenario(
        {"messages": [*user("One"), {"role": "system", "content": "Now in short."}, *user("[[say=Two]] Go on")]},
        says="Two",
    ),
    "a long conversation": Scenario(
        {
            "messages": [
                *user("First"),
                {"role": "assistant", "content": "Answer"},
                *user("Second"),
                *user("Third, at once"),
                {"role": "assistant", "content": "Another"},
                *user("[[say=Last]] Fourth"),
            ]
        },
        says="Last",
    ),
    "parts of text": Scenario(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "[[say=Both]]"}, {"type": "text", "text": " read"}],
                }
            ]
        },
        says="Both",
    ),
    "other scripts": Scenario({"messages": user("[[say=Grüße, 你好, 🙂]] Hallo")}, says="Grüße, 你好, 🙂"),
    "an inline image": Scenario(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "[[say=A dot]] What is it?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                    ],
                }
            ]
        },
        says="A dot",
    ),
    "an image by address": Scenario(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "[[say=A cat]] What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                    ],
                }
            ]
        },
        says="A cat",
    ),
    "cut at max_tokens": Scenario({"messages": user("[[tokens=50]] Tell me more"), "max_tokens": 5}, finish="length"),
    "one tool": Scenario(
        {"messages": user("[[tool=get_weather]] Weather in Berlin?"), "tools": [WEATHER]},
        finish="tool_calls",
        calls=("get_weather",),
    ),
    "two tools at once": Scenario(
        {"messages": user("[[tool=get_weather]] [[tool=get_time]] Berlin?"), "tools": [WEATHER, CLOCK]},
        finish="tool_calls",
        calls=("get_weather", "get_time"),
    ),
    "a tool without arguments": Scenario(
        {"messages": user("[[tool=get_time]] How late is it?"), "tools": [CLOCK]},
        finish="tool_calls",
        calls=("get_time",),
    ),
    "a tool result": Scenario(
        {
            "messages": [
                *user("Weather in Berlin?"),
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Berlin"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
                *user("[[say=Warm]] So?"),
            ],
            "tools": [WEATHER],
        },
        says="Warm",
    ),
    "sampling knobs": Scenario(
        {"messages": user("[[say=Knobs]] Hi"), "temperature": 0.3, "top_p": 0.9, "stop": ["END"], "user": "u-1"},
        says="Knobs",
    ),
}


@dataclass
class Answer:
    """What a client makes of a reply, whole or streamed."""

    text: str
    finish: str
    usage: dict[str, Any]
    calls: dict[int, dict[str, str]] = field(default_factory=dict)


def read(reply: Reply) -> Answer:
    if not reply.events:
        choice = reply.json["choices"][0]
        calls = choice["message"].get("tool_calls") or []
        return Answer(
            choice["message"].get("content") or "",
            choice["finish_reason"],
            reply.json["usage"],
            {i: {"id": call["id"], **call["function"]} for i, call in enumerate(calls)},
        )
    answer = Answer("", "", {})
    for event in reply.events:
        answer.usage = event.get("usage") or answer.usage
        for choice in event["choices"]:
            answer.text += choice["delta"].get("content") or ""
            answer.finish = choice["finish_reason"] or answer.finish
            for call in choice["delta"].get("tool_calls") or []:
                known = answer.calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                known["id"] += call.get("id") or ""
                known["name"] += call["function"].get("name") or ""
                known["arguments"] += call["function"].get("arguments") or ""
    return answer


@pytest.fixture
async def grid(transactional_db: None, application: Application) -> AsyncIterator[Gateway]:
    """A gateway in front of the demo provider: `openai-wire` and `anthropic-wire` are its two models."""

    def install(url: str) -> str:
        for alias, kind, model in (
            ("openai-wire", "openai-compatible", "demo-swift"),
            ("anthropic-wire", "anthropic-compatible", "demo-sage"),
        ):
            [deployment] = configure.vendor(f"demo-{alias}", f"{url}/v1", model, kind=kind)
            configure.alias(alias, deployment)
        return configure.key(1)

    async with running(pace_factor=0) as vendor:
        key = await sync_to_async(install)(vendor)
        async with serving(application) as url, aiohttp.ClientSession() as session:
            yield Gateway(url, session, key)


async def ask(grid: Gateway, wire: str, scenario: Scenario, *, stream: bool) -> Answer:
    """The answer of one cell, with everything checked that holds for every cell."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    reply = await grid.chat(model=wire, **scenario.body, **options)
    assert reply.status == 200, reply.body
    assert reply.done is stream
    answer = read(reply)
    assert answer.finish == scenario.finish
    assert tuple(call["name"] for call in answer.calls.values()) == scenario.calls
    assert list(answer.calls) == list(range(len(scenario.calls)))
    assert all(call["id"] and isinstance(json.loads(call["arguments"]), dict) for call in answer.calls.values())
    if scenario.says is not None:
        assert answer.text == scenario.says
    return answer


def check_bill(record: UsageRecord, answer: Answer) -> None:
    """The record has the vendor's own tokens, as the caller saw them, at $1 in and $2 out per million."""
    assert (record.state, record.usage_source, record.error_code) == ("settled", "provider", "")
    shown = answer.usage["prompt_tokens"], answer.usage["completion_tokens"]
    cached = record.cache_read_input_tokens + record.cache_creation_input_tokens
    assert (record.input_tokens + cached, record.output_tokens) == shown
    assert record.output_tokens > 0
    assert record.cost_nano == shown[0] * 1_000 + shown[1] * 2_000


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_cell_answers_whole_and_streamed_alike_and_is_billed_right(grid: Gateway, name: str, wire: str) -> None:
    scenario = SCENARIOS[name]
    whole = await ask(grid, wire, scenario, stream=False)
    streamed = await ask(grid, wire, scenario, stream=True)
    assert streamed.text == whole.text
    assert [call["arguments"] for call in streamed.calls.values()] == [
        call["arguments"] for call in whole.calls.values()
    ]
    for record, answer in zip(await records(2), (whole, streamed), strict=True):
        check_bill(record, answer)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("marker", "status", "code"),
    [
        ("[[status=400]]", 400, "upstream_rejected"),
        ("[[status=401]]", 502, "upstream_credentials"),
        ("[[status=429]]", 429, "upstream_rate_limited"),
        ("[[status=500]]", 502, "upstream_failed"),
        ("[[status=503]]", 503, "upstream_overloaded"),
        ("[[status=502]] [[html]]", 502, "upstream_failed"),
        ("[[status=404]]", 502, "upstream_model_not_found"),
    ],
)
async def test_a_vendors_error_is_the_same_error_on_every_wire(
    grid: Gateway, marker: str, status: int, code: str, stream: bool, wire: str
) -> None:
    reply = await grid.chat(model=wire, messages=user(f"{marker} Hi"), stream=stream)
    assert (reply.status, reply.error["code"]) == (status, code)
    [record] = await records()
    assert record.error_code == code
    assert len(record.attempts) == int(reply.headers.get("x-router-attempts", len(record.attempts)))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("marker", ["[[cut=3]]", "[[no_finish]]", "[[error_in_stream=3]]"])
async def test_a_stream_that_breaks_never_ends_cleanly_on_any_wire(grid: Gateway, marker: str, wire: str) -> None:
    reply = await grid.stream(model=wire, messages=user(f"[[tokens=40]] {marker} Hi"))
    assert reply.status == 200
    assert not reply.done
    assert reply.error["code"].startswith("upstream_")
    [record] = await records()
    assert (record.state, record.usage_source) == ("settled", "counted")
    assert (record.cost_nano or 0) > 0
