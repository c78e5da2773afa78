"""What a chat completion says beside its text: thoughts and their proofs, refusals, signatures, stop sequences."""

from typing import Any

import pytest

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
    ToolCallStart,
)
from providers.domain.types import Wire
from providers.wires import WIRES
from routerplatform.doors.formats.openai_writing import StreamWriter, whole_answer
from routerplatform.doors.formats.protocol import Heading
from tests.providers.wires.builders import events_of, read_all, sse
from tests.providers.wires.test_openai_answer import chunk, stream_events
from tests.providers.wires.test_openai_answer import whole as whole_body

CLAUDE = "anthropic-claude-v1"


def whole_events(message: dict[str, Any], **choice: Any) -> list[StreamEvent]:
    body = {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return list(WIRES[Wire.OPENAI].read_answer(sse(body)[6:]).events)


def test_a_refusal_is_told_as_one() -> None:
    assert stream_events(chunk({"refusal": "No"}), chunk({"refusal": "."}, "stop")) == [
        Started("c1"),
        RefusalDelta("No"),
        RefusalDelta("."),
        Finished(FinishReason.STOP),
    ]
    assert whole_events({"content": None, "refusal": "No."})[1] == RefusalDelta("No.")


@pytest.mark.parametrize("thinking", ["x", [{"type": "text", "text": "x"}]])
def test_mistrals_thoughts_stand_among_its_parts(thinking: Any) -> None:
    parts = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": "yes"}, {"type": "reference"}]
    told = [Started("c1"), ReasoningDelta("x"), TextDelta("yes"), Finished(FinishReason.STOP)]
    assert stream_events(chunk({"content": parts}, "stop")) == told
    assert whole_events({"content": parts}) == told


def test_openrouters_stream_tells_each_thought_once_and_its_proof_in_the_end() -> None:
    def piece(text: str, **more: Any) -> dict[str, Any]:
        detail = {"type": "reasoning.text", "text": text, "format": CLAUDE, "index": 0, **more}
        return chunk({"content": "", "reasoning": text or None, "reasoning_details": [detail]})

    events = stream_events(piece("Let me "), piece("think."), piece("", signature="sig"), chunk({}, "stop"))
    assert events == [
        Started("c1"),
        ReasoningDelta("Let me "),
        ReasoningDelta("think."),
        ReasoningProof("sig", "", "anthropic"),
        Finished(FinishReason.STOP),
    ]


def test_several_thoughts_of_a_whole_answer_keep_their_own_proofs() -> None:
    details = [
        {"type": "reasoning.text", "text": "One.", "signature": "s1", "format": CLAUDE, "index": 0},
        {"type": "reasoning.encrypted", "data": "d2", "format": CLAUDE, "index": 1},
        {"type": "reasoning.summary", "summary": "Three.", "format": "openai-responses-v1", "id": "rs", "index": 2},
        {"type": "reasoning.encrypted", "data": "d3", "format": "openai-responses-v1", "id": "rs", "index": 2},
    ]
    message = {"content": "So.", "reasoning": "One.Three.", "reasoning_details": details}
    assert whole_events(message)[1:-1] == [
        ReasoningDelta("One."),
        ReasoningProof("s1", "", "anthropic"),
        ReasoningProof("", "d2", "anthropic"),
        ReasoningDelta("Three."),
        ReasoningProof("", "d3", "openai", "rs"),
        TextDelta("So."),
    ]


def test_hidden_thought_keeps_the_words_that_stand_beside_it() -> None:
    details = [{"type": "reasoning.encrypted", "data": "d", "format": "acme", "index": 0}]
    assert whole_events({"reasoning_content": "Hm.", "reasoning_details": details})[1:3] == [
        ReasoningDelta("Hm."),
        ReasoningProof("", "d", "acme"),
    ]


@pytest.mark.parametrize("odd", [5, "x", {}, [5], [{"text": 5}], None, []])
def test_details_of_no_known_shape_are_passed_by(odd: Any) -> None:
    assert stream_events(chunk({"reasoning": "Hm.", "reasoning_details": odd}), chunk({}, "stop"))[1] == (
        ReasoningDelta("Hm.")
    )


def signed_call(extra: Any) -> dict[str, Any]:
    sent = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    return {"tool_calls": [sent]}


@pytest.mark.parametrize(
    ("extra", "signature"),
    [({"google": {"thought_signature": "t"}}, "t"), ({"google": {}}, ""), ({}, ""), (None, ""), (5, "")],
)
def test_geminis_proof_comes_with_its_call(extra: Any, signature: str) -> None:
    assert stream_events(chunk(signed_call(extra), "tool_calls"))[1] == ToolCallStart(0, "a", "f", signature)
    assert whole_events(signed_call(extra))[1] == ToolCallStart(0, "a", "f", signature)


@pytest.mark.parametrize(("sent", "told"), [("END", "END"), (None, ""), (128001, "")])
def test_vllm_says_which_stop_sequence_it_was(sent: Any, told: str) -> None:
    stopped = chunk({"content": "x"}, "stop")
    stopped["choices"][0]["stop_reason"] = sent
    assert stream_events(stopped)[-1] == Finished(FinishReason.STOP, told)
    assert whole_events({"content": "x"}, stop_reason=sent)[-1] == Finished(FinishReason.STOP, told)


TOLD: list[StreamEvent] = [
    Started("c1"),
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    ReasoningProof("sig", "", "anthropic"),
    ReasoningDelta("More."),
    ReasoningProof("", "enc", "openai", "rs_1"),
    RefusalDelta("No."),
    Finished(FinishReason.STOP),
]


def test_what_one_gateway_writes_another_one_reads() -> None:
    heading = Heading("r1", "sage", 9)
    frames = [Frame(b"", (event,)) for event in TOLD]
    writer = StreamWriter(heading, include_usage=False)
    streamed = events_of(read_all(Wire.OPENAI, writer.write(frames) + writer.end()))
    assert streamed[1:] == TOLD[1:]
    read = WIRES[Wire.OPENAI].read_answer(whole_answer(frames, heading)).events
    assert [event for event in read if isinstance(event, ReasoningProof)] == [TOLD[3], TOLD[5]]
    assert "".join(event.text for event in read if isinstance(event, ReasoningDelta)) == "Let me think.More."


def test_a_plain_answer_has_none_of_it() -> None:
    events = WIRES[Wire.OPENAI].read_answer(whole_body({"content": "x"})).events
    assert [type(event) for event in events] == [Started, TextDelta, Finished]
