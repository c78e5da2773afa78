from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import (
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.failures import VendorError, classify
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.failure_reading import read_failure
from tests.providers.wires.builders import events_of, named_sse, raw_of, read_all, reader
from tests.providers.wires.test_wrong_types import spoiled

CODEC = WIRES[Wire.COHERE]

START = {
    "id": "93b3f521",
    "type": "message-start",
    "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
}
CALLED = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
USAGE = {
    "billed_units": {"input_tokens": 17, "output_tokens": 12},
    "tokens": {"input_tokens": 215, "output_tokens": 14},
}


def delta(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    event: dict[str, Any] = {"type": kind, "delta": {"message": message}}
    return event if index is None else {**event, "index": index}


def text(piece: str, index: int = 0) -> dict[str, Any]:
    return delta("content-delta", index, content={"text": piece})


def thought(piece: str, index: int = 0) -> dict[str, Any]:
    return delta("content-delta", index, content={"thinking": piece})


def call_start(index: int, call_id: str, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return delta("tool-call-start", index, tool_calls={"id": call_id, "type": "function", "function": function})


def call_delta(index: int, arguments: str) -> dict[str, Any]:
    return delta("tool-call-delta", index, tool_calls={"function": {"arguments": arguments}})


def end(reason: str | None = "COMPLETE", **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "id": "93b3f521", "delta": {"finish_reason": reason, "usage": USAGE, **more}}


TEXT = named_sse(
    START,
    delta("content-start", 0, content={"type": "text", "text": ""}),
    text("Grüß"),
    text(" dich"),
    {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0, "end": 4, "text": "Grüß"}}}},
    {"type": "citation-end", "index": 0},
    {"type": "content-end", "index": 0},
    end(),
)
TEXT_EVENTS: list[StreamEvent] = [
    Started("93b3f521"),
    TextDelta("Grüß"),
    TextDelta(" dich"),
    Finished(FinishReason.STOP),
    UsageReported(Usage(input_tokens=17, output_tokens=12)),
]


def stream_events(*payloads: dict[str, Any]) -> list[StreamEvent]:
    return events_of(read_all(Wire.COHERE, named_sse(START, *payloads)))[1:]


def failure_of(stream: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.COHERE, stream)
    return caught.value.failure


def whole(message: Any, reason: str | None = "COMPLETE", **more: Any) -> list[StreamEvent]:
    body = {"id": "93b3f521", "message": message, "finish_reason": reason, "usage": USAGE, **more}
    frame = CODEC.read_answer(msgspec.json.encode(body))
    return list(frame.events)


def test_a_text_stream_is_read_in_order_and_kept_byte_for_byte() -> None:
    frames = read_all(Wire.COHERE, TEXT)
    assert events_of(frames) == TEXT_EVENTS
    assert raw_of(frames) == TEXT


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    for stream in (TEXT, TEXT.replace(b"\n", b"\r\n")):
        for place in range(len(stream) + 1):
            answer = reader(Wire.COHERE)
            frames = answer.feed(stream[:place]) + answer.feed(stream[place:]) + answer.close()
            assert events_of(frames) == TEXT_EVENTS, place
            assert raw_of(frames) == stream


def test_a_plan_two_calls_and_one_without_arguments() -> None:
    events = stream_events(
        delta("tool-plan-delta", tool_plan="I will"),
        delta("tool-plan-delta", tool_plan=" look."),
        call_start(7, "weather_1", "weather"),
        call_delta(7, '{"city":'),
        call_delta(7, '"Oslo"}'),
        {"type": "tool-call-end", "index": 7},
        call_start(11, "clock_1", "clock"),
        {"type": "tool-call-end", "index": 11},
        end("TOOL_CALL"),
    )
    assert events[:-1] == [
        TextDelta("I will"),
        TextDelta(" look."),
        ToolCallStart(0, "weather_1", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallStart(1, "clock_1", "clock"),
        Finished(FinishReason.TOOL_CALLS),
    ]


def test_pieces_of_calls_may_be_mixed_or_unnumbered() -> None:
    mixed = stream_events(
        call_start(0, "a", "f"),
        call_start(1, "b", "g", "{}"),
        call_delta(0, "{}"),
        call_delta(5, "x"),
        end("TOOL_CALL"),
    )
    assert mixed[:4] == [
        ToolCallStart(0, "a", "f"),
        ToolCallStart(1, "b", "g"),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, "{}"),
    ]
    function = {"function": {"arguments": "{}"}}
    lists = stream_events(
        delta("tool-call-start", tool_calls=[{"id": "a", "function": {"name": "f"}}]),
        delta("tool-call-delta", tool_calls=[function]),
        delta("tool-call-start", tool_calls=[{"function": {"name": "g"}}]),
        delta("tool-call-delta", tool_calls=function),
        end("COMPLETE"),
    )
    assert lists[:-1] == [
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallStart(1, "call_1", "g"),
        ToolCallDelta(1, "{}"),
        Finished(FinishReason.TOOL_CALLS),
    ]
    assert stream_events(delta("tool-call-delta", tool_calls=function), end())[0] == Finished(FinishReason.STOP)


def test_thought_and_text_are_told_apart() -> None:
    events = stream_events(
        delta("content-start", 0, content={"type": "thinking", "thinking": "H"}),
        thought("m."),
        {"type": "content-end", "index": 0},
        delta("content-start", 1, content={"type": "text", "text": ""}),
        text("Yes", 1),
        end(),
    )
    assert events[:3] == [ReasoningDelta("H"), ReasoningDelta("m."), TextDelta("Yes")]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("COMPLETE", FinishReason.STOP),
        ("STOP_SEQUENCE", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("TOOL_CALL", FinishReason.TOOL_CALLS),
        ("SOMETHING_NEW", FinishReason.STOP),
    ],
)
def test_finish_reasons(reason: str, finish: FinishReason) -> None:
    assert stream_events(text("x"), end(reason))[1] == Finished(finish)
    assert whole({"content": [{"type": "text", "text": "x"}]}, reason)[2] == Finished(finish)


def test_a_whole_answer_says_what_its_stream_says() -> None:
    streamed = stream_events(
        thought("Hm."),
        text("Well", 1),
        delta("tool-plan-delta", tool_plan="I look."),
        call_start(0, "a", "weather"),
        call_delta(0, '{"city":"Oslo"}'),
        call_start(1, "b", "clock"),
        call_delta(1, "{}"),
        end("TOOL_CALL"),
    )
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Well"}]
    calls = [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
        {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
    ]
    message = {"role": "assistant", "content": content, "tool_plan": "I look.", "tool_calls": calls}
    assert whole(message, "TOOL_CALL") == [Started("93b3f521"), *streamed]


PIECES = st.lists(st.tuples(st.sampled_from(["text", "thinking", "call"]), st.text(min_size=1, max_size=8)), max_size=8)


@given(PIECES, st.lists(st.integers(0, 3000), max_size=8))
def test_bytes_cut_anywhere_say_what_the_whole_answer_says(pieces: list[tuple[str, str]], cuts: list[int]) -> None:
    content = [{"type": kind, kind: piece} for kind, piece in pieces if kind != "call"]
    names = [piece for kind, piece in pieces if kind == "call"]
    calls = [{"id": f"c{i}", "function": {"name": name, "arguments": '{"a":1}'}} for i, name in enumerate(names)]
    payloads = [delta("content-delta", i, content=block) for i, block in enumerate(content)]
    for i, name in enumerate(names):
        payloads += [call_start(i, f"c{i}", name), call_delta(i, '{"a":1}')]
    reason = "TOOL_CALL" if calls else "COMPLETE"
    stream = named_sse(START, *payloads, end(reason))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    answer = reader(Wire.COHERE)
    frames = [frame for a, b in pairwise(places) for frame in answer.feed(stream[a:b])] + answer.close()
    assert events_of(frames) == whole({"content": content, "tool_calls": calls}, reason)
    assert raw_of(frames) == stream


def test_a_whole_answer_with_little_in_it() -> None:
    assert whole({"content": "Hi"}, None)[:3] == [Started("93b3f521"), TextDelta("Hi"), Finished(FinishReason.STOP)]
    assert whole({}, usage=None, id=None) == [Started(""), Finished(FinishReason.STOP)]
    assert whole({"tool_calls": [{}]})[1:3] == [ToolCallStart(0, "call_0", ""), Finished(FinishReason.TOOL_CALLS)]


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        (USAGE, Usage(input_tokens=17, output_tokens=12)),
        ({**USAGE, "cached_tokens": 5}, Usage(12, cache_read_input_tokens=5, output_tokens=12)),
        ({**USAGE, "cached_tokens": 144}, Usage(0, cache_read_input_tokens=17, output_tokens=12)),
        ({"tokens": {"input_tokens": 9.0, "output_tokens": 4.0}}, Usage(9, output_tokens=4)),
        ({"billed_units": {"search_units": 1}}, Usage()),
        ({}, None),
        (None, None),
    ],
)
def test_what_is_billed_is_reported(sent: Any, usage: Usage | None) -> None:
    events = whole({"content": "x"}, usage=sent)
    assert [event.usage for event in events if isinstance(event, UsageReported)] == ([usage] if usage else [])


def test_a_stream_without_its_end_is_broken() -> None:
    for stream in (b"", named_sse(START), named_sse(START, text("x")), TEXT[:-40], named_sse(START, end(None))):
        assert failure_of(stream).kind is FailureKind.STREAM_BROKEN
    assert failure_of(named_sse(START, text("x")) + b"data: [DONE]\n\n").kind is FailureKind.STREAM_BROKEN


def test_what_comes_after_the_end_changes_nothing() -> None:
    frames = read_all(Wire.COHERE, TEXT + b"data: [DONE]\n\n: bye\n\n")
    assert events_of(frames) == TEXT_EVENTS
    twice = stream_events(text("x"), end(), end("ERROR"))
    assert [type(event) for event in twice] == [TextDelta, Finished, UsageReported, UsageReported]


@pytest.mark.parametrize(
    ("last", "kind", "message"),
    [
        (end("ERROR", error="llm stream had an internal error"), FailureKind.SERVER_ERROR, "internal error"),
        (end("ERROR"), FailureKind.SERVER_ERROR, "broke the answer off (ERROR)"),
        (end("TIMEOUT"), FailureKind.TIMEOUT, "broke the answer off (TIMEOUT)"),
        (end("COMPLETE", error="too many tokens: size limit"), FailureKind.CONTEXT_TOO_LONG, "too many tokens"),
        ({"type": "error", "error": {"message": "gone"}}, FailureKind.SERVER_ERROR, "gone"),
        ({"message": "overloaded", "type": ""}, FailureKind.SERVER_ERROR, "overloaded"),
    ],
)
def test_an_error_inside_a_stream_is_told(last: dict[str, Any], kind: FailureKind, message: str) -> None:
    failure = failure_of(named_sse(START, text("x")) + b"data: " + msgspec.json.encode(last) + b"\n\n")
    assert failure.kind is kind
    assert message in failure.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", FailureKind.MALFORMED),
        (b"", FailureKind.MALFORMED),
        (b"[]", FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"message":[]}', FailureKind.MALFORMED),
        (b'{"message":"invalid request: no"}', FailureKind.SERVER_ERROR),
        (b'{"error":"no"}', FailureKind.SERVER_ERROR),
        (b'{"message":{"content":[]},"finish_reason":"ERROR"}', FailureKind.SERVER_ERROR),
        (b'{"message":{"content":[]},"finish_reason":"TIMEOUT"}', FailureKind.TIMEOUT),
    ],
)
def test_a_whole_answer_that_is_none(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is kind


def test_half_characters_do_not_spoil_a_whole_answer() -> None:
    body = b'{"id":"a","message":{"content":"x\\ud83d"},"finish_reason":"COMPLETE"}'
    assert CODEC.read_answer(body).events[1] == TextDelta("x")


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081", FailureKind.CONTEXT_TOO_LONG),
        (400, "invalid request: temperature must be between 0 and 1.0 inclusive.", FailureKind.BAD_REQUEST),
        (401, "invalid api token", FailureKind.AUTHENTICATION),
        (402, "Please add or update your payment method", FailureKind.QUOTA_EXHAUSTED),
        (404, "model 'command-x' not found, make sure the correct model ID was used", FailureKind.MODEL_NOT_FOUND),
        (422, "invalid request", FailureKind.BAD_REQUEST),
        (429, "You are using a Trial key, which is limited to 20 API calls / minute.", FailureKind.RATE_LIMITED),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", FailureKind.QUOTA_EXHAUSTED),
        (498, "the request contains a deny-listed token", FailureKind.CONTENT_FILTERED),
        (499, "request cancelled by user", FailureKind.SERVER_ERROR),
        (500, "internal server error", FailureKind.SERVER_ERROR),
        (501, "not implemented", FailureKind.SERVER_ERROR),
        (503, "service unavailable", FailureKind.OVERLOADED),
        (504, "gateway timeout", FailureKind.TIMEOUT),
    ],
)
def test_refusals_are_the_kind_they_mean(status: int, message: str, kind: FailureKind) -> None:
    failure = read_failure(status, {}, msgspec.json.encode({"id": "5a50480a", "message": message}))
    assert failure.kind is kind
    assert failure.message == message
    assert classify(VendorError(status, "", "", message)) is kind


@pytest.mark.parametrize(
    "good",
    [
        {**START, "message": {"content": [{"text": "x", "thinking": "y"}], "tool_plan": "p", "tool_calls": [CALLED]}},
        call_start(0, "a", "f", "{}"),
        delta("content-delta", 0, content={"text": "x"}),
        end("COMPLETE", error=None),
    ],
)
def test_wrong_types_are_provider_errors_or_passed_by(good: dict[str, Any]) -> None:
    for body in map(msgspec.json.encode, spoiled(good)):
        with suppress(ProviderError):
            read_all(Wire.COHERE, b"data: " + body + b"\n\n")
        with suppress(ProviderError):
            assert CODEC.read_answer(body).raw == body
        assert read_failure(500, {}, body).message
