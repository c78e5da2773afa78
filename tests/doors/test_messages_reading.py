"""What an Anthropic client sends: what is refused, what it needs, and the conversation that it says."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.domain.types import Capability, ChatRequest, Wire
from providers.wires.protocol import UnsupportedFeature
from providers.wires.sealed_thought import SealedThought, seal
from routerplatform.doors.formats import anthropic_messages
from routerplatform.gateway.errors import InvalidRequest

HI = [{"role": "user", "content": "Hi"}]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}
MARK = {"cache_control": {"type": "ephemeral"}}


def parsed(**fields: Any) -> ChatRequest:
    return anthropic_messages.parse(msgspec.json.encode({"max_tokens": 100, "messages": HI, **fields}))


def read(**fields: Any) -> Conversation:
    return parsed(**fields).conversation()


def parts(*blocks: dict[str, Any], role: str = "user") -> tuple[Part, ...]:
    [message] = read(messages=[{"role": role, "content": list(blocks)}]).messages
    return message.parts


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        anthropic_messages.parse(raw)
    return caught.value


# --- the body -----------------------------------------------------------------------------------------------------


def test_a_request_keeps_its_fields_verbatim_for_its_own_wire() -> None:
    raw = b'{"model":"sage","max_tokens":5,"messages":[{"role":"user","content":"Hi"}],"new":{"a": 1.50}}'
    request = anthropic_messages.parse(raw)
    assert request.wire is Wire.ANTHROPIC
    assert bytes(request.fields["new"]) == b'{"a": 1.50}'
    assert (request.model, request.max_tokens, request.stream, request.choices) == ("sage", 5, False, 1)
    assert request.input_tokens_bound == len(raw)


@pytest.mark.parametrize(
    ("raw", "param", "says"),
    [
        (b'{"messages":[{"role":"user","content":"x"}]}', "max_tokens", "Field required"),
        (b'{"max_tokens":-1,"messages":[{"role":"user","content":"x"}]}', "max_tokens", "at least 0"),
        (b'{"max_tokens":2147483648,"messages":[{"role":"user","content":"x"}]}', "max_tokens", "at most"),
        (b'{"max_tokens":"5","messages":[]}', "max_tokens", "int"),
        (b'{"max_tokens":5}', "messages", "messages"),
        (b'{"max_tokens":5,"messages":[]}', "messages", "at least one"),
        (b'{"max_tokens":5,"messages":[{"role":"tool","content":"x"}]}', "messages[0].role", "tool"),
        (b'{"max_tokens":5,"messages":[{"role":"user"}]}', "messages[0].content", "content"),
        (b'{"max_tokens":5,"messages":[{"role":"user","content":[{}]}]}', None, "type"),
        (b'{"max_tokens":5,"temperature":1.5,"messages":[{"role":"user","content":"x"}]}', "temperature", "0 and 1"),
        (b'{"max_tokens":5,"stream":"yes","messages":[]}', "stream", "bool"),
        (b"{", None, "not valid JSON"),
        (b'{"max_tokens":NaN}', None, "not valid JSON"),
        (b'{"a":"\xff"}', None, "UTF-8 (byte 6)"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", None, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_fields_name(raw: bytes, param: str | None, says: str) -> None:
    error = refusal(raw)
    assert says in error.message
    if param is not None:
        assert error.param == param


def test_a_thread_is_refused_so_that_clients_send_the_whole_conversation() -> None:
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}, False):
        error = refusal(msgspec.json.encode({"max_tokens": 5, "messages": HI, "thread": thread}))
        assert error.details == {"error_code": "thread_unsupported_request"}
    assert parsed(thread=None).model == "auto"


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"stream": True}, {Capability.STREAMING}),
        ({"tools": [{"name": "f", "input_schema": {}}]}, {Capability.TOOL_CALLING}),
        ({"tools": [], "output_config": {"effort": "low"}}, set()),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {Capability.JSON_SCHEMA}),
        ({"output_config": {"format": None}}, set()),
        ({"messages": [{"role": "user", "content": [PNG]}]}, {Capability.VISION}),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [PNG]}]}
                ]
            },
            {Capability.VISION},
        ),
        ({"messages": [{"role": "user", "content": [{"type": "x", "content": {"type": "error"}}]}]}, set()),
        ({"thinking": {"type": "adaptive"}}, set()),
    ],
)
def test_what_a_request_needs_of_a_model(fields: dict[str, Any], needs: set[Capability]) -> None:
    assert parsed(**fields).needs == needs


def test_a_request_for_a_count_has_no_limit() -> None:
    request = anthropic_messages.parse_for_count(msgspec.json.encode({"messages": HI, "model": "sage"}))
    assert (request.max_tokens, request.model) == (None, "sage")


# --- messages -----------------------------------------------------------------------------------------------------


def test_instructions_lead_and_stay_in_the_middle() -> None:
    blocks = [{"type": "text", "text": "Be kind.", **MARK}, {"type": "text", "text": "Be brief."}]
    messages = [*HI, {"role": "system", "content": "Now in French."}, {"role": "assistant", "content": "Salut"}]
    assert read(system=blocks, messages=messages).messages == (
        Message(Role.SYSTEM, (TextPart("Be kind.", "5m"), TextPart("Be brief."))),
        Message(Role.USER, (TextPart("Hi"),)),
        Message(Role.SYSTEM, (TextPart("Now in French."),)),
        Message(Role.ASSISTANT, (TextPart("Salut"),)),
    )
    assert read(system="Be kind.").messages[0] == Message(Role.SYSTEM, (TextPart("Be kind."),))
    assert len(read(system="").messages) == len(read(system=None).messages) == 1


def test_pictures_and_documents_of_every_source() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert parts(
        {**PNG, **MARK},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/i.png"}},
        {"type": "document", "source": pdf, "title": "A paper", "context": "Of 1999.", "citations": {"enabled": False}},
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}, **MARK},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Body"}, "title": "Note"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "One"}, PNG]}},
        {"type": "search_result", "source": "https://x.example", "title": "Found", "content": [
            {"type": "text", "text": "It is so."}]},
    ) == (
        ImagePart(media_type="image/png", data="iVBO", cache="5m"),
        ImagePart(url="https://x.example/i.png"),
        TextPart("Of 1999."),
        DocumentPart(media_type="application/pdf", data="JVBE", name="A paper"),
        DocumentPart(url="https://x.example/a.pdf", cache="5m"),
        TextPart("Note\nBody"),
        TextPart("One"),
        ImagePart(media_type="image/png", data="iVBO"),
        TextPart("Found\nhttps://x.example\nIt is so."),
    )  # fmt: skip


def test_tool_calls_and_their_results() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Zürich", "n": 1}}
    assert parts(call, {**call, "input": {}}, role="assistant") == (
        ToolCallPart("toolu_1", "f", '{"city":"Zürich","n":1}'),
        ToolCallPart("toolu_1", "f", "{}"),
    )
    several = [{"type": "text", "text": "a"}, PNG, {"type": "text", "text": "b"}]
    assert parts(
        {**RESULT, "content": "7", "is_error": True},
        RESULT,
        {**RESULT, "content": several, "cache_control": {"ttl": "1h"}},
    ) == (
        ToolResultPart("toolu_1", "7", is_error=True),
        ToolResultPart("toolu_1", ""),
        ToolResultPart("toolu_1", "a\nb", media=(ImagePart(media_type="image/png", data="iVBO"),), cache="1h"),
    )  # fmt: skip


def test_thoughts_say_whose_they_are() -> None:
    sealed = seal(SealedThought("openai", id="rs_1", encrypted="gAAA"))
    hidden = seal(SealedThought("gemini", signature="sig"))
    unsigned = seal(SealedThought())
    assert parts(
        {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "Qm9v"},
        {"type": "thinking", "thinking": "oh", "signature": sealed},
        {"type": "redacted_thinking", "data": hidden},
        {"type": "thinking", "thinking": "so", "signature": unsigned},
        role="assistant",
    ) == (
        ReasoningPart("hm", "EqQB", vendor="anthropic"),
        ReasoningPart(encrypted="Qm9v", vendor="anthropic"),
        ReasoningPart("oh", encrypted="gAAA", vendor="openai", id="rs_1"),
        ReasoningPart(signature="sig", vendor="gemini"),
        ReasoningPart("so"),
    )


def test_a_proof_that_belongs_to_a_call_goes_to_it() -> None:
    proof = {"type": "redacted_thinking", "data": seal(SealedThought(signature="sig", call="b"))}
    calls = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in ("a", "b")]
    assert parts(calls[0], proof, calls[1], role="assistant") == (
        ToolCallPart("a", "f", "{}"),
        ToolCallPart("b", "f", "{}", "sig"),
    )


@pytest.mark.parametrize(
    ("role", "content", "param"),
    [
        ("user", [{"type": "text"}], "messages[0].content[0].text"),
        ("user", [{"type": "image"}], "messages[0].content[0].source"),
        ("user", [{"type": "image", "source": {"type": "base64", "data": "x"}}], "messages[0].content[0].source"),
        ("user", [{"type": "document", "source": {"type": "base64"}}], "messages[0].content[0].source"),
        ("user", [{"type": "tool_result"}], "messages[0].content[0].tool_use_id"),
        ("assistant", [{"type": "tool_use", "id": "a"}], "messages[0].content[0].name"),
        ("assistant", [{"type": "thinking"}], "messages[0].content[0].thinking"),
        ("assistant", [{"type": "redacted_thinking"}], "messages[0].content[0].data"),
    ],
)
def test_a_block_that_lacks_something_is_refused_with_its_place(role: str, content: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(messages=[{"role": role, "content": content}])
    assert caught.value.param == param


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_tools_and_how_to_choose_among_them() -> None:
    schema = {"type": "object"}
    conversation = read(
        tools=[
            {"name": "f", "description": "Does", "input_schema": schema, "strict": True, **MARK},
            {"type": "custom", "name": "g", "input_schema": schema},
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert conversation.tools == (
        Tool("f", "Does", Raw(b'{"type":"object"}'), True, "5m"),
        Tool("g", "", Raw(b'{"type":"object"}')),
    )
    assert (conversation.tool_choice, conversation.parallel_tool_calls) == (ToolChoice("required"), False)


@pytest.mark.parametrize(
    ("sent", "choice"),
    [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("named", "f")),
        (None, None),
    ],
)
def test_every_choice_has_its_word(sent: object, choice: ToolChoice | None) -> None:
    conversation = read(tool_choice=sent)
    assert (conversation.tool_choice, conversation.parallel_tool_calls) == (choice, None)


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, Reasoning("", 2_000)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Reasoning(show=False)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Reasoning("max")),
        ({"output_config": {"effort": "low"}}, Reasoning("low")),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Reasoning("none")),
        ({"thinking": {"type": "between_tools"}}, Reasoning("none")),
    ],
)
def test_thinking_and_effort_are_one_wish(fields: dict[str, Any], reasoning: Reasoning | None) -> None:
    assert read(**fields).reasoning == reasoning


def test_everything_else_that_other_wires_know() -> None:
    conversation = read(
        temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END"], metadata={"user_id": "u1"}, max_tokens=7,
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        service_tier="auto", speed=None, cache_control={"type": "ephemeral"}, new_knob=1,
    )  # fmt: skip
    assert (conversation.temperature, conversation.top_p, conversation.top_k) == (0.5, 0.9, 40)
    assert (conversation.stop, conversation.user, conversation.max_tokens) == (("END",), "u1", 7)
    assert conversation.response_format == ResponseFormat("json_schema", "answer", Raw(b'{"type":"object"}'), True)
    assert conversation.dropped == ("cache_control", "service_tier")


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"container": "c_1"}, "container"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "web_search_20260318 tools"),
        ({"system": [PNG]}, "a system message with more than text"),
    ],
)
def test_what_only_anthropic_has_is_refused_by_its_name(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature, match=feature):
        read(**fields)


BY_ID = {"type": "file", "file_id": "f"}
CITED = {"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": True}}


@pytest.mark.parametrize(
    ("role", "block", "feature"),
    [
        ("user", {"type": "container_upload", "file_id": "f"}, "a container_upload block"),
        ("user", {"type": "image", "source": BY_ID}, "a file by its id"),
        ("user", {"type": "document", "source": BY_ID}, "a file by its id"),
        ("user", CITED, "citations"),
        ("user", {**RESULT, "content": [{"type": "tool_reference", "tool_name": "f"}]}, "a tool_reference block"),
        ("assistant", {"type": "server_tool_use", "id": "s"}, "a server_tool_use block"),
        ("assistant", {"type": "web_search_tool_result", "content": {"type": "error"}}, "web_search_tool_result"),
        (
            "assistant",
            {"type": "tool_use", "id": "a", "name": "click", "input": {}, "toolset_name": "browser"},
            "toolset browser",
        ),
    ],
)
def test_blocks_that_only_anthropic_has_are_refused_by_their_name(
    role: str, block: dict[str, Any], feature: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=feature):
        parts(block, role=role)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
        ({"stop_sequences": "END"}, "stop_sequences"),
    ],
)
def test_what_nobody_understands_is_refused_with_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
