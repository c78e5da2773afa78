"""What an OpenAI client says, as far as the gateway must understand it; and the platform's own shape. Pure."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Finished, FinishReason, RefusalDelta, StreamEvent, TextDelta
from providers.domain.types import Capability, Wire
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats.native import Delta, Done, NativeWriter, answer, encode
from routerplatform.doors.formats.native import Tool as ToolFrame
from routerplatform.doors.formats.openai_chat import parse
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.steps import Opened
from routing.domain.decision import RoutePlan, decide
from tests.analytics.ledger.samples import settled
from tests.gateway_path.openai_bodies import TOOL, USER, body
from tests.gateway_path.test_openai_writing import EVERYTHING, answers, framed
from tests.routing.domain.build import alias, caller, deployment, request, snapshot

# --- reading what decides something -------------------------------------------------------------------------------


def test_a_plain_request_means_auto_and_needs_nothing() -> None:
    read = parse(body())
    assert (read.model, read.persona, read.stream, read.max_tokens, read.needs) == (
        "auto",
        "",
        False,
        None,
        frozenset(),
    )
    assert read.input_tokens_bound == len(body())
    assert 1 <= read.input_tokens_estimate <= read.input_tokens_bound


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"stream": True}, {Capability.STREAMING}),
        ({"stream": None}, set()),
        ({"tools": [TOOL]}, {Capability.TOOL_CALLING}),
        ({"tools": []}, set()),
        ({"tools": None}, set()),
        ({"response_format": {"type": "json_object"}}, {Capability.JSON_MODE}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, {Capability.JSON_SCHEMA}),
        ({"response_format": {"type": "text"}}, set()),
        ({"messages": [USER, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         {Capability.VISION}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, set()),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}, {"type": "image_url"}]}]},
         {Capability.DOCUMENTS, Capability.VISION}),
        ({"stream": True, "tools": [TOOL]}, {Capability.STREAMING, Capability.TOOL_CALLING}),
    ],
)  # fmt: skip
def test_what_a_model_must_be_able_to_do(fields: dict[str, Any], needs: set[Capability]) -> None:
    assert parse(body(**fields)).needs == needs


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, None),
        ({"max_tokens": 2**31 - 1}, 2**31 - 1),
    ],
)
def test_the_newer_name_of_the_limit_wins(fields: dict[str, Any], limit: int | None) -> None:
    assert parse(body(**fields)).max_tokens == limit


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), (None, False)],
)
def test_usage_is_told_in_a_stream_only_when_asked_for(options: dict[str, Any] | None, asked: bool) -> None:
    assert parse(body(stream=True, stream_options=options)).include_usage is asked


def test_every_field_is_kept_byte_for_byte() -> None:
    raw = b'{"messages":[{"role":"user","content":"x"}], "seed" : 1.50, "new":{"b":[1,  2]}}'
    fields = parse(raw).fields
    assert bytes(fields["seed"]) == b"1.50"
    assert bytes(fields["new"]) == b'{"b":[1,  2]}'


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"nonsense", None),
        (b'"text"', None),
        (b"\xef\xbb\xbf{}", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b'{"messages": [{"role": "user", "content": 1e999}]}', "messages[0].content"),
        (body(messages=None), "messages"),
        (body(messages={}), "messages"),
        (body(messages=[{"content": "x"}]), "messages[0].role"),
        (body(messages=[USER, 5]), "messages[1]"),
        (body(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
        (body(model=5), "model"),
        (body(model=None), "model"),
        (body(persona=[]), "persona"),
        (body(stream=1), "stream"),
        (body(stream_options=True), "stream_options"),
        (body(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
        (body(max_tokens="many"), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=2**31), "max_tokens"),
        (body(max_tokens=10**30), "max_tokens"),
        (body(max_completion_tokens=0), "max_completion_tokens"),
        (body(max_tokens=5, max_completion_tokens=0), "max_completion_tokens"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=-0.1), "temperature"),
        (body(temperature=2.1), "temperature"),
        (body(tools="all"), "tools"),
        (body(tools={}), "tools"),
        (body(response_format="json"), "response_format"),
        (body(response_format={}), "response_format.type"),
        (body(reasoning_effort=3), "reasoning_effort"),
        (body(n="two"), "n"),
        (body(n=0), "n"),
        (body(n=129), "n"),
    ],
)
def test_what_cannot_be_understood_names_its_field(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(raw)
    assert refused.value.param == param
    assert refused.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
NAMES = ["model", "persona", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
         "tools", "tool_choice", "response_format", "stop", "n", "user", "functions"]  # fmt: skip
part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal", "file"])},
    optional={"text": json_values, "image_url": json_values, "refusal": json_values},
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": st.none() | st.text(max_size=8) | st.lists(part, max_size=2) | json_values,
        "tool_calls": st.lists(st.fixed_dictionaries({"id": json_values, "function": json_values}), max_size=2)
        | json_values,
        "tool_call_id": json_values,
        "name": json_values,
    },
)
requests = st.builds(
    lambda fields, messages: {**fields, "messages": messages},
    st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3),
    st.lists(message, min_size=1, max_size=3),
)


def _read_all(raw: bytes) -> None:
    with suppress(InvalidRequest, UnsupportedFeature):
        parse(raw).conversation()


@given(requests)
def test_no_json_body_does_more_harm_than_a_refusal(sent: dict[str, Any]) -> None:
    _read_all(json.dumps(sent).encode())


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_do_more_harm_than_a_refusal(raw: bytes) -> None:
    _read_all(raw)


@pytest.mark.parametrize("depth", [100, 500, 900, 950, 960, 970, 980, 990, 1_000, 2_000])
def test_no_depth_does_more_harm_than_a_refusal(depth: int) -> None:
    nest = "[" * depth + "]" * depth
    _read_all(f'{{"messages": [{{"role": "user", "content": "x", "deep": {nest}}}]}}'.encode())


def test_half_a_character_is_refused_in_words() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(b'{"messages": [{"role": "user", "content": "a \\ud83d"}]}')
    assert "surrogate pair" in refused.value.message
    with pytest.raises(InvalidRequest) as refused:
        parse(b'{"messages": [{"role": "user", "content": "a \\ud83d"')
    assert "not valid JSON" in refused.value.message


# --- the platform's own shape -------------------------------------------------------------------------------------


def entry(**options: Any) -> UsageEntry:
    counts = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1, "output_tokens": 7}
    return settled(**{"request_id": "r1", "cost_nano": 1_500, **counts, **options})


def opened() -> Opened:
    sage = deployment(1, "sage")
    plan: RoutePlan = decide(snapshot(alias("wise", sage)), caller(), request("wise"))
    return Opened(sage, Wire.ANTHROPIC, plan, 2, 7)


def test_an_answer_in_the_platforms_own_shape() -> None:
    answered = answer(opened(), framed(EVERYTHING), entry())
    assert (answered["id"], answered["content"], answered["reasoning"]) == ("r1", "Hello", "Let me think.")
    assert answered["finish_reason"] == "tool_calls"
    assert answered["tool_calls"] == [
        {"id": "a", "name": "weather", "arguments": '{"city":"Paris"}'},
        {"id": "b", "name": "time", "arguments": "{}"},
    ]
    assert answered["usage"] == {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 5}
    assert (answered["cost_usd"], answered["deployment"]) == (1.5e-6, "alpha/sage")


def test_an_unknown_cost_is_null_and_never_zero() -> None:
    assert answer(opened(), framed(EVERYTHING), entry(cost_nano=None))["cost_usd"] is None
    assert answer(opened(), framed(EVERYTHING), entry(cost_nano=0))["cost_usd"] == 0.0


@given(answers(), st.integers(1, 5))
def test_frames_add_up_to_the_same_answer_however_they_are_grouped(events: list[StreamEvent], size: int) -> None:
    writer = NativeWriter("r1")
    frames = framed(events)
    out = [f for i in range(0, len(frames), size) for f in writer.frames(frames[i : i + size])] + [*writer.end(entry())]
    one = answer(opened(), frames, entry())
    text = "".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta))
    assert "".join(f.text for f in out if isinstance(f, Delta)) == one["content"] == text
    assert "".join(f.reasoning for f in out if isinstance(f, Delta)) == one["reasoning"]
    assert [f.name for f in out if isinstance(f, ToolFrame)] == [call["name"] for call in one["tool_calls"]]
    assert [f.finish_reason for f in out if isinstance(f, Done)] == [one["finish_reason"]]


def test_a_refusal_is_text_in_the_platforms_own_shape() -> None:
    said: list[StreamEvent] = [TextDelta("Well, "), RefusalDelta("no."), Finished(FinishReason.CONTENT_FILTER)]
    answered = answer(opened(), framed(said), entry())
    assert (answered["content"], answered["finish_reason"]) == ("Well, no.", "content_filter")


@pytest.mark.parametrize("text", ["\ud83d", "é\u2028", "🙂"])
def test_no_text_breaks_a_frame(text: str) -> None:
    frame = encode(Delta(text=text))
    assert frame.isascii()
    assert json.loads(frame)["text"] == text
