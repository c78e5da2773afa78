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
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.failure_reading import read_failure
from tests.providers.wires.builders import events_of, raw_of, read_all, reader
from tests.providers.wires.test_wrong_types import spoiled

CODEC = WIRES[Wire.OLLAMA]
COUNTS = {"total_duration": 4_883_583_458, "prompt_eval_count": 26, "eval_count": 29, "eval_duration": 4_799_921_000}
USAGE = Usage(26, output_tokens=29)


def line(created_at: str = "2026-11-21T10:00:00.1Z", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "", **message}
    return {"model": "llama3.2", "created_at": created_at, "message": said, "done": False}


def done(reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {**line(**message), "done": True, "done_reason": reason, **COUNTS}


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def ndjson(*payloads: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(payload) + b"\n" for payload in payloads)


TEXT = ndjson(line(content="Grüß"), line(content=" dich"), done())
TEXT_EVENTS: list[StreamEvent] = [
    Started(""),
    TextDelta("Grüß"),
    TextDelta(" dich"),
    Finished(FinishReason.STOP),
    UsageReported(USAGE),
]


def stream_events(*payloads: dict[str, Any]) -> list[StreamEvent]:
    return events_of(read_all(Wire.OLLAMA, ndjson(*payloads)))[1:]


def failure_of(stream: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.OLLAMA, stream)
    return caught.value.failure


def whole(body: dict[str, Any]) -> list[StreamEvent]:
    return list(CODEC.read_answer(msgspec.json.encode(body)).events)


def ids_of(events: list[StreamEvent]) -> list[str]:
    return [event.id for event in events if isinstance(event, ToolCallStart)]


def test_streams_are_lines_of_json() -> None:
    assert CODEC.stream_type == "application/x-ndjson"


def test_a_text_stream_is_read_in_order_and_kept_byte_for_byte() -> None:
    frames = read_all(Wire.OLLAMA, TEXT)
    assert events_of(frames) == TEXT_EVENTS
    assert raw_of(frames) == TEXT


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    for stream in (TEXT, TEXT.replace(b"\n", b"\r\n"), TEXT.rstrip()):
        for place in range(len(stream) + 1):
            answer = reader(Wire.OLLAMA)
            frames = answer.feed(stream[:place]) + answer.feed(stream[place:]) + answer.close()
            assert events_of(frames) == TEXT_EVENTS, place
            assert raw_of(frames) == stream


def test_thought_text_and_calls_of_several_lines() -> None:
    events = stream_events(
        line(thinking="Hm"),
        line(thinking="."),
        line(content="Let me look."),
        line(tool_calls=[call("weather", {"city": "Oslo"}, id="call_abc")]),
        line(tool_calls=[call("clock", {}, id="call_def"), call("moon", None, id="call_ghi")]),
        done(),
    )
    assert events == [
        ReasoningDelta("Hm"),
        ReasoningDelta("."),
        TextDelta("Let me look."),
        ToolCallStart(0, "call_abc", "weather"),
        ToolCallDelta(0, '{"city":"Oslo"}'),
        ToolCallStart(1, "call_def", "clock"),
        ToolCallDelta(1, "{}"),
        ToolCallStart(2, "call_ghi", "moon"),
        Finished(FinishReason.TOOL_CALLS),
        UsageReported(USAGE),
    ]


def test_arguments_are_kept_as_they_were_written() -> None:
    raw = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"b": 1.50, "a":"\\u00e9"}}}]},"done":true}'
    assert CODEC.read_answer(raw).events[2] == ToolCallDelta(0, '{"b": 1.50, "a":"\\u00e9"}')
    text = {"message": {"tool_calls": [call("f", '{"x":1}')]}, "done": True}
    assert whole(text)[2] == ToolCallDelta(0, '{"x":1}')


def test_calls_without_ids_get_some_that_differ_within_a_conversation() -> None:
    same = [call("f", {"x": 1}), call("f", {"x": 1})]
    first = ids_of(stream_events(line("2026-11-21T10:00:00.1Z", tool_calls=same), done()))
    later = ids_of(stream_events(line("2026-11-21T10:00:07.3Z", tool_calls=same), done()))
    assert len({*first, *later}) == 4
    assert all(name.startswith("call_") and len(name) == 29 for name in first)
    assert first == ids_of(stream_events(line("2026-11-21T10:00:00.1Z", tool_calls=same), done()))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("load", FinishReason.STOP),
        ("unload", FinishReason.STOP),
        ("something_new", FinishReason.STOP),
        (None, FinishReason.STOP),
    ],
)
def test_finish_reasons(reason: str | None, finish: FinishReason) -> None:
    assert stream_events(line(content="x"), done(reason))[1] == Finished(finish)
    assert whole(done(reason, content="x"))[2] == Finished(finish)


def test_a_call_that_was_cut_short_is_no_call_to_make() -> None:
    assert Finished(FinishReason.LENGTH) in stream_events(line(tool_calls=[call("f", {})]), done("length"))


def test_the_last_line_may_say_something_too() -> None:
    events = stream_events(done(content="Hi", tool_calls=[call("f", {}, id="a")]))
    assert events[:2] == [TextDelta("Hi"), ToolCallStart(0, "a", "f")]
    assert events[-2:] == [Finished(FinishReason.TOOL_CALLS), UsageReported(USAGE)]


def test_a_whole_answer_says_what_its_stream_says() -> None:
    message = {"thinking": "Hm.", "content": "Well", "tool_calls": [call("f", {"x": 1}), call("g", {})]}
    streamed = stream_events(
        line(thinking="Hm."), line(content="Well"), line(tool_calls=[call("f", {"x": 1})]),
        line(tool_calls=[call("g", {})]), done(),
    )  # fmt: skip
    assert whole(done(**message)) == [Started(""), *streamed]


PIECES = st.lists(st.tuples(st.sampled_from(["thinking", "content", "call"]), st.text(min_size=1, max_size=8)))


@given(PIECES, st.lists(st.integers(0, 3000), max_size=8))
def test_bytes_cut_anywhere_say_what_the_whole_answer_says(pieces: list[tuple[str, str]], cuts: list[int]) -> None:
    thought = "".join(piece for kind, piece in pieces if kind == "thinking")
    content = "".join(piece for kind, piece in pieces if kind == "content")
    calls = [call(piece, {"a": piece}) for kind, piece in pieces if kind == "call"]
    payloads = [line(thinking=thought), line(content=content), *(line(tool_calls=[one]) for one in calls), done()]
    stream = ndjson(*payloads)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    answer = reader(Wire.OLLAMA)
    frames = [frame for a, b in pairwise(places) for frame in answer.feed(stream[a:b])] + answer.close()
    assert events_of(frames) == whole(done(thinking=thought, content=content, tool_calls=calls))
    assert raw_of(frames) == stream


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 40, "prompt_eval_cached_count": 32, "eval_count": 5}, Usage(8, 32, 0, 5)),
        ({"prompt_eval_count": 4, "prompt_eval_cached_count": 32, "eval_count": 5}, Usage(0, 4, 0, 5)),
        ({"eval_count": 5}, Usage(0, output_tokens=5)),
        ({"prompt_eval_count": -1, "eval_count": 2.0}, Usage(0, output_tokens=2)),
        ({}, None),
    ],
)
def test_what_was_cached_is_part_of_the_prompt(counts: dict[str, Any], usage: Usage | None) -> None:
    events = whole({"message": {"content": "x"}, "done": True, **counts})
    assert [event.usage for event in events if isinstance(event, UsageReported)] == ([usage] if usage else [])


def test_a_stream_without_its_end_is_broken() -> None:
    for stream in (b"", ndjson(line(content="x")), TEXT[:-30], b"\n\n"):
        assert failure_of(stream).kind is FailureKind.STREAM_BROKEN


def test_what_comes_after_the_end_changes_nothing() -> None:
    assert events_of(read_all(Wire.OLLAMA, TEXT + b"\n")) == TEXT_EVENTS
    twice = stream_events(line(content="x"), done(), done("length"))
    assert [type(event) for event in twice] == [TextDelta, Finished, UsageReported]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("an error was encountered while running the model", FailureKind.SERVER_ERROR),
        ("the input length exceeds the context length", FailureKind.CONTEXT_TOO_LONG),
        ("you (someone) have reached your weekly usage limit, upgrade for higher limits", FailureKind.QUOTA_EXHAUSTED),
    ],
)
def test_an_error_inside_a_stream_is_told(error: str, kind: FailureKind) -> None:
    for stream in (ndjson(line(content="x"), {"error": error}), ndjson({"error": error})):
        for ended in (stream, stream.rstrip()):
            failure = failure_of(ended)
            assert failure.kind is kind
            assert failure.message == error


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", b"{}", b'{"message":{"content":"x"}}', b'{"message":"x","done":true}', TEXT]
)
def test_a_whole_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is FailureKind.MALFORMED


def test_an_error_with_a_good_status_is_an_error() -> None:
    with pytest.raises(ProviderError, match="the model has crashed"):
        CODEC.read_answer(b'{"error":"the model has crashed"}')


def test_half_characters_do_not_spoil_an_answer() -> None:
    stream = b'{"message":{"content":"x\\ud83d"}}\n{"message":{"content":"\\ude00"},"done":true}\n'
    assert events_of(read_all(Wire.OLLAMA, stream))[1:3] == [TextDelta("x"), TextDelta("😀")]
    assert CODEC.read_answer(b'{"message":{"content":"x\\ud83d"},"done":true}').events[1] == TextDelta("x")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_of_the_providers(stream: bytes) -> None:
    for prefix in (b"", b'{"message":', b'{"message":{"tool_calls":[{"function":{"arguments":'):
        with pytest.raises(ProviderError):
            read_all(Wire.OLLAMA, prefix + stream)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", FailureKind.UNSUPPORTED),
        (400, "the input length exceeds the context length", FailureKind.CONTEXT_TOO_LONG),
        (
            400,
            "the prompt is longer than the context length currently available to the model",
            FailureKind.CONTEXT_TOO_LONG,
        ),
        (401, "unauthorized", FailureKind.AUTHENTICATION),
        (403, "this model requires a subscription", FailureKind.PERMISSION),
        (404, 'model "llama9" not found, try pulling it first', FailureKind.MODEL_NOT_FOUND),
        (429, "too many concurrent requests", FailureKind.RATE_LIMITED),
        (429, "you've reached your hourly usage limit, please wait or upgrade", FailureKind.RATE_LIMITED),
        (429, "you (x) have reached your weekly usage limit, upgrade", FailureKind.QUOTA_EXHAUSTED),
        (429, "you (x) have reached your session usage limit, upgrade", FailureKind.QUOTA_EXHAUSTED),
        (500, "model requires more system memory (5.3 GiB) than is available", FailureKind.SERVER_ERROR),
        (502, "bad gateway", FailureKind.SERVER_ERROR),
        (503, "server busy, please try again.  maximum pending requests exceeded", FailureKind.OVERLOADED),
    ],
)
def test_refusals_are_the_kind_they_mean(status: int, error: str, kind: FailureKind) -> None:
    failure = read_failure(status, {}, msgspec.json.encode({"error": error}))
    assert failure.kind is kind
    assert failure.message == " ".join(error.split())


@pytest.mark.parametrize(
    "good",
    [
        line(content="x", thinking="y", tool_calls=[call("f", {"x": 1}, id="a")]),
        done("stop", content="x", tool_calls=[call("f", "{}")]),
        {"error": {"message": "x"}},
    ],
)
def test_wrong_types_are_provider_errors_or_passed_by(good: dict[str, Any]) -> None:
    for body in map(msgspec.json.encode, spoiled(good)):
        with suppress(ProviderError):
            read_all(Wire.OLLAMA, body + b"\n")
        with suppress(ProviderError):
            assert CODEC.read_answer(body).raw == body
        assert read_failure(500, {}, body).message
