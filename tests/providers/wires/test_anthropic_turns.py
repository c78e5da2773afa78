"""Turns and blocks that Anthropic accepts, made of conversations that came in other shapes."""

import base64
from typing import Any

import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import NO_DEFAULTS, Capability, PromptDefaults, Wire
from providers.wires import WIRES
from providers.wires.protocol import UnsupportedFeature
from tests.providers.wires.builders import assistant, body_of, deployment, saying, system, user
from tests.providers.wires.test_anthropic_thinking import model

PIXEL = ImagePart(media_type="image/png", data="iVBO")
NEWEST, OLDER = "claude-opus-4-8", "claude-opus-4-7"
EPHEMERAL = {"type": "ephemeral"}


def said(*messages: Message, name: str = NEWEST, prompt: str = "", **fields: Any) -> dict[str, Any]:
    conversation = Conversation(messages, **fields)
    return body_of(saying(conversation), model(name), PromptDefaults(system_prompt=prompt) if prompt else NO_DEFAULTS)


def turns(*messages: Message, name: str = NEWEST) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = said(*messages, name=name)["messages"]
    return made


# --- instructions ---------------------------------------------------------------------------------------------------


def test_instructions_in_the_middle_stay_there_at_a_model_that_takes_them() -> None:
    messages = (system("Be kind."), user("Hi"), system("Now in French."), assistant("Salut"), user("More"))
    sent = said(*messages)
    assert sent["system"] == "Be kind."
    assert sent["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Now in French."},
        {"role": "assistant", "content": "Salut"},
        {"role": "user", "content": "More"},
    ]
    older = said(*messages, name=OLDER)
    assert older["system"] == "Be kind.\nNow in French."
    assert [turn["role"] for turn in older["messages"]] == ["user", "assistant", "user"]


def test_instructions_at_the_end_and_next_to_each_other_are_one_message() -> None:
    sent = turns(user("Hi"), system("One."), system("Two."))
    assert sent == [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
    ]


def test_instructions_where_the_vendor_refuses_them_go_to_the_top() -> None:
    between_users = said(user("Hi"), system("Now."), user("There"))
    assert between_users["system"] == "Now."
    assert [turn["role"] for turn in between_users["messages"]] == ["user"]
    after_the_model = said(user("Hi"), assistant("Yes"), system("Now."))
    assert after_the_model["system"] == "Now."


def test_marked_instructions_are_blocks() -> None:
    marked = Message(Role.SYSTEM, (TextPart("Long.", "1h"), TextPart("Short.")))
    assert said(marked, user("Hi"), prompt="You are Sage.")["system"] == [
        {"type": "text", "text": "You are Sage."},
        {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "Short."},
    ]


def test_marked_instructions_alone_are_what_the_user_says() -> None:
    sent = said(Message(Role.SYSTEM, (TextPart("Tell a joke.", "5m"),)))
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Tell a joke.", "cache_control": EPHEMERAL}]}
    ]
    assert "system" not in sent


# --- thoughts -------------------------------------------------------------------------------------------------------


def test_anthropics_own_thoughts_come_back_to_it_unchanged_and_first() -> None:
    shown = ReasoningPart("hm", "EqQB", vendor="anthropic")
    hidden = ReasoningPart(encrypted="Qm9v", vendor="anthropic")
    sent = turns(user("Hi"), assistant("Look:", shown, hidden, ToolCallPart("a", "f", "{}")), user("x"))
    assert sent[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "Qm9v"},
        {"type": "text", "text": "Look:"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]


def test_thoughts_between_calls_keep_their_places() -> None:
    first, second = (ReasoningPart(text, text, vendor="anthropic") for text in ("one", "two"))
    call = ToolCallPart("a", "f", "{}")
    sent = turns(user("Hi"), assistant(first, "So", second, call), user("x"))
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "text", "thinking", "tool_use"]


@pytest.mark.parametrize(
    "part",
    [
        ReasoningPart("hm", "sig", vendor="gemini"),
        ReasoningPart("hm", encrypted="gAAA", vendor="openai"),
        ReasoningPart("hm"),
        ReasoningPart("hm", vendor="anthropic"),
    ],
)
def test_thoughts_that_anthropic_cannot_prove_are_left_out(part: ReasoningPart) -> None:
    assert turns(user("Hi"), assistant(part, "Yes"), user("x"))[1] == {"role": "assistant", "content": "Yes"}


# --- media and results ------------------------------------------------------------------------------------------------


def test_documents_by_address_inline_and_as_text() -> None:
    note = base64.b64encode("Grüße".encode()).decode()
    sent = turns(
        user(
            DocumentPart(url="https://x.example/a.pdf"),
            DocumentPart(media_type="application/pdf", data="JVBE", name="A paper", cache="5m"),
            DocumentPart(url="data:application/pdf;base64,JVBE"),
            DocumentPart(media_type="text/markdown", data=note),
        )
    )
    assert sent[0]["content"] == [
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "A paper",
            "cache_control": EPHEMERAL,
        },
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
    ]


def test_a_result_with_pictures_is_a_list_of_blocks() -> None:
    paper = DocumentPart(media_type="application/pdf", data="JVBE")
    result = ToolResultPart("a", "See:", is_error=True, media=(PIXEL, paper), cache="1h")
    picture = ToolResultPart("b", " ", media=(PIXEL,))
    sent = turns(user("Hi"), assistant(ToolCallPart("a", "f", "{}")), user(result, picture))[2]["content"]
    assert [block["type"] for block in sent[0]["content"]] == ["text", "image", "document"]
    assert sent[0]["is_error"] is True
    assert sent[0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert [block["type"] for block in sent[1]["content"]] == ["image"]
    assert not {"is_error", "cache_control"} & sent[1].keys()


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        (user(DocumentPart(media_type="application/zip", data="UEsD")), "a document of type application/zip"),
        (user(DocumentPart(media_type="text/plain", data="/w==")), "not base64 of UTF-8"),
        (user(DocumentPart(media_type="text/plain", data="a")), "not base64 of UTF-8"),
        (user(DocumentPart(url="data:text/plain,hello")), "a document in a data URL that is not base64"),
        (assistant(DocumentPart(url="https://x.example/a.pdf")), "a document in an assistant message"),
        (user(ReasoningPart("hm")), "reasoning in a user message"),
        (user(ToolResultPart("a", "", media=(ImagePart(media_type="image/tiff", data="x"),))), "image/tiff"),
    ],
)
def test_what_messages_cannot_say_is_refused_by_its_name(message: Message, feature: str) -> None:
    with pytest.raises(UnsupportedFeature, match=feature):
        said(message)


# --- cache marks, tools, knobs --------------------------------------------------------------------------------------


def test_marks_stand_on_tools_texts_and_images() -> None:
    tool = Tool("f", "", Raw(b"{}"), cache="5m")
    sent = said(user(TextPart("Hi", "5m"), ImagePart(url="https://x.example/i.png", cache="1h")), tools=(tool,))
    assert sent["tools"][0]["cache_control"] == EPHEMERAL
    assert [block["cache_control"] for block in sent["messages"][0]["content"]] == [
        EPHEMERAL, {"type": "ephemeral", "ttl": "1h"},
    ]  # fmt: skip


def test_only_the_last_four_marks_stay() -> None:
    tool = Tool("f", "", Raw(b"{}"), cache="5m")
    texts = [TextPart(str(number), "5m") for number in range(4)]
    sent = said(Message(Role.SYSTEM, (TextPart("Long.", "5m"),)), user(*texts), tools=(tool,))
    assert "cache_control" not in sent["tools"][0]
    assert "cache_control" not in sent["system"][0]
    assert all("cache_control" in block for block in sent["messages"][0]["content"])


def test_a_strict_tool_is_strict_where_the_model_can_be() -> None:
    strict, loose = Tool("f", "", Raw(b"{}"), True), Tool("g", "", Raw(b"{}"), False)
    assert [tool.get("strict") for tool in said(user("Hi"), tools=(strict, loose))["tools"]] == [True, None]
    plain = deployment(Wire.ANTHROPIC, capabilities=(Capability.TEMPERATURE,))
    sent = body_of(saying(Conversation((user("Hi"),), tools=(strict,))), plain)
    assert "strict" not in sent["tools"][0]


def test_knobs_without_a_word_are_named_and_the_others_are_said() -> None:
    conversation = Conversation(
        (user("Hi"),), temperature=1.5, top_p=0.9, top_k=40, seed=7, frequency_penalty=0.5, presence_penalty=0.0,
        verbosity="low", dropped=("logit_bias",),
    )  # fmt: skip
    call = WIRES[Wire.ANTHROPIC].build(saying(conversation), deployment(Wire.ANTHROPIC), NO_DEFAULTS)
    assert set(call.dropped) == {"logit_bias", "seed", "frequency_penalty", "verbosity", "top_p"}
    assert b'"temperature":1.0' in call.body
    assert b'"top_k":40' in call.body


def test_sampling_is_named_where_the_model_refuses_it() -> None:
    target = deployment(Wire.ANTHROPIC, capabilities=())
    conversation = Conversation((user("Hi"),), temperature=0.5, top_k=40)
    call = WIRES[Wire.ANTHROPIC].build(saying(conversation), target, PromptDefaults(temperature=0.2))
    assert call.dropped == ("temperature", "top_k")
    assert b"temperature" not in call.body
