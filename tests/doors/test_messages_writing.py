"""Messages written from events: whole, and as a stream that the official SDK adds up to the same message."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

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
from providers.domain.errors import Failure, FailureKind
from providers.domain.types import ChatRequest
from providers.wires.sealed_thought import SealedThought, seal, unseal
from routerplatform.doors.formats import anthropic_messages
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Unauthenticated,
    Unavailable,
    upstream_error,
)

HEADING = Heading("req-1", "sage-1", 1_700_000_000)
REQUEST: ChatRequest = anthropic_messages.parse(b'{"max_tokens":9,"messages":[{"role":"user","content":"Hello you"}]}')
COUNTED = UsageReported(Usage(10, 3, 2, 8, 5))
STOP, TOOLS = Finished(FinishReason.STOP), Finished(FinishReason.TOOL_CALLS)
_event = TypeAdapter(RawMessageStreamEvent)


def whole(*events: StreamEvent) -> dict[str, Any]:
    body = anthropic_messages.answer_body(REQUEST, [Frame(b"", events)], HEADING)
    Message.model_validate_json(body)  # every field that the SDK requires
    made: dict[str, Any] = json.loads(body)
    return made


def stream(*events: StreamEvent) -> list[dict[str, Any]]:
    """The payloads of a stream, each event in a frame of its own."""
    writer = anthropic_messages.writer(REQUEST, HEADING)
    data = b"".join(writer.write([Frame(b"", (event,))]) for event in events) + writer.end()
    return payloads(data)


def payloads(data: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in data.decode().removesuffix("\n\n").split("\n\n"):
        name, _, text = frame.partition("\n")
        payload = json.loads(text.removeprefix("data: "))
        assert name == f"event: {payload['type']}"
        found.append(payload)
    return found


def added_up(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The message that the official SDK makes of a stream; checks the order of blocks on the way."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    is_open, following = False, 0
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == following
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == following
            case "content_block_stop":
                assert is_open
                assert event["index"] == following
                is_open, following = False, following + 1
            case "message_stop":
                break
        parsed = _event.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    assert not is_open
    made: dict[str, Any] = json.loads(snapshot.to_json())
    return made


def same(*events: StreamEvent) -> dict[str, Any]:
    """The message, streamed and whole alike."""
    message, streamed = whole(*events), added_up(stream(*events))
    for block in [*message["content"], *streamed["content"]]:
        block.pop("citations", None)
        block.pop("parsed_output", None)
    assert streamed["content"] == message["content"]
    for name in ("id", "model", "role", "stop_reason", "usage"):
        assert streamed[name] == message[name], name
    return message


# --- text -----------------------------------------------------------------------------------------------------------


def test_a_text_message_whole() -> None:
    assert whole(Started("up"), TextDelta("Hel"), TextDelta("lo"), STOP, COUNTED) == {
        "id": "msg_req-1",
        "type": "message",
        "role": "assistant",
        "model": "sage-1",
        "content": [{"type": "text", "text": "Hello", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 3,
            "output_tokens": 8,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    }


def test_a_text_message_streamed_in_the_vendors_order() -> None:
    events = stream(Started("up"), TextDelta("Hel"), TextDelta("lo"), STOP, COUNTED)
    assert [event["type"] for event in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    start = events[0]["message"]
    assert (start["id"], start["content"], start["stop_reason"]) == ("msg_req-1", [], None)
    assert start["usage"]["input_tokens"] == REQUEST.input_tokens_estimate
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None},
        "usage": whole(COUNTED)["usage"],
    }
    same(TextDelta("Hel"), TextDelta("lo"), STOP, COUNTED)


def test_an_answer_without_content_is_a_message_without_blocks() -> None:
    assert same(STOP, COUNTED)["content"] == []
    assert [event["type"] for event in stream(STOP)] == ["message_start", "message_delta", "message_stop"]


def test_what_nobody_counted_is_estimated() -> None:
    usage = same(TextDelta("x" * 41), STOP)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (REQUEST.input_tokens_estimate, 11)


def test_a_count_that_came_first_stands_in_the_start() -> None:
    assert stream(COUNTED, TextDelta("x"), STOP)[0]["message"]["usage"]["input_tokens"] == 10


# --- why it stopped -------------------------------------------------------------------------------------------------

CALL = (ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"))


@pytest.mark.parametrize(
    ("events", "reason", "sequence"),
    [
        ((STOP,), "end_turn", None),
        ((Finished(FinishReason.STOP, "END"),), "stop_sequence", "END"),
        ((Finished(FinishReason.LENGTH),), "max_tokens", None),
        ((Finished(FinishReason.CONTENT_FILTER),), "refusal", None),
        ((*CALL, TOOLS), "tool_use", None),
        ((*CALL, STOP), "tool_use", None),
        ((*CALL, Finished(FinishReason.LENGTH)), "max_tokens", None),
        ((TOOLS,), "end_turn", None),
        ((RefusalDelta("No."), STOP), "refusal", None),
    ],
)
def test_why_a_message_stopped(events: tuple[StreamEvent, ...], reason: str, sequence: str | None) -> None:
    message = same(*events)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_refusal_is_text_and_its_explanation() -> None:
    message = whole(RefusalDelta("Not "), RefusalDelta("this."), STOP)
    assert message["content"][0]["text"] == "Not this."
    assert message["stop_details"] == {"type": "refusal", "category": None, "explanation": "Not this."}


# --- tools ----------------------------------------------------------------------------------------------------------


def test_text_and_parallel_calls_are_blocks_in_order() -> None:
    message = same(
        TextDelta("Let me look."), ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x"'), ToolCallDelta(0, ":1}"),
        ToolCallStart(1, "b", "g"), ToolCallStart(2, "c", "h"), ToolCallDelta(2, '{"y":[1,2]}'), TOOLS, COUNTED,
    )  # fmt: skip
    assert message["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {"y": [1, 2]}},
    ]


def test_calls_that_come_interleaved_do_not_mix() -> None:
    message = same(
        ToolCallStart(0, "a", "f"), ToolCallStart(1, "b", "g"), ToolCallDelta(0, '{"x":'), ToolCallDelta(1, '{"y":'),
        ToolCallDelta(0, "1}"), ToolCallDelta(1, "2}"), TOOLS,
    )  # fmt: skip
    assert [block["input"] for block in message["content"]] == [{"x": 1}, {"y": 2}]


def test_arguments_are_sent_as_they_come() -> None:
    writer = anthropic_messages.writer(REQUEST, HEADING)
    writer.write([Frame(b"", (ToolCallStart(0, "a", "f"),))])
    [event] = payloads(writer.write([Frame(b"", (ToolCallDelta(0, '{"x":'),))]))
    assert event["delta"] == {"type": "input_json_delta", "partial_json": '{"x":'}


def test_text_after_a_call_is_a_block_of_its_own_and_late_arguments_are_passed_by() -> None:
    events = (*CALL, TextDelta("Done."), ToolCallDelta(0, "!"), TextDelta(" Yes."), STOP)
    message = added_up(stream(*events))
    assert [block["type"] for block in message["content"]] == ["tool_use", "text"]
    assert message["content"][1]["text"] == "Done. Yes."


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", "nonsense"])
def test_arguments_that_are_no_object_are_wrapped_in_one(arguments: str) -> None:
    message = whole(ToolCallStart(0, "a", "f"), ToolCallDelta(0, arguments), Finished(FinishReason.LENGTH))
    assert message["content"][0]["input"] == {"INVALID_JSON": arguments}


# --- thoughts -------------------------------------------------------------------------------------------------------


def test_a_thought_of_another_vendor_is_sealed_under_its_name() -> None:
    proof = ReasoningProof(encrypted="gAAA", vendor="openai", id="rs_1")
    [thought, text] = same(ReasoningDelta("h"), ReasoningDelta("m"), proof, TextDelta("Hi"), STOP)["content"]
    assert (thought["type"], thought["thinking"], text["text"]) == ("thinking", "hm", "Hi")
    assert unseal(thought["signature"]) == SealedThought("openai", id="rs_1", encrypted="gAAA")


def test_a_thought_without_a_proof_says_that_it_has_none() -> None:
    for events in ((ReasoningDelta("hm"), TextDelta("Hi"), STOP), (ReasoningDelta("hm"), *CALL, TOOLS)):
        thought = same(*events)["content"][0]
        assert unseal(thought["signature"]) == SealedThought()


def test_hidden_thought_is_redacted_thinking() -> None:
    proof = ReasoningProof(signature="sig", vendor="gemini")
    [hidden, text] = same(proof, TextDelta("Hi"), STOP)["content"]
    assert hidden == {"type": "redacted_thinking", "data": seal(SealedThought("gemini", signature="sig"))}
    assert text["text"] == "Hi"


def test_anthropics_own_proofs_are_written_as_they_came() -> None:
    shown = ReasoningProof(signature="EqQB", vendor="anthropic")
    hidden = ReasoningProof(encrypted="Qm9v", vendor="anthropic")
    blocks = same(ReasoningDelta("hm"), shown, hidden, shown, ReasoningDelta("so"), shown, STOP)["content"]
    assert blocks == [
        {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "Qm9v"},
        {"type": "thinking", "thinking": "", "signature": "EqQB"},
        {"type": "thinking", "thinking": "so", "signature": "EqQB"},
    ]


def test_a_call_that_is_proven_follows_its_proof_and_both_are_read_back_together() -> None:
    message = same(ToolCallStart(0, "a", "f", "sig"), ToolCallDelta(0, '{"x":1}'), TOOLS)
    assert [block["type"] for block in message["content"]] == ["redacted_thinking", "tool_use"]
    turn = {"role": "assistant", "content": message["content"]}
    again = anthropic_messages.parse(msgspec.json.encode({"max_tokens": 9, "messages": [turn]}))
    [part] = again.conversation().messages[0].parts
    assert (part.id, part.signature) == ("a", "sig")  # type: ignore[union-attr]


# --- any answer -----------------------------------------------------------------------------------------------------

CONTENT = st.one_of(
    st.builds(TextDelta, st.text(min_size=1)),
    st.builds(ReasoningDelta, st.text(min_size=1)),
    st.just(ReasoningProof(signature="s", vendor="gemini")),
    st.just("call"),
)


@given(st.lists(CONTENT, max_size=8), st.sampled_from(FinishReason))
def test_a_stream_adds_up_to_the_whole_message(content: list[Any], reason: FinishReason) -> None:
    events: list[StreamEvent] = []
    for number, item in enumerate(content):
        if item == "call":
            index = sum(isinstance(event, ToolCallStart) for event in events)
            events += [ToolCallStart(index, f"c{number}", "f"), ToolCallDelta(index, '{"x":[1,"é"]}')]
        else:
            events.append(item)
    same(*events, Finished(reason), COUNTED)


# --- errors ---------------------------------------------------------------------------------------------------------


def failed(kind: FailureKind) -> GatewayError:
    return upstream_error(Failure(kind, "busy"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x", param="model"), "invalid_request_error"),
        (Unauthenticated(), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (Unavailable("x"), "api_error"),
        (failed(FailureKind.RATE_LIMITED), "rate_limit_error"),
        (failed(FailureKind.OVERLOADED), "overloaded_error"),
        (failed(FailureKind.TIMEOUT), "timeout_error"),
        (failed(FailureKind.AUTHENTICATION), "api_error"),
        (failed(FailureKind.CONTEXT_TOO_LONG), "invalid_request_error"),
    ],
)
def test_errors_have_anthropics_shape_and_type(error: GatewayError, kind: str) -> None:
    body = json.loads(anthropic_messages.error_body(error, "req-1"))
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", kind, "req-1")
    assert body["error"]["message"] == error.message
    assert body["error"]["details"]["error_code"] == error.code
    assert body["error"]["details"].get("param") == error.param


def test_an_error_inside_a_stream_is_an_event_of_its_own() -> None:
    data = anthropic_messages.error_event(failed(FailureKind.STREAM_BROKEN), "req-1")
    assert data.startswith(b"event: error\ndata: {")
    assert data.endswith(b"}\n\n")


def test_a_sign_of_life_is_a_ping() -> None:
    assert anthropic_messages.KEEP_ALIVE == b'event: ping\ndata: {"type":"ping"}\n\n'
