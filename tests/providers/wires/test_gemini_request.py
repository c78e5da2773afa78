"""What is asked of a Gemini model beside the turns: tools, formats, knobs, limits, and where it is sent."""

from typing import Any

import pytest
from msgspec import Raw

from providers.domain.conversation import Conversation, Reasoning, ResponseFormat, Tool, ToolChoice
from providers.domain.types import Deployment, PromptDefaults
from providers.wires import UnsupportedFeature
from tests.providers.wires.builders import user
from tests.providers.wires.gemini_words import THREE, TWO, called, model, said

HELLO = (user("Hello"),)
WEATHER = Tool("weather", "Looks outside.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}')
JSON = ResponseFormat("json_schema", "answer", SCHEMA)


def asking(**more: Any) -> Conversation:
    return Conversation(HELLO, **more)


def config(target: Deployment | None = None, defaults: PromptDefaults | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = said(asking(**more), target, defaults or PromptDefaults()).get("generationConfig", {})
    return found


def refused(name: str = THREE, **more: Any) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        said(asking(**more), model(name))
    return caught.value.feature


# --- where it is sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("gemini-3.5-flash", "/models/gemini-3.5-flash"),
        ("models/gemini-3.5-flash", "/models/gemini-3.5-flash"),
        ("tunedModels/mine-1", "/tunedModels/mine-1"),
        ("odd name?alt=x#y", "/models/odd%20name%3Falt%3Dx%23y"),
    ],
)
def test_the_model_is_part_of_the_path(name: str, resource: str) -> None:
    assert called(asking(), model(name)).path == f"{resource}:generateContent"
    assert called(asking(), model(name), stream=True).path == f"{resource}:streamGenerateContent?alt=sse"


def test_a_plain_request_says_nothing_but_the_turns() -> None:
    call = called(asking())
    assert call.headers == {"content-type": "application/json"}
    assert call.body == b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'
    assert call.dropped == ()


def test_a_stream_has_the_same_body() -> None:
    assert called(asking(), stream=True).body == called(asking()).body


# --- tools --------------------------------------------------------------------------------------------------------


def test_functions_are_declared_with_their_json_schema() -> None:
    body = said(asking(tools=(WEATHER, Tool("clock", "", Raw()))))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Looks outside.",
                    "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
                {"name": "clock"},
            ]
        }
    ]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    "schema",
    [
        b"",
        b"{}",
        b'{"type":"object"}',
        b'{"type":"object","properties":{},"required":[],"additionalProperties":false,"$schema":"x","title":"Clock"}',
    ],
)
def test_a_function_without_parameters_has_no_schema(schema: bytes) -> None:
    [tool] = said(asking(tools=(Tool("clock", "", Raw(schema)),)))["tools"]
    assert tool["functionDeclarations"] == [{"name": "clock"}]


@pytest.mark.parametrize(
    "schema", [b'{"$ref":"#/$defs/A"}', b'{"anyOf":[]}', b'{"type":"object","additionalProperties":true}']
)
def test_a_schema_that_says_something_without_properties_is_kept(schema: bytes) -> None:
    [tool] = said(asking(tools=(Tool("f", "", Raw(schema)),)))["tools"]
    assert "parametersJsonSchema" in tool["functionDeclarations"][0]


@pytest.mark.parametrize("schema", [b"[]", b"3", b"true", b"{", b"\xff", b"[" * 4000])
def test_parameters_that_are_no_object_are_named(schema: bytes) -> None:
    assert refused(tools=(Tool("f", "", Raw(schema)),)) == "a tool whose parameters are not an object (f)"


def test_nothing_stands_beside_a_reference() -> None:
    schema = (
        b'{"type":"object","$defs":{"A":{"type":"string","$ref":"#/x","$comment":"c"}},'
        b'"properties":{"a":{"$ref":"#/$defs/A","description":"d"},"$ref":{"type":"string"},"b":{"items":[{"$ref":"#","title":"t"}]}}}'
    )
    [tool] = said(asking(tools=(Tool("f", "", Raw(schema)),)))["tools"]
    assert tool["functionDeclarations"][0]["parametersJsonSchema"] == {
        "type": "object",
        "$defs": {"A": {"$ref": "#/x", "$comment": "c"}},
        "properties": {"a": {"$ref": "#/$defs/A"}, "$ref": {"type": "string"}, "b": {"items": [{"$ref": "#"}]}},
    }


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", "weather"), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_the_choice_of_tools_is_a_mode(choice: ToolChoice, calling: dict[str, Any]) -> None:
    body = said(asking(tools=(WEATHER,), tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": calling}
    assert "toolConfig" not in said(asking(tool_choice=choice))


# --- formats ------------------------------------------------------------------------------------------------------


def test_json_is_a_type_and_a_schema() -> None:
    assert config(response_format=JSON) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize("wanted", [ResponseFormat("json_object"), ResponseFormat("json_schema", "x", Raw())])
def test_json_without_a_schema_is_a_type(wanted: ResponseFormat) -> None:
    assert config(response_format=wanted) == {"responseMimeType": "application/json"}


def test_text_is_no_format() -> None:
    assert config(response_format=ResponseFormat("text")) == {}


def test_json_and_tools_go_together_from_gemini_3_on() -> None:
    assert "responseJsonSchema" in config(model(THREE), response_format=JSON, tools=(WEATHER,))
    assert refused(TWO, response_format=JSON, tools=(WEATHER,)) == "response_format together with tools"


def test_a_schema_that_is_no_object_is_named() -> None:
    wanted = ResponseFormat("json_schema", "x", Raw(b"[]"))
    assert refused(response_format=wanted) == "a response_format whose schema is not an object"


# --- limits and knobs ---------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "max_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop": ("END", "\n"),
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": -0.2,
    "verbosity": "low",
    "user": "u-1",
    "parallel_tool_calls": False,
    "tools": (WEATHER,),
    "reasoning": Reasoning(effort="low"),
    "dropped": ("logit_bias",),
}


def test_knobs_are_turned_and_those_that_gemini_lacks_are_named() -> None:
    call = called(asking(**EVERYTHING))
    assert config(**EVERYTHING) == {
        "maxOutputTokens": 100,
        "stopSequences": ["END", "\n"],
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "seed": 7,
        "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
    }
    assert call.dropped == (
        "logit_bias", "frequency_penalty", "presence_penalty", "verbosity", "user", "parallel_tool_calls",
    )  # fmt: skip


def test_a_model_that_ignores_sampling_is_not_sent_any() -> None:
    target = model(THREE, can=())
    asked: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 4}
    assert config(target, PromptDefaults(temperature=0.3), **asked) == {}
    assert called(asking(**asked), target, PromptDefaults(temperature=0.3)).dropped == ("temperature", "top_p", "top_k")


def test_the_personas_values_count_where_the_caller_gave_none() -> None:
    persona = PromptDefaults(temperature=0.3, max_tokens=300)
    assert config(defaults=persona) == {"maxOutputTokens": 300, "temperature": 0.3}
    assert config(defaults=persona, temperature=0.0, max_tokens=5) == {"maxOutputTokens": 5, "temperature": 0.0}


def test_no_answer_is_asked_for_that_is_longer_than_the_model_can_write() -> None:
    assert config(model(longest=50), max_tokens=100) == {"maxOutputTokens": 50}
    assert config(model(longest=50)) == {}


@pytest.mark.parametrize(
    ("seed", "sent"), [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, 0), (2**63 - 1, 2**31 - 1), (-1, 2**31 - 1)]
)
def test_a_seed_is_cut_to_the_bits_there_are(seed: int, sent: int) -> None:
    assert config(seed=seed) == {"seed": sent}


@pytest.mark.parametrize(
    ("reasoning", "name"), [(Reasoning(effort="high"), "reasoning_effort"), (Reasoning(budget_tokens=5), "thinking")]
)
def test_thinking_is_named_where_a_model_cannot(reasoning: Reasoning, name: str) -> None:
    call = called(asking(reasoning=reasoning), model("gemini-2.0-flash"))
    assert call.dropped == (name,)
    assert b"thinkingConfig" not in call.body


def test_thinking_that_says_nothing_is_not_sent() -> None:
    assert config(reasoning=Reasoning(show=False)) == {}


def test_more_than_five_stop_sequences_are_too_many() -> None:
    assert config(stop=("a",) * 5) == {"stopSequences": ["a"] * 5}
    assert refused(stop=("a",) * 6) == "more than 5 stop sequences"


@pytest.mark.parametrize(
    "knob", [{"frequency_penalty": 0.0}, {"parallel_tool_calls": True}, {"parallel_tool_calls": False}]
)
def test_a_knob_that_changes_nothing_is_not_named(knob: dict[str, Any]) -> None:
    assert called(asking(**knob)).dropped == ()
