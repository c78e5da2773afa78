"""The wire on which a text is continued: its requests, its answers, whole and streamed."""

import json
from typing import Any

import pytest
from msgspec import Raw

from providers.domain.answer import Finished, FinishReason, Started, StreamEvent, TextDelta, Usage, UsageReported
from providers.domain.conversation import Conversation, ImagePart, Reasoning, ResponseFormat, Tool
from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, PromptDefaults, Wire
from providers.wires import WIRES, AnswerReader, UnsupportedFeature
from tests.providers.wires.builders import (
    assistant,
    body_of,
    deployment,
    events_of,
    raw_of,
    read_all,
    reader,
    saying,
    sent_by_caller,
    sse,
    system,
    user,
)

WIRE = Wire.OPENAI_COMPLETIONS
CODEC = WIRES[WIRE]
PERSONA = PromptDefaults("Be terse.", temperature=0.3, max_tokens=300)


def touched(body: bytes, defaults: PromptDefaults = NO_DEFAULTS, **more: Any) -> dict[str, Any]:
    limit = more.pop("max_tokens", None)
    request = sent_by_caller(WIRE, body, stream=b'"stream":true' in body, max_tokens=limit)
    return body_of(request, deployment(WIRE, **more), defaults)


# --- the caller's own request -------------------------------------------------------------------------------------


def test_the_callers_fields_survive_and_only_ours_are_touched() -> None:
    body = b'{"model":"x","prompt":"Once","suffix":"end","logprobs":3,"seed":1.50,"persona":"p","new":{"a":[1]}}'
    call = CODEC.build(sent_by_caller(WIRE, body), deployment(WIRE), NO_DEFAULTS)
    assert call.path == "/completions"
    assert b'"seed":1.50' in call.body
    assert json.loads(call.body) == {
        "model": "upstream-1", "prompt": "Once", "suffix": "end", "logprobs": 3, "seed": 1.5, "new": {"a": [1]},
    }  # fmt: skip


def test_a_stream_reports_its_usage() -> None:
    assert touched(b'{"prompt":"x","stream":true}')["stream_options"] == {"include_usage": True}
    assert "stream_options" not in touched(b'{"prompt":"x"}')


@pytest.mark.parametrize(
    ("asked", "defaults", "known", "sent"),
    [(None, NO_DEFAULTS, None, None), (50, PERSONA, None, 50), (None, PERSONA, None, 300), (900, NO_DEFAULTS, 40, 40)],
)
def test_the_limit_is_the_callers_then_the_personas_and_never_above_the_models(
    asked: int | None, defaults: PromptDefaults, known: int | None, sent: int | None
) -> None:
    body = touched(b'{"prompt":"x"}', defaults, max_tokens=asked, max_output_tokens=known)
    assert body.get("max_tokens") == sent


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("Once", "Be terse.\n\nOnce"), (["a", "b"], ["Be terse.\n\na", "Be terse.\n\nb"])],
)
def test_a_personas_prompt_goes_before_every_prompt(prompt: Any, sent: Any) -> None:
    body = touched(json.dumps({"prompt": prompt}).encode(), PERSONA)
    assert (body["prompt"], body["temperature"]) == (sent, 0.3)


def test_a_personas_prompt_cannot_stand_before_tokens() -> None:
    with pytest.raises(UnsupportedFeature):
        touched(b'{"prompt":[1,2]}', PERSONA)


def test_the_callers_temperature_wins() -> None:
    assert touched(b'{"prompt":"x","temperature":1}', PERSONA)["temperature"] == 1


# --- a conversation of another wire -------------------------------------------------------------------------------


def test_one_question_becomes_the_text_to_continue() -> None:
    said = Conversation(
        (system("Be kind."), user("Why?")), max_tokens=9, temperature=0.5, top_p=0.9, stop=("\n",), user="u", seed=3
    )
    assert body_of(saying(said, stream=True), deployment(WIRE), PERSONA) == {
        "model": "upstream-1", "prompt": "Be terse.\n\nBe kind.\n\nWhy?", "stream": True,
        "stream_options": {"include_usage": True}, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["\n"],
        "user": "u", "seed": 3,
    }  # fmt: skip


def test_knobs_without_a_word_are_named() -> None:
    said = Conversation((user("Why?"),), reasoning=Reasoning("high"), top_k=4, dropped=("logit_bias",))
    assert CODEC.build(saying(said), deployment(WIRE), NO_DEFAULTS).dropped == (
        "logit_bias", "top_k", "reasoning_effort",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "feature"),
    [
        (Conversation((user("a"), assistant("b"), user("c"))), "a conversation of several turns"),
        (Conversation((user("a"), assistant("b"))), "a conversation of several turns"),
        (Conversation((user("a"), user("b"))), "a conversation of several turns"),
        (Conversation((user("a"),), tools=(Tool("f", "", Raw(b"{}")),)), "tools"),
        (Conversation((user("a"),), response_format=ResponseFormat("json_object")), "response_format"),
        (Conversation((user("a", ImagePart(url="x")),)), "an image in a prompt"),
        (Conversation((user("a"),), stop=("a", "b", "c", "d", "e")), "more than 4 stop sequences"),
    ],
)
def test_what_a_prompt_cannot_say_is_named(said: Conversation, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        body_of(saying(said), deployment(WIRE))
    assert refused.value.feature == feature


# --- answers ------------------------------------------------------------------------------------------------------


def piece(text: str = "", finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}


COUNT = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 6}}
USAGE = Usage(input_tokens=4, cache_read_input_tokens=6, output_tokens=4)
STREAM = sse(
    piece("Grüß"), piece(" dich"), piece(finish="length"), {"id": "c1", "choices": [], "usage": COUNT}, done=True
)
EVENTS: list[StreamEvent] = [
    Started("c1"),
    TextDelta("Grüß"),
    TextDelta(" dich"),
    Finished(FinishReason.LENGTH),
    UsageReported(USAGE),
]


def test_a_stream_is_read_in_order_and_kept_byte_for_byte() -> None:
    frames = read_all(WIRE, STREAM)
    assert events_of(frames) == EVENTS
    assert raw_of(frames) == STREAM


def test_every_cut_gives_the_same_events_and_bytes() -> None:
    for at in range(len(STREAM)):
        answer = reader(WIRE)
        frames = answer.feed(STREAM[:at]) + answer.feed(STREAM[at:]) + answer.close()
        assert (events_of(frames), raw_of(frames)) == (EVENTS, STREAM)


def test_the_usage_chunk_is_kept_back_from_callers_who_did_not_ask() -> None:
    frames = read_all(WIRE, STREAM, include_usage=False)
    assert b'"usage"' not in raw_of(frames)
    assert events_of(frames) == EVENTS


def test_a_whole_answer_has_the_events_of_its_stream() -> None:
    body = json.dumps({**piece("Grüß dich", "length"), "usage": COUNT}).encode()
    frame = CODEC.read_answer(body)
    assert frame.raw == body
    assert list(frame.events) == [EVENTS[0], TextDelta("Grüß dich"), *EVENTS[3:]]


def test_all_choices_texts_count_and_the_first_ones_end_is_the_end() -> None:
    stream = sse(piece("a"), piece("b", "stop", 1), piece("c", "length"), done=True)
    assert events_of(read_all(WIRE, stream))[1:] == [
        TextDelta("a"), TextDelta("b"), TextDelta("c"), Finished(FinishReason.LENGTH),
    ]  # fmt: skip


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b'data: {"id":"c1","cho'])
def test_a_stream_without_a_finish_reason_is_broken(end: bytes) -> None:
    def read(answer: AnswerReader) -> None:
        assert events_of(answer.feed(sse(piece("a")))) == [Started("c1"), TextDelta("a")]
        answer.feed(end)
        answer.close()

    with pytest.raises(ProviderError) as broken:
        read(reader(WIRE))
    assert broken.value.failure.kind is FailureKind.STREAM_BROKEN


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", FailureKind.MALFORMED),
        (b'{"choices":[]}', FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"error":{"message":"Too long","code":"context_length_exceeded"}}', FailureKind.CONTEXT_TOO_LONG),
        (b'{"object":"error","message":"Oh","code":503}', FailureKind.OVERLOADED),
    ],
)
def test_a_body_that_is_no_completion_is_an_error(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(ProviderError) as failed:
        CODEC.read_answer(body)
    assert failed.value.failure.kind is kind


def test_a_whole_answer_without_a_finish_reason_is_finished_all_the_same() -> None:
    assert CODEC.read_answer(json.dumps(piece("a\ud83d")).encode()).events[1:] == (
        TextDelta("a"),
        Finished(FinishReason.STOP),
    )
