"""What a client of legacy completions says and hears. Pure."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import Finished, FinishReason, Frame, RefusalDelta, StreamEvent, TextDelta
from providers.domain.conversation import Message, Role, TextPart
from providers.domain.types import Capability, Wire
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats import openai_completions
from routerplatform.doors.formats.openai_completions import StreamWriter, answer_body, parse
from routerplatform.doors.formats.protocol import Format, Heading
from routerplatform.gateway.errors import InvalidRequest
from tests.gateway_path.test_openai_format import json_values
from tests.gateway_path.test_openai_writing import USAGE_OUT, answers, framed

HEADING = Heading("r1", "sage", 9)
FORMAT: Format = openai_completions


def body(**fields: Any) -> bytes:
    return json.dumps({"prompt": "Once", **fields}).encode()


def streamed(events: Iterable[StreamEvent], *, include_usage: bool = False) -> list[dict[str, Any]]:
    writer = StreamWriter(HEADING, include_usage=include_usage)
    sent = b"".join(writer.write([frame]) for frame in framed(events)) + writer.end()
    assert sent.isascii()
    *lines, done, rest = sent.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_what_a_request_asks_for_is_read() -> None:
    read = parse(body(model="m", stream=True, max_tokens=5, temperature=0, stream_options={"include_usage": True}))
    assert (read.model, read.stream, read.max_tokens, read.temperature) == ("m", True, 5, 0.0)
    assert (read.wire, read.include_usage, read.choices) == (Wire.OPENAI_COMPLETIONS, True, 1)
    assert read.needs == {Capability.STREAMING}


@pytest.mark.parametrize(
    ("fields", "choices"),
    [({"n": 3}, 3), ({"best_of": 4}, 4), ({"n": 2, "best_of": 4}, 4), ({"prompt": ["a", "b"], "n": 2}, 4),
     ({"prompt": [1, 2, 3]}, 1), ({"prompt": [[1], [2]]}, 2)],
)  # fmt: skip
def test_everything_that_will_be_written_is_counted(fields: dict[str, Any], choices: int) -> None:
    assert parse(body(**fields)).choices == choices


def test_for_a_model_that_chats_the_prompt_is_a_message_of_its_user() -> None:
    said = parse(
        body(max_tokens=5, temperature=0.5, top_p=0.9, stop="\n", user="u", seed=1, presence_penalty=1, logit_bias={})
    ).conversation()
    assert said.messages == (Message(Role.USER, (TextPart("Once"),)),)
    assert (said.max_tokens, said.temperature, said.top_p, said.stop, said.user) == (5, 0.5, 0.9, ("\n",), "u")
    assert (said.seed, said.presence_penalty, said.dropped) == (1, 1.0, ("logit_bias",))


def test_a_knob_of_the_wrong_type_is_named_when_it_matters() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(body(seed="x")).conversation()
    assert refused.value.param == "seed"


@given(st.dictionaries(st.sampled_from(["prompt", "n", "echo", "suffix", "stop", "best_of", "model"]), json_values))
def test_no_json_body_does_more_harm_than_a_refusal(fields: dict[str, Any]) -> None:
    with suppress(InvalidRequest, UnsupportedFeature):
        parse(json.dumps(fields).encode()).conversation()


@given(answers())
def test_a_stream_adds_up_to_the_whole_answer(events: list[StreamEvent]) -> None:
    whole = json.loads(answer_body(parse(body()), framed(events), HEADING))
    chunks = streamed(events, include_usage=True)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"] != "tool_calls"
    assert chunks[-1]["usage"] == whole["usage"] == USAGE_OUT
    assert {chunk["id"] for chunk in chunks} == {whole["id"]} == {"cmpl-r1"}
    said = "".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta))
    assert whole["choices"][0]["text"] == said


def test_usage_is_told_in_a_stream_only_when_asked_for() -> None:
    assert all("usage" not in chunk for chunk in streamed([TextDelta("x")]))


@pytest.mark.parametrize("reason", list(FinishReason))
def test_there_are_three_reasons_to_end(reason: FinishReason) -> None:
    frame = Frame(b"", (TextDelta("x"), Finished(reason)))
    told = json.loads(answer_body(parse(body()), [frame], HEADING))["choices"][0]["finish_reason"]
    assert told == {"tool_calls": "stop"}.get(reason.value, reason.value)
