"""Characters that a vendor cut in half are put together, over frames and inside them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import Finished, FinishReason, ReasoningDelta, Started, TextDelta, ToolCallDelta
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.half_pairs import HalfPairs, mended
from tests.providers.wires.builders import events_of, raw_of, read_all, reader


def frame(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    """As a vendor writes it: the standard library escapes halves, like most."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "choices": [choice]}).encode() + b"\n\n"


CUT = frame({"content": "so \ud83d"}) + frame({"content": "\ude42 good"}, "stop") + b"data: [DONE]\n\n"


def test_a_character_cut_in_half_is_read_whole_and_its_bytes_are_passed_on_as_they_came() -> None:
    frames = read_all(Wire.OPENAI, CUT)
    assert events_of(frames) == [
        Started("c1"),
        TextDelta("so "),
        TextDelta("🙂 good"),
        Finished(FinishReason.STOP),
    ]
    assert raw_of(frames) == CUT


def test_every_cut_of_the_bytes_gives_the_same_events() -> None:
    whole = events_of(read_all(Wire.OPENAI, CUT))
    for at in range(len(CUT)):
        answer = reader(Wire.OPENAI)
        frames = answer.feed(CUT[:at]) + answer.feed(CUT[at:]) + answer.close()
        assert events_of(frames) == whole


def test_each_text_waits_for_its_own_half() -> None:
    def call(number: int, arguments: str) -> dict[str, Any]:
        return {
            "tool_calls": [{"index": number, "id": f"c{number}", "function": {"name": "f", "arguments": arguments}}]
        }

    stream = (
        frame({"reasoning_content": "a\ud83d"})
        + frame(call(0, "x\ud83d"))
        + frame(call(1, "y\ud83c"))
        + frame({"reasoning_content": "\ude42"})
        + frame(call(1, "\udf89"))
        + frame(call(0, "\ude42"), "tool_calls")
    )
    events = events_of(read_all(Wire.OPENAI, stream))
    assert [e for e in events if isinstance(e, ReasoningDelta)] == [ReasoningDelta("a"), ReasoningDelta("🙂")]
    assert [e for e in events if isinstance(e, ToolCallDelta)] == [
        ToolCallDelta(0, "x"),
        ToolCallDelta(1, "y"),
        ToolCallDelta(1, "🎉"),
        ToolCallDelta(0, "🙂"),
    ]


@pytest.mark.parametrize("text", ["\ud83d", "a\ud83db", "x\ude42", "\ude42\ud83d"])
def test_a_half_that_stays_alone_is_left_out_of_stream_and_whole_answer_alike(text: str) -> None:
    streamed = events_of(read_all(Wire.OPENAI, frame({"content": text}, "stop")))
    body = json.dumps({"id": "c1", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    whole = WIRES[Wire.OPENAI].read_answer(body)
    assert list(whole.events) == streamed
    assert whole.raw == body
    assert "".join(e.text for e in streamed if isinstance(e, TextDelta)) == text.encode("utf-8", "ignore").decode()


def test_another_vendors_stream_is_mended_too() -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ud83d"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ude42"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    stream = b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)
    assert TextDelta("🙂") in events_of(read_all(Wire.ANTHROPIC, stream))


@pytest.mark.parametrize("body", [b'{"a": "\\ud83d', b"nonsense \\ud83d", b'{"a": NaN, "b": "x"}', b"[" * 5000])
def test_what_is_no_json_stays_as_it_is(body: bytes) -> None:
    assert mended(body) is body


@given(st.text(), st.integers(0, 50))
def test_any_text_survives_any_cut_of_its_units(text: str, at: int) -> None:
    units = text.encode("utf-16-le")
    cut = min(2 * at, len(units))
    pieces = [units[:cut].decode("utf-16-le", "surrogatepass"), units[cut:].decode("utf-16-le", "surrogatepass")]
    halves = HalfPairs()
    read = [msgspec.json.decode(halves.mend(json.dumps({"t": piece}).encode()))["t"] for piece in pieces]
    assert "".join(read) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(json_values)
def test_json_without_halves_means_the_same_afterwards(value: Any) -> None:
    assert json.loads(mended(json.dumps(value).encode())) == value
