"""Responses written from events: the object, the stream that adds up to it, and what a client's SDK makes of both."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
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
from providers.wires.sealed_thought import SealedThought, unseal
from routerplatform.doors.formats import openai_responses
from routerplatform.doors.formats.openai_responses import Spoken
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import BudgetUnavailable, GatewayError, InvalidRequest, RateLimited

HEADING = Heading("01a1-77", "swift", 1_700_000_000)
USAGE = Usage(10, 20, 5, 8, 3)
STOPPED = (Finished(FinishReason.STOP), UsageReported(USAGE))
_any_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

Json = dict[str, Any]


def spoken(**fields: Any) -> Spoken:
    return openai_responses.spoken(json.dumps({"input": "Hello", **fields}).encode())


def frame(*events: StreamEvent) -> Frame:
    return Frame(b"", events)


def whole(*events: StreamEvent, **fields: Any) -> Json:
    found: Json = json.loads(
        msgspec.json.encode(openai_responses.response_of(spoken(**fields), [frame(*events)], HEADING))
    )
    Response.model_validate(found)
    return found


def told(raw: bytes) -> list[Json]:
    """The events of a stream; each is one that the SDK knows, with the next number, under its own name."""
    found: list[Json] = []
    for block in raw.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        _any_event.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def streamed(*events: StreamEvent, **fields: Any) -> list[Json]:
    writer = openai_responses.writer_of(spoken(**fields), HEADING)
    raw = b"".join(writer.write([frame(event)]) for event in events) + writer.end()
    found = told(raw)
    assert json.loads(msgspec.json.encode(writer.response)) == found[-1]["response"]
    return found


def kinds(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# --- the object ---------------------------------------------------------------------------------------------------


def test_every_field_of_the_object_is_there() -> None:
    found = whole(TextDelta("Hi"), *STOPPED)
    later = {"conversation", "image", "moderation", "prompt", "tool_usage", "access_programs", "input_transformations"}
    caches = {"prompt_cache_diagnostics", "prompt_cache_options", "prompt_cache_retention", "completed_at"}
    assert set(Response.model_fields) - later - caches <= set(found)
    assert (found["id"], found["created_at"], found["model"]) == ("resp_01a1-77", 1_700_000_000, "swift")


def test_what_was_asked_for_stands_in_the_answer() -> None:
    asked: Json = {
        "instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 99,
        "parallel_tool_calls": False, "truncation": "auto", "user": "u", "service_tier": "flex", "max_tool_calls": 2,
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": None}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"}, "prompt_cache_key": "k", "safety_identifier": "s",
    }  # fmt: skip
    found = whole(TextDelta("Hi"), *STOPPED, **asked)
    assert {name: found[name] for name in asked} == asked
    found = whole(TextDelta("Hi"), *STOPPED, reasoning={"effort": "low"}, text={"verbosity": "low", "format": None})
    assert found["reasoning"] == {"effort": "low", "summary": None}
    assert found["text"] == {"verbosity": "low", "format": {"type": "text"}}


def test_null_is_as_good_as_nothing() -> None:
    found = whole(TextDelta("Hi"), *STOPPED, tools=None, metadata=None, reasoning=None, text=None, tool_choice=None)
    assert (found["tools"], found["metadata"], found["tool_choice"]) == ([], {}, "auto")


def test_usage_counts_the_caches_as_input() -> None:
    assert whole(TextDelta("Hi"), *STOPPED)["usage"] == {
        "input_tokens": 35,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 43,
    }


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.TOOL_CALLS, "completed", None),
        (FinishReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (FinishReason.CONTENT_FILTER, "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ended(reason: FinishReason, status: str, why: Json | None) -> None:
    found = whole(TextDelta("Hi"), Finished(reason), UsageReported(USAGE))
    assert (found["status"], found["incomplete_details"], found["output"][0]["status"]) == (status, why, status)
    assert streamed(TextDelta("Hi"), Finished(reason))[-1]["type"] == f"response.{status}"


def test_only_the_last_item_of_a_cut_answer_is_incomplete() -> None:
    found = whole(TextDelta("a"), ToolCallStart(0, "c1", "f"), ToolCallDelta(0, '{"a'), Finished(FinishReason.LENGTH))
    assert [item["status"] for item in found["output"]] == ["completed", "incomplete"]
    assert found["output"][1]["arguments"] == '{"a'


def test_an_answer_without_a_word_is_one_too() -> None:
    assert whole(*STOPPED)["output"] == []
    assert kinds(streamed(*STOPPED)) == ["created", "in_progress", "completed"]


# --- items --------------------------------------------------------------------------------------------------------


def test_text_is_one_message() -> None:
    events = streamed(Started("up"), TextDelta("Hel"), TextDelta(""), TextDelta("lo"), *STOPPED)
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    [item] = events[-1]["response"]["output"]
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert {event["item_id"] for event in events if "item_id" in event} == {item["id"]}
    assert events[2]["item"] | {"status": "completed", "content": item["content"]} == item == events[-2]["item"]


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = streamed(TextDelta("Well. "), RefusalDelta("No"), RefusalDelta("."), *STOPPED)
    assert kinds(events)[4:-2] == [
        "output_text.delta", "output_text.done", "content_part.done", "content_part.added", "refusal.delta",
        "refusal.delta", "refusal.done", "content_part.done",
    ]  # fmt: skip
    assert events[-4]["refusal"] == "No."
    content = events[-1]["response"]["output"][0]["content"]
    assert content[1] == {"type": "refusal", "refusal": "No."}
    assert [event["content_index"] for event in events if event["type"].endswith(".delta")] == [0, 1, 1]


def test_a_thought_is_told_as_a_summary_and_its_proof_comes_back() -> None:
    proof = ReasoningProof("sig", vendor="anthropic")
    events = streamed(ReasoningDelta("Hm"), ReasoningDelta("..."), proof, TextDelta("A"), *STOPPED)
    assert kinds(events)[2:8] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
    ]  # fmt: skip
    thought, said = events[-1]["response"]["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "Hm..."}]
    assert unseal(thought["encrypted_content"]) == SealedThought("anthropic", "sig")
    assert (thought["id"].split("_")[0], said["id"].split("_")[0]) == ("rs", "msg")
    done = next(event["item"] for event in events if event["type"] == "response.output_item.done")
    assert done == thought


def test_a_thought_without_a_proof_has_none() -> None:
    thought, _ = whole(ReasoningDelta("Hm"), TextDelta("A"), *STOPPED)["output"]
    assert thought["encrypted_content"] is None


def test_hidden_thought_is_an_item_without_text() -> None:
    hidden = ReasoningProof(encrypted="xyz", vendor="anthropic", id="r1")
    first, second, _ = whole(hidden, ReasoningDelta("Hm"), TextDelta("A"), *STOPPED)["output"]
    assert first["summary"] == []
    assert unseal(first["encrypted_content"]) == SealedThought("anthropic", encrypted="xyz", id="r1")
    assert second["summary"][0]["text"] == "Hm"


def test_a_proof_that_comes_late_stands_alone() -> None:
    _, _, late = whole(ReasoningDelta("Hm"), TextDelta("A"), ReasoningProof("sig", vendor="gemini"), *STOPPED)["output"]
    assert unseal(late["encrypted_content"]) == SealedThought("gemini", "sig")


def test_calls_are_items_and_keep_the_vendors_ids() -> None:
    events = streamed(
        TextDelta("Let me see."), ToolCallStart(0, "toolu_1", "weather"), ToolCallDelta(0, '{"a"'),
        ToolCallDelta(0, ":1}"), ToolCallStart(1, "toolu_2", "clock"), Finished(FinishReason.TOOL_CALLS),
    )  # fmt: skip
    said, weather, clock = events[-1]["response"]["output"]
    assert said["type"] == "message"
    assert (weather["call_id"], weather["name"], weather["arguments"]) == ("toolu_1", "weather", '{"a":1}')
    assert (clock["call_id"], clock["arguments"]) == ("toolu_2", "{}")
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.added"] == [0, 1, 2]
    pieces = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert pieces == ['{"a"', ":1}", "{}"]


def test_two_calls_may_be_written_at_a_time() -> None:
    calls = whole(
        ToolCallStart(0, "c1", "f"), ToolCallStart(1, "c2", "g"), ToolCallDelta(1, "[2]"), ToolCallDelta(0, "[1]"),
        Finished(FinishReason.TOOL_CALLS),
    )["output"]  # fmt: skip
    assert [(call["call_id"], call["arguments"]) for call in calls] == [("c1", "[1]"), ("c2", "[2]")]


def test_what_gemini_wants_back_with_a_call_goes_before_it() -> None:
    thought, call, plain = whole(
        ReasoningDelta("Hm"), ToolCallStart(0, "c1", "f", "sig"), ToolCallStart(1, "c2", "g"),
        Finished(FinishReason.TOOL_CALLS),
    )["output"]  # fmt: skip
    assert thought["summary"][0]["text"] == "Hm"
    assert unseal(thought["encrypted_content"]) == SealedThought("gemini", "sig", call="c1")
    assert (call["type"], plain["type"]) == ("function_call", "function_call")


def test_characters_beyond_ascii_are_escaped() -> None:
    writer = openai_responses.writer_of(spoken(), HEADING)
    raw = writer.write([frame(TextDelta("Grüße \u2028 🙂 \ud83d"))]) + writer.end()
    assert raw.isascii()
    assert "Grüße \u2028 🙂" in told(raw)[-1]["response"]["output"][0]["content"][0]["text"]


# --- any answer ---------------------------------------------------------------------------------------------------

pieces = st.text(st.characters(codec="utf-8"), max_size=4)
said = st.one_of(
    st.builds(TextDelta, pieces), st.builds(RefusalDelta, pieces), st.builds(ReasoningDelta, pieces),
    st.builds(ReasoningProof, pieces, pieces, st.just("anthropic")), st.just("call"), st.just("more"),
)  # fmt: skip


def answer_of(choices: list[Any]) -> list[StreamEvent]:
    """Events in an order that a vendor may send them in."""
    events: list[StreamEvent] = []
    calls = 0
    for choice in choices:
        if choice == "call":
            events.append(ToolCallStart(calls, f"call_{calls}", "f", "sig" * (calls % 2)))
            calls += 1
        elif choice == "more":
            events += [ToolCallDelta(calls - 1, "[]")] if calls else []
        else:
            events.append(choice)
    return [*events, *STOPPED]


@given(st.lists(said, max_size=12))
def test_a_stream_of_any_answer_adds_up_to_the_whole_one(choices: list[Any]) -> None:
    events = streamed(*answer_of(choices))
    assert events[-1]["response"] == whole(*answer_of(choices))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: int(item["id"].rpartition("_")[2])) == events[-1]["response"]["output"]


@given(st.lists(said, max_size=12))
def test_the_sdk_puts_the_same_answer_together(choices: list[Any]) -> None:
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    for event in streamed(*answer_of(choices)):
        state.handle_event(_any_event.validate_python(event))
    found = state._completed_response.to_dict()
    for item, expected in zip(found["output"], whole(*answer_of(choices))["output"], strict=True):
        assert {name: item.get(name) for name in ("type", "id", "call_id")} == {
            name: expected.get(name) for name in ("type", "id", "call_id")
        }


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BudgetUnavailable("Why."), "server_error"),
        (RateLimited("Slow.", headers={}, retry_after_s=1), "rate_limit_exceeded"),
        (InvalidRequest("No."), "invalid_prompt"),
    ],
)
def test_a_failed_response_has_a_code_that_the_sdk_knows(error: GatewayError, code: str) -> None:
    writer = openai_responses.writer_of(spoken(), HEADING)
    events = told(writer.write([frame(TextDelta("Hel"))]) + writer.failed(error, "01a1-77"))
    failed = Response.model_validate(events[-2]["response"])
    assert (failed.status, failed.output_text) == ("failed", "Hel")
    assert failed.error
    assert (failed.error.code, failed.error.message) == (code, error.message)
    assert events[-1]["error"] == {"type": error.kind, "code": error.code, "message": error.message, "param": None}


def test_a_failure_before_the_first_word_is_a_stream_too() -> None:
    writer = openai_responses.writer_of(spoken(), HEADING)
    events = told(writer.failed(InvalidRequest("No."), "01a1-77"))
    assert kinds(events) == ["created", "in_progress", "failed", "error"]


@pytest.mark.parametrize(
    ("after", "number"),
    [
        (b"", 0),
        (b'event: x\ndata: {"sequence_number": 41, "delta": "\\"sequence_number\\": 7"}\n\n', 42),
        (b"data: {}\n\n", 0),
    ],
)
def test_an_error_goes_on_counting_where_the_vendor_broke_off(after: bytes, number: int) -> None:
    raw = openai_responses.error_event(InvalidRequest("No.", param="input"), "01a1-77", after=after).decode()
    event = json.loads(raw.partition("data: ")[2])
    assert (event["type"], event["sequence_number"], event["param"]) == ("error", number, "input")


def test_the_format_answers_without_a_dialogue_too() -> None:
    request = spoken().request
    found = json.loads(openai_responses.answer_body(request, [frame(TextDelta("Hi"), *STOPPED)], HEADING))
    assert (found["store"], found["previous_response_id"]) == (False, None)
    assert json.loads(openai_responses.error_body(InvalidRequest("No."), "r"))["request_id"] == "r"
    assert openai_responses.writer(request, HEADING).end()
