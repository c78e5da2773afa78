"""Every part of a conversation in OpenAI's words, and what each kind of provider is spared or given."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import NO_DEFAULTS, Capability, Deployment, Wire
from providers.wires import WIRES, UnsupportedFeature
from tests.providers.wires.builders import assistant, body_of, deployment, saying, sent_by_caller, user

PAPER = DocumentPart(media_type="application/pdf", data="AAAA", name="a.pdf")
PICTURE = ImagePart(url="https://example.com/a.png")
HISTORY = Conversation(
    (
        user("Hi"),
        assistant(
            ReasoningPart("Hm.", "sig", vendor="anthropic", id="t1"),
            ReasoningPart("Sum.", encrypted="enc", vendor="openai", id="rs_1"),
            "So.",
            ToolCallPart("a", "f", "{}", signature="gem"),
        ),
        user(ToolResultPart("a", "ok")),
    )
)


def at(kind: str, model: str = "upstream-1", *capabilities: Capability) -> Deployment:
    """A deployment of such a provider."""
    target = deployment(Wire.OPENAI, capabilities=capabilities or (Capability.TEMPERATURE, Capability.REASONING))
    return replace(target, endpoint=replace(target.endpoint, kind=kind), upstream_model=model)


def assistant_said(target: Deployment) -> dict[str, Any]:
    message: dict[str, Any] = body_of(saying(HISTORY), target)["messages"][1]
    return message


def refused(conversation: Conversation, target: Deployment) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        body_of(saying(conversation), target)
    return caught.value.feature


# --- thoughts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "azure-openai", "groq", "mistral", "xai", "openai-compatible"])
def test_thoughts_and_proofs_stay_here_for_most(kind: str) -> None:
    assert assistant_said(at(kind)) == {
        "role": "assistant",
        "content": "So.",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


@pytest.mark.parametrize(
    ("kind", "model"),
    [("deepseek", "deepseek-chat"), ("vllm", "any"), ("fireworks", "any"), ("openai-compatible", "kimi-k2-thinking")],
)
def test_thoughts_without_proofs_go_back_to_who_wants_them(kind: str, model: str) -> None:
    said = assistant_said(at(kind, model))
    assert said["reasoning_content"] == "Hm.Sum."
    assert "reasoning_details" not in said


def test_a_strict_vendor_is_sent_no_thoughts_whatever_the_model_is_called() -> None:
    assert "reasoning_content" not in assistant_said(at("groq", "deepseek-r1-distill"))


def test_openrouter_gets_every_proof_with_whose_it_is() -> None:
    assert assistant_said(at("openrouter"))["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "sig", "index": 0, "format": "anthropic-claude-v1",
         "id": "t1"},
        {"type": "reasoning.summary", "summary": "Sum.", "index": 1, "format": "openai-responses-v1", "id": "rs_1"},
        {"type": "reasoning.encrypted", "data": "enc", "index": 1, "format": "openai-responses-v1", "id": "rs_1"},
    ]  # fmt: skip


def test_geminis_proof_of_a_call_goes_back_to_gemini_only() -> None:
    call = assistant_said(at("gemini"))["tool_calls"][0]
    assert call["extra_content"] == {"google": {"thought_signature": "gem"}}
    by_address = at("openai-compatible")
    google = "https://generativelanguage.googleapis.com/v1beta/openai"
    by_address = replace(by_address, endpoint=replace(by_address.endpoint, base_url=google))
    assert "extra_content" in assistant_said(by_address)["tool_calls"][0]


# --- pictures and documents ---------------------------------------------------------------------------------------


def test_what_a_tool_shows_follows_its_result_as_if_the_user_showed_it() -> None:
    said = Conversation(
        (user(ToolResultPart("a", "see", media=(PICTURE, PAPER)), ToolResultPart("b", "ok"), "What is it?"),)
    )
    assert body_of(saying(said), at("openai"))["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "see"},
        {"role": "tool", "tool_call_id": "b", "content": "ok"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Shown by the tool call a:"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
                {"type": "text", "text": "What is it?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("document", "content"),
    [
        (DocumentPart(media_type="text/plain", data="R3LDvMOfZQ==", name="a.txt"),
         {"type": "text", "text": "a.txt:\n\nGrüße"}),
        (DocumentPart(media_type="text/csv", data="YSxi"), {"type": "text", "text": "a,b"}),
        (DocumentPart(media_type="application/pdf", data="AAAA"),
         {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"}}),
    ],
)  # fmt: skip
def test_documents_that_are_text_are_said_as_text(document: DocumentPart, content: dict[str, Any]) -> None:
    sent = body_of(saying(Conversation((user(document, "?"),))), at("openai"))
    assert sent["messages"][0]["content"][0] == content


@pytest.mark.parametrize(
    ("document", "feature"),
    [
        (DocumentPart(url="https://example.com/a.pdf"), "a document by address"),
        (DocumentPart(media_type="application/zip", data="AAAA"), "a document of type application/zip"),
        (DocumentPart(media_type="text/plain", data="/w=="),
         "a document of type text/plain that is no UTF-8 text in base64"),
        (DocumentPart(media_type="text/plain", data="!"),
         "a document of type text/plain that is no UTF-8 text in base64"),
    ],
)  # fmt: skip
def test_documents_that_openai_does_not_read_are_named(document: DocumentPart, feature: str) -> None:
    assert refused(Conversation((user(document),)), at("openai")) == feature


def test_openrouter_reads_what_lies_at_an_address() -> None:
    sent = body_of(saying(Conversation((user(DocumentPart(url="https://example.com/a.pdf")),))), at("openrouter"))
    assert sent["messages"][0]["content"][0]["file"]["file_data"] == "https://example.com/a.pdf"


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        (Message(Role.SYSTEM, (PAPER,)), "a document in a system message"),
        (Message(Role.SYSTEM, (ReasoningPart("x"),)), "reasoning in a system message"),
        (assistant(PICTURE), "an image in an assistant message"),
        (user(ReasoningPart("x")), "reasoning in a user message"),
    ],
)
def test_parts_where_openai_has_no_place_for_them_are_named(message: Message, feature: str) -> None:
    assert refused(Conversation((message,)), at("openai")) == feature


def test_marks_of_what_to_cache_are_left_out_without_a_word() -> None:
    marked = Conversation((user(TextPart("Long.", "1h")),), tools=(Tool("f", "", Raw(), cache="5m"),))
    call = WIRES[Wire.OPENAI].build(saying(marked), at("openai"), NO_DEFAULTS)
    assert b"cache" not in call.body
    assert call.dropped == ()


def test_strict_tools_and_schemas_stay_strict() -> None:
    wanted = ResponseFormat("json_schema", "city", Raw(b"{}"), strict=True)
    said = Conversation((user("Hi"),), tools=(Tool("f", "", Raw(b"{}"), strict=False),), response_format=wanted)
    sent = body_of(saying(said), at("openai"))
    assert sent["tools"][0]["function"]["strict"] is False
    assert sent["response_format"]["json_schema"] == {"name": "city", "schema": {}, "strict": True}


# --- the caller's own messages, for vendors that are strict --------------------------------------------------------

GIVEN_BACK = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": "So.",
        "reasoning_content": "Hm.",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "t"}}}],
    },
]  # fmt: skip


def sent_on(messages: Any, kind: str) -> dict[str, Any]:
    body = msgspec.json.encode({"messages": messages, "x": 1})
    return body_of(sent_by_caller(Wire.OPENAI, body), at(kind))


@pytest.mark.parametrize("kind", ["groq", "mistral"])
def test_what_other_vendors_answers_added_is_kept_from_strict_vendors(kind: str) -> None:
    sent = sent_on(GIVEN_BACK, kind)
    assert sent["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "So.",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ]
    assert sent["x"] == 1


@pytest.mark.parametrize("kind", ["openai", "openrouter", "deepseek", "openai-compatible"])
def test_all_others_get_the_callers_messages_as_they_are(kind: str) -> None:
    assert sent_on(GIVEN_BACK, kind)["messages"] == GIVEN_BACK


def test_a_strict_vendor_gets_messages_without_additions_byte_for_byte() -> None:
    raw = b'[{"role":"user",  "content":"x","new":1}]'
    request = sent_by_caller(Wire.OPENAI, b'{"messages":' + raw + b"}")
    assert raw in WIRES[Wire.OPENAI].build(request, at("groq"), NO_DEFAULTS).body


def test_messages_of_no_known_shape_are_left_for_a_strict_vendor_to_refuse() -> None:
    odd = ["reasoning_content", 5]
    assert sent_on(odd, "groq")["messages"] == odd
    odd_calls = [{"role": "assistant", "tool_calls": "extra_content"}]
    assert sent_on(odd_calls, "groq")["messages"] == odd_calls
