"""A caller who speaks the target's own wire: the body passes through, and only what must be touched is."""

from typing import Any

import msgspec
import pytest

from providers.domain.types import NO_DEFAULTS, Capability, PromptDefaults, Wire
from providers.wires import WIRES
from tests.providers.wires.builders import body_of, deployment, sent_by_caller

HELLO = b'{"model":"auto","messages":[{"role":"user","content":"hi"}]}'
PERSONA = PromptDefaults(system_prompt='Be "brief".', temperature=1.4, max_tokens=300)


def openai_body(body: bytes, defaults: PromptDefaults = NO_DEFAULTS, **target: Any) -> dict[str, Any]:
    asked = msgspec.json.decode(body)
    limit = asked.get("max_completion_tokens", asked.get("max_tokens"))
    request = sent_by_caller(Wire.OPENAI, body, stream=asked.get("stream") is True, max_tokens=limit)
    return body_of(request, deployment(Wire.OPENAI, **target), defaults)


def anthropic_body(body: bytes, defaults: PromptDefaults = NO_DEFAULTS, **target: Any) -> dict[str, Any]:
    request = sent_by_caller(Wire.ANTHROPIC, body, max_tokens=msgspec.json.decode(body).get("max_tokens"))
    return body_of(request, deployment(Wire.ANTHROPIC, **target), defaults)


@pytest.mark.parametrize("wire", [Wire.OPENAI, Wire.ANTHROPIC])
def test_unknown_fields_survive_byte_for_byte_and_our_own_are_removed(wire: Wire) -> None:
    messages = b'[ {"role":"user" , "content":"\\u00e9\xc3\xa9", "x":1e400} ]'
    body = b'{"model":"auto","persona":"p","router":{"a":1},"messages":%b,"max_tokens":7,"new":[1.0, null]}' % messages
    call = WIRES[wire].build(sent_by_caller(wire, body, max_tokens=7), deployment(wire), PromptDefaults())
    sent = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    assert set(sent) == {"model", "messages", "max_tokens", "new"}
    assert bytes(sent["model"]) == b'"upstream-1"'
    assert bytes(sent["messages"]) == messages
    assert bytes(sent["new"]) == b"[1.0, null]"


def test_each_wire_goes_to_its_own_path() -> None:
    paths = {
        wire: WIRES[wire].build(sent_by_caller(wire, HELLO), deployment(wire), PromptDefaults())
        for wire in (Wire.OPENAI, Wire.ANTHROPIC)
    }
    assert paths[Wire.OPENAI].path == "/chat/completions"
    assert paths[Wire.OPENAI].headers == {"content-type": "application/json"}
    assert paths[Wire.ANTHROPIC].path == "/messages"
    assert paths[Wire.ANTHROPIC].headers["anthropic-version"] == "2023-06-01"


def test_building_does_not_change_the_request() -> None:
    request = sent_by_caller(Wire.OPENAI, HELLO, stream=True)
    before = dict(request.fields)
    body_of(request, deployment(Wire.OPENAI), PERSONA)
    assert request.fields == before


# --- OpenAI ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b"", {"include_usage": True}),
        (b',"stream_options":null', {"include_usage": True}),
        (b',"stream_options":{"include_usage":false}', {"include_usage": True}),
        (b',"stream_options":{"include_obfuscation":false}', {"include_usage": True, "include_obfuscation": False}),
        (b',"stream_options":"wrong"', "wrong"),
    ],
)
def test_a_stream_always_reports_its_usage(options: bytes, sent: object) -> None:
    body = openai_body(b'{"model":"auto","stream":true,"messages":[]%b}' % options)
    assert body["stream_options"] == sent
    assert "stream_options" not in openai_body(HELLO)


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        (b"[]", []),
        (b"[ \n ]", []),
        (b'[{"role":"user","content":"hi"}]', [{"role": "user", "content": "hi"}]),
        (b'[\n {"role":"system","content":"mine"}]', [{"role": "system", "content": "mine"}]),
    ],
)
def test_a_personas_prompt_goes_before_the_callers_messages(messages: bytes, sent: list[object]) -> None:
    body = openai_body(b'{"model":"auto","messages":%b}' % messages, PERSONA)
    assert body["messages"] == [{"role": "system", "content": 'Be "brief".'}, *sent]


def test_messages_that_are_no_list_are_left_for_the_vendor_to_refuse() -> None:
    assert openai_body(b'{"model":"auto","messages":"hi"}', PERSONA)["messages"] == "hi"
    assert "messages" not in openai_body(b'{"model":"auto"}', PERSONA)


@pytest.mark.parametrize(
    ("asked", "target", "sent"),
    [
        (b"", {}, {"max_tokens": 300}),
        (b"", {"max_output_tokens": 200}, {"max_tokens": 200}),
        (b"", {"max_tokens_field": "max_completion_tokens"}, {"max_completion_tokens": 300}),
        (b',"max_tokens":50', {}, {"max_tokens": 50}),
        (b',"max_tokens":50', {"max_output_tokens": 20}, {"max_tokens": 20}),
        (b',"max_tokens":50', {"max_tokens_field": "max_completion_tokens"}, {"max_completion_tokens": 50}),
        (b',"max_completion_tokens":50,"max_tokens":60', {}, {"max_tokens": 50}),
    ],
)
def test_one_limit_is_sent_under_the_vendors_name_for_it(
    asked: bytes, target: dict[str, Any], sent: dict[str, int]
) -> None:
    body = openai_body(b'{"model":"auto","messages":[]%b}' % asked, PERSONA, **target)
    assert {name: body[name] for name in body if name.startswith("max_")} == sent


def test_without_a_limit_of_anybodys_none_is_sent() -> None:
    assert not any(name.startswith("max_") for name in openai_body(HELLO, max_output_tokens=100))


@pytest.mark.parametrize(
    ("asked", "capabilities", "sent"),
    [
        (b"", [Capability.TEMPERATURE], 1.4),
        (b',"temperature":null', [Capability.TEMPERATURE], 1.4),
        (b',"temperature":0', [Capability.TEMPERATURE], 0),
        (b',"temperature":0.5', [], 0.5),
        (b"", [], None),
    ],
)
def test_a_personas_temperature_is_for_callers_without_one_and_models_that_take_one(
    asked: bytes, capabilities: list[Capability], sent: float | None
) -> None:
    body = openai_body(b'{"model":"auto","messages":[]%b}' % asked, PERSONA, capabilities=capabilities)
    assert body.get("temperature") == sent


# --- Anthropic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "sent"),
    [
        (b"", 'Be "brief".'),
        (b',"system":null', 'Be "brief".'),
        (b',"system":"Be kind."', 'Be "brief".\n\nBe kind.'),
        (b',"system":[]', [{"type": "text", "text": 'Be "brief".'}]),
        (
            b',"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]',
            [
                {"type": "text", "text": 'Be "brief".'},
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
            ],
        ),
        (b',"system":7', 7),
    ],
)
def test_a_personas_prompt_goes_before_the_callers_system(system: bytes, sent: object) -> None:
    assert anthropic_body(b'{"model":"auto","messages":[]%b}' % system, PERSONA)["system"] == sent


@pytest.mark.parametrize(
    ("asked", "defaults", "known", "sent"),
    [
        (b"", PromptDefaults(), None, 4096),
        (b"", PromptDefaults(), 8000, 8000),
        (b"", PERSONA, 8000, 300),
        (b"", PERSONA, 200, 200),
        (b',"max_tokens":50', PERSONA, 8000, 50),
        (b',"max_tokens":9000', PERSONA, 8000, 8000),
        (b',"max_tokens":0', PERSONA, 8000, 0),
    ],
)
def test_a_limit_is_always_sent_and_never_above_the_models_own(
    asked: bytes, defaults: PromptDefaults, known: int | None, sent: int
) -> None:
    body = anthropic_body(b'{"model":"auto","messages":[]%b}' % asked, defaults, max_output_tokens=known)
    assert body["max_tokens"] == sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (b"", 1.0),
        (b',"temperature":0.2', 0.2),
        (b',"top_p":0.9', None),
        (b',"thinking":{"type":"adaptive"}', None),
    ],
)
def test_a_personas_temperature_yields_to_what_it_cannot_stand_beside(asked: bytes, sent: float | None) -> None:
    body = anthropic_body(b'{"model":"auto","messages":[]%b}' % asked, PERSONA)
    assert body.get("temperature") == sent


def test_without_a_persona_only_model_and_limit_are_set() -> None:
    assert anthropic_body(HELLO) == {**msgspec.json.decode(HELLO), "model": "upstream-1", "max_tokens": 4096}
