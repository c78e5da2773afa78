"""A conversation in Ollama's words, or what cannot be said, named."""

from dataclasses import replace
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

CODEC = WIRES[Wire.OLLAMA]
PARAMETERS = Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}')
WEATHER = Tool("weather", "Looks outside.", PARAMETERS)
CLOCK = Tool("clock", "", Raw())
PIXEL = ImagePart(media_type="image/png", data="iVBORw0=")
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}')
THINKS = {"capabilities": (Capability.TEMPERATURE, Capability.REASONING)}


def built(conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, **more: Any) -> UpstreamRequest:
    request = saying(conversation, stream=more.pop("stream", False))
    return CODEC.build(request, deployment(Wire.OLLAMA, **more), defaults)


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
            system("In short."),
            user("And this?", PIXEL, "Or this?", ImagePart(url="data:image/jpeg;base64,/9j/4A==")),
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
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather in Oslo, and the time?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "a:1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                {"id": "b", "function": {"name": "clock", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_call_id": "a:1", "tool_name": "weather", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "tool_name": "clock", "content": "broken"},
        {"role": "user", "content": "Go on"},
        {"role": "system", "content": "In short."},
        {"role": "user", "content": "And this?\nOr this?", "images": ["iVBORw0=", "/9j/4A=="]},
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


def test_whether_to_stream_and_not_to_cut_is_always_said() -> None:
    assert said(knobs()) == {
        "model": "upstream-1",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
        "truncate": False,
        "shift": False,
    }
    assert said(knobs(), stream=True)["stream"] is True


def test_a_personas_words_come_first() -> None:
    body = said(Conversation((system("Be kind."), user("Hi"))), PromptDefaults("You are terse."))
    assert [message["content"] for message in body["messages"]] == ["You are terse.", "Be kind.", "Hi"]


def test_results_are_named_after_the_latest_call_with_their_id() -> None:
    """Servers without ids made the gateway invent them, and clients may use one twice."""
    conversation = Conversation(
        (
            user("Hi"),
            assistant(ToolCallPart("call_0", "weather", "{}")),
            user(ToolResultPart("call_0", "rain")),
            assistant(ToolCallPart("call_0", "clock", "{}")),
            user(ToolResultPart("call_0", "noon"), ToolResultPart("x", "?"), ToolResultPart("y", "!", name="moon")),
        )
    )
    results = [message for message in said(conversation)["messages"] if message["role"] == "tool"]
    assert [result.get("tool_name") for result in results] == ["weather", "clock", None, "moon"]


def test_an_image_alone_is_a_message() -> None:
    [message] = said(Conversation((user(PIXEL),)))["messages"]
    assert message == {"role": "user", "content": "", "images": ["iVBORw0="]}
    assert said(Conversation((user(), user("Hi"))))["messages"] == [{"role": "user", "content": "Hi"}]


def test_what_a_model_thought_goes_back_to_models_that_think() -> None:
    turn = assistant(ReasoningPart("Hm. "), ReasoningPart("Secret", signature="s", vendor="anthropic"), "Yes")
    conversation = Conversation((user("Hi"), turn, user("So?")))
    assert said(conversation, **THINKS)["messages"][1] == {"role": "assistant", "content": "Yes", "thinking": "Hm. "}
    assert said(conversation)["messages"][1] == {"role": "assistant", "content": "Yes"}


def test_a_choice_of_tools_there_is_none() -> None:
    assert "tools" not in said(knobs(tools=(WEATHER,), tool_choice=ToolChoice("none")))
    assert said(knobs(tools=(WEATHER,)))["tools"]
    for choice, name in ((ToolChoice("required"), "required"), (ToolChoice("named", "weather"), "weather")):
        assert refused(knobs(tools=(WEATHER,), tool_choice=choice)).startswith(f"tool_choice {name}")
        assert "tools" not in said(knobs(tool_choice=choice))


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        (ResponseFormat("text"), None),
        (ResponseFormat("json_object"), "json"),
        (ResponseFormat("json_schema", "x"), "json"),
        (ResponseFormat("json_schema", "x", SCHEMA), msgspec.json.decode(SCHEMA)),
    ],
)
def test_the_shape_of_an_answer(wanted: ResponseFormat, shape: Any) -> None:
    assert said(knobs(response_format=wanted)).get("format") == shape


def test_knobs_are_options() -> None:
    conversation = knobs(
        max_tokens=50, temperature=0.4, top_p=0.5, top_k=3, seed=7, frequency_penalty=0.5, presence_penalty=-0.25,
        stop=("END",),
    )  # fmt: skip
    assert said(conversation, max_output_tokens=40)["options"] == {
        "num_predict": 40,
        "temperature": 0.4,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.25,
        "stop": ["END"],
    }


def test_knobs_without_a_word_are_named() -> None:
    strict = Tool("f", "", PARAMETERS, strict=True)
    conversation = knobs(
        user="u-1", verbosity="low", tools=(strict,), parallel_tool_calls=False, dropped=("logit_bias",)
    )
    assert built(conversation).dropped == ("logit_bias", "user", "verbosity", "parallel_tool_calls", "strict")
    assert built(knobs(parallel_tool_calls=False)).dropped == ()


def test_a_model_without_sampling_gets_none() -> None:
    conversation = knobs(temperature=0.4, top_p=0.5, top_k=3, seed=7)
    call = built(conversation, PromptDefaults(temperature=0.3), capabilities=())
    assert call.dropped == ("temperature", "top_p", "top_k")
    assert msgspec.json.decode(call.body)["options"] == {"seed": 7}


def test_a_persona_fills_in_what_the_caller_left_open() -> None:
    persona = PromptDefaults("", temperature=0.3, max_tokens=300)
    assert said(knobs(), persona)["options"] == {"temperature": 0.3, "num_predict": 300}
    assert said(knobs(temperature=0.9, max_tokens=5), persona)["options"] == {"temperature": 0.9, "num_predict": 5}


@pytest.mark.parametrize(
    ("model", "wanted", "think"),
    [
        ("qwen3:8b", Reasoning(effort="high"), True),
        ("qwen3:8b", Reasoning(budget_tokens=900), True),
        ("qwen3:8b", Reasoning(effort="none"), False),
        ("qwen3:8b", Reasoning(budget_tokens=0), False),
        ("gpt-oss:20b", Reasoning(effort="minimal"), "low"),
        ("gpt-oss:20b", Reasoning(effort="medium"), "medium"),
        ("gpt-oss:120b-cloud", Reasoning(effort="xhigh"), "high"),
        ("gpt-oss:20b", Reasoning(budget_tokens=900), True),
        ("gpt-oss:20b", Reasoning(effort="none"), False),
    ],
)
def test_thinking_is_switched_or_has_a_level(model: str, wanted: Reasoning, think: bool | str) -> None:
    target = replace(deployment(Wire.OLLAMA, **THINKS), upstream_model=model)
    call = CODEC.build(saying(knobs(reasoning=wanted)), target, NO_DEFAULTS)
    assert msgspec.json.decode(call.body)["think"] == think
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
        assert b"think" not in call.body


@pytest.mark.parametrize(
    ("conversation", "feature"),
    [
        (Conversation((user(ImagePart(url="https://pictures.example/1.png")),)), "an image by address"),
        (
            Conversation((user(ImagePart(url="data:image/svg+xml,<svg/>")),)),
            "an image in a data URL that is not base64",
        ),
        (Conversation((user(DocumentPart(data="JVBERi0=", media_type="application/pdf")),)), "document in a user"),
        (Conversation((user(ToolResultPart("a", "", media=(PIXEL,))),)), "an image in a tool result"),
        (Conversation((assistant(PIXEL),)), "an image in an assistant message"),
        (Conversation((system(PIXEL), user("Hi"))), "an image in a system message"),
        (Conversation((user(ToolCallPart("a", "f", "{}")),)), "a tool call in a user message"),
        (Conversation((assistant(ToolCallPart("a", "f", "[1]")),)), "a call of tool f whose arguments are not"),
        (Conversation((assistant(ToolCallPart("a", "f", '{"x"')),)), "a call of tool f whose arguments are not"),
        (knobs(tools=(Tool("f", "", Raw(b"[]")),)), "tool f, whose parameters are not an object"),
    ],
)
def test_what_cannot_be_said_is_named(conversation: Conversation, feature: str) -> None:
    assert feature in refused(conversation)
