"""OpenAI's Responses wire, the answers: whole and streamed, by OpenAI and by those who copy it."""

from collections.abc import Iterable
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
from providers.wires.failure_reading import read_failure
from tests.providers.wires.builders import events_of, named_sse, raw_of, read_all, reader
from tests.providers.wires.responses_words import (
    USAGE,
    Event,
    Item,
    call,
    item_events,
    message,
    refused,
    response,
    said,
    stream_of,
    thought,
)

WIRE = Wire.OPENAI_RESPONSES
CODEC = WIRES[WIRE]
COUNTED = UsageReported(Usage(10, 60, 30, 20, 5))
STOPPED = Finished(FinishReason.STOP)


# --- reading -------------------------------------------------------------------------------------------------------


def whole_events(answer: Item) -> list[StreamEvent]:
    body = msgspec.json.encode(answer)
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    return list(frame.events)


def stream_events(*events: Event) -> list[StreamEvent]:
    return events_of(read_all(WIRE, named_sse(*events)))


def merged(events: Iterable[StreamEvent]) -> list[StreamEvent]:
    """The same events with neighbouring pieces of one text joined."""
    joined: list[StreamEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        match last, event:
            case (TextDelta(a), TextDelta(b)):
                joined[-1] = TextDelta(a + b)
            case (RefusalDelta(a), RefusalDelta(b)):
                joined[-1] = RefusalDelta(a + b)
            case (ReasoningDelta(a), ReasoningDelta(b)):
                joined[-1] = ReasoningDelta(a + b)
            case (ToolCallDelta(i, a), ToolCallDelta(j, b)) if i == j:
                joined[-1] = ToolCallDelta(i, a + b)
            case _:
                joined.append(event)
    return joined


def failure_of_stream(stream: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read_all(WIRE, stream)
    return caught.value.failure


def failure_of_whole(body: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        CODEC.read_answer(body)
    return caught.value.failure


CREATED = {"type": "response.created", "response": response(status="in_progress")}
COMPLETED = {"type": "response.completed", "response": response()}
ANSWER = [
    thought("**Weather**\n\nI look it up.", "**Time**\n\nThat too.", encrypted="gAAAA"),
    message("Grüß dich 🙂"),
    call("get_weather", '{"city":"Kraków"}', call_id="call_a", item_id="fc_a"),
    call("get_time", "{}", call_id="call_b", item_id="fc_b"),
]
ANSWER_EVENTS: list[StreamEvent] = [
    Started("resp_1"),
    ReasoningDelta("**Weather**\n\nI look it up.\n\n**Time**\n\nThat too."),
    ReasoningProof(encrypted="gAAAA", vendor="openai", id="rs_1"),
    TextDelta("Grüß dich 🙂"),
    ToolCallStart(0, "call_a", "get_weather"),
    ToolCallDelta(0, '{"city":"Kraków"}'),
    ToolCallStart(1, "call_b", "get_time"),
    ToolCallDelta(1, "{}"),
    Finished(FinishReason.TOOL_CALLS),
    COUNTED,
]


def test_a_whole_answer_is_read_in_the_order_of_its_items() -> None:
    assert whole_events(response(*ANSWER)) == ANSWER_EVENTS


def test_a_stream_says_what_the_whole_answer_says_and_is_kept_byte_for_byte() -> None:
    stream = stream_of(*ANSWER)
    frames = read_all(WIRE, stream)
    assert merged(events_of(frames)) == ANSWER_EVENTS
    assert raw_of(frames) == stream
    assert len(events_of(frames)) > len(ANSWER_EVENTS)


def test_text_is_handed_on_piece_by_piece() -> None:
    frames = read_all(WIRE, stream_of(message("Hello"), size=2))
    assert events_of(frames) == [
        Started("resp_1"), TextDelta("He"), TextDelta("ll"), TextDelta("o"), STOPPED, COUNTED,
    ]  # fmt: skip


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    stream = stream_of(thought("Hm"), message("Grüß"), call())
    for form in (stream, stream.replace(b"\n", b"\r\n")):
        expected = events_of(read_all(WIRE, form))
        for place in range(len(form) + 1):
            answer = reader(WIRE)
            frames = answer.feed(form[:place]) + answer.feed(form[place:]) + answer.close()
            assert events_of(frames) == expected, place
            assert raw_of(frames) == form


def test_byte_by_byte_gives_the_same_events() -> None:
    stream = stream_of(*ANSWER)
    answer = reader(WIRE)
    frames = [frame for i in range(len(stream)) for frame in answer.feed(stream[i : i + 1])]
    assert merged(events_of(frames + answer.close())) == ANSWER_EVENTS


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ITEMS = st.one_of(
    st.lists(st.builds(said, TEXTS) | st.builds(refused, TEXTS), max_size=1).map(lambda parts: message(*parts)),
    st.builds(lambda a, b, sealed: thought(a, b, encrypted=sealed), TEXTS, TEXTS, st.none() | TEXTS),
    st.builds(lambda text: thought(content=[text]), TEXTS),
    st.builds(lambda name, arguments: call(name or "f", arguments), TEXTS, TEXTS),
    st.just({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}),
)


def with_ids(items: list[Item]) -> list[Item]:
    return [
        {**item, "id": f"item_{i}", **({"call_id": f"call_{i}"} if item["type"] == "function_call" else {})}
        for i, item in enumerate(items)
    ]


@given(st.lists(ITEMS, max_size=6).map(with_ids), st.integers(1, 5))
def test_whatever_the_items_a_stream_says_what_the_whole_answer_says(items: list[Item], size: int) -> None:
    streamed = merged(events_of(read_all(WIRE, stream_of(*items, size=size))))
    assert streamed == merged(whole_events(response(*items)))


@given(st.lists(ITEMS, max_size=4).map(with_ids), st.lists(st.integers(0, 5_000), max_size=8))
def test_whatever_the_cuts_the_events_are_the_same_and_no_byte_is_lost(items: list[Item], cuts: list[int]) -> None:
    stream = stream_of(*items)
    places = [0, *sorted(min(place, len(stream)) for place in cuts), len(stream)]
    answer = reader(WIRE)
    frames = [frame for a, b in pairwise(places) for frame in answer.feed(stream[a:b])] + answer.close()
    assert events_of(frames) == events_of(read_all(WIRE, stream))
    assert raw_of(frames) == stream


# --- what is in it -------------------------------------------------------------------------------------------------


def test_a_refusal_is_told_as_one() -> None:
    expected = [Started("resp_1"), RefusalDelta("I will not."), STOPPED, COUNTED]
    assert whole_events(response(message(refused("I will not.")))) == expected
    assert merged(events_of(read_all(WIRE, stream_of(message(refused("I will not.")))))) == expected


def test_a_proof_is_what_the_finished_item_holds_and_hidden_thought_has_no_text() -> None:
    events = events_of(read_all(WIRE, stream_of(thought(encrypted="all of it"), message("42"))))
    assert events[1] == ReasoningProof(encrypted="all of it", vendor="openai", id="rs_1")
    assert ReasoningDelta("") not in events


def test_a_thought_without_encrypted_content_proves_nothing() -> None:
    for item in (thought("Hm"), thought(content=["Hm"]), thought("Hm", encrypted="")):
        assert whole_events(response(item)) == [Started("resp_1"), ReasoningDelta("Hm"), STOPPED, COUNTED]


def test_what_two_messages_say_is_joined_as_the_sdk_joins_it() -> None:
    answer = response(message("On it. "), message("Done.", item_id="msg_2"))
    assert merged(whole_events(answer))[1] == TextDelta("On it. Done.")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "tool_search_call", "id": "ts_1", "arguments": {"an": "object"}, "call_id": None},
        {"type": "mcp_call", "id": "mcp_1", "name": "n", "arguments": "{}", "output": "done"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c", "name": "n", "input": "text"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]},
        {"type": "something_new", "content": 7, "summary": "x", "arguments": []},
    ],
)
def test_the_vendors_own_tools_pass_by_without_a_meaning(item: Item) -> None:
    expected = [Started("resp_1"), TextDelta("42"), STOPPED, COUNTED]
    assert whole_events(response(item, message("42"))) == expected
    stream = stream_of(item, message("42"))
    frames = read_all(WIRE, stream)
    assert merged(events_of(frames)) == expected
    assert raw_of(frames) == stream


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
        {"type": "response.mcp_call_arguments.delta", "output_index": 0, "item_id": "mcp_1", "delta": '{"a"'},
        {"type": "response.shell_call_output_content.delta", "output_index": 0, "delta": {"stdout": "x"}},
        {"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation"}},
        {"type": "response.image_generation_call.partial_image", "partial_image_b64": "AAAA"},
        {"type": "response.queued", "response": {"id": "other"}},
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.nobody.knows", "delta": 1, "item": 2, "response": 3},
    ],
)
def test_events_nobody_here_knows_pass_by(event: Event) -> None:
    stream = named_sse(CREATED, event) + b": comment\n\n" + named_sse(COMPLETED)
    frames = read_all(WIRE, stream)
    assert events_of(frames) == [Started("resp_1"), STOPPED, COUNTED]
    assert raw_of(frames) == stream


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_output_tokens", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("max_messages", FinishReason.LENGTH),
        ("steered", FinishReason.STOP),
        ("something_new", FinishReason.LENGTH),
        (None, FinishReason.LENGTH),
    ],
)
def test_an_incomplete_answer_says_why(reason: str | None, finish: FinishReason) -> None:
    details = None if reason is None else {"reason": reason}
    answer = response(message("Hel"), call(), status="incomplete", incomplete_details=details, usage=USAGE)
    assert whole_events(answer)[-2:] == [Finished(finish), COUNTED]
    end = {"type": "response.incomplete", "response": answer}
    assert events_of(read_all(WIRE, stream_of(message("Hel"), call(), end=end)))[-2:] == [Finished(finish), COUNTED]


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 0, 0, 2)),
        ({"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 9}}, Usage(0, 5, 0, 2)),
        (
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 9}},
            Usage(0, 4, 5, 0),
        ),
        # Reasoning outside of output_tokens, as xAI counts.
        ({"input_tokens": 20, "output_tokens": 198, "total_tokens": 623}, Usage(20, 0, 0, 603, 405)),
        ({"output_tokens": 3, "total_tokens": 50}, Usage(0, 0, 0, 3)),
        ({"output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 9}}, Usage(0, 0, 0, 3, 3)),
        ({"input_tokens": 5.0, "output_tokens": None, "input_tokens_details": None}, Usage(5)),
        ({"input_tokens": -1, "output_tokens": 10**30}, Usage(0, 0, 0, 2**31 - 1)),
    ],
)
def test_usage_comes_in_disjoint_buckets(sent: Item, usage: Usage) -> None:
    assert whole_events(response(usage=sent))[-1] == UsageReported(usage)
    assert stream_events({"type": "response.completed", "response": response(usage=sent)})[-1] == UsageReported(usage)


def test_an_answer_without_usage_reports_none() -> None:
    assert whole_events(response(message("x"), usage=None))[-1] == STOPPED


def test_characters_that_were_cut_in_half_are_put_together() -> None:
    delta = b'data: {"type":"response.output_text.delta","delta":"%b"}\n\n'
    stream = named_sse(CREATED) + delta % b"Hi \\ud83d" + delta % b"\\ude42!" + named_sse(COMPLETED)
    frames = read_all(WIRE, stream)
    assert merged(events_of(frames)) == [Started("resp_1"), TextDelta("Hi 🙂!"), STOPPED, COUNTED]
    assert raw_of(frames) == stream
    body = b'{"output":[{"type":"message","content":"Hi \\ud83d"}]}'
    assert CODEC.read_answer(body).events[1] == TextDelta("Hi ")


# --- copies --------------------------------------------------------------------------------------------------------


def test_fields_that_small_servers_leave_out_are_not_missed() -> None:
    """Neither ids nor indexes nor usage nor a status, and the text of a message as plain text."""
    small = {"output": [{"type": "reasoning", "content": "Hm"}, {"type": "message", "content": "Hi"}]}
    assert whole_events(small) == [Started(""), ReasoningDelta("Hm"), TextDelta("Hi"), STOPPED]
    assert stream_events(
        {"type": "response.output_item.added", "item": {"type": "message"}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.output_text.delta"},
        {"type": "response.completed", "response": {}},
    ) == [Started(""), TextDelta("Hi"), STOPPED]


def test_an_answer_that_only_its_last_event_tells_is_read_from_there() -> None:
    assert stream_events({"type": "response.completed", "response": response(*ANSWER)}) == ANSWER_EVENTS


def test_items_that_come_whole_are_told_when_they_are_done() -> None:
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate(ANSWER)
    ]
    end = {"type": "response.completed", "response": response(*ANSWER)}
    assert stream_events(CREATED, *done, end) == ANSWER_EVENTS


def test_a_call_whose_arguments_come_with_their_end_only_is_told_then() -> None:
    item = call("f", '{"x":1}')
    added = {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}}
    done = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"x":1}'}
    assert stream_events(CREATED, added, done, {"type": "response.completed", "response": response(item)})[1:4] == [
        ToolCallStart(0, "call_1", "f"),
        ToolCallDelta(0, '{"x":1}'),
        Finished(FinishReason.TOOL_CALLS),
    ]


def test_a_call_that_gets_its_name_late_is_told_with_its_end() -> None:
    events = item_events(call("f", '{"x":1}'), 0)
    events[0]["item"]["name"] = ""
    told = stream_events(CREATED, *events, COMPLETED)
    assert told[1:3] == [ToolCallStart(0, "call_1", "f"), ToolCallDelta(0, '{"x":1}')]


def test_ids_that_are_made_up_anew_for_every_event_do_no_harm() -> None:
    """As GitHub Copilot does; the place and `call_id` stay."""
    items = [call("f", '{"x":1}', call_id="call_a"), call("g", '{"y":2}', call_id="call_b")]
    events = [event for index, item in enumerate(items) for event in item_events(item, index)]
    for number, event in enumerate(events):
        event["item_id"] = f"sealed_{number}"
        if "item" in event:
            event["item"] = {**event["item"], "id": f"other_{number}"}
    end = {"type": "response.completed", "response": response(*items)}
    assert merged(stream_events(CREATED, *events, end))[1:5] == [
        ToolCallStart(0, "call_a", "f"),
        ToolCallDelta(0, '{"x":1}'),
        ToolCallStart(1, "call_b", "g"),
        ToolCallDelta(1, '{"y":2}'),
    ]


def test_call_ids_that_differ_in_the_last_event_do_not_double_a_call() -> None:
    """As with vLLM; what was told first is what the caller answers to."""
    end = {"type": "response.completed", "response": response(call("f", "{}", call_id="another"))}
    told = events_of(read_all(WIRE, stream_of(call("f", "{}", call_id="first"), end=end)))
    assert [event for event in told if isinstance(event, ToolCallStart)] == [ToolCallStart(0, "first", "f")]


def test_call_ids_that_differ_between_a_calls_beginning_and_end_do_not_double_it() -> None:
    events = item_events(call("f", "{}", call_id="first"), 0)
    events[-1]["item"] = {**events[-1]["item"], "id": "x", "call_id": "second"}
    told = stream_events(CREATED, *events, COMPLETED)
    assert [event for event in told if isinstance(event, ToolCallStart)] == [ToolCallStart(0, "first", "f")]


def test_calls_that_all_come_at_one_place_are_told_apart_by_their_ids() -> None:
    items = [call("f", "{}", call_id="a", item_id="fc_a"), call("g", "{}", call_id="b", item_id="fc_b")]
    events = [event for item in items for event in item_events(item, 0)]
    told = merged(stream_events(CREATED, *events, COMPLETED))
    assert told[1:5] == [
        ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"), ToolCallStart(1, "b", "g"), ToolCallDelta(1, "{}"),
    ]  # fmt: skip


def test_calls_that_run_side_by_side_are_told_apart_by_their_place() -> None:
    first, second = (item_events(call(n, '{"x":1}', call_id=n, item_id=n), i, 4) for i, n in enumerate("ab"))
    woven = [event for pair in zip(first, second, strict=True) for event in pair]
    told = stream_events(CREATED, *woven, COMPLETED)
    for index in (0, 1):
        pieces = [event.arguments for event in told if isinstance(event, ToolCallDelta) and event.index == index]
        assert "".join(pieces) == '{"x":1}'


def test_calls_without_any_id_get_one() -> None:
    nameless = [{"type": "function_call", "name": name, "arguments": "{}"} for name in ("f", "g")]
    starts = [event for event in whole_events(response(*nameless)) if isinstance(event, ToolCallStart)]
    assert starts == [ToolCallStart(0, "call_0", "f"), ToolCallStart(1, "call_1", "g")]


def test_the_status_is_believed_more_than_the_name_of_the_last_event() -> None:
    """vLLM ends a stream that was cut at its limit with `response.completed`."""
    cut_off = response(message("Hel"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    end = {"type": "response.completed", "response": cut_off}
    assert events_of(read_all(WIRE, stream_of(message("Hel"), end=end)))[-1] == Finished(FinishReason.LENGTH)


def test_what_follows_the_end_is_passed_on_and_means_nothing() -> None:
    stream = stream_of(message("x"))
    more = named_sse(COMPLETED, {"type": "response.output_text.delta", "delta": "y"}) + b"data: [DONE]\n\n"
    frames = read_all(WIRE, stream + more)
    assert events_of(frames) == events_of(read_all(WIRE, stream))
    assert raw_of(frames) == stream + more


def test_an_end_that_tells_a_message_otherwise_does_not_repeat_it() -> None:
    events = item_events(message("Hello "), 0)
    events[-1]["item"] = message("Hello")
    told = merged(stream_events(CREATED, *events, {"type": "response.completed", "response": response(message("Hi"))}))
    assert told == [Started("resp_1"), TextDelta("Hello "), STOPPED, COUNTED]


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b'data: {"type":"response.comple', b": bye\n\n"])
def test_a_stream_without_its_final_response_is_broken(end: bytes) -> None:
    begun = named_sse(CREATED, *item_events(message("Hel"), 0))
    assert failure_of_stream(begun + end).kind is FailureKind.STREAM_BROKEN


def test_an_answer_that_ends_without_a_blank_line_is_whole() -> None:
    assert events_of(read_all(WIRE, stream_of(message("x"))[:-2]))[-1] == COUNTED


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": "server_error", "message": "Sorry"}, FailureKind.SERVER_ERROR, "server_error"),
        ({"code": "rate_limit_exceeded", "message": "Slow"}, FailureKind.RATE_LIMITED, "rate_limit_exceeded"),
        ({"code": "invalid_prompt", "message": "No"}, FailureKind.BAD_REQUEST, "invalid_prompt"),
        ({"code": "image_too_large", "message": "No", "type": None}, FailureKind.BAD_REQUEST, "image_too_large"),
        (
            {"code": "context_length_exceeded", "message": "Long", "type": "invalid_request_error"},
            FailureKind.CONTEXT_TOO_LONG,
            "context_length_exceeded",
        ),
        ({"code": "insufficient_quota", "message": "Broke"}, FailureKind.QUOTA_EXHAUSTED, "insufficient_quota"),
        ({"code": ["odd"], "message": "Odd"}, FailureKind.SERVER_ERROR, ""),
        ("only a text", FailureKind.SERVER_ERROR, ""),
        (None, FailureKind.SERVER_ERROR, ""),
    ],
)
def test_a_failed_response_is_an_error_by_its_code(error: object, kind: FailureKind, code: str) -> None:
    answer = response(status="failed", error=error)
    end = {"type": "response.failed", "response": answer}
    for failure in (
        failure_of_whole(msgspec.json.encode(answer)),
        failure_of_stream(stream_of(message("Hel"), end=end)),
    ):
        assert (failure.kind, failure.vendor_code) == (kind, code)
        assert failure.message


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "context_length_exceeded", "message": "Too long", "param": "input"},
        {"type": "error", "error": {"type": "x", "code": "context_length_exceeded", "message": "Too long"}},
        {"error": {"message": "Too long", "code": "context_length_exceeded"}},
    ],
)
def test_an_error_event_is_the_error_it_tells_however_it_is_wrapped(event: Event) -> None:
    begun = named_sse(CREATED)
    failure = failure_of_stream(begun + b"data: " + msgspec.json.encode(event) + b"\n\n")
    assert (failure.kind, failure.message) == (FailureKind.CONTEXT_TOO_LONG, "Too long")


def test_an_error_event_that_is_the_requests_fault_is_told_as_that() -> None:
    failure = failure_of_stream(named_sse({"type": "error", "code": "invalid_image_url", "message": "No image"}))
    assert (failure.kind, failure.vendor_code) == (FailureKind.BAD_REQUEST, "invalid_image_url")


def test_what_came_before_an_error_is_handed_on_first() -> None:
    answer = reader(WIRE)
    begun = named_sse(CREATED, {"type": "response.output_text.delta", "delta": "Hel"})
    frames = answer.feed(begun + named_sse({"type": "error", "code": "server_error", "message": "x"}))
    assert events_of(frames) == [Started("resp_1"), TextDelta("Hel")]
    with pytest.raises(ProviderError):
        answer.feed(b"")


def test_a_cancelled_response_is_broken_off() -> None:
    answer = response(message("Hel"), status="cancelled")
    assert failure_of_whole(msgspec.json.encode(answer)).kind is FailureKind.STREAM_BROKEN
    for name in ("response.cancelled", "response.done"):
        end = {"type": name, "response": answer}
        assert failure_of_stream(stream_of(message("Hel"), end=end)).kind is FailureKind.STREAM_BROKEN


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_there_yet_cannot_be_handed_on(status: str) -> None:
    failure = failure_of_whole(msgspec.json.encode(response(status=status)))
    assert failure.kind is FailureKind.MALFORMED
    assert "background" in failure.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FailureKind.MALFORMED),
        (b"<html>Hello</html>", FailureKind.MALFORMED),
        (b"[]", FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"id":"r","object":"response","status":"completed"}', FailureKind.MALFORMED),
        (b'{"choices":[{"message":{"content":"x"}}]}', FailureKind.MALFORMED),
        (b'{"output":[7]}', FailureKind.MALFORMED),
        (b'{"output":[{"type":"message","content":7}]}', FailureKind.MALFORMED),
        (b'{"output":' + b"[" * 100_000, FailureKind.MALFORMED),
        (b'{"error":{"message":"x","code":"rate_limit_exceeded"}}', FailureKind.RATE_LIMITED),
        (b'{"object":"error","message":"Overloaded","code":503}', FailureKind.OVERLOADED),
        (b'{"detail":"The model is unwell"}', FailureKind.SERVER_ERROR),
    ],
)
def test_what_is_no_response_is_an_error(body: bytes, kind: FailureKind) -> None:
    assert failure_of_whole(body).kind is kind


@pytest.mark.parametrize(
    "data",
    [b"hello", b"[]", b"7", b'{"type":7}', b'{"type":"response.output_text.delta","delta":7}', b"\xff", b"[" * 10_000],
)
def test_a_stream_of_something_else_is_malformed(data: bytes) -> None:
    assert failure_of_stream(named_sse(CREATED) + b"data: " + data + b"\n\n").kind is FailureKind.MALFORMED


def test_an_error_status_is_read_as_on_openais_other_wires() -> None:
    body = b'{"error":{"message":"Unknown","type":"invalid_request_error","code":"model_not_found"}}'
    failure = read_failure(404, {"x-request-id": "req_1"}, body)
    assert (failure.kind, failure.vendor_request_id) == (FailureKind.MODEL_NOT_FOUND, "req_1")


ODD: list[Any] = [None, True, -1, 1.5, 1e308, 2**63, "x", "", [], {}, [None], [[]], {"a": 1}]


def spoiled(value: Any) -> Iterable[Any]:
    """`value` with one of its parts replaced, for every part and every odd value."""
    yield from ODD
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: odd} for odd in spoiled(inner))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from ([*value[:i], odd, *value[i + 1 :]] for odd in spoiled(inner))


@pytest.mark.parametrize("item", [message("x", refused("y")), thought("x", content=["y"], encrypted="z"), call()])
def test_wrong_types_are_provider_errors_or_passed_by(item: Item) -> None:
    events = [*item_events(item, 0), {"type": "response.completed", "response": {"output": [item], "usage": USAGE}}]
    tried = 0
    for good in (*events, {"type": "error", "error": {"message": "x", "code": "y"}}):
        for body in map(msgspec.json.encode, spoiled(good)):
            tried += 1
            with suppress(ProviderError):
                read_all(WIRE, b"data: " + body + b"\n\n" + named_sse(COMPLETED))
    assert tried > 300
    for body in map(msgspec.json.encode, spoiled({"output": [item], "status": "completed", "usage": USAGE})):
        with suppress(ProviderError):
            assert CODEC.read_answer(body).raw == body
