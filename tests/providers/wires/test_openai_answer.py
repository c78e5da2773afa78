from typing import Any

import msgspec
import pytest

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
from tests.providers.wires.builders import events_of, raw_of, read_all, reader, sse

CODEC = WIRES[Wire.OPENAI]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> Any:
    sent: dict[str, Any] = {"type": "function", "function": {"arguments": arguments}}
    if index is not None:
        sent["index"] = index
    if call_id is not None:
        sent["id"] = call_id
    if name is not None:
        sent["function"]["name"] = name
    return {"tool_calls": [sent]}


def usage_chunk(**usage: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": usage}


TEXT = sse(
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"content": "Grüß"}, usage=None),
    chunk({"content": " dich"}, usage=None),
    chunk(finish="stop", usage=None),
    usage_chunk(
        prompt_tokens=100,
        completion_tokens=20,
        total_tokens=120,
        prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 30},
        completion_tokens_details={"reasoning_tokens": 5},
    ),
    done=True,
)
TEXT_EVENTS: list[StreamEvent] = [
    Started("c1"),
    TextDelta("Grüß"),
    TextDelta(" dich"),
    Finished(FinishReason.STOP),
    UsageReported(Usage(10, 60, 30, 20, 5)),
]


def stream_events(*chunks: dict[str, Any]) -> list[StreamEvent]:
    return events_of(read_all(Wire.OPENAI, sse(*chunks, done=True)))


def failure_of(stream: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.OPENAI, stream)
    return caught.value.failure


def test_a_text_stream_is_read_in_order_and_kept_byte_for_byte() -> None:
    frames = read_all(Wire.OPENAI, TEXT)
    assert events_of(frames) == TEXT_EVENTS
    assert raw_of(frames) == TEXT
    assert len(frames) == 6


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    for stream in (TEXT, TEXT.replace(b"\n", b"\r\n")):
        for place in range(len(stream) + 1):
            answer = reader(Wire.OPENAI)
            frames = answer.feed(stream[:place]) + answer.feed(stream[place:]) + answer.close()
            assert events_of(frames) == TEXT_EVENTS, place
            assert raw_of(frames) == stream


def test_byte_by_byte_gives_the_same_events() -> None:
    answer = reader(Wire.OPENAI)
    frames = [frame for i in range(len(TEXT)) for frame in answer.feed(TEXT[i : i + 1])]
    assert events_of(frames + answer.close()) == TEXT_EVENTS


def test_the_usage_chunk_is_kept_back_from_callers_who_did_not_ask() -> None:
    frames = read_all(Wire.OPENAI, TEXT, include_usage=False)
    assert events_of(frames) == TEXT_EVENTS
    assert b'"choices":[]' not in raw_of(frames)
    assert raw_of(frames).endswith(b"data: [DONE]\n\n")


def test_a_chunk_without_choices_or_usage_is_passed_on() -> None:
    azure = {"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    frames = read_all(Wire.OPENAI, sse(azure) + TEXT, include_usage=False)
    assert frames[0].raw == sse(azure)
    assert frames[0].events == ()
    assert frames[1].events == (Started("c1"),)


def test_keep_alives_are_passed_on_without_events() -> None:
    frames = read_all(Wire.OPENAI, b": OPENROUTER PROCESSING\n\n" + TEXT)
    assert frames[0].raw == b": OPENROUTER PROCESSING\n\n"
    assert events_of(frames) == TEXT_EVENTS


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_by_either_name(field: str) -> None:
    assert stream_events(chunk({field: "hm"}), chunk({"content": "42"}, "stop")) == [
        Started("c1"),
        ReasoningDelta("hm"),
        TextDelta("42"),
        Finished(FinishReason.STOP),
    ]


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        pytest.param(
            [call(0, "a", "f"), call(0, arguments='{"x"'), call(0, arguments=":1}"), call(1, "b", "g", "{}")],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
            id="as OpenAI sends them",
        ),
        pytest.param([call(0, "a", "f", "")], [("a", "f", "")], id="no arguments at all"),
        pytest.param(
            [call(3, "a", "f", "{}"), call(7, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")], id="gaps"
        ),
        pytest.param(
            [call(1, "a", "f", "{}"), call(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")], id="down"
        ),
        pytest.param(
            [call(0, "a", "f", '{"x"'), call(0, "a", "f", ":1}")], [("a", "f", '{"x":1}')], id="id and name every time"
        ),
        pytest.param(
            [call(0, "a", "f", "{}"), call(0, "b", "f", "{}")],
            [("a", "f", "{}"), ("b", "f", "{}")],
            id="index repeated",
        ),
        pytest.param(
            [call(0, "", "f", '{"x":1}'), call(0, "", "f", '{"x":2}')],
            [("call_0", "f", '{"x":1}'), ("call_1", "f", '{"x":2}')],
            id="whole calls at index 0 without ids",
        ),
        pytest.param(
            [call(None, "a", "f", '{"x"'), call(arguments=":1}"), call(None, "b", "g", "{}")],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
            id="no index",
        ),
        pytest.param(
            [
                call(None, "a", "f", "{"),
                call(None, "b", "g", "{"),
                call(None, "a", None, "}"),
                call(None, "b", None, "}"),
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
            id="no index, told by id",
        ),
        pytest.param(
            [call(None, None, "f", "{}"), call(None, None, "g", "{}")],
            [("call_0", "f", "{}"), ("call_1", "g", "{}")],
            id="neither index nor id",
        ),
    ],
)
def test_tool_calls_are_numbered_from_0_however_they_are_sent(
    deltas: list[dict[str, Any]], calls: list[tuple[str, str, str]]
) -> None:
    events = stream_events(*(chunk(delta) for delta in deltas), chunk(finish="tool_calls"))
    assert [event for event in events if isinstance(event, ToolCallStart)] == [
        ToolCallStart(index, call_id, name) for index, (call_id, name, _) in enumerate(calls)
    ]
    for index, (_, _, arguments) in enumerate(calls):
        pieces = [event.arguments for event in events if isinstance(event, ToolCallDelta) and event.index == index]
        assert "".join(pieces) == arguments
    assert events[-1] == Finished(FinishReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.STOP),
    ],
)
def test_finish_reasons_are_told_in_our_words(sent: str, reason: FinishReason) -> None:
    assert stream_events(chunk({"content": "x"}, sent))[-1] == Finished(reason)


def test_a_call_that_ends_in_stop_still_wants_its_tool_run() -> None:
    assert stream_events(chunk(call(0, "a", "f", "{}")), chunk(finish="stop"))[-1] == Finished(FinishReason.TOOL_CALLS)


def test_the_end_is_told_once_and_what_follows_is_tolerated() -> None:
    events = stream_events(chunk({"content": "x"}, ""), chunk(finish="stop"), chunk(finish="stop"), chunk())
    assert events == [Started("c1"), TextDelta("x"), Finished(FinishReason.STOP)]


def test_with_several_choices_all_text_counts_and_the_first_one_ends_the_answer() -> None:
    second = chunk({"content": "b"}, "stop")
    second["choices"][0]["index"] = 1
    events = stream_events(chunk({"content": "a"}), second, chunk(finish="length"))
    assert events == [Started("c1"), TextDelta("a"), TextDelta("b"), Finished(FinishReason.LENGTH)]


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Usage(5, 0, 0, 2)),
        ({"x_groq": {"id": "r", "usage": {"prompt_tokens": 18, "completion_tokens": 4}}}, Usage(18, 0, 0, 4)),
        (
            {
                "usage": {"prompt_tokens": 0, "completion_tokens": 31},
                "x_groq": {"usage": {"prompt_tokens": 21, "completion_tokens": 31}},
            },
            Usage(21, 0, 0, 31),
        ),
        # Reasoning outside of completion_tokens (Gemini's OpenAI endpoint).
        ({"usage": {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}}, Usage(20, 0, 0, 603, 405)),
        ({"usage": {"completion_tokens": 3, "total_tokens": 50}}, Usage(0, 0, 0, 3)),
        (
            {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}}},
            Usage(0, 5, 0, 1),
        ),
        ({"usage": {"prompt_tokens": 5.0, "completion_tokens": None, "prompt_tokens_details": None}}, Usage(5)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 10**30}}, Usage(0, 0, 0, 2**31 - 1)),
    ],
)
def test_usage_comes_in_disjoint_buckets(fields: dict[str, Any], usage: Usage) -> None:
    assert stream_events(chunk({"content": "x"}, "stop", **fields))[-1] == UsageReported(usage)


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b'data: {"id":"c1","cho', b": bye\n\n"])
def test_a_stream_without_a_finish_reason_is_broken(end: bytes) -> None:
    assert failure_of(sse(chunk({"content": "Hel"})) + end).kind is FailureKind.STREAM_BROKEN


def test_an_answer_that_ends_without_a_blank_line_is_whole() -> None:
    assert events_of(read_all(Wire.OPENAI, sse(chunk({"content": "x"}, "stop"))[:-2])) == [
        Started("c1"),
        TextDelta("x"),
        Finished(FinishReason.STOP),
    ]


@pytest.mark.parametrize(
    ("payload", "kind", "message"),
    [
        (b'{"error":{"message":"slow","type":"server_error"}}', FailureKind.SERVER_ERROR, "slow"),
        (b'{"error":{"message":"full","code":503}}', FailureKind.OVERLOADED, "full"),
        (b'{"error":{"message":"wait","type":"rate_limit_error"}}', FailureKind.RATE_LIMITED, "wait"),
        (b'{"error":"boom"}', FailureKind.SERVER_ERROR, "boom"),
        (b'{"object":"error","message":"bad","code":400}', FailureKind.BAD_REQUEST, "bad"),
        (b'{"choices":[{"delta":{},"finish_reason":"error"}]}', FailureKind.STREAM_BROKEN, ""),
        (b'{"choices":[],"x_groq":{"error":"over capacity"}}', FailureKind.STREAM_BROKEN, "over capacity"),
    ],
)
def test_an_error_inside_the_stream_is_raised_after_what_came_before(
    payload: bytes, kind: FailureKind, message: str
) -> None:
    answer = reader(Wire.OPENAI)
    frames = answer.feed(sse(chunk({"content": "Hel"})) + b"event: error\ndata: " + payload + b"\n\n")
    assert events_of(frames) == [Started("c1"), TextDelta("Hel")]
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            answer.feed(TEXT)
        assert caught.value.failure.kind is kind
        assert message in caught.value.failure.message
    with pytest.raises(ProviderError):
        answer.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[]",
        b'"text"',
        b'{"choices":{}}',
        b'{"choices":[null]}',
        b'{"choices":[{"delta":"x"}]}',
        b'{"choices":[{"delta":{"content":7}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":"0"}]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}',
        b'{"choices":[],"usage":"many"}',
        b'{"choices":[],"usage":{"prompt_tokens":"5"}}',
        b'{"id":7,"choices":[]}',
        b'{"id":"\xff","choices":[]}',
        b'{"id":"c1","choices":[',
        b"[" * 100_000,
        b'{"error":' + b"[" * 100_000,
    ],
)
def test_what_is_no_chunk_is_malformed(payload: bytes) -> None:
    assert failure_of(b"data: " + payload + b"\n\n").kind is FailureKind.MALFORMED
    with pytest.raises(ProviderError):
        CODEC.read_answer(payload)


def test_objects_of_no_known_kind_are_passed_by() -> None:
    frames = read_all(Wire.OPENAI, b'data: {"type":"ping"}\n\n' + TEXT)
    assert events_of(frames) == TEXT_EVENTS


# --- whole answers -----------------------------------------------------------------------------------------------


def whole(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    return msgspec.json.encode(
        {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
    )


def test_a_whole_answer_has_the_events_of_its_stream() -> None:
    body = whole(
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        "tool_calls",
        usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    )
    frame = CODEC.read_answer(body)
    assert frame.raw is body
    assert list(frame.events) == [
        Started("c1"),
        ReasoningDelta("hm"),
        TextDelta("Let me look."),
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, '{"x":1}'),
        ToolCallStart(1, "b", "g"),
        Finished(FinishReason.TOOL_CALLS),
        UsageReported(Usage(9, 0, 0, 4)),
    ]


def test_a_whole_answer_without_a_finish_reason_is_finished_all_the_same() -> None:
    body = whole({"content": "x"}, None, x_groq={"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    assert CODEC.read_answer(body).events == (
        Started("c1"),
        TextDelta("x"),
        Finished(FinishReason.STOP),
        UsageReported(Usage(1, 0, 0, 2)),
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><title>Welcome</title></html>", FailureKind.MALFORMED),
        (b"", FailureKind.MALFORMED),
        (b'{"id":"c1","choices":[]}', FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"error":{"message":"no","code":"context_length_exceeded"}}', FailureKind.CONTEXT_TOO_LONG),
    ],
)
def test_a_body_that_is_no_completion_is_an_error(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is kind
