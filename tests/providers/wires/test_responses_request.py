"""OpenAI's Responses wire, the requests: a caller's own body passed on, and conversations of other wires."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import NO_DEFAULTS, Capability, PromptDefaults, UpstreamRequest, Wire
from providers.wires import WIRES, UnsupportedFeature
from tests.providers.wires.builders import assistant, deployment, saying, sent_by_caller, system, user

WIRE = Wire.OPENAI_RESPONSES
CODEC = WIRES[WIRE]
PERSONA = PromptDefaults(system_prompt='Be "brief".', temperature=1.4, max_tokens=300)
THINKS = (Capability.REASONING,)
WEATHER = Tool("get_weather", "The weather of a city", Raw(b'{"type":"object","properties":{"city":{}}}'))
HELLO = b'{"model":"auto","input":"hi"}'


# --- a caller of the same wire -------------------------------------------------------------------------------------


def passed_on(body: bytes, defaults: PromptDefaults = NO_DEFAULTS, **target: Any) -> dict[str, Any]:
    limit = msgspec.json.decode(body).get("max_output_tokens")
    call = CODEC.build(sent_by_caller(WIRE, body, max_tokens=limit), deployment(WIRE, **target), defaults)
    assert call.dropped == ()
    sent: dict[str, Any] = msgspec.json.decode(call.body)
    return sent


def test_it_goes_to_responses() -> None:
    call = CODEC.build(sent_by_caller(WIRE, HELLO), deployment(WIRE), NO_DEFAULTS)
    assert (call.path, call.headers) == ("/responses", {"content-type": "application/json"})
    assert CODEC.stream_type == "text/event-stream"


def test_unknown_fields_survive_byte_for_byte_and_our_own_are_removed() -> None:
    items = b'[ {"role":"user" , "content":"\\u00e9\xc3\xa9", "x":1e400} ]'
    body = (
        b'{"model":"auto","persona":"p","router":{"a":1},"input":%b,"store":true,"include":["x"],"new":[1.0, null],'
        b'"previous_response_id":"resp_0","tools":[{"type":"web_search"}],"max_output_tokens":7,"background":false}'
    ) % items
    call = CODEC.build(sent_by_caller(WIRE, body, max_tokens=7), deployment(WIRE), NO_DEFAULTS)
    sent = msgspec.json.decode(call.body, type=dict[str, Raw])
    assert set(sent) == set(msgspec.json.decode(body, type=dict[str, Raw])) - {"persona", "router"}
    assert bytes(sent["model"]) == b'"upstream-1"'
    assert bytes(sent["input"]) == items
    assert bytes(sent["new"]) == b"[1.0, null]"
    assert bytes(sent["tools"]) == b'[{"type":"web_search"}]'
    assert bytes(sent["max_output_tokens"]) == b"7"


def test_building_does_not_change_the_request() -> None:
    request = sent_by_caller(WIRE, HELLO)
    before = dict(request.fields)
    CODEC.build(request, deployment(WIRE), PERSONA)
    assert request.fields == before


@pytest.mark.parametrize(
    ("asked", "most", "sent"),
    [(None, None, 300), (None, 200, 200), (50, None, 50), (500, 200, 200), (5, None, 5)],
)
def test_the_limit_is_the_callers_or_the_personas_and_never_more_than_the_model_writes(
    asked: int | None, most: int | None, sent: int
) -> None:
    body = HELLO if asked is None else HELLO[:-1] + b',"max_output_tokens":%d}' % asked
    assert passed_on(body, PERSONA, max_output_tokens=most)["max_output_tokens"] == sent


def test_without_a_limit_none_is_sent() -> None:
    assert passed_on(HELLO, max_output_tokens=100) == {"model": "upstream-1", "input": "hi"}


@pytest.mark.parametrize(
    ("sent", "instructions"),
    [
        (b"", 'Be "brief".'),
        (b',"instructions":null', 'Be "brief".'),
        (b',"instructions":""', 'Be "brief".'),
        (b',"instructions":"Speak \\"Pirate\\""', 'Be "brief".\n\nSpeak "Pirate"'),
        (b',"instructions":[1]', [1]),
    ],
)
def test_the_personas_prompt_comes_before_the_callers_instructions(sent: bytes, instructions: object) -> None:
    assert passed_on(HELLO[:-1] + sent + b"}", PERSONA)["instructions"] == instructions


def test_instructions_are_left_alone_without_a_persona() -> None:
    assert passed_on(HELLO[:-1] + b',"instructions":"Speak"}')["instructions"] == "Speak"


def test_the_personas_temperature_is_for_callers_without_one_and_models_that_take_it() -> None:
    assert passed_on(HELLO, PERSONA)["temperature"] == 1.4
    assert passed_on(HELLO[:-1] + b',"temperature":0.1}', PERSONA)["temperature"] == 0.1
    assert passed_on(HELLO[:-1] + b',"temperature":null}', PERSONA)["temperature"] == 1.4
    assert "temperature" not in passed_on(HELLO, PERSONA, capabilities=())


@pytest.mark.parametrize("value", [b"true", b'"yes"', b"1"])
def test_an_answer_in_the_background_is_refused(value: bytes) -> None:
    request = sent_by_caller(WIRE, HELLO[:-1] + b',"background":%b}' % value)
    with pytest.raises(UnsupportedFeature) as caught:
        CODEC.build(request, deployment(WIRE), NO_DEFAULTS)
    assert caught.value.feature == "background"


@pytest.mark.parametrize("value", [b"false", b"null"])
def test_no_background_is_no_feature(value: bytes) -> None:
    assert "background" in passed_on(HELLO[:-1] + b',"background":%b}' % value)


# --- a conversation of another wire --------------------------------------------------------------------------------


def built(
    conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, *, stream: bool = False, **target: Any
) -> UpstreamRequest:
    return CODEC.build(saying(conversation, stream=stream), deployment(WIRE, **target), defaults)


def sent_for(conversation: Conversation, defaults: PromptDefaults = NO_DEFAULTS, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(built(conversation, defaults, **options).body)
    return body


def items_of(*messages: Message, prompt: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = sent_for(Conversation(messages), PromptDefaults(system_prompt=prompt))["input"]
    return items


def refused(conversation: Conversation) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        built(conversation)
    return caught.value.feature


def test_the_least_request_leaves_nothing_at_the_vendor() -> None:
    assert sent_for(Conversation((user("Hi"),))) == {
        "model": "upstream-1",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
    }


def test_a_stream_is_asked_for_without_options() -> None:
    body = sent_for(Conversation((user("Hi"),)), stream=True)
    assert body["stream"] is True
    assert "stream_options" not in body


def test_system_messages_stay_where_they_are_behind_the_personas_prompt() -> None:
    messages = (system("Be kind.", "Be brief."), user("One"), system("Now in French."), user("Two"))
    assert items_of(*messages, prompt="You are Bob.") == [
        {"role": "system", "content": "You are Bob."},
        {"role": "system", "content": "Be kind.\nBe brief."},
        {"role": "user", "content": "One"},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "Two"},
    ]


def test_texts_images_and_files_of_a_user_keep_their_order() -> None:
    message = user(
        "Look:",
        ImagePart(url="https://example.com/cat.png"),
        ImagePart(media_type="image/png", data="iVBO"),
        DocumentPart(url="https://example.com/a.pdf", name="ignored.pdf"),
        DocumentPart(media_type="application/pdf", data="JVBE", name="b.pdf"),
        TextPart("What are they?", cache="5m"),
    )
    assert items_of(message) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_image", "detail": "auto", "image_url": "https://example.com/cat.png"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBO"},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
                {"type": "input_file", "filename": "b.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                {"type": "input_text", "text": "What are they?"},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (DocumentPart(media_type="application/pdf", data="x"), "document.pdf"),
        (DocumentPart(media_type="text/plain", data="x"), "document.txt"),
        (DocumentPart(media_type="text/csv", data="x"), "document.csv"),
        (DocumentPart(data="x"), "document.pdf"),
        (DocumentPart(url="data:application/pdf;base64,x"), "document.pdf"),
    ],
)
def test_a_file_without_a_name_gets_one_that_tells_its_type(document: DocumentPart, name: str) -> None:
    part = items_of(user(document))[0]["content"][0]
    assert part["filename"] == name
    assert part["file_data"].startswith("data:")


def test_an_assistants_turn_is_an_item_for_each_thing_it_did_in_order() -> None:
    turn = assistant(
        ReasoningPart("Two cities.", encrypted="gAAA", vendor="openai", id="rs_1"),
        "I look ",
        "them up.",
        ToolCallPart("call_a", "get_weather", ' {"city":"Rome"} '),
        ReasoningPart(encrypted="gBBB", vendor="openai"),
        ToolCallPart("call_b", "get_time", ""),
    )
    assert items_of(user("?"), turn)[1:] == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Two cities."}],
            "encrypted_content": "gAAA",
        },
        {"role": "assistant", "content": "I look them up."},
        {"type": "function_call", "call_id": "call_a", "name": "get_weather", "arguments": '{"city":"Rome"}'},
        {"type": "reasoning", "summary": [], "encrypted_content": "gBBB"},
        {"type": "function_call", "call_id": "call_b", "name": "get_time", "arguments": "{}"},
    ]


@pytest.mark.parametrize(
    "part",
    [
        ReasoningPart("Hm", signature="sig", vendor="anthropic"),
        ReasoningPart(encrypted="sealed", vendor="anthropic"),
        ReasoningPart("Hm", vendor="openai", id="rs_1"),
        ReasoningPart("Hm"),
    ],
)
def test_a_thought_that_this_vendor_cannot_read_is_left_out(part: ReasoningPart) -> None:
    assert items_of(assistant(part, "42")) == [{"role": "assistant", "content": "42"}]


def test_a_thought_that_led_nowhere_is_left_out() -> None:
    mine = ReasoningPart(encrypted="gAAA", vendor="openai", id="rs_1")
    assert items_of(user("Hi"), assistant(mine, ""), user("Well?")) == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Well?"},
    ]


def test_tool_results_follow_their_calls_before_what_the_user_says() -> None:
    results = user(
        "And tomorrow?",
        ToolResultPart("call_a", "Sunny"),
        ToolResultPart("call_b", "", media=(ImagePart(media_type="image/png", data="iVBO"),)),
        ToolResultPart("call_c", "See:", media=(DocumentPart(url="https://example.com/a.pdf"),)),
    )
    assert items_of(results) == [
        {"type": "function_call_output", "call_id": "call_a", "output": "Sunny"},
        {
            "type": "function_call_output",
            "call_id": "call_b",
            "output": [{"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBO"}],
        },
        {
            "type": "function_call_output",
            "call_id": "call_c",
            "output": [
                {"type": "input_text", "text": "See:"},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            ],
        },
        {"role": "user", "content": "And tomorrow?"},
    ]


def test_a_turn_of_results_only_says_nothing_more_and_an_empty_turn_stays_one() -> None:
    assert len(items_of(user(ToolResultPart("call_a", "Sunny")))) == 1
    assert items_of(Message(Role.USER, ())) == [{"role": "user", "content": []}]


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        (system(ImagePart(url="https://example.com/a.png")), "an image in a system message"),
        (system(DocumentPart(url="https://example.com/a.pdf")), "a document in a system message"),
        (assistant(ImagePart(url="https://example.com/a.png")), "an image in an assistant message"),
        (assistant(ToolResultPart("call_a", "x")), "a tool result in an assistant message"),
        (user(ToolCallPart("call_a", "f", "{}")), "a tool call in a user message"),
        (user(ReasoningPart("Hm")), "reasoning in a user message"),
    ],
)
def test_parts_where_nobody_can_say_them_are_refused(message: Message, feature: str) -> None:
    assert refused(Conversation((message,))) == feature


def test_tools_are_flat_and_always_say_whether_they_are_strict() -> None:
    tools = (WEATHER, Tool("now", "", Raw(), strict=True), Tool("null", "", Raw(b"null"), strict=False))
    assert sent_for(Conversation((user("?"),), tools=tools))["tools"] == [
        {
            "type": "function",
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {}}},
            "strict": False,
        },
        {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}, "strict": True},
        {"type": "function", "name": "null", "parameters": {"type": "object", "properties": {}}, "strict": False},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", "get_weather"), {"type": "function", "name": "get_weather"}),
    ],
)
def test_the_choice_of_a_tool_is_said_in_their_words(choice: ToolChoice, sent: object) -> None:
    conversation = Conversation((user("?"),), tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=False)
    body = sent_for(conversation)
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (sent, False)


def test_without_tools_nothing_is_said_about_choosing_one() -> None:
    body = sent_for(Conversation((user("?"),), tool_choice=ToolChoice("none"), parallel_tool_calls=True))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (ResponseFormat("text"), {"type": "text"}),
        (ResponseFormat("json_object"), {"type": "json_object"}),
        (
            ResponseFormat("json_schema", "city", Raw(b'{"type":"object"}'), strict=True),
            {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True},
        ),
        (ResponseFormat("json_schema"), {"type": "json_schema", "name": "answer", "schema": {}, "strict": False}),
    ],
)
def test_the_format_of_the_answer_stands_under_text(wanted: ResponseFormat, sent: object) -> None:
    assert sent_for(Conversation((user("?"),), response_format=wanted))["text"] == {"format": sent}


def test_the_word_json_in_a_system_message_is_found_where_json_objects_look_for_it() -> None:
    conversation = Conversation((system("Answer in JSON."), user("?")), response_format=ResponseFormat("json_object"))
    body = sent_for(conversation)
    assert "instructions" not in body
    assert body["input"][0]["content"] == "Answer in JSON."


def test_verbosity_stands_under_text_too() -> None:
    conversation = Conversation((user("?"),), response_format=ResponseFormat("json_object"), verbosity="low")
    assert sent_for(conversation)["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}


def test_the_user_is_named() -> None:
    assert sent_for(Conversation((user("?"),), user="u-7"))["user"] == "u-7"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (None, None),
        (Reasoning(), {"summary": "auto"}),
        (Reasoning("high"), {"effort": "high", "summary": "auto"}),
        (Reasoning("minimal", show=False), {"effort": "minimal"}),
        (Reasoning("none"), {"effort": "none"}),
        (Reasoning(budget_tokens=1_024), {"effort": "low", "summary": "auto"}),
        (Reasoning(budget_tokens=10_000), {"effort": "medium", "summary": "auto"}),
        (Reasoning(budget_tokens=31_999, show=False), {"effort": "high"}),
        (Reasoning(budget_tokens=0), {"effort": "none"}),
        (Reasoning(budget_tokens=-1), {"summary": "auto"}),
        (Reasoning("xhigh", budget_tokens=1_024), {"effort": "xhigh", "summary": "auto"}),
    ],
)
def test_a_model_that_reasons_is_told_how_much_and_asked_for_its_proof(wanted: Reasoning | None, sent: object) -> None:
    call = built(Conversation((user("?"),), reasoning=wanted), capabilities=THINKS)
    body = msgspec.json.decode(call.body)
    assert body.get("reasoning") == sent
    assert body["include"] == ["reasoning.encrypted_content"]
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("wire", "fields", "shown"),
    [
        (Wire.OPENAI, b'{"reasoning_effort":"low"}', False),
        (Wire.OPENAI, b'{"reasoning_effort":null,"reasoning":{"effort":"low"}}', True),
        (Wire.ANTHROPIC, b'{"thinking":{"type":"adaptive"}}', True),
        (None, b"{}", True),
    ],
)
def test_a_summary_is_asked_for_who_would_be_shown_one(wire: Wire | None, fields: bytes, shown: bool) -> None:
    asked = replace(
        saying(Conversation((user("?"),), reasoning=Reasoning("low"))),
        wire=wire,
        fields=msgspec.json.decode(fields, type=dict[str, Raw]),
    )
    body = msgspec.json.decode(CODEC.build(asked, deployment(WIRE, capabilities=THINKS), NO_DEFAULTS).body)
    assert ("summary" in body["reasoning"]) is shown


@pytest.mark.parametrize(
    ("wanted", "dropped"),
    [
        (None, ()),
        (Reasoning("none"), ()),
        (Reasoning(), ()),
        (Reasoning("low"), ("reasoning",)),
        (Reasoning(budget_tokens=2_000), ("reasoning",)),
    ],
)
def test_a_model_that_does_not_reason_hears_nothing_of_it(wanted: Reasoning | None, dropped: tuple[str, ...]) -> None:
    call = built(Conversation((user("?"),), reasoning=wanted))
    assert call.dropped == dropped
    assert not {"reasoning", "include"} & set(msgspec.json.decode(call.body))


def test_stop_sequences_are_a_feature_that_it_lacks() -> None:
    assert refused(Conversation((user("?"),), stop=("END",))) == "stop"


@pytest.mark.parametrize(
    ("knobs", "dropped"),
    [
        ({"seed": 0}, ("seed",)),
        ({"frequency_penalty": 0.5, "presence_penalty": 0.0}, ("frequency_penalty", "presence_penalty")),
        ({"top_k": 5}, ("top_k",)),
        ({"dropped": ("logit_bias", "seed"), "seed": 1}, ("logit_bias", "seed")),
    ],
)
def test_knobs_that_it_lacks_are_left_out_and_named(knobs: dict[str, Any], dropped: tuple[str, ...]) -> None:
    call = built(Conversation((user("?"),), **knobs))
    assert call.dropped == dropped
    assert not set(dropped) & set(msgspec.json.decode(call.body))


@pytest.mark.parametrize(
    ("asked", "capabilities", "sent", "dropped"),
    [
        ({"temperature": 0.0, "top_p": 0.9}, (Capability.TEMPERATURE,), {"temperature": 0.0, "top_p": 0.9}, ()),
        ({"top_p": 0.9}, (Capability.TEMPERATURE,), {"temperature": 1.4, "top_p": 0.9}, ()),
        ({}, (Capability.TEMPERATURE,), {"temperature": 1.4}, ()),
        ({"temperature": 0.0, "top_p": 0.9}, (), {}, ("temperature", "top_p")),
        ({}, (), {}, ()),
    ],
)
def test_sampling_goes_to_models_that_take_it(
    asked: dict[str, float], capabilities: Iterable[Capability], sent: dict[str, float], dropped: tuple[str, ...]
) -> None:
    call = built(Conversation((user("?"),), **asked), PERSONA, capabilities=capabilities)
    body = msgspec.json.decode(call.body)
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == sent
    assert call.dropped == dropped


@pytest.mark.parametrize(
    ("asked", "most", "sent", "dropped"),
    [
        (None, None, 300, ()),
        (50, None, 50, ()),
        (500, 200, 200, ()),
        (16, None, 16, ()),
        (1, None, 16, ("max_tokens",)),
    ],
)
def test_a_limit_below_the_least_that_is_accepted_becomes_that_and_is_named(
    asked: int | None, most: int | None, sent: int, dropped: tuple[str, ...]
) -> None:
    call = built(Conversation((user("?"),), max_tokens=asked), PERSONA, max_output_tokens=most)
    assert msgspec.json.decode(call.body)["max_output_tokens"] == sent
    assert call.dropped == dropped
