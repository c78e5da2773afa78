"""Reads answers as Gemini writes them, whole and streamed."""

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
    ReasoningProof,
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
from tests.providers.wires.builders import events_of, raw_of, read_all, reader, sse
from tests.providers.wires.gemini_words import answer, call, text, usage
from tests.providers.wires.test_wrong_types import spoiled

CODEC = WIRES[Wire.GEMINI]
STARTED = Started("r3sP_0nse-Id")
STOP = Finished(FinishReason.STOP)
USED = UsageReported(Usage(10, output_tokens=5))


def streamed(*chunks: dict[str, Any]) -> list[StreamEvent]:
    return events_of(read_all(Wire.GEMINI, sse(*chunks)))


def whole(body: Any) -> list[StreamEvent]:
    return list(CODEC.read_answer(msgspec.json.encode(body)).events)


def failure_of(body: Any) -> Failure:
    """The same, whole and streamed."""
    with pytest.raises(ProviderError) as caught:
        whole(body)
    with pytest.raises(ProviderError) as in_stream:
        streamed(body)
    assert in_stream.value.failure == caught.value.failure
    return caught.value.failure


def both(body: dict[str, Any]) -> list[StreamEvent]:
    """The events of a whole answer, which are those of a stream of one chunk."""
    assert streamed(body) == whole(body)
    return whole(body)


# --- texts, thoughts, calls ---------------------------------------------------------------------------------------


def test_a_text_stream_is_read_in_order_with_the_prompts_count_first() -> None:
    stream = sse(
        answer(text("Grüß"), usageMetadata={"promptTokenCount": 10, "totalTokenCount": 10}),
        answer(text(" dich"), **usage(10, 3)),
        answer(text(""), finish="STOP", **usage(10, 5)),
    )
    frames = read_all(Wire.GEMINI, stream)
    assert raw_of(frames) == stream
    assert events_of(frames) == [
        STARTED,
        UsageReported(Usage(10)),
        TextDelta("Grüß"),
        TextDelta(" dich"),
        STOP,
        USED,
    ]


def test_a_whole_answer_has_the_same_events() -> None:
    assert both(answer(text("Hello"), finish="STOP", **usage())) == [STARTED, TextDelta("Hello"), STOP, USED]


@pytest.mark.parametrize("finish", [None, "FINISH_REASON_UNSPECIFIED"])
def test_a_whole_answer_has_ended_even_if_it_does_not_say_so(finish: str | None) -> None:
    assert whole(answer(text("Hello"), finish=finish)) == [STARTED, TextDelta("Hello"), STOP]


def test_an_answer_may_be_empty() -> None:
    assert both({"candidates": [{"finishReason": "STOP", "index": 0}], **usage()}) == [Started(""), STOP, USED]


def test_usage_may_come_after_the_end() -> None:
    end = {"responseId": "r", "usageMetadata": usage()["usageMetadata"]}
    assert streamed(answer(text("x"), finish="STOP"), end) == [STARTED, TextDelta("x"), STOP, USED]


def test_only_the_first_candidate_is_read() -> None:
    first = answer(text("a"), finish="STOP")
    other = {**answer(text("b"), finish="MAX_TOKENS")["candidates"][0], "index": 1}
    assert both({**first, "candidates": [other, *first["candidates"]]}) == [STARTED, TextDelta("a"), STOP]


def test_thoughts_are_told_from_texts_and_closed_by_their_proof() -> None:
    assert both(
        answer(
            text("Hm", thought=True),
            text(" so", thought=True),
            text("Yes", thoughtSignature="pr00f"),
            text("!"),
            finish="STOP",
        )
    ) == [
        STARTED,
        ReasoningDelta("Hm"),
        ReasoningDelta(" so"),
        ReasoningProof("pr00f", vendor="gemini"),
        TextDelta("Yes"),
        TextDelta("!"),
        STOP,
    ]


def test_a_proof_may_stand_on_the_thought_itself() -> None:
    body = answer(text("Hm", thought=True, thoughtSignature="p"), text("Yes", thoughtSignature="q"), finish="STOP")
    assert both(body) == [STARTED, ReasoningDelta("Hm"), ReasoningProof("p", vendor="gemini"), TextDelta("Yes"), STOP]


def test_a_caller_who_sees_no_thoughts_sees_no_proof_of_them() -> None:
    assert both(answer(text("Yes"), text("", thoughtSignature="p"), finish="STOP")) == [STARTED, TextDelta("Yes"), STOP]


def test_calls_carry_their_proof_and_end_in_tool_calls() -> None:
    assert both(
        answer(
            text("Let me look."),
            call("weather", {"city": "Oslo", "days": [1, 2.5]}, id="x7", thoughtSignature="pr00f"),
            call("clock", {}, id="x8"),
            call("nothing"),
            finish="STOP",
        )
    ) == [
        STARTED,
        TextDelta("Let me look."),
        ToolCallStart(0, "x7", "weather", "pr00f"),
        ToolCallDelta(0, '{"city":"Oslo","days":[1,2.5]}'),
        ToolCallStart(1, "x8", "clock"),
        ToolCallStart(2, "call_r3sP_0nse-Id_2", "nothing"),
        Finished(FinishReason.TOOL_CALLS),
    ]


def test_a_shown_thought_before_a_call_is_closed_by_the_calls_proof() -> None:
    events = both(answer(text("Hm", thought=True), call("f", id="x", thoughtSignature="p"), finish="STOP"))
    assert events[1:4] == [ReasoningDelta("Hm"), ReasoningProof("p", vendor="gemini"), ToolCallStart(0, "x", "f", "p")]


def test_calls_in_several_chunks_are_counted_on() -> None:
    events = streamed(answer(call("f", {"a": 1})), answer(call("f", {"a": 1})), answer(finish="STOP"))
    assert events == [
        STARTED,
        ToolCallStart(0, "call_r3sP_0nse-Id_0", "f"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallStart(1, "call_r3sP_0nse-Id_1", "f"),
        ToolCallDelta(1, '{"a":1}'),
        Finished(FinishReason.TOOL_CALLS),
    ]


def call_ids(response_id: str | None, *names: str) -> list[str]:
    body = {**answer(*(call(name) for name in names), finish="STOP"), "responseId": response_id}
    return [event.id for event in both(body) if isinstance(event, ToolCallStart)]


def test_an_invented_id_is_told_apart_from_those_of_other_answers() -> None:
    one, other = call_ids("Ab3", "f", "f"), call_ids("Cd4", "f", "f")
    assert one == ["call_Ab3_0", "call_Ab3_1"]
    assert call_ids("Ab3", "f", "f") == one
    assert not set(one) & set(other)


@pytest.mark.parametrize("response_id", [None, "", "x" * 200, "a/b+c=ü "])
def test_an_invented_id_is_one_that_every_vendor_takes(response_id: str | None) -> None:
    [found] = call_ids(response_id, "a" * 100 + ".:ü")
    assert len(found) <= 40
    assert found.replace("_", "").replace("-", "").isalnum()
    assert found.isascii()


def test_arguments_are_the_same_text_whether_streamed_or_not() -> None:
    """Unstreamed answers are indented."""
    body = answer(call("f", {"big": 12345678901234567890, "n": 1.0, "text": "ü\n"}), finish="STOP")
    indented = msgspec.json.format(msgspec.json.encode(body), indent=2)
    assert list(CODEC.read_answer(indented).events) == streamed(body)
    assert '{"big":12345678901234567890,"n":1.0,"text":"ü\\n"}' in [
        event.arguments for event in streamed(body) if isinstance(event, ToolCallDelta)
    ]


def test_parts_of_unknown_kinds_are_passed_by() -> None:
    odd: list[dict[str, Any]] = [
        {"executableCode": {"code": "1"}},
        {"inlineData": {"data": "AAAA"}},
        {"aNewKind": [1]},
        {},
    ]
    assert both({**answer(*odd, text("x"), finish="STOP"), "aNewField": {"deep": [1]}}) == [
        STARTED,
        TextDelta("x"),
        STOP,
    ]


# --- endings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("STOP", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("RECITATION", FinishReason.CONTENT_FILTER),
        ("LANGUAGE", FinishReason.CONTENT_FILTER),
        ("BLOCKLIST", FinishReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER),
        ("SPII", FinishReason.CONTENT_FILTER),
        ("IMAGE_SAFETY", FinishReason.CONTENT_FILTER),
        ("OTHER", FinishReason.CONTENT_FILTER),
        ("A_NEW_ONE", FinishReason.CONTENT_FILTER),
    ],
)
def test_finish_reasons_are_told_in_our_words(sent: str, reason: FinishReason) -> None:
    assert both(answer(text("x"), finish=sent))[-1] == Finished(reason)


def test_a_call_that_was_cut_off_ends_at_the_limit() -> None:
    assert both(answer(call("f"), finish="MAX_TOKENS"))[-1] == Finished(FinishReason.LENGTH)


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    ],
)
def test_an_answer_that_is_none_is_a_failure_that_may_be_tried_again(reason: str) -> None:
    body = answer(text(",broken:{"), finish=reason)
    body["candidates"][0]["finishMessage"] = "Malformed function call: print(f())"
    failure = failure_of(body)
    assert (failure.kind, failure.vendor_code) == (FailureKind.SERVER_ERROR, reason)
    assert failure.message == f"the model stopped with {reason} Malformed function call: print(f())"


def test_the_end_is_told_once_and_what_follows_is_tolerated() -> None:
    end = answer(finish="STOP", **usage(10, 6))
    events = streamed(answer(text("x"), finish="STOP", **usage()), end)
    assert events == [STARTED, TextDelta("x"), STOP, USED, UsageReported(Usage(10, output_tokens=6))]


def test_a_done_marker_that_is_not_geminis_is_tolerated() -> None:
    stream = sse(answer(text("x"), finish="STOP"), done=True) + b": bye\n\n"
    assert events_of(read_all(Wire.GEMINI, stream)) == [STARTED, TextDelta("x"), STOP]


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b'data: {"candidates": [{"finishRea', b": bye\n\n"])
def test_a_stream_without_a_finish_reason_is_broken(end: bytes) -> None:
    unspecified = answer(text("o"), finish="FINISH_REASON_UNSPECIFIED")
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.GEMINI, sse(answer(text("Hel")), unspecified) + end)
    assert caught.value.failure.kind is FailureKind.STREAM_BROKEN


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feedback", "message"),
    [
        ({"blockReason": "SAFETY"}, "the prompt was blocked: SAFETY"),
        (
            {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Try another."},
            "the prompt was blocked: PROHIBITED_CONTENT Try another.",
        ),
    ],
)
def test_a_blocked_prompt_is_a_filtered_request(feedback: dict[str, str], message: str) -> None:
    failure = failure_of({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}, "responseId": "r"})
    assert failure.kind is FailureKind.CONTENT_FILTERED
    assert failure.message.strip() == message
    assert failure.vendor_code == feedback["blockReason"]


def test_feedback_without_a_block_says_nothing() -> None:
    body = answer(text("x"), finish="STOP", promptFeedback={"safetyRatings": []})
    assert both(body) == [STARTED, TextDelta("x"), STOP]


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        (503, "UNAVAILABLE", "The model is overloaded.", FailureKind.OVERLOADED),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded", FailureKind.RATE_LIMITED),
        (500, "INTERNAL", "An internal error has occurred", FailureKind.SERVER_ERROR),
        (504, "DEADLINE_EXCEEDED", "Deadline expired", FailureKind.TIMEOUT),
        (400, "INVALID_ARGUMENT", "Function call is missing a thought_signature", FailureKind.BAD_REQUEST),
    ],
)
@pytest.mark.parametrize("in_list", [False, True])
def test_an_error_with_status_200_is_read(
    code: int, status: str, message: str, kind: FailureKind, in_list: bool
) -> None:
    error = {"error": {"code": code, "message": message, "status": status}}
    failure = failure_of([error] if in_list else error)
    assert (failure.kind, failure.http_status, failure.vendor_code, failure.message) == (kind, code, status, message)


@pytest.mark.parametrize("framed", [sse(ERROR), msgspec.json.format(msgspec.json.encode(ERROR), indent=2) + b"\n\n"])
def test_an_error_inside_a_stream_comes_after_what_was_said(framed: bytes) -> None:
    """Google has sent it without `data:` too."""
    open_answer = reader(Wire.GEMINI)
    assert TextDelta("Hel") in events_of(open_answer.feed(sse(answer(text("Hel"))) + framed))
    with pytest.raises(ProviderError) as caught:
        open_answer.close()
    assert caught.value.failure.kind is FailureKind.OVERLOADED


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b"{", b'{"a":1}', b'{"candidates":[]}', b"[1]", b"\xff"]
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    assert caught.value.failure.kind is FailureKind.MALFORMED


def test_a_chunk_that_is_no_json_is_malformed() -> None:
    with pytest.raises(ProviderError) as caught:
        read_all(Wire.GEMINI, b"data: {not json}\n\n")
    assert caught.value.failure.kind is FailureKind.MALFORMED


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, Usage()),
        ({"promptTokenCount": 10, "candidatesTokenCount": 5}, Usage(10, output_tokens=5)),
        (
            {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5, "totalTokenCount": 15},
            Usage(6, 4, output_tokens=5),
        ),
        (
            {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 20, "totalTokenCount": 35},
            Usage(10, output_tokens=25, reasoning_tokens=20),
        ),
        (  # without a total
            {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 20},
            Usage(10, output_tokens=25, reasoning_tokens=20),
        ),
        (  # thoughts among the candidates
            {"promptTokenCount": 10, "candidatesTokenCount": 25, "thoughtsTokenCount": 20, "totalTokenCount": 35},
            Usage(10, output_tokens=25, reasoning_tokens=20),
        ),
        (
            {"promptTokenCount": 10, "toolUsePromptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 22},
            Usage(17, output_tokens=5),
        ),
        ({"promptTokenCount": 3, "cachedContentTokenCount": 9}, Usage(0, 3)),
        ({"promptTokenCount": 10, "thoughtsTokenCount": 8, "totalTokenCount": 18}, Usage(10, 0, 0, 8, 8)),
        ({"promptTokenCount": -1, "candidatesTokenCount": None, "totalTokenCount": -7}, Usage()),
    ],
)
def test_tokens_are_counted_in_disjoint_buckets(sent: dict[str, Any], expected: Usage) -> None:
    assert both(answer(text("x"), finish="STOP", usageMetadata=sent))[-1] == UsageReported(expected)


# --- properties ---------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PROOFS = st.sampled_from([{}, {"thoughtSignature": "pr00f=="}])
ARGS = st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS, max_size=3)
PARTS = st.one_of(
    st.builds(lambda written, proof: text(written, **proof), TEXTS, PROOFS),
    st.builds(lambda written, proof: text(written, thought=True, **proof), TEXTS, PROOFS),
    st.builds(lambda args, proof: call("f", args, **proof), ARGS, PROOFS),
    st.builds(lambda number: call("g", id=f"id{number}"), st.integers(0, 9)),
)
CONTENT = st.lists(PARTS, max_size=6)
ENDINGS = st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"])


@given(CONTENT, ENDINGS)
def test_a_stream_says_what_the_whole_answer_says(content: list[dict[str, Any]], finish: str) -> None:
    counts = usage(10, 5, thoughtsTokenCount=2)
    one_by_one = [answer(part) for part in content]
    expected = whole(answer(*content, finish=finish, **counts))
    assert streamed(*one_by_one, answer(finish=finish, **counts)) == expected
    assert streamed(answer(*content), answer(finish=finish, **counts)) == expected
    assert streamed(answer(*content, finish=finish, **counts)) == expected


@given(CONTENT, ENDINGS, st.lists(st.integers(0, 2000), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_every_cut_gives_the_same_events_and_bytes(
    content: list[dict[str, Any]], finish: str, cuts: list[int], line_end: bytes
) -> None:
    stream = sse(*(answer(part) for part in content), answer(finish=finish, **usage())).replace(b"\n", line_end)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    cut = reader(Wire.GEMINI)
    frames = [frame for a, b in pairwise(places) for frame in cut.feed(stream[a:b])] + cut.close()
    assert events_of(frames) == events_of(read_all(Wire.GEMINI, stream))
    assert raw_of(frames) == stream


NAMES = st.sampled_from(
    "candidates content parts text functionCall args id name usageMetadata promptTokenCount totalTokenCount "
    "finishReason promptFeedback blockReason error code message responseId index thought".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@given(ANYTHING)
def test_whatever_comes_is_one_answer_or_a_provider_error(body: Any) -> None:
    for read in (whole, streamed):
        with suppress(ProviderError):
            assert sum(isinstance(event, Finished) for event in read(body)) == 1


@pytest.mark.parametrize(
    "good",
    [
        answer(
            text("x", thought=True, thoughtSignature="p"), call("f", {"a": 1}, id="i"), finish="STOP", **usage(9, 1)
        ),
        {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "m"}, "responseId": "r"},
        ERROR,
    ],
)
def test_wrong_types_are_provider_errors_or_passed_by(good: dict[str, Any]) -> None:
    for body in map(msgspec.json.encode, spoiled(good)):
        with suppress(ProviderError):
            read_all(Wire.GEMINI, b"data: " + body + b"\n\n")
        with suppress(ProviderError):
            assert CODEC.read_answer(body).raw == body
        assert read_failure(500, {}, body).message
