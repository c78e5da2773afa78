"""Prompt templates with requests of every shape: spaces, repeated fields, odd numbers, long texts, other formats."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.types import ChatRequest
from routerplatform.doors.formats import anthropic_messages, openai_chat, openai_embeddings, openai_responses
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.prompt_templates import with_templates
from routing.domain.config import ConfigSnapshot
from routing.domain.templates import PromptTemplate as Template
from routing.domain.templates import TemplateDocument, VariableDocument, compile_version
from tests.gateway import Gateway, records
from tests.gateway_path.changes import changed
from tests.routing.domain.build import persona, policy
from tests.routing.domain.build import snapshot as snapshot_of
from tests.routing.prompts import says, template
from tests.upstreams.scripted import Upstream

ASK = says("Be kind.", ("user", "<{{ a }}>"), variables=("a",))
PARSERS = {"openai": openai_chat.parse, "anthropic": anthropic_messages.parse}
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def world(**templates: TemplateDocument) -> ConfigSnapshot:
    made = {name: Template(name, "", 1, {1: compile_version(name, 1, one)}) for name, one in templates.items()}
    return replace(snapshot_of(), templates=made)


def with_persona(of: ConfigSnapshot, slug: str, document: TemplateDocument) -> ConfigSnapshot:
    made = persona(slug, policy("p"), template=compile_version(f"of-{slug}", 1, document))
    return replace(of, personas={**of.personas, slug: made}, has_templated_personas=True)


def filled(raw: bytes, of: ConfigSnapshot | None = None) -> ChatRequest:
    return with_templates(of or world(t=ASK), openai_chat.parse(raw))


def texts_of(request: ChatRequest) -> list[str]:
    return [str(part.text) for message in request.conversation().messages for part in message.parts]  # type: ignore[union-attr]


def refused(raw: bytes, of: ConfigSnapshot | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        filled(raw, of)
    return caught.value


# --- the bytes of a request ---------------------------------------------------------------------------------------


@given(value=strings, caller=st.lists(strings, max_size=3), spaces=st.sampled_from(["", " ", "\n\t ", "\r\n"]))
def test_what_a_format_passes_on_and_what_it_translates_say_the_same(
    value: str, caller: list[str], spaces: str
) -> None:
    messages = [{"role": "user", "content": text} for text in caller]
    body = msgspec.json.encode({"model": "m", "template": "t", "variables": {"a": value}, "messages": messages})
    body = body.replace(b'"messages":[', b'"messages":' + spaces.encode() + b"[" + spaces.encode())
    body = body.replace(b'"variables":{', spaces.encode() + b'"variables"' + spaces.encode() + b":{" + spaces.encode())
    request = filled(body)
    passed_on = msgspec.json.decode(request.fields["messages"])
    assert [turn["content"] for turn in passed_on] == [f"<{value}>", *caller] == texts_of(request)
    assert [turn["role"] for turn in passed_on] == ["user"] * (1 + len(caller))
    assert set(request.fields) == {"model", "messages"}
    assert request.input_tokens_bound >= len(bytes(request.fields["messages"]))
    assert request.input_tokens_estimate >= 1


@pytest.mark.parametrize("wire", PARSERS)
def test_the_callers_own_messages_stay_byte_for_byte(wire: str) -> None:
    own = rb'[ {"role" : "user","content":"\u00e9 \/ 1.50" , "name":"z"} ]'
    raw = b'{"max_tokens":5,"model":"m","template":"t","variables":{"a":"A"},"messages":' + own + b"}"
    request = with_templates(world(t=ASK), PARSERS[wire](raw))
    assert bytes(request.fields["messages"]).endswith(own[1:].lstrip())
    assert texts_of(request) == ["<A>", "é / 1.50"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"0", "0"), (b"-0", "-0"), (b"1e400", "1e400"), (b"0.10", "0.10"), (b"-1.5E+3", "-1.5E+3"), (b"true", "true"),
        (b"false", "false"), (b'"null"', "null"), (b'""', ""), (rb'"\u007b\u007b a }}"', "{{ a }}"),
        (b"9" * 500, "9" * 500), (rb'"\ud83d\ude00"', "😀"), (b'"\xe2\x80\xa8"', "\u2028"), (rb'"\u0000"', "\x00"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("space", [b"", b" ", b"\n\t"])
def test_a_value_of_any_kind_is_the_text_that_stands_there(written: bytes, text: str, space: bytes) -> None:
    raw = b'{"template":"t","variables":{"a":' + space + written + space + b'},"messages":[]}'
    assert texts_of(filled(raw)) == [f"<{text}>"]


@pytest.mark.parametrize("written", [b"null", b"[]", b"{}", b'["x"]', b'{"x":1}', b" null "])
def test_what_is_no_text_is_refused_by_its_name(written: bytes) -> None:
    error = refused(b'{"template":"t","variables":{"a":' + written + b'},"messages":[]}')
    assert (error.code, error.param) == ("invalid_variables", "variables.a")
    assert "must be a text, a number, true or false" in error.message


@pytest.mark.parametrize("written", [b"[]", b'"a"', b"1", b"true", b'[{"a":1}]'])
def test_variables_that_are_no_object_are_refused(written: bytes) -> None:
    error = refused(b'{"template":"t","variables":' + written + b',"messages":[]}')
    assert (error.code, error.param) == ("invalid_variables", "variables")


@pytest.mark.parametrize("written", [b"[]", b"{}", b"1", b"true", b"false"])
def test_a_name_of_a_template_that_is_no_text_is_refused(written: bytes) -> None:
    error = refused(b'{"template":' + written + b',"messages":[{"role":"user","content":"Hi"}]}')
    assert (error.code, error.param) == ("invalid_request", "template")


def test_of_fields_that_are_there_twice_the_last_one_counts() -> None:
    raw = b'{"template":"x","template":"t","variables":{"a":"1"},"variables":{"a":"2","a":"3"},"messages":[]}'
    assert texts_of(filled(raw)) == ["<3>"]


def test_a_name_or_a_value_of_great_length_is_not_repeated_in_an_error() -> None:
    secret = "x" * 90_000
    for body in (
        {"template": secret},
        {"template": f"t@{secret}"},
        {"template": "t", "variables": {"a": secret}},
        {"template": "t", "variables": {"a": "A", secret: "B"}},
        {"template": "t", "variables": {"a": "A", secret: None}},
        {"template": "t", "variables": {secret: []}},
    ):
        error = refused(msgspec.json.encode({**body, "messages": []}))
        assert len(error.message) < 400
        assert len(error.param or "") <= len("variables.") + 60


@pytest.mark.parametrize(
    "nothing", [b"", b',"template":null', b',"template":null,"variables":null', b',"variables":{}']
)
def test_a_request_that_fills_in_nothing_is_sent_as_it_came(nothing: bytes) -> None:
    raw = b'{"messages":[{"role":"user","content":"{{ a }}"}]' + nothing + b"}"
    request = filled(raw)
    assert texts_of(request) == ["{{ a }}"]
    assert set(request.fields) == {"messages"}
    assert (request.system, request.template, request.turns_before) == ("", "", 0)


@pytest.mark.parametrize("own", [b'"template":null', b'"variables":null', b'"template":null,"variables":{}'])
def test_what_is_embedded_is_sent_without_the_gateways_own_fields(own: bytes) -> None:
    request = with_templates(world(t=ASK), openai_embeddings.parse(b'{"model":"m","input":"Hi",' + own + b"}"))
    assert set(request.fields) == {"model", "input"}


def test_the_size_of_what_a_template_adds_is_part_of_every_bound() -> None:
    of = world(t=says("", ("user", "word " * 10_000)), s=says("word " * 10_000))
    hello = b'"messages":[{"role":"user","content":"Hi"}]}'
    plain = filled(b"{" + hello, of)
    long = filled(b'{"template":"t",' + hello, of)
    assert long.input_tokens_bound - plain.input_tokens_bound > 49_000
    assert 8_000 < long.input_tokens_estimate - plain.input_tokens_estimate < 20_000
    system = filled(b'{"template":"s",' + hello, of)
    assert 8_000 < system.input_tokens_estimate - plain.input_tokens_estimate < 20_000


# --- personas and templates together ------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [b'"persona":"guide"', b'"model":"guide"', b'"model":"m","persona":"guide"'])
def test_a_persona_is_told_its_template_however_it_is_named(named: bytes) -> None:
    of = with_persona(world(t=ASK), "guide", says("Speak {{ a }}.", variables=("a",)))
    raw = b"{" + named + b',"variables":{"a":"Welsh"},"messages":[{"role":"user","content":"Hi"}]}'
    request = filled(raw, of)
    assert (request.system, request.template) == ("Speak Welsh.", "of-guide@1")
    both = filled(raw.replace(b'"variables"', b'"template":"t","variables"'), of)
    assert (both.system, both.template) == ("Speak Welsh.\n\nBe kind.", "of-guide@1, t@1")
    assert texts_of(both) == ["<Welsh>", "Hi"]


def test_another_personas_request_is_left_alone() -> None:
    of = with_persona(world(), "guide", says("Speak {{ a }}.", variables=("a",)))
    request = filled(b'{"persona":"other","messages":[{"role":"user","content":"Hi"}]}', of)
    assert (request.system, request.template) == ("", "")


def test_a_personas_template_is_filled_in_for_responses_too() -> None:
    of = with_persona(world(), "guide", says("Speak {{ a }}.", variables=("a",)))
    raw = b'{"model":"guide","input":"Hi","variables":{"a":"Manx"}}'
    request = with_templates(of, openai_responses.parse(raw))
    assert request.system == "Speak Manx."
    assert not {"template", "variables"} & set(request.fields)


def test_a_default_stands_in_where_one_template_has_it_and_the_other_gets_the_value() -> None:
    usual = says("Speak {{ a }}.", variables=(VariableDocument("a", default="English"),))
    of = with_persona(world(t=ASK), "guide", usual)
    raw = b'{"persona":"guide","template":"t","messages":[]}'
    error = refused(raw, of)
    assert (error.param, "“of-guide@1” and “t@1”" in error.message) == ("variables.a", True)
    alone = filled(b'{"persona":"guide","messages":[{"role":"user","content":"Hi"}]}', of)
    assert alone.system == "Speak English."


# --- through the gateway ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_a_template_of_the_greatest_length_and_values_that_fill_it_are_sent(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    wide = says("x" * 9_000 + "{{ a }}", variables=(VariableDocument("a", max_length=100_000),))
    await changed(gateway, lambda: template("wide", wide))
    value = "é" * 100_000
    asked: dict[str, Any] = {"model": "swift", "template": "wide", "variables": {"a": value}}
    reply = await gateway.chat(**asked)
    if reply.status == 200:
        assert openai_upstream.calls[0].body["messages"][0]["content"] == "x" * 9_000 + value
    else:  # longer than the model can read: refused before anybody is asked, and told so
        assert (reply.status, openai_upstream.calls) == (400, []), reply.body
        assert reply.error["code"] in {"context_length_exceeded", "no_eligible_model"}, reply.body
    refused_ = await gateway.chat(**{**asked, "variables": {"a": value + "é"}})
    assert (refused_.status, refused_.error["param"]) == (400, "variables.a")


@pytest.mark.django_db(transaction=True)
async def test_a_refused_request_says_nothing_of_its_values_on_record_or_in_its_answer(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: template("t", ASK))
    secret = "do-not-repeat-me"
    for variables in ({"a": [secret]}, {"a": secret * 1_000}, {"a": secret, "b": secret}):
        reply = await gateway.chat(model="swift", template="t", variables=variables)
        assert reply.status == 400
        assert secret not in reply.body.decode()
    assert (await gateway.chat(model="swift", template="t", variables={"a": secret})).status == 200
    assert secret not in str([(record.decision, record.error_code) for record in await records()])
    assert secret in str(openai_upstream.calls[0].body)
