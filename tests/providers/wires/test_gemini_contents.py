"""The turns of a conversation in Gemini's words."""

from typing import Any

import pytest

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import PromptDefaults
from providers.wires import UnsupportedFeature
from providers.wires.gemini_contents import NO_PROOF
from tests.providers.wires.builders import assistant, system, user
from tests.providers.wires.gemini_words import THREE, TWO, model, said

PIXEL = ImagePart(media_type="image/png", data="iVBORw0=")
INLINE_PIXEL = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}}
PAPER = DocumentPart(media_type="application/pdf", data="JVBERg==", name="paper.pdf")
INLINE_PAPER = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}}
OSLO = ToolCallPart("c1", "weather", '{"city": "Oslo"}')


def contents(*messages: Message, name: str = THREE) -> Any:
    return said(Conversation(messages), model(name))["contents"]


def parts(*messages: Message, name: str = THREE) -> Any:
    """Of the last turn."""
    return contents(*messages, name=name)[-1]["parts"]


def refused(*messages: Message, name: str = THREE) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        contents(*messages, name=name)
    return caught.value.feature


# --- turns --------------------------------------------------------------------------------------------------------


def test_neighbours_of_one_role_become_one_turn() -> None:
    assert contents(user("a"), user("b", "c"), assistant("d"), assistant("e"), user("f")) == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}, {"text": "c"}]},
        {"role": "model", "parts": [{"text": "d"}, {"text": "e"}]},
        {"role": "user", "parts": [{"text": "f"}]},
    ]


def test_empty_texts_and_turns_are_left_out() -> None:
    assert contents(user("a"), assistant(""), user("", "b")) == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}
    ]


def test_instructions_lead_wherever_they_stood() -> None:
    messages = (system("Be kind."), user("a"), system("  ", "In French."), user("b"))
    body = said(Conversation(messages), model(), PromptDefaults("You are terse."))
    assert body["systemInstruction"] == {"parts": [{"text": "You are terse.\nBe kind.\nIn French."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]


def test_instructions_alone_are_said_by_the_user() -> None:
    body = said(Conversation((system("Write a poem."),)))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Write a poem."}]}]}


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        (system(PIXEL), "an image in a system message"),
        (user(OSLO), "a tool call in a user message"),
        (user(ReasoningPart("hm")), "reasoning in a user message"),
        (assistant(ToolResultPart("c1", "x")), "a tool result in an assistant message"),
        (assistant(ImagePart(url="https://example.com/a.png")), "an image in an assistant message"),
    ],
)
def test_what_a_turn_cannot_hold_is_named(message: Message, feature: str) -> None:
    assert refused(message) == feature


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [THREE, TWO, "gemini-2.0-flash"])
def test_inline_files_are_sent_to_every_generation(name: str) -> None:
    assert parts(user("See", PIXEL, PAPER), name=name) == [{"text": "See"}, INLINE_PIXEL, INLINE_PAPER]


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (ImagePart(url="data:image/webp;base64,AAAA"), ("image/webp", "AAAA")),
        (ImagePart(url="data:image/png;charset=utf-8;base64,AAAA"), ("image/png", "AAAA")),
        (ImagePart(media_type="image/jpg", data="AAAA"), ("image/jpeg", "AAAA")),
        (ImagePart(media_type="image/heic", data="AAAA"), ("image/heic", "AAAA")),
        (DocumentPart(media_type="text/markdown", data="AAAA"), ("text/markdown", "AAAA")),
        (DocumentPart(url="data:application/pdf;base64,AAAA"), ("application/pdf", "AAAA")),
    ],
)
def test_inline_files_carry_the_type_that_google_knows(part: Part, sent: tuple[str, str]) -> None:
    assert parts(user(part)) == [{"inlineData": {"mimeType": sent[0], "data": sent[1]}}]


def test_a_model_may_have_shown_an_image() -> None:
    assert contents(user("Draw"), assistant("Here", PIXEL), user("Nice"))[1]["parts"] == [
        {"text": "Here"},
        INLINE_PIXEL,
    ]


@pytest.mark.parametrize(
    ("part", "media_type"),
    [
        (ImagePart(url="https://example.com/cat.PNG?size=2"), "image/png"),
        (ImagePart(url="https://example.com/cat.webp#top"), "image/webp"),
        (ImagePart(url="https://example.com/cat"), "image/jpeg"),
        (ImagePart(url="https://example.com/cat.php"), "image/jpeg"),
        (ImagePart(url="https://example.com/cat", media_type="image/png"), "image/png"),
        (DocumentPart(url="https://example.com/a.csv"), "text/csv"),
        (DocumentPart(url="https://arxiv.org/pdf/2407.01449"), "application/pdf"),
    ],
)
@pytest.mark.parametrize("name", [THREE, TWO])
def test_google_fetches_public_addresses_itself(name: str, part: ImagePart | DocumentPart, media_type: str) -> None:
    assert parts(user(part), name=name) == [{"fileData": {"mimeType": media_type, "fileUri": part.url}}]


@pytest.mark.parametrize(
    ("part", "name", "feature"),
    [
        (ImagePart(url="https://example.com/a.png"), "gemini-2.0-flash", "an image by address"),
        (DocumentPart(url="https://example.com/a.pdf"), "gemini-2.0-flash", "a document by address"),
        (ImagePart(url="http://example.com/a.png"), THREE, "an image by an address that is not https"),
        (ImagePart(url="file-123"), THREE, "an image by an address that is not https"),
        (ImagePart(url="data:image/png,AAAA"), THREE, "an image in a data URL that is not base64"),
        (ImagePart(media_type="image/gif", data="AAAA"), THREE, "an image of type image/gif"),
        (ImagePart(data="AAAA"), THREE, "an image of type unknown"),
        (DocumentPart(media_type="application/zip", data="AAAA"), THREE, "a document of type application/zip"),
    ],
)
def test_files_that_google_does_not_take_are_named(part: Part, name: str, feature: str) -> None:
    assert refused(user(part), name=name) == feature


# --- calls and their results --------------------------------------------------------------------------------------


def test_parallel_calls_and_their_results_stand_together_in_two_turns() -> None:
    assert contents(
        user("Weather and time?"),
        assistant("Let me look.", OSLO, ToolCallPart("c2", "clock", "")),
        user(ToolResultPart("c1", '{"sky": "grey"}')),
        user("Quick!", ToolResultPart("c2", "12:00")),
    )[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Let me look."},
                {
                    "functionCall": {"name": "weather", "args": {"city": "Oslo"}, "id": "c1"},
                    "thoughtSignature": NO_PROOF,
                },
                {"functionCall": {"name": "clock", "args": {}, "id": "c2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"sky": "grey"}, "id": "c1"}},
                {"functionResponse": {"name": "clock", "response": {"output": "12:00"}, "id": "c2"}},
                {"text": "Quick!"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResultPart("c1", "rain"), {"output": "rain"}),
        (ToolResultPart("c1", ""), {"output": ""}),
        (ToolResultPart("c1", "21"), {"output": "21"}),
        (ToolResultPart("c1", '"quoted"'), {"output": '"quoted"'}),
        (ToolResultPart("c1", ' {"a": [1, {"b": null}]} '), {"a": [1, {"b": None}]}),
        (ToolResultPart("c1", '[{"a": 1}]'), {"output": [{"a": 1}]}),
        (ToolResultPart("c1", '{"a": 1'), {"output": '{"a": 1'}),
        (ToolResultPart("c1", "[not json]"), {"output": "[not json]"}),
        (ToolResultPart("c1", "no such city", is_error=True), {"error": "no such city"}),
        (ToolResultPart("c1", '{"code": 7}', is_error=True), {"error": {"code": 7}}),
    ],
)
def test_a_response_is_an_object(result: ToolResultPart, response: dict[str, Any]) -> None:
    [part] = parts(user("?"), assistant(OSLO), user(result))
    assert part["functionResponse"]["response"] == response


def test_a_result_finds_the_name_of_its_function_by_the_call() -> None:
    again = ToolCallPart("c1", "clock", "{}")  # the same id, in a later turn
    turns = contents(
        user("?"),
        assistant(OSLO),
        user(ToolResultPart("c1", "rain")),
        assistant(again),
        user(ToolResultPart("c1", "12")),
    )
    assert [turn["parts"][0]["functionResponse"]["name"] for turn in turns[2::2]] == ["weather", "clock"]


def test_a_result_whose_caller_named_the_function_needs_no_call() -> None:
    [part] = parts(user(ToolResultPart("c9", "rain", name="weather")))
    assert part["functionResponse"]["name"] == "weather"


def test_a_result_without_its_call_is_named() -> None:
    assert refused(user(ToolResultPart("c9", "x"))) == "a tool result whose call “c9” is not in the conversation"


@pytest.mark.parametrize("arguments", ["[]", "3", "{", '{"a":}', "{}{}", "\udcff"])
def test_arguments_that_are_no_object_are_named(arguments: str) -> None:
    feature = refused(user("?"), assistant(ToolCallPart("c", "clock", arguments)))
    assert feature == "a call of tool clock whose arguments are not a JSON object"


def test_a_call_without_an_id_has_none() -> None:
    [turn] = contents(assistant(ToolCallPart("", "clock", " ")))
    assert turn["parts"][0]["functionCall"] == {"name": "clock", "args": {}}


def test_files_of_a_result_are_inside_the_response_from_gemini_3_on() -> None:
    by_address = ImagePart(url="https://example.com/a.png")
    heic = ImagePart(media_type="image/heic", data="AAAA")
    result = ToolResultPart("c1", "seen", media=(PIXEL, by_address, PAPER, heic))
    asked = (user("?"), assistant(OSLO), user("Well?", result))
    [response, *beside] = parts(*asked)
    assert response["functionResponse"]["parts"] == [INLINE_PIXEL, INLINE_PAPER]
    assert beside == [
        {"text": "Well?"},
        {"fileData": {"mimeType": "image/png", "fileUri": by_address.url}},
        {"inlineData": {"mimeType": "image/heic", "data": "AAAA"}},
    ]


def test_files_of_a_result_come_after_all_results_before_gemini_3() -> None:
    results = (ToolResultPart("c1", "seen", media=(PIXEL,)), ToolResultPart("c2", "12:00"))
    asked = (user("?"), assistant(OSLO, ToolCallPart("c2", "clock", "")), user(*results))
    [first, second, file] = parts(*asked, name=TWO)
    assert [part["functionResponse"]["name"] for part in (first, second)] == ["weather", "clock"]
    assert "parts" not in first["functionResponse"]
    assert file == INLINE_PIXEL


# --- proofs of thought --------------------------------------------------------------------------------------------


def model_turn(*said: Part, name: str = THREE) -> Any:
    return contents(user("?"), Message(assistant().role, said), user("!"), name=name)[1]["parts"]


def test_a_calls_proof_is_given_back_with_the_call() -> None:
    [first, second] = model_turn(ToolCallPart("a", "f", "{}", "pr00f=="), ToolCallPart("b", "g", "{}"))
    assert first["thoughtSignature"] == "pr00f=="
    assert "thoughtSignature" not in second


def test_each_step_needs_a_proof_of_its_own() -> None:
    turns = contents(
        user("?"), assistant(OSLO), user(ToolResultPart("c1", "x")), assistant(ToolCallPart("c2", "g", "{}"))
    )
    assert [turn["parts"][0]["thoughtSignature"] for turn in turns[1::2]] == [NO_PROOF, NO_PROOF]


def test_before_gemini_3_nobody_checks_proofs_but_they_are_given_back() -> None:
    assert "thoughtSignature" not in model_turn(OSLO, name=TWO)[0]
    assert model_turn(ToolCallPart("a", "f", "{}", "pr00f"), name=TWO)[0]["thoughtSignature"] == "pr00f"


def test_a_thought_goes_back_before_what_its_proof_came_with() -> None:
    thought = ReasoningPart("hm", signature="pr00f", vendor="gemini")
    assert model_turn(thought, TextPart("Yes")) == [
        {"text": "hm", "thought": True},
        {"text": "Yes", "thoughtSignature": "pr00f"},
    ]
    [shown, call] = model_turn(thought, OSLO)
    assert shown == {"text": "hm", "thought": True}
    assert call["thoughtSignature"] == "pr00f"


def test_a_proof_of_the_calls_own_is_not_replaced() -> None:
    thought = ReasoningPart("hm", signature="other", vendor="gemini")
    assert model_turn(thought, ToolCallPart("a", "f", "{}", "own"))[1]["thoughtSignature"] == "own"


def test_a_proof_that_nothing_follows_stands_with_an_empty_text() -> None:
    hidden = ReasoningPart(encrypted="pr00f", vendor="gemini")
    second = ReasoningPart(signature="2nd", vendor="gemini")
    alone = {"text": "", "thoughtSignature": "pr00f"}
    assert model_turn(TextPart("Yes"), hidden) == [{"text": "Yes"}, alone]
    assert model_turn(hidden, second, TextPart("Yes")) == [alone, {"text": "Yes", "thoughtSignature": "2nd"}]


@pytest.mark.parametrize(
    "thought",
    [
        ReasoningPart("hm", signature="EqQB", vendor="anthropic"),
        ReasoningPart(encrypted="gAAA", vendor="openai", id="rs_1"),
        ReasoningPart("hm", signature="x"),
        ReasoningPart("hm", vendor="gemini"),
    ],
)
def test_other_vendors_thoughts_and_unproved_ones_stay_behind(thought: ReasoningPart) -> None:
    assert model_turn(thought, TextPart("Yes")) == [{"text": "Yes"}]
