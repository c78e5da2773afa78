"""A conversation in Cohere's words, or what cannot be said, named."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import NO_DEFAULTS, Capability, PromptDefaults, UpstreamRequest, Wire
from providers.wires import WIRES, UnsupportedFeature
from tests.providers.wires.builders import assistant, deployment, saying, system, user

CODEC = WIRES[Wire.COHERE]
PARAMETERS = Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}')
WEATHER = Tool("weather", "Looks outside.", PARAMETERS)
CLOCK = Tool("clock", "", Raw())
PIXEL = ImagePart(media_type="image/png", data="iVBORw0=")
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}')
THINKS = {"capabilities": (Capability.TEMPERATURE, Capability.REASONING)}


def built(conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, **more: Any) -> UpstreamRequest:
    request = saying(conversation, stream=more.pop("stream", False))
    return CODEC.build(request, deployment(Wire.COHERE, **more), defaults)


def said(conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, **more: Any) -> Any:
    return msgspec.json.decode(built(conversation, defaults, **more).body)


def knobs(**more: Any) -> Conversation:
    return Conversation((user("Hi"),), **more)


def refused(conversation: Conversation) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        built(conversation)
    return caught.value.feature


def test_a_conversation_with_tools() -> None:
    conversation = Conversation(
        (
            system("Be kind."),
            user("Weather in Oslo, and the time?"),
            assistant(
                "Let me look.", ToolCallPart("a:1", "weather", '{"city": "Oslo"}'), ToolCallPart("b", "clock", "")
            ),
            user(ToolResultPart("a:1", "rain"), ToolResultPart("b", "broken", is_error=True), "Go on"),
            user("And this?", PIXEL, ImagePart(url="https://pictures.example/1.png")),
        ),
        tools=(WEATHER, CLOCK),
        tool_choice=ToolChoice("auto"),
    )
    call = built(conversation, stream=True)
    body = msgspec.json.decode(call.body)
    assert call.path == "/chat"
    assert call.headers == {"content-type": "application/json"}
    assert call.dropped == ()
    assert body["model"] == "upstream-1"
    assert body["stream"] is True
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather in Oslo, and the time?"},
        {
            "role": "assistant",
            "tool_plan": "Let me look.",
            "tool_calls": [
                {"id": "a:1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a:1", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "content": "broken"},
        {"role": "user", "content": "Go on"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}},
            ],
        },
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Looks outside.",
                "parameters": msgspec.json.decode(PARAMETERS),
            },
        },
        {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert "tool_choice" not in body
    assert "strict_tools" not in body


def test_instructions_all_stand_first_wherever_they_stood() -> None:
    messages = (user("One"), system("In short."), assistant("1"), system("In German.", " "), user("Two"))
    assert said(Conversation(messages), PromptDefaults("You are terse."))["messages"] == [
        {"role": "system", "content": "You are terse.\nIn short.\nIn German."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two"},
    ]


def test_instructions_alone_are_said_by_the_user() -> None:
    assert said(Conversation((system("Write a poem."),)))["messages"] == [{"role": "user", "content": "Write a poem."}]


def test_turns_without_a_word_are_left_out() -> None:
    messages = (user(" "), assistant(""), user("Hi", "\n"), assistant(" "))
    assert said(Conversation(messages))["messages"] == [{"role": "user", "content": "Hi"}]


def test_several_texts_stay_several() -> None:
    [turn] = said(Conversation((user("a", "b"),)))["messages"]
    assert turn["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_what_a_model_thought_goes_back_to_models_that_think() -> None:
    turn = assistant(ReasoningPart("Hm. "), ReasoningPart("Secret", signature="s", vendor="anthropic"), "Yes")
    calls = assistant(ReasoningPart("I need it."), ToolCallPart("a", "weather", "{}"))
    conversation = Conversation((user("Hi"), turn, user("So?"), calls, user(ToolResultPart("a", "rain"))))
    _, first, _, second, _ = said(conversation, **THINKS)["messages"]
    assert first["content"] == [{"type": "thinking", "thinking": "Hm. "}, {"type": "text", "text": "Yes"}]
    assert second["content"] == [{"type": "thinking", "thinking": "I need it."}]
    assert "tool_plan" not in second
    _, first, _, second, _ = said(conversation)["messages"]
    assert first["content"] == "Yes"
    assert "content" not in second


@pytest.mark.parametrize(
    ("choice", "word"),
    [(ToolChoice("required"), "REQUIRED"), (ToolChoice("none"), "NONE"), (ToolChoice("auto"), None), (None, None)],
)
def test_a_choice_of_tools_is_one_word(choice: ToolChoice | None, word: str | None) -> None:
    body = said(knobs(tools=(WEATHER, CLOCK), tool_choice=choice))
    assert body.get("tool_choice") == word
    assert len(body["tools"]) == 2


def test_a_tool_that_has_to_be_called_is_the_only_one_offered() -> None:
    body = said(knobs(tools=(WEATHER, CLOCK), tool_choice=ToolChoice("named", "clock")))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["clock"]
    assert body["tool_choice"] == "REQUIRED"
    named = knobs(tools=(WEATHER,), tool_choice=ToolChoice("named", "moon"))
    assert refused(named) == "tool_choice of moon, which is not among the tools"


def test_a_choice_without_tools_says_nothing() -> None:
    body = said(knobs(tool_choice=ToolChoice("required"), parallel_tool_calls=False))
    assert "tool_choice" not in body
    assert "tools" not in body


def strict(tool: Tool) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters, strict=True)


def test_strictness_is_for_all_tools_or_none() -> None:
    assert said(knobs(tools=(strict(WEATHER),)))["strict_tools"] is True
    for tools in ((strict(WEATHER), CLOCK), (strict(WEATHER), strict(CLOCK))):
        call = built(knobs(tools=tools))
        assert call.dropped == ("strict",)
        assert b"strict_tools" not in call.body


def test_one_call_at_a_time_cannot_be_asked_for() -> None:
    assert built(knobs(tools=(WEATHER,), parallel_tool_calls=False)).dropped == ("parallel_tool_calls",)
    assert built(knobs(tools=(WEATHER,), parallel_tool_calls=True)).dropped == ()


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        (ResponseFormat("text"), None),
        (ResponseFormat("json_object"), {"type": "json_object"}),
        (ResponseFormat("json_schema", "x"), {"type": "json_object"}),
        (
            ResponseFormat("json_schema", "x", SCHEMA),
            {"type": "json_object", "json_schema": msgspec.json.decode(SCHEMA)},
        ),
    ],
)
def test_the_shape_of_an_answer(wanted: ResponseFormat, shape: dict[str, Any] | None) -> None:
    assert said(knobs(response_format=wanted)).get("response_format") == shape


def test_json_and_tools_exclude_each_other() -> None:
    wanted = ResponseFormat("json_object")
    assert refused(knobs(response_format=wanted, tools=(WEATHER,))) == "response_format together with tools"
    body = said(knobs(response_format=wanted, tools=(WEATHER,), tool_choice=ToolChoice("none")))
    assert "tools" not in body
    assert "tool_choice" not in body
    assert said(knobs(response_format=ResponseFormat("text"), tools=(WEATHER,)))["tools"]


def test_knobs_are_said_within_their_limits() -> None:
    body = said(
        knobs(
            max_tokens=50, temperature=1.7, top_p=1.0, top_k=900, seed=7, frequency_penalty=1.5, stop=("END", "FIN"),
        ),
        max_output_tokens=40,
    )  # fmt: skip
    named = ("max_tokens", "temperature", "p", "k", "seed", "frequency_penalty", "stop_sequences")
    assert [body[name] for name in named] == [40, 1.0, 0.99, 500, 7, 1.0, ["END", "FIN"]]
    least = said(knobs(top_p=0.0, top_k=-3, temperature=0.2))
    assert [least[name] for name in ("p", "k", "temperature")] == [0.01, 0, 0.2]


def test_only_one_penalty_can_be_given_and_no_reward() -> None:
    both = built(knobs(frequency_penalty=0.5, presence_penalty=0.4))
    assert both.dropped == ("presence_penalty",)
    assert msgspec.json.decode(both.body)["frequency_penalty"] == 0.5
    assert said(knobs(presence_penalty=0.4))["presence_penalty"] == 0.4
    reward = built(knobs(frequency_penalty=-0.5, presence_penalty=0.4))
    assert reward.dropped == ("frequency_penalty",)
    assert msgspec.json.decode(reward.body)["presence_penalty"] == 0.4
    assert built(knobs(frequency_penalty=0, presence_penalty=0)).dropped == ()


def test_knobs_without_a_word_are_named() -> None:
    conversation = knobs(user="u-1", verbosity="low", dropped=("logit_bias", "user"))
    assert built(conversation).dropped == ("logit_bias", "user", "verbosity")


def test_a_model_without_sampling_gets_none() -> None:
    conversation = knobs(temperature=0.4, top_p=0.5, top_k=3, seed=7)
    call = built(conversation, PromptDefaults(temperature=0.3), capabilities=())
    assert call.dropped == ("temperature", "top_p", "top_k")
    body = msgspec.json.decode(call.body)
    assert not {"temperature", "p", "k"} & set(body)
    assert body["seed"] == 7


def test_a_persona_fills_in_what_the_caller_left_open() -> None:
    persona = PromptDefaults("You are terse.", temperature=0.3, max_tokens=300)
    body = said(knobs(), persona)
    assert (body["temperature"], body["max_tokens"]) == (0.3, 300)
    body = said(knobs(temperature=0.9, max_tokens=5), persona)
    assert (body["temperature"], body["max_tokens"]) == (0.9, 5)


@pytest.mark.parametrize(
    ("wanted", "thinking"),
    [
        (Reasoning(effort="high"), {"type": "enabled"}),
        (Reasoning(budget_tokens=900), {"type": "enabled", "token_budget": 900}),
        (Reasoning(effort="none"), {"type": "disabled"}),
        (Reasoning(budget_tokens=0), {"type": "disabled"}),
    ],
)
def test_thinking_is_switched_and_limited(wanted: Reasoning, thinking: dict[str, Any]) -> None:
    call = built(knobs(reasoning=wanted), **THINKS)
    assert msgspec.json.decode(call.body)["thinking"] == thinking
    assert call.dropped == ()


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    for wanted, dropped in (
        (Reasoning(effort="high"), ("reasoning_effort",)),
        (Reasoning(budget_tokens=9), ("thinking",)),
        (Reasoning(effort="none"), ()),
        (Reasoning(budget_tokens=0), ()),
    ):
        call = built(knobs(reasoning=wanted))
        assert call.dropped == dropped
        assert b"thinking" not in call.body


@pytest.mark.parametrize(
    ("conversation", "feature"),
    [
        (knobs(stop=("a", "b", "c", "d", "e", "f")), "more than 5 stop sequences"),
        (Conversation((user(DocumentPart(data="JVBERi0=", media_type="application/pdf")),)), "document in a user"),
        (Conversation((user(ToolResultPart("a", "", media=(PIXEL,))),)), "an image in a tool result"),
        (Conversation((assistant(PIXEL),)), "an image in an assistant message"),
        (Conversation((system(PIXEL), user("Hi"))), "an image in a system message"),
        (Conversation((user(ToolCallPart("a", "f", "{}")),)), "a tool call in a user message"),
        (knobs(tools=(Tool("f", "", Raw(b"[]")),)), "tool f, whose parameters are not an object"),
    ],
)
def test_what_cannot_be_said_is_named(conversation: Conversation, feature: str) -> None:
    assert feature in refused(conversation)


def test_schemas_of_tools_get_the_type_they_lack() -> None:
    bare = Tool("f", "", Raw(b'{"properties":{"x":{}}}'))
    typed = Tool("g", "", Raw(b'{"type":"object"}'))
    parameters = [tool["function"]["parameters"] for tool in said(knobs(tools=(bare, typed)))["tools"]]
    assert parameters == [{"type": "object", "properties": {"x": {}}}, {"type": "object", "properties": {}}]
