"""An AIRequest as the gateway reads it: field by field what OpenAI's chat body would have said."""

import json
from typing import Any

import pytest

from providers.domain.types import Capability
from routerplatform.doors.grpc_requests import OWN, chat_request, hints_in
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.protos.ai_router_pb2 import AIRequest, Message, Part, Picture, Tool, ToolCall


def body(**fields: Any) -> dict[str, Any]:
    """What is sent on of a request, by OpenAI's names."""
    read = chat_request(AIRequest(**fields), stream=False)
    return {name: json.loads(bytes(value)) for name, value in read.fields.items()}


def refused(**fields: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        chat_request(AIRequest(**fields), stream=False)
    return caught.value.param, caught.value.message


def test_a_prompt_is_one_message_and_what_is_not_set_is_not_said() -> None:
    assert body(prompt="Hi") == {
        "model": "auto", "stream": False, "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip


def test_zero_is_a_value_that_was_set() -> None:
    said = body(prompt="Hi", temperature=0, top_p=0, seed=0)
    assert (said["temperature"], said["top_p"], said["seed"]) == (0, 0, 0)


def test_instructions_go_first_and_streams_need_a_model_that_streams() -> None:
    read = chat_request(AIRequest(prompt="Hi", system="Be brief."), stream=True)
    assert json.loads(bytes(read.fields["messages"]))[0] == {"role": "system", "content": "Be brief."}
    assert read.stream
    assert Capability.STREAMING in read.needs


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({}, "auto"),
        ({"model": "fast"}, "fast"),
        ({"model": "gpt", "provider": "openai"}, "openai/gpt"),
        ({"model": "openai/gpt", "provider": "openai"}, "openai/gpt"),
        ({"model": "meta/llama", "provider": "groq"}, "groq/meta/llama"),
    ],
)
def test_a_provider_and_a_model_together_pin_a_deployment(fields: dict[str, str], model: str) -> None:
    assert body(prompt="Hi", **fields)["model"] == model


def test_a_provider_alone_pins_nothing_and_is_refused() -> None:
    assert refused(prompt="Hi", provider="openai")[0] == "model"


def test_a_conversation_with_tools_is_said_as_openai_says_it() -> None:
    messages = [
        Message(role="user", parts=[Part(text="What?"), Part(image_url="https://pictures.example/1.png")]),
        Message(role="assistant", tool_calls=[ToolCall(id="c0", name="weather")]),
        Message(role="tool", tool_call_id="c0", content="Rain"),
        Message(role="assistant", content="It rains.", name="bot"),
    ]
    tools = [Tool(name="weather", description="d", parameters='{"properties": {"n": {"maximum": 10}}}', strict=True)]
    said = body(messages=messages, tools=tools, tool_choice="weather", stop=["."])
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}
    call = {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert said["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Rain", "tool_call_id": "c0"},
        {"role": "assistant", "content": "It rains.", "name": "bot"},
    ]
    function = {"name": "weather", "description": "d", "parameters": {"properties": {"n": {"maximum": 10}}}}
    assert said["tools"] == [{"type": "function", "function": {**function, "strict": True}}]
    assert said["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert said["stop"] == ["."]
    needs = chat_request(AIRequest(messages=messages, tools=tools), stream=False).needs
    assert needs == {Capability.VISION, Capability.TOOL_CALLING}


def test_a_picture_may_come_as_bytes() -> None:
    part = Part(picture=Picture(media_type="image/png", data=b"\x89PNG"))
    [message] = body(messages=[Message(role="user", parts=[part])])["messages"]
    assert message["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw=="


def test_formats_have_short_names_or_are_json() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert body(prompt="Hi", response_format="json_object")["response_format"] == {"type": "json_object"}
    read = chat_request(AIRequest(prompt="Hi", response_format=json.dumps(schema)), stream=False)
    assert json.loads(bytes(read.fields["response_format"])) == schema
    assert read.needs == {Capability.JSON_SCHEMA}


def test_metadata_and_what_has_no_field_of_its_own_are_passed_on() -> None:
    more = '{"reasoning_effort": "low", "logit_bias": {"1": 100}, "big": 12345678901234567890}'
    said = body(prompt="Hi", more=more, metadata={"ticket": "7"})
    assert (said["reasoning_effort"], said["big"], said["metadata"]) == ("low", 12345678901234567890, {"ticket": "7"})


def test_tag_and_conversation_are_hints_and_not_sent_on() -> None:
    request = AIRequest(prompt="Hi", tag="nightly", conversation="c-1")
    assert hints_in(request) == {"x-router-tag": "nightly", "x-router-conversation": "c-1"}
    assert not {"tag", "conversation"} & chat_request(request, stream=False).fields.keys()
    assert hints_in(AIRequest()) == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"messages": [Message(role="", content="x")]}, "messages[0].role"),
        ({"messages": [Message(role="user", content="x", parts=[Part(text="y")])]}, "messages[0].parts"),
        ({"messages": [Message(role="user", parts=[Part()])]}, "messages[0].parts[0]"),
        (
            {"messages": [Message(role="user", parts=[Part(picture=Picture(media_type="image/png"))])]},
            "messages[0].parts[0].picture",
        ),
        ({"tools": [Tool(parameters="{}")]}, "tools[0].name"),
        ({"tools": [Tool(name="t", parameters="[]")]}, "tools[0].parameters"),
        ({"tools": [Tool(name="t")], "tool_choice": "u"}, "tool_choice"),
        ({"response_format": "yaml"}, "response_format"),
        ({"response_format": "[" * 100_000}, "response_format"),
        ({"temperature": float("inf")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"more": "nothing"}, "more"),
        ({"more": '{"n": 2}'}, "more"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    asked = {"prompt": "Hi"} if fields and "messages" not in fields else {}
    assert refused(**asked, **fields)[0] == param


@pytest.mark.parametrize("name", sorted(OWN))
def test_more_cannot_say_what_has_a_field_or_a_method_of_its_own(name: str) -> None:
    param, message = refused(prompt="Hi", more=json.dumps({name: None}))
    assert param == "more"
    assert f"“{name}”" in message
