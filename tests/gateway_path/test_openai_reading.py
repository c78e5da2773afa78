"""An OpenAI chat body, read in full for targets of another wire. Pure."""

import json
from typing import Any

import msgspec
import pytest

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
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
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats.openai_chat import parse
from routerplatform.gateway.errors import InvalidRequest
from tests.gateway_path.openai_bodies import TOOL, USER, body


def conversation(**fields: Any) -> Conversation:
    return parse(body(**fields)).conversation()


def test_a_conversation_keeps_its_order_with_instructions_in_the_middle() -> None:
    said = conversation(
        messages=[
            {"role": "system", "content": "Be brief."},
            USER,
            {"role": "developer", "content": [{"type": "text", "text": "Now "}, {"type": "text", "text": "longer."}]},
            {"role": "assistant", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )
    assert said.messages == (
        Message(Role.SYSTEM, (TextPart("Be brief."),)),
        Message(Role.USER, (TextPart("Hello"),)),
        Message(Role.SYSTEM, (TextPart("Now "), TextPart("longer."))),
        Message(Role.ASSISTANT, (TextPart("Hi"),)),
        Message(Role.ASSISTANT, (TextPart("No."),)),
    )


def test_parallel_tool_calls_and_their_results() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
        {"id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"id": "c", "type": "function", "function": {"name": "date"}},
    ]
    said = conversation(
        messages=[
            {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
            {"role": "assistant", "tool_calls": calls[:1]},
            {"role": "tool", "tool_call_id": "a", "content": "12°"},
            {
                "role": "tool",
                "tool_call_id": "b",
                "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "on"}],
            },
            {"role": "function", "name": "old", "content": "so"},
        ]
    )
    paris = ToolCallPart("a", "weather", '{"city":"Paris"}')
    assert said.messages == (
        Message(
            Role.ASSISTANT,
            (TextPart("Let me look."), paris, ToolCallPart("b", "time", "{}"), ToolCallPart("c", "date", "{}")),
        ),
        Message(Role.ASSISTANT, (paris,)),
        Message(Role.USER, (ToolResultPart("a", "12°"),)),
        Message(Role.USER, (ToolResultPart("b", "noon"),)),
        Message(Role.USER, (ToolResultPart("old", "so", name="old"),)),
    )


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ({"url": "https://example.com/cat.png"}, ImagePart(url="https://example.com/cat.png")),
        ("https://example.com/cat.png", ImagePart(url="https://example.com/cat.png")),
        ({"url": "data:image/png;base64,AAAA", "detail": "low"}, ImagePart(media_type="image/png", data="AAAA")),
    ],
)
def test_images_by_address_and_inline(image: Any, part: ImagePart) -> None:
    said = conversation(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": image}]}])
    assert said.messages[0].parts == (part,)


def test_tools_with_and_without_their_details() -> None:
    said = conversation(tools=[TOOL, {"function": {"name": "bare"}}], parallel_tool_calls=False)
    assert said.tools[0] == Tool("weather", "Tells it.", msgspec.Raw(b'{"type": "object"}'))
    assert said.tools[1].name == "bare"
    assert json.loads(bytes(said.tools[1].parameters)) == {"type": "object", "properties": {}}
    assert said.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "weather"}}, ToolChoice("named", "weather")),
        (None, None),
    ],
)
def test_which_tool_to_choose(sent: Any, read: ToolChoice | None) -> None:
    assert conversation(tools=[TOOL], tool_choice=sent).tool_choice == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, None),
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json_object")),
        ({"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True}},
         ResponseFormat("json_schema", "city", msgspec.Raw(b'{"type": "object"}'), True)),
    ],
)  # fmt: skip
def test_the_shape_of_the_answer(sent: Any, read: ResponseFormat | None) -> None:
    assert conversation(response_format=sent).response_format == read


@pytest.mark.parametrize(("sent", "read"), [("END", ("END",)), (["a", "b"], ("a", "b")), (None, ()), ([], ())])
def test_where_to_stop(sent: Any, read: tuple[str, ...]) -> None:
    assert conversation(stop=sent).stop == read


def test_sampling_limits_and_the_user_come_along() -> None:
    said = conversation(temperature=0.5, top_p=0.9, max_tokens=7, user="u-1")
    assert (said.temperature, said.top_p, said.max_tokens, said.user) == (0.5, 0.9, 7, "u-1")


def test_knobs_that_other_wires_have_too_come_along() -> None:
    said = conversation(
        seed=7, frequency_penalty=0.5, presence_penalty=-1, top_k=40, verbosity="low", safety_identifier="s-1", user="u"
    )
    assert (said.seed, said.frequency_penalty, said.presence_penalty, said.top_k) == (7, 0.5, -1.0, 40)
    assert (said.verbosity, said.user, said.dropped) == ("low", "s-1", ())


def test_knobs_that_nobody_else_has_are_dropped_by_name() -> None:
    said = conversation(seed=1, logit_bias={}, stop="x", store=True, metadata=None, guided_regex="a+", min_p=0.1)
    assert said.dropped == ("guided_regex", "logit_bias", "min_p", "store")


def test_who_speaks_is_dropped_by_name_too() -> None:
    named = [{"role": "user", "name": "anna", "content": "Hi"}, {"role": "tool", "tool_call_id": "a", "name": "f"}]
    assert conversation(messages=named).dropped == ("messages.name",)
    assert conversation(messages=named[1:]).dropped == ()


def test_a_caller_cannot_fill_a_header_with_names() -> None:
    dropped = conversation(**{f"x{i}" * 80: 1 for i in range(100)}).dropped
    assert len(dropped) == 32
    assert max(map(len, dropped)) == 64


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"reasoning_effort": None, "reasoning": {}}, None),
        ({"reasoning_effort": "high"}, Reasoning("high")),
        ({"reasoning_effort": "none"}, Reasoning("none")),
        ({"reasoning": {"effort": "low", "exclude": True}}, Reasoning("low", show=False)),
        ({"reasoning": {"max_tokens": 2000}}, Reasoning(budget_tokens=2000)),
        ({"reasoning": {"enabled": True}}, Reasoning("medium")),
        ({"reasoning": {"enabled": False, "effort": "high"}}, Reasoning("none")),
        ({"include_reasoning": False}, Reasoning(show=False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, Reasoning(budget_tokens=4096)),
        ({"thinking": {"type": "enabled"}}, Reasoning("medium")),
        ({"thinking": {"type": "disabled"}}, Reasoning("none")),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, Reasoning("none")),
    ],
)
def test_how_much_to_think_in_all_its_spellings(fields: dict[str, Any], reasoning: Reasoning | None) -> None:
    assert conversation(**fields).reasoning == reasoning


# --- what was said before -----------------------------------------------------------------------------------------


def parts_of(**message: Any) -> tuple[Part, ...]:
    return conversation(messages=[{"role": "assistant", **message}]).messages[0].parts


@pytest.mark.parametrize(
    ("message", "thought"),
    [
        ({"reasoning_content": "Hm."}, [ReasoningPart("Hm.")]),
        ({"reasoning": "Hm."}, [ReasoningPart("Hm.")]),
        ({"reasoning_content": ""}, []),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"},
                              {"type": "redacted_thinking", "data": "d"}]},
         [ReasoningPart("Hm.", "s", vendor="anthropic"), ReasoningPart(encrypted="d", vendor="anthropic")]),
        ({"reasoning_content": "Hm.", "reasoning_details": [
            {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0}]},
         [ReasoningPart("Hm.", "s", vendor="anthropic")]),
        ({"reasoning_details": [
            {"type": "reasoning.summary", "summary": "Hm.", "format": "openai-responses-v1", "id": "rs_1", "index": 0},
            {"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1", "id": "rs_1", "index": 0},
            {"type": "reasoning.encrypted", "data": "y", "format": "openai-responses-v1", "id": "rs_2", "index": 1}]},
         [ReasoningPart("Hm.", encrypted="x", vendor="openai", id="rs_1"),
          ReasoningPart(encrypted="y", vendor="openai", id="rs_2")]),
        ({"reasoning_details": [  # a stream's pieces, given back one by one
            {"type": "reasoning.text", "text": "H", "format": "google-gemini-v1", "index": 0},
            {"type": "reasoning.text", "text": "m.", "format": "google-gemini-v1", "index": 0},
            {"type": "reasoning.text", "signature": "s", "format": "google-gemini-v1", "index": 0}]},
         [ReasoningPart("Hm.", "s", vendor="gemini")]),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "a", "format": "unknown"},
                                {"type": "reasoning.text", "text": "b", "format": "acme"}, 5]},
         [ReasoningPart("a"), ReasoningPart("b", vendor="acme")]),
    ],
)  # fmt: skip
def test_what_was_thought_comes_back_with_its_proof_and_before_the_text(
    message: dict[str, Any], thought: list[Part]
) -> None:
    assert parts_of(content="So.", **message) == (*thought, TextPart("So."))


def test_thoughts_among_the_parts_of_a_message() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]},
        {"type": "thinking", "thinking": "Well.", "signature": "s"},
        {"type": "text", "text": "So."},
    ]
    assert parts_of(content=parts) == (
        ReasoningPart("Hm."),
        ReasoningPart("Well.", "s", vendor="anthropic"),
        TextPart("So."),
    )


def test_a_refusal_in_a_history_is_what_was_said() -> None:
    assert parts_of(content=None, refusal="No.") == (TextPart("No."),)


def test_a_call_keeps_geminis_proof_and_an_old_call_has_its_name_for_an_id() -> None:
    signed = {
        "id": "a",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "t"}},
    }
    assert parts_of(tool_calls=[signed]) == (ToolCallPart("a", "f", "{}", "t"),)
    old = {"name": "f", "arguments": '{"a":1}'}
    assert parts_of(content=None, function_call=old) == (ToolCallPart("f", "f", '{"a":1}'),)


def test_a_tool_result_may_show_pictures_and_files() -> None:
    shown = [
        {"type": "text", "text": "See: "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "text", "text": "there.", "cache_control": {"type": "ephemeral"}},
    ]
    said = conversation(messages=[{"role": "tool", "tool_call_id": "a", "name": "look", "content": shown}])
    picture = ImagePart(media_type="image/png", data="AAAA")
    paper = DocumentPart(media_type="application/pdf", data="BBBB", name="a.pdf")
    assert said.messages[0].parts == (
        ToolResultPart("a", "See: there.", media=(picture, paper), name="look", cache="5m"),
    )


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ({"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
         DocumentPart(media_type="application/pdf", data="AAAA", name="a.pdf")),
        ({"file_data": "AAAA"}, DocumentPart(media_type="application/pdf", data="AAAA")),
        ({"file_data": "https://example.com/a.pdf"}, DocumentPart(url="https://example.com/a.pdf")),
        ({"file_data": "data:text/plain;charset=utf-8;base64,AAAA"},
         DocumentPart(media_type="text/plain", data="AAAA")),
    ],
)  # fmt: skip
def test_files_inline_and_by_address(file: dict[str, Any], part: DocumentPart) -> None:
    said = conversation(messages=[{"role": "user", "content": [{"type": "file", "file": file}]}])
    assert said.messages[0].parts == (part,)


def test_marks_of_what_to_cache_on_parts_and_tools() -> None:
    hour, short = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}, "cache_control": short}
    parts = [{"type": "text", "text": "Long.", "cache_control": hour}, picture]
    said = conversation(messages=[{"role": "user", "content": parts}], tools=[{**TOOL, "cache_control": hour}])
    assert [part.cache for part in said.messages[0].parts if not isinstance(part, ReasoningPart | ToolCallPart)] == [
        "1h",
        "5m",
    ]
    assert said.tools[0].cache == "1h"


def test_strict_tools_stay_strict() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    assert [tool.strict for tool in conversation(tools=[strict, TOOL]).tools] == [True, None]


def test_allowed_tools_are_the_only_ones_left() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "other"}}]}
    said = conversation(tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool.name for tool in said.tools] == ["other"]
    assert said.tool_choice == ToolChoice("required")


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"functions": [{"name": "old"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "custom tools"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}]}, "file_id"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "sql"}}}, "custom tools"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {}}]}]},
         "custom tools"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)  # fmt: skip
def test_what_only_openai_can_do_is_left_to_another_target(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        conversation(**fields)
    assert refused.value.feature == feature


@pytest.mark.parametrize("fields", [{"logprobs": False}, {"logprobs": None}, {"functions": []}, {"n": 1}, {"n": None},
                                    {"modalities": ["text"]}])  # fmt: skip
def test_a_feature_that_is_switched_off_is_not_missed(fields: dict[str, Any]) -> None:
    assert conversation(**fields).messages


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[1].tool_calls"),
        ({"messages": [{"role": "assistant",
                        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}]},
         "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:nothing"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
         "messages[0].content[0].file.file_data"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:nothing"}}]}]},
         "messages[0].content[0].file.file_data"),
        ({"messages": [{"role": "assistant", "content": [{"type": "thinking"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "tool", "content": [{"type": "thinking", "thinking": "x"}]}]}, "messages[0].content"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
        ({"reasoning": {"max_tokens": "many"}}, "reasoning.max_tokens"),
        ({"seed": "x"}, "seed"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop[0]"),
        ({"top_p": "high"}, "top_p"),
        ({"user": 5}, "user"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        conversation(**fields)
    assert refused.value.param == param
