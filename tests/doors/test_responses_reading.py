"""A Responses body as a conversation, for vendors of other wires."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import Capability, Wire
from providers.wires.protocol import UnsupportedFeature
from providers.wires.sealed_thought import PREFIX, SealedThought, seal, unseal
from routerplatform.doors.formats import openai_responses
from routerplatform.doors.formats.sealed_reasoning import for_openai
from routerplatform.gateway.errors import InvalidRequest

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": []}]}


def body(**fields: Any) -> bytes:
    return json.dumps({"input": "Hello", **fields}).encode()


def read(**fields: Any) -> Conversation:
    return openai_responses.parse(body(**fields)).conversation()


def items(*found: Any) -> list[tuple[str, list[Any]]]:
    return [(message.role.value, list(message.parts)) for message in read(input=list(found)).messages]


def user(text: str = "Q") -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(name: str = "weather", call_id: str = "c1") -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": name, "arguments": '{"city":"Oslo"}'}


def result(output: Any = "rain", call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output, **more}


def thought(text: str = "", content: str | None = None) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": content}


def called(call_id: str = "c1", signature: str = "") -> ToolCallPart:
    return ToolCallPart(call_id, "weather", '{"city":"Oslo"}', signature)


# --- the request --------------------------------------------------------------------------------------------------


def test_a_text_is_what_the_user_says() -> None:
    request = openai_responses.parse(body(model="swift", persona="chatbot", stream=True, temperature=0.5))
    assert (request.model, request.persona, request.stream, request.temperature) == ("swift", "chatbot", True, 0.5)
    assert (request.wire, set(request.needs)) == (Wire.OPENAI_RESPONSES, {Capability.STREAMING})
    assert request.conversation().messages == (Message(Role.USER, (TextPart("Hello"),)),)


def test_the_callers_bytes_stay_as_they_were() -> None:
    raw = b'{"input" : [ {"role":"user","content":"\\u00e9"} ],"x":{"b": 1.0}}'
    request = openai_responses.parse(raw)
    assert request.fields == {"input": Raw(b'[ {"role":"user","content":"\\u00e9"} ]'), "x": Raw(b'{"b": 1.0}')}
    assert request.input_tokens_bound == len(raw)


def test_instructions_come_first() -> None:
    conversation = read(instructions="Be brief.", input=[user(), {"role": "developer", "content": "Now in French."}])
    assert [message.role for message in conversation.messages] == [Role.SYSTEM, Role.USER, Role.SYSTEM]


def test_knobs_find_their_place() -> None:
    found = read(
        max_output_tokens=50, top_p=0.9, safety_identifier="u-1", user="old", parallel_tool_calls=False,
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "p", "schema": SCHEMA, "strict": True}},
        reasoning={"effort": "high", "summary": "auto"},
    )  # fmt: skip
    assert (found.max_tokens, found.top_p, found.user, found.parallel_tool_calls) == (50, 0.9, "u-1", False)
    assert (found.verbosity, found.reasoning) == ("low", Reasoning("high"))
    assert found.response_format == ResponseFormat("json_schema", "p", Raw(json.dumps(SCHEMA).encode()), strict=True)
    assert found.dropped == ()


def test_a_thought_is_shown_only_to_who_asks_for_a_summary() -> None:
    assert read(reasoning={"effort": "low"}).reasoning == Reasoning("low", show=False)
    assert read(reasoning={"generate_summary": "concise"}).reasoning == Reasoning(show=True)
    assert read(reasoning=None).reasoning is None


def test_what_nobody_else_knows_is_dropped_by_name_and_defaults_are_not() -> None:
    defaults = {
        "truncation": "disabled",
        "service_tier": "auto",
        "top_logprobs": 0,
        "prompt": None,
        "max_tool_calls": None,
    }
    assert read(**defaults, store=True, metadata={"a": "b"}, include=["reasoning.encrypted_content"]).dropped == ()
    found = read(service_tier="flex", x_new="y", truncation="auto", include=["web_search_call.results"])
    assert found.dropped == ("service_tier", "x_new", "truncation", "include.web_search_call.results")


def test_only_so_many_names_are_told() -> None:
    assert len(read(**{f"x_{number}": 1 for number in range(100)}).dropped) == 20


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [WEATHER]}, {Capability.TOOL_CALLING}),
        ({"tools": [{"type": "web_search"}]}, set()),
        ({"text": {"format": {"type": "json_object"}}}, {Capability.JSON_MODE}),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}}, {Capability.JSON_SCHEMA}),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}]},
         {Capability.VISION}),
        ({"input": [call(), result([{"type": "input_image", "image_url": "https://x"}])]}, {Capability.VISION}),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
         {Capability.DOCUMENTS}),
        ({"input": "what is an input_image?"}, set()),
        ({"input": [user("what is an input_file?")]}, set()),
    ],
)  # fmt: skip
def test_what_a_request_needs(fields: dict[str, Any], needs: set[Capability]) -> None:
    assert openai_responses.parse(body(**fields)).needs == needs


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"input": NaN}', b"\xff", b'{"input": "\\ud83d"}', b"{}"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        openai_responses.parse(raw)


def test_a_body_nested_too_deeply_is_refused() -> None:
    deep = b'{"input": [{"role": "user", "content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(InvalidRequest):
        openai_responses.parse(deep).conversation()


# --- what was said before -----------------------------------------------------------------------------------------


def test_what_was_said_before_comes_first_and_nobody_needs_to_know_its_id() -> None:
    raw = body(previous_response_id="resp_1")
    spoken = openai_responses.spoken(raw, json.dumps([user("Before"), ANSWER]).encode())
    assert spoken.previous == "resp_1"
    assert "previous_response_id" not in spoken.request.fields
    messages = spoken.request.conversation().messages
    assert [message.parts[0] for message in messages] == [TextPart("Before"), TextPart("A"), TextPart("Hello")]
    assert json.loads(bytes(spoken.request.fields["input"])) == [user("Before"), ANSWER, user("Hello")]
    assert spoken.request.input_tokens_bound > len(raw)


def test_without_them_only_the_one_who_keeps_them_can_answer() -> None:
    with pytest.raises(UnsupportedFeature, match="previous_response_id"):
        read(previous_response_id="resp_1")


def test_items_that_are_only_named_are_spelled_out() -> None:
    reference = {"type": "item_reference", "id": "msg_1"}
    odd = [{"type": 7, "id": 5, "role": "user", "content": "odd"}, {"type": "item_reference", "id": 5}]
    raw = body(input=[reference, *odd])
    assert openai_responses.named_items(openai_responses.spoken(raw).input) == ["msg_1"]
    kept = json.dumps([{**ANSWER, "id": "msg_1"}, *odd]).encode()
    known = openai_responses.by_id(kept)
    assert list(known) == ["msg_1"]
    found = json.loads(bytes(openai_responses.spoken(raw, known=known).input))
    assert found == [{**ANSWER, "id": "msg_1"}, *odd]


@pytest.mark.parametrize(
    ("item", "response"),
    [
        ("msg_01a1fe72-a851-7593-b1be-bb74d56c7a0a_0", "resp_01a1fe72-a851-7593-b1be-bb74d56c7a0a"),
        ("fc_01a1fe72-a851-7593-b1be-bb74d56c7a0a_12", "resp_01a1fe72-a851-7593-b1be-bb74d56c7a0a"),
        ("msg_68a1b2c3d4e5f60718293a4b5c6d7e8f", ""),
    ],
)
def test_an_items_id_tells_its_response(item: str, response: str) -> None:
    assert openai_responses.response_with(item) == response


def test_nothing_new_may_be_said() -> None:
    spoken = openai_responses.spoken(b'{"previous_response_id": "resp_1"}', json.dumps([user("Before")]).encode())
    assert len(spoken.request.conversation().messages) == 1


# --- items --------------------------------------------------------------------------------------------------------


def test_what_is_said_thought_and_called_in_one_go_is_one_message() -> None:
    assert items(user(), thought("Hm"), ANSWER, call(), call(call_id="c2"), result(), result("sun", "c2"), user()) == [
        ("user", [TextPart("Q")]),
        ("assistant", [ReasoningPart("Hm"), TextPart("A"), called(), called("c2")]),
        ("user", [ToolResultPart("c1", "rain", name="weather"), ToolResultPart("c2", "sun", name="weather")]),
        ("user", [TextPart("Q")]),
    ]


def test_two_answers_in_a_row_stay_two() -> None:
    assert [role for role, _ in items(user(), ANSWER, ANSWER, user())] == ["user", "assistant", "assistant", "user"]
    assert items(ANSWER, thought("Hm"), ANSWER)[1] == ("assistant", [ReasoningPart("Hm"), TextPart("A")])


def test_a_call_after_its_result_begins_anew() -> None:
    found = items(call(), result(), call(call_id="c2"), result("sun", "c2"))
    assert [role for role, _ in found] == ["assistant", "user", "assistant", "user"]


def test_a_call_that_stands_between_thoughts_stays_with_the_others() -> None:
    [(role, parts)] = items(ANSWER, call(), thought("Hm"), call(call_id="c2"))
    assert role == "assistant"
    assert [type(part) for part in parts] == [TextPart, ToolCallPart, ReasoningPart, ToolCallPart]


def test_a_result_may_hold_images_and_documents() -> None:
    output = [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
    ]
    [(_, [part])] = items(result(output, name="camera"))
    media = (
        ImagePart(media_type="image/png", data="AAAA"),
        DocumentPart(media_type="application/pdf", data="BBBB", name="a.pdf"),
    )
    assert part == ToolResultPart("c1", "Look:", media=media, name="camera")


@pytest.mark.parametrize(
    ("part", "read_as"),
    [
        ({"type": "input_image", "image_url": "https://x/a.png"}, ImagePart("https://x/a.png")),
        ({"type": "input_file", "file_url": "https://x/a", "filename": "a"}, DocumentPart("https://x/a", name="a")),
        ({"type": "input_file", "file_data": "QUJD", "filename": "a.csv"},
         DocumentPart(media_type="text/csv", data="QUJD", name="a.csv")),
        ({"type": "input_file", "file_data": "QUJD"}, DocumentPart(media_type="application/pdf", data="QUJD")),
        ({"type": "refusal", "refusal": "No."}, TextPart("No.")),
        ({"type": "input_file", "file_data": "data:text/plain;charset=utf-8;base64,QUJD"},
         DocumentPart(media_type="text/plain", data="QUJD")),
    ],
)  # fmt: skip
def test_parts_of_all_kinds_are_read(part: dict[str, Any], read_as: Any) -> None:
    assert items({"role": "user", "content": [part]}) == [("user", [read_as])]


def test_a_custom_tools_text_becomes_its_one_argument() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a "b"'}
    answer = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    assert items(custom, answer) == [
        ("assistant", [ToolCallPart("c1", "patch", '{"input":"a \\"b\\""}')]),
        ("user", [ToolResultPart("c1", "done", name="patch")]),
    ]


def test_what_only_its_vendor_understands_is_passed_over_by_name() -> None:
    found = read(input=[user(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, ANSWER])
    assert [message.role for message in found.messages] == [Role.USER, Role.ASSISTANT]
    assert found.dropped == ("input.web_search_call",)


@pytest.mark.parametrize(
    "item",
    [
        {"id": "msg_1"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
    ],
)
def test_what_cannot_be_left_out_rules_other_vendors_out(item: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFeature):
        items(item)


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call", "call_id": "c1", "name": "x"}, "input[0]"),
        ({"type": "function_call", "name": "x", "arguments": "{}"}, "input[0]"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c1", "output": 7}, "input[0].output"),
        ({"role": "user", "content": {"type": "input_text"}}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0]"),
        ({"type": 7}, "input[0]"),
    ],
)
def test_an_item_that_cannot_be_read_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        items(item)
    assert error.value.param == param


# --- tools --------------------------------------------------------------------------------------------------------


def test_functions_are_read_and_everything_else_is_left_out_by_name() -> None:
    found = read(tools=[WEATHER, {"type": "web_search"}, {"type": "custom", "name": "p"}, {"type": "mcp"}])
    [tool] = found.tools
    assert (tool.name, tool.strict, json.loads(bytes(tool.parameters))) == ("weather", True, SCHEMA)
    assert found.dropped == ("tools.web_search", "tools.custom", "tools.mcp")


def test_a_function_without_parameters_takes_none() -> None:
    [tool] = read(tools=[{"type": "function", "name": "now", "parameters": None, "strict": None}]).tools
    assert (json.loads(bytes(tool.parameters)), tool.strict) == ({"type": "object", "properties": {}}, None)


@pytest.mark.parametrize(
    ("choice", "read_as"),
    [
        (None, None),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "weather"}, ToolChoice("named", "weather")),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
         ToolChoice("required")),
    ],
)  # fmt: skip
def test_a_choice_is_read(choice: Any, read_as: ToolChoice | None) -> None:
    found = read(tools=[WEATHER, {**WEATHER, "name": "clock"}], tool_choice=choice)
    assert found.tool_choice == read_as
    allowed = isinstance(choice, dict) and choice["type"] == "allowed_tools"
    assert [tool.name for tool in found.tools] == (["weather"] if allowed else ["weather", "clock"])


@pytest.mark.parametrize(
    ("tools", "choice", "left"),
    [
        ([{"type": "web_search"}], "required", True),
        ([{"type": "web_search"}], "auto", False),
        ([WEATHER, {"type": "web_search"}], {"type": "web_search"}, True),
        ([WEATHER, {"type": "custom", "name": "p"}], {"type": "custom", "name": "p"}, True),
        ([{"type": "custom", "name": "p"}], {"type": "function", "name": "p"}, True),
        ([WEATHER], {"type": "function", "name": "weather"}, False),
    ],
)
def test_a_choice_of_what_was_left_out_is_left_out_too(tools: Any, choice: Any, left: bool) -> None:
    found = read(tools=tools, tool_choice=choice)
    assert ("tool_choice" in found.dropped) is left
    if left:
        assert found.tool_choice is None


@pytest.mark.parametrize("choice", ["any", {"type": "function"}, {"name": "weather"}, {"type": "allowed_tools"}])
def test_a_choice_that_is_none_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest, match="tool_choice"):
        read(tools=[WEATHER], tool_choice=choice)


# --- thoughts -----------------------------------------------------------------------------------------------------


def test_a_thought_comes_back_with_its_proof() -> None:
    content = seal(SealedThought("anthropic", "sig"))
    assert items(thought("Hm", content), call()) == [
        ("assistant", [ReasoningPart("Hm", "sig", vendor="anthropic"), called()])
    ]
    hidden = seal(SealedThought("anthropic", encrypted="xyz", id="r1"))
    assert items(thought("", hidden)) == [
        ("assistant", [ReasoningPart(encrypted="xyz", vendor="anthropic", id="r1")])
    ]  # fmt: skip


def test_a_call_comes_back_with_its_signature() -> None:
    content = seal(SealedThought("gemini", "sig", call="c1"))
    assert items(thought("", content), call(), call(call_id="c2")) == [
        ("assistant", [called(signature="sig"), called("c2")])
    ]  # fmt: skip
    assert items(thought("Hm", content), call()) == [
        ("assistant", [ReasoningPart("Hm", vendor="gemini"), called(signature="sig")])
    ]


@pytest.mark.parametrize("content", ["gAAAAABopaque", PREFIX, PREFIX + "%%%", PREFIX + "e30x", PREFIX + "bnVsbA=="])
def test_a_thought_that_nobody_can_read_is_passed_over(content: str) -> None:
    assert items(user(), thought("Hm", content)) == [("user", [TextPart("Q")])]


def test_a_thought_in_the_clear_is_one_too() -> None:
    spoken = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
    assert items(spoken) == [("assistant", [ReasoningPart("Hm")])]
    assert items(user(), thought()) == [("user", [TextPart("Q")])]


@given(st.builds(SealedThought, st.text(), st.text(), st.text(), st.text(), st.text()))
def test_any_proof_comes_back_as_it_was(proof: SealedThought) -> None:
    assert unseal(seal(proof)) == proof


def test_openai_gets_its_own_thoughts_back_and_no_others() -> None:
    own = thought("Hm", seal(SealedThought("openai", encrypted="gAAAA", id="rs_9")))
    theirs = thought("Hm", seal(SealedThought("anthropic", "sig")))
    talk = user(f"What is {PREFIX}?")
    found = json.loads(bytes(for_openai(Raw(json.dumps([user(), own, theirs, talk]).encode()))))
    summary = [{"type": "summary_text", "text": "Hm"}]
    assert found == [
        user(), {"type": "reasoning", "id": "rs_9", "summary": summary, "encrypted_content": "gAAAA"}, talk,
    ]  # fmt: skip


def test_what_has_no_foreign_thoughts_keeps_its_bytes() -> None:
    raw = Raw(b'[ {"role": "user"} ]')
    assert for_openai(raw) is raw
    odd = Raw(f'"{PREFIX}"'.encode())
    assert for_openai(odd) is odd
