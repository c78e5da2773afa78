"""A caller of another wire: the conversation is said in the target's words, or what cannot be said is named."""

from typing import Any

import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    ImagePart,
    ResponseFormat,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import NO_DEFAULTS, Capability, PromptDefaults, Wire
from providers.wires import UnsupportedFeature
from tests.providers.wires.builders import assistant, body_of, deployment, saying, system, user

PERSONA = PromptDefaults("You are terse.", temperature=0.3, max_tokens=300)
WEATHER = Tool("weather", "Looks outside.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
CLOCK = Tool("clock", "", Raw())
PIXEL = ImagePart(media_type="image/png", data="iVBORw0=")
SCHEMA = Raw(b'{"type":"object","properties":{},"additionalProperties":false}')


def said(wire: Wire, conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, **more: Any) -> Any:
    return body_of(saying(conversation, stream=more.pop("stream", False)), deployment(wire, **more), defaults)


def refused(wire: Wire, conversation: Conversation) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        said(wire, conversation)
    return caught.value.feature


TOOL_USE = Conversation(
    (
        system("Be kind."),
        user("Weather in Oslo, and the time?"),
        assistant("Let me look.", ToolCallPart("a:1", "weather", '{"city": "Oslo"}'), ToolCallPart("b", "clock", "")),
        user(ToolResultPart("a:1", "rain"), ToolResultPart("b", "broken", is_error=True)),
        user("Go on", PIXEL, ImagePart(url="https://pictures.example/1.png")),
    ),
    tools=(WEATHER, CLOCK),
    tool_choice=ToolChoice("auto"),
    parallel_tool_calls=False,
)


def test_a_conversation_with_tools_in_openais_words() -> None:
    body = said(Wire.OPENAI, TOOL_USE, stream=True)
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather in Oslo, and the time?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "a:1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a:1", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "content": "broken"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Go on"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}},
            ],
        },
    ]
    assert [tool["function"] for tool in body["tools"]] == [
        {
            "name": "weather",
            "description": "Looks outside.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
        {"name": "clock"},
    ]
    assert body["tool_choice"] == "auto"
    assert body["parallel_tool_calls"] is False
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_a_conversation_with_tools_in_anthropics_words() -> None:
    body = said(Wire.ANTHROPIC, TOOL_USE, stream=True)
    assert body["system"] == "Be kind."
    assert body["messages"] == [
        {"role": "user", "content": "Weather in Oslo, and the time?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "a_1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a_1", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "b", "content": "broken", "is_error": True},
                {"type": "text", "text": "Go on"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
                {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1.png"}},
            ],
        },
    ]
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Looks outside.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
        {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["stream"] is True
    assert body["max_tokens"] == 4096


def test_a_call_without_text_has_null_content_on_openai() -> None:
    conversation = Conversation((user("x"), assistant(ToolCallPart("a", "clock", "{}"))))
    assert said(Wire.OPENAI, conversation)["messages"][1]["content"] is None


def test_several_texts_stay_apart_in_a_user_message_and_join_elsewhere() -> None:
    conversation = Conversation((system("a", "b"), user("c", "d"), assistant("e", "f")))
    assert said(Wire.OPENAI, conversation)["messages"] == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
        {"role": "assistant", "content": "ef"},
    ]


def test_instructions_in_the_middle_stay_there_on_openai_and_lead_on_anthropic() -> None:
    conversation = Conversation(
        (user("a"), system("Now in French."), user("b"), assistant("c"), assistant("d"), user("e"))
    )
    assert [message["role"] for message in said(Wire.OPENAI, conversation)["messages"]] == [
        "user", "system", "user", "assistant", "assistant", "user",
    ]  # fmt: skip
    body = said(Wire.ANTHROPIC, conversation, PERSONA)
    assert body["system"] == "You are terse.\nNow in French."
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in body["messages"][:2]] == [
        ("user", ["a", "b"]),
        ("assistant", ["c", "d"]),
    ]
    assert body["messages"][2] == {"role": "user", "content": "e"}


def test_blank_texts_are_left_out_for_anthropic() -> None:
    conversation = Conversation((user("a", " \n"), assistant(""), user("b")))
    assert said(Wire.ANTHROPIC, conversation)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_instructions_alone_become_what_the_user_says_on_anthropic() -> None:
    body = said(Wire.ANTHROPIC, Conversation((system("Tell a joke."),)))
    assert body["messages"] == [{"role": "user", "content": "Tell a joke."}]
    assert "system" not in body


def test_results_come_before_text_in_their_turn_on_anthropic() -> None:
    conversation = Conversation(
        (assistant(ToolCallPart("a", "clock", "{}")), user("wait", ToolResultPart("a", "noon")))
    )
    assert [block["type"] for block in said(Wire.ANTHROPIC, conversation)["messages"][1]["content"]] == [
        "tool_result",
        "text",
    ]


def test_a_data_url_becomes_a_base64_block() -> None:
    inline = ImagePart(url="data:image/jpeg;charset=x;base64,/9j/4A==")
    assert said(Wire.ANTHROPIC, Conversation((user(inline),)))["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4A=="}}
    ]
    assert said(Wire.OPENAI, Conversation((user(inline),)))["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": inline.url}}
    ]


@pytest.mark.parametrize(
    ("choice", "openai", "anthropic"),
    [
        (ToolChoice("none"), "none", {"type": "none"}),
        (ToolChoice("required"), "required", {"type": "any"}),
        (
            ToolChoice("named", "clock"),
            {"type": "function", "function": {"name": "clock"}},
            {"type": "tool", "name": "clock"},
        ),
    ],
)
def test_tool_choices_are_said_in_each_wires_words(choice: ToolChoice, openai: object, anthropic: object) -> None:
    conversation = Conversation((user("x"),), tools=(CLOCK,), tool_choice=choice)
    assert said(Wire.OPENAI, conversation)["tool_choice"] == openai
    assert said(Wire.ANTHROPIC, conversation)["tool_choice"] == anthropic


@pytest.mark.parametrize("wire", [Wire.OPENAI, Wire.ANTHROPIC])
def test_choices_among_no_tools_are_left_out(wire: Wire) -> None:
    conversation = Conversation((user("x"),), tool_choice=ToolChoice("auto"), parallel_tool_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(said(wire, conversation))


def test_calling_one_tool_at_a_time_needs_no_choice_on_anthropic() -> None:
    one = Conversation((user("x"),), tools=(CLOCK,), parallel_tool_calls=False)
    assert said(Wire.ANTHROPIC, one)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    many = Conversation((user("x"),), tools=(CLOCK,), parallel_tool_calls=True)
    assert "tool_choice" not in said(Wire.ANTHROPIC, many)
    none = Conversation((user("x"),), tools=(CLOCK,), tool_choice=ToolChoice("none"), parallel_tool_calls=False)
    assert said(Wire.ANTHROPIC, none)["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (b"{}", {"type": "object", "properties": {}}),
        (b'{"properties":{"a":{}}}', {"type": "object", "properties": {"a": {}}}),
        (b'{"type":"object"}', {"type": "object", "properties": {}}),
    ],
)
def test_a_tools_schema_is_an_object_on_anthropic(schema: bytes, sent: object) -> None:
    conversation = Conversation((user("x"),), tools=(Tool("t", "", Raw(schema)),))
    assert said(Wire.ANTHROPIC, conversation)["tools"][0]["input_schema"] == sent


def test_answers_in_json() -> None:
    by_schema = Conversation((user("x"),), response_format=ResponseFormat("json_schema", "person", SCHEMA))
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    assert said(Wire.OPENAI, by_schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": schema},
    }
    assert said(Wire.ANTHROPIC, by_schema)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    plain = Conversation((user("x"),), response_format=ResponseFormat("text"))
    assert said(Wire.OPENAI, plain)["response_format"] == {"type": "text"}
    assert "output_config" not in said(Wire.ANTHROPIC, plain)
    any_json = Conversation((user("x"),), response_format=ResponseFormat("json_object"))
    assert said(Wire.OPENAI, any_json)["response_format"] == {"type": "json_object"}


def test_a_nameless_schema_gets_a_name_on_openai() -> None:
    conversation = Conversation((user("x"),), response_format=ResponseFormat("json_schema"))
    assert said(Wire.OPENAI, conversation)["response_format"]["json_schema"] == {"name": "answer", "schema": {}}


FULL = Conversation((user("x"),), max_tokens=50, temperature=1.8, top_p=0.9, stop=("END", "."), user="u-1")


def test_knobs_in_openais_words() -> None:
    body = said(Wire.OPENAI, FULL, PERSONA, max_tokens_field="max_completion_tokens", max_output_tokens=20)
    del body["messages"], body["model"]
    assert body == {"max_completion_tokens": 20, "temperature": 1.8, "top_p": 0.9, "stop": ["END", "."], "user": "u-1"}


def test_knobs_in_anthropics_words() -> None:
    body = said(Wire.ANTHROPIC, FULL, PERSONA)
    del body["messages"], body["model"], body["system"]
    assert body == {
        "max_tokens": 50,
        "temperature": 1.0,
        "stop_sequences": ["END", "."],
        "metadata": {"user_id": "u-1"},
    }


def test_top_p_alone_goes_to_anthropic_without_the_personas_temperature() -> None:
    body = said(Wire.ANTHROPIC, Conversation((user("x"),), top_p=0.9), PERSONA)
    assert body["top_p"] == 0.9
    assert "temperature" not in body


@pytest.mark.parametrize("wire", [Wire.OPENAI, Wire.ANTHROPIC])
def test_a_personas_defaults_fill_what_the_caller_left_open(wire: Wire) -> None:
    body = said(wire, Conversation((user("x"),)), PERSONA)
    assert body["temperature"] == 0.3
    assert body["max_tokens"] == 300


@pytest.mark.parametrize("wire", [Wire.OPENAI, Wire.ANTHROPIC])
def test_models_that_refuse_sampling_knobs_are_sent_none(wire: Wire) -> None:
    body = said(wire, FULL, PERSONA, capabilities=[Capability.STREAMING])
    assert not {"temperature", "top_p"} & set(body)


def test_openai_takes_the_personas_prompt_as_its_first_message() -> None:
    messages = said(Wire.OPENAI, Conversation((system("a"), user("b"))), PERSONA)["messages"]
    assert [message["content"] for message in messages] == ["You are terse.", "a", "b"]


def test_an_empty_user_message_stays_one_on_openai() -> None:
    assert said(Wire.OPENAI, Conversation((user(""), user())))["messages"] == [
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
    ]


@pytest.mark.parametrize(
    ("wire", "conversation", "feature"),
    [
        (Wire.ANTHROPIC, Conversation((user("x"),), response_format=ResponseFormat("json_object")), "json_object"),
        (Wire.ANTHROPIC, Conversation((user("x"),), response_format=ResponseFormat("json_schema")), "json_object"),
        (Wire.ANTHROPIC, Conversation((user("x"),), stop=("END", "\n")), "stop sequence"),
        (Wire.ANTHROPIC, Conversation((user(ImagePart(media_type="image/tiff", data="x")),)), "image/tiff"),
        (Wire.ANTHROPIC, Conversation((user(ImagePart(url="data:image/png,raw")),)), "data URL"),
        (Wire.ANTHROPIC, Conversation((assistant(PIXEL),)), "an image in an assistant message"),
        (Wire.ANTHROPIC, Conversation((system(PIXEL),)), "an image in a system message"),
        (Wire.ANTHROPIC, Conversation((user(ToolCallPart("a", "f", "{}")),)), "a tool call in a user message"),
        (
            Wire.ANTHROPIC,
            Conversation(
                (
                    assistant(
                        ToolCallPart("a", "clock", '{"x":'),
                    ),
                )
            ),
            "tool clock",
        ),
        (Wire.ANTHROPIC, Conversation((assistant(ToolCallPart("a", "clock", "[1]")),)), "tool clock"),
        (Wire.ANTHROPIC, Conversation((user("x"),), tools=(Tool("t", "", Raw(b"[]")),)), "not an object"),
        (Wire.OPENAI, Conversation((user("x"),), stop=("a", "b", "c", "d", "e")), "more than 4 stop sequences"),
        (Wire.OPENAI, Conversation((assistant(PIXEL),)), "an image in an assistant message"),
        (Wire.OPENAI, Conversation((system(PIXEL),)), "an image in a system message"),
        (Wire.OPENAI, Conversation((user(ToolCallPart("a", "f", "{}")),)), "a tool call in a user message"),
    ],
)
def test_what_a_wire_cannot_say_is_named(wire: Wire, conversation: Conversation, feature: str) -> None:
    assert feature in refused(wire, conversation)
