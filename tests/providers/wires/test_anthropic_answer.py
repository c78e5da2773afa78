from typing import Any

import msgspec
import pytest

from providers.domain.answer import (
    Finished,
    FinishReason,
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
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import Wire
from providers.wires import WIRES
from tests.providers.wires.builders import events_of, named_sse, raw_of, read_all, reader

CODEC = WIRES[Wire.ANTHROPIC]

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 7,
            "cache_read_input_tokens": 3,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **content}}


def block_stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def message_delta(reason: str | None, **usage: Any) -> dict[str, Any]:
    changed = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": changed, "usage": usage or {"output_tokens": 15}}


TEXT = named_sse(
    START,
    block(0, type="text", text=""),
    PING,
    delta(0, "text_delta", text="Grüß"),
    delta(0, "text_delta", text=" dich"),
    block_stop(0),
    message_delta("end_turn"),
    STOP,
)
TEXT_EVENTS: list[StreamEvent] = [
    Started("msg_1"),
    UsageReported(Usage(25, 3, 7, 1)),
    TextDelta("Grüß"),
    TextDelta(" dich"),
    Finished(FinishReason.STOP),
    UsageReported(Usage(25, 3, 7, 15)),
]


def stream_events(*payloads: dict[str, Any]) -> list[StreamEvent]:
    return events_of(read_all(Wire.ANTHROPIC, named_sse(START, *payloads, STOP)))[2:]


def failure_of(stream: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.ANTHROPIC, stream)
    return caught.value.failure


def test_a_text_stream_is_read_in_order_and_kept_byte_for_byte() -> None:
    frames = read_all(Wire.ANTHROPIC, TEXT, include_usage=False)
    assert events_of(frames) == TEXT_EVENTS
    assert raw_of(frames) == TEXT


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    for stream in (TEXT, TEXT.replace(b"\n", b"\r\n")):
        for place in range(len(stream) + 1):
            answer = reader(Wire.ANTHROPIC)
            frames = answer.feed(stream[:place]) + answer.feed(stream[place:]) + answer.close()
            assert events_of(frames) == TEXT_EVENTS, place
            assert raw_of(frames) == stream


def test_thinking_text_and_parallel_tools_are_told_apart() -> None:
    assert stream_events(
        block(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "signature_delta", signature="EqQB"),
        block_stop(0),
        block(1, type="text", text="Let me look."),
        block_stop(1),
        block(2, type="tool_use", id="toolu_a", name="f", input={}),
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"x"'),
        delta(2, "input_json_delta", partial_json=":1}"),
        block_stop(2),
        block(3, type="tool_use", id="toolu_b", name="no_arguments", input={}),
        block_stop(3),
        message_delta("tool_use", output_tokens=89, output_tokens_details={"thinking_tokens": 40}),
    ) == [
        ReasoningDelta("hm"),
        ReasoningProof(signature="EqQB", vendor="anthropic"),
        TextDelta("Let me look."),
        ToolCallStart(0, "toolu_a", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ":1}"),
        ToolCallStart(1, "toolu_b", "no_arguments"),
        Finished(FinishReason.TOOL_CALLS),
        UsageReported(Usage(25, 3, 7, 89, 40)),
    ]


def test_thought_that_is_hidden_or_not_shown_is_still_proven() -> None:
    assert stream_events(
        block(0, type="redacted_thinking", data="Qm9v"),
        block_stop(0),
        block(1, type="thinking", thinking="", signature=""),
        delta(1, "signature_delta", signature="EqQB"),
        block_stop(1),
        message_delta("end_turn"),
    )[:2] == [
        ReasoningProof(encrypted="Qm9v", vendor="anthropic"),
        ReasoningProof(signature="EqQB", vendor="anthropic"),
    ]


def test_the_stop_sequence_that_was_met_is_told_streamed_and_whole() -> None:
    met = Finished(FinishReason.STOP, "END")
    ending = message_delta(None)
    ending["delta"] = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert met in stream_events(ending)
    whole = {"id": "m", "content": [], "stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert met in CODEC.read_answer(msgspec.json.encode(whole)).events


def test_a_refusal_says_why_streamed_and_whole() -> None:
    told = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    ending = message_delta(None)
    ending["delta"] = {"stop_reason": "refusal", "stop_details": told}
    expected = [RefusalDelta("Not this."), Finished(FinishReason.CONTENT_FILTER)]
    assert stream_events(ending)[:2] == expected
    whole = {"id": "m", "content": [], "stop_reason": "refusal", "stop_details": told}
    assert list(CODEC.read_answer(msgspec.json.encode(whole)).events[1:]) == expected


@pytest.mark.parametrize("details", [None, {"type": "refusal", "category": None, "explanation": None}])
def test_a_refusal_without_words_is_only_a_finish(details: object) -> None:
    ending = message_delta(None)
    ending["delta"] = {"stop_reason": "refusal", "stop_details": details}
    assert stream_events(ending)[0] == Finished(FinishReason.CONTENT_FILTER)


def test_half_a_character_does_not_spoil_a_message_streamed_or_whole() -> None:
    halves = b"".join(
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}\n\n' % text
        for text in (rb"so \ud83d", rb"\ude42!")
    )
    texts = [TextDelta("so "), TextDelta("🙂!")]
    stream = named_sse(START) + halves + named_sse(message_delta("end_turn"), STOP)
    assert events_of(read_all(Wire.ANTHROPIC, stream))[2:4] == texts
    body = rb'{"id":"m","content":[{"type":"text","text":"so \ud83d"}],"stop_reason":"end_turn"}'
    assert CODEC.read_answer(body).events[1] == TextDelta("so ")


def test_arguments_that_come_whole_with_the_call_are_kept() -> None:
    events = stream_events(block(0, type="tool_use", id="a", name="f", input={"x": 1}), message_delta("tool_use"))
    assert events[:2] == [ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x":1}')]


def test_tools_that_run_at_the_vendor_and_new_kinds_are_passed_by() -> None:
    assert stream_events(
        block(0, type="server_tool_use", id="srv", name="web_search", input={}),
        delta(0, "input_json_delta", partial_json='{"query":"x"}'),
        block(1, type="web_search_tool_result", tool_use_id="srv", content=[]),
        {"type": "something_new", "payload": {"deep": [1, 2]}},
        delta(2, "citations_delta", citation={"type": "page_location"}),
        message_delta("pause_turn"),
    ) == [Finished(FinishReason.STOP), UsageReported(Usage(25, 3, 7, 15))]


def test_later_usage_replaces_only_what_it_names() -> None:
    events = stream_events(
        message_delta(None, output_tokens=4),
        message_delta("end_turn", input_tokens=30, cache_read_input_tokens=None, output_tokens=9),
    )
    assert events == [
        UsageReported(Usage(25, 3, 7, 4)),
        Finished(FinishReason.STOP),
        UsageReported(Usage(30, 3, 7, 9)),
    ]


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        ({"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}, Usage(25, 3, 7, 15, 0, 4)),
        ({"ephemeral_1h_input_tokens": 7}, Usage(25, 3, 7, 15, 0, 7)),
        ({"ephemeral_1h_input_tokens": 99}, Usage(25, 3, 7, 15, 0, 7)),  # no more than was written
        ({"ephemeral_1h_input_tokens": None}, Usage(25, 3, 7, 15)),
        (None, Usage(25, 3, 7, 15)),
    ],
)
def test_what_is_kept_for_an_hour_is_part_of_what_is_written_to_the_cache(
    sent: dict[str, Any] | None, usage: Usage
) -> None:
    assert stream_events(message_delta("end_turn", output_tokens=15, cache_creation=sent))[-1] == UsageReported(usage)


def test_what_is_kept_for_an_hour_stands_as_the_start_of_the_stream_said() -> None:
    counts = {**START["message"]["usage"], "cache_creation": {"ephemeral_1h_input_tokens": 5}}  # type: ignore[index]
    start = {**START, "message": {**START["message"], "usage": counts}}  # type: ignore[dict-item]
    frames = read_all(Wire.ANTHROPIC, named_sse(start, message_delta("end_turn", output_tokens=2), STOP))
    assert events_of(frames)[-1] == UsageReported(Usage(25, 3, 7, 2, 0, 5))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("a_new_one", FinishReason.STOP),
    ],
)
def test_stop_reasons_are_told_in_our_words(sent: str, reason: FinishReason) -> None:
    assert stream_events(message_delta(sent))[0] == Finished(reason)


def test_the_end_is_told_once_and_what_follows_is_tolerated() -> None:
    frames = read_all(Wire.ANTHROPIC, TEXT + named_sse(message_delta("end_turn"), PING, STOP))
    assert [event for event in events_of(frames) if isinstance(event, Finished)] == [Finished(FinishReason.STOP)]


@pytest.mark.parametrize("end", [b"", named_sse(STOP), b'event: message_delta\ndata: {"type":"mess'])
def test_a_stream_without_a_stop_reason_is_broken(end: bytes) -> None:
    stream = named_sse(START, block(0, type="text", text="Hel")) + end
    assert failure_of(stream).kind is FailureKind.STREAM_BROKEN


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, FailureKind.OVERLOADED),
        ({"type": "rate_limit_error", "message": "slow"}, FailureKind.RATE_LIMITED),
        ({"type": "api_error", "message": "Internal"}, FailureKind.SERVER_ERROR),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, FailureKind.CONTEXT_TOO_LONG),
        ({"type": "invalid_request_error", "message": "bad"}, FailureKind.BAD_REQUEST),
        ({"type": "a_new_error", "message": "new"}, FailureKind.SERVER_ERROR),
    ],
)
def test_an_error_event_is_raised_after_what_came_before(error: dict[str, str], kind: FailureKind) -> None:
    answer = reader(Wire.ANTHROPIC)
    start = named_sse(START, block(0, type="text", text="Hel"))
    assert TextDelta("Hel") in events_of(answer.feed(start + named_sse({"type": "error", "error": error})))
    with pytest.raises(ProviderError, match=error["message"]) as caught:
        answer.close()
    assert caught.value.failure.kind is kind


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[]",
        b'{"type":7}',
        b'{"type":"message_start","message":[]}',
        b'{"type":"message_start","message":{"usage":{"input_tokens":"5"}}}',
        b'{"type":"content_block_delta","index":"0","delta":{}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":5}}',
        b'{"type":"content_block_start","index":0,"content_block":null,"usage":1}',
        b'{"type":"message_delta","delta":{"stop_reason":["end_turn"]}}',
        b'{"type":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_malformed(payload: bytes) -> None:
    assert failure_of(b"event: x\ndata: " + payload + b"\n\n").kind is FailureKind.MALFORMED
    with pytest.raises(ProviderError):
        CODEC.read_answer(payload)


@pytest.mark.parametrize("kind", ["message_start", "content_block_start", "content_block_delta", "message_delta"])
def test_events_without_their_contents_are_passed_by(kind: str) -> None:
    assert failure_of(named_sse({"type": kind})).kind is FailureKind.STREAM_BROKEN


def test_a_whole_message_has_the_events_of_its_stream() -> None:
    body = msgspec.json.encode(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "text", "text": "Let me look.", "citations": None},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1, {"y": None}]}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
                {"type": "redacted_thinking", "data": "x"},
            ],
            "stop_reason": "tool_use",
            "usage": {
                "input_tokens": 9,
                "cache_creation_input_tokens": None,
                "cache_read_input_tokens": 2,
                "output_tokens": 4,
                "output_tokens_details": {"thinking_tokens": 3},
            },
        }
    )
    frame = CODEC.read_answer(body)
    assert frame.raw is body
    assert list(frame.events) == [
        Started("msg_1"),
        ReasoningDelta("hm"),
        ReasoningProof(signature="EqQB", vendor="anthropic"),
        TextDelta("Let me look."),
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, '{"x":[1,{"y":null}]}'),
        ToolCallStart(1, "b", "g"),
        ReasoningProof(encrypted="x", vendor="anthropic"),
        Finished(FinishReason.TOOL_CALLS),
        UsageReported(Usage(9, 2, 0, 4, 3)),
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><title>Welcome</title></html>", FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"id":"m","content":{}}', FailureKind.MALFORMED),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', FailureKind.OVERLOADED),
        (b'{"error":{"type":"not_found_error","message":"model: x"}}', FailureKind.MODEL_NOT_FOUND),
    ],
)
def test_a_body_that_is_no_message_is_an_error(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is kind
