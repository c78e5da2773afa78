"""What an OpenAI client says and hears: reading requests, and writing answers for targets of another wire. Pure."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.usage import UsageEntry
from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.conversation import (
    Conversation,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import Capability, Wire
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats.native import Delta, Done, NativeWriter, answer
from routerplatform.doors.formats.native import Tool as ToolFrame
from routerplatform.doors.formats.openai_chat import StreamWriter, answer_body, error_body, parse
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError, InvalidRequest, ModelNotFound
from routerplatform.gateway.steps import Opened
from routing.domain.decision import RoutePlan, decide
from tests.analytics.ledger.samples import settled
from tests.routing.domain.build import alias, caller, deployment, request, snapshot

USER = {"role": "user", "content": "Hello"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}},
}


HEADING = Heading("r1", "sage", 9)


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER], **fields}).encode()


def conversation(**fields: Any) -> Conversation:
    return parse(body(**fields)).conversation()


# --- reading what decides something -------------------------------------------------------------------------------


def test_a_plain_request_means_auto_and_needs_nothing() -> None:
    read = parse(body())
    assert (read.model, read.persona, read.stream, read.max_tokens, read.needs) == (
        "auto",
        "",
        False,
        None,
        frozenset(),
    )
    assert read.input_tokens_bound == len(body())
    assert 1 <= read.input_tokens_estimate <= read.input_tokens_bound


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"stream": True}, {Capability.STREAMING}),
        ({"stream": None}, set()),
        ({"tools": [TOOL]}, {Capability.TOOL_CALLING}),
        ({"tools": []}, set()),
        ({"tools": None}, set()),
        ({"response_format": {"type": "json_object"}}, {Capability.JSON_MODE}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, {Capability.JSON_SCHEMA}),
        ({"response_format": {"type": "text"}}, set()),
        ({"messages": [USER, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         {Capability.VISION}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, set()),
        ({"stream": True, "tools": [TOOL]}, {Capability.STREAMING, Capability.TOOL_CALLING}),
    ],
)  # fmt: skip
def test_what_a_model_must_be_able_to_do(fields: dict[str, Any], needs: set[Capability]) -> None:
    assert parse(body(**fields)).needs == needs


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, None),
        ({"max_tokens": 2**31 - 1}, 2**31 - 1),
    ],
)
def test_the_newer_name_of_the_limit_wins(fields: dict[str, Any], limit: int | None) -> None:
    assert parse(body(**fields)).max_tokens == limit


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), (None, False)],
)
def test_usage_is_told_in_a_stream_only_when_asked_for(options: dict[str, Any] | None, asked: bool) -> None:
    assert parse(body(stream=True, stream_options=options)).include_usage is asked


def test_every_field_is_kept_byte_for_byte() -> None:
    raw = b'{"messages":[{"role":"user","content":"x"}], "seed" : 1.50, "new":{"b":[1,  2]}}'
    fields = parse(raw).fields
    assert bytes(fields["seed"]) == b"1.50"
    assert bytes(fields["new"]) == b'{"b":[1,  2]}'


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"nonsense", None),
        (b'"text"', None),
        (b"\xef\xbb\xbf{}", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b'{"messages": [{"role": "user", "content": 1e999}]}', "messages[0].content"),
        (body(messages=None), "messages"),
        (body(messages={}), "messages"),
        (body(messages=[{"content": "x"}]), "messages[0].role"),
        (body(messages=[USER, 5]), "messages[1]"),
        (body(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
        (body(model=5), "model"),
        (body(model=None), "model"),
        (body(persona=[]), "persona"),
        (body(stream=1), "stream"),
        (body(stream_options=True), "stream_options"),
        (body(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
        (body(max_tokens="many"), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=2**31), "max_tokens"),
        (body(max_tokens=10**30), "max_tokens"),
        (body(max_completion_tokens=0), "max_completion_tokens"),
        (body(max_tokens=5, max_completion_tokens=0), "max_completion_tokens"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=-0.1), "temperature"),
        (body(temperature=2.1), "temperature"),
        (body(tools="all"), "tools"),
        (body(tools={}), "tools"),
        (body(response_format="json"), "response_format"),
        (body(response_format={}), "response_format.type"),
        (body(reasoning_effort=3), "reasoning_effort"),
        (body(n="two"), "n"),
        (body(n=0), "n"),
        (body(n=129), "n"),
    ],
)
def test_what_cannot_be_understood_names_its_field(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(raw)
    assert refused.value.param == param
    assert refused.value.message


# --- reading all of it, for another wire --------------------------------------------------------------------------


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
        Message(Role.USER, (ToolResultPart("old", "so"),)),
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
         ResponseFormat("json_schema", "city", msgspec.Raw(b'{"type": "object"}'))),
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


def test_knobs_of_style_are_dropped_by_name() -> None:
    assert conversation(seed=1, logit_bias={}, stop="x").dropped == ("logit_bias", "seed")


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
        ({"messages": [{"role": "tool", "tool_call_id": "a",
                        "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "an image in a tool result"),
    ],
)  # fmt: skip
def test_what_only_openai_can_do_is_left_to_another_target(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        conversation(**fields)
    assert refused.value.feature == feature


@pytest.mark.parametrize("fields", [{"logprobs": False}, {"logprobs": None}, {"functions": []}, {"n": 1}, {"n": None}])
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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
NAMES = ["model", "persona", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
         "tools", "tool_choice", "response_format", "stop", "n", "user", "functions"]  # fmt: skip
part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal", "file"])},
    optional={"text": json_values, "image_url": json_values, "refusal": json_values},
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": st.none() | st.text(max_size=8) | st.lists(part, max_size=2) | json_values,
        "tool_calls": st.lists(st.fixed_dictionaries({"id": json_values, "function": json_values}), max_size=2)
        | json_values,
        "tool_call_id": json_values,
        "name": json_values,
    },
)
requests = st.builds(
    lambda fields, messages: {**fields, "messages": messages},
    st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3),
    st.lists(message, min_size=1, max_size=3),
)


def _read_all(raw: bytes) -> None:
    with suppress(InvalidRequest, UnsupportedFeature):
        parse(raw).conversation()


@given(requests)
def test_no_json_body_does_more_harm_than_a_refusal(sent: dict[str, Any]) -> None:
    _read_all(json.dumps(sent).encode())


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_do_more_harm_than_a_refusal(raw: bytes) -> None:
    _read_all(raw)


@pytest.mark.parametrize("depth", [100, 500, 900, 950, 960, 970, 980, 990, 1_000, 2_000])
def test_no_depth_does_more_harm_than_a_refusal(depth: int) -> None:
    nest = "[" * depth + "]" * depth
    _read_all(f'{{"messages": [{{"role": "user", "content": "x", "deep": {nest}}}]}}'.encode())


# --- writing ------------------------------------------------------------------------------------------------------

USAGE = Usage(
    input_tokens=10, cache_read_input_tokens=5, cache_creation_input_tokens=1, output_tokens=7, reasoning_tokens=2
)
EVERYTHING: list[StreamEvent] = [
    Started("msg_1"),
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCallStart(0, "a", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallDelta(0, '"Paris"}'),
    ToolCallStart(1, "b", "time"),
    Finished(FinishReason.TOOL_CALLS),
    UsageReported(USAGE),
]
USAGE_OUT = {
    "prompt_tokens": 16,
    "completion_tokens": 7,
    "total_tokens": 23,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def framed(events: Iterable[StreamEvent]) -> list[Frame]:
    return [Frame(b"", (event,)) for event in events]


def whole(events: Iterable[StreamEvent]) -> dict[str, Any]:
    answered: dict[str, Any] = json.loads(answer_body(parse(body()), framed(events), HEADING))
    return answered


def streamed(events: Iterable[StreamEvent], *, include_usage: bool = False) -> list[dict[str, Any]]:
    writer = StreamWriter(HEADING, include_usage=include_usage)
    sent = b"".join(writer.write([frame]) for frame in framed(events)) + writer.end()
    *lines, done, rest = sent.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_whole_answer_in_openais_shape() -> None:
    assert whole(EVERYTHING) == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": 9,
        "model": "sage",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "reasoning_content": "Let me think.",
                    "tool_calls": [
                        {"id": "a", "type": "function",
                         "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
                        {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": USAGE_OUT,
    }  # fmt: skip


def test_an_answer_of_tool_calls_only_has_no_content() -> None:
    message = whole([ToolCallStart(0, "a", "f"), Finished(FinishReason.TOOL_CALLS)])["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message


def test_an_empty_answer_is_an_empty_text() -> None:
    message = whole([Started("x"), Finished(FinishReason.LENGTH)])["choices"][0]
    assert (message["message"], message["finish_reason"]) == ({"role": "assistant", "content": ""}, "length")


def test_a_stream_in_openais_shape() -> None:
    chunks = streamed(EVERYTHING, include_usage=True)
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in chunks} == {
        ("chatcmpl-r1", "chat.completion.chunk", 9, "sage")
    }
    *content, last = chunks
    assert [c["choices"][0]["delta"].get("role") for c in content] == ["assistant"] + [None] * (len(content) - 1)
    assert (last["choices"], last["usage"]) == ([], USAGE_OUT)
    assert all(c["usage"] is None for c in content)
    assert [c["choices"][0]["finish_reason"] for c in content] == [None] * (len(content) - 1) + ["tool_calls"]


def test_a_stream_says_nothing_of_usage_unasked() -> None:
    assert all("usage" not in chunk for chunk in streamed(EVERYTHING))


def test_a_stream_names_a_tool_call_once_and_never_leaves_its_arguments_out() -> None:
    deltas = [c["choices"][0]["delta"] for c in streamed(EVERYTHING)]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(c["index"], c.get("id"), c["function"]) for c in calls] == [
        (0, "a", {"name": "weather"}),
        (0, None, {"arguments": '{"city":'}),
        (0, None, {"arguments": '"Paris"}'}),
        (1, "b", {"name": "time"}),
        (1, None, {"arguments": "{}"}),
    ]


pieces = st.text(min_size=1, max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """What a wire may report: text, reasoning and tool calls in any mixture, then the end and the count."""
    calls = 0
    events: list[StreamEvent] = [Started("x")]
    for kind in draw(st.lists(st.sampled_from(["text", "reasoning", "call", "arguments", "usage"]), max_size=12)):
        match kind:
            case "text":
                events.append(TextDelta(draw(pieces)))
            case "reasoning":
                events.append(ReasoningDelta(draw(pieces)))
            case "call":
                events.append(ToolCallStart(calls, f"call-{calls}", draw(pieces)))
                calls += 1
            case "arguments" if calls:
                events.append(ToolCallDelta(draw(st.integers(0, calls - 1)), draw(pieces)))
            case "usage":
                events.append(UsageReported(Usage(output_tokens=draw(st.integers(0, 9)))))
    return [*events, Finished(draw(st.sampled_from(FinishReason))), UsageReported(USAGE)]


def _put_together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What OpenAI's own clients make of a stream: the message of the whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, Any]] = {}
    for choice in (chunk["choices"][0] for chunk in chunks if chunk["choices"]):
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        if "reasoning_content" in delta:
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        for piece in delta.get("tool_calls", []):
            call = calls.setdefault(
                piece["index"], {"id": piece.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
            )
            for name in ("name", "arguments"):
                call["function"][name] += piece["function"].get(name, "")
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
        message["content"] = message["content"] or None
    return message


@given(answers())
def test_a_stream_adds_up_to_the_whole_answer(events: list[StreamEvent]) -> None:
    said, chunks = whole(events), streamed(events, include_usage=True)
    assert _put_together(chunks) == said["choices"][0]["message"]
    assert chunks[-2]["choices"][0]["finish_reason"] == said["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == said["usage"]


@given(answers(), st.integers(1, 5))
def test_how_an_answer_is_cut_into_groups_changes_nothing(events: list[StreamEvent], size: int) -> None:
    groups = [framed(events)[i : i + size] for i in range(0, len(events), size)]
    writer = StreamWriter(HEADING, include_usage=False)
    one_by_one = StreamWriter(HEADING, include_usage=False)
    together = b"".join(writer.write(group) for group in groups) + writer.end()
    assert together == b"".join(one_by_one.write([frame]) for frame in framed(events)) + one_by_one.end()


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("No.", param="messages[0]"), ModelNotFound("Gone."), GatewayError("Oh."), InvalidRequest('"\n€')],
)
def test_an_error_has_openais_shape_and_the_id_to_quote(error: GatewayError) -> None:
    assert json.loads(error_body(error, "r1")) == {
        "error": {"message": error.message, "type": error.kind, "code": error.code, "param": error.param},
        "request_id": "r1",
    }


# --- the platform's own shape -------------------------------------------------------------------------------------


def entry(**options: Any) -> UsageEntry:
    counts = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1, "output_tokens": 7}
    return settled(**{"request_id": "r1", "cost_nano": 1_500, **counts, **options})


def opened() -> Opened:
    sage = deployment(1, "sage")
    plan: RoutePlan = decide(snapshot(alias("wise", sage)), caller(), request("wise"))
    return Opened(sage, Wire.ANTHROPIC, plan, 2, 7)


def test_an_answer_in_the_platforms_own_shape() -> None:
    answered = answer(opened(), framed(EVERYTHING), entry())
    assert (answered["id"], answered["content"], answered["reasoning"]) == ("r1", "Hello", "Let me think.")
    assert answered["finish_reason"] == "tool_calls"
    assert answered["tool_calls"] == [
        {"id": "a", "name": "weather", "arguments": '{"city":"Paris"}'},
        {"id": "b", "name": "time", "arguments": "{}"},
    ]
    assert answered["usage"] == {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 5}
    assert (answered["cost_usd"], answered["deployment"]) == (1.5e-6, "alpha/sage")


def test_an_unknown_cost_is_null_and_never_zero() -> None:
    assert answer(opened(), framed(EVERYTHING), entry(cost_nano=None))["cost_usd"] is None
    assert answer(opened(), framed(EVERYTHING), entry(cost_nano=0))["cost_usd"] == 0.0


@given(answers(), st.integers(1, 5))
def test_frames_add_up_to_the_same_answer_however_they_are_grouped(events: list[StreamEvent], size: int) -> None:
    writer = NativeWriter("r1")
    frames = framed(events)
    out = [f for i in range(0, len(frames), size) for f in writer.frames(frames[i : i + size])] + [*writer.end(entry())]
    one = answer(opened(), frames, entry())
    assert (
        "".join(f.text for f in out if isinstance(f, Delta))
        == one["content"]
        == (whole(events)["choices"][0]["message"]["content"] or "")
    )
    assert "".join(f.reasoning for f in out if isinstance(f, Delta)) == one["reasoning"]
    assert [f.name for f in out if isinstance(f, ToolFrame)] == [call["name"] for call in one["tool_calls"]]
    assert [f.finish_reason for f in out if isinstance(f, Done)] == [one["finish_reason"]]
