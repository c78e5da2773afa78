"""What an OpenAI client hears from a target of another wire. Pure."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    ReasoningProof,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.conversation import ReasoningPart, TextPart, ToolCallPart
from routerplatform.doors.formats.openai_chat import answer_body, error_body, parse
from routerplatform.doors.formats.openai_writing import StreamWriter
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError, InvalidRequest, ModelNotFound
from tests.gateway_path.openai_bodies import USER, body

HEADING = Heading("r1", "sage", 9)

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
    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 1},
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


KINDS = ["text", "reasoning", "proof", "refusal", "call", "arguments", "usage"]
pieces = st.text(min_size=1, max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """What a wire may report: text, reasoning and tool calls in any mixture, then the end and the count."""
    calls = 0
    events: list[StreamEvent] = [Started("x")]
    for kind in draw(
        st.lists(st.sampled_from(["text", "reasoning", "proof", "refusal", "call", "arguments", "usage"]), max_size=12)
    ):
        match kind:
            case "text":
                events.append(TextDelta(draw(pieces)))
            case "reasoning":
                events.append(ReasoningDelta(draw(pieces)))
            case "proof":
                events.append(ReasoningProof(draw(st.sampled_from(["", "s"])), "e", "openai", "rs"))
            case "refusal":
                events.append(RefusalDelta(draw(pieces)))
            case "call":
                signature = draw(st.sampled_from(["", "t"]))
                events.append(ToolCallStart(calls, f"call-{calls}", draw(pieces), signature))
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
        if "refusal" in delta:
            message["refusal"] = message.get("refusal", "") + delta["refusal"]
        if "reasoning_details" in delta:
            message["reasoning_details"] = message.get("reasoning_details", []) + delta["reasoning_details"]
        for piece in delta.get("tool_calls", []):
            call = calls.setdefault(
                piece["index"], {"id": piece.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
            )
            if "extra_content" in piece:
                call["extra_content"] = piece["extra_content"]
            for name in ("name", "arguments"):
                call["function"][name] += piece["function"].get(name, "")
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    if calls or "refusal" in message:
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


def test_a_refusal_is_told_as_one() -> None:
    said = [RefusalDelta("I can"), RefusalDelta("not."), Finished(FinishReason.CONTENT_FILTER)]
    choice = whole(said)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert choice["finish_reason"] == "content_filter"
    assert [chunk["choices"][0]["delta"].get("refusal") for chunk in streamed(said)] == ["I can", "not.", None]


THOUGHT: list[StreamEvent] = [
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    ReasoningProof("sig", "", "anthropic"),
    ReasoningProof("", "hidden", "anthropic"),
    TextDelta("So."),
    ToolCallStart(0, "a", "weather", "gem"),
    ToolCallDelta(0, "{}"),
    Finished(FinishReason.TOOL_CALLS),
]


def test_proofs_of_thought_stand_beside_what_was_thought() -> None:
    message = whole(THOUGHT)["choices"][0]["message"]
    assert message["reasoning_content"] == "Let me think."
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "text": "Let me think.",
         "signature": "sig"},
        {"type": "reasoning.encrypted", "index": 1, "format": "anthropic-claude-v1", "data": "hidden"},
    ]  # fmt: skip
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "gem"}}


def test_an_encrypted_thought_keeps_its_summary_and_its_id() -> None:
    said = [ReasoningDelta("In short."), ReasoningProof("", "xyz", "openai", "rs_1"), Finished(FinishReason.STOP)]
    assert whole(said)["choices"][0]["message"]["reasoning_details"] == [
        {
            "type": "reasoning.summary",
            "index": 0,
            "format": "openai-responses-v1",
            "summary": "In short.",
            "id": "rs_1",
        },
        {"type": "reasoning.encrypted", "index": 0, "format": "openai-responses-v1", "data": "xyz", "id": "rs_1"},
    ]  # fmt: skip


def test_what_a_client_gives_back_is_what_was_thought() -> None:
    message = whole(THOUGHT)["choices"][0]["message"]
    history = parse(body(messages=[USER, message])).conversation().messages[1].parts
    assert history == (
        ReasoningPart("Let me think.", "sig", vendor="anthropic"),
        ReasoningPart(encrypted="hidden", vendor="anthropic"),
        TextPart("So."),
        ToolCallPart("a", "weather", "{}", "gem"),
    )


@given(answers())
def test_everything_that_is_sent_is_ascii(events: list[StreamEvent]) -> None:
    writer = StreamWriter(HEADING, include_usage=True)
    assert (writer.write(framed(events)) + writer.end()).isascii()
    assert answer_body(parse(body()), framed(events), HEADING).isascii()


@pytest.mark.parametrize("text", ["\ud83d", "x\ude00", "\u2028\x85", "🙂"])
def test_no_text_breaks_the_writer_or_a_line(text: str) -> None:
    said = [TextDelta(text), Finished(FinishReason.STOP)]
    assert streamed(said)[0]["choices"][0]["delta"]["content"] == text
    assert whole(said)["choices"][0]["message"]["content"] == text
    writer = StreamWriter(HEADING, include_usage=False)
    assert len(writer.write(framed(said)).decode().splitlines()) == 4


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("No.", param="messages[0]"), ModelNotFound("Gone."), GatewayError("Oh."), InvalidRequest('"\n€')],
)
def test_an_error_has_openais_shape_and_the_id_to_quote(error: GatewayError) -> None:
    assert json.loads(error_body(error, "r1")) == {
        "error": {"message": error.message, "type": error.kind, "code": error.code, "param": error.param},
        "request_id": "r1",
    }
